"""The tables in the README and the docs, drawn from results/*.json. Run: python benchmarks/tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. `tests/test_readme.py` compares what is
written there with what this gives.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
BETWEEN = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(\n?<!-- end -->)", re.S)


def sst2_int8(file: str = "sst2_int8") -> str:
    report = results(file)
    lines = [
        "| | size | accuracy, paired change [95%] | ms, own lengths | speedup [95%] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in report["rows"]:
        latency = next(x for x in row["latency"] if (x["batch"], x["tokens"]) == (1, "data"))
        score, speed = f"{row['score']:.4f}", "1"
        if row["drop"]:
            score += f", {change(row['drop'])}"
        if row["speedup"]:
            speed = times(row["speedup"])
        name = f"**{row['name']}**" if row["name"] == report["chosen"] else row["name"]
        lines.append(
            f"| {name} | {row['size_bytes'] / 1e6:.1f} MB | {score} | {latency['p50_ms']:.1f} | {speed} |"
        )
    return "\n".join(lines)


def aa() -> str:
    found = results("aa")
    lines = [
        "| plan | false claims | slowdown of 5% found | smallest found in 9 of 10 | time |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, plan in found["plans"].items():
        lines.append(
            f"| {name}: {plan['processes']} processes × {plan['rounds']} rounds "
            f"| {plan['false_claims']} of {plan['comparisons']} "
            f"| {plan['found']} of {plan['comparisons']} (it came out as {plan['injected']:.1%}) "
            f"| {plan['smallest']:.1%} | {plan['seconds']:.0f} s |"
        )
    return "\n".join(lines)


def kills() -> str:
    lines = ["| command | killed | in the exchange of `--force` | same bytes | left behind |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for verb, found in results("kills")["verbs"].items():
        runs = found["kills"]
        swaps = sum(run["during"].startswith("the swap") for run in runs)
        same = sum(run["same_bytes"] and run["exit_code"] == found["exit_code"] for run in runs)
        left = sum(len(run["left_behind"]) for run in runs)
        lines.append(f"| {verb} | {len(runs)} | {swaps} | {same} of {len(runs)} | {left} |")
    return "\n".join(lines)


def together() -> str:
    lines = ["| model | batch × tokens | alone, ms | together, ms | alone / together [95%] |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for x in results("trust")["together"]:
        shape, ratio = x["shape"].replace("x", " × "), x["alone_over_together"]
        lines.append(
            f"| {x['model']} | {shape} | {x['alone_ms']:.1f} | {x['together_ms']:.1f} "
            f"| {ratio:.2f} [{x['low']:.2f}, {x['high']:.2f}] |"
        )
    return "\n".join(lines)


def busy() -> str:
    runs = results("trust")["busy"]
    lines = ["| run | " + " | ".join(runs[0]["speedups"]) + " | marked |"]
    lines.append("| --- |" + " ---: |" * len(runs[0]["speedups"]) + " --- |")
    for run in runs:
        shown = [f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, low, high in run["speedups"].values()]
        marked = "UNSTABLE" if any(d.startswith("UNSTABLE") for d in run["doubts"]) else "no"
        name = "beside a busy loop" if run["busy_loop"] else "quiet"
        lines.append(f"| {name} | {' | '.join(shown)} | {marked} |")
    return "\n".join(lines)


def change(drop: dict[str, float]) -> str:
    """A paired drop (`drop` or `value` is the estimate) as the change that it is, with its interval."""
    estimate = drop["value"] if "value" in drop else drop["drop"]
    return f"{0 - estimate:+.4f} [{-drop['high']:+.4f}, {-drop['low']:+.4f}]"


def times(ratio: dict[str, float]) -> str:
    """How many times as fast, with its interval."""
    return f"{ratio['value']:.1f}× [{ratio['low']:.1f}, {ratio['high']:.1f}]"


def gpu_precisions() -> str:
    lines = [
        "| | validation (872), change [95%] | test (1,821), change [95%] | same answers, test |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in results("gpu_precisions")["rows"]:
        if "error" in row:
            continue
        cells = []
        for split in ("validation", "test"):
            found = row["splits"][split]
            cells.append(f"{found['accuracy']:.4f}, {change(found)}")
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['splits']['test']['agreement']:.1%} |")
    return "\n".join(lines)


def int8_accuracy() -> str:
    lines = [
        "| INT8 | validation (872), change [95%] | logits | test (1,821), change [95%] | same, test |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results("int8_accuracy")["rows"]:
        first, second = (row["splits"][split] for split in ("validation", "test"))
        lines.append(
            f"| {row['name']} | {first['score']:.4f}, {change(first)} | {first['logits_mse']:.4f} "
            f"| {second['score']:.4f}, {change(second)} | {second['agreement']:.1%} |"
        )
    return "\n".join(lines)


def prune() -> str:
    """One-shot and distilled models of SST-2, by what was removed; each cell as one row."""
    lines = [
        "| removed | what | validation (872), change [95%] | test (1,821), change [95%] | time, memory |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    rows = []
    for key, cell in results("prune_oneshot")["cells"].items():
        criterion, share = key.split(":")
        rows.append((float(share), f"{criterion}, no training", cell))
    for key, cell in results("prune_distill")["cells"].items():
        name, share, step = key.split(":")
        if name == "sst2":
            rows.append((float(share), _STEPS.get(step, step), cell))
    for share, what, cell in sorted(rows, key=lambda row: row[0]):
        scores = []
        for split in ("validation", "test"):
            found = cell[split]
            scores.append(f"{found.get('score', found.get('accuracy')):.4f}, {change(found['drop'])}")
        peak = f", {cell['peak_rss_bytes'] / 1e9:.1f} GB" if cell["peak_rss_bytes"] else ""
        time = f"{cell['seconds']:.0f} s" if cell["seconds"] else ""
        lines.append(f"| {share:.0%} | {what} | {' | '.join(scores)} | {time}{peak} |")
    return "\n".join(lines)


def prune_others() -> str:
    """Banking77 and WNUT-17 pruned and distilled, against their unpruned models."""
    found = results("prune_distill")
    lines = ["| data, removed | what | validation, change [95%] | test, change [95%] | time, memory |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for key, cell in found["cells"].items():
        name, share, step = key.split(":")
        if name == "sst2":
            continue
        cells = [
            f"{cell[split]['score']:.4f}, {change(cell[split]['drop'])}" for split in ("validation", "test")
        ]
        lines.append(
            f"| {name}, {float(share):.0%} | {_STEPS.get(step, step)} | {' | '.join(cells)} "
            f"| {cell['seconds']:.0f} s, {cell['peak_rss_bytes'] / 1e9:.1f} GB |"
        )
    return "\n".join(lines)


def prune_speed() -> str:
    """Median ms and factor over torch fp32 of each INT8 model, by shape."""
    rows = results("prune_speed")["sst2"]["rows"]
    lines = ["| | 1 x 128 | own lengths, one at a time | text in, label out |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for row in rows:
        cells = []
        for shape in ("1x128", "1xdata", "1xtext"):
            found, ratio = row["shapes"][shape], row["shapes"][shape]["speedup"]
            cells.append(f"{found['p50_ms']:.2f} ms")
            if row is not rows[0]:
                cells[-1] += f", {ratio['value']:.1f} [{ratio['low']:.1f}, {ratio['high']:.1f}]"
        engine, _, share = row["name"].partition("-int8-")
        name = f"{_ENGINES[engine]}, INT8, {float(share):.0%} removed" if share else "torch fp32, unpruned"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chain() -> str:
    """SST-2 pruned, distilled and quantized: what each model cost on test, and its factor by shape."""
    lines = [
        "| | accuracy on test, change [95%] | 1 x 128 tokens | own lengths |",
        "| --- | ---: | ---: | ---: |",
    ]
    timed = {row["name"]: row["shapes"] for row in results("prune_speed")["sst2"]["rows"]}
    for key, cell in results("prune_distill")["cells"].items():
        name, share, step = key.split(":")
        engine = {"quantize-dynamic": "onnxruntime", "open-vino-int8": "openvino"}.get(step)
        if name == "sst2" and engine:
            cells = [f"{cell['test']['score']:.4f}, {change(cell['test']['drop'])}"]
            for shape in ("1x128", "1xdata"):
                ratio = timed[f"{engine}-int8-{share}"][shape]["speedup"]
                cells.append(times(ratio))
            lines.append(f"| {float(share):.0%} removed, INT8 in {_ENGINES[engine]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def peers() -> str:
    """Median ms per shape, and how many times as fast optkit is, for whatever was timed."""
    found = results("peers")["time"]
    shapes = list(found["best_peer"])
    lines = [
        f"| ms (optkit is N times as fast, 95%) | {' | '.join(shapes)} |",
        "| --- |" + " ---: |" * len(shapes),
    ]
    for name, row in found["rows"].items():
        cells = []
        for shape in shapes if "error" not in row else ():
            cell, ratio = f"{row[shape]['p50_ms']:.2f}", row[shape]["optkit_times_as_fast"]
            if ratio:
                cell += f" ({ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}])"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells or ['failed'] * len(shapes))} |")
    for name, share in found["roofline_share"].items():
        cells = [f"{share[s]:.0%}" if s in share else "" for s in shapes]
        lines.append(f"| optkit's share of the INT8 roofline, {name} work | {' | '.join(cells)} |")
    return "\n".join(lines)


def text_peers(task: str) -> str:
    """Score and times of each candidate from text to answer, and how many times as fast optkit is."""
    found = results("text_peers")["tasks"].get(task, {}) if _there("text_peers") else {}
    if not {"score", "time"} <= found.keys():
        return "Not measured yet."
    timed, many = found["time"]["candidates"], f"{found['time']['batch']} in one call"
    metric = "ROUGE-L" if task == "text2text" else "nDCG@10"
    lines = [
        f"| ms (optkit is N times as fast, 95%) | {metric}, change [95%] | one by one | {many} |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, scored in found["score"].items():
        cells = [f"{scored['score']:.4f}, {change(scored['drop'])}" if "score" in scored else "failed"]
        for kind in ("one", "many"):
            if kind not in timed.get(name, {}):
                cells.append("failed")
                continue
            cell, ratio = f"{timed[name][kind]['ms']:.1f}", timed[name][kind]["optkit_times_as_fast"]
            if ratio:
                cell += f" ({ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}])"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def finetune() -> str:
    """What was fine-tuned, and what INT8 cost it on test, paired against the checkpoint in torch."""
    lines = [
        "| data, flags | metric | validation | test, fp32 | dynamic | static | OpenVINO | minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, case in results("finetune").items():
        cells = []
        for row in ("quantize-dynamic", "quantize-static", "open-vino-int8"):
            drop = case.get("test_drop", {}).get(row)
            cells.append(change(drop) if drop else "not run")
        lines.append(
            f"| {name} `{case['flags']}` | {case['metric']} | {case['validation']:.4f} "
            f"| {case['test']['torch-fp32']:.4f} | {' | '.join(cells)} "
            f"| {case['finetune_seconds'] / 60:.0f} |"
        )
    return "\n".join(lines)


def wnut17() -> str:
    """Per label and per word, as scikit-learn prints it, on the test split."""
    lines = ["| | precision | recall | F1 | support |", "| --- | ---: | ---: | ---: | ---: |"]
    for x in results("finetune")["wnut17"]["test_table"]:
        shown = " | ".join(f"{x[key]:.3f}" for key in ("precision", "recall", "f1"))
        lines.append(f"| {x['label']} | {shown} | {x['support']:,} |")
    return "\n".join(lines)


def no_answer() -> str:
    """F1 by kind of question for every model, on the test split."""
    lines = [
        "| | F1, HasAns | F1, NoAns | F1, all | exact, all | given no answer |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, table in results("no_answer")["test"].items():
        parts = {x["label"]: x for x in table}
        shown = [f"{parts[part]['f1']:.3f}" for part in ("HasAns", "NoAns", "all")]
        every = parts["all"]
        shown += [f"{every['exact_match']:.3f}", f"{every['no_answer']} of {every['support']}"]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def peers_made() -> str:
    """What each peer's model costs in accuracy, and what making it took."""
    found = results("peers")
    lines = [
        "| | validation, change [95%] | test, change [95%] | making it, s | peak, GB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, scores in found.get("score", {}).items():
        made, cells = found["make"].get(name, {}), []
        for split in ("validation", "test"):
            one = scores.get(split, {})
            drop = one.get("drop")
            shown = f"{one['accuracy']:.4f}" if "accuracy" in one else "failed"
            cells.append(f"{shown}, {change(drop)}" if drop else shown)
        seconds, peak = made.get("seconds"), made.get("peak_rss_bytes")
        cells += ["" if seconds is None else f"{seconds:.0f}", "" if peak is None else f"{peak / 1e9:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, made in found["make"].items():
        if made["error"]:
            lines.append(f"| {name} | failed: `{made['error'].strip().splitlines()[-1][:160]}` | | | |")
    return "\n".join(lines)


def text_tasks() -> str:
    """What `--int8` chose for each task, beside the checkpoint and beside the library's own API."""
    if not (HERE / "results" / "text_tasks.json").exists():
        return "Not measured yet."
    lines = ["| task | metric | fp32 | INT8, change [95%] | MB | over torch [95%] | over the library [95%] |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for task, found in results("text_tasks").items():
        first, row = next(iter(found["rows"].values())), found["rows"][found["chosen"]]
        score = f"{row['score']:.4f}, {change(row['drop'])}"
        speeds = times(row["speedup"]["1xdata"]), times(found["library_over_artifact"]["ratio"])
        size = f"{first['size_bytes'] / 1e6:.0f} → {row['size_bytes'] / 1e6:.0f}"
        cells = task, found["metric"], f"{first['score']:.4f}", score, size, *speeds
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def serve() -> str:
    """Answers per second of each server over the rounds."""
    lines = ["| server | answers per second, median | range | p50, ms | p99, ms |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for x in results("serve_compare")["servers"]:
        rates = x["per_second"]
        lines.append(
            f"| {x['name']} | {x['median_per_second']:.0f} | {min(rates):.0f}–{max(rates):.0f} "
            f"| {x['p50_ms']:.0f} | {x['p99_ms']:.0f} |"
        )
    return "\n".join(lines)


def serve_ratios() -> str:
    lines = ["| answers per second of | over those of | times [95%] |", "| --- | --- | ---: |"]
    for x in results("serve_compare")["ratios"]:
        lines.append(f"| {x['of']} | {x['to']} | {x['ratio']:.2f} [{x['low']:.2f}, {x['high']:.2f}] |")
    return "\n".join(lines)


#: Names of steps in the table `prune`.
_STEPS = {
    "prune": "kprune, no training",
    "distill": "then distilled",
    "distill-unfinished": "then distilled, stopped in the last of 5 epochs",
    "quantize-dynamic": "then INT8, ONNX Runtime",
    "open-vino-int8": "then INT8, OpenVINO",
}
_ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def other_cpu() -> str:
    rows = results("other_cpu")["rows"]
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    lines = ["| | " + " | ".join(machines) + " |", "| --- |" + " ---: |" * len(machines)]
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = []
        for row in (x for x in rows if x["model"] == model):
            changed = f", {row['labels_changed']} labels" if row["labels_changed"] else ""
            cells.append(f"{max(row['differences']):.1g}{changed}, {row['cpu_seconds']:.2f} s")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def retrieval() -> str:
    lines = ["| model | vectors | bytes | nDCG@10, change [95%] | recall@1 | recall@10, change [95%] |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for i, row in enumerate(results("retrieval")["rows"]):
        cells = []
        for metric in ("ndcg@10", "recall@10"):
            drop, low, high = row[f"{metric} drop"]
            cells.append(
                f"{row[metric]:.3f}" + (f", {0 - drop:+.3f} [{-high:+.3f}, {-low:+.3f}]" if i else "")
            )
        size, first = f"{row['bytes_per_document']:,}", f"{row['recall@1']:.3f}"
        lines.append(f"| {row['model']} | {row['search']} | {size} | {cells[0]} | {first} | {cells[1]} |")
    return "\n".join(lines)


TABLES = {
    "retrieval": retrieval,
    "other-cpu": other_cpu,
    "sst2-int8": sst2_int8,
    "sst2-int8-amx": lambda: sst2_int8("sst2_int8_amx"),
    "aa": aa,
    "kills": kills,
    "together": together,
    "busy": busy,
    "gpu-precisions": gpu_precisions,
    "int8-accuracy": int8_accuracy,
    "prune": prune,
    "prune-others": prune_others,
    "prune-speed": prune_speed,
    "chain": chain,
    "peers": peers,
    "peers-made": peers_made,
    **{
        f"text-peers-{task}": partial(text_peers, task)
        for task in ("embeddings", "rerank", "sparse-embeddings", "text2text")
    },
    "finetune": finetune,
    "no-answer": no_answer,
    "wnut17": wnut17,
    "text-tasks": text_tasks,
    "serve": serve,
    "serve-ratios": serve_ratios,
}


def _there(name: str) -> bool:
    return (HERE / "results" / f"{name}.json").exists()


def results(name: str) -> Any:
    return json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))


def pages() -> list[Path]:
    return [ROOT / "README.md", HERE / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def drawn(text: str) -> str:
    """A page's text with every table drawn anew."""
    return BETWEEN.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n<!-- end -->", text)


if __name__ == "__main__":
    for page in pages():
        page.write_text(drawn(page.read_text(encoding="utf-8")), encoding="utf-8")
