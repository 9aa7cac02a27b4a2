"""Sockets that are waited for: one, and so many that always have something to read."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from chatproxy.answers.coroutines import Coroutine, Readable
from chatproxy.server.event_loop import CoroutineRunner

from .waiting import PATIENCE, wait_for

MANY = 200


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        theirs.settimeout(PATIENCE)
        yield ours, theirs


def wait(sock: Any, step: Callable[[], bool]) -> Coroutine[str]:
    """A coroutine that waits once."""
    yield Readable(sock, step)
    return "gone on"


class Many:
    """Coroutines that wait on sockets that always have something to read."""

    def __init__(self) -> None:
        self.coroutines = CoroutineRunner()
        #: Whose steps were taken, one after the other.
        self.steps: list[int] = []
        self._over = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        with ExitStack() as stack:
            pairs = [stack.enter_context(pair()) for _ in range(MANY)]
            for number, (ours, theirs) in enumerate(pairs):
                theirs.sendall(b"x")
                step = partial(self._peek, number, ours)
                self.coroutines.spawn(wait(ours, step))
            yield
            self._over = True
            wait_for(lambda: all(ours.gettimeout() == PATIENCE for ours, _ in pairs))

    def _peek(self, number: int, sock: socket.socket) -> bool:
        assert sock.recv(1, socket.MSG_PEEK) == b"x"
        self.steps.append(number)
        return not self._over
