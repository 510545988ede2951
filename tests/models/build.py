"""Build checkpoints of any architecture with random weights, as transformers itself would save them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tests.models.families import (
    CHOICE,
    DETECT,
    IMAGE,
    LAYOUT,
    MULTI,
    POSITIONS,
    RERANK,
    SEGMENT,
    SOUND,
    SPARSE,
    SPEECH,
    TOWERS,
    VECTOR,
    VOCABULARY,
    ZERO,
    Family,
)
from tests.tasks import pictures
from tests.tasks.towers import two_towers

AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "image-classification": "AutoModelForImageClassification",
    "causal-lm": "AutoModelForCausalLM",
    DETECT: "AutoModelForObjectDetection",
    SEGMENT: "AutoModelForSemanticSegmentation",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForCTC",
    "embeddings": "AutoModel",
    RERANK: "AutoModelForSequenceClassification",
    ZERO: "AutoModelForSequenceClassification",
    CHOICE: "AutoModelForMultipleChoice",
    LAYOUT: "AutoModelForTokenClassification",
    SPARSE: "AutoModelForMaskedLM",
    MULTI: "AutoModel",
    TOWERS: "AutoModelForZeroShotImageClassification",
}
#: What configurations say of special tokens, unless the family has others.
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_LABELS = {RERANK: ("relevance",), ZERO: ("contradiction", "neutral", "entailment")}
#: Classifiers whose image processor does what no other does.
_OWN_PROCESSOR = {"donut-swin": "Donut", "pp_lcnet": "PPLCNet", "textnet": "TextNet"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: Special tokens by id: those of BERT's kind, and those of RoBERTa's, whose padding is token 1.
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


#: Segmenters that answer with a mask and a class for each query.
OF_QUERIES = ("maskformer", "mask2former")


def auto_of(kind: str, task: str) -> str:
    """The class of transformers that loads a model of this kind."""
    of_queries = task == SEGMENT and kind in OF_QUERIES
    return "AutoModelForUniversalSegmentation" if of_queries else AUTO[task]


def build(family: Family, task: str, folder: Path, **changes: Any) -> Path:
    """Write a checkpoint of `family` for `task` into `folder`: config, safetensors, tokenizer or processor.

    `changes` are put into its configuration. The weights are so large that attention is far from even.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    if task in (DETECT, SEGMENT):
        (pictures.detector if task == DETECT else pictures.segmenter)(folder, family.kind)
        model = getattr(transformers, auto_of(family.kind, task)).from_pretrained(str(folder)).eval()
        shake(model)
        model.save_pretrained(str(folder))
        return folder
    if task == TOWERS:
        return two_towers(folder, family.kind)
    special = (
        {} if task in (IMAGE, SOUND) else {"pad_token_id": 0, "vocab_size": 31} if task == SPEECH else _IDS
    )
    config = transformers.AutoConfig.for_model(family.kind, **{**special, **family.config, **changes})
    if task not in (VECTOR, SPEECH, SPARSE, MULTI, CHOICE, "causal-lm", "question-answering"):
        config.id2label = dict(enumerate(_LABELS.get(task, ("negative", "neutral", "positive"))))
        config.label2id = {label: i for i, label in config.id2label.items()}
    if task == IMAGE:
        size = _image_size(config)
        edges = {"height": size, "width": size}
        if family.kind == "imagegpt":  # its model reads clusters of colours, not pixels
            colours = torch.rand(config.vocab_size - 1, 3) * 2 - 1
            processor = transformers.ImageGPTImageProcessor(
                clusters=colours.tolist(), size={"height": 8, "width": 8}
            )
        elif family.kind in _OWN_PROCESSOR:
            folder.mkdir()
            stated = {"image_processor_type": f"{_OWN_PROCESSOR[family.kind]}ImageProcessor"}
            (folder / "preprocessor_config.json").write_text(json.dumps(stated))
            processor = None
        elif family.kind == "siglip2":
            processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        else:
            processor = transformers.ViTImageProcessor(size=edges)
        if processor is not None:
            processor.save_pretrained(str(folder))
    elif task in (SOUND, SPEECH):
        write_extractor(folder, family, task)
    else:
        types = (getattr(config, "type_vocab_size", None) or 0) > 1
        write_tokenizer(folder, family, _ROBERTA if config.pad_token_id == 1 else _BERT, types)
    if task == RERANK:  # what sentence-transformers writes into the folder of a cross-encoder
        config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    config.architectures = []  # some classes are chosen by it where the mapping holds several
    model = getattr(transformers, AUTO[task]).from_config(config).eval()
    shake(model)
    model.save_pretrained(str(folder))
    if task in (SPARSE, MULTI):
        write_modules(folder, task)
    return folder


def write_modules(folder: Path, task: str) -> None:
    """The settings by which sentence-transformers takes the model in `folder` for one of the task."""
    kind = "SparseEncoder" if task == SPARSE else "MultiVectorEncoder"
    behind = {
        SPARSE: {"sparse_encoder.modules.SpladePooling": {"pooling_strategy": "max"}},
        MULTI: {
            "multi_vector_encoder.modules.MultiVectorMask": {},
            "base.modules.Normalize": {"module_input_name": "token_embeddings"},
        },
    }[task]
    names = ["base.modules.Transformer", *behind]
    paths = ["", *(f"{i}_{name.rpartition('.')[2]}" for i, name in enumerate(behind, start=1))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{name}"}
        for i, (path, name) in enumerate(zip(paths, names))
    ]
    of = {"transformer_task": "fill-mask"} if task == SPARSE else {}
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": POSITIONS, **of},
        "config_sentence_transformers.json": {"model_type": kind},
        **{f"{path}/config.json": settings for path, settings in zip(paths[1:], behind.values())},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def write_extractor(folder: Path, family: Family, task: str) -> None:
    """The settings of what prepares sounds, and for a model that writes its vocabulary of letters."""
    import transformers

    kinds: dict[str, Any] = {
        "audio-spectrogram-transformer": lambda: transformers.ASTFeatureExtractor(
            num_mel_bins=16, max_length=32
        ),
        "whisper": lambda: transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1),
        "wav2vec2-bert": transformers.SeamlessM4TFeatureExtractor,
    }
    kinds.get(family.kind, transformers.Wav2Vec2FeatureExtractor)().save_pretrained(str(folder))
    if task == SPEECH:
        tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *_LETTERS]
        file = folder / "vocab.json"
        file.write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
        transformers.Wav2Vec2CTCTokenizer(str(file)).save_pretrained(str(folder))


def shake(model: Any) -> None:
    """Random weights of the size that keeps activations near 1, and biases and norms that matter."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            for _name, weight in module.named_parameters(recurse=False):
                if weight.dim() < 2:
                    weight.add_(torch.randn_like(weight), alpha=0.1)
                elif isinstance(module, torch.nn.Embedding):
                    weight.normal_()
                else:
                    weight.normal_(0.0, weight[0].numel() ** -0.5)
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
        model.tie_weights()


def write_tokenizer(
    folder: Path, family: Family, special: tuple[str, ...] = _BERT, types: bool = False
) -> None:
    """A tokenizer of the family's kind, of `VOCABULARY` tokens, saved through transformers."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if family.kind == "canine":  # of its own kind: characters, with no tokenizer.json
        transformers.CanineTokenizer().save_pretrained(str(folder))
        return
    words = [*special]
    roles = dict(zip(("pad", "unk", "cls", "sep", "mask"), special))
    if special is _ROBERTA:
        roles = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    if family.tokenizer == "wordpiece":
        words += [*_LETTERS, *(f"##{c}" for c in _LETTERS)]
        words += [f"w{i}" for i in range(VOCABULARY - len(words))]
        tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token=roles["unk"]))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif family.tokenizer == "bpe":
        words += [*_LETTERS, "Ġ"]
        merges = [("Ġ", c) for c in _LETTERS] + [(a, b) for a, b in itertools.pairwise(_LETTERS)]
        words += [a + b for a, b in merges]
        words = words[:VOCABULARY]
        merges = [(a, b) for a, b in merges if a + b in words]
        tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        words += ["▁", *_LETTERS, *(f"▁{c}" for c in _LETTERS)]
        words += [f"▁w{i}" for i in range(VOCABULARY - len(words))]
        scores = [0.0 if w in special else -1.0 if w.startswith("▁") else -5.0 for w in words]
        tokenizer = Tokenizer(models.Unigram(list(zip(words, scores)), unk_id=words.index(roles["unk"])))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    ids = {token: words.index(token) for token in (roles["cls"], roles["sep"])}
    cls, sep = roles["cls"], roles["sep"]
    if "causal-lm" not in family.tasks:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} {sep if special is _ROBERTA else ''} $B:1 {sep}:1".replace("  ", " "),
            special_tokens=list(ids.items()),
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", *["token_type_ids"][: int(types)], "attention_mask"],
        padding_side="left" if family.left else "right",
        **{f"{role}_token": token for role, token in roles.items()},
    ).save_pretrained(str(folder))


def _image_size(config: Any) -> int:
    """The size that the model takes, as its configuration says."""
    of = getattr(config, "vision_config", config)
    size = getattr(of, "image_size", None) or 32
    return size[0] if isinstance(size, list | tuple) else size
