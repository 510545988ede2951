from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from optkit.data import provoking
from optkit.errors import CheckpointError, DataError
from optkit.models.pixels import PixelEncoder


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth coloured picture with some noise."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 4, height))
    base = np.stack([np.sin(x), np.cos(y), np.sin(x * y)], axis=-1) * 100 + 128
    return Image.fromarray(np.clip(base + rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8))


@pytest.fixture
def encoder(tmp_path):
    """encoder(model settings, preprocessor settings)"""

    def make(config, settings):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        return PixelEncoder(tmp_path)

    return make


SETTINGS = [
    {},
    {
        "size": {"height": 48, "width": 32},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    {
        "size": {"shortest_edge": 40},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
    },
    {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": {"height": 30, "width": 30}},
    {"size": {"height": 32, "width": 32}, "do_normalize": False},
    {"size": {"height": 32, "width": 32}, "do_rescale": False, "resample": 0},
    {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s)) or "defaults")
@pytest.mark.parametrize("size", [(64, 64), (50, 91), (33, 20)])
def test_pixels_equal_transformers(settings, size, encoder, tmp_path):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    image = photo(*size)
    expected = ViTImageProcessorPil(**settings)(image, return_tensors="np")["pixel_values"][0]
    found = encoder({"image_size": list(expected.shape[1:]), "num_channels": 3}, settings).encode([image])
    assert found.arrays["pixel_values"][0].dtype == np.float32
    np.testing.assert_allclose(found.arrays["pixel_values"][0], expected, atol=1e-3)


FAMILIES = (
    "ViT Beit Bit Blip CLIP ChineseCLIP DeiT MobileNetV1 MobileNetV2 Pvt Segformer Siglip".split()  # noqa: SIM905
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"size": 48, "crop_size": 32}], ids=["silent", "old"])
def test_other_processors_like_vit_equal_transformers(family, settings, encoder):
    """What the file does not say is the processor's own default, and so is what a number for size means."""
    import transformers

    image = photo(97, 61)
    processor = getattr(transformers, f"{family}ImageProcessorPil")(**settings)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    for name in (
        {"image_processor_type": f"{family}ImageProcessorFast"},
        {"feature_extractor_type": f"{family}FeatureExtractor"},
    ):
        found = encoder({"image_size": list(expected.shape[1:])}, {**settings, **name}).encode([image])
        np.testing.assert_allclose(found.arrays["pixel_values"][0], expected, atol=1e-3)


def test_grey_images_equal_transformers(encoder):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    settings = {"size": {"height": 16, "width": 16}, "image_mean": [0.5], "image_std": [0.5]}
    image = photo(30, 30).convert("L")
    expected = ViTImageProcessorPil(**settings)(image, return_tensors="np")["pixel_values"][0]
    found = encoder({"image_size": 16, "num_channels": 1}, settings).encode([image])
    np.testing.assert_allclose(found.arrays["pixel_values"][0], expected, atol=1e-3)


def provoking_files():
    """Every kind of file, and all eight orientations in the formats that have them."""
    found = provoking.images()
    image = photo(61, 47)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for turn in range(1, 9):
            stream, exif = io.BytesIO(), Image.Exif()
            exif[0x0112] = turn
            image.save(stream, kind, exif=exif)
            found.append((f"{kind} turned {turn}", stream.getvalue()))
    for kind, frames in (("WEBP", 2), ("PNG", 2), ("TIFF", 2)):
        stream = io.BytesIO()
        image.save(stream, kind, save_all=True, append_images=[photo(61, 47, 1)] * (frames - 1))
        found.append((f"{kind} of two frames", stream.getvalue()))
    return found


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_more_than_8_bits_are_refused_rather_than_made_white(kind, encoder):
    stream = io.BytesIO()
    Image.fromarray((np.ones((9, 9)) * 700).astype(kind)).save(stream, "TIFF")
    with pytest.raises(DataError, match="8 bits a channel at position 0, received one of mode [IF]"):
        encoder({"image_size": 32}, {}).encode([stream.getvalue()])


@pytest.mark.parametrize("kind", ["EPS", "ICO"])
def test_formats_that_run_programs_or_are_no_pictures_are_not_decoded(kind, encoder):
    stream = io.BytesIO()
    photo(64, 48).save(stream, kind)
    with pytest.raises(DataError, match="none of JPEG, PNG, BMP"):
        encoder({"image_size": 32}, {}).encode([stream.getvalue()])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("family", ["ViT", "CLIP", "ConvNext"])
def test_every_kind_of_file_is_opened_as_transformers_opens_it(family, channels, encoder, tmp_path):
    """Orientation, palettes, transparency, CMYK, the first of several frames."""
    import transformers
    from PIL import ImageOps
    from transformers.image_utils import load_image

    grey = {"image_mean": [0.5], "image_std": [0.5], "do_convert_rgb": False} if channels == 1 else {}
    processor = getattr(transformers, f"{family}ImageProcessorPil")(**grey)
    side = processor(photo(9, 9).convert("RGB" if channels == 3 else "L"), return_tensors="np")[
        "pixel_values"
    ]
    ours = encoder({"image_size": list(side.shape[2:]), "num_channels": channels}, processor.to_dict())
    for name, raw in provoking_files():
        (tmp_path / "x").write_bytes(raw)
        opened = ImageOps.exif_transpose(Image.open(tmp_path / "x")).convert("L")
        image = load_image(str(tmp_path / "x")) if channels == 3 else opened
        expected = processor(image, return_tensors="np")["pixel_values"][0]
        found = ours.encode([str(tmp_path / "x")]).arrays["pixel_values"][0]
        np.testing.assert_allclose(found, expected, atol=1e-3, err_msg=name)


def test_every_way_to_give_an_image_gives_the_same_pixels(encoder, tmp_path):
    make = encoder({"image_size": 32, "num_channels": 3}, {"size": 32})
    image = photo(64, 48)
    image.save(tmp_path / "x.png")
    raw = (tmp_path / "x.png").read_bytes()
    ways = [
        image,
        str(tmp_path / "x.png"),
        tmp_path / "x.png",
        raw,
        np.asarray(image),
        {"bytes": raw, "path": None},
    ]
    first, *others = make.encode(ways).arrays["pixel_values"]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_transparent_and_grey_images_become_what_the_model_takes(encoder):
    make = encoder({"image_size": 32, "num_channels": 3}, {"size": 32})
    encoded = make.encode([photo(64, 48).convert("RGBA"), photo(64, 48).convert("L")])
    assert [a.shape for a in encoded.arrays["pixel_values"]] == [(3, 32, 32)] * 2


def test_a_size_that_is_not_the_models(encoder):
    with pytest.raises(
        DataError, match=r"Expected an image of 32 x 32 pixels at position 0.*received 48 x 64"
    ):
        encoder({"image_size": 32}, {"do_resize": False}).encode([photo(64, 48)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_pad": True}, "do_pad"),
        ({"image_processor_type": "ViTFeatureExtractor", "crop_pct": 0.875}, "received crop_pct"),
        ({"include_top": True}, "received include_top"),
        ({"rescale_offset": True}, "received rescale_offset"),
        ({"image_processor_type": "GLPNImageProcessor"}, "image_processor_type of ViT, .*'GLPNImage"),
        ({"feature_extractor_type": "GLPNFeatureExtractor"}, "feature_extractor_type of ViT, .*'GLPNF"),
        ({"size": {"longest_edge": 3}}, "height and width"),
        ({"size": {"shortest_edge": 3, "longest_edge": 3}}, "longest edge"),
        ({"size": 32, "image_mean": [0.5, 0.5]}, "image_mean for 3 channels"),
    ],
)
def test_settings_that_are_not_done_are_refused(settings, message, encoder):
    with pytest.raises(CheckpointError, match=message):
        encoder({"image_size": 32}, settings).encode([photo(64, 48)])


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="preprocessor_config"):
        PixelEncoder(tmp_path)


def test_an_array_of_floats_is_refused(encoder):
    with pytest.raises(DataError, match="array of bytes"):
        encoder({"image_size": 32}, {"size": 32}).encode([np.zeros((32, 32, 3), dtype=np.float32)])


def test_an_image_that_would_fill_the_memory_is_refused(encoder):
    """Under a kilobyte of PNG: 3 billion pixels once its shorter edge is 224."""
    thin = io.BytesIO()
    Image.new("1", (1, 65_000)).save(thin, "PNG")
    model = encoder({"image_size": 224, "num_channels": 3}, {"size": {"shortest_edge": 224}})
    with pytest.raises(DataError, match="at most 50,000,000 pixels at position 0.*received 224 x 14560000"):
        model.encode([thin.getvalue()])
    bomb = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(bomb, "PNG")
    with pytest.raises(DataError, match="received 10000 x 6000"):
        model.encode([bomb.getvalue()])


@pytest.mark.parametrize("place", [12, 36, 60])
def test_a_damaged_image_is_named(place, encoder, tmp_path):
    """A wrong length in the file makes Pillow raise SyntaxError."""
    file = tmp_path / "x.png"
    photo(40, 40).save(file)
    raw = bytearray(file.read_bytes())
    raw[place] ^= 0xFF
    file.write_bytes(raw)
    with pytest.raises(DataError, match=r"Cannot read an image from '.*x.png' at position 0"):
        encoder({"image_size": 32}, {"size": 32}).encode([file])
