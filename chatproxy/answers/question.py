"""The question that an upstream is asked, as the application has prepared it."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """One question: the JSON of a chat completion, and how many choices its answer has."""

    body: bytes
    choices: int = 1
