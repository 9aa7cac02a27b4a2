"""The client's socket has gone: a callback, at once and without a write.

WSGI alone tells of it only at the next write. But the servers below leave the client's socket where
it can be found, and an end shows as a socket that is readable with nothing to read. A client that
has closed only its sending half counts as gone. Data means that the client sent its next request
early; then there is no telling any more, and the watch ends. The same goes for a TLS connection
that this server itself ends, whose goodbye is data. An ASGI server behind a2wsgi has no socket to
look at, but says so if it is asked. Any other server, and HTTP/2, whose
connections carry several requests, notice by the heartbeat that can't be written.

A client that takes nothing of what is sent to it is dropped (``stalls``), and has gone then.

This module, ``readiness`` and ``resolver`` are the only importers of gevent.
"""

from __future__ import annotations

import fcntl
import logging
import os
import selectors
import socket
import struct
import sys
import termios
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gevent
from gevent import monkey

from ..sockets import plain_socket
from .stalled_clients import StallWatch

logger = logging.getLogger("chatproxy")

_SOCKET_KEYS = (
    "gunicorn.socket",  # gunicorn's gevent, gthread and sync workers
    "gunicorn.sock",  # gunicorn's gevent_pywsgi worker
    "werkzeug.socket",  # the development server of Flask
)


class Watch(Protocol):
    """A watch on one client."""

    def stop(self) -> None:
        """End it, before the server closes the socket. May be called twice."""


class DisconnectWatcher:
    """Watches the clients of one application.

    :param timeout: seconds after which a client is dropped that takes nothing of what is sent.
    """

    def __init__(self, timeout: float) -> None:
        self._stalls = StallWatch(timeout)
        self._selector = _SelectorThread()

    def watch(self, environ: dict[str, Any], on_gone: Callable[[], None]) -> Watch | None:
        """Have ``on_gone`` called once when the client of this request has gone.

        :param environ: the request's WSGI environment.
        :returns: None where the server does not tell where the socket is.
        """
        if environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2"):
            return None
        body = environ.get("wsgi.input")
        if "asgi.scope" in environ and hasattr(body, "receive") and hasattr(body, "loop"):
            return _AsgiWatch(body, on_gone)
        sock = client_socket(environ)
        if sock is None or sock.fileno() < 0:
            return None
        self._stalls.watch(sock.fileno())
        if monkey.is_module_patched("socket"):
            return _GeventWatch(sock.fileno(), on_gone)
        return self._selector.watch(sock.fileno(), on_gone)


def client_socket(environ: dict[str, Any]) -> Any:
    """The client's socket; None if it can't be had, or carries several requests, as in HTTP/2."""
    if environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2"):
        return None
    for key in _SOCKET_KEYS:
        if key in environ:
            return environ[key]
    waitress = environ.get("waitress.client_disconnected")
    if waitress is not None:
        return getattr(waitress, "__self__").socket  # noqa: B009 - its channel
    uwsgi = sys.modules.get("uwsgi")  # it puts itself there, in its own processes
    if uwsgi is not None:
        return _Descriptor(uwsgi.connection_fd())
    # gevent.pywsgi and cheroot: the body is read from a file upon the socket.
    return getattr(environ.get("wsgi.input"), "rfile", None)


class _Descriptor(NamedTuple):
    """A socket of which no more than the number is known."""

    number: int

    def fileno(self) -> int:
        return self.number


class _AsgiWatch:
    """Asks the ASGI server behind a2wsgi what comes next: by its own words a disconnect."""

    def __init__(self, body: Any, on_gone: Callable[[], None]) -> None:
        import asyncio  # noqa: PLC0415 - it is there already, and in no other server

        self._receive = body.receive
        self._on_gone = on_gone
        self._asked = asyncio.run_coroutine_threadsafe(self._wait(), body.loop)

    def stop(self) -> None:
        self._asked.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the rest of a body
        # Not here: the event loop must not wait for a lock or a log.
        threading.Thread(target=self._on_gone, name="chatproxy-gone", daemon=True).start()


def _nothing_to_read(descriptor: int) -> bool:
    """Whether a socket that is readable has come to its end."""
    waiting = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    if struct.unpack("i", waiting) != (0,):
        return False
    with plain_socket(descriptor) as sock:
        # Takes the error away, so that a server that is writing finds an ordinary closed
        # connection; gunicorn logs a traceback for a connection that timed out.
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return True


class _GeventWatch:
    """A watcher of gevent's event loop."""

    def __init__(self, descriptor: int, on_gone: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_gone = on_gone
        self._watcher = gevent.get_hub().loop.io(descriptor, 1)
        self._watcher.start(self._readable)

    def stop(self) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _readable(self) -> None:
        self._watcher.stop()
        if _nothing_to_read(self._descriptor):
            # Not here: the event loop itself must not wait for a lock or a log.
            gevent.spawn(self._on_gone)


class _SelectorWatch:
    """A watch of the thread below, on the socket that is behind a descriptor now."""

    def __init__(
        self, thread: _SelectorThread, descriptor: int, on_gone: Callable[[], None]
    ) -> None:
        self._thread = thread
        self._inode = os.fstat(descriptor).st_ino
        self.descriptor = descriptor
        self.on_gone = on_gone

    def stop(self) -> None:
        self._thread.forget(self)

    def at_end(self) -> bool:
        """Whether the client has gone, or the server has closed the socket under the watch."""
        try:
            return self.closed() or _nothing_to_read(self.descriptor)
        except OSError:
            return True  # closed just now

    def closed(self) -> bool:
        try:
            return os.fstat(self.descriptor).st_ino != self._inode
        except OSError:
            return True


class _SelectorThread:
    """The same without gevent: one thread for all clients, which lives while there are any.

    Werkzeug may close a socket without closing the answer that was being written to it, and a
    selector does not tell of a closed socket. So the thread also looks for such once a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[int, _SelectorWatch] = {}
        self._selector: selectors.BaseSelector | None = None
        self._bell: socket.socket | None = None

    def watch(self, descriptor: int, on_gone: Callable[[], None]) -> Watch:
        watch = _SelectorWatch(self, descriptor, on_gone)
        with self._lock:
            replaced = self._watches.get(descriptor)
            if replaced is not None:
                self._drop(replaced)
            self._watches[descriptor] = watch
            selector = self._selector or self._start()
            selector.register(descriptor, selectors.EVENT_READ)
        if replaced is not None:
            replaced.on_gone()
        return watch

    def forget(self, watch: _SelectorWatch) -> None:
        with self._lock:
            if self._watches.get(watch.descriptor) is watch:
                self._drop(watch)
                if not self._watches and self._bell is not None:
                    self._bell.send(b"\0")

    def _start(self) -> selectors.BaseSelector:
        selector = self._selector = selectors.DefaultSelector()
        self._bell, ear = socket.socketpair()
        selector.register(ear, selectors.EVENT_READ)
        threading.Thread(
            target=self._run, args=(selector, ear), name="chatproxy-disconnect", daemon=True
        ).start()
        return selector

    def _drop(self, watch: _SelectorWatch) -> None:
        assert self._selector is not None
        self._selector.unregister(watch.descriptor)
        del self._watches[watch.descriptor]

    def _run(self, selector: selectors.BaseSelector, ear: socket.socket) -> None:
        over = False
        while not over:
            selector.select(1.0)
            with self._lock:
                gone = self._take_gone(selector, ear)
                over = not self._watches
                if over and self._bell is not None:
                    self._bell.close()
                    self._selector = self._bell = None
            for watch in gone:
                self._tell(watch)
        selector.close()
        ear.close()

    @staticmethod
    def _tell(watch: _SelectorWatch) -> None:
        try:
            watch.on_gone()
        except Exception:  # the thread is there for all the others too
            logger.exception("What was to happen when a client had gone failed")

    def _take_gone(
        self, selector: selectors.BaseSelector, ear: socket.socket
    ) -> list[_SelectorWatch]:
        # What select said before may be about sockets that were closed or replaced since. So it is
        # asked again, now that no watch can be stopped.
        gone = [watch for watch in self._watches.values() if watch.closed()]
        for key, _ in selector.select(0):
            if key.fileobj is ear:
                ear.recv(64)
                continue
            watch = self._watches[key.fd]
            if watch.at_end():
                gone.append(watch)
            else:
                self._drop(watch)
        gone = list(dict.fromkeys(gone))
        for watch in gone:
            self._drop(watch)
        return gone
