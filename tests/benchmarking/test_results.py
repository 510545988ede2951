from __future__ import annotations

from optkit.benchmarking.results import doubts_of, failed_row


def test_a_report_tells_where_attention_is_plain_and_what_it_costs():
    plain, fused = failed_row("export-onnx", None), failed_row("other", None)
    note = "plain, since the fused graph is wrong; it takes 1.2 (512 tokens) times as long as that"
    plain.notes = {"attention": "plain", "attention_note": note}
    fused.notes = {"attention": "fused"}
    assert doubts_of([fused, plain]) == [f"export-onnx: attention is {note}."]


def test_a_model_without_attention_leaves_no_doubt_about_it():
    row = failed_row("export-onnx", None)
    row.notes = {"attention": "none", "attention_note": "plain, since it takes none from transformers"}
    assert doubts_of([row]) == []
