"""The report as JSON: the truth that every other format is drawn from."""

from __future__ import annotations

import json
import re

from optkit.core.files import finite
from optkit.report.model import Report

_SURROGATE = re.compile("[\ud800-\udfff]")


def render(report: Report) -> str:
    """`report.to_dict()`, keys in the order of the dataclasses.

    NaN and infinities, which RFC 8259 does not know, are null. Half a surrogate pair (a file name
    that is not UTF-8 can hold one) is written as its escape, so that the text can be encoded.
    """
    value = report.to_dict()
    if report.fidelity:
        value = {"fidelity": report.fidelity, **value}
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    if report.fidelity:  # in the first line, as in every other format
        text = text.replace("{\n  ", "{ ", 1)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
