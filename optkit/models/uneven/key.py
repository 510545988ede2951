"""Where config.json says how a model was pruned."""

#: Key in config.json: {"heads": units per layer, "ffn": neurons per layer}; where the hidden dimension was
#: cut also "hidden", and the "readers" of the hidden state after the encoder.
CONFIG_KEY = "optkit_pruned"
