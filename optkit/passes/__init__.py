"""The passes, one file each. `base.py` says what a pass is."""
