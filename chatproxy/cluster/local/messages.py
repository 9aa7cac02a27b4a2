"""Requests and replies on Unix sockets: how they are framed, sent and awaited, on both sides.

A request is one line of JSON, and so is its reply. Each request has a connection of its own.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...errors import PeersUnavailable
from ..peers import Message

#: The longest request and reply, in bytes.
_LONGEST = 1 << 20
#: Seconds in which a request must have come after the connection.
PATIENCE = 2.0
_BACKLOG = 1024
#: Errors of ``accept`` that pass by themselves.
_SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}
)

Handler = Callable[[Message], Message]


class WorkerEnded(Exception):
    """Nobody listens at a socket any more: its worker has ended."""


# ---- to ask -------------------------------------------------------------------------------------


def ask(path: Path, request: Message, seconds: float) -> Message:
    """Send a request to the worker that listens at a socket, and wait for its reply.

    :raises WorkerEnded: if none listens there.
    :raises PeersUnavailable: if no reply came within ``seconds``.
    """
    end = time.monotonic() + seconds
    with _connect(path, end) as connection:
        try:
            _write(connection, request)
            return _read(connection, end)
        except (OSError, ValueError):
            raise PeersUnavailable("Another worker did not answer.", retry_after=1) from None


def is_listening(path: Path) -> bool:
    """Whether a worker listens at a socket; it need not reply."""
    try:
        with _connect(path, time.monotonic()):
            return True
    except WorkerEnded:
        return False
    except PeersUnavailable:
        return True


def _connect(path: Path, end: float) -> socket.socket:
    connection = None
    try:
        connection = socket.socket(socket.AF_UNIX)
        while True:
            connection.settimeout(max(0.001, end - time.monotonic()))
            try:
                connection.connect(str(path))
            except BlockingIOError:  # its queue is full
                if time.monotonic() >= end:
                    raise
                time.sleep(0.01)
            else:
                return connection
    except OSError as error:
        if connection is not None:
            connection.close()
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            raise WorkerEnded from None
        raise PeersUnavailable("Another worker could not be asked.", retry_after=1) from None


# ---- to reply -----------------------------------------------------------------------------------


def listen(path: Path) -> socket.socket:
    """A listening socket at a path where nothing is yet."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    # A process that is forked from this one must not keep the socket open beyond its end: it would
    # look like a worker that lives and does not reply.
    os.register_at_fork(after_in_child=partial(_disown, weakref.ref(listener)))
    return listener


def _disown(reference: weakref.ref[socket.socket]) -> None:
    listener = reference()
    if listener is not None and listener.fileno() >= 0:
        # Not closed: its number would be used again, and closed once more with the object.
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), listener.fileno(), inheritable=False)


def accept(
    listener: socket.socket,
    handler: weakref.WeakMethod[Handler],
    look: Callable[[], None],
    pause: float,
) -> None:
    """Answer each connection in a thread of its own, until the listener is shut down.

    :param look: called every ``pause`` seconds.
    """
    next_look = 0.0
    while True:
        try:
            listener.settimeout(pause)
            connection, _ = listener.accept()
            _begin_reply(connection, handler)
        except TimeoutError:
            pass
        except OSError as error:
            if error.errno not in _SHORTAGES:
                return
            time.sleep(0.1)
        if time.monotonic() >= next_look:
            look()
            next_look = time.monotonic() + pause


def _begin_reply(connection: socket.socket, handler: weakref.WeakMethod[Handler]) -> None:
    thread = threading.Thread(
        target=_reply, args=(connection, handler), name="chatproxy-reply", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # no more threads can be had at present
        connection.close()


def _reply(connection: socket.socket, reference: weakref.WeakMethod[Handler]) -> None:
    with connection, suppress(OSError, ValueError):
        request = _read(connection, time.monotonic() + PATIENCE)
        handler = reference()
        if handler is not None:
            _write(connection, handler(request))


def shut_down(listener: socket.socket) -> None:
    """Close a socket, and end the thread that accepts at it."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# ---- both ---------------------------------------------------------------------------------------


def _write(connection: socket.socket, message: Message) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket, end: float) -> Message:
    """One line of JSON, as a dictionary.

    :raises OSError: if it has not come by ``end``.
    :raises ValueError: if it is none.
    """
    line = b""
    while not line.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = connection.recv(_LONGEST)
        line += piece
        if not piece or len(line) > _LONGEST:
            raise ValueError("no whole line")
    try:
        message = json.loads(line)
    except RecursionError:
        message = None
    if isinstance(message, dict):
        return message
    raise ValueError("not an object")
