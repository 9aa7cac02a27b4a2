"""The question that an answer is to, as the application has prepared it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Question(NamedTuple):
    """One question.

    ``body`` is the JSON of a chat completion, ``choices`` how many choices its answer has. ``run``
    is the name of the run that answers it, "" if an upstream does. ``context`` is what the
    application wants to know of it later.
    """

    body: bytes
    choices: int = 1
    run: str = ""
    context: dict[str, Any] | None = None
