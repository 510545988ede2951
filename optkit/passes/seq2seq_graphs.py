"""An encoder-decoder model as two ONNX graphs, checked against torch in their numbers and as they write.

The encoder's graph gives the keys and values of the source for every layer of the decoder, so that they are
computed once; the decoder's takes them and its cache. Both come from transformers' own forward method: of the
first, all that is not needed for these keys and values falls away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.data.examples import EncodedSet
from optkit.errors import PassError
from optkit.models.limits import token_limit
from optkit.models.text import pad_token
from optkit.passes import export_check, graph, torch_export
from optkit.passes.export_check import Check
from optkit.runtimes.base import open_session
from optkit.runtimes.search import Writer
from optkit.runtimes.seq2seq import DECODER, ENCODER, Seq2SeqSession, ended, tensor_names

if TYPE_CHECKING:
    import torch


_INPUTS = ["input_ids", "attention_mask"]
#: Tokens that the decoder is compared on behind every source, and behind one of them.
_SHORT, _LONG = 6, 256
#: Texts of the data that both write.
_WRITTEN = 8


def export(model: torch.nn.Module, source: Artifact, out: Path, opset: int) -> list[dict[str, int]]:
    """Write both graphs and the settings into `out`; the operators of each."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # others are not exported for every size
    parts = _encoder(model), _decoder(model)
    copy_side_files(source.path, out)
    if not (out / "generation_config.json").exists():
        model.generation_config.save_pretrained(str(out))
    counts = []
    for name, (module, inputs, shapes, names, results) in zip((ENCODER, DECODER), parts):
        torch_export.save(module, inputs, shapes, names, results, out / name, opset)
        exported = graph.load_graph(out, name)
        torch_export.strip(exported)
        torch_export.name_squeezed_axes(exported)
        graph.drop_unused_nodes(exported)
        graph.fold_transposed_weights(exported)
        graph.save_graph(exported, out, name)
        counts.append(graph.operator_counts(exported))
    model.set_attn_implementation(before)
    return counts


def check(model: torch.nn.Module, out: Path, samples: EncodedSet, tolerance: float) -> dict[str, Any]:
    """Notes on how near the graphs in `out` are to `model`. Raises PassError where they are not."""
    config = model.config.to_dict()
    checks = [
        *export_check.of_data(samples, _INPUTS),
        *export_check.checks(config, _INPUTS, pad_token(config), causal=False),
    ]
    with open_session(Artifact(out, {"format": "onnx"})) as session:
        assert isinstance(session, Seq2SeqSession)
        worst = 0.0
        for number, one in enumerate(checks):
            tokens = min(token_limit(config) or _LONG, _LONG) if number == 1 else _SHORT
            worst = max(worst, _compare(model, session, one, tokens, tolerance))
        equal, ties = _compare_texts(
            model, session, samples.take(range(min(_WRITTEN, len(samples)))), tolerance
        )
    return {
        "max_difference": worst,
        "checked_examples": len(samples),
        "checked_up_to_tokens": max(c.feeds["input_ids"].shape[1] for c in checks),
        "texts_equal": equal,
        "texts_tied": ties,
    }


def _compare(
    model: torch.nn.Module, session: Seq2SeqSession, check: Check, tokens: int, tolerance: float
) -> float:
    """The largest difference of the logits behind `tokens` tokens, read in one step, in two, one by one."""
    import torch

    rows = len(check.feeds["input_ids"])
    random = np.random.default_rng(tokens)
    written = random.integers(0, model.config.vocab_size, (rows, tokens))
    written[written == pad_token(model.config.to_dict())] = (
        1 + session.settings.pad
    )  # padding has no position
    written[:, 0] = session.settings.start
    with torch.no_grad():
        right = model(
            **{name: torch.from_numpy(a) for name, a in check.feeds.items()},
            decoder_input_ids=torch.from_numpy(written),
        ).logits.numpy()
    worst = 0.0
    begin = [*range(1, min(tokens, _SHORT) + 1)]
    end = [n for n in (tokens - 2, tokens - 1) if n > 0]
    for cuts in ([tokens], [max(1, tokens // 2), *end, tokens], [*begin, tokens]):
        for read, logits in _steps(session.writer(check.feeds), written, cuts):
            graph.refuse_non_finite({"logits": logits}, "The exported graph")
            difference = np.abs(logits - right[:, read - 1])
            worst = max(worst, float(difference.max()))
            if (difference > tolerance * (1 + np.abs(right[:, read - 1]))).any():
                raise PassError(
                    f"Expected the graphs to equal torch within {tolerance:g}, received a difference of "
                    f"{worst:.3g} at {check.name}, {read} tokens written in {len(cuts)} steps.",
                    hint="Serve this checkpoint in torch: optkit serve takes its folder.",
                )
    return worst


def _steps(writer: Writer, written: np.ndarray, cuts: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    begin = 0
    for end in dict.fromkeys(cuts):
        yield end, writer.step(written[:, begin:end])
        begin = end


def _compare_texts(
    model: torch.nn.Module, session: Seq2SeqSession, samples: EncodedSet, tolerance: float
) -> tuple[int, int]:
    """How many texts are those of `generate`, and how many others torch finds as likely, up to rounding.

    Raises PassError for any other.
    """
    import torch

    equal = ties = 0
    for i in range(len(samples)):
        feeds = {name: samples.batch([i])[name] for name in _INPUTS}
        with torch.no_grad():
            theirs = model.generate(**{n: torch.from_numpy(a) for n, a in feeds.items()})[:, 1:].numpy()
        received, right = session.infer(feeds)["sequences"], ended(theirs, session.settings)
        if np.array_equal(received, right):
            equal += 1
            continue
        likely = [
            _likelihood(model, feeds, tokens, session.settings.start) for tokens in (received[0], right[0])
        ]
        if abs(likely[0] - likely[1]) > tolerance * max(1.0, abs(likely[1])):
            raise PassError(
                f"Expected the text that generate writes for example {i}, {right[0, :12].tolist()}..., "
                f"received {received[0, :12].tolist()}...",
                hint="Report it with generation_config.json; transformers and optkit search differently.",
            )
        ties += 1
    return equal, ties


def _likelihood(model: torch.nn.Module, feeds: dict[str, np.ndarray], text: np.ndarray, start: int) -> float:
    """The mean log-probability of a token of `text`, in torch."""
    import torch

    labels = torch.from_numpy(text[text >= 0])[None]
    before = torch.cat([torch.tensor([[start]]), labels[:, :-1]], dim=1)
    with torch.no_grad():
        sources = {name: torch.from_numpy(a) for name, a in feeds.items()}
        scores = model(**sources, decoder_input_ids=before).logits.log_softmax(-1)
    return float(scores.gather(-1, labels[:, :, None]).mean())


def _encoder(model: torch.nn.Module) -> tuple[Any, ...]:
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    class Encoder(torch.nn.Module):
        """A source → its keys and values in every layer of the decoder."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answer = self.model(
                input_ids=ids,
                attention_mask=mask,
                decoder_input_ids=torch.ones_like(ids[:, :1]),
                past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
                use_cache=True,
                return_dict=True,
            )
            layers = answer.past_key_values.cross_attention_cache.layers
            return tuple(tensor for layer in layers for tensor in (layer.keys, layer.values))

    dim = torch.export.Dim
    shape = {0: dim("batch", min=1, max=torch_export.MOST_TEXTS), 1: _dim("source", _longest(model))}
    tokens, mask = (torch.ones(2, 7, dtype=torch.int64) for _ in range(2))  # one tensor would be one input
    module = Encoder().eval()
    with torch.no_grad():
        names, _, _ = tensor_names(len(module(tokens, mask)) // 2)
    return module, (tokens, mask), {"ids": shape, "mask": shape}, _INPUTS, names


def _decoder(model: torch.nn.Module) -> tuple[Any, ...]:
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    with torch.no_grad():
        tokens = torch.ones(2, 7, dtype=torch.int64)
        cache = model(input_ids=tokens, decoder_input_ids=tokens[:, :3], use_cache=True).past_key_values
    cross = [t for x in cache.cross_attention_cache.layers for t in (x.keys, x.values)]
    past = [t for x in cache.self_attention_cache.layers for t in (x.keys, x.values)]
    count, width = len(past), model.config.hidden_size

    class Decoder(torch.nn.Module):
        """Tokens, keys and values of the source, and the cache → logits, and the cache with the tokens."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, *tensors: torch.Tensor) -> tuple[Any, ...]:
            cross, past = tensors[:count], tensors[count:]
            pairs = ([*zip(part[::2], part[1::2])] for part in (past, cross))
            cache = EncoderDecoderCache(*map(DynamicCache, pairs))
            for layer in range(count // 2):
                cache.is_updated[layer] = True  # the source is read
            hidden = torch.zeros(mask.shape[0], mask.shape[1], width)  # which nothing looks at any more
            answer = self.model(
                encoder_outputs=(hidden,),
                attention_mask=mask,
                decoder_input_ids=ids,
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            )
            layers = answer.past_key_values.self_attention_cache.layers
            return answer.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))

    dim, longest = torch.export.Dim, _longest(model)
    batch, source = dim("batch", min=1, max=torch_export.MOST_TEXTS), _dim("source", longest)
    shapes = {
        "ids": {0: batch, 1: _dim("sequence", longest)},
        "mask": {0: batch, 1: source},
        "tensors": (
            *({0: batch, 2: source} for _ in cross),
            *({0: batch, 2: dim("past", min=0, max=longest - 1)} for _ in past),
        ),
    }
    of_source, before, behind = tensor_names(count // 2)
    inputs = (torch.ones(2, 5, dtype=torch.int64), tokens, *cross, *past)
    return Decoder().eval(), inputs, shapes, [*_INPUTS, *of_source, *before], ["logits", *behind]


def _dim(name: str, longest: int) -> torch.export.Dim:
    import torch

    return torch.export.Dim(name, min=1, max=longest)


def _longest(model: torch.nn.Module) -> int:
    return token_limit(model.config.to_dict()) or torch_export.MOST_TOKENS
