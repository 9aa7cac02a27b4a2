"""What is asked for an answer: something that makes calls of upstreams.

``chat_completions`` does; docs/adding-an-upstream.md shows how to write another. Which service is
called, an ``answers.upstream.Upstream`` says.
"""

from __future__ import annotations

from typing import Protocol

from ..answers.producer import Call
from ..answers.question import Question
from ..answers.session import StreamSession


class Caller(Protocol):
    """Makes the calls of one application."""

    def call(self, question: Question, session: StreamSession) -> Call:
        """Prepare one call, which the producer opens; must not block.

        The call moves the session on (``StreamSession.enter``), fills it (``take``) and looks at
        its flag.

        :raises Refusal: if the question can't be put to anybody.
        """

    def close(self) -> None:
        """Let go of what is kept between calls. Running calls are not affected."""
