"""What a built engine consists of, as TensorRT's engine inspector tells it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt


def inspect_engine(library: ModuleType, engine: tensorrt.ICudaEngine) -> str:
    """The layers of `engine`, JSON; with their kinds and types where it was built with DETAILED verbosity."""
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(library.LayerInformationFormat.JSON))


def summarize_layers(information: str) -> dict[str, Any]:
    """How many layers of which kind, and what the layers write: the short form of `inspect_engine`.

    `layer_outputs` counts formats in TensorRT's own words ("Half", "Row major Int8 format"); where
    shapes are dynamic some versions say "N/A due to dynamic shapes", and that is counted as such.
    A layer that is only a name (an engine built without DETAILED) counts in `layers` alone.

    >>> row = {"Name": "a", "LayerType": "gemm", "Outputs": [{"Format/Datatype": "Half"}]}
    >>> summarize_layers(json.dumps({"Layers": [row, row, "softmax"]}))
    {'layers': 3, 'layer_types': {'gemm': 2}, 'layer_outputs': {'Half': 2}}
    """
    layers = json.loads(information).get("Layers", [])
    detailed = [layer for layer in layers if isinstance(layer, dict)]
    kinds = Counter(layer.get("LayerType", "unknown") for layer in detailed)
    written = Counter(_format(tensor) for layer in detailed for tensor in layer.get("Outputs", []))
    return {
        "layers": len(layers),
        "layer_types": dict(kinds.most_common()),
        "layer_outputs": dict(written.most_common()),
    }


def _format(tensor: dict[str, Any]) -> str:
    return str(tensor.get("Format/Datatype") or tensor.get("DataType") or "unknown")
