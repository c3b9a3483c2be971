"""What a run leaves behind: where it lies, how it is written and read. Loads neither MLflow nor Optuna."""
