"""tokenizer.json, which a library written in Rust reads: what it may be, and how its failures are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.reading import read_bytes
from optkit.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_tokenizer(file: Path, content: bytes | None = None) -> Tokenizer:
    """The `tokenizers.Tokenizer` in `file`, or in `content` that stands for it.

    Raises CheckpointError for anything else.
    """
    from tokenizers import Tokenizer

    content = read_bytes(file, CheckpointError) if content is None else content
    try:
        return Tokenizer.from_buffer(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as reason:  # a bare Exception, or Rust's PanicException, which is none
        said = " ".join(str(reason).split())[:300]
        raise CheckpointError(
            f"{str(file)!r} is not a tokenizer: {said}.",
            hint="Save it again: AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        ) from reason


@contextmanager
def while_encoding(folder: Path) -> Iterator[None]:
    """CheckpointError where the tokenizer of `folder`, though it could be read, fails on a text.

    The library raises a bare Exception for such a model, or Rust's PanicException, which is no Exception.
    """
    try:
        yield
    except BaseException as reason:
        if type(reason) is not Exception and type(reason).__name__ != "PanicException":
            raise
        said = " ".join(str(reason).split())[:300]
        raise CheckpointError(
            f"The tokenizer in {str(folder)!r} fails on a text: {said}.",
            hint="Its vocabulary, special tokens and settings do not fit one another; save it again.",
        ) from reason
