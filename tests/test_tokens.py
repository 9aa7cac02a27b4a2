"""Bearer tokens: who gets in, what the others learn, and whose answers are whose."""

import contextlib
import hmac
import logging
from types import SimpleNamespace

import pytest
import requests

from chatproxy import create_app
from chatproxy.errors import Unauthorized
from chatproxy.web import tokens
from chatproxy.web.tokens import owner_by_token

from .support.servers import chat, new_id

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef=="
TOKENS = f"ann:{ANN},bob:{BOB}"
AS_ANN, AS_BOB = f"Bearer {ANN}", f"Bearer {BOB}"
ORIGIN = "https://chat.example"

SENTENCE = "This request needs a valid access token."
CHALLENGE = 'Bearer realm="chatproxy"'
LONG = {"rate": 20, "tokens": 10_000}

#: ``Authorization`` headers that don't get in; None is no header.
WRONG = [
    *(None, "", "Bearer", "Bearer ", ANN, f"Basic {ANN}", f"Bearer{ANN}", "Basic ü"),
    *("Bearer wrong-0123456789abcdef", f"Bearer {ANN[:-1]}", f"Bearer {ANN}0", "Bearer ann"),
    *(f"Bearer {ANN.upper()}", f"Bearer {ANN}, Bearer {ANN}", f'Bearer token="{ANN}"'),
    "Bearer tökén-0123456789ab",
]


def make_app(**settings):
    config = {"DEEPSEEK_BASE_URL": "http://127.0.0.1:1", "CHATPROXY_TOKENS": TOKENS, **settings}
    return create_app(config)


def headers(authorization):
    return {} if authorization is None else {"Authorization": authorization}


@pytest.fixture
def owner_of():
    """Tells whose an ``Authorization`` header is."""
    app = make_app()
    owner = owner_by_token([("ann", ANN), ("bob", BOB), ("ann", "ann-the-second-token")])

    def owner_of(authorization):
        with app.test_request_context(headers=headers(authorization)):
            return owner()

    return owner_of


def test_a_token_tells_its_owner(owner_of):
    """Who may have several; the name of the scheme may be in any case."""
    assert owner_of(AS_BOB) == "bob"
    assert owner_of("Bearer ann-the-second-token") == "ann"
    for authorization in (AS_ANN, f"bearer {ANN}", f"BEARER {ANN}", f"Bearer  {ANN} "):
        assert owner_of(authorization) == "ann"


def test_anything_else_is_refused_in_the_same_words(owner_of):
    for authorization in WRONG:
        with pytest.raises(Unauthorized) as caught:
            owner_of(authorization)
        assert str(caught.value) == SENTENCE
        assert caught.value.headers()["WWW-Authenticate"] == CHALLENGE


def test_all_tokens_are_compared_whichever_is_given(owner_of, monkeypatch):
    """Else the time would tell how far down the list one is."""
    compared = []

    def compare(one, other):
        compared.append(one)
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(tokens, "hmac", SimpleNamespace(compare_digest=compare))
    for token in (ANN, BOB, "wrong-0123456789abcdef", ""):
        compared.clear()
        with contextlib.suppress(Unauthorized):
            owner_of(f"Bearer {token}")
        assert len(compared) == 3


def test_what_says_nothing_of_anybody_stays_open():
    client = make_app().test_client()
    for path in ("/", "/page.json", "/healthz", "/readyz"):
        assert client.get(path, buffered=True).status_code == 200


def test_the_page_is_told_whether_a_token_is_needed_and_without_any_everybody_gets_in():
    assert make_app().test_client().get("/page.json").json["authorization"] is True
    client = make_app(CHATPROXY_TOKENS="").test_client()
    assert client.get("/page.json").json["authorization"] is False
    assert client.post("/api/chat/cancel/s1").status_code == 404


def test_a_browser_needs_no_token_to_ask_whether_a_page_of_an_allowed_origin_may_send_one():
    client = make_app(CHATPROXY_CORS_ORIGINS=ORIGIN).test_client()
    preflight = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for path in ("/api/chat/stream", "/api/chat/cancel/s1"):
        asked = client.options(path, headers=preflight)
        assert asked.status_code == 200
        assert asked.headers["Access-Control-Allow-Headers"].lower() == "authorization"


def test_a_refused_request_does_not_have_its_token_logged(caplog):
    caplog.set_level(logging.DEBUG)
    secret = "geheim-geheim-geheim"
    client = make_app().test_client()
    answer = client.post("/api/chat/stream", headers=headers(f"Bearer {secret}"), json=chat())
    assert secret not in caplog.text
    assert secret not in answer.text + str(answer.headers)


@pytest.fixture
def proxy(kind, start_proxy, deepseek):
    return start_proxy(kind, deepseek.url, CHATPROXY_TOKENS=TOKENS)


@pytest.fixture
def post(proxy):
    """Asks, or stops, with an ``Authorization`` header; at the end no answer is left."""
    with contextlib.ExitStack() as stack:

        def post(authorization, path, session_id, **fields):
            given = {"X-Session-Id": session_id, **headers(authorization)}
            url = f"{proxy.url}/api/chat/{path}"
            answer = requests.post(url, headers=given, json=chat(**fields), stream=True, timeout=20)
            return stack.enter_context(answer)

        yield post
    proxy.wait_until_empty()


def test_without_a_right_token_nothing_reaches_deepseek(post, proxy, deepseek):
    before = deepseek.ledger()["connections"]["accepted"]
    for authorization in (None, b"Bearer wrong-0123456789abcdef", "Bearer tökén".encode()):
        session_id = new_id()
        for path in ("stream", f"cancel/{session_id}"):
            answer = post(authorization, path, session_id, simulate={"tag": session_id})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == CHALLENGE
            assert answer.json() == {"error": SENTENCE, "code": "unauthorized"}
        assert deepseek.entries(session_id) == []
        assert proxy.lines(session_id) == []
    assert deepseek.ledger()["connections"]["accepted"] == before


def test_only_the_owner_can_stop_an_answer(post, deepseek):
    """A Stop without a token refuses no later start, and leaves the answer alone."""
    session_id = new_id()
    stop = f"cancel/{session_id}"
    assert post(None, stop, session_id).status_code == 401
    begun = post(AS_ANN, "stream", session_id, simulate={"tag": session_id, **LONG})
    assert begun.status_code == 200
    tokens_before = deepseek.entry(session_id)["tokens"]
    assert post(None, stop, session_id).status_code == 401
    deepseek.entry(session_id, lambda entry: entry["open"] and entry["tokens"] > tokens_before)
    receipt = post(AS_ANN, stop, session_id).json()
    assert (receipt["sessionId"], receipt["upstreamClosed"]) == (session_id, True)
    assert not deepseek.gone(session_id)["finished"]


def test_no_token_is_in_the_log_or_in_what_anybody_can_read(post, proxy):
    session_id = new_id()
    post(AS_ANN, "stream", session_id, simulate=LONG)
    for authorization in ("Bearer wrong-0123456789abcdef", AS_ANN):
        post(authorization, f"cancel/{session_id}", session_id)
    proxy.closing_line(session_id)
    read = [requests.get(f"{proxy.url}{path}", timeout=10).text for path in ("/", "/page.json")]
    for text in (proxy.log(), *read):
        assert "0123456789abcdef" not in text
