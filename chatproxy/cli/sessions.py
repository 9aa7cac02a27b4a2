"""The commands for operators: ``sessions`` lists what runs on this host, ``cancel`` stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..answers.session import SessionKey
from ..masking import printable
from . import operators

_RUN_DIR = click.option(
    "--run-dir",
    envvar="CHATPROXY_RUN_DIR",
    default="",
    type=click.Path(file_okay=False),
    help="The servers' run directory, if they were given one.",
)


@click.command()
@_RUN_DIR
def sessions(run_dir: str) -> None:
    """List the answers on this host that are running, or can be read again."""
    with _explained():
        found = operators.sessions(run_dir)
    several = len({each["application"] for each in found}) > 1
    row = "{:<40} {:<16} {:<10} {:>8} {:>8}" + ("  {}" if several else "")
    click.echo(row.format("SESSION", "OWNER", "STATE", "EVENTS", "AGE", "APPLICATION"))
    for each in found:
        state = each["outcome"] or each["phase"]
        age = f"{each['ageSeconds']:.0f} s"
        names = each["sessionId"] or "-", printable(each["owner"]), state
        click.echo(row.format(*names, each["events"], age, each["application"]))


@click.command()
@click.argument("session_id")
@click.option("--owner", default=None, help="Whose session it is, if several owners use that id.")
@click.option("--application", default=None, help="Its application, if several use that id.")
@_RUN_DIR
def cancel(session_id: str, owner: str | None, application: str | None, run_dir: str) -> None:
    """Stop an answer of this host's servers, and print the receipt."""
    with _explained():
        found = {
            (each["runDir"], each["application"], each["owner"])
            for each in operators.sessions(run_dir)
            if each["sessionId"] == session_id
            and each["outcome"] is None  # what has ended elsewhere can't be meant
            and owner in (None, each["owner"])
            and application in (None, each["application"])
        }
        _refuse_several(found)
        receipt = None
        if found:
            directory, name, of = found.pop()
            receipt = operators.cancel(directory, name, SessionKey(of, session_id))
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
            listed = printable(", ".join(names))
            raise click.ClickException(
                f"Several {kind} have this id: {listed}. Choose one with {option}."
            )


@contextmanager
def _explained() -> Iterator[None]:
    """Say in one sentence which file could not be used."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
