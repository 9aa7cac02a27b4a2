"""Record keeping: how the records of an application, and its conversations, are opened and closed.

What they need (SQLAlchemy, Alembic) is imported only if there are some: it takes 0.3 s and 30 MB.
Each has a native thread and a connection of its own, so that neither waits for the other.
"""

from __future__ import annotations

import queue
import weakref
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from . import signals
from .accounting.budgets import Spent, spent_unknown
from .config import Settings
from .errors import ChatProxyError, ConfigError
from .server.native_threads import NativeThread

if TYPE_CHECKING:
    from .records.conversations import Conversations
    from .records.database import Database
    from .records.writer import Records


def open_records(sender: object, settings: Settings, scope: str) -> Records | None:
    """The records of an application that has some, ready to hear of its answers; else None.

    :param sender: the sender of the signals: the application.
    :raises ConfigError: if a package is missing.
    """
    if not settings.records:
        return None
    _require_records()
    from .records.database import Database  # noqa: PLC0415
    from .records.writer import Records  # noqa: PLC0415

    records = Records(
        Database(settings.records),
        scope,
        NativeThread("records"),
        settings.records_buffer,
        partial(_tell, sender),
    )
    records.open()
    signals.stream_closed.connect(records.hear, sender=sender)
    return records


def spent_by(records: Records | None) -> Spent | None:
    """What asks the records for what an owner has spent, if there are any."""
    if records is None:
        return None

    def spent(owner: str, since: datetime) -> tuple[int, dict[str, int]]:
        try:
            return records.spent(owner, since)
        except (ChatProxyError, queue.Full, RuntimeError):  # see NativeThread.run
            raise spent_unknown() from None

    return spent


def open_conversations(settings: Settings, scope: str, *, has_owners: bool) -> Conversations | None:
    """The conversations that an application keeps for its owners; None if it keeps none.

    :raises ConfigError: if it has no owners or no database, or if a package is missing.
    """
    if not settings.conversations:
        return None
    if not settings.records:
        raise ConfigError("CHATPROXY_CONVERSATIONS needs a database: CHATPROXY_RECORDS.")
    _require_records()
    if not has_owners:
        raise ConfigError(
            "CHATPROXY_CONVERSATIONS needs owners: CHATPROXY_TOKENS, or ChatProxy(owner=...)."
        )
    from .records.conversations import Bounds, Conversations  # noqa: PLC0415
    from .records.database import Database  # noqa: PLC0415

    thread = NativeThread("conversations", places=100)
    bounds = Bounds(settings.conversations_per_owner, settings.conversation_bytes_per_owner)
    database = Database(settings.records)
    found = Conversations(database, thread.run, scope, bounds)
    weakref.finalize(found, _close_database, thread, database).atexit = False
    return found


def _require_records() -> None:
    if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
        raise ConfigError(
            "CHATPROXY_RECORDS needs SQLAlchemy and Alembic: pip install 'chatproxy[records]'."
        )


def _tell(sender: object, result: str, count: int) -> None:
    signals.answers_recorded.send(sender, result=result, count=count)


def _close_database(thread: NativeThread, database: Database) -> None:
    """Let the connection go of an application that is garbage."""
    with suppress(RuntimeError, queue.Full):  # no more threads can be had at present
        thread.submit(database.close)
    thread.close(0.0)
