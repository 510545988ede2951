"""Serving asks the task how inputs and answers travel, so that another task needs no edit under serving/."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import optkit.serving
from optkit.errors import DataError
from optkit.serving.http.body import Body, one_input
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.tensors import TensorInfo, examples, inputs_of, outputs_of, tensors
from optkit.tasks import TASKS
from optkit.tasks.base import Field
from optkit.tasks.text_classification import TextClassification


def test_no_file_of_serving_decides_by_the_name_of_a_task():
    """Neither by a comparison, nor by a table."""
    for file in Path(optkit.serving.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        compared = [part for node in nodes if isinstance(node, ast.Compare) for part in ast.walk(node)]
        keys = [key for node in nodes if isinstance(node, ast.Dict) for key in node.keys]
        found = {part.value for part in compared + keys if isinstance(part, ast.Constant)}
        assert not found & set(TASKS), file


class Reranker(TextClassification):
    """A task of one's own: a query and a passage, and how well they fit."""

    name = "reranking"
    takes = (Field("query"), Field("passage"), Field("picture", required=False, binary=True))

    def __init__(self):
        pass

    def json_type(self, text):
        return {"query": text, "passages": list[text]}

    def gives(self):
        return Field("fit", "FP32"), Field("why"), Field("places", "INT32", (2,))

    def fields(self, answer):
        return answer, f"{answer:.1f}", [0, 1]


def test_a_task_of_ones_own_says_how_it_travels():
    task = Reranker()
    assert [entry.name for entry in inputs_of(task)] == ["query", "passage"]
    assert outputs_of(task)[2] == TensorInfo("places", "INT32", [-1, 2])
    columns = {"passage": [b"p", "q"], "query": ["a", "b"], "picture": [b"\xff", b""]}
    assert examples(task, columns, 1) == [("a", "p", b"\xff"), ("b", "q", b"")]
    fit, why, places = tensors(task, [0.25, 0.75])
    assert (fit.shape, fit.values()) == ([2], [0.25, 0.75])
    assert why.values() == ["0.2", "0.8"]
    assert (places.shape, places.raw()) == ([2, 2], b"".join(n.to_bytes(4, "little") for n in (0, 1, 0, 1)))
    with pytest.raises(DataError, match="query"):
        examples(task, {"text": ["a"]}, 1)
    with pytest.raises(DataError, match="at most 1 characters, received one of 2"):
        examples(task, columns | {"query": ["a", "bb"]}, 1)


def test_its_json_is_held_to_the_servers_limits():
    body = Body(one_input(Reranker(), ServeSettings({"m": "m"}, max_text=5)))
    assert body.parse(b'{"query": "a", "passages": ["b"]}').passages == ["b"]
    for wrong in (b'{"query": "a"}', b'{"query": "a", "passages": ["longer than 5"]}'):
        with pytest.raises(Exception, match=r"422|passages"):
            body.parse(wrong)
