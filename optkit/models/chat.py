"""Chat: messages written into the template that lies beside a model's tokenizer.

A template is a program of a stranger. It runs in a sandbox, and that in a process whose memory and time are
bounded: `optkit.models.chat_worker`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from optkit.core.process import Child
from optkit.errors import DataError, WorkerError

#: The longest that a template may take, in seconds.
TIMEOUT_S = 10.0
#: A message: its role, and what is said.
Message = Mapping[str, Any]


class ChatTemplate:
    """`source` in Jinja, which may name the special `tokens` (`bos_token`, ...). Threads may share it."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self._source, self._tokens = source, dict(tokens)
        self._lock = threading.Lock()
        self._child: Child | None = None

    def render(self, messages: Sequence[Message], place: int = 0) -> str:
        """The prompt behind which the model's answer comes, as transformers' `apply_chat_template` writes it.

        Raises DataError for messages that are none (with their `place` among the inputs), and where the
        template refuses them, fails or does not end.
        """
        plain = [_plain(message, place) for message in messages]
        if not plain:
            raise DataError(f"Expected at least one message at position {place}, received none.")
        with self._lock:
            if self._child is None:
                self._child = Child("optkit.models.chat_worker", timeout_s=TIMEOUT_S)
            try:
                text = self._child.call("render", source=self._source, tokens=self._tokens, messages=plain)
            except WorkerError as reason:
                self._child.close()
                self._child = None
                raise DataError(
                    f"The model's chat template did not end within {TIMEOUT_S:g} s and 1 GiB of memory.",
                    hint="Write the prompt yourself: /v1/completions, or predict with a text.",
                ) from reason
        return str(text)

    def __del__(self) -> None:
        if child := getattr(self, "_child", None):
            child.close()


def is_chat(item: object) -> bool:
    """Whether an input is a list of messages."""
    return isinstance(item, (list, tuple)) and all(isinstance(message, Mapping) for message in item)


def _plain(message: Message, place: int) -> dict[str, str]:
    """The message as templates know it: its content one text, where it came in parts."""
    role, content = message.get("role"), message.get("content")
    if isinstance(content, (list, tuple)):
        parts = [part for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        texts = [text for part in parts if isinstance(text := part.get("text"), str)]
        content = "\n".join(texts) if len(texts) == len(content) else None
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(
            f"Expected messages with a role and a content of text at position {place}, received one of "
            f"{', '.join(sorted(map(str, message))) or 'nothing'}.",
            hint='Such as {"role": "user", "content": "Hello"}.',
        )
    name = message.get("name")
    return {"role": role, "content": content, **({"name": name} if isinstance(name, str) else {})}
