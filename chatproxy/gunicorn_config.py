"""Settings for gunicorn: ``gunicorn -c python:chatproxy.gunicorn_config wsgi:app``.

gunicorn imports this in its master, before the gevent worker patches; so nothing here may import
``requests`` or ``ssl``.
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
from .cluster.local import run_dir
from .config import Settings
from .errors import ConfigError
from .server.gunicorn.rotation import Rotation

try:
    # The key may as well be in the application's config, which is not known here.
    _settings = Settings.load({}, os.environ)
except ConfigError as error:
    sys.exit(f"chatproxy: {error}")


def _raise_descriptor_limit(wanted: int) -> int:
    """Have as many descriptors as the system allows, up to ``wanted``; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft


worker_class = "gevent"
# A Stop is a connection of its own. It must find a place beside the answers, as many readers who
# have come back, and a third of all that may be on the way (``server.gunicorn.worker``).
worker_connections = 3 * _settings.max_sessions + 300
# Beside the clients' sockets: DeepSeek's, each twice while it connects, and the worker's own.
_WANTED_DESCRIPTORS = worker_connections + 2 * _settings.max_sessions + 100
_descriptors = _raise_descriptor_limit(_WANTED_DESCRIPTORS)
# None is accepted for which there is no descriptor: half of them are for clients.
worker_connections = min(worker_connections, max(1, _descriptors // 2))

_rotation = Rotation()
# gunicorn waits a little longer than the running answers may.
graceful_timeout = int(_settings.grace) + 10


def on_starting(server: Any) -> None:
    """Refuse to preload: ``requests`` and ``ssl`` would be imported before gevent patches them.

    And choose where the workers will meet, before there are any.
    """
    if server.cfg.preload_app:
        sys.exit("chatproxy: gunicorn's preload_app cannot be used with the gevent worker.")
    run_dir.of_master(os.getpid())


def post_worker_init(worker: Any) -> None:
    """Serve clients fairly, lend their sockets to the answers, leave Ctrl-C to the master.

    A terminal sends that to both; told twice, a gevent worker ends with a traceback.
    """
    # Not before gevent has patched.
    from .server import direct_write  # noqa: PLC0415
    from .server.gunicorn.worker import adopt  # noqa: PLC0415

    if direct_write.fits(worker.cfg):
        worker.wsgi = direct_write.lending(worker.wsgi)
    else:
        worker.log.warning("chatproxy: gunicorn is not as known; events take the way through it.")
    if not adopt(worker, _settings.body_timeout, _rotation):
        worker.log.warning(
            "chatproxy: this worker is not gunicorn's gevent worker as known; a client that sends "
            "without pause can hold up the others."
        )
    for app in scopes.applications():  # the others may ask before the first request comes
        app.extensions["chatproxy"].attend()
    _have_garbage_collected_seldom()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _have_garbage_collected_seldom() -> None:
    """Have the garbage collector look at everything seldom, as nobody is served meanwhile.

    That takes 17 ms with what is there when a worker begins, which is there to stay, and 100 ms
    with a thousand streams. An answer that ends is freed without it.
    """
    gc.collect()
    gc.freeze()
    youngest, young, _ = gc.get_threshold()
    # Ten times as many objects before a look at the youngest, and as seldom one at everything.
    gc.set_threshold(10 * youngest, young, 100)


def when_ready(server: Any) -> None:
    """Warn of what would make a Stop, or many answers, fail."""
    if _descriptors < _WANTED_DESCRIPTORS:
        server.log.warning(
            "chatproxy: %d sessions need up to %d file descriptors, and the limit is %d.",
            _settings.max_sessions,
            _WANTED_DESCRIPTORS,
            _descriptors,
        )


def on_exit(server: Any) -> None:
    """Remove the directory in which the workers met."""
    if not _settings.run_dir:
        for path in run_dir.of_master(os.getpid(), server.cfg.uid):
            shutil.rmtree(path, ignore_errors=True)
