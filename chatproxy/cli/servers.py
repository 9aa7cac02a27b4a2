"""The commands that run a server: ``serve``, ``demo``, ``simulate``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec

import click

from ..config import LEADING_OUT, Settings, describe
from ..errors import ConfigError
from ..hosts import is_loopback
from ..server import exposure
from ..upstreams.routes import Routes

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


@click.command(epilog=_settings_help())
@_BIND
@_WORKERS
@click.option("--insecure", is_flag=True, help="Do not warn about what is open to strangers.")
def serve(bind: str, workers: int, insecure: bool) -> None:
    """Run the server: gunicorn with gevent workers.

    It listens until Ctrl-C or SIGTERM. After a SIGTERM it lets running answers end first.
    """
    _require("gunicorn", "server")
    from .gunicorn_server import GunicornServer

    try:
        settings = Settings.load({}, os.environ)
        routes = Routes.load(settings, os.environ)
        if routes.needs_key:
            settings.require_key()
    except ConfigError as error:
        sys.exit(f"chatproxy: {error}")
    if not insecure:
        _warn(settings, routes, bind)
    os.environ["CHATPROXY_INSECURE"] = "1"  # the workers need not say it again
    GunicornServer(bind, workers).run()


def _warn(settings: Settings, routes: Routes, bind: str) -> None:
    from gunicorn.util import parse_address

    sentences = exposure.of_the_keys(settings, routes.all())
    address = parse_address(bind)
    if isinstance(address, tuple) and not is_loopback(address[0]):
        sentences += exposure.on_a_public_address(settings)
    for sentence in sentences:
        click.echo(f"chatproxy: {sentence}", err=True)


@click.command()
@_BIND
@_WORKERS
def demo(bind: str, workers: int) -> None:
    """Run the server with a simulated DeepSeek behind it.

    It needs no key and no network, and reaches no database and no other server that the
    environment names. Ctrl-C ends both.
    """
    _require("gunicorn", "server")
    _require("h11", "simulate")
    from .gunicorn_server import GunicornServer

    with _simulation() as upstream:
        os.environ.update(dict.fromkeys(LEADING_OUT, ""))
        os.environ["DEEPSEEK_BASE_URL"] = upstream
        os.environ["CHATPROXY_INSECURE"] = "1"  # it has no key that a stranger could spend
        os.environ.setdefault("CHATPROXY_NOTICE", _NOTICE)
        os.environ.setdefault("CHATPROXY_ON_DISCONNECT", "30")
        GunicornServer(bind, workers, on_ready=lambda address: _greet(address, upstream)).run()


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


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8001, show_default=True, help="0 takes a free one.")
@click.option("--certfile", type=click.Path(exists=True), help="A certificate (PEM), for TLS.")
@click.option("--keyfile", type=click.Path(exists=True), help="The key of that certificate (PEM).")
@click.option(
    "--balance",
    default="1000000",
    show_default=True,
    metavar="DOLLARS",
    callback=lambda _context, _option, text: _amount(text),
    help="What each key begins with.",
)
def simulate(
    host: str, port: int, certfile: str | None, keyfile: str | None, balance: Decimal
) -> None:
    """Run a simulated DeepSeek, for demos and tests.

    It speaks DeepSeek's wire format and needs no key. Each request chooses what it does, in a field
    "simulate" beside "messages":

    \b
      {"rate": 5}               five tokens a second
      {"first_token_delay": 9}  nine seconds of silence first
      {"never": "headers"}      no answer at all
      {"status": 503}           an error

    GET /ledger tells, for every request, how many tokens were generated, what was billed, and when
    and how its peer went away. Tokens are billed at DeepSeek's prices, until a peer is seen to go.
    GET /user/balance tells what a key has left, with nine decimals; DeepSeek has two.
    """
    _require("h11", "simulate")
    from ..simulated import serve as serve_simulation

    try:
        serve_simulation(host, port, certfile=certfile, keyfile=keyfile, balance=balance)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not 0 <= amount <= 10**9:  # false for NaN
        raise click.BadParameter("an amount of dollars, from 0 to 1000000000")
    return amount


def _require(package: str, extra: str) -> None:
    """Refuse a command whose package was not installed with chatproxy."""
    if find_spec(package) is None:
        raise click.ClickException(f"this needs {package}: pip install 'chatproxy[{extra}]'")
