"""Database: the records' tables in SQLite or PostgreSQL, used by one thread alone.

SQLite is for the workers of one host: they write to one file, with a write-ahead log, so that who
reads waits for nobody. PostgreSQL, by psycopg 3, is for several hosts.

Rules:

* Everything here waits for a disk or a network. A server has it run by a ``NativeThread``, in which
  the engine is made, too, so that its locks are used by no other.
* The tables are made and brought up to date by whoever comes first, under a lock of the database.
  Those of a newer version are left alone.
* A process that a fork has made has an engine of its own, and leaves its parent's alone.
* A row is added once, however often it is sent: its key is made with it.
* A network that has died, and a database that does not answer, are noticed within ``_SECONDS``.
* The password in the URL is in no error and no log line: an error says what a driver says, and none
  of SQLAlchemy's own words, which may quote what was to be written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import ChatProxyError, ConfigError
from ..masking import one_line, passwords_in
from .rows import Row, owner_in_row
from .schema import VERSION_TABLE, answers, sum_of

#: Seconds that a connection, a lock or a packet is waited for.
_SECONDS = 5
#: Seconds that a statement may take. A report over years may; the servers' own are quick.
_STATEMENT_SECONDS = 60
#: Of PostgreSQL's advisory locks, the one under which the tables are changed.
_LOCK = 0x63686174

#: Tokens, and what they cost: nano-units of each currency.
Spent = tuple[int, dict[str, int]]


class DatabaseError(ChatProxyError):
    """The database can't be used now, or has refused something. Its text is one line."""


class UnfitRow(DatabaseError):
    """Not all of the rows can be stored, however often they are sent. None was."""


class Database:
    """The records' database. For one thread; the engine is made when it is first used.

    :param url: as SQLAlchemy takes it, for SQLite or PostgreSQL.
    :raises ConfigError: if it can't be one, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.dialect = parsed.get_dialect().name
            parsed.get_dialect().import_dbapi()
        except (exc.ArgumentError, ValueError):
            raise ConfigError("CHATPROXY_RECORDS can't be read as a URL.") from None
        except ImportError:
            raise ConfigError(
                "CHATPROXY_RECORDS needs psycopg: pip install 'chatproxy[records]'."
            ) from None
        self._url = parsed
        self._secrets = passwords_in(parsed.render_as_string(hide_password=False))
        self._engine: Engine | None = None
        self._process = os.getpid()
        self._is_prepared = False

    def prepare(self) -> None:
        """Make the tables, or bring them up to date; once. Leaves no connection, which a fork would
        share.

        :raises ConfigError: if they are those of a newer version.
        :raises DatabaseError: if the database can't be used.
        """
        if self._is_prepared:
            return
        try:
            self._migrate()
            self._is_prepared = True
        finally:
            self.close()

    def add(self, rows: Sequence[Row]) -> None:
        """Store some rows, all or none. One that is stored already stays as it is.

        :raises UnfitRow: if one of them can't be stored.
        :raises DatabaseError: if the database can't be used.
        """
        insert = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        statement = insert(answers).on_conflict_do_nothing(index_elements=["key"])
        with self._explained(), self._writing() as connection:
            connection.execute(statement, list(rows))

    def spent(self, application: str, owner: str, since: datetime) -> Spent:
        """What the answers of an owner that have ended since then came to."""
        sums = map(sum_of, (answers.c.prompt_tokens, answers.c.completion_tokens))
        query = (
            select(answers.c.currency, sum_of(answers.c.cost_nano), *sums)
            .where(answers.c.application == application, answers.c.owner == owner_in_row(owner))
            .where(answers.c.ended_at >= since)
            .group_by(answers.c.currency)
        )
        with self.reading() as connection:
            found = connection.execute(query).all()
        return (
            sum(prompt + completion for _, _, prompt, completion in found),
            {currency: nano for currency, nano, *_ in found if currency is not None},
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads.

        :raises DatabaseError: if the database can't be used.
        """
        with self._explained(), self._reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction, which is committed if the block ends well.

        :raises DatabaseError: if the database can't be used.
        """
        with self._explained(), self._writing() as connection:
            yield connection

    def close(self) -> None:
        """Let go of the connection."""
        self._leave_the_parents()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _migrate(self) -> None:
        scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
        with self._explained():
            with self._reading() as connection:
                if _version(connection) == scripts.get_current_head():
                    return
            with self._writing() as connection:
                if self.dialect == "postgresql":
                    connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
                version = _version(connection)
                if version not in (None, *(each.revision for each in scripts.walk_revisions())):
                    raise ConfigError(
                        "The database of CHATPROXY_RECORDS was made by a newer chatproxy: "
                        "use that version, or another database."
                    )
                config = Config()
                config.set_main_option("script_location", scripts.dir.replace("%", "%%"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def _reading(self) -> Any:
        return self._the_engine().connect()

    def _writing(self) -> Any:
        return self._the_engine().execution_options(sqlite_begin="IMMEDIATE").begin()

    def _leave_the_parents(self) -> None:
        """Leave the connection of a parent, which is open there, without a word to the server."""
        if self._process != os.getpid():
            # Kept, not forgotten: it must not be closed here, which a garbage collector would do.
            self._of_the_parent, self._engine = self._engine, None
            self._process = os.getpid()

    def _the_engine(self) -> Engine:
        self._leave_the_parents()
        if self._engine is None:
            is_postgresql = self.dialect == "postgresql"
            self._engine = create_engine(
                self._url,
                pool_size=1,
                max_overflow=0,
                pool_pre_ping=is_postgresql,
                hide_parameters=True,
                json_serializer=str,  # a row has it as JSON already
                connect_args=_settings_beside(self._url),
            )
            if not is_postgresql:
                event.listen(self._engine, "connect", _prepare_sqlite)
                event.listen(self._engine, "begin", _begin_sqlite)
        return self._engine

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in one line, without a password or a value, why the database could not be used."""
        try:
            yield
        except exc.DBAPIError as error:
            kind = UnfitRow if isinstance(error, (exc.DataError, exc.IntegrityError)) else None
            raise (kind or DatabaseError)(_reason(error.orig, self._secrets)) from None
        except (exc.StatementError, OverflowError) as error:  # a value that a driver can't send
            raise UnfitRow(_reason(error, self._secrets)) from None
        except (exc.SQLAlchemyError, OSError) as error:
            raise DatabaseError(_reason(error, self._secrets)) from None


def _settings_beside(url: URL) -> dict[str, Any]:
    """What a connection is set to, but for what its URL says itself.

    Both may give PostgreSQL options for the session; if they name the same one, the URL's counts.
    """
    usual: Mapping[str, Any] = (
        _POSTGRESQL if url.get_backend_name() == "postgresql" else {"timeout": _SECONDS}
    )
    settings = {name: value for name, value in usual.items() if name not in url.query}
    if "options" in usual:
        given = url.normalized_query.get("options", ())
        settings["options"] = " ".join([usual["options"], *given])
    return settings


_POSTGRESQL: Mapping[str, Any] = {
    "connect_timeout": _SECONDS,
    "application_name": "chatproxy",
    "keepalives_idle": _SECONDS,
    "keepalives_interval": 1,
    "keepalives_count": _SECONDS,
    "tcp_user_timeout": _SECONDS * 1000,
    "options": f"-c statement_timeout={_STATEMENT_SECONDS}s -c lock_timeout={_SECONDS}s",
}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # it is SQLAlchemy that begins a transaction
    connection.execute("PRAGMA synchronous=NORMAL")
    with suppress(sqlite3.OperationalError):  # another one does it at this moment; it is the file's
        connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")


def _version(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _reason(error: BaseException | None, secrets: tuple[str, ...]) -> str:
    return one_line(str(error), secrets)[:300] or type(error).__name__
