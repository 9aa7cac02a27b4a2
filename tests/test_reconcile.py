"""``chatproxy reconcile``: what is billed beside what the records say, and the proof of a Stop."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from click.testing import CliRunner, Result
from flask import Flask

from chatproxy import ChatProxy
from chatproxy.answers.calls import MOST_LISTED, Calls
from chatproxy.answers.usage import Cost, UsageSource
from chatproxy.cli import main, prove
from chatproxy.observability import telemetry
from chatproxy.records.balances import account_of, reconcile
from chatproxy.records.database import Database
from chatproxy.records.rows import row_of
from chatproxy.testing import DeepSeek

from .support.instant import HELLO
from .support.played import DeepSeek as Played
from .support.postgresql import query
from .support.records import ended
from .support.waiting import Background, wait_for

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
KEY = "sk-0123456789"


def dollars(amount: str) -> list[Cost]:
    return [Cost(Decimal(amount), "USD")]


def row(minutes: float, **fields: Any) -> dict[str, Any]:
    """The row of an answer that ended so long after ``NOW``."""
    at = NOW + timedelta(minutes=minutes)
    return {**row_of(ended(**fields), "app"), "started_at": at, "ended_at": at}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as database:
        database.prepare()
        yield database


def test_a_fall_is_compared_with_the_answers_that_ended_meanwhile(database: Database) -> None:
    elsewhere = {**row(2, cost="5"), "upstream": "azure"}
    database.add(
        [
            row(-1, cost="7"),
            row(0, cost="0.25"),
            row(1, cost="0.05", stopped=True, source=UsageSource.ESTIMATED),
            row(2, cost="0.000000001", source=UsageSource.COUNTED),
            row(2, cost=None),
            row(2, cost=None, source=UsageSource.NONE),  # it was refused
            row(2, cost="3", currency="CNY"),
            row(5, cost="9"),
            elsewhere,
        ]
    )
    assert reconcile(database, "a", NOW, dollars("10.50")) == []
    (found,) = reconcile(database, "a", NOW + timedelta(minutes=5), dollars("10.19"))
    assert (found.fall, found.recorded) == (Decimal("0.31"), Decimal("0.300000001"))
    assert found.difference == Decimal("0.009999999")
    counts = (found.answers, found.stopped, found.counted, found.estimated, found.unpriced)
    assert counts == (6, 1, 1, 1, 2)
    assert (found.since, found.until) == (NOW, NOW + timedelta(minutes=5))


def run_of(*calls: tuple[str, str | None, UsageSource]) -> dict[str, Any]:
    """The row of a run that has made calls: of which upstream, what they cost, who says so."""
    session = ended(cost=None)
    session.upstream, session.calls = "", Calls()
    for upstream, cost, source in calls:
        call = ended(cost=cost, source=source)
        call.upstream = upstream
        session.calls.begin("ask", call)
        session.calls.end(call)
    at = NOW + timedelta(minutes=1)
    return {**row_of(session, "app"), "started_at": at, "ended_at": at}


def test_a_run_counts_with_all_its_calls_of_deepseek_and_no_other(database: Database) -> None:
    ours = ("DeepSeek", "0.001", UsageSource.PROVIDER)
    unpriced, unsent = ("DeepSeek", None, UsageSource.COUNTED), ("DeepSeek", None, UsageSource.NONE)
    elsewhere, http = ("azure", "0.5", UsageSource.PROVIDER), ("", None, UsageSource.NONE)
    reconcile(database, "a", NOW, dollars("10"))
    database.add(
        [
            row(1, cost="0.1"),
            run_of(*[ours] * 20, *[elsewhere] * MOST_LISTED),
            run_of(ours, elsewhere, unpriced),
            run_of(ours, unsent, http),
            run_of(elsewhere),
            run_of(unsent),
            run_of(),
        ]
    )
    (found,) = reconcile(database, "a", NOW + timedelta(minutes=5), dollars("9"))
    assert (found.recorded, found.answers, found.unpriced) == (Decimal("0.122"), 4, 1)


def test_a_span_goes_on_until_another_is_begun(database: Database) -> None:
    reconcile(database, "a", NOW, dollars("10"))
    later = [NOW + timedelta(minutes=minutes) for minutes in (1, 2, 3)]
    assert reconcile(database, "a", later[0], dollars("9"))[0].fall == 1
    assert reconcile(database, "a", later[1], dollars("8"), starts=True) == []
    (found,) = reconcile(database, "a", later[2], dollars("8.5"))
    assert (found.before, found.fall) == (8, Decimal("-0.5"))


def test_accounts_and_currencies_are_apart_and_no_key_is_kept(database: Database) -> None:
    account = account_of("https://api.deepseek.com", KEY)
    assert KEY not in account
    assert account != account_of("https://api.deepseek.com", f"{KEY}x")
    reconcile(database, account, NOW, dollars("10"))
    both = [*dollars("9"), Cost(Decimal(70), "CNY")]
    (found,) = reconcile(database, account, NOW + timedelta(minutes=1), both)
    assert found.currency == "USD"
    assert reconcile(database, "another", NOW + timedelta(minutes=2), dollars("1")) == []


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[DeepSeek]:
    with closing(DeepSeek()) as deepseek:
        yield deepseek


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/records.db"


def run(base_url: str, url: str, *options: str, **settings: str) -> Result:
    environment = {
        "DEEPSEEK_BASE_URL": base_url,
        "DEEPSEEK_API_KEY": KEY,
        "CHATPROXY_RECORDS": url,
        **settings,
    }
    return CliRunner().invoke(main, ["reconcile", *options], env=environment)


def spend(upstream: DeepSeek) -> dict[str, Any]:
    """Have an answer billed; return what the ledger says of it."""
    body = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hello"}]}
    requests.post(
        f"{upstream.url}/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    ).raise_for_status()
    return upstream.wait_for(lambda each: not each["open"] and float(each["billed"]) > 0)


def test_what_the_records_lack_shows_and_those_that_agree_differ_by_nothing(
    upstream: DeepSeek, url: str
) -> None:
    begun = run(upstream.url, url, "--start")
    assert (begun.exit_code, begun.exception) == (0, None)
    assert "The balance is 1000000.000000000 USD at " in begun.output
    cost = spend(upstream)["billed"]
    told = run(upstream.url, url).output
    assert told.splitlines()[-1].split()[-1] == f"{Decimal(cost):.9f}"
    with closing(Database(url)) as database:
        database.add([row_of(ended(cost=cost, stopped=True), "app")])
    (found,) = json.loads(run(upstream.url, url, "--json").output)
    assert (found["fall"], found["recorded"]) == (cost, cost)
    assert Decimal(found["difference"]) == 0
    told = run(upstream.url, url).output
    assert "1 answers, 1 of them stopped" in told
    assert told.splitlines()[-1].split() == ["billed", "beyond", "them", "0.000000000"]


NO_NUMBER = b'{"balance_infos": [{"currency": "USD", "total_balance": "sNaN"}]}'


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("401 No", b"", "DeepSeek answered with status 401."),
        ("200 OK", b"{}", "DeepSeek's answer is no balance."),
        ("200 OK", NO_NUMBER, "DeepSeek's answer is no balance."),
        ("200 OK", b'{"balance_infos": ' + b"[" * 100_000, "DeepSeek's answer is no balance."),
        ("nonsense", b"", "DeepSeek could not be asked for the balance."),
    ],
)
def test_a_balance_that_cannot_be_had_is_one_sentence(
    played: Played, url: str, status: str, body: bytes, said: str
) -> None:
    asked = Background(lambda: run(played.url, url))
    peer = played.accept()
    head, _ = peer.request()
    assert head.startswith("GET /user/balance ")
    peer.send(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body))
    result = asked.result()
    assert result.exit_code == 1
    assert result.output == f"Error: {said}\n"


# ---- with an application's own answers -----------------------------------------------------------


def test_records_report_and_metrics_of_an_application_are_what_was_billed(
    upstream: DeepSeek, url: str, tmp_path: Path
) -> None:
    run(upstream.url, url, "--start")
    upstream.simulate(tokens=50, cached_tokens=3, rate=0)
    app = Flask(__name__)
    app.config.update(
        DEEPSEEK_BASE_URL=upstream.url,
        DEEPSEEK_API_KEY=KEY,
        CHATPROXY_RECORDS=url,
        CHATPROXY_RUN_DIR=str(tmp_path / "run"),
    )
    chat = ChatProxy(app)
    for owner in ("ann", "ann", "bob"):
        with chat.start({**HELLO, "model": "deepseek-flash"}, owner=owner) as answer:
            assert answer.wait() == "finished"
    wait_for(lambda: query(url, "SELECT count(*) FROM chatproxy_answers") == [(3,)])
    billed = sum(Decimal(each["billed"]) for each in upstream.requests)
    (found,) = json.loads(run(upstream.url, url, "--json").output)
    assert Decimal(found["fall"]) == Decimal(found["recorded"]) == billed > 0
    done = CliRunner().invoke(main, ["report", "--records", url, "--by", "owner", "--csv"])
    rows = list(csv.DictReader(io.StringIO(done.output)))
    assert [each["owner"] for each in rows] == ["ann", "bob"]
    assert sum(Decimal(each["cost USD"]) for each in rows) == billed
    assert [each["completion_tokens"] for each in rows] == ["100", "50"]
    state = app.extensions["chatproxy"]
    samples = [sample for family in state.metrics.collect() for sample in family.samples]
    outputs = {"direction": "output", "source": "provider", "outcome": "finished"}
    assert [each.value for each in samples if each.labels == outputs] == [150]
    costs = [each.value for each in samples if each.name == "chatproxy_cost_total"]
    assert sum(costs) == pytest.approx(float(billed))
    spent = state.records.spent("bob", NOW - timedelta(days=9999))
    assert spent == (50 + int(rows[1]["prompt_tokens"]), {"USD": int(billed / 3 * 10**9)})


# ---- the proof -----------------------------------------------------------------------------------


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "MARGIN", 0.1)
    monkeypatch.setattr(prove, "LOOK_SECONDS", 0.01)


@pytest.mark.usefixtures("_soon")
def test_a_stop_is_proved_to_stop_the_bill_whatever_else_is_set(
    upstream: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.simulate(tokens=100_000, rate=1000)
    options = ["--prove", "--yes", "--max-tokens", "1000", "--answers", "2"]
    others = {
        "CHATPROXY_CONVERSATIONS": "1",
        "CHATPROXY_BUDGET": "1 tokens/day",
        "CHATPROXY_TOKENS": "ann:0123456789abcdef",
        "CHATPROXY_TELEMETRY": "1",
    }
    monkeypatch.setattr(telemetry, "export_from", pytest.fail)
    result = run(upstream.url, "", *options, **others)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "A Stop stops the bill."
    asked = [each for each in upstream.requests if each["path"] == "/chat/completions"]
    *stopped, control = asked
    assert len(stopped) == 2
    # The system resets a connection that is closed with something unread.
    assert {each["peer_gone_how"] for each in stopped} <= {"closed", "reset"}
    assert all(40 <= each["tokens"] < 500 for each in stopped)
    assert control["tokens"] == 1000


def test_no_money_is_spent_before_it_is_said_and_agreed_to(upstream: DeepSeek) -> None:
    result = run(upstream.url, "", "--prove")
    assert result.exit_code == 1
    told = result.output
    assert f"{upstream.url}, deepseek-flash: 5 questions at once, each for 8000 tokens" in told
    assert re.search(r"They cost about 0\.0\d+ USD if .*, and about 0\.0\d+ USD if not\.", told)
    assert told.index("The balance is 1000000") < told.index("Spend that?")
    assert {each["path"] for each in upstream.requests} == {"/user/balance"}


@pytest.mark.parametrize(
    ("fall", "step", "said"),
    [
        ("0.0003", "0.0001", ""),
        ("0.08", "0.0001", "A Stop does not stop the bill there."),
        ("0.00", "0.1", "too large to tell the one from the other"),
        ("-0.01", "0.0001", "fell by less than what came"),
    ],
)
def test_the_balance_decides(
    fall: str, step: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    amounts = [Decimal(amount) for amount in (fall, "0.0004", "0.08", step)]
    if said:
        with pytest.raises(click.ClickException, match=said):
            prove.judge(*amounts)
    else:
        prove.judge(*amounts)
        assert capsys.readouterr().out == "A Stop stops the bill.\n"


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("told", "found"),
    [
        (["10", "10", "10", "9.8", "9.75", "9.75"], "9.75"),  # told late, and bit by bit
        (["10"] * 9, "does not show the whole answers: it is told too late"),
        (["9", "8", "7", "6", "5", "4", "3", "2"], "falls all the time"),
    ],
)
def test_a_balance_that_does_not_show_what_is_billed_yet_proves_nothing(
    told: list[str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "MOST_LOOKS", 6)
    balances = map(dollars, told)
    rest = lambda: prove.resting_balance(lambda: next(balances), "USD", Decimal("9.8"))  # noqa: E731
    if found == "9.75":
        assert rest() == Decimal(found)
    else:
        with pytest.raises(click.ClickException, match=found):
            rest()


@pytest.mark.parametrize(("one", "number"), [("1", 1), ("0.0158", 2), ("0.002", 16), ("0.001", 0)])
def test_the_control_is_as_many_answers_as_the_balance_shows(one: str, number: int) -> None:
    step = Decimal("0.01")
    if number:
        assert prove.number_of_controls(Decimal(one), step) == number
    else:
        with pytest.raises(click.ClickException, match="too large to tell"):
            prove.number_of_controls(Decimal(one), step)


def test_without_a_price_a_key_or_records_it_says_which(upstream: DeepSeek) -> None:
    unpriced = run(upstream.url, "", "--prove", "--model", "other")
    assert "The price of 'other' is not known" in unpriced.output
    assert "Name the database of the records" in run(upstream.url, "").output
    far = run("https://deepseek.example", "sqlite:////tmp/x", DEEPSEEK_API_KEY="")
    assert "DEEPSEEK_API_KEY is not set" in far.output
