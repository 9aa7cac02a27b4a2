"""Budgets: what is drawn before a question, what is charged after it, and what is refused."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy import Budget
from chatproxy.accounting.budgets import Budgets
from chatproxy.accounting.grant import Grant
from chatproxy.answers.question import Question
from chatproxy.answers.session import Outcome, Phase, Reason, StreamSession
from chatproxy.answers.upstream import BillingStops, Upstream
from chatproxy.answers.usage import Account, Cost, Usage, UsageSource, counted
from chatproxy.errors import BudgetSpent, PeersUnavailable, Refusal

from .support.sessions import new_session
from .support.table import Table, TablePeers
from .support.waiting import PATIENCE, Background

#: An hour before the end of a day, a month and a year.
NOW = dt.datetime(2026, 12, 31, 23, tzinfo=dt.timezone.utc)
DAY = Budget(1000)
MONTH = Budget(amount="0.001", currency="USD", per="month")
QUESTION = Question(b"{}", model="deepseek-flash")
#: The second one is the dearer.
UPSTREAMS = (
    Upstream("https://one.example", name="one"),
    Upstream("https://two.example", name="two", model="dear"),
)


@dataclass
class Rates:
    input: Decimal
    output: Decimal


class Prices:
    """USD for a million tokens, the output ten times as dear; those of Mars in another currency.

    At this time they are half of what they are at the dearest, and before noon a fifth.
    """

    def rates(self, upstream: str, models: Any, at: dt.datetime, *, dearest: bool = False) -> Any:
        known = {"deepseek-flash": "0.5", "dear": "1", "free": "0"}
        if models[0] not in known:
            return None
        price = Decimal(known[models[0]])
        if not dearest:
            price /= 5 if at.hour < 12 else 2
        return Rates(price, 10 * price), "MAR" if upstream == "mars" else "USD"


def new_budgets(table: Table | None = None, spent: Any = None, now: dt.datetime = NOW) -> Budgets:
    return Budgets(TablePeers(table), Prices(), spent, 300, now.timestamp)


def reserve(
    budgets: Budgets, *given: Budget, owner: str = "ada", prompt: int = 100, **wanted: Any
) -> Grant:
    question = wanted.pop("question", QUESTION)
    completion = wanted.pop("completion", 200)
    return budgets.reserve(given or [DAY], owner, question, prompt, completion)


def left(budgets: Budgets, budget: Budget = DAY, owner: str = "ada") -> int:
    (found,) = budgets.left([budget], owner)
    return int(found.left * (1 if budget.unit == "tokens" else 10**9))


def ended(
    usage: Usage | None = None,
    outcome: Outcome = Outcome.FINISHED,
    phase: Phase = Phase.STREAMING,
    **fields: Any,
) -> StreamSession:
    session = new_session()
    session.phase, session.outcome, session.whole = phase, outcome, outcome is Outcome.FINISHED
    session.account = Account(usage or Usage())
    for name, value in fields.items():
        setattr(session, name, value)
    return session


def provider(prompt: int, completion: int) -> Usage:
    return Usage(UsageSource.PROVIDER, counted(prompt, completion).tokens)


def estimated(prompt: int, completion: int, spread: float) -> Usage:
    return counted(prompt, completion, UsageSource.ESTIMATED, spread)


# ---- what a budget is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "unit", "most", "text"),
    [
        (Budget(100_000), "tokens", 100_000, "100,000 tokens a day"),
        (Budget(tokens=5, per="month"), "tokens", 5, "5 tokens a month"),
        (Budget(amount="5", currency="USD"), "USD", 5 * 10**9, "5 USD a day"),
        (Budget(amount=100, currency="CNY"), "CNY", 10**11, "100 CNY a day"),
        (Budget(amount="0.50", currency="EUR", per="month"), "EUR", 5 * 10**8, "0.5 EUR a month"),
        (Budget(amount=Decimal("1e-9"), currency="USD"), "USD", 1, "0.000000001 USD a day"),
    ],
)
def test_a_budget_is_a_whole_number_of_the_smallest_parts(
    budget: Budget, unit: str, most: int, text: str
) -> None:
    assert (budget.unit, budget.most, str(budget)) == (unit, most, text)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"tokens": 0},
        {"tokens": -5},
        {"tokens": True},
        {"tokens": 1.5},
        {"tokens": 10**16},
        {"tokens": 5, "currency": "USD"},
        {"tokens": 5, "per": "hour"},
        {"tokens": 5, "amount": "5", "currency": "USD"},
        {"amount": "5"},
        {"amount": "5", "currency": "usd"},
        {"amount": 0.5, "currency": "USD"},
        {"amount": "five", "currency": "USD"},
        {"amount": "NaN", "currency": "USD"},
        {"amount": "1e-10", "currency": "USD"},
        {"amount": "1e9", "currency": "USD"},
    ],
)
def test_what_can_be_no_budget_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"A Budget|currency of a Budget"):
        Budget(**wrong)


# ---- reserve -------------------------------------------------------------------------------------


def test_the_prompt_and_the_answer_are_drawn_as_far_as_there_is_enough() -> None:
    budgets = new_budgets()
    grant = reserve(budgets)
    assert (grant.completion, grant.is_cut, left(budgets)) == (200, False, 700)
    reserve(budgets, completion=350)
    grant = reserve(budgets)
    assert (grant.completion, grant.is_cut, left(budgets)) == (150, True, 0)


def test_an_answer_of_no_given_length_gets_that_of_the_settings_for_each_choice() -> None:
    budgets = new_budgets()
    assert reserve(budgets, completion=None).completion == 300
    question = QUESTION._replace(choices=2)
    assert reserve(budgets, completion=None, question=question).completion == 500  # what is left
    assert left(budgets) == 0
    question = QUESTION._replace(choices=4)
    assert reserve(new_budgets(), Budget(250), question=question).completion == 148


def test_several_budgets_hold_and_the_tightest_says_how_long() -> None:
    """0.001 USD are a million nano-units: 100 tokens of the prompt take 50,000 of them."""
    budgets = new_budgets()
    grant = reserve(budgets, DAY, MONTH)
    assert grant.completion == (1_000_000 - 50_000) // 5000
    assert (left(budgets), left(budgets, MONTH)) == (700, 0)
    grant.settle(ended(provider(90, 10)))
    assert (left(budgets), left(budgets, MONTH)) == (900, 1_000_000 - 22_500 - 25_000)


@pytest.mark.parametrize("order", [(DAY, MONTH), (MONTH, DAY)])
def test_who_is_refused_by_one_budget_has_drawn_from_none(order: tuple[Budget, ...]) -> None:
    budgets = new_budgets()
    reserve(budgets, MONTH, completion=10_000)
    with pytest.raises(BudgetSpent, match=r"0\.001 USD a month is spent; .* 2027-01-01T00:00:00Z"):
        reserve(budgets, *order)
    assert left(budgets) == 1000


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        (900, "The budget of 1,000 tokens a day is spent"),
        (800, "The budget of 1,000 tokens a day has 100 left, which is too little for this"),
    ],
)
def test_a_refusal_says_when_it_is_free_again_if_the_question_will_ever_fit(
    first: int, sentence: str
) -> None:
    budgets = new_budgets()
    reserve(budgets, completion=first)
    with pytest.raises(BudgetSpent, match=sentence) as refused:
        reserve(budgets)
    assert "free again at 2027-01-01T00:00:00Z" in refused.value.message
    assert refused.value.status == 429
    assert refused.value.headers() == {"Retry-After": "3600", "X-Should-Retry": "false"}
    with pytest.raises(BudgetSpent, match="too large for the budget of 1,000 tokens") as refused:
        reserve(budgets, prompt=1000)
    assert "Retry-After" not in refused.value.headers()


def test_a_question_of_no_price_is_refused_under_a_budget_of_money_alone() -> None:
    budgets, question = new_budgets(), QUESTION._replace(model="张伟\n[SSE] forged")
    reserve(budgets, question=question).give_back()
    with pytest.raises(Refusal, match="no price in USD") as refused:
        reserve(budgets, DAY, MONTH, question=question)
    assert (refused.value.status, refused.value.code) == (400, "model_not_priced")
    assert "forged" not in refused.value.message
    mars = QUESTION._replace(upstreams=(Upstream("https://mars.example", name="mars"),))
    with pytest.raises(Refusal, match="no price in USD"):
        reserve(budgets, MONTH, question=mars)
    assert left(budgets) == 1000


def test_the_dearest_upstream_decides_and_what_is_free_takes_nothing() -> None:
    budgets = new_budgets()
    grant = reserve(budgets, MONTH, question=QUESTION._replace(upstreams=UPSTREAMS))
    assert grant.completion == (1_000_000 - 100_000) // 10_000
    grant.give_back()
    free = reserve(budgets, MONTH, question=QUESTION._replace(model="free"), completion=10**6)
    assert (free.completion, free.is_cut) == (10**6, False)
    assert left(budgets, MONTH) == 999_999  # one, as an account that is spent is spent for all


def test_owners_periods_and_units_have_accounts_of_their_own() -> None:
    table = Table()
    today, tomorrow = new_budgets(table), new_budgets(table, now=NOW + dt.timedelta(hours=1))
    reserve(today, Budget(1000, per="month"), DAY, MONTH)
    assert left(today, owner="bob") == left(tomorrow) == left(tomorrow, MONTH) // 1000 == 1000
    assert left(today, Budget(1000, per="month")) == 700
    assert left(today, Budget(5000)) == 4700  # raised in the meantime
    assert len(table.drawn) == 6


def test_what_is_left_is_told() -> None:
    budgets = new_budgets()
    reserve(budgets, DAY, MONTH, completion=50)
    day, month = (each.as_json() for each in budgets.left([DAY, MONTH], "ada"))
    free = {"freeAt": "2027-01-01T00:00:00Z"}
    assert day == {"unit": "tokens", "per": "day", "limit": 1000, "left": 850, **free}
    assert month == {"unit": "USD", "per": "month", "limit": 0.001, "left": 0.0007, **free}


def test_an_account_begins_with_what_the_records_say_and_asks_them_once() -> None:
    asked = []

    def spent(owner: str, since: dt.datetime) -> tuple[int, dict[str, int]]:
        asked.append((owner, since.isoformat()))
        return 600, {"USD": 400_000, "EUR": 5}

    budgets = new_budgets(spent=spent)
    for _ in range(2):
        assert (left(budgets), left(budgets, MONTH)) == (400, 600_000)
    assert asked == [("ada", "2026-12-31T00:00:00+00:00"), ("ada", "2026-12-01T00:00:00+00:00")]


def test_if_the_accounts_cannot_be_reached_nothing_is_asked() -> None:
    table = Table()
    budgets = new_budgets(table)
    grant = reserve(budgets)
    table.away = True
    with pytest.raises(PeersUnavailable):
        reserve(budgets)
    assert not grant.may_send_again()


# ---- settle --------------------------------------------------------------------------------------

STOPPED = Outcome.STOPPED


@pytest.mark.parametrize(
    ("session", "charged"),
    [
        (ended(provider(90, 150)), 240),
        (ended(provider(5000, 9000)), 14_000),  # it does not keep to what it is told
        (ended(Usage(UsageSource.PROVIDER, {"completion_tokens": 150})), 100 + 150),
        (ended(provider(90, 0), events=30, bytes=9000), 90 + 30),  # it does not know itself
        (ended(provider(90, 200), STOPPED, whole=True, reason=Reason.BUDGET), 290),
        (ended(provider(90, 1), STOPPED, events=50), 90 + 50),  # its first event has a count
        (ended(provider(90, 120), STOPPED, events=50), 90 + 120),
        (ended(counted(90, 40), STOPPED, events=50), 90 + 50),
        (ended(counted(90, 70), STOPPED, events=50), 90 + 70),
        (ended(counted(90, 70), Outcome.FAILED, events=50), 90 + 70),
        (ended(estimated(40, 40, 0.5), STOPPED, events=50), 100 + 60),  # digits, for all we know
        (ended(estimated(90, 190, 0.5), STOPPED, events=50), 100 + 200),
        (ended(counted(90, 0), STOPPED, Phase.WAITING), 90),
        (ended(None, STOPPED, Phase.WAITING), 100),
        (ended(None, Outcome.FAILED, Phase.WAITING), 100),
        (ended(None, STOPPED, events=2, bytes=150), 100 + 150),
        (ended(None, STOPPED, events=2, bytes=600), 100 + 200),
        (ended(None, STOPPED, Phase.CONNECTING), 0),
        (ended(None, Outcome.FAILED, Phase.CONNECTING), 0),
        (ended(counted(90, 5), STOPPED, events=464, bytes=9000), 90 + 200),
        (ended(counted(90, 5), STOPPED, events=465, bytes=9000), 90 + 465),  # it runs over
        (ended(counted(90, 5), STOPPED, events=5, billing_stops=BillingStops.NO), 90 + 200),
        (ended(provider(90, 5), events=5, billing_stops=BillingStops.NO), 95),
    ],
)
def test_what_an_answer_has_taken_is_charged_however_it_ends(
    session: StreamSession, charged: int
) -> None:
    budgets = new_budgets()
    budget = Budget(100_000)
    grant = reserve(budgets, budget)
    for _ in range(2):  # once
        grant.settle(session)
    assert left(budgets, budget) == 100_000 - charged


def test_what_an_answer_has_cost_is_charged_to_the_nano_unit_and_rounded_up() -> None:
    budgets, session = new_budgets(), ended(provider(90, 150))
    cost = Cost(Decimal("0.0000001234"), "USD")
    session.account = Account(session.account.usage, cost)
    grant = reserve(budgets, MONTH, completion=50)
    grant.settle(session)
    assert left(budgets, MONTH) == 1_000_000 - 124


def test_what_an_answer_was_stopped_at_is_charged_as_it_costs_when_and_where_it_was_asked() -> None:
    """The dearest hours and upstreams are drawn for."""
    budgets, question = new_budgets(), QUESTION._replace(upstreams=UPSTREAMS)
    grant = reserve(budgets, MONTH, question=question, completion=50)
    assert left(budgets, MONTH) == 1_000_000 - 100 * 1000 - 50 * 10_000
    twelve_hours_ago = time.monotonic() - 12 * 3600
    grant.settle(ended(counted(90, 50), STOPPED, upstream="one", asked_at=twelve_hours_ago))
    assert left(budgets, MONTH) == 1_000_000 - 90 * 100 - 50 * 1000


@pytest.mark.parametrize("cost", [None, Cost(Decimal(10**30), "USD")])
def test_an_absurd_count_or_cost_is_charged_as_all_that_can_be_counted(cost: Cost | None) -> None:
    table = Table()
    budgets, session = new_budgets(table), ended(provider(1 << 53, (1 << 53) - 1))
    session.account = Account(session.account.usage, cost)
    reserve(budgets, DAY, MONTH, completion=50).settle(session)
    assert set(table.drawn.values()) == {9 * 10**15}
    assert left(budgets) == left(budgets, MONTH) == 0


def test_of_budgets_of_one_unit_and_period_the_smallest_holds_and_is_charged_once() -> None:
    budgets, given = new_budgets(), [Budget(5000), DAY, Budget(2000), Budget(900, per="month")]
    reserve(budgets, *given)
    assert [each.left for each in budgets.left(given, "ada")] == [700, 600]


def test_the_next_question_of_an_owner_waits_for_what_is_about_to_be_given_back() -> None:
    budgets = new_budgets()
    grant = reserve(budgets, completion=900)
    grant.end()
    assert left(budgets, owner="bob") == 1000
    waiting = Background(lambda: reserve(budgets).completion)
    assert waiting.still_runs()
    for _ in range(2):
        grant.settle(ended(provider(100, 50)))
    assert waiting.result() == 200
    assert left(budgets) == 1000 - 150 - 300


@pytest.mark.parametrize("is_known", [True, False])
def test_of_questions_at_once_one_asks_the_records(is_known: bool) -> None:
    asked, told = list[str](), threading.Event()

    def spent(owner: str, since: dt.datetime) -> tuple[int, dict[str, int]]:
        asked.append(owner)
        told.wait(PATIENCE)
        if not is_known:
            raise PeersUnavailable("The records are away.")
        return 600, {}

    budgets = new_budgets(spent=spent)
    waiting = [Background(lambda: left(budgets)) for _ in range(4)]
    assert all(each.still_runs() for each in waiting)
    told.set()
    for each in waiting:
        with nullcontext() if is_known else pytest.raises(PeersUnavailable):
            assert each.result() == 400
    assert asked == ["ada"]
    is_known = True
    assert left(budgets) == 400


def test_a_request_that_may_be_billed_counts_beside_the_one_after_it() -> None:
    budgets = new_budgets()
    grant = reserve(budgets)
    assert grant.may_send_again()
    assert left(budgets) == 600
    grant.settle(ended(provider(90, 150)))
    assert left(budgets) == 1000 - 90 - 90 - 150


def test_a_request_that_was_refused_counts_for_nothing() -> None:
    budgets = new_budgets()
    grant = reserve(budgets)
    grant.refuse()
    assert grant.may_send_again()
    assert left(budgets) == 700
    grant.refuse()
    grant.settle(ended(None, Outcome.FAILED, Phase.WAITING))
    assert left(budgets) == 1000


def test_another_request_is_not_sent_if_too_little_is_left_for_it() -> None:
    budgets = new_budgets()
    grant = reserve(budgets, completion=801)
    assert not grant.may_send_again()
    grant.settle(ended(None, Outcome.FAILED, Phase.WAITING))
    assert left(budgets) == 900


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # 0 ends an answer, others begin one
        st.integers(1, 400),  # the bound of its prompt
        st.integers(1, 900),  # the length that it wants
        st.floats(0, 1),  # how much of each there was in truth
        st.sampled_from(["provider", "counted", "estimated", "left", "none"]),
        st.integers(0, 2),  # how many more requests it takes
    ),
    max_size=30,
)


@given(steps=STEPS)
def test_however_answers_begin_and_end_what_was_received_is_within_the_budget(
    steps: list[tuple[int, int, int, float, str, int]],
) -> None:
    """Real prompts are within their bounds, and services keep to what they are told."""
    budgets, billed, live = new_budgets(), 0, list[Callable[[], int]]()
    for kind, prompt, wanted, part, how, more in steps:
        if kind == 0 and live:
            billed += live.pop(prompt % len(live))()
        else:
            try:
                grant = reserve(budgets, prompt=prompt, completion=wanted)
            except BudgetSpent:
                continue
            requests = 1 + sum(grant.may_send_again() for _ in range(more))
            live.append(
                _answer(grant, requests, int(prompt * part), int(grant.completion * part), how)
            )
        # What runs may still bring all that it was granted.
        assert billed <= 1000 - left(budgets) <= 1000
    billed += sum(each() for each in live)
    assert billed <= 1000 - left(budgets) <= 1000


def _answer(
    grant: Grant, requests: int, prompt: int, completion: int, how: str
) -> Callable[[], int]:
    """Ends an answer; it returns what its requests are billed."""
    usage = {
        "provider": provider(prompt, completion),
        "counted": counted(prompt, completion // 2),
        "estimated": estimated(max(1, prompt // 4), completion // 3, 0.5),
        "left": Usage(UsageSource.PROVIDER, {"prompt_tokens": prompt, "completion_tokens": 1}),
        "none": Usage(),
    }[how]
    outcome = Outcome.FINISHED if how == "provider" else STOPPED
    session = ended(usage, outcome, events=completion, bytes=250 * completion)

    def end() -> int:
        grant.settle(session)
        return requests * prompt + completion

    return end
