"""gunicorn's own settings, and a port for each worker (:mod:`tests.support.worker_ports`)."""

from .worker_ports import open_port as post_worker_init

__all__ = ["post_worker_init"]
