"""The command ``conversations``: what is kept of an owner's chats, written out or erased."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ..errors import DatabaseUnavailable
from .report import RECORDS, as_url, database_at

if TYPE_CHECKING:
    from ..records.conversations import Conversation


@click.command()
@click.option("--owner", required=True, help="Whose they are.")
@click.option("--delete", is_flag=True, help="Erase them, instead of writing them out.")
@click.option(
    "--application",
    default="chatproxy",
    show_default=True,
    help="The application's name: CHATPROXY_NAME, or what it was given.",
)
@RECORDS
def conversations(owner: str, delete: bool, application: str, records: str) -> None:
    """Write out all chats that are kept of an owner, as a file that the page imports.

    With --delete all of them are erased instead, and the memory of those that the owner has
    deleted. A page that is still open writes what changes there again: take the owner's access
    away first. What is in the owner's browsers stays there.
    """
    with database_at(as_url(records)) as database:
        from ..records.conversations import Bounds, Conversations

        kept = Conversations(database, lambda call: call(), application, Bounds(0, 0))
        try:
            if delete:
                click.echo(f"Erased {kept.erase(owner)} conversations.")
            else:
                _write_out(kept.export(owner))
        except DatabaseUnavailable as away:
            raise click.ClickException(away.reason) from None


def _write_out(kept: Iterable[Conversation]) -> None:
    """One after the other: together they may be large."""
    head = {"format": "chatproxy", "version": 1, "exportedAt": time.time_ns() // 1_000_000}
    click.echo(json.dumps(head)[:-1] + ', "chats": [', nl=False)
    for number, each in enumerate(kept):
        click.echo((b",\n" if number else b"\n") + each.content, nl=False)
    click.echo("\n]}")
