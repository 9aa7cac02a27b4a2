"""Disconnects: a callback when the client has gone, at once and without a write.

WSGI tells of a client that left only at the next write. But most servers leave the client's socket
where it can be found (``client_socket``), and there the end of a connection shows: the socket is
readable, and there is nothing to read.

How an end is noticed:

1. ``DisconnectWatcher.watch`` watches a request's socket: under gevent by a watcher of its event
   loop, without gevent by one thread with a selector for all clients.
2. The socket becomes readable. If the system has bytes for it, the client has sent its next request
   early. Nothing more can be told then, and the watch ends. The same happens if this server itself
   ends TLS, because its client's goodbye is bytes too.
3. If there are no bytes, the client has gone. ``on_gone`` is called, outside the event loop, which
   must not wait for a lock or a log.

A client that has closed only its sending half counts as gone. A client that takes nothing of what
is sent to it is disconnected after a while (``stalled_clients``), and is noticed here like others.

Not every server has a socket to watch:

* An ASGI server behind a2wsgi says so itself when it is asked what comes next.
* HTTP/2 carries several requests on a connection, and other servers hide their sockets: there a
  heartbeat that can't be written is what tells.

Invariants:

* A watch ends before its socket is closed, because descriptors are used again. If a server closes
  a socket under a watch of the thread, the inode tells that the descriptor is another socket now.
* ``on_gone`` is called at most once. It may be on its way when ``stop`` is called.
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
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import gevent
from gevent import monkey

from .. import forks
from ..sockets import plain_socket
from .stalled_clients import StalledClients

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

    :param timeout: seconds after which a client is disconnected that takes nothing of what is sent.
    """

    def __init__(self, timeout: float) -> None:
        self._stalled = StalledClients(timeout)
        self._selector = _SelectorThread()

    def watch(self, environ: dict[str, Any], on_gone: Callable[[], None]) -> Watch | None:
        """Have ``on_gone`` called once when the client of this request has gone.

        :param environ: the request's WSGI environment.
        :returns: None if the server does not tell where the socket is.
        """
        if environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2"):
            return None
        body = environ.get("wsgi.input")
        if "asgi.scope" in environ and hasattr(body, "receive") and hasattr(body, "loop"):
            return _AsgiWatch(body, on_gone)
        sock = client_socket(environ)
        if sock is None or sock.fileno() < 0:
            return None
        self._stalled.watch(sock.fileno())
        if monkey.is_module_patched("socket"):
            return _GeventWatch(sock.fileno(), on_gone)
        return self._selector.watch(sock.fileno(), on_gone)


def client_socket(environ: dict[str, Any]) -> Any:
    """The client's socket; None if it is hidden, or carries several requests, as in HTTP/2."""
    if environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2"):
        return None
    for key in _SOCKET_KEYS:
        if key in environ:
            return environ[key]
    waitress = environ.get("waitress.client_disconnected")
    if waitress is not None:
        return getattr(waitress, "__self__").socket  # noqa: B009 - its channel
    uwsgi = sys.modules.get("uwsgi")  # uWSGI puts it there, in its own processes
    if uwsgi is not None:
        return _Descriptor(uwsgi.connection_fd())
    # gevent.pywsgi and cheroot read the body from a file on the socket.
    return getattr(environ.get("wsgi.input"), "rfile", None)


class _Descriptor(NamedTuple):
    """A socket of which only the descriptor is known."""

    number: int

    def fileno(self) -> int:
        return self.number


class _AsgiWatch:
    """Asks the ASGI server behind a2wsgi what comes next: at last it is ``http.disconnect``."""

    def __init__(self, body: Any, on_gone: Callable[[], None]) -> None:
        import asyncio  # noqa: PLC0415 - imported already, but by no other server

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
    """Whether a readable socket is at its end."""
    waiting = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    if struct.unpack("i", waiting) != (0,):
        return False
    with plain_socket(descriptor) as sock:
        # This clears the error, so that a server that is writing finds an ordinary closed
        # connection: gunicorn logs a traceback for a connection that timed out.
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
    """A watch by the thread below on the socket that a descriptor stands for now."""

    def __init__(
        self, thread: _SelectorThread, descriptor: int, on_gone: Callable[[], None]
    ) -> None:
        self._thread = thread
        self._inode = os.fstat(descriptor).st_ino
        self.descriptor = descriptor
        self.on_gone = on_gone

    def stop(self) -> None:
        self._thread.remove(self)

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
    """Watches without gevent: one thread for all clients, which lives while there are any.

    Werkzeug may close a socket without closing the answer that was being written to it, and a
    selector does not tell of a closed socket. So the thread also looks for those once a second.
    """

    def __init__(self) -> None:
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[int, _SelectorWatch] = {}
        self._selector: selectors.BaseSelector | None = None
        #: A byte sent here wakes the thread.
        self._waker: socket.socket | None = None

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

    def remove(self, watch: _SelectorWatch) -> None:
        with self._lock:
            if self._watches.get(watch.descriptor) is watch:
                self._drop(watch)
                if not self._watches and self._waker is not None:
                    with suppress(BlockingIOError):  # it is being woken already
                        self._waker.send(b"\0")

    def _start(self) -> selectors.BaseSelector:
        selector = self._selector = selectors.DefaultSelector()
        self._waker, woken = socket.socketpair()
        self._waker.setblocking(False)
        selector.register(woken, selectors.EVENT_READ)
        threading.Thread(
            target=self._run, args=(selector, woken), name="chatproxy-disconnect", daemon=True
        ).start()
        return selector

    def _drop(self, watch: _SelectorWatch) -> None:
        assert self._selector is not None
        self._selector.unregister(watch.descriptor)
        del self._watches[watch.descriptor]

    def _run(self, selector: selectors.BaseSelector, woken: socket.socket) -> None:
        over = False
        while not over:
            selector.select(1.0)
            with self._lock:
                gone = self._take_gone(selector, woken)
                over = not self._watches
                if over and self._waker is not None:
                    self._waker.close()
                    self._selector = self._waker = None
            for watch in gone:
                try:
                    watch.on_gone()
                except Exception:  # the thread is there for all the others too
                    logger.exception("The callback for a client that has gone failed")
        selector.close()
        woken.close()

    def _take_gone(
        self, selector: selectors.BaseSelector, woken: socket.socket
    ) -> list[_SelectorWatch]:
        """Take out the watches whose clients have gone, or can't be watched. With the lock held.

        What ``select`` reported before may be about sockets that were closed or replaced since. So
        it is asked again, now that no watch can be stopped.
        """
        gone = [watch for watch in self._watches.values() if watch.closed()]
        for key, _ in selector.select(0):
            if key.fileobj is woken:
                woken.recv(64)
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
