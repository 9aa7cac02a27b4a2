"""Words through a Unix socket: to ask, and to answer whoever asks.

A question is one line of JSON, and so is its answer; each has a connection of its own.
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

#: The longest question and answer, in bytes.
_LONGEST = 1 << 20
#: Seconds that whoever has connected may take to ask.
_PATIENCE = 2.0
_BACKLOG = 1024
#: Why nothing can be accepted for a while.
_SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}
)

Answer = Callable[[Message], Message]


class WorkerEnded(Exception):
    """Nobody is behind a socket any more: its worker has ended."""


# ---- to ask -------------------------------------------------------------------------------------


def ask(path: Path, question: Message, seconds: float) -> Message:
    """Ask the worker behind a socket.

    :raises WorkerEnded: where it has ended.
    :raises PeersUnavailable: where no answer came within ``seconds``.
    """
    end = time.monotonic() + seconds
    with _connect(path, end) as connection:
        try:
            _write(connection, question)
            return _read(connection, end)
        except (OSError, ValueError):
            raise PeersUnavailable("Another worker did not answer.", retry_after=1) from None


def is_open(path: Path) -> bool:
    """Whether somebody is behind a socket, who need not answer."""
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


# ---- to answer ----------------------------------------------------------------------------------


def listen(path: Path) -> socket.socket:
    """A socket at a path where nothing is."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    # Whatever is forked from this process later must not keep the socket open beyond its end:
    # it would look like a worker that lives and does not answer.
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
    answer: weakref.WeakMethod[Answer],
    look: Callable[[], None],
    pause: float,
) -> None:
    """Answer whoever connects, in a thread each, until the listener is shut down.

    :param look: called every ``pause`` seconds.
    """
    next_look = 0.0
    while True:
        try:
            listener.settimeout(pause)
            connection, _ = listener.accept()
            _begin_reply(connection, answer)
        except TimeoutError:
            pass
        except OSError as error:
            if error.errno not in _SHORTAGES:
                return
            time.sleep(0.1)
        if time.monotonic() >= next_look:
            look()
            next_look = time.monotonic() + pause


def _begin_reply(connection: socket.socket, answer: weakref.WeakMethod[Answer]) -> None:
    thread = threading.Thread(
        target=_reply, args=(connection, answer), name="chatproxy-answer", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # no more threads can be had at present
        connection.close()


def _reply(connection: socket.socket, reference: weakref.WeakMethod[Answer]) -> None:
    with connection, suppress(OSError, ValueError):
        question = _read(connection, time.monotonic() + _PATIENCE)
        answer = reference()
        if answer is not None:
            _write(connection, answer(question))


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

    :raises OSError: where it has not come by ``end``.
    :raises ValueError: where it is none.
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
