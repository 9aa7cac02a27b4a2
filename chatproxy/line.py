"""The line of one call to DeepSeek: what is open now, and how to shut it from any thread.

Ending a blocked ``requests`` call from outside by ``response.close()`` does not work: under gevent
it raises, under threads it blocks, and before the headers there is no response at all. What works
everywhere is to shut the *socket* down; the blocked reader then comes back by itself. So every
call to DeepSeek has a ``Line``: it is handed each socket before that connects, and ``abort`` shuts
it down. Until the connection is made, the line keeps a duplicate of its descriptor: that reaches
the connection under any layer that is put on top (a TLS handshake detaches the socket it was
given), and can't be closed or used again by somebody else in the meantime. From then on the socket
itself will do, which knows when it is closed.
"""

from __future__ import annotations

import _socket
import ipaddress
import os
import queue
import socket
import threading
import typing
from collections.abc import Callable
from contextlib import suppress

from .body import Body
from .errors import Aborted

#: As ``socket.getaddrinfo`` has them.
Address = tuple[typing.Any, ...]


class Line:
    """The way to DeepSeek of one call: what is open now, and how to shut it.

    :param on_sent: called each time that a request has been sent.
    """

    def __init__(self, on_sent: Callable[[], None]) -> None:
        self.on_sent = on_sent
        self._lock = threading.Lock()
        #: Set once this call may have no socket any more.
        self.aborted = False
        self._duplicate: int | None = None
        self._socket: socket.socket | None = None
        #: The answer that came on it last, where there is one.
        self.body: Body | None = None
        self._wake: Callable[[], None] | None = None

    def abort(self) -> None:
        """Shut the socket down and end every wait, now and later. Never blocks or raises."""
        with self._lock:
            self.aborted = True
            if self._duplicate is not None:
                _shut_down(self._duplicate)
            elif self._socket is not None and (descriptor := self._socket.fileno()) >= 0:
                _shut_down(descriptor)
            if self._wake is not None:
                self._wake()

    def connecting(self, sock: socket.socket) -> None:
        """Make ``sock``, which is about to be connected, the one that ``abort`` shuts.

        :raises Aborted: where ``abort`` came first.
        """
        self._attach(sock, os.dup(sock.fileno()))

    def connected(self, sock: socket.socket) -> None:
        """The same with one on which the request can be sent: nothing is put upon it any more.

        :raises Aborted: where ``abort`` came first.
        """
        self._attach(sock, None)

    def _attach(self, sock: socket.socket, duplicate: int | None) -> None:
        with self._lock:
            self._release()
            self._duplicate, self._socket = duplicate, sock
            if self.aborted:
                self._release()
                raise Aborted

    def close(self) -> None:
        """Let go of the socket."""
        with self._lock:
            self._release()

    def resolve(self, host: str, port: int, timeout: float | None) -> list[Address]:
        """What ``socket.getaddrinfo`` says, unless ``abort`` comes first.

        The look-up itself can't be ended, so it has a thread of its own that may be left behind.

        :raises Aborted: where ``abort`` came first.
        :raises TimeoutError: after ``timeout`` seconds.
        :raises OSError: where the name can't be resolved.
        """
        with suppress(ValueError):
            family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
            return [(family, socket.SOCK_STREAM, 0, "", (host, port))]
        answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
        with self._lock:
            if self.aborted:
                raise Aborted
            self._wake = lambda: answers.put(OSError("aborted"))

        def look_up() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                answers.put(error)
            except UnicodeError as error:
                answers.put(OSError(str(error)))

        threading.Thread(target=look_up, name="chatproxy-resolve", daemon=True).start()
        try:
            answer = answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        finally:
            with self._lock:
                self._wake = None
        if self.aborted:
            raise Aborted
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _release(self) -> None:
        if self._duplicate is not None:
            os.close(self._duplicate)
        self._duplicate = self._socket = None


def _shut_down(descriptor: int) -> None:
    plain = plain_socket(descriptor)
    try:
        plain.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        plain.detach()


def plain_socket(descriptor: int) -> _socket.socket:
    """A socket of the plain type, not gevent's: each call is a system call and nothing more.

    What family it has does not matter to these calls. It has to be detached.
    """
    return _socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
