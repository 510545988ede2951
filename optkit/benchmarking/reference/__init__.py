"""The baseline as its user runs it: transformers from the input to the answer.

Nothing here reads, pads or decides by code of ours: `AutoTokenizer` or `AutoImageProcessor`, the Auto class,
the tokenizer's own padding, and answers by the rules that the libraries document. What our own encoder,
session and tasks give is compared with it before anything is compressed.
"""
