"""The command line: ``chatproxy serve``, ``simulate``, ``demo``, ``sessions``, ``cancel``.

The server's master forks workers that patch with gevent, so nothing is imported here that brings
in ``requests``; the application is imported by the worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from gunicorn.app.base import BaseApplication
from gunicorn.util import parse_address

from .. import __version__
from ..config import Settings, describe
from ..errors import ConfigError
from ..hosts import is_loopback
from ..server import exposure

_NOTICE = "This demo talks to a simulation of DeepSeek, not to a model."

_BIND = click.option(
    "--bind",
    default="127.0.0.1:8000",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where to listen; port 0 takes a free one.",
)
_WORKERS = click.option(
    "--workers",
    "-w",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many processes; each uses one core.",
)


def _settings_help() -> str:
    lines = ["\b", "Settings come from the environment:"]
    for name, default, meaning in describe():
        lines.append(f"  {name}")
        lines.append(f"      {meaning}" + (f" [{default}]" if default else ""))
    return "\n".join(lines)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chatproxy")
def main() -> None:
    """Stream chat answers from DeepSeek, with a Stop that really stops them.

    \b
    Try it without a key:       chatproxy demo
    Run it against DeepSeek:    DEEPSEEK_API_KEY=sk-... chatproxy serve
    """


@main.command(epilog=_settings_help())
@_BIND
@_WORKERS
@click.option("--insecure", is_flag=True, help="Do not warn about what is open to strangers.")
def serve(bind: str, workers: int, insecure: bool) -> None:
    """Run the server: gunicorn with gevent workers.

    It listens until Ctrl-C or SIGTERM. A SIGTERM lets running answers end first.
    """
    settings = _settings()
    if not insecure:
        _warn(settings, bind)
    os.environ["CHATPROXY_INSECURE"] = "1"  # the workers need not say it again
    _Server(bind, workers).run()


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8001, show_default=True, help="0 takes a free one.")
@click.option("--certfile", type=click.Path(exists=True), help="A certificate (PEM), for TLS.")
@click.option("--keyfile", type=click.Path(exists=True), help="The key of that certificate (PEM).")
def simulate(host: str, port: int, certfile: str | None, keyfile: str | None) -> None:
    """Run a simulated DeepSeek, for demos and tests.

    It speaks DeepSeek's wire format and needs no key. What it does is chosen by each request, by a
    field "simulate" beside "messages":

    \b
      {"rate": 5}               five tokens a second
      {"first_token_delay": 9}  nine seconds of silence first
      {"never": "headers"}      no answer at all
      {"status": 503}           an error

    GET /ledger tells, for every request, how many tokens were generated, and when and how its peer
    went away.
    """
    from ..simulated import serve as serve_simulation

    try:
        serve_simulation(host, port, certfile=certfile, keyfile=keyfile)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None


@main.command()
@_BIND
@_WORKERS
def demo(bind: str, workers: int) -> None:
    """Run the server with a simulated DeepSeek behind it.

    No key and no network is needed. Ctrl-C ends both.
    """
    with _simulation() as upstream:
        os.environ["DEEPSEEK_BASE_URL"] = upstream
        os.environ["DEEPSEEK_API_KEY"] = os.environ["CHATPROXY_TOKENS"] = ""
        os.environ["CHATPROXY_INSECURE"] = "1"  # it has no key that a stranger could spend
        os.environ.setdefault("CHATPROXY_NOTICE", _NOTICE)
        os.environ.setdefault("CHATPROXY_ON_DISCONNECT", "30")
        _Server(bind, workers, on_ready=lambda address: _greet(address, upstream)).run()


_RUN_DIR = click.option(
    "--run-dir",
    envvar="CHATPROXY_RUN_DIR",
    default="",
    type=click.Path(file_okay=False),
    help="The servers' run directory, where it is named.",
)


@main.command()
@_RUN_DIR
def sessions(run_dir: str) -> None:
    """List the answers of this host's servers that run, or can be read again."""
    from . import operators

    with _explained():
        found = operators.sessions(run_dir)
    several = len({each["application"] for each in found}) > 1
    row = "{:<40} {:<16} {:<10} {:>8} {:>8}" + ("  {}" if several else "")
    click.echo(row.format("SESSION", "OWNER", "STATE", "EVENTS", "AGE", "APPLICATION"))
    for each in found:
        state = each["outcome"] or each["phase"]
        age = f"{each['ageSeconds']:.0f} s"
        names = each["sessionId"], each["owner"], state
        click.echo(row.format(*names, each["events"], age, each["application"]))


@main.command()
@click.argument("session_id")
@click.option("--owner", default=None, help="Whose session it is, where several have that id.")
@click.option("--application", default=None, help="And of which application, likewise.")
@_RUN_DIR
def cancel(session_id: str, owner: str | None, application: str | None, run_dir: str) -> None:
    """Stop an answer of this host's servers, and print the receipt."""
    from . import operators

    with _explained():
        found = {
            (each["runDir"], each["application"], each["owner"])
            for each in operators.sessions(run_dir)
            if each["sessionId"] == session_id
            and owner in (None, each["owner"])
            and application in (None, each["application"])
        }
        _refuse_several(found)
        receipt = operators.cancel(*found.pop(), session_id) if found else None
    if receipt is None:
        raise click.ClickException("Session not found")
    click.echo(json.dumps(receipt))


def _refuse_several(found: set[tuple[str, str, str]]) -> None:
    kinds = (
        ("run directories", "--run-dir"),
        ("applications", "--application"),
        ("owners", "--owner"),
    )
    for number, (kind, option) in enumerate(kinds):
        names = sorted({each[number] for each in found})
        if len(names) > 1:
            listed = ", ".join(names)
            raise click.ClickException(
                f"Several {kind} have this id: {listed}. Name one: {option}."
            )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


def _settings() -> Settings:
    try:
        settings = Settings.load({}, os.environ)
        settings.require_key()
    except ConfigError as error:
        sys.exit(f"chatproxy: {error}")
    return settings


def _warn(settings: Settings, bind: str) -> None:
    sentences = exposure.of_the_key(settings)
    address = parse_address(bind)
    if isinstance(address, tuple) and not is_loopback(address[0]):
        sentences += exposure.on_a_public_address(settings)
    for sentence in sentences:
        click.echo(f"chatproxy: {sentence}", err=True)


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, run from Python."""

    def __init__(
        self, bind: str, workers: int, on_ready: Callable[[str], None] | None = None
    ) -> None:
        self._bind = bind
        self._workers = workers
        self._on_ready = on_ready
        super().__init__(prog="chatproxy serve")

    def load_config(self) -> None:
        from .. import gunicorn_config

        for name, value in vars(gunicorn_config).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        self.cfg.set("bind", [self._bind])
        self.cfg.set("workers", self._workers)
        if "control_socket_disable" in self.cfg.settings:
            self.cfg.set("control_socket_disable", True)
        if self._on_ready is not None:
            self.cfg.set("when_ready", self._ready)

    def load(self) -> Any:
        from ..app import load

        return load()

    def _ready(self, server: Any) -> None:
        assert self._on_ready is not None
        self._on_ready(str(server.LISTENERS[0]))


@contextmanager
def _simulation() -> Iterator[str]:
    """A simulated DeepSeek in a process of its own; yields its address."""
    command = [sys.executable, "-m", "chatproxy", "simulate", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    master = os.getpid()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise click.ClickException("the simulated DeepSeek did not start")
        yield line.split()[-1]
    finally:
        # gunicorn's workers are forks, and leave through here too.
        if os.getpid() == master:
            process.terminate()
            process.wait()


def _greet(address: str, upstream: str) -> None:
    click.echo(
        f"""
chatproxy is at {address}, in front of a simulated DeepSeek at {upstream}

Stream an answer:
  curl -N {address}/api/chat/stream -H 'X-Session-Id: session_1' \\
       -H 'Content-Type: application/json' \\
       -d '{{"messages": [{{"role": "user", "content": "Hello"}}], "simulate": {{"rate": 5}}}}'
Stop it, from another terminal:
  curl -X POST {address}/api/chat/cancel/session_1
See what the simulated DeepSeek saw:
  curl {upstream}/ledger

Ctrl-C ends both.
"""
    )
