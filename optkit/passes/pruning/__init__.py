"""Structured pruning: where units lie, what they matter and cost, how they are cut and refitted."""
