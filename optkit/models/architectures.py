"""What config.json says that a model is for: a task, or the words why none fits. No weight is read for it."""

from __future__ import annotations

from typing import Any

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError
from optkit.models.limits import WITH_IMAGES
from optkit.models.sentence_folder import read_scoring
from optkit.models.task import TASKS

#: Names that end as a plain model does, and are none.
_HEADS = ("HeadModel", "HeadsModel", "DecoderModel")
#: Families whose encoder is a model of its own (`AutoModelForTextEncoding`, as sentence-transformers has it).
TEXT_ENCODERS = ("mt5", "t5", "umt5")
#: Families without positions for each patch: images are of the size that the processor gives them.
ANY_SIZE = (
    *("bit", "convnext", "convnextv2", "cvt", "efficientnet", "focalnet", "mobilenet_v1", "mobilenet_v2"),
    *(
        "mobilevit",
        "mobilevitv2",
        "pvt_v2",
        "swin",
        "swinv2",
        "poolformer",
        "regnet",
        "resnet",
        "segformer",
        "dinov2",
        "dinov2_with_registers",
        "yolos",
        "dpt",
    ),
)
#: Keys of config.json that say that a model reads something else than text.
_OTHER_INPUTS = {
    "images": ("image_size", "num_channels", "patch_size"),
    "sound": ("conv_dim", "feat_extract_norm", "num_mel_bins", "sampling_rate", "audio_channels"),
    "time series": ("prediction_length", "context_length"),
}
#: Families that write speech down with a decoder.
_SPEECH_DECODERS = ("moonshine", "moonshine_streaming", "speech_to_text", "speech-encoder-decoder")
#: Keys of config.json that hold the configuration of a part: a tower, a backbone.
_PARTS = tuple(
    f"{part}_config"
    for part in (
        "text",
        "vision",
        "image",
        "audio",
        "video",
        "speech",
        "qformer",
        "backbone",
        "thinker",
        "llm",
    )
)
_BLOCKS = "its attention is cut into blocks by the length of the text"
_STATE = "it reads a text step by step (a state-space model)"
#: model_type → why no graph of it is made that takes inputs of any number and length.
NOT_A_GRAPH = {
    **dict.fromkeys(("longformer", "led", "longt5", "big_bird", "bigbird_pegasus"), _BLOCKS),
    "reformer": "it sorts tokens into buckets by random hashes",
    "yoso": "it compares tokens by random hashes",
    "funnel": "it pools a text to lengths that its own length decides",
    "nystromformer": "it reads texts of one length only",
    "data2vec-vision": "torch cannot export its attention with a bias by position",
    "mask2former": "torch cannot export its attention over the pixels of an image",
    "xlnet": "it reads the last place of a text padded on the left",
    **dict.fromkeys(
        (
            "mamba",
            "mamba2",
            "falcon_mamba",
            "jamba",
            "zamba",
            "zamba2",
            "bamba",
            "falcon_h1",
            "rwkv",
            "xlstm",
        ),
        _STATE,
    ),
    **dict.fromkeys(
        ("recurrent_gemma", "nemotron_h", "lfm2", "lfm2_moe", "granitemoehybrid", "qwen3_next", "minimax"),
        _STATE,
    ),
}
#: model_type → the settings with which there is a graph all the same.
_A_GRAPH_WITH: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "data2vec-vision": {"use_relative_position_bias": False, "use_shared_relative_position_bias": False},
}
#: Kinds whose places on the image become constants of the graph.
ONE_SIZE = ("deformable_detr", "rt_detr", "rt_detr_v2", "d_fine")
_EXPORT = "Save the part that reads text as a folder of its own"


def task_of(config: dict[str, Any], names_a_pooling: bool = False) -> str | None:
    """The task of a model with this config.json; None where its architecture names none.

    `names_a_pooling`: the folder is one of sentence-transformers, which takes a model for its vectors,
    whatever it was saved as. Raises CheckpointError for a kind of model that no task here is for.
    """
    architectures = config.get("architectures") or []
    if config.get("model_type") in _SPEECH_DECODERS and not str(architectures).count("Classification"):
        raise CheckpointError(
            f"{(*architectures, config['model_type'])[0]} writes what it hears with a decoder, which optkit "
            "does not serve.",
            hint="Take Whisper or a CTC model (wav2vec 2.0, HuBERT, WavLM) for speech.",
        )
    if names_a_pooling:
        architecture = architectures[0] if architectures else str(config.get("model_type"))
        task = next(task for task in TASKS.values() if task.embeds)
        task.check_architecture(config, architecture)
        return task.name
    endings = {ending: task for task in TASKS.values() for ending in task.architectures}
    for architecture in architectures:
        if fitting := [ending for ending in endings if architecture.endswith(ending)]:
            task = endings[max(fitting, key=len)]
            task.check_architecture(config, architecture)
            return task.name
    return None


def infer_task(artifact: Artifact) -> str:
    """The task of a checkpoint by its architecture. Raises CheckpointError when none fits."""
    if artifact.task:
        return artifact.task
    if declared := next((t for t in TASKS.values() if t.declared_by(artifact.path, artifact.config)), None):
        return declared.name
    # A sentence-transformers folder gives vectors, unless it is a cross-encoder's.
    pools = (artifact.path / "modules.json").exists() and read_scoring(artifact.path) is None
    config = artifact.config
    if task := task_of(config, pools):
        return task
    endings = [ending for task in TASKS.values() for ending in task.architectures]
    raise CheckpointError(
        f"Cannot tell the task from the architectures {config.get('architectures') or 'none'} in "
        "config.json. "
        f"Known endings: {', '.join(endings)}.",
        hint=f"Name it with --task; known: {', '.join(TASKS)}.",
    )


def refuse_no_graph(config: dict[str, Any], any_size: bool = False) -> None:
    """Raise CheckpointError where no graph of the model answers as it does at every length, or for images of
    `any_size`."""
    kind = str(config.get("model_type"))
    if any_size and kind in ONE_SIZE:
        raise CheckpointError(
            f"A graph of a model of the kind {kind!r} takes images of one size, and its image processor "
            "gives each a size of its own.",
            hint='Give both sides as size in preprocessor_config.json, {"height": 640, "width": 640}, and '
            "see what that costs; or serve it in torch (serve-torch).",
        )
    settings = _A_GRAPH_WITH.get(kind)
    able = settings is not None and all(config.get(n, False) == v for n, v in settings.items())
    if kind in NOT_A_GRAPH and not able:
        raise CheckpointError(
            f"A model of the kind {kind!r} cannot become an ONNX graph: {NOT_A_GRAPH[kind]}.",
            hint="Serve it in torch (serve-torch), or take another architecture.",
        )


def vision_of(config: dict[str, Any]) -> dict[str, Any]:
    """The part of config.json that describes what reads images: of SigLIP and CLIP one of two towers."""
    tower = config.get("vision_config")
    return tower if isinstance(tower, dict) else config


def refuse_other_library(config: dict[str, Any]) -> None:
    """Raise CheckpointError for a folder of timm, with or without transformers' wrapper around it, and for a
    model of pages that reads their images beside their words."""
    if config.get("model_type") in WITH_IMAGES:
        raise CheckpointError(
            f"A model of the kind {config['model_type']!r} reads a page's image beside its words, which "
            "optkit does not give it.",
            hint="Take one that reads words and boxes alone: LayoutLM, LiLT or BROS.",
        )
    if "pretrained_cfg" in config or config.get("model_type") == "timm_wrapper":
        name = config.get("architecture") or "a timm model"
        raise CheckpointError(
            f"Expected a model of transformers, received one of timm ({name}): no task here fits.",
            hint="Take the same architecture as a checkpoint of transformers, such as a ViT or a Swin.",
        )


def refuse_no_encoder(config: dict[str, Any], architecture: str) -> None:
    """Raise CheckpointError where the model named `architecture` does not turn a text into token vectors."""
    is_encoder = architecture.endswith("EncoderModel") or config.get("model_type") in TEXT_ENCODERS
    parts = [name for name in _PARTS if isinstance(config.get(name), dict)]
    other = next((what for what, keys in _OTHER_INPUTS.items() if any(k in config for k in keys)), None)
    if {"encoder", "decoder"} <= config.keys() or (config.get("is_encoder_decoder") and not is_encoder):
        what = "an encoder with a decoder, which writes one text from another"
        hint = f"{_EXPORT}, or fine-tune it as ...ForSequenceClassification where transformers has that."
    elif parts:
        what, hint = f"a model of several parts ({', '.join(parts)})", f"{_EXPORT}, such as CLIPTextModel."
    elif other is not None:
        what = f"a model that reads {other} and has no head"
        hint = "Fine-tune it for a task first; of images: ...ForImageClassification."
    elif architecture.endswith(_HEADS):
        what, hint = "a model with heads for training", "Save the plain ...Model, or the one ...LMHeadModel."
    else:
        return
    raise CheckpointError(f"{architecture} is {what}: no task here fits.", hint=hint)
