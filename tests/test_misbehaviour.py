"""Whatever DeepSeek does, the client gets a plain answer and nothing stays behind."""

import json
import time

import pytest

from .support.servers import ask, data_events, events, new_id

#: Ours, and how often DeepSeek is asked, by its status; :mod:`tests.test_upstream` has them all.
STATUSES = {
    402: (502, "upstream_balance", 1),
    422: (422, "upstream_rejected", 1),
    503: (503, "upstream_busy", 3),
}


@pytest.mark.parametrize("status", STATUSES)
def test_an_error_status_is_mapped_and_its_id_can_be_used_again(proxy, deepseek, status):
    session_id, (ours, code, tries) = new_id(), STATUSES[status]
    response = ask(proxy, session_id, simulate={"status": status, "tag": session_id})
    assert (response.status_code, response.json()["code"]) == (ours, code)
    assert "outcome=failed" in proxy.closing_line(session_id)
    assert len(deepseek.entries(session_id)) == tries
    again = ask(proxy, session_id, simulate={"rate": 0, "tokens": 1})
    assert again.status_code == 200


def test_a_passing_fault_is_retried_and_not_seen(proxy, deepseek):
    tag = new_id()
    fault = {"status": 503, "fail_times": 2}
    response = ask(proxy, simulate={"rate": 0, "tokens": 3, "tag": tag, **fault})
    assert response.status_code == 200
    assert events(response.content)[-1]["data"] == "[DONE]"
    assert len(deepseek.entries(tag)) == 3


def test_an_upstream_that_took_the_request_and_closed_is_not_asked_again(proxy, deepseek):
    """It may have worked on it: another request may be a second bill, also if a client sends it."""
    session_id = new_id()
    fault = {"disconnect_times": 2, "tag": session_id}
    response = ask(proxy, session_id, simulate={"rate": 0, "tokens": 3, **fault})
    assert (response.status_code, response.json()["code"]) == (502, "upstream_failed")
    assert response.headers["X-Should-Retry"] == "false"
    assert len(deepseek.entries(session_id)) == 1
    proxy.closing_line(session_id)
    (line,) = proxy.reasons(session_id)
    assert f"{session_id}: answer 127.0.0.1:" in line
    assert "(try 1 of 3, /chat/completions)" in line


@pytest.mark.parametrize("end", ["eof", "cut", "reset"])
def test_an_answer_that_breaks_off_is_never_passed_off_as_complete(proxy, deepseek, end):
    """And it is not asked for again: what was received has been billed."""
    session_id = new_id()
    response = ask(
        proxy,
        session_id,
        simulate={"rate": 0, "tokens": 100, "end": end, "end_after": 10, "tag": session_id},
    )
    assert response.status_code == 200
    *answer, last = events(response.content)
    assert last["event"] == "error"
    assert json.loads(last["data"])["error"]["code"] == "upstream_failed"
    assert "[DONE]" not in response.text
    assert len(answer) >= 10
    assert len(deepseek.entries(session_id)) == 1
    assert "outcome=failed phase=streaming" in proxy.closing_line(session_id)


@pytest.mark.parametrize(
    "scenario",
    [{"garbage": 100_000}, {"bad_chunking": True, "tokens": 0}, {"end": "eof", "end_after": 0}],
    ids=["garbage", "bad_chunking", "empty"],
)
def test_an_answer_without_any_event_is_refused(proxy, scenario):
    response = ask(proxy, simulate={"rate": 0, **scenario}, thinking={"type": "disabled"})
    if response.status_code == 200:  # noise may look like a comment, which begins the answer
        assert events(response.content)[-1]["event"] == "error"
    else:
        assert response.status_code == 502
        assert response.json()["code"] == "upstream_failed"


def test_an_event_of_a_megabyte_is_refused_cleanly(proxy, deepseek):
    tag = new_id()
    response = ask(proxy, simulate={"huge_event": 1_000_000, "tag": tag})
    assert response.status_code == 502
    assert "262144 bytes" in response.json()["error"]
    deepseek.entry(tag, lambda entry: not entry["open"])


def test_an_event_of_100_kb_passes(proxy):
    response = ask(proxy, simulate={"huge_event": 100_000, "rate": 0, "tokens": 1})
    assert max(len(event["data"]) for event in data_events(response.content)) > 99_000


@pytest.mark.parametrize(
    ("scenario", "phase"),
    [
        ({"never": "tokens", "keep_alive_every": 0.05}, "waiting"),
        ({"rate": 0, "silence_after": 5}, "streaming"),
    ],
)
def test_silence_is_ended_by_the_idle_timer_whatever_keep_alives_come(
    kind, start_proxy, deepseek, scenario, phase
):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_IDLE_TIMEOUT=0.5)
    session_id = new_id()
    response = ask(proxy, session_id, simulate={"tag": session_id, **scenario})
    assert response.status_code == 200
    *answer, stopped, done = events(response.content)
    told = json.loads(stopped["data"])
    assert (told["sessionId"], told["reason"]) == (session_id, "idle")
    assert (told["phase"], told["events"]) == (phase, len(answer))
    assert done["data"] == "[DONE]"
    deepseek.gone(session_id)


def test_no_first_event_in_time_is_a_504(kind, start_proxy, deepseek):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_IDLE_TIMEOUT=0.5)
    response = ask(proxy, simulate={"never": "headers"})
    assert response.status_code == 504
    assert response.json()["code"] == "upstream_timeout"


@pytest.mark.parametrize("scenario", [{"trickle": 0.02}, {"rate": 20, "tokens": 10_000}])
def test_a_trickle_is_ended_by_the_deadline(kind, start_proxy, deepseek, scenario):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_DEADLINE=1)
    session_id = new_id()
    begun = time.monotonic()
    response = ask(proxy, simulate={"tag": session_id, **scenario})
    assert time.monotonic() - begun < 4
    if response.status_code == 200:
        assert json.loads(events(response.content)[-2]["data"])["reason"] == "deadline"
    else:
        assert response.json()["code"] == "upstream_timeout"
    deepseek.gone(session_id)


def test_a_certificate_that_does_not_verify_is_not_accepted(kind, start_proxy, deepseek_tls):
    proxy = start_proxy(kind, deepseek_tls.url)
    before = deepseek_tls.ledger()["requests"]
    response = ask(proxy)
    assert response.status_code == 502
    assert response.json()["code"] == "upstream_unreachable"
    assert deepseek_tls.ledger()["requests"] == before


def test_the_key_is_never_told(kind, start_proxy, deepseek_tls, ca_file):
    """Not in the answer, and not in the log, where DeepSeek does not accept it."""
    proxy = start_proxy(
        kind, deepseek_tls.url, DEEPSEEK_API_KEY="invalid", REQUESTS_CA_BUNDLE=ca_file
    )
    response = ask(proxy)
    assert response.status_code == 502
    assert "invalid" not in response.text
    assert "invalid" not in proxy.log()
