"""Calls of an upstream whose bytes are looked at as they come, whatever they say."""

from __future__ import annotations

from collections.abc import Callable

from chatproxy.answers.coroutines import Coroutine
from chatproxy.answers.question import Question
from chatproxy.answers.session import StreamSession
from chatproxy.upstreams.chat_completions import ChatCompletionCall, ChatCompletions
from chatproxy.upstreams.chunks import ChunkReader


class Pieces(ChunkReader):
    """Has ``take`` called with each piece; where that returns False, no more is read for now."""

    def __init__(self, take: Callable[[bytes], bool]) -> None:
        super().__init__()
        self._take = take
        self._wanted = True

    @property
    def over(self) -> bool:
        return not self._wanted

    def read(self, piece: bytes) -> list[bytes]:
        self._wanted = self._take(piece)
        return []

    def end(self) -> list[bytes]:
        self.done = True
        self._wanted = False
        return []


def call_for_pieces(
    upstream: ChatCompletions,
    session: StreamSession,
    take: Callable[[bytes], bool],
    body: bytes = b"{}",
) -> ChatCompletionCall:
    call = ChatCompletionCall(upstream, Question(body), lambda *_: Pieces(take), session)
    session.on_cancel(call.abort)
    return call


def whole(call: ChatCompletionCall) -> Coroutine[bool]:
    """Open the call and receive."""
    call.open()
    return (yield from call.receive())
