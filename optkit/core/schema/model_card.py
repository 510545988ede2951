"""README.md of a checkpoint: the license that it states at its head, as the hub's model cards do."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import TypeAdapter

from optkit.core.reading import read_text
from optkit.core.schema.base import without_plugins
from optkit.core.schema.manifest import License

_MOST_BYTES = 2**20


def stated_license(folder: Path) -> str | None:
    """The license in the front matter of README.md, such as apache-2.0; None where it states none.

    Source: the Hugging Face hub's model cards (`license`, and `license_name` where that is `other`).
    """
    try:
        text = read_text(folder / "README.md", ValueError, _MOST_BYTES).replace("\r\n", "\n")
        head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        lines = re.findall("^(license|license_name):[ \t]*[\"']?([^\n\"'#]*)", head[1] if head else "", re.M)
        facts = {key: value.strip() for key, value in lines}
        stated = facts.get("license")
        if stated == "other":
            stated = facts.get("license_name", stated)
        with without_plugins():
            adapter = TypeAdapter(License)
        return adapter.validate_python(stated)
    except ValueError:
        return None
