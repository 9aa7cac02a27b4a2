"""Waiting for bytes: a step that is taken each time that a socket has something to read.

Under gevent the event loop itself takes the step, so that an event costs no switch to a greenlet
and back. Without gevent the calling thread takes it, again and again, on a socket that blocks.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import gevent
from gevent import monkey
from gevent.hub import Waiter

#: What a socket that does not block says where it has nothing.
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def each_time_readable(sock: socket.socket, step: Callable[[], bool]) -> None:
    """Have ``step`` called, now and each time that there is something to read, until it is False.

    It reads from ``sock``, once, and must not wait for anything else. What it raises is raised
    here. Meanwhile, under gevent, ``sock`` does not block.
    """
    if not monkey.is_module_patched("socket"):
        while step():
            pass
        return
    before = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        if _step_while_there_is_something(sock, step):
            _have_the_loop_step(sock, step)
    finally:
        sock.settimeout(before)


def _step_while_there_is_something(sock: socket.socket, step: Callable[[], bool]) -> bool:
    """Step until there is nothing yet, or, as the return value says, it is enough."""
    try:
        while step():
            if not _may_hold_more(sock):
                return True
    except _NOTHING_YET:
        return True
    return False


def _may_hold_more(sock: socket.socket) -> bool:
    """Whether TLS may have taken something already, of which the operating system does not tell."""
    if isinstance(sock, ssl.SSLSocket):
        return sock.pending() > 0
    return not isinstance(sock, socket.socket)  # but urllib3's own, for TLS within TLS


def _have_the_loop_step(sock: socket.socket, step: Callable[[], bool]) -> None:
    hub = gevent.get_hub()
    waiter: Waiter[None] = Waiter(hub)
    watcher = hub.loop.io(sock.fileno(), 1)

    def readable() -> None:
        try:
            if _step_while_there_is_something(sock, step):
                return
        except BaseException as error:  # it is the waiting greenlet's
            watcher.stop()
            waiter.throw(error)
        else:
            watcher.stop()
            waiter.switch(None)

    watcher.start(readable)
    try:
        waiter.get()
    finally:
        watcher.stop()
        watcher.close()
