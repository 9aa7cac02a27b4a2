"""Settings for gunicorn: ``gunicorn -c python:chatproxy.gunicorn_config wsgi:app``.

What they change: many connections, with descriptors for them; a worker made fair
(``server.gunicorn``) that lends its sockets to the answers (``server.direct_write``); a shutdown
that outlasts the running answers; and a replacement for a worker before it ends.

gunicorn imports this module in its master, before the gevent worker patches. So nothing here may
import ``requests`` or ``ssl``; a worker imports the rest in ``post_worker_init``.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
from typing import Any

from . import scopes
from .cluster.local import directories, run_dir
from .config import Settings
from .errors import ConfigError
from .observability.json_logs import JsonFormatter
from .server.gunicorn.rotation import Rotation

try:
    # The key is not required: it may be in the application's config, which is not known here.
    _settings = Settings.load({}, os.environ)
except ConfigError as error:
    sys.exit(f"chatproxy: {error}")


def _raise_descriptor_limit(wanted: int) -> int:
    """Allow ``wanted`` descriptors, or as many as the system lets us; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft


worker_class = "gevent"
# The answers, as many readers who came back, and connections whose requests are still arriving, up
# to a third of all (``server.gunicorn.worker``). A Stop has a connection of its own beside these.
worker_connections = 3 * _settings.max_sessions + 300
# The clients' sockets, DeepSeek's (each twice while it connects), and the worker's own.
_WANTED_DESCRIPTORS = worker_connections + 2 * _settings.max_sessions + 100
_descriptors = _raise_descriptor_limit(_WANTED_DESCRIPTORS)
# No connection is accepted without a descriptor for it: half of them are for clients.
worker_connections = min(worker_connections, max(1, _descriptors // 2))

if _settings.log_format == "json":
    from .server.gunicorn.logger import with_formatter

    logger_class = with_formatter(JsonFormatter())

_rotation = Rotation()
# gunicorn waits a little longer than the running answers may take.
graceful_timeout = int(_settings.grace) + 10


def on_starting(server: Any) -> None:
    """Refuse to preload; choose and check the workers' run directory before there are any.

    Preloading would import ``requests`` and ``ssl`` before gevent patches them.
    """
    if server.cfg.preload_app:
        sys.exit("chatproxy: gunicorn's preload_app cannot be used with the gevent worker.")
    directories.of_master(os.getpid())
    if server.cfg.uid == os.geteuid():  # else it would be made for the wrong user
        try:
            run_dir.check(_settings.run_dir)
        except ConfigError as error:
            sys.exit(f"chatproxy: {error}")


def post_worker_init(worker: Any) -> None:
    """Serve clients fairly, lend their sockets to the answers, leave Ctrl-C to the master.

    A terminal sends SIGINT to both. A gevent worker that is also told by the master would end with
    a traceback.
    """
    # Not before gevent has patched.
    from .server import direct_write  # noqa: PLC0415
    from .server.gunicorn.worker import adopt  # noqa: PLC0415

    if direct_write.fits(worker.cfg):
        worker.wsgi = direct_write.lending(worker.wsgi)
    else:
        worker.log.warning(
            "chatproxy: this gunicorn version is not known; events go through it, which is slower."
        )
    if not adopt(worker, _settings.body_timeout, _most_body(), _rotation):
        worker.log.warning(
            "chatproxy: this is not the gevent worker of a known gunicorn version; a client that "
            "sends without pause can hold up the others."
        )
    for app in scopes.applications():  # other workers may ask before the first request comes
        app.extensions["chatproxy"].attend()
    _collect_garbage_seldom()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _most_body() -> int:
    """Bytes of the largest body that a route of ours reads: one more than it may have."""
    kept = _settings.conversation_bytes if _settings.conversations else 0
    return max(_settings.max_body_bytes, kept) + 1


def _collect_garbage_seldom() -> None:
    """Have the garbage collector go over all objects seldom, because nobody is served meanwhile.

    It takes 17 ms for what exists when a worker begins, which will stay, and 100 ms with a thousand
    streams. An answer that ends is freed without it.
    """
    gc.collect()
    gc.freeze()
    youngest, young, _ = gc.get_threshold()
    # Ten times as many objects before a run over the youngest, and a full run as seldom as before.
    gc.set_threshold(10 * youngest, young, 100)


def when_ready(server: Any) -> None:
    """Warn if there are too few descriptors for all sessions."""
    if _descriptors < _WANTED_DESCRIPTORS:
        server.log.warning(
            "chatproxy: %d sessions need up to %d file descriptors, but the limit is %d.",
            _settings.max_sessions,
            _WANTED_DESCRIPTORS,
            _descriptors,
        )


def on_exit(server: Any) -> None:
    """Remove the directory in which the workers met."""
    if not _settings.run_dir:
        for path in directories.of_master(os.getpid(), server.cfg.uid):
            shutil.rmtree(path, ignore_errors=True)
