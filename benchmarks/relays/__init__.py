"""chatproxy, and the relays that are measured beside it.

Each of the others is what a competent person has after an hour: the software's own way to pass a
stream on, set up for many streams in one process. nginx alone is no alternative, as it stops
nothing but what the client leaves: it shows the least that a relay can cost.

``python -m benchmarks.relays`` installs them.
"""

from __future__ import annotations

import os
import platform
import pwd
import secrets
import sys
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from ..processes import gunicorn
from .environments import NodePackages, PythonPackages, Unavailable, program, said_by
from .relay import KEY, MOST_STREAMS, Launch, Relay, RunningRelay

__all__ = ["ALL", "PROTOCOLS", "Earlier", "Relay", "RunningRelay", "Unavailable", "find"]

_HERE = Path(__file__).parent


class _Chatproxy(Relay):
    name = "chatproxy"
    title = "chatproxy"

    def install(self) -> None:
        """It is here."""

    def versions(self) -> dict[str, str]:
        names = ("chatproxy", "gunicorn", "gevent", "requests")
        return {**{name: version(name) for name in names}, "Python": platform.python_version()}

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        return Launch(
            [sys.executable, "-m", "chatproxy", "serve", "--bind", f"127.0.0.1:{port}"],
            {
                "DEEPSEEK_BASE_URL": upstream_url,
                "DEEPSEEK_API_KEY": KEY,
                "CHATPROXY_MAX_SESSIONS": MOST_STREAMS,
                "CHATPROXY_GRACE": 0.5,  # matters only when it is told to end
            },
        )


class _OpenAI(_Chatproxy):
    """chatproxy as OpenAI's clients ask it."""

    name = "openai"
    title = "chatproxy, OpenAI's protocol"
    path = "/v1/chat/completions"


class Earlier(_Chatproxy):
    """chatproxy as it was, with what is installed now.

    :param checkout: the folder of an earlier commit.
    """

    name = "earlier"
    title = "chatproxy, earlier"

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout.resolve()

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        launch = super().launch(port, upstream_url, folder)
        python, _, _, *arguments = launch.command
        # ``python -m`` would look here first, where it is started.
        code = "import sys; sys.path[0] = sys.argv.pop(1); from chatproxy.cli import main; main()"
        return Launch([python, "-c", code, str(self._checkout), *arguments], launch.settings)


class _Nginx(Relay):
    name = "nginx"
    title = "nginx"
    path = "/v1/chat/completions"
    cancel_path = None

    def install(self) -> None:
        self._program()

    def versions(self) -> dict[str, str]:
        return {"nginx": said_by(self._program(), "-v").rpartition("/")[2]}

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        text = (_HERE / "nginx.conf").read_text()
        values = {
            "USER": pwd.getpwuid(os.geteuid()).pw_name,
            "FOLDER": folder,
            "UPSTREAM": urlsplit(upstream_url).netloc,
            "PORT": port,
            "KEY": KEY,
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path = folder / "nginx.conf"
        path.write_text(text)
        return Launch([self._program(), "-p", str(folder), "-c", str(path), "-e", "stderr"], {})

    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"}

    def _program(self) -> str:
        found = program("nginx")
        if found is None:
            raise Unavailable("nginx is not installed (Debian's package nginx-light).")
        return str(found)


class _Flask(Relay):
    name = "flask"
    title = "Flask, requests"

    def install(self) -> None:
        """It is here, as chatproxy is made of the same."""

    def versions(self) -> dict[str, str]:
        names = ("flask", "requests", "gunicorn", "gevent")
        return {**{name: version(name) for name in names}, "Python": platform.python_version()}

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        options = ["--bind", f"127.0.0.1:{port}", "--pythonpath", str(_HERE / "flask")]
        room = ["--worker-connections", str(2 * MOST_STREAMS), "--graceful-timeout", "1"]
        return Launch(
            gunicorn("app:app", "-c", os.devnull, *options, *room),
            {"DEEPSEEK_BASE_URL": upstream_url, "DEEPSEEK_API_KEY": KEY},
        )


class _Express(Relay):
    name = "express"
    title = "Express, fetch"
    _packages: ClassVar = NodePackages(_HERE / "express")

    def install(self) -> None:
        self._packages.install()

    def versions(self) -> dict[str, str]:
        node = said_by(str(self._packages.node), "--version").removeprefix("v")
        return {"express": self._packages.version("express"), "Node": node}

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        return Launch(
            [str(self._packages.node), str(self._packages.place("server.mjs"))],
            {
                "NODE_ENV": "production",
                "PORT": port,
                "DEEPSEEK_BASE_URL": upstream_url,
                "DEEPSEEK_API_KEY": KEY,
            },
        )


class _FastApi(Relay):
    name = "fastapi"
    title = "FastAPI, httpx"
    _packages: ClassVar = PythonPackages(_HERE / "fastapi")

    def install(self) -> None:
        self._packages.install()

    def versions(self) -> dict[str, str]:
        names = ("fastapi", "httpx", "uvicorn", "uvloop", "httptools")
        versions = {name: self._packages.version(name) for name in names}
        return {**versions, "Python": platform.python_version()}

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        where = ["--app-dir", str(_HERE / "fastapi"), "--host", "127.0.0.1", "--port", str(port)]
        fast = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        end = ["--timeout-graceful-shutdown", "1"]
        return Launch(
            [str(self._packages.bin / "uvicorn"), "app:app", *where, *fast, *end],
            {"DEEPSEEK_BASE_URL": upstream_url, "DEEPSEEK_API_KEY": KEY},
        )


class _LiteLlm(Relay):
    name = "litellm"
    title = "LiteLLM proxy"
    path = "/v1/chat/completions"
    cancel_path = None
    _packages: ClassVar = PythonPackages(_HERE / "litellm")
    # Without one it does not start.
    _master_key: ClassVar = f"sk-{secrets.token_hex(32)}"

    def install(self) -> None:
        self._packages.install()

    def versions(self) -> dict[str, str]:
        names = ("litellm", "fastapi", "aiohttp", "uvicorn", "uvloop")
        versions = {name: self._packages.version(name) for name in names}
        return {**versions, "Python": platform.python_version()}

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        options = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        config = str(_HERE / "litellm" / "config.yaml")
        return Launch(
            [str(self._packages.bin / "litellm"), "--config", config, *options],
            {
                "DEEPSEEK_BASE_URL": upstream_url,
                "DEEPSEEK_API_KEY": KEY,
                "LITELLM_MASTER_KEY": self._master_key,
                # As its documentation advises for production.
                "LITELLM_LOG": "ERROR",
                "LITELLM_MODE": "PRODUCTION",
                # Prices from the package, not from the network.
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                # Of connections to one host it has 500 otherwise.
                "AIOHTTP_CONNECTOR_LIMIT": MOST_STREAMS,
                "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": MOST_STREAMS,
            },
        )

    def headers(self) -> dict[str, str]:
        key = f"Bearer {self._master_key}"
        return {"Content-Type": "application/json", "Authorization": key}


ALL: tuple[Relay, ...] = (
    _Chatproxy(),
    _Nginx(),
    _Flask(),
    _Express(),
    _FastApi(),
    _LiteLlm(),
)

#: chatproxy in other protocols than its own: measured if asked for.
PROTOCOLS: tuple[Relay, ...] = (_OpenAI(),)


def find(name: str) -> Relay:
    """The relay with this name.

    :raises LookupError: where there is none.
    """
    for relay in ALL:
        if relay.name == name:
            return relay
    raise LookupError(f"no relay is called {name}")
