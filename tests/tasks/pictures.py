"""Drawn shapes with exact boxes and masks, and small models for them: random weights, sizes for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from optkit.models.architectures import ONE_SIZE


def drawn_shapes(count: int, side: int = 32, seed: int = 0, varied: bool = False) -> list[dict]:
    """Images of one to three squares and discs on noise, with their exact boxes and masks.

    Each row: `pixels` (height, width, 3), `bbox` (x, y, width, height), `category`, `mask` of 0 (ground),
    1 (disc), 2 (square). With `varied` their sizes differ.
    """
    random, rows = np.random.default_rng(seed), []
    for _ in range(count):
        height, width = random.integers(side, side * 2, 2) if varied else (side, side)
        y, x = np.mgrid[:height, :width]
        pixels = random.integers(108, 148, (height, width, 3), dtype=np.uint8)
        mask, boxes, kinds = np.zeros((height, width), dtype=np.uint8), [], []
        for place in range(random.integers(1, 3)):
            size = int(random.integers(side // 4, side // 2))
            left, top = (int(random.integers(0, most - size)) for most in (width, height))
            kind = int(random.integers(0, 2))
            inside = (x >= left) & (x < left + size) & (y >= top) & (y < top + size)
            if kind == 0:
                inside &= (x + 0.5 - left - size / 2) ** 2 + (y + 0.5 - top - size / 2) ** 2 <= (
                    size / 2
                ) ** 2
            if place and (mask[inside] > 0).any():
                continue
            pixels[inside], mask[inside] = ((255, 40, 40), (40, 40, 255))[kind], kind + 1
            boxes.append([left, top, size, size])
            kinds.append(("disc", "square")[kind])
        rows.append({"pixels": pixels, "bbox": boxes, "category": kinds, "mask": mask})
    return rows


def shapes_data(folder: Path, counts: dict[str, int], varied: bool = False, side: int = 32) -> Path:
    """Drawn shapes as folders of images with a metadata.jsonl of their objects."""
    from PIL import Image

    for seed, (split, count) in enumerate(counts.items()):
        (folder / split).mkdir(parents=True)
        lines = []
        for i, row in enumerate(drawn_shapes(count, side, seed, varied)):
            Image.fromarray(row["pixels"]).save(folder / split / f"{i}.png")
            objects = {"bbox": row["bbox"], "categories": row["category"]}
            lines.append(json.dumps({"file_name": f"{i}.png", "objects": objects}) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines))
    return folder


#: Sizes of a DETR of two layers, for all of its kind.
_DETR = {
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 9},
    **{"use_timm_backbone": False, "use_pretrained_backbone": False},
}
_RT_DETR = {
    **{"encoder_hidden_dim": 32, "d_model": 32, "encoder_ffn_dim": 32, "encoder_attention_heads": 2},
    **{"decoder_in_channels": [32] * 3, "decoder_ffn_dim": 32, "decoder_attention_heads": 2},
    **{"decoder_layers": 2, "encoder_layers": 1, "num_queries": 9, "num_denoising": 4},
}


def detector(folder: Path, kind: str = "yolos", labels: tuple[str, ...] = ("disc", "square")) -> Path:
    """A detector of two layers, its `kind` as transformers' model_type, and the processor of its kind."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    stages = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "layer_type": "basic"}
    last3 = ["stage2", "stage3", "stage4"]
    if kind == "yolos":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        config = t.YolosConfig(**sizes, image_size=[64, 96], patch_size=16, num_detection_tokens=9, **names)
    elif kind in ("rt_detr", "rt_detr_v2"):
        backbone = t.RTDetrResNetConfig(**stages, out_features=last3)
        config = t.AutoConfig.for_model(
            kind, backbone_config=backbone, encoder_in_channels=[8, 16, 16], **_RT_DETR, **names
        )
    elif kind == "d_fine":
        widths = {"stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 32], "embedding_size": 8}
        widths |= {"stage_mid_channels": [8] * 4, "stage_out_channels": [16, 16, 32, 32], "depths": [1] * 4}
        widths |= {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4}
        backbone = t.HGNetV2Config(**widths, hidden_sizes=[16, 16, 32, 32], out_features=last3)
        config = t.DFineConfig(
            backbone_config=backbone, encoder_in_channels=[16, 32, 32], **_RT_DETR, **names
        )
    else:
        features = last3 if kind == "deformable_detr" else ["stage4"]
        backbone = t.ResNetConfig(**stages, out_features=features)
        levels = {"num_feature_levels": 3} if kind == "deformable_detr" else {}
        config = t.AutoConfig.for_model(kind, backbone_config=backbone, **levels, **_DETR, **names)
    model = t.AutoModelForObjectDetection.from_config(config).eval()
    model.save_pretrained(str(folder))
    family = {"yolos": "Yolos", "detr": "Detr", "table-transformer": "Detr"}
    family |= dict.fromkeys(("conditional_detr", "dab-detr"), "ConditionalDetr")
    family = family.get(kind, "DeformableDetr" if kind == "deformable_detr" else "RTDetr")
    size = {"height": 64, "width": 64} if kind in ONE_SIZE else {"shortest_edge": 64, "longest_edge": 96}
    settings = {"image_processor_type": f"{family}ImageProcessor", "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def masks_data(folder: Path, counts: dict[str, int], varied: bool = False, side: int = 32) -> Path:
    """Drawn shapes as images/SPLIT and masks/SPLIT, with the names of the classes in labels.json."""
    from PIL import Image

    for seed, (split, count) in enumerate(counts.items()):
        for part in ("images", "masks"):
            (folder / part / split).mkdir(parents=True)
        for i, row in enumerate(drawn_shapes(count, side, seed, varied)):
            Image.fromarray(row["pixels"]).save(folder / "images" / split / f"{i}.png")
            Image.fromarray(row["mask"]).save(folder / "masks" / split / f"{i}.png")
    (folder / "labels.json").write_text(json.dumps({"mask": ["ground", "disc", "square"]}))
    return folder


def segmenter(
    folder: Path, kind: str = "segformer", labels: tuple[str, ...] = ("ground", "disc", "square")
) -> Path:
    """A model of semantic segmentation of a few layers, its `kind` as transformers' model_type."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    four = {"hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    vit = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    vit |= {"image_size": 32, "patch_size": 8}
    if kind == "segformer":
        config = t.SegformerConfig(depths=[1] * 4, **four, decoder_hidden_size=16, **names)
    elif kind == "upernet":
        backbone = t.ConvNextConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1] * 4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        config = t.UperNetConfig(
            backbone_config=backbone, hidden_size=16, auxiliary_in_channels=16, auxiliary_channels=8, **names
        )
    elif kind == "dpt":
        sizes = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16, "is_hybrid": False}
        config = t.DPTConfig(
            **vit, **sizes, backbone_out_indices=[0, 1, 2, 3], auxiliary_loss_weight=0.0, **names
        )
    elif kind in ("beit", "data2vec-vision"):
        config = t.AutoConfig.for_model(
            kind,
            **vit,
            out_indices=[1, 2, 3, 4],
            use_auxiliary_head=False,
            use_relative_position_bias=True,
            **names,
        )
    elif kind in ("maskformer", "mask2former"):
        swin = t.SwinConfig(
            **{"image_size": 64, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2]},
            **{"window_size": 4, "patch_size": 4, "out_features": [f"stage{i}" for i in range(1, 5)]},
        )
        sizes = {"mask_feature_size": 32, "feature_size": 32, "fpn_feature_size": 32, "hidden_dim": 32}
        sizes |= {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 5}
        sizes |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16}
        if kind == "maskformer":
            layers = {n: v for n, v in _DETR.items() if "backbone" not in n}
            layers |= {"d_model": 32, "num_queries": 5}
            sizes = {
                "mask_feature_size": 32,
                "fpn_feature_size": 32,
                "decoder_config": t.DetrConfig(**layers),
            }
        config = t.AutoConfig.for_model(kind, backbone_config=swin, **sizes, **names)
    elif kind == "mobilenet_v2":
        config = t.MobileNetV2Config(image_size=32, depth_multiplier=0.25, **names)
    elif kind == "mobilevitv2":
        config = t.MobileViTV2Config(image_size=64, width_multiplier=0.25, aspp_out_channels=16, **names)
    else:
        config = t.MobileViTConfig(
            image_size=32,
            hidden_sizes=[16, 16, 16],
            neck_hidden_sizes=[8, 8, 8, 8, 16, 16, 32],
            aspp_out_channels=16,
            num_attention_heads=2,
            **names,
        )
    of_queries = kind in ("maskformer", "mask2former")
    auto = t.AutoModelForUniversalSegmentation if of_queries else t.AutoModelForSemanticSegmentation
    auto.from_config(config).eval().save_pretrained(str(folder))
    families = {"maskformer": "MaskFormer", "mask2former": "Mask2Former"}
    families |= {"dpt": "DPT", "beit": "Beit", "data2vec-vision": "Beit", "mobilenet_v2": "MobileNetV2"}
    family = families.get(kind, "MobileViT" if kind.startswith("mobilevit") else "Segformer")
    side = 64 if of_queries or kind == "mobilevitv2" else 32
    settings = {"image_processor_type": f"{family}ImageProcessor", "size": {"height": side, "width": side}}
    if family.startswith("Mobile"):
        settings |= {"crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
