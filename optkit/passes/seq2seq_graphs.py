"""An encoder-decoder model as two ONNX graphs, checked against torch in their numbers and as they write.

The encoder's graph gives the keys and values of the source for every layer of the decoder, so that they are
computed once; the decoder's takes them and its cache. Both come from transformers' own forward method: of the
first, all that is not needed for these keys and values falls away. A source is a text, or a sound.
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
from optkit.runtimes.seq2seq import DECODER, ENCODER, SEQUENCES, Seq2SeqSession, ended, tensor_names
from optkit.runtimes.speech import STRIDE

if TYPE_CHECKING:
    import torch


_TEXT = ["input_ids", "attention_mask"]
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
    config, inputs = model.config.to_dict(), _inputs(model)
    window = samples if inputs == _TEXT else _windows(samples, model)
    checks = export_check.of_data(window, inputs)
    if inputs == _TEXT:
        checks += export_check.checks(config, inputs, pad_token(config), causal=False)
    with open_session(Artifact(out, {"format": "onnx"})) as session:
        assert isinstance(session, Seq2SeqSession)
        worst = 0.0
        for number, one in enumerate(checks):
            tokens = min(token_limit(config) or _LONG, _LONG) if number == 1 else _SHORT
            worst = max(worst, _compare(model, session, one, tokens, tolerance))
        equal, ties = _compare_texts(
            model, session, window.take(range(min(_WRITTEN, len(window)))), tolerance
        )
    return {
        "max_difference": worst,
        "checked_examples": len(samples),
        "checked_up_to_tokens": max(c.feeds[inputs[0]].shape[-1] for c in checks),
        "texts_equal": equal,
        "texts_tied": ties,
    }


def _compare(
    model: torch.nn.Module, session: Seq2SeqSession, check: Check, tokens: int, tolerance: float
) -> float:
    """The largest difference of the logits behind `tokens` tokens, read in one step, in two, one by one."""
    import torch

    rows = len(next(iter(check.feeds.values())))
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
        feeds = {name: samples.batch([i])[name] for name in _inputs(model)}
        sources, begin = {n: torch.from_numpy(a) for n, a in feeds.items()}, [session.settings.start]
        received = session.infer(feeds)[SEQUENCES][0]
        with torch.no_grad():
            if session.speech is None:
                right = ended(model.generate(**sources)[:, 1:].numpy(), session.settings)[0]
            else:
                said = model.generate(**sources, return_segments=True)["segments"][0]
                right = torch.cat([segment["tokens"] for segment in said]).numpy()
                begin = said[0]["result"][: said[0]["idxs"][0]].tolist()
        if np.array_equal(received, right):
            equal += 1
            continue
        likely = [_likelihood(model, feeds, tokens, begin) for tokens in (received, right)]
        if abs(likely[0] - likely[1]) > tolerance * max(1.0, abs(likely[1])):
            raise PassError(
                f"Expected the text that generate writes for example {i}, {right[:12].tolist()}..., "
                f"received {received[:12].tolist()}...",
                hint="Report it with generation_config.json; transformers and optkit search differently.",
            )
        ties += 1
    return equal, ties


def _likelihood(
    model: torch.nn.Module, feeds: dict[str, np.ndarray], text: np.ndarray, begin: list[int]
) -> float:
    """The mean log-probability of a token of `text` behind `begin`, in torch."""
    import torch

    labels = torch.from_numpy(text[text >= 0])[None]
    before = torch.cat([torch.tensor([begin]), labels[:, :-1]], dim=1)
    with torch.no_grad():
        sources = {name: torch.from_numpy(a) for name, a in feeds.items()}
        scores = model(**sources, decoder_input_ids=before).logits[:, len(begin) - 1 :].log_softmax(-1)
    return float(scores.gather(-1, labels[:, :, None]).mean())


def _inputs(model: torch.nn.Module) -> list[str]:
    """What the encoder reads."""
    return _TEXT if model.main_input_name == "input_ids" else [model.main_input_name]


def _windows(samples: EncodedSet, model: torch.nn.Module) -> EncodedSet:
    """The first window of each sound."""
    (name,), frames = _inputs(model), _example(model)[0].shape[2]
    return EncodedSet({name: [row[:, :frames] for row in samples.arrays[name]]}, {})


def _example(model: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    """Two sources."""
    import torch

    if _inputs(model) == _TEXT:  # one tensor would be one input
        return tuple(torch.ones(2, 7, dtype=torch.int64) for _ in range(2))
    return (torch.ones(2, model.config.num_mel_bins, STRIDE * model.config.max_source_positions),)


def _encoder(model: torch.nn.Module) -> tuple[Any, ...]:
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    names = _inputs(model)

    class Encoder(torch.nn.Module):
        """A source → its keys and values in every layer of the decoder."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *source: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answer = self.model(
                **dict(zip(names, source)),
                decoder_input_ids=torch.ones(source[0].shape[0], 1, dtype=torch.int64),
                past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
                use_cache=True,
                return_dict=True,
            )
            layers = answer.past_key_values.cross_attention_cache.layers
            return tuple(tensor for layer in layers for tensor in (layer.keys, layer.values))

    dim = torch.export.Dim
    shape = {0: dim("batch", min=1, max=torch_export.MOST_TEXTS)}
    if names == _TEXT:
        shape[1] = _dim("source", _longest(model))
    module, example = Encoder().eval(), _example(model)
    with torch.no_grad():
        results, _, _ = tensor_names(len(module(*example)) // 2)
    return module, example, {"source": (shape,) * len(names)}, names, results


def _decoder(model: torch.nn.Module) -> tuple[Any, ...]:
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    names, example, tokens = _inputs(model), _example(model), torch.ones(2, 3, dtype=torch.int64)
    with torch.no_grad():
        answer = model(**dict(zip(names, example)), decoder_input_ids=tokens, use_cache=True)
    cache, places = answer.past_key_values, answer.encoder_last_hidden_state.shape[1]
    masks = names == _TEXT
    cross = [t for x in cache.cross_attention_cache.layers for t in (x.keys, x.values)]
    past = [t for x in cache.self_attention_cache.layers for t in (x.keys, x.values)]
    count, width = len(past), model.config.hidden_size

    class Decoder(torch.nn.Module):
        """Tokens, keys and values of the source, and the cache → logits, and the cache with the tokens."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, *tensors: torch.Tensor) -> tuple[Any, ...]:
            mask, tensors = (tensors[0], tensors[1:]) if masks else (None, tensors)
            cross, past = tensors[:count], tensors[count:]
            pairs = ([*zip(part[::2], part[1::2])] for part in (past, cross))
            cache = EncoderDecoderCache(*map(DynamicCache, pairs))
            for layer in range(count // 2):
                cache.is_updated[layer] = True  # the source is read
            # Hidden states, which nothing looks at any more.
            hidden = torch.zeros(ids.shape[0], places if mask is None else mask.shape[1], width)
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
    batch = dim("batch", min=1, max=torch_export.MOST_TEXTS)
    source = {2: _dim("source", longest)} if masks else {}
    shapes = {
        "ids": {0: batch, 1: _dim("sequence", longest)},
        "tensors": (
            *({0: batch, 1: source[2]} for _ in example[:masks]),
            *({0: batch, **source} for _ in cross),
            *({0: batch, 2: dim("past", min=0, max=longest - 1)} for _ in past),
        ),
    }
    of_source, before, behind = tensor_names(count // 2)
    inputs = (torch.ones(2, 5, dtype=torch.int64), *example[:masks], *cross, *past)
    read = ["input_ids", *(_TEXT[1:] if masks else ()), *of_source, *before]
    return Decoder().eval(), inputs, shapes, read, ["logits", *behind]


def _dim(name: str, longest: int) -> torch.export.Dim:
    import torch

    return torch.export.Dim(name, min=1, max=longest)


def _longest(model: torch.nn.Module) -> int:
    return token_limit(model.config.to_dict()) or torch_export.MOST_TOKENS
