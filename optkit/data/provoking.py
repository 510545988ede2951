"""Inputs on which two readers of texts or images differ if they differ at all; written for this, ours.

Case, accents, composed and decomposed letters, scripts with and without spaces, signs that some normalizers
drop and others expand, nothing at all, and texts longer than any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

#: Inputs that show a graph all it must stand where no data was given; never for calibration or training.
SAMPLES = (
    "A short text.",
    "A text that is a little longer, with a number: 42.",
    "Yes",
    "d\u00e9j\u00e0 vu, \u4f60\u597d " * 8,
)
TEXTS: tuple[str, ...] = (
    "A fine film.",
    "A FINE Film, Really!",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u0130stanbul stra\u00dfe STRASSE \u01c5",
    "cafe\u0301 nai\u0308ve in Ma\u0301laga today",
    "\ufb01ne \ufb02ow \u2167 \u00bd \u00b2 \u2122 \u212b \uff21\uff22\uff23 \u3231",
    (
        "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 "
        "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab"
    ),
    (
        "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 "
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u200f\u202babc\u202c"
    ),
    (
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 "
        "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 "
        "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac\u03c2"
    ),
    (
        "\U0001f469\u200d\U0001f4bb \U0001f468\u200d\U0001f469\u200d\U0001f467 "
        "\U0001f44d\U0001f3fd \u2764\ufe0f \U0001f1eb\U0001f1f7"
    ),
    "zero\u200bwidth no\u00a0break soft\u00adhyphen \ufeffmark \u2060joiner \u3000wide",
    "\u200bbegins \u00a0begins",
    "\u0301lone \u0327 mark\u0301\u0302\u0303",
    "tab\tline\nreturn\r\nnull\x00 bell\x07 esc\x1b del\x7f nel\x85 sep\u2028 par\u2029 \ufffd",
    "  two  spaces   and   a trailing one ",
    " leading",
    "``quoted'' \"plain\" \u201ccurly\u201d it's don't n't ... \u2026 -- \u2014 a/b c_d #tag @name",
    "1,234.56 12:30 3.14e-10 0x1F \u0661\u0662\u0663 100% $5",
    "https://example.org/a?b=c&d=%20#e user@example.org",
    "<s> </s> [CLS] [SEP] [MASK] <unk> <pad> <|endoftext|> <mask>",
    "antidisestablishmentarianism" * 8,
    "\U00020000\U0001d400\U0001d504 \ue000",
    "x",
    "",
    " ",
    "\n\t \u00a0\u200b",
)
#: Longer than any model that is in use is trained for, in several scripts, so that all must truncate.
LONG = " ".join(["the plot is thin", "caf\u00e9", "\u4f60\u597d", "WORD", "42."] * 260)
PAIRS: tuple[tuple[str, str], ...] = (
    *pairwise(TEXTS[:-2]),
    ("a question", ""),
    ("", "an answer"),
    ("", ""),
    (LONG, "short"),
    ("short", LONG),
    (LONG, LONG),
)
#: Lists of words as a tagger is given them; some of the words vanish in some tokenizers.
WORDS: tuple[list[str], ...] = (
    ["A", "fine", "film", "."],
    ["\u200bAnna", "lives", "in", "\u00a0Berlin", "\u00adnow", "Ma\u0301laga"],
    ["\u200b", "\u00a0", "\u0301", "x", "\x07", "\ufb01ne", "\u0130stanbul"],
    ["don't", "New York", "\U0001f469\u200d\U0001f4bb", "\u4f60\u597d", "\u2764\ufe0f"],
    ["", "empty", ""],
    ["antidisestablishmentarianism"] * 400,
)
#: Asked of built-in texts.
QUESTIONS = ("Who is it about?", "What happened?", "When was it?", "Where is it?", "How many are there?")


def questions_of_two(texts: Sequence[str]) -> list[tuple[str, list[str]]]:
    """A question for each of `texts`, with it and the next one, which may answer it."""
    others = [*texts[1:], *texts[:1]]
    return [(QUESTIONS[i % len(QUESTIONS)], list(two)) for i, two in enumerate(zip(texts, others))]


def sounds() -> list[tuple[str, bytes]]:
    """(what it is, a file's bytes): every format, many rates, two channels, silence, a click, very short and
    longer than any window of features."""
    import io

    import numpy as np
    import soundfile

    from optkit.data.audio import clip

    def stored(values: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
        stream = io.BytesIO()
        soundfile.write(stream, values, rate, format=kind, subtype=subtype)
        return stream.getvalue()

    files = [
        (f"{rate} Hz", stored(clip(rate, rate, 0.7), rate)) for rate in (4000, 8000, 22050, 44100, 96000)
    ]
    both = np.stack([clip(1, 16000, 1.1), clip(2, 16000, 1.1)], axis=1)
    files += [(f"stereo {kind}", stored(both, 16000, kind)) for kind in ("WAV", "FLAC", "OGG", "MP3")]
    files += [
        (f"WAV of {kind}", stored(both[:, 0], 16000, "WAV", kind))
        for kind in ("PCM_U8", "PCM_24", "FLOAT", "ULAW")
    ]
    click = np.zeros(9000, dtype=np.float32)
    files.append(("silence", stored(click, 16000)))
    click[4000] = 0.9
    files.append(("a click", stored(click, 16000)))
    for seconds in (0.03, 0.4, 11.3, 31.0):
        files.append((f"{seconds} seconds", stored(clip(7, 16000, seconds), 16000, "FLAC")))
    return files


def images() -> list[tuple[str, bytes]]:
    """(what it is, a file's bytes): odd sizes, every mode that a file can hold, turned and animated ones."""
    import io

    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)

    def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
        """Smooth, with some noise: pure noise would hide what resampling does, as would a plain colour."""
        x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 4, height))
        waves = [np.sin(x + i) + np.cos(y * (i + 1)) for i in range(channels)]
        values = np.stack(waves, axis=-1) * 60 + 128 + random.normal(0, 8, (height, width, channels))
        return np.clip(values, 0, 255).astype(np.uint8)

    def stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    rgb = Image.fromarray(noise(61, 47))
    sizes = [(1, 1), (3, 500), (500, 3), (33, 20), (224, 224), (640, 479)]
    files = [(f"RGB {w}x{h}", stored(Image.fromarray(noise(w, h)))) for w, h in sizes]
    files += [(mode, stored(rgb.convert(mode))) for mode in ("L", "LA", "P", "1")]
    files.append(("RGBA", stored(Image.fromarray(noise(61, 47, 4), "RGBA"))))
    files.append(("CMYK", stored(rgb.convert("CMYK"), "JPEG", quality=95)))
    turned = Image.Exif()
    turned[0x0112] = 6
    files.append(("EXIF orientation", stored(rgb, "JPEG", quality=95, exif=turned)))
    clear = rgb.convert("P")
    files.append(("P with a transparent colour", stored(clear, "PNG", transparency=7)))
    files.append(("GIF with a transparent colour", stored(clear, "GIF", transparency=7)))
    files.append(("L with a transparent colour", stored(rgb.convert("L"), "PNG", transparency=100)))
    files.append(("RGB with a transparent colour", stored(rgb, "PNG", transparency=rgb.getpixel((3, 3)))))
    second = Image.fromarray(noise(61, 47))
    files.append(("animated", stored(rgb, "GIF", save_all=True, append_images=[second])))
    return files
