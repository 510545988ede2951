"""From raw files to a folder of JSONL splits that `finetune` and `compress` read."""
