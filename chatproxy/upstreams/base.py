"""What an upstream is to the rest: something that answers a question, and can be aborted.

``chat_completions`` is one; docs/adding-an-upstream.md shows how to write another.
"""

from __future__ import annotations

from typing import Protocol

from ..answers.producer import Call
from ..answers.question import Question
from ..answers.session import StreamSession


class Upstream(Protocol):
    """A service that answers."""

    def call(self, question: Question, session: StreamSession) -> Call:
        """Prepare one call, which the producer opens; must not block.

        The call moves the session on (``StreamSession.enter``), fills it (``take``) and looks at
        its flag.
        """

    def close(self) -> None:
        """Let go of what is kept between calls. Running calls are not affected."""
