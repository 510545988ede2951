"""Models whose layers have different sizes: where units lie, how they are cut, how they are loaded."""
