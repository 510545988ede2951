"""The passes, one file each. `base.py` says what a pass is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optkit.core.registry import Registry

if TYPE_CHECKING:
    from optkit.passes.base import Pass

PASSES: Registry[type[Pass]] = Registry(
    "pass",
    "optkit.passes",
    {
        "cast-bf16": "optkit.passes.cast:CastBf16",
        "cast-fp16": "optkit.passes.cast:CastFp16",
        "distill": "optkit.passes.distill:Distill",
        "export-onnx": "optkit.passes.export_onnx:ExportOnnx",
        "open-vino": "optkit.passes.open_vino:OpenVino",
        "open-vino-int8": "optkit.passes.open_vino_int8:OpenVinoInt8",
        "open-vino-stateful": "optkit.passes.open_vino_stateful:OpenVinoStateful",
        "prune": "optkit.passes.prune:Prune",
        "prune-vocabulary": "optkit.passes.prune_vocabulary:PruneVocabulary",
        "prune-width": "optkit.passes.prune_width:PruneWidth",
        "quantize-dynamic": "optkit.passes.quantize_dynamic:QuantizeDynamic",
        "quantize-static": "optkit.passes.quantize_static:QuantizeStatic",
        "quantize-tensorrt": "optkit.passes.quantize_tensorrt:QuantizeTensorRT",
        "quantize-weights": "optkit.passes.quantize_weights:QuantizeWeights",
        "serve-onnx-runtime": "optkit.passes.serve_onnx_runtime:ServeOnnxRuntime",
        "serve-torch": "optkit.passes.serve_torch:ServeTorch",
        "take-layers": "optkit.passes.take_layers:TakeLayers",
        "tensorrt": "optkit.passes.tensorrt:TensorRT",
    },
)
