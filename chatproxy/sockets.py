"""Sockets of somebody else's, by their descriptors: gevent's, TLS's, a server's.

Their own methods do more than they say: a ``shutdown`` of gevent's or of TLS's sockets ends their
own state too. What is done here is a system call, and nothing else.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: An address to connect to, as ``socket.getaddrinfo`` has it.
Address = tuple[Any, ...]


@contextmanager
def plain_socket(descriptor: int) -> Iterator[_socket.socket]:
    """The system's view of a socket, which is not closed. What family it says it has means nothing.

    (To be told the family, Python would ask the system three times.)
    """
    plain = _socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield plain
    finally:
        plain.detach()


def shut(sock: socket.socket) -> None:
    """Shut down a connection in both directions; a socket that is closed already is no error."""
    if (descriptor := sock.fileno()) >= 0:
        shut_down(descriptor)


def shut_down(descriptor: int, how: int = socket.SHUT_RDWR) -> None:
    """Shut down a connection, or a half of it; what is gone already is no error."""
    with suppress(OSError), plain_socket(descriptor) as plain:
        plain.shutdown(how)
