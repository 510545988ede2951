"""griffe: the doctests of a docstring as blocks of code, so that they are shown as what they are."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

_DOCTEST = re.compile(r"^>>> .*(?:\n(?!$).*)*", re.M)


class Doctests(Extension):
    """Put fences around every doctest."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Change the docstring of `obj` in place, where it has one."""
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(lambda m: f"```python\n{m[0]}\n```", obj.docstring.value)
