"""What each of transformers' image processors does unless preprocessor_config.json says otherwise.

The steps are those of ViTImageProcessor; a family differs in its defaults and in the few steps named in
`STEPS`. Read from transformers 5.23, `image_processing_pil_*.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from optkit.core.reading import read_json
from optkit.errors import CheckpointError

FILE = "preprocessor_config.json"
#: Steps that change the pixels and are not done here.
_UNKNOWN_STEPS = (
    *("do_pad", "pad_size", "do_thumbnail", "do_align_long_axis", "do_reduce_labels", "use_square_size"),
    *("do_flip_channel_order", "crop_pct", "include_top", "rescale_offset", "keep_aspect_ratio"),
)
#: ViTImageProcessor's own defaults.
_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": 224,
    "resample": 2,
    "do_center_crop": False,
    "crop_size": 224,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5],
    "image_std": [0.5],
}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
#: A number for `size` is the shorter edge's.
_SHORTEST = {"size": {"shortest_edge": 224}, "do_center_crop": True, "default_to_square": False}
#: Both edges are bounded, so that each image has a size of its own; a batch is padded, one image is not.
_EDGES = {"size": {"shortest_edge": 800, "longest_edge": 1333}, **_IMAGENET, "default_to_square": False}
_FAMILIES: dict[str, dict[str, Any]] = {
    "ViT": {},
    "Beit": {"resample": 3},
    "Bit": {"resample": 3, **_SHORTEST, **_OPENAI, "do_convert_rgb": True},
    "Blip": {"resample": 3, "size": 384, **_OPENAI, "do_convert_rgb": True},
    "CLIP": {"resample": 3, **_SHORTEST, **_OPENAI, "do_convert_rgb": True},
    "ChineseCLIP": {"resample": 3, **_SHORTEST, **_OPENAI, "do_convert_rgb": True},
    "ConvNext": {
        **{"resample": 3, "size": {"shortest_edge": 384}, "default_to_square": False},
        "crop_pct": 224 / 256,
    },
    "ConditionalDetr": _EDGES,
    "DeformableDetr": _EDGES,
    "DeiT": {"resample": 3, "size": 256, "do_center_crop": True},
    "Detr": _EDGES,
    "DPT": {"resample": 3, "size": 384},
    "EfficientNet": {
        **{"resample": 3, "size": 346, "crop_size": 289},
        **{"rescale_offset": False, "include_top": True},
    },
    "Levit": {"resample": 3, **_SHORTEST, **_IMAGENET},
    "Mask2Former": {**_EDGES, "size_divisor": 32},
    "MaskFormer": {**_EDGES, "size_divisor": 32},
    "MobileNetV1": {**_SHORTEST, "size": {"shortest_edge": 256}},
    "MobileNetV2": {**_SHORTEST, "size": {"shortest_edge": 256}},
    "MobileViT": {"resample": 3, **_SHORTEST, "crop_size": 256, "do_flip_channel_order": True},
    "Pvt": {"resample": 3, **_IMAGENET},
    "RTDetr": {"size": {"height": 640, "width": 640}, **_IMAGENET, "do_normalize": False},
    "Segformer": {"size": 512, **_IMAGENET},
    "Siglip": {
        **{"resample": 3, "default_to_square": False, "size": {"height": 224, "width": 224}},
        "do_convert_rgb": True,
    },
    "Yolos": _EDGES,
}
#: Families whose models may be for semantic segmentation; their labels may begin at 1, with 0 for no class.
SEGMENTERS = ("Beit", "DPT", "Mask2Former", "MaskFormer", "MobileNetV2", "MobileViT", "Segformer")
#: Families for object detection.
DETECTORS = ("ConditionalDetr", "DeformableDetr", "Detr", "RTDetr", "Yolos")
#: Families that may bound both edges, so that each image has a size of its own.
BOUNDING = (*DETECTORS, "Mask2Former", "MaskFormer")
#: Family → what it does beyond those steps.
STEPS = {
    "ConvNext": ("crop_pct",),
    "EfficientNet": ("rescale_offset", "include_top"),
    **dict.fromkeys(SEGMENTERS, ("do_reduce_labels",)),
    "MobileViT": ("do_flip_channel_order", "do_reduce_labels"),
    **dict.fromkeys(DETECTORS, ("do_pad",)),
    **dict.fromkeys(("Mask2Former", "MaskFormer"), ("do_pad", "do_reduce_labels")),
}
#: model_type → family, where preprocessor_config.json names no class; as transformers' own table.
_BY_MODEL = {
    **dict.fromkeys(("vit", "vit_msn", "vit_mae", "swin", "swinv2", "dinat", "ijepa", "swiftformer"), "ViT"),
    **dict.fromkeys(("convnext", "convnextv2", "cvt", "regnet", "resnet"), "ConvNext"),
    **dict.fromkeys(("bit", "dinov2", "dinov2_with_registers", "focalnet", "hiera"), "Bit"),
    **dict.fromkeys(("beit", "data2vec-vision"), "Beit"),
    **dict.fromkeys(("mobilevit", "mobilevitv2"), "MobileViT"),
    **dict.fromkeys(("pvt", "pvt_v2"), "Pvt"),
    **{"clip": "CLIP", "chinese_clip": "ChineseCLIP", "deit": "DeiT", "efficientnet": "EfficientNet"},
    **{"levit": "Levit", "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2"},
    **{"dpt": "DPT", "upernet": "Segformer", "segformer": "Segformer", "siglip": "Siglip", "blip": "Blip"},
    **{"detr": "Detr", "conditional_detr": "ConditionalDetr", "deformable_detr": "DeformableDetr"},
    **{"mask2former": "Mask2Former", "maskformer": "MaskFormer"},
    **{"yolos": "Yolos", **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine"), "RTDetr")},
}


def settings_of(file: Path, model_type: str | None) -> dict[str, Any]:
    """What the processor in `file` does, defaults filled in; `family` says whose steps they are.

    Raises CheckpointError for a family or a step that is not known here.
    """
    stated = {name: value for name, value in read_json(file, CheckpointError).items() if value is not None}
    family = _family(stated, file, model_type)
    for name in _UNKNOWN_STEPS:
        if stated.get(name) and name not in STEPS.get(family, ()):
            raise CheckpointError(
                f"Expected steps that {family}ImageProcessor has, received {name} in {str(file)!r}, which "
                "optkit does not do.",
                hint="Take a checkpoint without it: its pixel values would be wrong here.",
            )
    settings = {**_DEFAULTS, **_FAMILIES[family], **stated, "family": family}
    for name in ("size", "crop_size"):
        if isinstance(settings[name], dict):
            settings[name] = {key: value for key, value in settings[name].items() if value is not None}
    if isinstance(settings["size"], int) and not settings.get("default_to_square", True):
        longest = {"longest_edge": settings.get("max_size", 1333)} if family in BOUNDING else {}
        settings["size"] = {"shortest_edge": settings["size"], **longest}  # older files hold a number
    multiple, size = settings.get("ensure_multiple_of") or 1, settings["size"]
    if multiple > 1 and any(x % multiple for x in (size.values() if isinstance(size, dict) else (size,))):
        raise CheckpointError(
            f"Expected a size of whole multiples of ensure_multiple_of, {multiple}, in {str(file)!r}, "
            f"received {size}, which would be rounded.",
            hint="Write the size that the images then have.",
        )
    if family == "MobileViT":  # whose processor never does
        settings["do_normalize"] = False
    return settings


def _family(stated: dict[str, Any], file: Path, model_type: str | None) -> str:
    key = "image_processor_type" if stated.get("image_processor_type") else "feature_extractor_type"
    if stated.get(key):
        family = re.sub("(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(stated[key]))
    else:
        family = _BY_MODEL.get(model_type or "vit", "")
        key = "image_processor_type"
    if family not in _FAMILIES:
        received = repr(stated[key]) if stated.get(key) else f"none for a {model_type}"
        raise CheckpointError(
            f"Expected {key} of {', '.join(_FAMILIES)} in {str(file)!r}, received {received}.",
            hint="Take a checkpoint with one of these: what others do to an image, optkit does not do.",
        )
    return family
