"""What the WSGI server of this process can't do: found out, and said once, at the first request.

docs/servers.md has a row for each server that was tried. Two shortcomings are mended here:

* A server that answers each request in one of a few threads (gunicorn's gthread worker, waitress)
  could have all of them taken by streams, and by bodies that come slowly; a Stop would then wait
  for one to end. So one thread is kept for Stops: whoever else would take the last one is refused.
* Granian needs the status when the application returns, not when the first item is asked for. So
  there a response that begins late begins in ``beginning_at_once``, around the application: still
  outside of the request.

Of the others the log warns: a server that takes one request at a time, gevent that patched too
late, processes that can't find each other, a bridge from ASGI that hides whether the client is
still there.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..answers.drain import TELL_SECONDS
from ..answers.shares import SlotPool
from ..config import Settings
from ..errors import TooManySessions
from ..sockets import shut_down
from .direct_write import WSGIApplication
from .disconnect import client_socket

logger = logging.getLogger("chatproxy")

Environ = dict[str, Any]

#: Seconds that a drain takes after its grace, and the server to end after that.
_ENDING_SECONDS = TELL_SECONDS + 1.0

_ONE_AT_A_TIME = (
    "This server takes one request at a time in each process: a Stop waits until a running answer "
    "has ended."
)
_FEW_THREADS = (
    "This server answers in %d threads, and each stream takes one: %d may run at once, so that one "
    "thread is left for Stops."
)
_NOT_PATCHED = (
    "gevent's server runs without gevent's patches: one silent answer holds up all others. Call "
    "gevent.monkey.patch_all() before all other imports."
)
_PATCHED_LATE = (
    "gevent patched after requests had been imported: a Stop may hang, and https:// fails. Patch "
    "first, and do not preload the application."
)
_APART = (
    "If this server has several processes, a Stop does not find another one's answers: set "
    "CHATPROXY_RUN_DIR to a directory that they share."
)
_HIDES_CLIENTS = (
    "This server does not tell when a client has left: the answer goes on, and costs, to its end."
)
_SHORT_GRACE = (
    "At a SIGTERM running answers have %g seconds, not the %g of CHATPROXY_GRACE, because gunicorn "
    "ends its workers after graceful_timeout: set that to %g or more."
)
_CUTS_OFF = (
    "After max_requests this worker of gunicorn accepts nothing more, not even a Stop, and cuts "
    "off what still runs after graceful_timeout: use chatproxy's settings, which replace a worker "
    "before it ends."
)
_SEE = " See docs/servers.md for servers that can do it all."


class ServerCapabilities:
    """What is known of the server of this process, from its first request on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._process: int | None = None
        #: The threads that bodies and streams may take; None if the server does not bound them.
        self._threads: SlotPool | None = None

    def inspect(self, environ: Environ) -> None:
        """Look at the server, once in each process, and warn of what can't work."""
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process == os.getpid():
                return
            threads = threads_of(environ)
            self._threads = SlotPool(threads - 1) if threads else None
            self._process = os.getpid()
        for sentence in shortcomings(environ, self._settings):
            logger.warning(sentence + _SEE)
        if threads and threads <= self._settings.max_sessions:
            logger.warning(_FEW_THREADS + _SEE, threads, threads - 1)

    def take_thread(self) -> Callable[[], None]:
        """Take a thread for a body that comes or for a stream, if the server has only a few.

        :returns: how to give it back; may be called twice.
        :raises TooManySessions: if only one is left.
        """
        return self._threads.take() if self._threads is not None else _nothing

    def take_thread_for_body(self, environ: Environ) -> Callable[[], None]:
        """Take one as ``take_thread`` does, before the body of a request is read.

        :raises TooManySessions: if only one is left; the client is seen to send no more then.
        """
        try:
            return self.take_thread()
        except TooManySessions:
            # gthread would wait for what is unread, for five seconds in the last thread.
            client = client_socket(environ) if "gunicorn.socket" in environ else None
            if client is not None:
                shut_down(client.fileno(), socket.SHUT_RD)
            raise


def _nothing() -> None:
    pass


def beginning_at_once(application: WSGIApplication) -> WSGIApplication:
    """The application, with responses that begin before it returns if its server needs that.

    Granian has it so, against PEP 3333. What an item is awaited for may be long; the application's
    teardown has run by then.
    """

    def begin(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ.get("SERVER_SOFTWARE") != "Granian":
            return application(environ, start_response)
        begun = False

        def start(*given: Any) -> Any:
            nonlocal begun
            begun = True
            return start_response(*given)

        items = application(environ, start)
        return items if begun else _Begun(items)

    return begin


class _Begun:
    """The items of a response, of which the first is there already."""

    def __init__(self, items: Iterable[bytes]) -> None:
        self._items = items
        rest = iter(items)
        try:
            self._chain = itertools.chain(list(itertools.islice(rest, 1)), rest)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chain)

    def close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


def threads_of(environ: Environ) -> int | None:
    """In how many threads the server answers; None if they are not few, or only one."""
    worker = _gunicorn_worker()
    if worker is not None and type(worker).__name__ == "ThreadWorker":
        threads = worker.cfg.threads
    else:
        channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
        threads = channel.server.adj.threads if channel is not None else 0
    return threads if isinstance(threads, int) and threads > 1 else None


def longest_grace() -> float:
    """Seconds that answers may run on after a SIGTERM, before the server ends this process."""
    worker = _gunicorn_worker()
    if worker is None:
        return math.inf
    return max(0.0, float(worker.cfg.graceful_timeout - _ENDING_SECONDS))


def shortcomings(environ: Environ, settings: Settings) -> Iterator[str]:
    """A sentence for each thing that can't work under the server of this request."""
    worker = _gunicorn_worker()
    patched = socket.socket.__module__.startswith("gevent")
    if _is_gevent(environ, worker) and not patched:
        yield _NOT_PATCHED
    elif patched and _holds_unpatched_ssl():
        yield _PATCHED_LATE
    elif not patched and _takes_one_at_a_time(environ, worker):
        yield _ONE_AT_A_TIME
    alone = settings.peers == "local" and not settings.run_dir and worker is None
    if alone and environ.get("wsgi.multiprocess"):
        yield _APART
    if _is_blind_bridge(environ):
        yield _HIDES_CLIENTS
    if settings.grace > (longest := longest_grace()):
        yield _SHORT_GRACE % (longest, settings.grace, settings.grace + _ENDING_SECONDS)
    if worker is not None and worker.cfg.max_requests and not _is_ours(worker):
        yield _CUTS_OFF


def _gunicorn_worker() -> Any:
    """gunicorn's worker, if this process is one: its handler of SIGABRT is a method of it."""
    worker = getattr(signal.getsignal(signal.SIGABRT), "__self__", None)
    modules = [kind.__module__ for kind in type(worker).__mro__]  # ours derives from gunicorn's
    return worker if any(module.startswith("gunicorn.") for module in modules) else None


def _is_ours(worker: Any) -> bool:
    """Whether it is ``gunicorn.worker.Worker``, which only gunicorn's processes import."""
    return type(worker).__module__.startswith(f"{__package__}.")


def _is_gevent(environ: Environ, worker: Any) -> bool:
    software = str(environ.get("SERVER_SOFTWARE", ""))
    kinds = [kind.__name__ for kind in type(worker).__mro__]
    return software.startswith("gevent") or any(name.startswith("Gevent") for name in kinds)


def _is_blind_bridge(environ: Environ) -> bool:
    """Whether this is uvicorn's or hypercorn's own bridge from ASGI: the body comes as a whole."""
    whole = isinstance(environ.get("wsgi.input"), io.BytesIO) and "SERVER_SOFTWARE" not in environ
    return whole and bool(environ.get("wsgi.multithread"))


def _holds_unpatched_ssl() -> bool:
    """Whether urllib3 was imported before gevent put its own ``SSLContext`` in place."""
    urllib3_ssl = sys.modules.get("urllib3.util.ssl_")
    return getattr(urllib3_ssl, "SSLContext", ssl.SSLContext) is not ssl.SSLContext


def _takes_one_at_a_time(environ: Environ, worker: Any) -> bool:
    if environ.get("wsgi.multithread"):
        return type(worker).__name__ == "ThreadWorker" and worker.cfg.threads < 2
    # Flask's test client has neither.
    return "SERVER_SOFTWARE" in environ or bool(environ.get("wsgi.multiprocess"))
