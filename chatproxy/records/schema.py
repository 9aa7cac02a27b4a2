"""The tables of the records, as the newest migration leaves them.

They may share a database with an application's own: their names begin with ``chatproxy_``, and so
does that of the table in which Alembic keeps the version.

No column holds a word of a question or an answer, except those of the conversations, which nobody
keeps unless ``CHATPROXY_CONVERSATIONS`` is set. Times are in UTC. Money is exact: whole
nano-units of its currency, so 1_000_000_000 is one dollar.
"""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator

#: Where Alembic keeps the version of the tables.
VERSION_TABLE = "chatproxy_schema"

#: How many nano-units there are in one of a currency.
NANO = 1_000_000_000


def nano_of(amount: Decimal) -> int:
    """An amount of money in nano-units, rounded to the nearest."""
    return int((amount * NANO).to_integral_value())


class _InParts(TypeDecorator[int]):
    """A whole number of any size: what the two parts of ``sum_of`` make."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int:
        """As it is read; a sum of nothing is 0."""
        high, _, low = (value or "0:0").partition(":")
        return int(high) * _PART + int(low)


_PART = 1 << 32


def sum_of(number: ColumnElement[Any]) -> ColumnElement[int]:
    """The sum of whole numbers, exact, whatever they are.

    SQLite's own fails beyond 64 bits, for good, if what is in the rows is large enough once.
    """
    high, low = func.sum(number // _PART), func.sum(number % _PART)
    return type_coerce(cast(high, String) + ":" + cast(low, String), _InParts)


class Utc(TypeDecorator[datetime]):
    """A time that knows that it is in UTC, also in a database that keeps no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As it is stored."""
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """As it is read."""
        if value is None:
            return None
        found: datetime = value
        is_plain = found.tzinfo is None
        return found.replace(tzinfo=timezone.utc) if is_plain else found.astimezone(timezone.utc)


metadata = MetaData()

answers = Table(
    "chatproxy_answers",
    metadata,
    # Made with the row, so that a row whose commit was not confirmed can be sent again.
    Column("key", String(32), primary_key=True),
    Column("application", String(200), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("session_id", String(200), nullable=False),
    Column("model", String(200), nullable=False),
    Column("upstream", String(200), nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("ended_at", Utc, nullable=False),
    # Milliseconds from the start to the first event, and to the end.
    Column("first_event_ms", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Column("phase", String(20), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("reason", String(20)),
    # The code of a refusal.
    Column("refusal", String(50)),
    Column("events", BigInteger, nullable=False),
    Column("usage_source", String(20), nullable=False),
    Column("usage_spread", Float),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger),
    Column("currency", String(3)),
    Column("saved_at_most", BigInteger),
    Column("saved_likely", BigInteger),
    Column("saved_likely_from", BigInteger),
    Column("saved_likely_to", BigInteger),
    # Of a stopped answer: upstreamClosed, billingStops; of a run: calls, leftBehind, and
    # "billed": what all of its calls of DeepSeek came to, also those that are not listed.
    Column("receipt", JSON(none_as_null=True)),
    Index("chatproxy_answers_by_time", "ended_at"),
    Index("chatproxy_answers_by_owner", "owner", "ended_at"),
)

balances = Table(
    "chatproxy_balances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Utc, nullable=False),
    # Where it was asked, and which key asked: a digest of both, so that no two are compared.
    Column("account", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("balance_nano", BigInteger, nullable=False),
    # Whether a span begins with it, which later ones are compared with.
    Column("is_start", Boolean, nullable=False),
    Index("chatproxy_balances_by_account", "account", "at"),
)

conversations = Table(
    "chatproxy_conversations",
    metadata,
    Column("application", String(200), primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    # A JSON text in ASCII, so that it can have any character.
    Column("title", Text, nullable=False),
    Column("pinned", Boolean, nullable=False),
    # Milliseconds since 1970, by the client's clock.
    Column("updated_at", BigInteger, nullable=False),
    # Bytes of the content.
    Column("size", BigInteger, nullable=False),
    # Null if the conversation was deleted.
    Column("content", LargeBinary),
    Index("chatproxy_conversations_by_revision", "application", "owner", "revision"),
)

conversation_totals = Table(
    "chatproxy_conversation_totals",
    metadata,
    Column("application", String(200), primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
)
