"""Bounds: how many tokens a question and its answer can have at most, and how to make it fewer.

Nobody knows how many tokens a question has before it is answered. But no tokenizer makes more of a
text than it has bytes in UTF-8, and the JSON of a text has at least as many. So the length of the
body is a bound, with something for what a service puts around the messages. Rules:

* An image counts as ``IMAGE_TOKENS``, whatever its size, and the bytes of its address or data as
  none. So does a file, a recording, and whatever else is no text; but their bytes count as well,
  since some are read as text. This is assumed, not known.
* The answer is bounded by ``max_tokens``, which every service keeps to, and by
  ``max_completion_tokens`` as well if the client has sent that: some services know only the first,
  some want the second. Both say the same. Whatever else is in the body stays as its client has sent
  it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..errors import InvalidRequest
from . import chat_request, surrogates
from .chat_request import Payload

#: The tokens that one image is taken for.
IMAGE_TOKENS = 4096
#: What a service may put around the messages, in tokens; and around tools.
_AROUND = 256
_AROUND_TOOLS = 1024
#: More tokens than any answer has, and few enough to reckon with.
_ENOUGH = 10**9
#: What the most tokens of an answer are called: by DeepSeek, and by OpenAI since 2024.
_NAMES = ("max_tokens", "max_completion_tokens")

_COUNT = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=1)] | None)
_NOTHING = msgspec.Raw(b"")
_TEXT = b'"text"'
_IMAGE = b'"image_url"'


class _Part(msgspec.Struct, gc=False):
    type: msgspec.Raw = _NOTHING
    image_url: msgspec.Raw = _NOTHING


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NOTHING


_MESSAGES = msgspec.json.Decoder(list[_Message])
_PARTS = msgspec.json.Decoder(list[_Part])


class Bounds:
    """The bounds of one question.

    :param body: of a chat completion, already checked.
    :param choices: how many choices its answer has.
    :ivar prompt: the most tokens that the question can have.
    :ivar completion: the most that the client wants of the answer, of all choices together; None if
        it does not say.
    :raises InvalidRequest: if it says so, or how many choices it wants, but not by a whole number.
    """

    def __init__(self, body: bytes, choices: int) -> None:
        self._choices = choices
        self._fields = chat_request.fields_of(body)
        around = _AROUND + (_AROUND_TOOLS if "tools" in self._fields else 0)
        self.prompt = len(body) + around + _of_parts(self._fields)
        _count_in(self._fields, "n")  # the service might take a wrong one for what it looks like
        given = [_count_in(self._fields, name) for name in _NAMES]
        wanted = [min(each, _ENOUGH) * choices for each in given if each is not None]
        self.completion = min(wanted) if wanted else None

    def limited(self, most: int) -> bytes:
        """The body with so many tokens as the most of the answer, of all choices together."""
        names = [_NAMES[0], *(name for name in _NAMES[1:] if name in self._fields)]
        most = most if self.completion is None else min(most, self.completion)
        each = dict.fromkeys(names, most // self._choices)
        return chat_request.complete({**self._fields, **each}, "")  # it has a model


def _count_in(fields: Payload, name: str) -> int | None:
    if name not in fields:
        return None
    try:
        found: int | None = _COUNT.decode(fields[name])
    except msgspec.DecodeError:
        raise InvalidRequest(f"'{name}' must be a whole number greater than 0.") from None
    return found


def _of_parts(fields: Payload) -> int:
    """What the parts of messages that are no text have beyond their bytes; less than 0 if fewer."""
    tokens = 0
    for message in _decoded(_MESSAGES, fields["messages"]):
        if bytes(message.content).startswith(b"["):
            for part in _decoded(_PARTS, message.content):
                if bytes(part.type) == _IMAGE:
                    tokens += IMAGE_TOKENS - len(bytes(part.image_url))
                elif bytes(part.type) != _TEXT:
                    tokens += IMAGE_TOKENS
    return tokens


def _decoded(decoder: Any, text: msgspec.Raw) -> Any:
    try:
        return surrogates.decoded(decoder.decode, bytes(text))[0]
    except msgspec.ValidationError:
        return ()  # parts that are no objects: the service refuses them, or reads them as text
