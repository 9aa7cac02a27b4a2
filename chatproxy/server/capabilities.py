"""The WSGI server of this process: what can't work under it is said once, at the first request.

docs/servers.md has a row for each server that was tried. Two things can be mended from here:

* A server that answers each request in one of a few threads (gunicorn's gthread worker, waitress)
  could have all of them taken by streams, and a Stop would wait for one to end. So one thread is
  left to Stops: a stream that would take the last is refused.
* Granian looks at the status as soon as it is called, not when there is an item.

The rest is a warning: a server that takes one request at a time, gevent that patched too late,
several processes that can't find each other, a bridge from ASGI that hides whether the client is
there.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..answers.shares import SlotPool
from ..config import Settings

logger = logging.getLogger("chatproxy")

Environ = dict[str, Any]

_ONE_AT_A_TIME = (
    "This server takes one request at a time in each process: a Stop waits until a running answer "
    "has ended."
)
_FEW_THREADS = (
    "This server answers in %d threads, and each stream takes one: %d may run at once, so that one "
    "thread is left to Stops."
)
_NOT_PATCHED = (
    "gevent's server runs without gevent's patches: one silent answer makes everybody wait. Patch "
    "before all other imports (gevent.monkey.patch_all())."
)
_PATCHED_LATE = (
    "gevent has patched after requests was imported: a Stop may hang, and https:// fails. Patch "
    "first, and do not preload the application."
)
_APART = (
    "If this server has several processes, a Stop does not find the answers of the others: name a "
    "directory that they share in CHATPROXY_RUN_DIR."
)
_HIDES_CLIENTS = (
    "This server does not tell when a client has left: its answer goes on, and costs, to its end."
)
_SEE = " docs/servers.md tells which servers can do it all."


class Server:
    """What is known of the server of this process, from its first request on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: int | None = None
        self._pool: SlotPool | None = None

    def meet(self, environ: Environ) -> None:
        """Look at the server, once in each process, and say what can't work."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        threads = threads_of(environ)
        self._pool = SlotPool(threads - 1) if threads else None
        for sentence in shortcomings(environ, self._settings):
            logger.warning(sentence + _SEE)
        if threads and threads <= self._settings.max_sessions:
            logger.warning(_FEW_THREADS + _SEE, threads, threads - 1)

    def take_thread(self) -> Callable[[], None]:
        """Take a thread for a stream, if the server has but a few.

        :returns: how to give it back; may be called twice.
        :raises TooManySessions: if only one is left.
        """
        return self._pool.take() if self._pool is not None else _nothing


def _nothing() -> None:
    pass


def reads_status_at_once(environ: Environ) -> bool:
    """Tell whether a server wants a status before it asks for the first item (against PEP 3333)."""
    return bool(environ.get("SERVER_SOFTWARE") == "Granian")


def threads_of(environ: Environ) -> int | None:
    """How many threads the server answers in, if it has a few and tells; at least 2."""
    worker = _gunicorn_worker()
    if worker is not None and type(worker).__name__ == "ThreadWorker":
        threads = worker.cfg.threads
    else:
        channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
        threads = channel.server.adj.threads if channel is not None else 0
    return threads if isinstance(threads, int) and threads > 1 else None


def shortcomings(environ: Environ, settings: Settings) -> Iterator[str]:
    """What can't work under the server of a request, a sentence for each."""
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


def _gunicorn_worker() -> Any:
    """The worker that this process is, if it is one of gunicorn's: its signal handlers tell."""
    worker = getattr(signal.getsignal(signal.SIGABRT), "__self__", None)
    modules = [kind.__module__ for kind in type(worker).__mro__]  # with our settings it is ours
    return worker if any(module.startswith("gunicorn.") for module in modules) else None


def _is_gevent(environ: Environ, worker: Any) -> bool:
    software = str(environ.get("SERVER_SOFTWARE", ""))
    kinds = [kind.__name__ for kind in type(worker).__mro__]
    return software.startswith("gevent") or any(name.startswith("Gevent") for name in kinds)


def _is_blind_bridge(environ: Environ) -> bool:
    """Tell uvicorn's own bridge from ASGI and hypercorn's, which hand the body over as a whole."""
    whole = isinstance(environ.get("wsgi.input"), io.BytesIO) and "SERVER_SOFTWARE" not in environ
    return whole and bool(environ.get("wsgi.multithread"))


def _holds_unpatched_ssl() -> bool:
    """Tell whether urllib3 was imported before gevent put its own ``SSLContext`` in place."""
    urllib3_ssl = sys.modules.get("urllib3.util.ssl_")
    return getattr(urllib3_ssl, "SSLContext", ssl.SSLContext) is not ssl.SSLContext


def _takes_one_at_a_time(environ: Environ, worker: Any) -> bool:
    if environ.get("wsgi.multithread"):
        return type(worker).__name__ == "ThreadWorker" and worker.cfg.threads < 2
    # A client for tests has neither.
    return "SERVER_SOFTWARE" in environ or bool(environ.get("wsgi.multiprocess"))
