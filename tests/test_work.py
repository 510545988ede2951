"""Names in a work folder."""

from pathlib import Path

from optkit.passes.base import make
from optkit.work import digest, key_after, peak_file, step_folder


def test_a_key_follows_source_parameters_and_order() -> None:
    export, prune, harder = (
        make("export-onnx", {}),
        make("prune", {"share": 0.4}),
        make("prune", {"share": 0.6}),
    )

    keys = {
        key_after("a", prune, export),
        key_after("b", prune, export),
        key_after("a", harder, export),
        key_after("a", export, prune),
        key_after("a", prune),
        key_after("a"),
    }

    assert len(keys) == 6
    assert key_after("a", prune, export) == key_after(key_after("a", prune), make("export-onnx", {}))


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}, 2) != digest({"a": 12})


def test_a_step_and_its_peak_lie_side_by_side() -> None:
    folder = step_folder(Path("work"), make("export-onnx", {}), "0123")

    assert folder == Path("work/export-onnx-0123")
    assert peak_file(folder).parent == folder.parent
