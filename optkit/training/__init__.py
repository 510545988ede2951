"""Training, on transformers' own Trainer."""
