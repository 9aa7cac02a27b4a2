"""The question that an answer is to, as the application has prepared it."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from .upstream import Upstream

#: The model of a body, which is its first field (``chat_request.complete``).
_MODEL = re.compile(rb'\A\{"model":(?:"(?:[^"\\]|\\.)*"|null)')


#: How the name of a model begins that is a run of the application's; the run's own name follows.
RUN = "run:"


class Question(NamedTuple):
    """One question.

    ``body`` is the JSON of a chat completion without its ``stream_options``, which are apart, as
    the client has sent them: b"" if it has sent none. ``choices`` is how many choices its answer
    has, ``max_tokens`` the most tokens of all of them, None if the client does not say; ``model``
    is what the client calls the model. It is put to ``upstreams``, one after the other until one
    answers; to the one of the settings if there are none. ``run`` is the name of the run that
    answers it, "" if an upstream does. ``context`` is what the application wants to know of it
    later. ``tells_calls`` is whether the client wants to be told of the run's calls.
    """

    body: bytes
    choices: int = 1
    model: str = ""
    upstreams: tuple[Upstream, ...] = ()
    run: str = ""
    context: dict[str, Any] | None = None
    stream_options: bytes = b""
    max_tokens: int | None = None
    tells_calls: bool = False

    def body_for(self, model: str, stream_options: bytes) -> bytes:
        """The body that is sent.

        :param model: another name for the model; the client's if it is ``""``.
        :param stream_options: as JSON; none if it is empty.
        """
        body = self.body
        if model:
            named = b'{"model":%b' % json.dumps(model).encode("ascii")
            body = _MODEL.sub(lambda _: named, body, count=1)
        if stream_options:
            body = b'%b,"stream_options":%b}' % (body[:-1], stream_options)
        return body
