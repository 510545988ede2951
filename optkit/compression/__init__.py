"""Compress, recipes, searches: chains of passes, judged by the harness; the best that passes is chosen."""
