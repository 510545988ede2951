"""A candidate of text_peers.py in a process of its own, run by the Python of the environment that it needs.

It takes JSON lines, `{"call": "make" | "load" | "answer" | "time", ...}`, and answers each with
`{"result": ...}` or `{"error": ...}`. optkit is imported for its own candidate alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Task → the class of sentence-transformers that answers it.
CLASSES = {
    "embeddings": "SentenceTransformer",
    "sparse-embeddings": "SparseEncoder",
    "rerank": "CrossEncoder",
}
#: What optimum-onnx writes of an encoder and a decoder with a cache.
PARTS = ("encoder_model", "decoder_model", "decoder_with_past_model")
Answer = Callable[[list[Any]], Any]


def make(by: str, task: str, folder: str, texts: str) -> None:
    """Write the models of `by` (onnx, openvino: backends of sentence-transformers; optimum-onnx,
    optimum-intel) into `folder`, a checkpoint; `texts` is a folder with a train.jsonl of texts."""
    if by in ("onnx", "openvino"):
        import sentence_transformers
        from sentence_transformers import backend

        model = getattr(sentence_transformers, CLASSES[task])(folder, backend=by, device="cpu")
        model.save_pretrained(folder)
        if by == "onnx":
            backend.export_dynamic_quantized_onnx_model(model, "avx512_vnni", folder)
        else:
            calibration = {"dataset_name": texts, "dataset_config_name": "default"}
            backend.export_static_quantized_openvino_model(
                *(model, None, folder), **calibration, dataset_split="train", column_name="text"
            )
        return
    if by == "optimum-intel":
        from optimum.intel import OVModelForSeq2SeqLM

        for name, bits in (("intel", False), ("intel-int8", True)):
            OVModelForSeq2SeqLM.from_pretrained(folder, export=True, load_in_8bit=bits).save_pretrained(
                f"{folder}/{name}"
            )
        return
    from optimum import onnxruntime
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    seq2seq = task == "text2text"
    cls = onnxruntime.ORTModelForSeq2SeqLM if seq2seq else onnxruntime.ORTModelForSequenceClassification
    cls.from_pretrained(folder, export=True).save_pretrained(f"{folder}/optimum")
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    for part in PARTS if seq2seq else ("model",):
        if Path(folder, "optimum", f"{part}.onnx").exists():
            quantizer = onnxruntime.ORTQuantizer.from_pretrained(
                f"{folder}/optimum", file_name=f"{part}.onnx"
            )
            quantizer.quantize(save_dir=f"{folder}/optimum-int8", quantization_config=settings)


def load(by: str, task: str, folder: str, file: str | None, threads: int) -> Answer:
    """What answers inputs, a list in, an array out; `file` names the model among several of `folder`."""
    if by == "optkit":
        return _optkit(task, folder, threads)
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    if task == "text2text":
        return _seq2seq(by, folder, file)
    if by == "optimum-onnx":
        return _classifier(folder, str(file))
    import sentence_transformers

    chosen = {} if file is None else {"backend": by, "model_kwargs": {"file_name": file}}
    model = getattr(sentence_transformers, CLASSES[task])(folder, device="cpu", **chosen)
    if task == "rerank":
        return lambda asked: [model.predict([(query, text) for text in texts]) for query, texts in asked]
    return lambda texts: model.encode(texts)


def _optkit(task: str, folder: str, threads: int) -> Answer:
    import optkit

    model = optkit.load(folder, threads=threads)
    if task == "rerank":
        return lambda asked: [
            [ranked.score for ranked in sorted(ranking.results, key=lambda one: one.index)]
            for ranking in model.predict([tuple(one) for one in asked])
        ]
    if task == "text2text":
        return lambda texts: [written.text for written in model.predict(texts)]
    return model.predict


def _seq2seq(by: str, folder: str, file: str | None) -> Answer:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any
    if by == "torch":
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    elif by == "optimum-intel":
        from optimum.intel import OVModelForSeq2SeqLM

        model = OVModelForSeq2SeqLM.from_pretrained(f"{folder}/{file}")
    else:
        from optimum.onnxruntime import ORTModelForSeq2SeqLM

        names: dict[str, str] = {}
        if file == "optimum-int8":
            keys = ("encoder_file_name", "decoder_file_name", "decoder_with_past_file_name")
            names = {key: f"{part}_quantized.onnx" for key, part in zip(keys, PARTS)}
        model = ORTModelForSeq2SeqLM.from_pretrained(f"{folder}/{file}", **names)

    def write(texts: list[str]) -> list[str]:
        feeds = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        feeds.pop("token_type_ids", None)
        written: list[str] = tokenizer.batch_decode(model.generate(**feeds), skip_special_tokens=True)
        return written

    return write


def _classifier(folder: str, file: str) -> Answer:
    import transformers
    from optimum.onnxruntime import ORTModelForSequenceClassification

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    name = "model_quantized.onnx" if file.endswith("int8") else "model.onnx"
    model = ORTModelForSequenceClassification.from_pretrained(f"{folder}/{file}", file_name=name)

    def scores(asked: list[Any]) -> list[Any]:
        rows = []
        for query, texts in asked:
            feeds = tokenizer([query] * len(texts), texts, padding=True, truncation=True, return_tensors="pt")
            rows.append(model(**feeds).logits[:, 0].sigmoid().tolist())
        return rows

    return scores


def array(task: str, answers: Any) -> np.ndarray:
    """Answers as an array: (inputs, width) of vectors, (queries, candidates) of scores, texts."""
    if task == "text2text":
        return np.array(answers, dtype=str)
    if task == "sparse-embeddings" and isinstance(answers, list):
        rows = np.zeros((len(answers), VOCABULARY), dtype=np.float32)
        for row, answer in zip(rows, answers):
            row[answer.indices] = answer.values
        return rows
    if hasattr(answers, "to_dense"):
        return np.asarray(answers.to_dense())
    return np.asarray([np.asarray(one) for one in answers], dtype=np.float32)


VOCABULARY = 30522


def times(answer: Answer, inputs: list[Any], batches: list[list[Any]]) -> dict[str, list[float]]:
    """Milliseconds of each input alone, and of each batch in one call."""
    taken: dict[str, list[float]] = {"one": [], "many": []}
    for name, calls in (("one", [[item] for item in inputs]), ("many", batches)):
        for call in calls:
            begun = time.perf_counter()
            answer(call)
            taken[name].append((time.perf_counter() - begun) * 1000)
    return taken


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print
    answer: Answer | None = None
    task = ""
    for line in sys.stdin:
        asked = json.loads(line)
        result: Any = None
        try:
            call = asked.pop("call")
            if call == "make":
                make(**asked)
            elif call == "load":
                answer, task = load(**asked), asked["task"]
            else:
                assert answer is not None
                if call == "time":
                    result = times(answer, **asked)
                else:
                    np.save(asked["out"], array(task, answer(asked["inputs"])))
            reply = {"result": result}
        except Exception as error:  # one that cannot must not end the comparison
            reply = {"error": f"{type(error).__name__}: {error}"[-800:]}
        channel.write(json.dumps(reply) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
