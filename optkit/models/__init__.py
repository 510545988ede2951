"""A checkpoint: which task it is for, how it reads texts and images, its limits, how it is loaded."""
