"""Budgets where they hold: in every protocol, in runs, over tries, and on all workers at once."""

from __future__ import annotations

import json
import queue
import random
import re
import shutil
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
from flask import Flask, request

from chatproxy import Budget, ChatProxy, Run, Upstream
from chatproxy.accounting.budgets import Budgets
from chatproxy.accounting.grant import Grant
from chatproxy.answers.session import StreamSession
from chatproxy.errors import (
    BudgetSpent,
    ChatProxyError,
    InvalidRequest,
    PeersUnavailable,
    Refusal,
)
from chatproxy.records.writer import Records

from .support import cluster, scripted
from .support.instant import HELLO, Instant
from .support.servers import DeepSeek, events, new_id
from .support.spoken import delta
from .support.waiting import PATIENCE, Background, wait_for

NewChat = Callable[..., ChatProxy]
#: What the simulated DeepSeek bills for the question, and what it is bounded by at least.
PROMPT = 5
#: The one of each.
_apps = weakref.WeakKeyDictionary[ChatProxy, Flask]()
PAGE = {"id": "chat_1", "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}


@pytest.fixture
def new_chat(deepseek: DeepSeek, tmp_path: Path) -> NewChat:
    """Makes an application before the simulated DeepSeek, which answers at once."""

    def new_chat(
        budget: str = "", owner: Any = None, tokens: int = 300, **config: Any
    ) -> ChatProxy:
        app = Flask(__name__)
        app.config.update(
            DEEPSEEK_BASE_URL=deepseek.url,
            CHATPROXY_RUN_DIR=str(tmp_path),
            CHATPROXY_BUDGET=budget,
        )
        app.config.update(config)
        chat = ChatProxy(app, owner=owner)
        _apps[chat] = app

        @chat.prepare
        def simulate(payload: dict[str, Any]) -> None:
            own = {"rate": 0, "tokens": tokens, "reasoning_tokens": 0}
            payload["simulate"] = {**own, **payload.get("simulate", {})}

        return chat

    return new_chat


def client_of(chat: ChatProxy) -> Any:
    return _apps[chat].test_client()


def left(chat: ChatProxy, owner: str = "") -> int:
    return int(chat.budget_left(owner)[0].left)


def ask(chat: ChatProxy, owner: str = "", **fields: Any) -> Any:
    answer = chat.start({**HELLO, **fields}, owner=owner)
    answer.wait()
    return answer


def drain(chat: ChatProxy, owner: str = "") -> None:
    """Ask until too little is left."""
    with suppress(BudgetSpent):
        while True:
            ask(chat, owner)


# ---- what is granted, charged and told -----------------------------------------------------------


def test_answers_are_charged_what_they_took_to_the_token(new_chat: NewChat) -> None:
    chat = new_chat("100000 tokens/day, 1000000 tokens/month")
    for tokens in (10, 200, 1):
        ask(chat, simulate={"tokens": tokens})
    assert [each.left for each in chat.budget_left()] == [100_000 - 226, 1_000_000 - 226]
    told = client_of(chat).get("/api/chat/budget").json["budgets"]
    assert [(each["per"], each["left"]) for each in told] == [("day", 99_774), ("month", 999_774)]


def test_money_is_charged_as_the_prices_say(new_chat: NewChat) -> None:
    chat = new_chat("1 USD/month", model="deepseek-flash")
    costs = []
    for tokens in (100, 200):
        ask(chat, simulate={"tokens": tokens})
        costs.append(1 - float(chat.budget_left()[0].left))
    answer = 0.6e-6 if costs[0] < 1e-4 else 1.2e-6
    assert costs[1] - costs[0] == pytest.approx(200 * answer + PROMPT * answer / 4)
    with pytest.raises(Refusal, match="no price in USD") as refused:
        ask(chat, model="another")
    assert refused.value.code == "model_not_priced"


def test_what_is_granted_is_the_most_that_is_made(new_chat: NewChat, deepseek: DeepSeek) -> None:
    """The last answer is cut, and the budget is not exceeded by a token."""
    chat, tags = new_chat("3000 tokens/day", CHATPROXY_BUDGET_MAX_TOKENS=700), []
    with suppress(BudgetSpent):
        while True:
            tags.append(new_id())
            answer = ask(chat, simulate={"tag": tags[-1], "tokens": 5000})
            cut = left(chat) == 0 or answer.reason == "budget"
            assert (answer.outcome, answer.finish_reason) == (
                "stopped" if cut else "finished",
                "length",
            )
            assert answer.reason == ("budget" if cut else None)
    made = [entry["tokens"] for tag in tags for entry in deepseek.entries(tag)]
    assert made[:-1] == [700] * (len(made) - 1)
    assert left(chat) == 3000 - sum(made) - PROMPT * len(made)
    assert left(chat) < 450  # too little for another prompt


def test_an_upstream_that_knows_one_name_of_the_length_keeps_to_it_whatever_the_client_sends(
    new_chat: NewChat, deepseek: DeepSeek
) -> None:
    chat, made = new_chat("10000 tokens/day", tokens=5000), []
    for fields in (
        {"max_completion_tokens": 250},
        {"max_tokens": 8000, "max_completion_tokens": 1},
        {"max_tokens": 10, "max_completion_tokens": None},
    ):
        tag = new_id()
        ask(chat, simulate={"tag": tag}, **fields)
        made += [each["tokens"] for each in deepseek.entries(tag)]
    assert made == [250, 1, 10]
    assert left(chat) == 10_000 - 261 - 3 * PROMPT
    with pytest.raises(InvalidRequest, match="'n' must be a whole number"):
        ask(chat, n="2")


def test_what_a_stop_has_saved_is_of_what_was_granted(new_chat: NewChat) -> None:
    chat = new_chat("2000 tokens/day")
    answer = chat.start({**HELLO, "max_tokens": 5000, "simulate": {"rate": 20}})
    next(answer)
    receipt = answer.cancel()
    assert receipt is not None
    saved = receipt.account.saved
    assert saved is not None
    assert saved.at_most is not None
    assert saved.at_most < 2000
    assert answer.wait() == "stopped"
    said = events(native(chat, simulate={"tokens": 5000}).data)
    (told,) = [json.loads(each["data"]) for each in said if each.get("event") == "stopped"]
    assert told["reason"] == "budget"
    assert told["usage"]["completion_tokens"] > 500
    assert "savedAtMost" not in told


def test_a_stopped_answer_is_charged_the_upper_end_of_what_it_is_estimated_at(
    new_chat: NewChat, deepseek: DeepSeek
) -> None:
    chat, charged, estimates = new_chat("100000 tokens/day"), [], []
    for events_before in (1, 100):
        before, tag = left(chat), new_id()
        simulate = {"tag": tag, "rate": 500, "tokens": 5000}
        answer = chat.start({**HELLO, "max_tokens": 5000, "simulate": simulate})
        while answer.events < events_before:
            next(answer)
        receipt = answer.cancel()
        assert receipt is not None
        wait_for(lambda before=before: before - left(chat) < 5000)  # it has been settled
        charged.append(before - left(chat))
        usage = receipt.account.usage
        estimates.append(usage.completion_tokens * (1 + (usage.spread or 0)))
        assert charged[-1] >= deepseek.gone(tag)["tokens"] + PROMPT
    assert charged[1] - charged[0] == pytest.approx(estimates[1] - estimates[0], abs=1)


def native(chat: ChatProxy, **fields: Any) -> Any:
    headers = {"X-Session-Id": new_id()}
    return client_of(chat).post("/api/chat/stream", json={**HELLO, **fields}, headers=headers)


def openai(chat: ChatProxy, *, stream: bool = True) -> Any:
    return client_of(chat).post("/v1/chat/completions", json={**HELLO, "stream": stream})


def ai_sdk(chat: ChatProxy) -> Any:
    return client_of(chat).post("/api/chat", json=PAGE)


def test_an_answer_that_reaches_its_budget_is_stopped_in_every_protocol(new_chat: NewChat) -> None:
    chat = new_chat("1000 tokens/day", tokens=5000)
    chat.budget(lambda owner: Budget(1000))  # whose account is the same
    body = native(chat).text
    (stopped,) = [json.loads(each["data"]) for each in events(body.encode()) if "event" in each]
    assert (stopped["reason"], stopped["phase"]) == ("budget", "streaming")
    assert body.endswith("data: [DONE]\n\n")

    last = json.loads(
        openai(new_chat("1001 tokens/day", tokens=5000, CHATPROXY_NAME="b"))
        .text.split("\n\n")[-3]
        .partition("data: ")[2]
    )
    assert last["chatproxy"]["stopped"]["reason"] == "budget"

    whole = openai(new_chat("1002 tokens/day", tokens=5000, CHATPROXY_NAME="c"), stream=False).json
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["chatproxy"]["stopped"]["reason"] == "budget"

    page = ai_sdk(new_chat("1003 tokens/day", tokens=5000, CHATPROXY_NAME="d")).text
    assert '"type":"abort","reason":"budget"' in page
    assert '"finishReason":"interrupted"' in page


def test_a_refusal_says_the_same_in_every_protocol_and_its_id_is_free(new_chat: NewChat) -> None:
    chat = new_chat("2000 tokens/day", tokens=1500)
    drain(chat)
    refused = native(chat)
    assert (refused.status_code, refused.json["code"]) == (429, "budget_spent")
    assert "free again at" in refused.json["error"]
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert refused.headers["X-Should-Retry"] == "false"
    for stream in (True, False):
        found = openai(chat, stream=stream)
        assert (found.status_code, found.json["error"]["code"]) == (429, "budget_spent")
        assert found.json["error"]["message"] == refused.json["error"]
        assert found.headers["X-Should-Retry"] == "false"
    assert (ai_sdk(chat).status_code, ai_sdk(chat).json["code"]) == (429, "budget_spent")
    with pytest.raises(BudgetSpent):
        chat.start(HELLO, session_id="session_1")
    chat.budget(lambda owner: [])
    assert chat.start(HELLO, session_id="session_1").wait() == "finished"


def test_each_owner_has_what_the_first_function_says(new_chat: NewChat) -> None:
    chat = new_chat("5000 tokens/day", owner=lambda: request.headers.get("X-Owner"))
    given: dict[str, Any] = {"ada": Budget(800), "bob": [], "eve": [Budget(9000), Budget(700)]}
    chat.budget(given.get)
    chat.budget(lambda owner: Budget(6000) if owner == "张伟/../*" else None)
    for owner, most in {"ada": 800, "eve": 700, "张伟/../*": 6000, "joe": 5000}.items():
        assert left(chat, owner) == most
    ask(chat, "joe", simulate={"tokens": 95})
    assert (left(chat, "joe"), left(chat, "ada")) == (4900, 800)
    assert chat.budget_left("bob") == []
    headers = {"X-Owner": "ada"}
    told = client_of(chat).get("/api/chat/budget", headers=headers).json["budgets"]
    assert told[0]["limit"] == 800
    assert client_of(chat).get("/api/chat/budget").status_code == 401
    given["ada"] = "100 tokens"
    with pytest.raises(TypeError, match="must be Budgets"):
        ask(chat, "ada")


def test_an_account_that_was_lost_begins_with_what_the_records_say(
    new_chat: NewChat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = new_chat("5000 tokens/day", CHATPROXY_RECORDS=f"sqlite:///{tmp_path}/records.db")
    ask(chat, simulate={"tokens": 100})

    def goes_on() -> bool:
        shutil.rmtree(tmp_path / "accounts")
        return left(chat) == 5000 - 100 - PROMPT

    wait_for(goes_on, message="the record of the answer")

    for error in (ChatProxyError(), queue.Full(), RuntimeError()):
        monkeypatch.setattr(Records, "spent", Mock(side_effect=error))
        shutil.rmtree(tmp_path / "accounts", ignore_errors=True)
        with pytest.raises(PeersUnavailable, match="spent before cannot be read"):
            ask(chat)
    monkeypatch.undo()
    assert left(chat) == 5000 - 100 - PROMPT
    monkeypatch.setattr(Records, "spent", Mock(side_effect=error))
    assert left(chat) == 5000 - 100 - PROMPT  # they are asked only if it is lost


# ---- how an answer may end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("simulate", "least", "most"),
    [
        ({"status": 402}, 0, 0),
        ({"status": 503, "fail_times": 1}, 305, 305),
        ({"status": 503}, 0, 0),
        ({"disconnect_times": 9}, PROMPT, 500),  # nothing is known but its bound
        ({"end": "reset", "end_after": 40}, 40 + PROMPT, 700),  # so is its prompt
        ({"end": "cut", "end_after": 40}, 40 + PROMPT, 700),
        ({"end": "finish"}, 305, 305),
    ],
)
def test_however_an_answer_ends_it_is_charged_once(
    new_chat: NewChat, simulate: dict[str, Any], least: int, most: int
) -> None:
    chat = new_chat("100000 tokens/day")
    with suppress(Refusal):
        ask(chat, simulate={"tag": new_id(), **simulate})
    charged = 100_000 - left(chat)
    assert least <= charged <= most


def test_a_request_that_may_be_billed_counts_beside_the_one_to_another_upstream(
    new_chat: NewChat, deepseek: DeepSeek
) -> None:
    chat, tag = new_chat("100000 tokens/day"), new_id()
    chat.upstream(lambda _: [Upstream(deepseek.url, name=name) for name in ("one", "two")])
    ask(chat, simulate={"tag": tag, "disconnect_times": 1})
    assert len(deepseek.entries(tag)) == 2
    assert left(chat) == 100_000 - 300 - 2 * PROMPT
    small = new_chat("1000 tokens/day", CHATPROXY_NAME="small")
    small.upstream(lambda _: [Upstream(deepseek.url, name=name) for name in ("one", "two")])
    tag = new_id()
    assert ask(small, simulate={"tag": tag, "disconnect_times": 1}).outcome == "failed"
    assert len(deepseek.entries(tag)) == 1  # all was drawn for the first


def test_a_question_that_was_not_sent_takes_nothing(new_chat: NewChat) -> None:
    chat = new_chat("5000 tokens/day", DEEPSEEK_BASE_URL="http://127.0.0.1:9")
    with suppress(Refusal):
        ask(chat)
    assert left(chat) == 5000


def test_an_upstream_that_does_not_keep_to_it_is_left(new_chat: NewChat) -> None:
    gone = threading.Event()

    def answer(connection: socket.socket, _body: bytes) -> None:
        try:
            connection.sendall(scripted.unfinished())
            while True:
                connection.sendall(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        except OSError:
            gone.set()
            raise

    with scripted.Scripted(answer) as upstream:
        chat = new_chat("100000 tokens/day", DEEPSEEK_BASE_URL=upstream.url)
        found = ask(chat, max_tokens=100)
        assert (found.outcome, found.reason) == ("stopped", "budget")
        assert json.loads(upstream.asked[0])["max_tokens"] == 100
        assert gone.wait(10)
        assert 100_000 - left(chat) >= found.events > 264


EVENT = delta(content="more ") + b"\n\n"


@pytest.mark.parametrize("held", ["reserve", "may_send_again"])
def test_a_stop_waits_for_no_account(
    new_chat: NewChat, deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """Before the question is sent, and between two tries of it, nothing is open."""
    chat, tag, goes_on = new_chat("5000 tokens/day"), new_id(), threading.Event()
    chat.upstream(lambda _: [Upstream(deepseek.url, name=name) for name in ("one", "two")])
    owner: Any = Budgets if held == "reserve" else Grant
    drawing, draw = threading.Event(), getattr(owner, held)

    def slow(*given: Any) -> Any:
        drawing.set()
        goes_on.wait(PATIENCE)
        return draw(*given)

    monkeypatch.setattr(owner, held, slow)
    asked = {**HELLO, "simulate": {"tag": tag, "disconnect_times": 1}}
    starting = Background(lambda: chat.start(asked, session_id="session_1"))
    assert drawing.wait(PATIENCE)
    receipt = chat.cancel("session_1")
    assert not goes_on.is_set()
    assert receipt is not None
    assert (receipt.upstream_closed, receipt.stop_ms < 1000) == (True, True)
    sent = len(deepseek.entries(tag))
    goes_on.set()
    assert starting.result().wait() == "stopped"
    assert len(deepseek.entries(tag)) == sent == (0 if held == "reserve" else 1)
    assert left(chat) > 4000


@pytest.mark.parametrize("model", [None, "run:one"])
def test_nobody_waits_for_a_settlement(
    new_chat: NewChat, monkeypatch: pytest.MonkeyPatch, model: str | None
) -> None:
    chat, goes_on, settled = new_chat("5000 tokens/day"), threading.Event(), list[bool]()
    settle = Grant.settle

    def slow(grant: Grant, session: Any) -> None:
        settled.append(goes_on.wait(PATIENCE))
        settle(grant, session)

    monkeypatch.setattr(Grant, "settle", slow)

    @chat.run("one")
    def one(run: Run, payload: dict[str, Any]) -> Any:
        return run.ask({**HELLO, "simulate": payload["simulate"]})

    fields = {"simulate": {"tokens": 10, "rate": 0}, **({"model": model} if model else {})}
    assert ask(chat, **fields).outcome == "finished"
    assert not settled
    goes_on.set()
    assert left(chat) == 5000 - 10 - PROMPT
    assert settled == [True]


# ---- runs ----------------------------------------------------------------------------------------


def test_each_question_of_a_run_has_a_grant_of_its_own(new_chat: NewChat) -> None:
    chat = new_chat("2000 tokens/day", tokens=300)
    asked = []

    @chat.run("all")
    def all_of_it(run: Run, payload: dict[str, Any]) -> Iterator[str]:
        simulate = {"tokens": 400, "rate": 0, "reasoning_tokens": 0}
        while True:
            asked.append(run.ask({**HELLO, "max_tokens": 400, "simulate": simulate}, show=False))
            asked[-1].read()
            yield "."

    answer = ask(chat, model="run:all")
    assert (answer.outcome, len(asked)) == ("failed", 4)
    assert [each.finish_reason for each in asked] == ["stop", "stop", "stop", "length"]
    used = sum(each.usage["completion_tokens"] + PROMPT for each in asked)
    assert 0 <= left(chat) == 2000 - used


def test_a_question_of_a_run_that_never_began_gives_back_what_it_drew(
    upstream: Instant, chat: ChatProxy
) -> None:
    chat.budget(lambda _: Budget(5000))

    @chat.run("stopped")
    def stopped(run: Run, payload: dict[str, Any]) -> None:
        run.abort()
        run.ask(HELLO)

    ask(chat, model="run:stopped")
    assert left(chat) == 5000


def test_a_question_of_a_run_ends_whatever_becomes_of_its_close_and_account(
    upstream: Instant, chat: ChatProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    reservation, questions, failures = Mock(), list[StreamSession](), list[str]()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: failures.append(str(what.exc_value)))
    reservation.settle.side_effect = lambda session: session.log.ended or reservation.early()

    def reserve(session: StreamSession) -> None:
        session.reservation = reservation
        questions.append(session)

    upstream.on_open = reserve
    upstream.on_close = Mock(side_effect=OSError("broken"))
    chat.run("one")(lambda run, payload: run.ask(payload).read() and None)
    assert ask(chat, model="run:one").outcome == "finished"
    (question,) = questions
    assert question.closed.is_set()
    wait_for(lambda: failures == ["broken"])  # in the thread that made the answer
    assert reservation.method_calls == [call.end(), call.settle(question)]


# ---- the bypass, tried ---------------------------------------------------------------------------

MOST = 12_000


@pytest.fixture(params=cluster.WAYS)
def servers(request: Any, deepseek: DeepSeek, logs: Any, tmp_path: Path) -> Iterator[Any]:
    """Two workers, which have two upstreams each."""
    upstreams = "\n".join(f'[upstreams.{n}]\nbase_url = "{deepseek.url}"' for n in ("one", "two"))
    (tmp_path / "upstreams.toml").write_text(f'{upstreams}\n[models]\n{MODEL} = ["one", "two"]\n')
    settings = {
        "CHATPROXY_TOKENS": cluster.tokens("ada", "bob"),
        "CHATPROXY_MAX_SESSIONS_PER_OWNER": 100,
        "CHATPROXY_BUDGET": f"{MOST} tokens/day",
        "CHATPROXY_BUDGET_MAX_TOKENS": 1500,
        "CHATPROXY_UPSTREAMS": str(tmp_path / "upstreams.toml"),
    }
    deepseek.clear()
    with cluster.meeting(request.param, deepseek, logs, tmp_path, workers=2, **settings) as found:
        yield found


MODEL = "deepseek-flash"


def leave_before_the_last_event(stream: Any, tokens: int) -> None:
    """Read all that is said, and go before its count of tokens comes."""
    for _ in range(tokens + 1):
        if not stream.read_event():
            break
    stream.leave()


def stop_early(stream: Any, worker: Any) -> None:
    stream.read_event()
    worker.cancel(stream.id)
    stream.read()


def attack(servers: Any, seed: int) -> int:
    """Ask in every way that might cost nothing, until nothing is granted; how often it was."""
    dice, granted, refused = random.Random(seed), 0, 0
    mine = [cluster.Worker(each.proxy, each.pid) for each in servers.workers]
    while refused < 5:
        tokens, way = dice.randrange(50, 1500), dice.randrange(5)
        simulate = {"rate": 0, "reasoning_tokens": 0, "tokens": tokens}
        if way == 0:
            simulate |= {"rate": 2000, "end": "hold"}
        elif way == 1:
            simulate |= {"rate": 400}
        elif way == 2:
            simulate |= {"disconnect_times": 1}
        elif way == 3:
            simulate |= {"status": 503, "fail_times": 1}
        worker = dice.choice(mine)
        stream = worker.start(f"attack-{seed}-{new_id()}", model=MODEL, **simulate)
        if stream.status == 429:
            assert b'"budget_spent"' in stream.read()
            refused += 1
            continue
        granted += 1
        with suppress(ConnectionError):  # its first event says that it breaks off
            if way == 0:
                leave_before_the_last_event(stream, dice.choice([tokens, tokens - 5]))
            elif way == 1:
                stop_early(stream, dice.choice(mine))
            else:
                stream.read()
    for each in mine:
        each.close()
    return granted


def test_leaving_stopping_and_asking_at_once_buy_nothing(servers: Any, deepseek: DeepSeek) -> None:
    """What the ledger has made, and was received, is within the budget to the token."""
    with ThreadPoolExecutor(6) as pool:
        granted = [*pool.map(lambda seed: attack(servers, seed), range(6))]

    def is_spent() -> bool:
        """Spend also what others had drawn, and have given back since all were refused."""
        granted.append(attack(servers, len(granted)))
        return budget_left(servers.workers[0]) < 2000

    wait_for(is_spent, message="the end of the budget")
    entries = deepseek.ledger()["requests"]
    came = wait_for(
        lambda: (found := events_of(servers)).keys() >= {each["tag"] for each in entries} and found,
        message="the end of all answers",
    )
    billed = 0
    for entry in entries:
        if entry["status"] != 503:  # which is no answer
            billed += PROMPT + min(entry["tokens"], max(0, came[entry["tag"]] - 1))
    left = budget_left(servers.workers[0])
    assert sum(granted) > 5
    assert left >= 0
    assert billed <= MOST - left
    assert budget_left(servers.workers[-1], "bob") == MOST


def events_of(servers: Any) -> dict[str, int]:
    """How many events came of each answer that has ended. The first one has no token."""
    lines = "\n".join(servers.lines("ended"))
    found = re.findall(r"\[SSE\] (attack\S+) ended .* events=(\d+) ", lines)
    return {session_id: int(number) for session_id, number in found}


def budget_left(worker: Any, owner: str = "ada") -> int:
    connection = worker.connect()
    connection.request(
        "GET", "/api/chat/budget", headers={"Authorization": f"Bearer {cluster.token_of(owner)}"}
    )
    return int(json.loads(connection.getresponse().read())["budgets"][0]["left"])
