"""``chatproxy report``: sums over the records, as a table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chatproxy.answers.usage import Saved, UsageSource
from chatproxy.cli import main
from chatproxy.records.database import Database
from chatproxy.records.rows import row_of

from .support.records import ended

DAY = "2026-11-26"


def row(time: str, application: str = "app", **fields: Any) -> dict[str, Any]:
    at = datetime.fromisoformat(time).replace(tzinfo=timezone.utc)
    return {**row_of(ended(**fields), application), "started_at": at, "ended_at": at}


@pytest.fixture
def url(database_url: str) -> str:
    """A database with five answers."""
    unknown = {"source": UsageSource.ESTIMATED, "saved": Saved(None)}
    database = Database(database_url)
    database.prepare()
    database.add(
        [
            row("2026-11-25T23:59:59.999", owner="ann", cost="0.5"),
            row("2026-11-26T00:00", owner="ann", cost="0.000000001", model="v4"),
            row("2026-11-26T12:00", owner="ann", stopped=True, saved=Saved(100), cost="1"),
            row("2026-11-26T23:59", owner="ann", cost="2", currency="CNY"),
            row("2026-11-26T08:00", "other", owner="=bob()", cost=None, **unknown),
        ]
    )
    database.close()
    return database_url


def report(url: str, *options: str) -> str:
    done = CliRunner().invoke(main, ["report", *options], env={"CHATPROXY_RECORDS": url})
    assert done.exit_code == 0, done.output
    return done.output


def as_json(url: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(report(url, "--json", *options))
    return found


def test_a_line_has_the_sums_of_its_day_owner_and_model(url: str) -> None:
    lines = as_json(url)
    assert [(each["day"], each["owner"], each["model"]) for each in lines] == [
        ("2026-11-25", "ann", "deepseek-flash"),
        (DAY, "=bob()", "deepseek-flash"),
        (DAY, "ann", "deepseek-flash"),
        (DAY, "ann", "v4"),
    ]
    assert lines[2] == {
        "day": DAY,
        "owner": "ann",
        "model": "deepseek-flash",
        "answers": 2,
        "stopped": 1,
        "failed": 0,
        "counted": 0,
        "estimated": 0,
        "prompt_tokens": 20,
        "completion_tokens": 40,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "savedAtMost": 100,
        "cost": [{"amount": 2.0, "currency": "CNY"}, {"amount": 1.0, "currency": "USD"}],
    }
    assert (lines[1]["estimated"], lines[1]["cost"]) == (1, [])
    assert lines[3]["cost"] == [{"amount": 1e-9, "currency": "USD"}]


def test_a_span_and_an_application_can_be_chosen(url: str) -> None:
    options = {
        f"--since {DAY}": 4,
        f"--until {DAY}": 1,
        f"--since {DAY}T08:00 --until {DAY}T13:00": 2,
        f"--since {DAY}T09:00+01:00 --until {DAY}T12:00:00+00:00": 1,
        "--application other": 1,
        "": 5,
    }
    found = {each: as_json(url, "--by", "", *each.split()) for each in options}
    assert {each: line["answers"] for each, (line,) in found.items()} == options


def test_a_table_has_a_last_line_with_the_sums_and_csv_exact_amounts(url: str) -> None:
    """And no formula of a client's."""
    lines = report(url, "--by", "owner").splitlines()
    heads = "OWNER ANSWERS STOPPED FAILED TOKENS IN OUT SAVED AT MOST COST"
    assert lines[0].split() == heads.split()
    assert lines[1].split()[-1] == "-"
    costs = ["2.000000", "CNY,", "1.500000", "USD"]
    assert lines[-1].split() == ["total", "5", "1", "0", "50", "100", "100", *costs]
    rows = list(csv.DictReader(io.StringIO(report(url, "--by", "owner,model", "--csv"))))
    assert [each["owner"] for each in rows] == ["'=bob()", "ann", "ann"]
    assert [each["cost USD"] for each in rows][::2] == ["", "0.000000001"]


def test_what_a_client_calls_a_model_is_one_cell(database_url: str) -> None:
    """Of a table, and of a spreadsheet."""
    names = ["a\n2026-11-26  forged", "b\x1b[2J\u2028c", "\t=d()"]
    database = Database(database_url)
    database.prepare()
    database.add([row(DAY, model=name) for name in names])
    database.close()
    _, *lines, _total = report(database_url, "--by", "model").splitlines()
    shown = sorted(line.split("  ")[0].strip() for line in lines)
    assert shown == ["=d()", "a 2026-11-26", "b [2J c"]
    rows = csv.DictReader(io.StringIO(report(database_url, "--by", "model", "--csv"), newline=""))
    assert "'\t=d()" in [each["model"] for each in rows]


def test_sums_are_exact_and_have_no_bound(database_url: str) -> None:
    """Also of rows that are larger than any that are made now."""
    database = Database(database_url)
    database.prepare()
    huge = {**row(DAY), "prompt_tokens": 2**63 - 1, "cost_nano": 2**63 - 1}
    database.add([{**huge, "key": str(number)} for number in range(3)])
    spent = database.spent("app", "ann", datetime(2000, 1, 1, tzinfo=timezone.utc))
    database.close()
    (line,) = as_json(database_url)
    assert line["prompt_tokens"] == 3 * (2**63 - 1)
    assert spent == (line["prompt_tokens"] + 60, {"USD": 3 * (2**63 - 1)})


def test_without_answers_there_is_an_empty_report(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    assert as_json(url) == []
    assert len(report(url).splitlines()) == 1
    assert report(url, "--csv").startswith("day,owner,model,answers,")


@pytest.mark.parametrize(
    ("options", "url", "said"),
    [
        ([], "", "Name the database of the records: CHATPROXY_RECORDS, or --records."),
        ([], "mysql://a:geheim@b/c", "CHATPROXY_RECORDS must be a URL such as sqlite:///"),
        ([], "postgresql://a:geheim@127.0.0.1:1/c", "connection failed"),
        ([], "sqlite:////nowhere/at/all.db", "unable to open database file"),
        (["--by", "day,day"], "sqlite:////tmp/x", "some of day, owner, model, application"),
        (["--since", "yesterday"], "sqlite:////tmp/x", "a day or a time, such as 2026-11-26"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(options: list[str], url: str, said: str) -> None:
    done = CliRunner().invoke(main, ["report", *options], env={"CHATPROXY_RECORDS": url})
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())
    assert "geheim" not in done.output
