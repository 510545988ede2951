"""Structured pruning: where units lie, what they matter and cost, how they are cut and refitted."""

#: Key in config.json: {"heads": units per layer, "ffn": neurons per layer}; where the hidden dimension was
#: cut also "hidden", and the "readers" of the hidden state after the encoder.
CONFIG_KEY = "optkit_pruned"
