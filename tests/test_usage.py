"""What an answer came to, as clients and applications are told, whatever its end."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chatproxy import Budget, ChatProxy, Run, signals, sse, stream_ended
from chatproxy.answers.upstream import Upstream
from chatproxy.testing.deepseek import DeepSeek

from .support.scripted import Repeating
from .support.servers import Proxy, new_id
from .support.spoken import chunk, delta
from .support.waiting import wait_for

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "model": "deepseek-flash"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
#: What an answer of the price table's off-peak or peak hours costs.
COSTS = ({"amount": 3.9e-06, "currency": "USD"}, {"amount": 7.8e-06, "currency": "USD"})
WORDS = "def count(model, text):\n    return len(text.split())\n"


@pytest.fixture
def service() -> Iterator[Repeating]:
    with Repeating() as found:
        yield found


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tokenizer for which a word is a token."""
    (tmp_path / "words.py").write_text(WORDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "words:count"


Make = Callable[..., tuple[Flask, ChatProxy]]


@pytest.fixture
def make(service: Repeating) -> Iterator[Make]:
    apps: list[Flask] = []

    def make(**config: Any) -> tuple[Flask, ChatProxy]:
        app = Flask(__name__)
        settings = {"DEEPSEEK_BASE_URL": service.url, "CHATPROXY_TOKENIZER": "none", **config}
        app.config.update(settings)
        apps.append(app)
        return app, ChatProxy(app, name=f"usage-{len(apps)}")

    yield make
    for app in apps:
        app.extensions["chatproxy"].registry.drain.run(0.0)


def post(app: Flask, session_id: str = "one", *, body: Any = CHAT, **headers: str) -> TestResponse:
    headers = {"X-Session-Id": session_id, **headers}
    return app.test_client().post("/api/chat/stream", json=body, headers=headers)


def stop(app: Flask, session_id: str = "one") -> dict[str, Any]:
    response = app.test_client().post(f"/api/chat/cancel/{session_id}")
    assert response.status_code == 200
    return dict(response.get_json())


def events_in(response: TestResponse) -> list[bytes]:
    return sse.Decoder().feed(b"".join(response.iter_encoded()))


def data_of(events: list[bytes], name: str) -> dict[str, Any]:
    (event,) = (each for each in events if each.startswith(b"event: %b\n" % name.encode()))
    return dict(json.loads(sse.data_of(event)))


FINISH = chunk({}, finish_reason="stop")
COUNT = b'data: {"choices":[],"usage":%b}' % json.dumps(USAGE).encode()
WHOLE = [delta(content="Hel"), delta(content="lo"), FINISH, COUNT, sse.DONE]


# --- the provider's count


def test_a_finished_answer_has_the_providers_count_and_its_cost(
    make: Make, service: Repeating
) -> None:
    service.blocks = WHOLE
    app, _ = make()
    events = events_in(post(app, **{"X-Account": "1"}))
    told = data_of(events, "account")
    assert (told["usage"], told["usageSource"]) == (USAGE, "provider")
    assert told["cost"] in COSTS
    assert events[-1] == sse.DONE
    assert service.received[-1]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False}, {}, None])
def test_who_has_not_asked_for_a_count_gets_none_nor_an_event_of_ours(
    make: Make, service: Repeating, options: Any
) -> None:
    service.blocks = WHOLE
    app, _ = make()
    events = events_in(post(app, body={**CHAT, "stream_options": options}))
    wants = bool(options and options["include_usage"])
    assert events == [block for block in WHOLE if wants or block != COUNT]
    assert service.received[-1]["stream_options"] == {"include_usage": True}


def test_a_count_in_a_chunk_that_says_more_stays_where_it_is(
    make: Make, service: Repeating
) -> None:
    last = chunk({"content": "lo"}, finish_reason="stop", usage=USAGE)
    service.blocks = [delta(content="Hel"), last, sse.DONE]
    app, _ = make()
    assert events_in(post(app)) == service.blocks


@pytest.mark.parametrize("usage", [{"prompt_tokens": "1"}, {"x": 1}, {}, {"prompt_tokens": -1}])
def test_a_count_of_nothing_is_none(make: Make, service: Repeating, usage: dict[str, Any]) -> None:
    last = chunk({}, finish_reason="stop", usage=usage)
    service.blocks = [delta(content="Hello"), last, sse.DONE]
    app, _ = make()
    told: list[Any] = []
    with stream_ended.connected_to(lambda _, **sent: told.append(sent["usage_source"])):
        events_in(post(app))
        wait_for(lambda: told)
    assert told == ["estimated"]


def test_an_upstream_that_counts_as_it_goes_tells_of_a_stopped_answer_too(
    make: Make, service: Repeating
) -> None:
    first = {"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}
    running = b'data: {"choices":[%b], "x":1e0,"usage":%b}'
    service.blocks = [running % (json.dumps(first).encode(), json.dumps(USAGE).encode())]
    service.end = "silence"
    app, chat = make()
    chat.upstream(lambda _: Upstream(service.url, name="vllm", usage="continuous"))
    with post(app) as response:
        pieces = response.iter_encoded()
        seen = next(pieces)
        receipt = stop(app)
    assert (receipt["usage"], receipt["usageSource"]) == (USAGE, "provider")
    asked = {"include_usage": True, "continuous_usage_stats": True}
    assert service.received[-1]["stream_options"] == asked
    assert b'"x":1e0' in seen
    assert b"usage" not in seen


def test_an_answer_that_is_stopped_before_its_first_event_has_taken_its_question(
    make: Make, service: Repeating
) -> None:
    """In which an image counts as one, whatever its size."""
    service.end = "silence"
    _app, chat = make()
    url = "data:image/png;base64," + "A" * 100_000
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = chat.start({**CHAT, "messages": [{"role": "user", "content": content}]})
    wait_for(lambda: service.asked and answer.phase == "waiting")
    receipt = answer.cancel()
    assert receipt is not None
    assert 1000 < receipt.account.usage.prompt_tokens < 1100
    assert receipt.account.usage.completion_tokens == 0


def test_an_upstream_that_can_not_be_asked_is_not_asked(make: Make, service: Repeating) -> None:
    service.blocks = WHOLE
    app, chat = make()
    chat.upstream(lambda _: Upstream(service.url, usage="none"))
    assert events_in(post(app)) == WHOLE
    assert "stream_options" not in service.received[-1]


# --- no count


def test_a_stopped_answer_is_counted_from_what_had_come(
    make: Make, service: Repeating, words: str
) -> None:
    said = (delta(content=word) for word in ("two ", "three "))
    service.blocks = [delta(reasoning_content="one "), *said]
    service.end = "silence"
    app, _ = make(CHATPROXY_TOKENIZER=words)
    for number in range(20):
        session_id = str(number)
        with post(app, session_id, body={**CHAT, "max_tokens": 100}) as response:
            pieces = response.iter_encoded()
            seen = next(pieces)
            while b"three" not in seen:
                seen += next(pieces)
            receipt = stop(app, session_id)
            ending = data_of(sse.Decoder().feed(b"".join(pieces)), "stopped")
        if receipt["usageSource"] == "counted":
            break
    assert receipt["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert receipt["savedAtMost"] == 97
    assert receipt["cost"]["currency"] == "USD"
    for name in ("usage", "usageSource", "cost", "savedAtMost"):
        assert ending[name] == receipt[name]


def test_without_a_tokenizer_it_is_estimated_and_never_more_than_was_allowed(
    make: Make, service: Repeating
) -> None:
    service.blocks = [delta(content="word " * 100)]
    service.end = "silence"
    app, _ = make()
    with post(app, body={**CHAT, "max_tokens": 20}) as response:
        next(response.iter_encoded())
        receipt = stop(app)
    assert receipt["usageSource"] == "estimated"
    assert receipt["usage"]["completion_tokens"] == 20
    assert (receipt["usageSpread"], receipt["savedAtMost"]) == (0.5, 0)


def test_what_an_upstream_refuses_has_taken_nothing(make: Make, service: Repeating) -> None:
    service.status = b"402 No"
    app, _ = make()
    told: list[Any] = []
    with stream_ended.connected_to(lambda _, **sent: told.append(sent["account"])):
        post(app).close()
        wait_for(lambda: told)
    assert told == [{"usage": None, "usageSource": "none", "cost": None}]


def test_what_can_not_begin_has_its_model_all_the_same(make: Make, service: Repeating) -> None:
    app, chat = make()
    chat.budget(lambda _owner: Budget(tokens=1))
    seen: list[str] = []
    with signals.stream_closed.connected_to(lambda _, session: seen.append(session.model)):
        assert post(app).status_code == 429
    assert seen == ["deepseek-flash"]


# --- where it shows


def test_the_log_the_list_and_the_metrics_tell_it(
    make: Make, service: Repeating, caplog: pytest.LogCaptureFixture
) -> None:
    service.blocks = WHOLE
    app, chat = make()
    with caplog.at_level("INFO", logger="chatproxy"):
        events_in(post(app))
        wait_for(lambda: " ended " in caplog.text)
    line = r"one ended .* tokens=10\+4 usage=provider cost=0\.00000(39|78) USD"
    assert re.search(line, caplog.text)
    (listed,) = chat.sessions("")
    assert (listed["usage"], listed["usageSource"]) == (USAGE, "provider")
    labels = {"direction": "output", "source": "provider", "outcome": "finished"}

    def counted() -> list[float]:
        families = app.extensions["chatproxy"].metrics.collect()
        return [each.value for one in families for each in one.samples if each.labels == labels]

    wait_for(lambda: counted() == [4])


def test_a_run_has_the_sum_of_its_calls_and_each_its_own(make: Make, service: Repeating) -> None:
    service.blocks = WHOLE
    app, chat = make()

    @chat.run("twice")
    def twice(run: Run, payload: dict[str, Any]) -> None:
        for _ in range(2):
            run.ask(payload, name="part").read()
        service.end, service.blocks = "silence", []
        run.ask(payload, name="last").read()

    with app.test_client() as client:
        response = client.post(
            "/api/chat/runs/twice", json=CHAT, headers={"X-Session-Id": "one"}, buffered=False
        )
        wait_for(lambda: len(service.asked) == 3)
        wait_for(lambda: [each["phase"] for each in chat.sessions("")] == ["streaming"])
        state = app.extensions["chatproxy"]
        (session,) = state.registry.live()
        wait_for(lambda: session.calls.live()[0].phase.value == "waiting")
        receipt = stop(app)
        response.close()
    sources = [(each["name"], each.get("usageSource")) for each in receipt["calls"]]
    assert sources == [("part", "provider"), ("part", "provider"), ("last", "estimated")]
    last = receipt["calls"][-1]["usage"]["prompt_tokens"]
    assert receipt["usageSource"] == "estimated"
    assert receipt["usage"]["prompt_tokens"] == 2 * 10 + last
    assert receipt["usage"]["completion_tokens"] == 2 * 4


# --- against the simulated DeepSeek's own count

#: What the simulation is told for each way to end.
ENDS: dict[str, dict[str, Any]] = {
    "finish": {},
    "stop": {"tokens": 10_000, "rate": 2000},
    "leave": {"tokens": 10_000, "rate": 2000},
    "stop early": {"never": "tokens"},
    "cut": {"end": "cut", "end_after": 20},
}


def test_many_answers_of_every_end_come_to_what_was_sent(words: str) -> None:
    """Finished ones to what was generated; the others to what had come, which may be less."""
    chance = random.Random(16)
    ends = [chance.choice([*ENDS]) for _ in range(60)]
    told: dict[str, dict[str, Any]] = {}

    def receive(_sender: Flask, **sent: Any) -> None:
        told[sent["session_id"]] = sent

    with contextlib.closing(DeepSeek()) as deepseek, stream_ended.connected_to(receive):
        app = Flask(__name__)
        app.config.update(deepseek.settings, CHATPROXY_TOKENIZER=words)
        chat = ChatProxy(app, name="usage-storm")
        with ThreadPoolExecutor(10) as pool:
            for done in [
                pool.submit(end_so, chat, f"{number} {end}".replace(" ", "_"), end, number % 30)
                for number, end in enumerate(ends)
            ]:
                done.result()
        wait_for(lambda: len(told) == len(ends))
        made = {each["tag"]: each["tokens"] for each in deepseek.requests}
    sources = Counter((each["outcome"], each["usage_source"]) for each in told.values())
    assert sources["finished", "provider"] == ends.count("finish")
    assert sources["stopped", "counted"] > 0
    assert sources["failed", "counted"] + sources["failed", "estimated"] == ends.count("cut")
    known = [each for each in told.values() if each["account"].get("usageSpread", 1) < 0.5]
    within = [each for each in known if is_within(each)]
    assert len(within) >= 0.9 * len(known)
    for session_id, each in told.items():
        tokens = each["usage"]["completion_tokens"]
        if each["usage_source"] == "provider":
            assert tokens == made[session_id]
        elif each["usage_source"] == "counted":
            assert tokens == len(each["text"].split()) <= made[session_id]
            assert each["usage"]["prompt_tokens"] == 5


def is_within(told: dict[str, Any]) -> bool:
    """Whether an estimate is as near to what came as it says; an event but the first is a token."""
    tokens, came = told["usage"]["completion_tokens"], max(0, told["events"] - 1)
    return abs(tokens - came) <= max(1.0, told["account"]["usageSpread"] * tokens)


def end_so(chat: ChatProxy, session_id: str, end: str, after: int) -> None:
    """Ask, and end the answer in this way, after so many of its parts if it has any."""
    simulate = {"tag": session_id, "tokens": 60, "rate": 0, **ENDS[end]}
    payload = {**CHAT, "simulate": simulate, "thinking": {"type": "disabled"}}
    with chat.start(payload, session_id=session_id) as answer:
        if end == "stop early":
            wait_for(lambda: answer.phase == "waiting")
        elif end in ("stop", "leave"):
            for _ in itertools.islice(answer, after + 2):
                pass
        if end.startswith("stop"):
            answer.cancel()
        elif end != "leave":
            answer.wait()


# --- on a real server


@pytest.mark.slow
def test_a_worker_has_a_process_for_counts_while_answers_last(
    start_proxy: Any, deepseek: Any
) -> None:
    """And none that is left behind."""
    settings = {"CHATPROXY_GRACE": 0.5, "CHATPROXY_TOKENIZER": "deepseek"}
    proxy: Proxy = start_proxy("gunicorn", deepseek.url, **settings)
    client = proxy.start(new_id(), simulate={"rate": 50, "tokens": 10_000})
    client.read_until(b"delta")
    counters = wait_for(lambda: children_of(proxy.process.pid))

    def counted() -> dict[str, Any] | None:
        session_id = new_id()
        proxy.start(session_id, simulate={"rate": 50, "tokens": 10_000}).read_until(b"delta")
        receipt: dict[str, Any] = proxy.cancel(session_id)[1]
        return receipt if receipt["usageSource"] == "counted" else None

    assert wait_for(counted)["usage"]["prompt_tokens"] > 0
    proxy.stop()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in counters))


def children_of(master: int) -> list[int]:
    """The processes that count, of the workers of a server."""
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    found = []
    for worker in workers:
        for path in Path(f"/proc/{worker}/task").glob("*/children"):
            found += [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if "counter" in Path(f"/proc/{pid}/cmdline").read_text()]
