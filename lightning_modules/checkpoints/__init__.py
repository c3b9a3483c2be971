"""GPT2_ML's TensorFlow checkpoints, read without TensorFlow, become Hugging Face folders. Imports nothing itself."""
