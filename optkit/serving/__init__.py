"""Serving: nothing in here imports torch."""
