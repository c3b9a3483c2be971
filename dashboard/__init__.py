"""Pages over the store: what ran, with what, how well. They never import torch, Lightning or MLflow."""
