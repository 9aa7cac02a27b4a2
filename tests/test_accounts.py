"""The accounts: a number that all workers draw from, whichever way they find each other."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatproxy.answers.reservation import Accounts, Draw
from chatproxy.cluster.local import accounts as local
from chatproxy.cluster.redis import accounts as redis_accounts
from chatproxy.cluster.redis.peers import RedisPeers
from chatproxy.errors import PeersUnavailable

from .support.another import several
from .support.valkey import Forwarder, Valkey
from .support.waiting import PATIENCE, at_once, wait_for
from .test_local_peers import Worker

Place = tuple[Path, Accounts]
InRedis = Callable[..., Accounts]
SOON = time.time() + 3600
#: Names that must not become a path, a pattern, or somebody else's.
NAMES = ["ada", "../../etc/passwd", "*", "a:b", "张伟" * 400, "\ud800", ""]

_numbers = itertools.count(1)

#: A worker that draws from an account again and again; the sum of what it got is its last line.
DRAWS = """
import random, sys
from chatproxy.cluster.local.accounts import LocalAccounts

accounts = LocalAccounts(lambda: sys.argv[1], "app")
until, dice, kept = float(sys.argv[2]), random.Random(sys.argv[3]), 0
print("ready")
sys.stdin.readline()
for turn in range(1000):
    draw = accounts.draw(("ada",), least=1, wanted=dice.randrange(1, 60), most=100_000,
                         until=until, initial=0)
    used = dice.randrange(draw.amount + 1)
    accounts.settle(("ada",), draw, used)
    kept += used
    if turn == 99 and sys.argv[3] == "0":
        print("amid")
print(kept)
"""


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the workers of one host."""
    return tmp_path_factory.mktemp("d") / "run"


@pytest.fixture
def on_host(folder: Path) -> Iterator[Callable[[str], Accounts]]:
    """Makes the accounts of workers on one host, by the name of their application."""
    with ExitStack() as stack:
        workers: list[Worker] = []

        def make(scope: str) -> Accounts:
            workers.append(Worker(folder, scope))
            stack.callback(workers[-1].peers.close)
            return workers[-1].peers.accounts

        yield make


@pytest.fixture
def in_redis(valkey: Valkey) -> Iterator[InRedis]:
    """Makes those of workers on several hosts."""
    with ExitStack() as stack:

        def make(scope: str, port: int = valkey.port, **settings: bool) -> Accounts:
            peers = RedisPeers(f"redis://127.0.0.1:{port}", scope, 20.0, **settings)
            stack.callback(peers.close)
            peers.serve(lambda question: question, lambda _key: None)
            return peers.accounts

        yield make


@pytest.fixture(params=["on_host", "in_redis"])
def workers(request: pytest.FixtureRequest) -> list[Accounts]:
    """Three workers of one application."""
    make, scope = request.getfixturevalue(request.param), f"accounts-{next(_numbers)}"
    return [make(scope) for _ in range(3)]


def draw_from(accounts: Accounts, name: str = "ada", **given: int) -> Draw:
    wanted = {"least": 1, "wanted": 10, "most": 100, "initial": 0, **given}
    found = accounts.draw((name, str(wanted.pop("of", 0))), until=SOON, **wanted)
    assert found is not None
    return found


def test_an_account_that_is_not_there_begins_with_what_is_said(workers: list[Accounts]) -> None:
    one, two, _ = workers
    assert one.draw(("ada", "0"), least=1, wanted=1, most=100, until=SOON) is None
    assert draw_from(one, initial=70)[:2] == (10, 20)
    assert draw_from(two, initial=0)[:2] == (10, 10)
    assert two.draw(("ada", "0"), least=0, wanted=0, most=100, until=SOON)[:2] == (0, 10)  # type: ignore[index]


def test_what_is_left_is_drawn_if_it_is_enough(workers: list[Accounts]) -> None:
    one, two, _ = workers
    assert draw_from(one, wanted=93)[:2] == (93, 7)
    assert draw_from(two, least=8)[:2] == (0, 7)
    assert draw_from(two, least=7)[:2] == (7, 0)
    assert draw_from(one)[:2] == (0, 0)
    assert draw_from(one, most=50)[:2] == (0, 0)  # a limit that was lowered
    assert draw_from(two, most=120)[:2] == (10, 10)


def test_what_was_not_used_goes_back_and_what_was_used_beyond_counts(
    workers: list[Accounts],
) -> None:
    one, two, _ = workers
    mine, theirs = draw_from(one, wanted=60), draw_from(two, wanted=40)
    one.settle(("ada", "0"), mine, 5)
    assert draw_from(two, wanted=0, least=0).left == 55
    two.settle(("ada", "0"), theirs, 70)
    assert draw_from(one, wanted=0, least=0).left == 25


def test_each_name_has_an_account_of_its_own(workers: list[Accounts]) -> None:
    for number, name in enumerate(NAMES):
        assert draw_from(workers[number % 3], name, wanted=number)[:2] == (number, 100 - number)
    for number, name in enumerate(NAMES):
        assert draw_from(workers[0], name, least=0, wanted=0).left == 100 - number
    assert draw_from(workers[0], "ada", of=1).left == 90


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # which worker
        st.integers(0, 4),  # 0 draws, others settle a draw, if there is one
        st.integers(0, 60),  # how much at least, or how much was used
        st.integers(0, 60),  # how much beyond that
    ),
    max_size=40,
)


# Each example has an account of its own.
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, initial=st.integers(0, 30))
def test_however_draws_interleave_they_never_come_to_more_than_there_is(
    workers: list[Accounts], steps: list[tuple[int, int, int, int]], initial: int
) -> None:
    """The account is what is used, what is drawn and not settled, and what was there before."""
    number, drawn, live = next(_numbers), initial, list[Draw]()
    for worker, kind, least, more in steps:
        accounts = workers[worker]
        if kind == 0 or not live:
            draw = draw_from(accounts, of=number, least=least, wanted=least + more, initial=initial)
            left = 100 - drawn
            assert draw.amount == (min(least + more, left) if left >= least else 0)
            drawn += draw.amount
            live.append(draw)
            assert drawn <= 100
            assert draw.left == 100 - drawn
        else:
            draw = live.pop(least % len(live))
            used = min(least, draw.amount)
            accounts.settle(("ada", str(number)), draw, used)
            drawn += used - draw.amount


def test_those_who_draw_at_once_never_get_more_than_there_is(workers: list[Accounts]) -> None:
    barrier = threading.Barrier(12)

    def draw(number: int) -> int:
        barrier.wait(PATIENCE)
        accounts, kept = workers[number % 3], 0
        for turn in range(15):
            found = draw_from(accounts, wanted=5 + turn, most=1000)
            accounts.settle(("ada", "0"), found, found.amount // 2)
            kept += found.amount // 2
        return kept

    kept = sum(at_once(*(partial(draw, number) for number in range(12))))
    assert draw_from(workers[0], least=0, wanted=0, most=1000).left == 1000 - kept


def test_what_was_drawn_before_a_removal_does_not_come_back_after_it(
    workers: list[Accounts], valkey: Valkey, folder: Path
) -> None:
    """If the run directory is removed, or Redis is emptied."""
    one, two, _ = workers
    before = draw_from(one, wanted=90)
    shutil.rmtree(folder, ignore_errors=True)
    with valkey.client() as client:
        client.flushall()
    assert two.draw(("ada", "0"), least=1, wanted=1, most=100, until=SOON) is None
    one.settle(("ada", "0"), before, 1)  # nobody has begun it anew
    assert draw_from(two).left == 90
    one.settle(("ada", "0"), before, 20)
    assert draw_from(two, wanted=0, least=0).left == 70


# ---- one host ------------------------------------------------------------------------------------


def test_processes_that_draw_at_once_never_get_more_than_there_is(tmp_path: Path) -> None:
    """One of them is killed amid its draws: what it had drawn and not settled stays drawn."""
    until = int(SOON)
    with several(4, DRAWS, tmp_path, until, prepared="threads") as (victim, *others):
        for each in (victim, *others):
            each.tell()
        victim.read()
        victim.kill()
        kept = sum(int(each.rest()) for each in others)
    found = local.LocalAccounts(lambda: str(tmp_path), "app").draw(
        ("ada",), least=0, wanted=0, most=100_000, until=until
    )
    assert found is not None
    assert 0 < kept <= 100_000 - found.left <= 100_000


@pytest.fixture
def run_dir(folder: Path, on_host: Callable[[str], Accounts]) -> Place:
    return folder, on_host("app")


def test_a_file_that_nothing_was_written_to_is_a_new_account(run_dir: Place) -> None:
    place, accounts = run_dir
    draw_from(accounts)
    (file,) = place.glob("accounts/*/*")
    os.truncate(file, 7)  # its worker was killed just then
    assert draw_from(accounts, initial=50).left == 40
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_accounts_of_a_time_that_is_over_are_removed(run_dir: Place) -> None:
    place, accounts = run_dir
    for number in range(100):
        accounts.draw((str(number),), least=1, wanted=1, most=9, until=time.time() - 9, initial=0)
    draw_from(accounts)
    assert len(list(place.glob("accounts/*"))) == 1


def test_an_account_that_cannot_be_changed_is_an_honest_refusal(
    run_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, accounts = run_dir
    draw = draw_from(accounts)
    (file,) = place.glob("accounts/*/*")
    monkeypatch.setattr(local, "LOCK_SECONDS", 0.02)
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(PeersUnavailable, match="locked; try again"):
            draw_from(accounts)
        accounts.settle(("ada", "0"), draw, 0)  # stays drawn
    assert draw_from(accounts, wanted=0, least=0).left == 90
    file.unlink()
    file.mkdir()
    with pytest.raises(PeersUnavailable, match="run directory cannot be used"):
        draw_from(accounts)


# ---- several hosts -------------------------------------------------------------------------------


def test_an_account_in_redis_is_forgotten_when_its_time_is_over(in_redis: InRedis) -> None:
    accounts = in_redis("forgets")
    accounts.draw(("ada",), least=1, wanted=1, most=9, until=time.time() + 0.3, initial=0)
    wait_for(
        lambda: accounts.draw(("ada",), least=0, wanted=0, most=9, until=SOON) is None,
        message="the end of the account",
    )


def test_with_records_what_was_drawn_from_a_lost_account_is_charged_once(
    valkey: Valkey, in_redis: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one has it from the records if it ended before; else it is added, however late."""
    monkeypatch.setattr(redis_accounts, "RECORDED_SECONDS", 0.0)
    with Forwarder(valkey.port) as network:
        one = in_redis("once", network.port, has_records=True)
        other = in_redis("once", has_records=True)
        before, after = draw_from(one, of=0), draw_from(one, of=1)
        network.cut()
        with pytest.raises(PeersUnavailable):
            draw_from(one, of=2)
        one.settle(("ada", "0"), before, 7)
        with valkey.client() as client:
            client.flushall()
        time.sleep(0.2)  # as the records are written a little later
        draw_from(other, of=0, initial=7, wanted=0, least=0)
        draw_from(other, of=1, initial=0, wanted=0, least=0)
        one.settle(("ada", "1"), after, 5)
        network.restore()
        wait_for(lambda: draw_from(other, of=1, wanted=0, least=0).left == 95, message="the later")
        assert draw_from(other, of=0, wanted=0, least=0).left == 93


def test_what_is_settled_before_a_lost_account_begins_anew_is_added_if_the_records_lacked_it(
    valkey: Valkey, in_redis: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_accounts, "RECORDED_SECONDS", 3 * PATIENCE)
    accounts = in_redis("lacked", has_records=True)
    draw = draw_from(accounts)
    with valkey.client() as client:
        client.flushall()
    accounts.settle(("ada", "0"), draw, 7)
    draw_from(accounts, wanted=0, least=0)
    wait_for(lambda: draw_from(accounts, wanted=0, least=0).left == 93, message="the settlement")


def test_what_cannot_be_settled_while_redis_is_away_is_settled_when_it_is_back(
    valkey: Valkey, in_redis: InRedis
) -> None:
    """What was under way when it went may have been done: it is not sent twice."""
    with Forwarder(valkey.port) as network:
        accounts = in_redis("away", network.port)
        draws = [draw_from(accounts) for _ in range(3)]
        network.cut()
        with pytest.raises(PeersUnavailable):
            draw_from(accounts, wanted=9)
        for draw in draws:
            accounts.settle(("ada", "0"), draw, 1)
        network.restore()

        def settled() -> bool:
            try:
                left = draw_from(accounts, wanted=0, least=0).left
            except PeersUnavailable:
                return False
            return left in (100 - 3, 100 - 3 - 9)  # the draw may have come through

        wait_for(settled, message="all settlements")
