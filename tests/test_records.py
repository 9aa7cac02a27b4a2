"""Records: each answer is a row, once, whatever becomes of the database, and of a worker."""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask

from chatproxy import ChatProxy, signals
from chatproxy.answers.calls import Calls
from chatproxy.answers.usage import Saved, UsageSource
from chatproxy.errors import ConfigError
from chatproxy.records import asking, writer
from chatproxy.records import database as database_module
from chatproxy.records.database import Database, DatabaseError
from chatproxy.records.schema import VERSION_TABLE, metadata
from chatproxy.records.writer import Records
from chatproxy.server.native_threads import NativeThread

from .support.another import Another
from .support.instant import HELLO
from .support.postgresql import PostgreSQL, query
from .support.records import Direct, ended
from .support.valkey import Forwarder
from .support.waiting import PATIENCE, Background, at_once, wait_for

LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)
FORKS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # from 3.12 on


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "EVERY", 0.01)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.prepare()
    yield database
    database.close()


class Settled(dict[str, int]):
    """What a writer tells of its rows, as sums."""

    def __call__(self, result: str, count: int) -> None:
        self[result] = self.get(result, 0) + count


class Faulty:
    """A database that is away for some time."""

    def __init__(self, *, away: bool = False) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.away = away
        self.batches: list[int] = []
        #: Of the receipts in each.
        self.characters: list[int] = []

    def prepare(self) -> None:
        self._check()

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._check()
        self.batches.append(len(rows))
        self.characters.append(sum(len(row["receipt"] or "") for row in rows))
        self.rows.update({row["key"]: row for row in rows})

    def _check(self) -> None:
        if self.away:
            raise DatabaseError("it is away")

    def close(self) -> None:
        pass

    @property
    def ids(self) -> list[str]:
        return [row["session_id"] for row in self.rows.values()]


def records_in(database: Any, most: int = 10_000, settled: Settled | None = None) -> Records:
    return Records(database, "app", Direct(), most, Settled() if settled is None else settled)


def in_children(function: Callable[[], None], number: int = 1) -> list[int | None]:
    """Call a function in so many processes that are forked from this one; their exit statuses."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=function, daemon=True) for _ in range(number)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    return [child.exitcode for child in children]


def add_some(records: Records, number: int, prefix: str = "s") -> list[str]:
    """The ids of those that were added."""
    ids = [f"{prefix}{each}" for each in range(number)]
    for each in ids:
        records.add(ended(each))
    return ids


# ---- a row ---------------------------------------------------------------------------------------


def test_a_row_tells_all_that_an_answer_came_to(database_url: str) -> None:
    records = records_in(Database(database_url))
    session = ended(
        "s1", stopped=True, source=UsageSource.ESTIMATED, saved=Saved(7800, (160, 20, 900))
    )
    before = datetime.now(timezone.utc)
    records.add(session)
    records.close()
    names = (
        "application, owner, session_id, model, upstream, first_event_ms, duration_ms, phase,"
        "outcome, reason, refusal, events, usage_source, usage_spread, prompt_tokens,"
        "completion_tokens, cached_tokens, reasoning_tokens, cost_nano, currency, saved_at_most,"
        "saved_likely, saved_likely_from, saved_likely_to, receipt"
    )
    (row,) = query(database_url, f"SELECT {names} FROM chatproxy_answers")
    *plain, receipt = row
    assert plain == [
        *("app", "ann", "s1", "deepseek-flash", "DeepSeek", 250, 1500, "streaming"),
        *("stopped", "user", None, 1, "estimated", 0.2, 10, 20, 0, 0, 13_500, "USD"),
        *(7800, 160, 20, 900),
    ]
    found = json.loads(receipt) if isinstance(receipt, str) else receipt
    assert found == {"upstreamClosed": True, "billingStops": "unknown"}
    ((start, end),) = query(database_url, "SELECT started_at, ended_at FROM chatproxy_answers")
    start, end = (
        datetime.fromisoformat(str(each)).replace(tzinfo=timezone.utc) for each in (start, end)
    )
    assert end - start == timedelta(seconds=1.5)
    assert timedelta(0) <= end - before < timedelta(seconds=PATIENCE)


def test_the_row_of_a_run_has_its_calls_and_what_was_left_behind(database_url: str) -> None:
    session, call = ended("run"), ended("call", stopped=True)
    session.calls = Calls()
    session.calls.begin("deepseek", call)
    session.calls.leave_behind("research")
    session.calls.settle()
    records = records_in(Database(database_url))
    records.add(session)
    records.close()
    ((found,),) = query(database_url, "SELECT receipt FROM chatproxy_answers")
    found = json.loads(found) if isinstance(found, str) else found
    assert found["leftBehind"] == ["research"]
    assert [(each["name"], each["phase"]) for each in found["calls"]] == [("deepseek", "streaming")]


def test_no_text_makes_a_row_that_a_database_refuses(database_url: str) -> None:
    settled = Settled()
    records = records_in(Database(database_url), settled=settled)
    texts = ["\0", "\ud800", "x" * 100_000, "é" * 300, "'); DROP TABLE x;--"]
    for text in texts:
        records.add(ended(text, model=text, owner=text, tokens=(10**40, 1), cost=str(10**30)))
    records.close()
    assert settled == {"written": len(texts)}
    lengths = query(database_url, "SELECT length(model) FROM chatproxy_answers")
    assert all(0 < length <= 200 for (length,) in lengths)


def test_making_a_row_and_leaving_it_takes_no_longer_than_an_answer_can_bear() -> None:
    """About 10 microseconds; measured by the fastest of many, which load doesn't touch."""
    records, session = records_in(Faulty()), ended()
    records.add(session)  # starts the thread
    took = []
    for _ in range(300):
        begun = time.perf_counter()
        records.hear(None, session=session)
        took.append(time.perf_counter() - begun)
    assert min(took) < 100e-6
    records.close()


# ---- the tables ----------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.reading() as connection:
        options = {"version_table": VERSION_TABLE, "include_object": _is_ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def _is_ours(_object: object, name: str | None, *_: object) -> bool:
    return str(name).startswith("chatproxy_")


@FORKS
def test_workers_that_begin_together_make_the_tables_once(database_url: str) -> None:
    together = multiprocessing.get_context("fork").Barrier(6)

    def prepare() -> None:
        together.wait(PATIENCE)
        Database(database_url).prepare()

    assert in_children(prepare, 6) == [0] * 6
    assert len(query(database_url, f"SELECT * FROM {VERSION_TABLE}")) == 1


def test_no_worker_changes_the_tables_while_another_one_does(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [database_module._LOCK])
        waiting = Background(Database(url).prepare)
        asks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: query(url, asks) == [(1,)])
        assert query(url, "SELECT to_regclass('chatproxy_answers')") == [(None,)]
    waiting.result()
    assert query(url, "SELECT count(*) FROM chatproxy_answers") == [(0,)]


def test_tables_of_a_newer_version_are_refused_and_left_alone(
    database: Database, database_url: str
) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(ConfigError, match="was made by a newer chatproxy: use that version"):
        Database(database_url).prepare()
    assert query(database_url, f"SELECT * FROM {VERSION_TABLE}") == [("9999",)]


def test_tables_of_an_application_beside_ours_stay_as_they_are(database_url: str) -> None:
    database = Database(database_url)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    database.prepare()
    database.close()
    assert query(database_url, "SELECT * FROM alembic_version") == [("theirs",)]


# ---- writing -------------------------------------------------------------------------------------


def test_many_threads_that_end_answers_at_once_leave_a_row_for_each(database_url: str) -> None:
    settled = Settled()
    records = records_in(Database(database_url), settled=settled)

    at_once(*(partial(add_some, records, 100, f"s-{of}-") for of in range(4)))
    records.close(PATIENCE)
    assert settled == {"written": 400}
    ids = query(database_url, "SELECT session_id FROM chatproxy_answers")
    assert len(set(ids)) == len(ids) == 400


def test_a_row_whose_commit_was_not_confirmed_is_sent_again_and_is_there_once(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, failures = database.add, [DatabaseError("the connection was lost")]

    def add_and_fail(rows: Any) -> None:
        add(rows)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(database, "add", add_and_fail)
    settled = Settled()
    records = records_in(database, settled=settled)
    add_some(records, 3)
    records.close(PATIENCE)
    assert (settled, failures) == ({"written": 3}, [])
    assert query(database_url, "SELECT count(*) FROM chatproxy_answers") == [(3,)]


def test_rows_are_written_in_batches() -> None:
    database = Faulty()
    records = records_in(database)
    add_some(records, writer.BATCH + 50)
    records.close(PATIENCE)
    assert len(database.ids) == writer.BATCH + 50
    assert max(database.batches) <= writer.BATCH
    assert len(database.batches) < 50


def test_what_waits_for_a_database_that_is_away_is_written_when_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LONGEST_PAUSE", 0.02)
    caplog.set_level(logging.INFO)
    database, settled = Faulty(away=True), Settled()
    records = records_in(database, settled=settled)
    records.open()
    assert "Answers can't be recorded yet, and wait: it is away" in caplog.text
    ids = add_some(records, 20)
    wait_for(lambda: "20 answers wait to be recorded: it is away" in caplog.text)
    database.away = False
    wait_for(lambda: settled == {"written": 20})
    assert database.ids == ids
    wait_for(lambda: "Answers are recorded again." in caplog.text)


def test_beyond_the_bound_the_newest_are_lost_and_their_number_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database, settled = Faulty(away=True), Settled()
    records = records_in(database, most=5, settled=settled)
    ids = add_some(records, 12)
    wait_for(lambda: settled == {"lost": 7})
    lines = r"(\d+) answers were not recorded, and are lost to the records\."
    assert sum(map(int, re.findall(lines, caplog.text))) == 7  # some may be told of before others
    database.away = False
    records.close(PATIENCE)
    assert database.ids == ids[:5]
    assert settled == {"lost": 7, "written": 5}


def test_what_waits_is_bounded_in_bytes_and_so_is_what_is_written_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run's receipt can have a hundred calls."""
    monkeypatch.setattr(writer, "BATCH", 100)
    session = ended("run")
    session.calls = Calls()
    for _ in range(60):
        call = ended("call")
        session.calls.begin("x" * 100, call)
        session.calls.end(call)
    database, settled = Faulty(away=True), Settled()
    records = records_in(database, most=200, settled=settled)
    for _ in range(200):
        records.add(session)
    database.away = False
    records.close(PATIENCE)
    written = sum(database.batches)
    assert settled == {"written": written, "lost": 200 - written}
    one = sum(database.characters) / written
    assert 180_000 < sum(database.characters) < 200 * 1000 + one
    assert max(database.characters) < writer.BATCH * 1000


def test_what_is_left_is_lost_once_however_often_the_records_are_closed() -> None:
    database, settled = Faulty(away=True), Settled()
    records = records_in(database, settled=settled)
    records.add(ended("s1"))
    for _ in range(2):
        records.close(0.01)
    wait_for(lambda: settled == {"lost": 1})
    records.add(ended("late"))
    wait_for(lambda: settled == {"lost": 2})
    records.close(0.01)
    assert settled == {"lost": 2}


def test_the_end_of_a_process_waits_for_the_rows_and_not_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EVERY", PATIENCE)
    database, settled = Faulty(), Settled()
    records = records_in(database, settled=settled)
    records.add(ended("s1"))
    begun = time.monotonic()
    records.close(PATIENCE)
    assert database.ids == ["s1"]
    database.away = True
    records.add(ended("s2"))
    records.close(0.05)
    assert time.monotonic() - begun < PATIENCE / 2
    assert settled == {"written": 1, "lost": 1}


def test_a_row_that_no_thread_could_be_had_for_is_written_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    database = Faulty()
    records = records_in(database)
    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", fail)
        records.add(ended("s1"))
    records.close()
    assert database.ids == ["s1"]


def test_one_row_that_the_database_cannot_hold_costs_no_other(
    database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settled = Settled()
    records = records_in(database, settled=settled)
    add_some(records, 4)
    unfit = ended()
    unfit.events = 1 << 70
    records.add(unfit)
    add_some(records, 4, "more-")
    records.close(PATIENCE)
    assert settled == {"written": 8, "lost": 1}
    assert query(database_url, "SELECT count(*) FROM chatproxy_answers") == [(8,)]
    assert "The database can't hold the record of an answer" in caplog.text


def test_what_an_owner_has_spent_is_summed_by_currency(database_url: str) -> None:
    thread = NativeThread("test")
    records = Records(Database(database_url), "app", thread, 100, Settled())
    for owner, cost, currency in (
        ("ann", "0.5", "USD"),
        ("ann", "0.000000001", "USD"),
        ("ann", "3", "CNY"),
        ("ann", None, "USD"),
        ("bob", "7", "USD"),
    ):
        records.add(ended(owner=owner, cost=cost, currency=currency))
    wait_for(lambda: records.spent("bob", LONG_AGO)[0] == 30)  # the last one
    assert records.spent("ann", LONG_AGO) == (120, {"USD": 500_000_001, "CNY": 3_000_000_000})
    assert records.spent("ann", datetime.now(timezone.utc) + timedelta(days=1)) == (0, {})
    records.close()


def test_what_an_owner_has_spent_is_found_whatever_their_name_and_is_no_one_elses(
    database_url: str,
) -> None:
    owners = ["x" * 250, "\ud800" * 3, "a\0b"]
    records = records_in(Database(database_url))
    for owner in owners:
        records.add(ended(owner=owner))
    records.close()
    again = records_in(Database(database_url))
    for owner in owners:
        assert again.spent(owner, LONG_AGO)[0] == 30
        assert again.spent(f"{owner}y", LONG_AGO)[0] == 0
    again.close()


def test_whoever_asks_a_database_that_fails_slowly_waits_for_one_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And so do those who ask soon after."""
    tried: list[str] = []
    go_on = threading.Event()

    class Slow(Faulty):
        def spent(self, _application: str, owner: str, _since: datetime) -> Any:
            tried.append(owner)
            assert go_on.wait(PATIENCE)
            raise DatabaseError("it is away")

    thread = NativeThread("test", places=4)
    records = Records(Slow(), "app", thread, 100, Settled())  # type: ignore[arg-type]  # has enough
    asked = [Background(lambda: records.spent("ann", LONG_AGO))]
    wait_for(lambda: tried == ["ann"])
    asked += [Background(lambda: records.spent("bob", LONG_AGO)) for _ in range(4)]
    wait_for(lambda: thread.waiting == 4)
    with pytest.raises(DatabaseError, match="no more calls"):
        records.spent("too many", LONG_AGO)
    go_on.set()
    for each in asked:
        with pytest.raises(DatabaseError):
            each.result()
    with pytest.raises(DatabaseError, match="a moment ago"):
        records.spent("eve", LONG_AGO)
    assert tried == ["ann"]
    records.close()
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    with pytest.raises(DatabaseError, match="no more calls"):
        records.spent("late", LONG_AGO)


@FORKS
def test_a_fork_writes_its_own_answers_on_a_connection_of_its_own(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, database, settled = NativeThread("test"), Database(database_url), Settled()
    records = Records(database, "app", thread, 100, settled)

    def connect() -> None:
        with database.reading():
            pass

    def write() -> None:
        settled.clear()
        records.add(ended("child", owner="bob"))
        records.close(PATIENCE)
        assert settled == {"written": 1}

    records.add(ended("parent"))
    records.spent("ann", LONG_AGO)
    wait_for(lambda: settled == {"written": 1})
    thread.run(connect)  # the connection stays, in the pool
    monkeypatch.setattr(writer, "EVERY", 0.3)
    records.add(ended("waits"))  # and the parent's thread lives, that will write it
    assert in_children(write) == [0]
    assert records.spent("bob", LONG_AGO)[0] == 30  # by a connection that the child has not ended
    records.close(PATIENCE)
    assert settled == {"written": 2}
    ids = query(database_url, "SELECT session_id FROM chatproxy_answers ORDER BY session_id")
    assert ids == [("child",), ("parent",), ("waits",)]


def test_what_a_url_says_of_its_connection_counts(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """And the rest stays as it is set here."""
    said = "application_name=billing&options=-csearch_path%3Delsewhere&options=-clock_timeout%3D7s"
    database = Database(f"{postgresql.new_user()}?{said}")
    names = ("application_name", "search_path", "lock_timeout", "statement_timeout")
    with database.reading() as connection:
        found = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
    assert found == ["billing", "elsewhere", "7s", "1min"]
    database.close()
    database = Database(f"sqlite:///{tmp_path}/records.db?timeout=0.25")
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 250
    database.close()


@FORKS
def test_a_fork_does_not_use_its_parents_connection(postgresql: PostgreSQL) -> None:
    database = Database(postgresql.new_user())

    def ours() -> Any:
        with database.reading() as connection:
            return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()

    def look() -> None:
        assert ours() != parents

    parents = ours()
    assert in_children(look) == [0]
    assert ours() == parents
    database.close()


def test_a_network_that_is_cut_holds_up_neither_answers_nor_the_end_of_a_process(
    postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    url, settled = postgresql.new_database(), Settled()
    with Forwarder(postgresql.port) as network:
        behind = url.replace(f":{postgresql.port}/", f":{network.port}/")
        thread = NativeThread("test")
        records = Records(Database(behind), "app", thread, 100, settled)
        records.add(ended("before"))
        wait_for(lambda: settled == {"written": 1})
        network.cut()
        begun = time.monotonic()
        add_some(records, 50)
        records.close(0.2)
        assert time.monotonic() - begun < PATIENCE / 2
        assert "50 answers were not recorded" in caplog.text
        network.restore()
        # They were under way: what could not be confirmed in time may still be there, but once.
        wait_for(lambda: len(query(url, "SELECT * FROM chatproxy_answers")) == 51)


def test_preparing_the_tables_leaves_no_connection_that_a_fork_would_share(
    postgresql: PostgreSQL,
) -> None:
    url = postgresql.new_database()
    first, second = Database(url), Database(url)
    first.prepare()
    second.prepare()  # finds the tables made
    # The server needs a moment to notice that a client has gone.
    ours = "datname = current_database() AND pid <> pg_backend_pid()"
    wait_for(lambda: query(url, f"SELECT count(*) FROM pg_stat_activity WHERE {ours}") == [(0,)])


# ---- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:se%3Acret@127.0.0.1:1/db",
        "postgresql://ann:se%3Acret@127.0.0.1:notaport/db",
        "sqlite:////nowhere/se:cret.db",
    ],
)
def test_the_password_is_in_no_error(url: str) -> None:
    with pytest.raises((ConfigError, DatabaseError)) as error:
        Database(url).prepare()
    assert "se:cret" not in str(error.value)
    assert "se%3Acret" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("place", ["ann:se%3Acret@127.0.0.1/db", "127.0.0.1/db?password=se%3Acret"])
@pytest.mark.parametrize("quoted", ["se:cret", "se%3Acret", "se\\x3acret"])
def test_a_password_that_a_driver_quotes_is_masked(
    monkeypatch: pytest.MonkeyPatch, place: str, quoted: str
) -> None:
    quoting = Mock(side_effect=OSError(f"no {quoted}\n here"))
    monkeypatch.setattr(psycopg, "connect", quoting)
    with pytest.raises(DatabaseError, match=r"^no \*\*\* here$"):
        Database(f"postgresql://{place}").prepare()


# ---- an application ------------------------------------------------------------------------------


def test_an_answer_of_an_application_is_recorded_and_counted(
    app: Flask, upstream: object, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    app.config["CHATPROXY_RECORDS"] = url
    chat = ChatProxy(app)
    told: list[Any] = []
    with signals.answers_recorded.connected_to(lambda _app, **sent: told.append(sent), app):
        chat.start(HELLO, session_id="s1", owner="ann").wait()
        wait_for(lambda: told == [{"result": "written", "count": 1}])
    rows = query(url, "SELECT session_id, owner, outcome, application FROM chatproxy_answers")
    assert [row[:3] for row in rows] == [("s1", "ann", "finished")]
    assert rows[0][3] == app.extensions["chatproxy"].scope


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://ann:secret@127.0.0.1:port/db", "CHATPROXY_RECORDS can't be read as a URL"),
        ("mysql://ann:secret@127.0.0.1/db", "CHATPROXY_RECORDS must be a URL such as"),
        ("sqlite://", "CHATPROXY_RECORDS must be a URL such as"),
        ("sqlite:///:memory:", "CHATPROXY_RECORDS must be a URL such as"),
    ],
)
def test_a_url_that_cannot_be_one_stops_the_start(app: Flask, url: str, sentence: str) -> None:
    app.config["CHATPROXY_RECORDS"] = url
    with pytest.raises(ConfigError, match=sentence) as error:
        ChatProxy(app)
    assert "secret" not in str(error.value)


def test_without_records_nothing_of_them_is_imported(tmp_path: Path) -> None:
    code = "import chatproxy.app, sys; chatproxy.app.create_app(); print(*sys.modules)"
    environment = {"DEEPSEEK_BASE_URL": "http://127.0.0.1:1", "CHATPROXY_RUN_DIR": str(tmp_path)}
    found = Another(code, prepared="threads", **environment).rest().split()
    assert not {"sqlalchemy", "alembic", "chatproxy.records"} & set(found)
