"""The HTTP server: one idea per file, put together in `app`.

A request: `connection` → `gate` (key, limits, 429) → `predict`, `infer` or `embeddings` (the protocols, as
`routes`) → `served` (the current version of a model) → `queue` → `batcher` → the predictor, and back.
"""
