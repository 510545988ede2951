"""Asks transformers how it reads texts; the answer is proven on provoking texts before it is given.

Runs where transformers is loaded, or as a process of its own (`optkit.core.process.Child`).
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from optkit.core.files import read_json, write_json, write_text
from optkit.core.schema.tokenizer import while_encoding
from optkit.data import provoking
from optkit.errors import CheckpointError
from optkit.events import Events
from optkit.models import sentence_pieces
from optkit.models.tokenization import Tokenization, opened, write

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

#: transformers writes this and more where a tokenizer has no stated limit.
_NO_LIMIT = 1_000_000
#: Settings in tokenizer_config.json that decide about ids.
_SETTINGS = (
    *("do_lower_case", "strip_accents", "keep_accents", "tokenize_chinese_chars", "add_prefix_space"),
    *(
        "add_bos_token",
        "add_eos_token",
        "legacy",
        "split_special_tokens",
        "fix_mistral_regex",
        "split_by_punct",
    ),
    *(
        "tokenizer_class",
        "model_input_names",
        "bos_token",
        "eos_token",
        "cls_token",
        "sep_token",
        "unk_token",
    ),
)


class Service:
    emit: Events

    def resolve(self, folder: str, out: str) -> None:
        """Write tokenizer.json and its facts into the folder `out`."""
        write(resolve(Path(folder)), Path(out))


def serve() -> Service:
    return Service()


def resolve(folder: Path, **settings: object) -> Tokenization:
    """How transformers' own tokenizer of `folder`, opened with `settings`, reads texts.

    Raises CheckpointError.
    """
    import transformers
    from transformers import AutoTokenizer

    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():  # Marian's recommends sacremoses, with which it does nothing
            warnings.simplefilter("ignore")
            theirs = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, **settings
            )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as reason:  # Rust's PanicException is no Exception
        first = (str(reason).strip() or type(reason).__name__).splitlines()[0][:300]
        raise CheckpointError(
            f"transformers cannot read the tokenizer in {str(folder)!r}: {first}",
            hint="AutoTokenizer.from_pretrained(folder) must work; a slow tokenizer may need sentencepiece.",
        ) from reason
    kind = type(theirs).__name__
    pieces = kind in sentence_pieces.KINDS
    if not pieces and (
        not getattr(theirs, "is_fast", False) or getattr(theirs, "backend_tokenizer", None) is None
    ):
        raise CheckpointError(
            f"Expected a tokenizer of the tokenizers library in {str(folder)!r}, received {kind}, which "
            "transformers runs in Python and cannot convert.",
            hint="Take a checkpoint with a fast tokenizer (tokenizer.json), or convert it and save it there.",
        )
    if settings.get("add_prefix_space"):
        _put_spaces(theirs.backend_tokenizer)
    limit = theirs.model_max_length
    tokenization = Tokenization(
        tokenizer=sentence_pieces.described(theirs) if pieces else _bare(theirs.backend_tokenizer),
        inputs=tuple(theirs.model_input_names),
        max_length=int(limit) if limit is not None and 0 < limit < _NO_LIMIT else None,
        truncation_side=theirs.truncation_side,
        padding_side=theirs.padding_side,
        pad_id=theirs.pad_token_id,
        split_special_tokens=bool(theirs.split_special_tokens),
        kind=kind,
        version=transformers.__version__,
        mask_token=theirs.mask_token,
        pieces=pieces,
        chat_template=_chat_template(theirs),
        special_tokens=dict(theirs.special_tokens_map),
    )
    with while_encoding(folder):
        if pieces:
            _prove_pieces(tokenization, theirs, folder)
            return tokenization
        _prove(tokenization, theirs, folder)
        notes, pair_notes = _disagreements(tokenization, folder)
    return Tokenization(**{**vars(tokenization), "notes": notes, "pair_notes": pair_notes})


def _chat_template(theirs: PreTrainedTokenizerBase) -> str | None:
    """The one that is taken where no tools are offered."""
    try:
        return theirs.get_chat_template()
    except ValueError:  # there is none, or several of which none is the default
        return None


def change(folder: Path, settings: dict[str, Any]) -> None:
    """Write `settings` into tokenizer_config.json of `folder`, and the tokenizer that they make.

    Raises CheckpointError where transformers then reads texts otherwise than with the settings alone.
    """
    wanted = resolve(folder, **settings)
    file = folder / "tokenizer_config.json"
    stated = read_json(file, CheckpointError) if file.exists() else {}
    write_json(file, {**stated, **settings})
    write_text(folder / "tokenizer.json", wanted.tokenizer)
    if resolve(folder).digest != wanted.digest:
        raise CheckpointError(
            f"transformers reads texts otherwise once its {wanted.kind} is saved with {settings}.",
            hint=f"Give a checkpoint whose tokenizer_config.json has {settings}.",
        )


def _put_spaces(backend: Tokenizer) -> None:
    """A space before each text of a byte-level tokenizer, as `add_prefix_space` of RoBERTa's class puts it.

    The class that reads tokenizer.json as it is (ModernBERT's) passes over the setting in transformers 5.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.pre_tokenizers import Sequence as Several

    first: Any = backend.pre_tokenizer
    several = type(first) is Several
    for part in list(first) if several else [first]:
        if isinstance(part, ByteLevel):
            part.add_prefix_space = True


def _bare(backend: Tokenizer) -> str:
    """The tokenizer's JSON without padding and truncation, which every call of transformers sets anew."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy.to_str()


def _prove(reading: Tokenization, theirs: PreTrainedTokenizerBase, folder: Path) -> None:
    """CheckpointError where the class does in Python what the tokenizers library does not know of."""
    from tokenizers import Tokenizer

    ours = Tokenizer.from_str(reading.tokenizer)
    ours.encode_special_tokens = reading.split_special_tokens
    by_box = "boxes" in inspect.signature(theirs.__call__).parameters  # of pages: it takes words alone
    groups: tuple[Any, ...] = (provoking.WORDS,) if by_box else (provoking.TEXTS, provoking.PAIRS)
    for texts in groups:
        if by_box:
            rows = theirs(list(texts), boxes=[[[0] * 4] * len(words) for words in texts], padding=False)
        else:
            rows = theirs([x if isinstance(x, str) else x[0] for x in texts], *_seconds(texts), padding=False)
        encodings = ours.encode_batch_fast(list(texts), is_pretokenized=by_box)
        for text, encoding, ids in zip(texts, encodings, rows["input_ids"]):
            if encoding.ids != ids:
                raise CheckpointError(
                    f"The tokenizer in {str(folder)!r} ({reading.kind}) does more than its tokenizers "
                    f"backend: {text!r} is {ids[:20]} in transformers and {encoding.ids[:20]} without it.",
                    hint="optkit cannot serve this tokenizer without transformers.",
                )


def _prove_pieces(reading: Tokenization, theirs: PreTrainedTokenizerBase, folder: Path) -> None:
    """CheckpointError where `PieceTokenizer` and the class that it follows differ: in the ids of a text, cut
    or not, or in the text of ids."""
    ours, random = opened(reading, folder), Random(0)
    added = [token.content for token in theirs.added_tokens_decoder.values()]
    words = [*added[:4], *added[-4:], *random.sample(sorted(theirs.encoder), min(100, len(theirs.encoder)))]
    texts = [*provoking.TEXTS, provoking.LONG, "".join(words), " ".join(words), ">>xx<< a", ">>xx<<a >>xx<<"]
    texts += [form.format(word) for word in words[:16] for form in ("{} a", "a{}b", " {}", "{}")]
    for limit in (None, 7):
        rows = theirs(texts, truncation=limit is not None, max_length=limit)["input_ids"]
        if limit is not None:
            ours.enable_truncation(limit, direction=reading.truncation_side)
        for text, read, ids in zip(texts, ours.encode_batch_fast(texts), rows):
            if read.ids != ids:
                raise CheckpointError(
                    f"The tokenizer in {str(folder)!r} ({reading.kind}) reads {text[:60]!r} as {ids[:20]} in "
                    f"transformers, and optkit as {read.ids[:20]}.",
                    hint="optkit cannot serve this tokenizer; please report it.",
                )
    known = sorted(theirs.decoder)
    drawn = [[random.choice(known) for _ in range(12)] for _ in range(100)]
    for ids in (*rows, *drawn):
        for skip in (True, False):
            told, text = (
                theirs.decode(ids, skip_special_tokens=skip),
                ours.decode(ids, skip_special_tokens=skip),
            )
            if text != told:
                raise CheckpointError(
                    f"The tokenizer in {str(folder)!r} ({reading.kind}) writes {ids} as {told!r} in "
                    f"transformers, and optkit as {text!r}.",
                    hint="optkit cannot serve this tokenizer; please report it.",
                )


def _seconds(texts: Sequence[str] | Sequence[tuple[str, str]]) -> tuple[list[str], ...]:
    return () if isinstance(texts[0], str) else ([text[1] for text in texts],)


def _disagreements(reading: Tokenization, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where tokenizer.json alone says otherwise: sentences for the report, of texts and of pairs."""
    from tokenizers import Tokenizer

    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.is_file():
        return (), ()
    plain, ours = Tokenizer.from_file(str(file)), Tokenizer.from_str(reading.tokenizer)
    plain.no_padding()
    plain.no_truncation()
    stated = read_json(settings, CheckpointError) if settings.is_file() else {}
    told = ", ".join(f"{name} = {json.dumps(stated[name])}" for name in _SETTINGS if name in stated)
    follows = f"transformers {reading.version} ({reading.kind}) follows tokenizer_config.json"
    notes = []
    for text in provoking.TEXTS:
        alone, resolved = plain.encode(text), ours.encode(text)
        if alone.ids != resolved.ids:
            parts = _parts(plain.to_str(), reading.tokenizer)
            notes.append(
                f"The tokenizer's files disagree: by tokenizer.json alone {text[:60]!r} is "
                f"{' '.join(alone.tokens[:8])!r}, as transformers reads it "
                f"{' '.join(resolved.tokens[:8])!r}. {follows} and its class, not tokenizer.json, in: "
                + ", ".join(parts)
                + (f" ({told})." if told else ".")
            )
            break
    pair = plain.encode("one", "two").type_ids
    pairs = []
    if "token_type_ids" not in reading.inputs and any(pair):
        reason = (
            "tokenizer_config.json's model_input_names" if "model_input_names" in stated else reading.kind
        )
        pairs.append(
            "The tokenizer's files disagree on pairs: tokenizer.json gives second texts the type 1, and "
            f"transformers {reading.version} passes no token_type_ids ({reason}), so that the model sees "
            "zeros. optkit follows transformers."
        )
    return tuple(notes), tuple(pairs)


def _parts(plain: str, resolved: str) -> list[str]:
    """Which parts of two tokenizers differ."""
    a, b = json.loads(plain), json.loads(resolved)
    names = ("normalizer", "pre_tokenizer", "post_processor", "added_tokens", "model")
    return [name for name in names if a.get(name) != b.get(name)] or ["special tokens"]
