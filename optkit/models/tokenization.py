"""How transformers reads texts in a folder: asked of transformers once, written down, followed without it.

A checkpoint says it in several files (tokenizer.json, tokenizer_config.json, special_tokens_map.json) and by
its tokenizer's class, and they may disagree: only transformers knows which wins. What it builds is one
`tokenizers.Tokenizer` and a few facts. An artifact holds both, as tokenizer.json and `FILE` (of Marian and
M2M100, whose tokenizers are none of that library, what `sentence_pieces` reads in place of the first); of a
plain checkpoint they are asked for when it is opened, in a process of its own unless transformers is loaded.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from optkit.core.files import write_json, write_text
from optkit.core.reading import read_bytes
from optkit.core.schema.model_files import checked
from optkit.core.schema.sentence_pieces import FILE as PIECES
from optkit.errors import CheckpointError, MissingDependency

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: The facts beside tokenizer.json in an artifact.
FILE = "encoding.json"
#: What a tokenizer is read from; any change of them is another tokenizer.
SOURCES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
    *("sentencepiece.bpe.model", "spm.model", "tekken.json", "chat_template.jinja"),
    *("source.spm", "target.spm", "target_vocab.json", PIECES),
)
#: Settings of what reads images and sounds.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
#: Of these, what holds no tokens of its own, or (vocab.json) may hold those of speech.
_SETTINGS = SOURCES[1:4]
_NO_TOKENIZER = (
    *(*_SETTINGS, "config.json", "vocab.json", "added_tokens.json", "target_vocab.json"),
    "chat_template.jinja",
)
#: What transformers reads where it has SentencePiece read texts.
_MODELS = ("source.spm", "target.spm", "vocab.json", "target_vocab.json", "sentencepiece.bpe.model")


@dataclass(frozen=True)
class Tokenization:
    """`tokenizer` is the tokenizers library's JSON, with `pieces` that of `sentence_pieces`; the rest is what
    it does not hold.

    `inputs` are the names that the tokenizer gives a model; `max_length` its limit in tokens (None: none
    stated); `truncation_side` and `padding_side` left or right; `pad_id` None where it has no such token;
    `kind` the class in transformers `version`; `mask_token` stands for a word that is asked for. `notes` say
    where the checkpoint's files disagree, `pair_notes` where they do for pairs of texts only. `chat_template`
    is Jinja that writes messages as a prompt, and may name `special_tokens` (`bos_token`, ...).
    """

    tokenizer: str = field(repr=False)
    inputs: tuple[str, ...]
    max_length: int | None
    truncation_side: str
    padding_side: str
    pad_id: int | None
    split_special_tokens: bool
    kind: str
    version: str
    notes: tuple[str, ...] = ()
    pair_notes: tuple[str, ...] = ()
    mask_token: str | None = None
    pieces: bool = False
    chat_template: str | None = None
    special_tokens: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of the file that `tokenizer` is in an artifact."""
        return PIECES if self.pieces else "tokenizer.json"

    @property
    def digest(self) -> str:
        """Equal for folders that read every text alike."""
        facts = {name: value for name, value in self.facts().items() if name not in _ABOUT}
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """All but the tokenizer, of which the hash, as JSON values."""
        values = {name: value for name, value in asdict(self).items() if name != "tokenizer"}
        return {"tokenizer_sha256": sha256(self.tokenizer.encode()).hexdigest(), **values}


#: Facts that change no id.
_ABOUT = ("kind", "version", "notes", "pair_notes", "mask_token", "pieces", "chat_template", "special_tokens")


def read(folder: Path) -> Tokenization:
    """How transformers reads texts with the files in `folder`.

    Raises CheckpointError where transformers cannot read them, or reads them by code that the tokenizers
    library does not have; MissingDependency where it must be asked and is not installed.
    """
    stamps = [(name, (folder / name).stat()) for name in (FILE, *SOURCES) if (folder / name).is_file()]
    key = tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stamps)
    return _read(folder, key)


def record(folder: Path, source: Path) -> None:
    """Write down in `folder`, made from `source`, how transformers reads texts there, unless it is already.

    Nothing is written for a model that reads no texts.
    """
    present = is_there(folder)
    if not present and not is_there(source):
        return
    if present and _recorded(folder) is not None:
        return
    reading = read(folder if present else source)
    if not present:  # its settings belong to it
        for name in _SETTINGS:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    write(reading, folder)
    if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
        for name in _MODELS if reading.pieces else ():
            if (source / name).is_file() and not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)
        _read.cache_clear()
        if (again := _ask(folder)).digest != reading.digest:  # a checkpoint is read by transformers, too
            (folder / FILE).unlink()
            raise CheckpointError(
                f"transformers reads texts otherwise once its {reading.kind} is saved (now as {again.kind}).",
                hint="Save the tokenizer with this version of transformers, and give that folder.",
            )


def write(reading: Tokenization, folder: Path) -> None:
    """The tokenizer and `FILE` in `folder`."""
    write_text(folder / reading.file, reading.tokenizer)
    write_json(folder / FILE, reading.facts())


def opened(reading: Tokenization, folder: Path) -> Tokenizer:
    """What reads texts as `reading` says; `folder` is where it was read, for messages."""
    content = reading.tokenizer.encode()
    if reading.pieces:
        from optkit.models.sentence_pieces import PieceTokenizer

        return cast("Tokenizer", PieceTokenizer(folder / reading.file, content))
    from optkit.core.schema.tokenizer import open_tokenizer

    return open_tokenizer(folder / reading.file, content)


def is_there(folder: Path) -> bool:
    """Whether `folder` has a tokenizer of any kind."""
    return any((folder / name).is_file() for name in SOURCES if name not in _NO_TOKENIZER)


def reader(folder: Path) -> str | None:
    """A hash of what turns raw inputs, texts or images, into the model's; None where nothing does."""
    if is_there(folder):
        return read(folder).digest
    files = [file for name in PROCESSORS if (file := folder / name).exists()]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest() if files else None


@lru_cache(maxsize=16)
def _read(folder: Path, key: tuple[object, ...]) -> Tokenization:
    if (recorded := _recorded(folder)) is not None:
        return recorded
    if not is_there(folder):
        raise CheckpointError(
            f"Expected tokenizer.json in {str(folder)!r}; it is missing.",
            hint="Save it beside the model: AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        )
    if util.find_spec("transformers") is None:
        raise MissingDependency(
            f"{str(folder)!r} does not say how transformers reads its texts, and transformers, which could "
            "tell, is not installed.",
            hint='Run optkit compress again, whose result says it, or: pip install "optkit[compress]"',
        )
    return _ask(folder)


def _ask(folder: Path) -> Tokenization:
    """Ask transformers: here where it is loaded, else in a process of its own."""
    if "transformers" in sys.modules:
        return import_module("optkit.models.tokenization_worker").resolve(folder)
    from tempfile import TemporaryDirectory

    from optkit.core.process import Child

    with TemporaryDirectory(prefix="optkit-tokenizer-") as scratch:
        with Child("optkit.models.tokenization_worker") as child:
            child.call("resolve", folder=str(folder.resolve()), out=scratch)
        recorded = _recorded(Path(scratch))
    assert recorded is not None
    return recorded


def _recorded(folder: Path) -> Tokenization | None:
    """What an artifact says; None where it says nothing, or of another tokenizer."""
    file, tokenizer = folder / FILE, folder / (PIECES if (folder / PIECES).is_file() else "tokenizer.json")
    if not file.is_file() or not tokenizer.is_file():
        return None
    facts, text = checked(file, FILE, CheckpointError), read_bytes(tokenizer, CheckpointError)
    if facts["tokenizer_sha256"] != sha256(text).hexdigest():
        return None
    names = set(Tokenization.__dataclass_fields__) & set(facts)
    values: dict[str, Any] = {name: tuple(x) if isinstance(x := facts[name], list) else x for name in names}
    return Tokenization(text.decode(), **values)
