"""Waiting for bytes: coroutines, and steps that are taken each time a socket has something to read.

A coroutine is a generator that yields a ``Readable`` where it has to wait. Under gevent the event
loop itself takes the steps meanwhile, and the coroutine holds no greenlet: an event costs no switch
to one and back, and a silent answer not the 8 KB of its stack. Without gevent a thread takes them,
again and again, on a socket that blocks.
"""

from __future__ import annotations

import _thread
import socket
import ssl
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

import gevent
from gevent import monkey
from greenlet import greenlet

#: What a socket that does not block says where it has nothing.
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Readable(NamedTuple):
    """What to wait for: ``step`` is called, now and each time that there is something to read.

    It reads from ``sock``, once, and must not wait for anything else. When it returns False the
    coroutine goes on; what it raises is raised there. Meanwhile, under gevent, ``sock`` does not
    block.
    """

    sock: socket.socket
    step: Callable[[], bool]


_T = TypeVar("_T")
Coroutine = Generator[Readable, None, _T]


def spawn(coroutine: Coroutine[object]) -> None:
    """Run a coroutine beside this thread or greenlet."""
    if monkey.is_module_patched("socket"):
        _thread.start_new_thread(_go_on, (coroutine,))
    else:
        _thread.start_new_thread(run, (coroutine,))


def run(coroutine: Coroutine[_T]) -> _T:
    """Run a coroutine in this thread, which waits; return its value."""
    error: BaseException | None = None
    try:
        while True:
            awaited = _resume(coroutine, error)
            error = None
            try:
                while awaited.step():
                    pass
            except BaseException as raised:  # it is the coroutine's
                error = raised
    except StopIteration as end:
        value: _T = end.value
        return value
    finally:
        error = None  # it refers to this frame


def _resume(coroutine: Coroutine[object], error: BaseException | None) -> Readable:
    return next(coroutine) if error is None else coroutine.throw(error)


def _go_on(coroutine: Coroutine[object], error: BaseException | None = None) -> None:
    """Run a coroutine in this greenlet, up to where it has to wait, and leave it to the loop."""
    try:
        while True:
            awaited = _resume(coroutine, error)
            error = None
            timeout = awaited.sock.gettimeout()
            awaited.sock.settimeout(0.0)
            try:
                if _step_while_there_is_something(awaited):
                    _have_the_loop_step(coroutine, awaited, timeout)
                    return
            except BaseException as raised:
                error = raised
            awaited.sock.settimeout(timeout)
    except StopIteration:
        pass
    finally:
        error = None  # it refers to this frame


def _have_the_loop_step(
    coroutine: Coroutine[object], awaited: Readable, timeout: float | None
) -> None:
    hub = gevent.get_hub()
    watcher = hub.loop.io(awaited.sock.fileno(), 1)

    def readable() -> None:
        error: BaseException | None = None
        try:
            if _step_while_there_is_something(awaited):
                return
        except BaseException as raised:
            error = raised
        watcher.stop()
        watcher.close()
        awaited.sock.settimeout(timeout)
        try:
            # At once, not in the loop's next turn, which comes late where much is going on.
            greenlet(_go_on, hub).switch(coroutine, error)
        finally:
            error = None  # it refers to this frame

    watcher.start(readable)


def _step_while_there_is_something(awaited: Readable) -> bool:
    """Step until there is nothing yet, or, as the return value says, it is enough."""
    try:
        while awaited.step():
            if not _may_hold_more(awaited.sock):
                return True
    except _NOTHING_YET:
        return True
    return False


def _may_hold_more(sock: socket.socket) -> bool:
    """Whether TLS may have taken something already, of which the operating system does not tell."""
    if isinstance(sock, ssl.SSLSocket):
        return sock.pending() > 0
    return not isinstance(sock, socket.socket)  # but urllib3's own, for TLS within TLS
