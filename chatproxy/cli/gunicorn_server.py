"""gunicorn, run from Python with our settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication


class GunicornServer(BaseApplication):
    """The standalone server.

    :param bind: the address to listen on, as gunicorn takes it.
    :param workers: how many processes.
    :param on_ready: called in the master with the server's URL when it listens.
    """

    def __init__(
        self, bind: str, workers: int, on_ready: Callable[[str], None] | None = None
    ) -> None:
        self._bind = bind
        self._workers = workers
        self._on_ready = on_ready
        super().__init__(prog="chatproxy serve")

    def load_config(self) -> None:
        """Take over ``chatproxy.gunicorn_config``, and then what the command line says."""
        from .. import gunicorn_config

        for name, value in vars(gunicorn_config).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        self.cfg.set("bind", [self._bind])
        self.cfg.set("workers", self._workers)
        if "control_socket_disable" in self.cfg.settings:
            self.cfg.set("control_socket_disable", True)
        if (on_ready := self._on_ready) is not None:
            self.cfg.set("when_ready", lambda arbiter: on_ready(str(arbiter.LISTENERS[0])))

    def load(self) -> Any:
        """The application, imported by each worker."""
        from ..app import load

        return load()
