"""The process that counts tokens: ``python -m chatproxy.accounting.counter <tokenizer>``.

It reads requests from its standard input and writes replies to its standard output, one after the
other, each a line of JSON: ``{"model", "question", "said"}`` in, ``[prompt, completion]`` or
``null`` out. It ends with its input. A tokenizer in Python takes some microseconds a token and
holds up its whole process, so it has one of its own (``tokenizers``).

A *tokenizer* is a function ``(model, text) -> int | None``: the number of tokens, None if it does
not know the model. It is named as ``module:function``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

Tokenizer = Callable[[str, str], "int | None"]

#: What DeepSeek puts around a message, and at the beginning and the end of a question, in tokens:
#: the role, and before all of it a mark; after it the assistant's turn and the way of thinking.
_AROUND_MESSAGE = 1
_AROUND_ALL = 3


def load(name: str) -> Tokenizer:
    """The tokenizer of this name.

    :raises ImportError, AttributeError, ValueError: if there is none.
    """
    module, _, function = name.partition(":")
    found: Tokenizer = getattr(importlib.import_module(module), function)
    return found


def texts_of(question: dict[str, Any]) -> Iterator[str]:
    """What a model reads of a question: all that its messages say, and what the answer may be.

    :raises ValueError: if it has more than text, such as an image.
    """
    for message in question["messages"]:
        for name, value in message.items():
            if name == "content" and isinstance(value, list):
                yield from map(_text_of_part, value)
            elif name != "role" and value:
                yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    for name in ("tools", "functions", "response_format"):
        if value := question.get(name):
            yield json.dumps(value, ensure_ascii=False)


def _text_of_part(part: Any) -> str:
    if not isinstance(part, dict) or not isinstance(text := part.get("text"), str):
        raise ValueError(part)  # noqa: TRY004 - it is sound, and can't be counted
    return text


def count(tokenizer: Tokenizer, request: dict[str, Any]) -> tuple[int, int] | None:
    """The tokens of a question and of what was said; None if they can't be counted."""
    model, said = request["model"], request["said"]
    completion = tokenizer(model, said)
    if completion is None:
        return None
    question = json.loads(request["question"])
    prompt = sum(tokenizer(model, text) or 0 for text in texts_of(question))
    around = _AROUND_MESSAGE * len(question["messages"]) + _AROUND_ALL
    return prompt + around, completion


def main() -> None:
    """Answer requests until there are no more."""
    tokenizer = load(sys.argv[1])
    for line in sys.stdin.buffer:
        try:
            reply = count(tokenizer, json.loads(line))
        except Exception:  # the next question may be a better one
            reply = None
        sys.stdout.buffer.write(json.dumps(reply).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # who has asked is gone
        main()
