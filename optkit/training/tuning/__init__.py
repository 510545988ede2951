"""Studies on Optuna: a space, a storage that many processes share, workers, and a page of results."""
