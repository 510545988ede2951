"""modules.json and the Transformer's settings: what is followed, what is refused before any work."""

from __future__ import annotations

import json
import sys

import pytest

from optkit.core.artifact import Artifact
from optkit.core.sentence_modules import modules, text_settings
from optkit.errors import CheckpointError

#: How versions of sentence-transformers name one class.
NAMES = {
    "Transformer": ["models.Transformer", "base.modules.transformer.Transformer", "base.modules.Transformer"],
    "Pooling": ["models.Pooling", "models.Pooling.Pooling", "sentence_transformer.modules.pooling.Pooling"],
    "Normalize": ["models.Normalize", "sentence_transformer.modules.normalize.Normalize"],
}


def listed(folder, *types, paths=("", "1_Pooling", "2_Normalize", "3_Dense")):
    """A folder with modules.json alone; `types` without the package's name."""
    folder.mkdir(exist_ok=True)
    lines = [
        {
            "idx": i,
            "name": str(i),
            "path": path,
            "type": kind if ":" in kind else f"sentence_transformers.{kind}",
        }
        for i, (kind, path) in enumerate(zip(types, paths))
    ]
    for line in lines:
        line["type"] = line["type"].removeprefix(":")
    (folder / "modules.json").write_text(json.dumps(lines))
    return folder


@pytest.mark.parametrize("number", range(3))
def test_classes_by_their_names_of_every_version(number, tmp_path):
    types = [names[number % len(names)] for names in NAMES.values()]
    assert [m.kind for m in modules(listed(tmp_path, *types))] == list(NAMES)


@pytest.mark.parametrize(
    "types",
    [
        ["models.StaticEmbedding"],
        ["models.CLIPModel"],
        ["models.WordEmbeddings", "models.Pooling"],
        ["models.BoW", "models.Dense"],
        ["models.Asym"],
        ["base.modules.router.Router"],
        ["models.Transformer", "cross_encoder.modules.logit_score.LogitScore"],
        ["models.Transformer", "sparse_encoder.models.CSRSparsity"],
        ["models.Transformer", "models.WeightedLayerPooling"],
        ["models.Transformer", "models.Pooling", "models.Pooling"],
        ["models.Transformer", "models.Dense"],
        ["losses.Transformer"],
        [":custom_st.Transformer", "models.Pooling"],
        [":os.system"],
        ["models.Transformer", ":subprocess.Pooling"],
    ],
    ids=lambda types: types[-1],
)
def test_other_modules_are_refused_by_their_name_when_the_folder_is_opened(types, tmp_path):
    """Such folders have no weights at the top, or others: nothing is said of those."""
    before = set(sys.modules)
    wrong = next(t for t in types if t not in ("models.Transformer", "models.Pooling") or types.count(t) > 1)
    with pytest.raises(CheckpointError, match=wrong.removeprefix(":")) as refused:
        Artifact.open(listed(tmp_path / "st", *types))
    assert "\n" not in str(refused.value)
    assert not {"subprocess_", "sentence_transformers", "custom_st"} & (set(sys.modules) - before)


def test_two_modules_of_one_name_are_refused(tmp_path):
    """The library would keep the second in the first one's place."""
    listed(tmp_path, "models.Transformer", "models.Pooling", "models.Normalize")
    file = tmp_path / "modules.json"
    file.write_text(file.read_text().replace('"name": "2"', '"name": "1"'))
    with pytest.raises(CheckpointError, match="a name of its own"):
        modules(tmp_path)


@pytest.mark.parametrize("path", ["0_Transformer", "0_CLIPModel"])
def test_a_transformer_in_a_folder_of_its_own_is_refused_with_how_to_move_it(path, tmp_path):
    with pytest.raises(CheckpointError, match=f"in the folder itself, received '{path}'") as refused:
        Artifact.open(listed(tmp_path / "st", "models.Transformer", paths=[path]))
    assert "save_pretrained" in refused.value.hint


@pytest.mark.parametrize(
    "path", ["..", "../1_Pooling", "/etc", "1_Pooling/..", "", "pooling", "1_Pooling/x", 7, None]
)
def test_no_path_leaves_the_folder(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        modules(listed(tmp_path, "models.Transformer", "models.Pooling", paths=["", path]))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"transformer_task": "fill-mask"}, "transformer_task"),
        ({"module_output_name": "pooler_output"}, "module_output_name"),
        (
            {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
            "modality",
        ),
        (
            {
                "modality_config": {
                    k: {"method": "forward", "method_output_name": "last_hidden_state"}
                    for k in ("text", "message")
                }
            },
            "modality_config",
        ),
        ({"tokenizer_args": {"model_max_length": 3}}, "model_max_length"),
        ({"processor_kwargs": {"add_special_tokens": False}}, "add_special_tokens"),
        ({"processing_kwargs": {"text": {"max_length": 4}}}, "processing_kwargs"),
        ({"model_kwargs": {"subfolder": "x"}}, "subfolder"),
        ({"tokenizer_name_or_path": "elsewhere"}, "tokenizer_name_or_path"),
    ],
)
def test_settings_that_change_answers_are_refused_by_their_name(settings, named, tmp_path):
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=named):
        text_settings(tmp_path, "feature-extraction")
