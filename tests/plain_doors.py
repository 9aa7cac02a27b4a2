"""gunicorn's own settings, and a port for each worker (:mod:`tests.doors`)."""

from .doors import open_door as post_worker_init

__all__ = ["post_worker_init"]
