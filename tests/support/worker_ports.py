"""The package's settings for gunicorn, and a port for each worker beside the one that all share.

Which worker gets a connection to the shared port is up to the kernel: one of them may have hundreds
in a row.
"""

import os
import socket

from chatproxy import gunicorn_config
from chatproxy.gunicorn_config import *  # noqa: F403


def open_port(worker):
    """Have a worker listen at a port of its own, and say which."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=worker.cfg.backlog)
    worker.sockets.append(listener)
    worker.log.info("Worker %d listens at port %d too.", os.getpid(), listener.getsockname()[1])


def post_worker_init(worker):
    gunicorn_config.post_worker_init(worker)
    open_port(worker)
