"""Where a question is put: by the application, by a file, by the settings; never by its client."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from responses import RequestsMock
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, ConfigError, Refusal, Run, Upstream, stream_ended
from chatproxy.answers.upstream import BillingStops
from chatproxy.upstreams import known

from .support.instant import HELLO
from .support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("_plain_environment")

KEY = "sk-0123456789abcdef"
USERS_KEY = "sk-users-own-0123456789"
HOME = "https://deepseek.example"
AZURE = "https://example.openai.azure.com/openai/deployments/gpt-large"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
ANSWER = EVENT + b"data: [DONE]\n\n"


# --- what an Upstream may be


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base_url": "a.example"}, "base_url must be a URL"),
        ({"base_url": f"https://user:{KEY}@a.example"}, "base_url must be a URL"),
        ({"base_url": f"https://a.example/v1?key={KEY}"}, "base_url must be a URL"),
        ({"base_url": None}, "base_url must be a URL"),
        ({"api_key": f"{KEY}\r\nX: y"}, "api_key must be plain ASCII"),
        ({"api_key": f"{KEY}ä"}, "api_key must be plain ASCII"),
        ({"api_key": None}, "api_key must be plain ASCII"),
        ({"name": "a b"}, "name must be"),
        ({"name": "a\n[SSE] b"}, "name must be"),
        ({"headers": {"X: y\r\nZ": "1"}}, "headers and api_key_header must have the names"),
        ({"headers": {"X": f"{KEY}\nZ: 1"}}, r"headers\['X'\] must be plain ASCII"),
        ({"headers": {"content-Length": "0"}}, "headers must not have content-length"),
        ({"headers": {"host": "b.example"}}, "headers must not have host"),
        ({"headers": {"X": "1", "x": "2"}}, "headers must not have a name twice"),
        (
            {"api_key": KEY, "headers": {"api-key": "2"}, "api_key_header": "Api-Key"},
            "headers must not have a name twice",
        ),
        ({"query": {"a": 1}}, "query must have names and values that are text"),
        ({"model": 5}, "model must be text"),
        ({"limit": 0}, "limit must be a whole number"),
        ({"limit": True}, "limit must be a whole number"),
        ({"billing_stops": "no"}, "billing_stops must be true or false"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_repeated(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Upstream(**{"base_url": "https://a.example", **fields})
    assert KEY not in str(caught.value)


def test_its_secrets_are_in_no_repr() -> None:
    upstream = Upstream(
        "https://a.example", KEY, headers={"X": f"{KEY}-2"}, query={"k": f"{KEY}-3"}, name="a"
    )
    assert KEY not in repr(upstream)
    assert "https://a.example" in repr(upstream)


def test_authorization_may_be_a_header_of_ones_own() -> None:
    """What its caller changes later is not its own. Its name is its host if it has none."""
    headers = {"Authorization": "Basic dTpwYXNzd29yZA=="}
    upstream = Upstream("http://A.example:8000/v1", headers=headers)
    headers["Host"] = "b.example"
    assert upstream.credentials == {"Authorization": "Basic dTpwYXNzd29yZA=="}
    assert "dTpwYXNzd29yZA==" in upstream.secrets
    assert upstream.name == "A.example:8000"


@pytest.mark.parametrize(
    ("host", "stops"),
    [
        ("api.deepseek.com", BillingStops.YES),
        ("example.openai.azure.com", BillingStops.YES),
        ("api.openai.com", BillingStops.YES),
        ("bedrock-runtime.eu-west-1.amazonaws.com", BillingStops.NO),
        ("generativelanguage.googleapis.com", BillingStops.NO),
        ("openrouter.ai", BillingStops.UNKNOWN),
        ("evilapi.openai.com.example", BillingStops.UNKNOWN),
        ("notapi.openai.com", BillingStops.UNKNOWN),
        ("127.0.0.1", BillingStops.UNKNOWN),
    ],
)
def test_what_a_close_does_to_the_bill_is_known_of_some_hosts(
    host: str, stops: BillingStops
) -> None:
    assert known.billing_stops(host) is stops


def test_deepseeks_own_limits_are_known() -> None:
    assert known.limit("api.deepseek.com", "deepseek-flash") == 2500
    assert known.limit("api.deepseek.com", "deepseek-v4-pro") == 500
    assert known.limit("deepseek.example", "deepseek-v4-pro") is None


# --- in an application


class Site:
    """An application, and what it sends to whom."""

    def __init__(self, mock: RequestsMock, **settings: Any) -> None:
        self.mock = mock
        self.app = Flask(__name__)
        self.app.config.update(DEEPSEEK_BASE_URL=HOME, DEEPSEEK_API_KEY=KEY, **settings)

    def set_up(self, **arguments: Any) -> ChatProxy:
        self.chat = ChatProxy(self.app, **arguments)
        return self.chat

    def answers(self, base_url: str, status: int = 200, body: bytes = ANSWER) -> None:
        self.mock.post(f"{base_url}/chat/completions", status=status, body=body)

    def ask(self, session_id: str = "session_1", **fields: Any) -> TestResponse:
        headers = {"X-Session-Id": session_id, "X-User": "ada"}
        body = {**HELLO, **fields}
        return self.app.test_client().post("/api/chat/stream", json=body, headers=headers)

    def asked(self) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
        """The URL, the headers and the body of each request."""
        found = []
        for call in self.mock.calls:
            body = json.loads(call.request.body)
            assert body.pop("stream_options") == {"include_usage": True}
            found.append((call.request.url or "", dict(call.request.headers), body))
        return found


@pytest.fixture
def new_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    monkeypatch.delenv("CHATPROXY_RUN_DIR", raising=False)
    sites: list[Site] = []
    with RequestsMock(assert_all_requests_are_fired=False) as mock:

        def new_site(**settings: Any) -> Site:
            sites.append(Site(mock, **settings))
            return sites[-1]

        yield new_site
    for site in sites:
        if "chatproxy" in site.app.extensions:
            site.app.extensions["chatproxy"].upstream.close()


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    return new_site()


def test_an_application_gives_each_user_a_key(site: Site) -> None:
    """In the request: so it may look at who is logged in."""
    chat = site.set_up()

    @chat.upstream
    def users_own(payload: dict[str, Any]) -> Upstream | None:
        if payload["model"] != "gpt-large":
            return None
        key = {"ada": USERS_KEY}[request.headers["X-User"]]
        return Upstream("https://openai.example/v1", api_key=key, name="openai")

    site.answers("https://openai.example/v1")
    site.answers(HOME)
    assert site.ask(model="gpt-large").data.count(EVENT) == 1
    assert site.ask("session_2", model="deepseek-flash").data.count(EVENT) == 1
    (url, headers, _), (second_url, second_headers, _) = site.asked()
    assert url == "https://openai.example/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {USERS_KEY}"
    assert second_url == f"{HOME}/chat/completions"
    assert second_headers["Authorization"] == f"Bearer {KEY}"


def test_azure_has_its_key_and_its_version_elsewhere(site: Site) -> None:
    chat = site.set_up()
    azure = Upstream(
        *(AZURE, USERS_KEY), api_key_header="api-key", query={"api-version": "2024-10-21"}
    )
    chat.upstream(lambda _payload: azure)
    first = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
    site.mock.post(f"{AZURE}/chat/completions?api-version=2024-10-21", body=first + ANSWER)
    response = site.ask()
    ((url, headers, _),) = site.asked()
    assert url == f"{AZURE}/chat/completions?api-version=2024-10-21"
    assert headers["api-key"] == USERS_KEY
    assert "Authorization" not in headers
    assert first in response.data
    assert EVENT in response.data


def test_a_local_upstream_needs_no_key(site: Site) -> None:
    site.set_up().upstream(lambda _payload: Upstream("http://127.0.0.1:11434/v1", model="gemma3"))
    site.answers("http://127.0.0.1:11434/v1")
    assert EVENT in site.ask(model="small").data
    ((_, headers, body),) = site.asked()
    assert "Authorization" not in headers
    assert body["model"] == "gemma3"


def test_several_are_asked_in_their_order_until_one_answers(site: Site) -> None:
    bases = [f"https://{name}.example" for name in "abc"]
    site.set_up().upstream(lambda _payload: [Upstream(base) for base in bases])
    site.answers(bases[0], 500)
    site.answers(bases[1])
    ends = list[dict[str, Any]]()
    with stream_ended.connected_to(lambda _app, **told: ends.append(told), site.app):
        assert EVENT in site.ask().data
        wait_for(lambda: bool(ends))
    assert [url.split("/")[2] for url, *_ in site.asked()] == ["a.example", "b.example"]
    assert ends[0]["upstream"] == "b.example"


def test_an_application_may_refuse(site: Site) -> None:
    chat = site.set_up()

    @chat.upstream
    def refuse(_payload: dict[str, Any]) -> None:
        raise Refusal("Add a key in your profile first.", status=403, code="no_key")

    response = site.ask()
    assert (response.status_code, response.get_json()["code"]) == (403, "no_key")
    assert site.asked() == []


@pytest.mark.parametrize("wrong", ["https://a.example", [], [None], 5])
def test_what_is_no_upstream_is_an_error_of_the_application(site: Site, wrong: Any) -> None:
    site.app.testing = True
    site.set_up().upstream(lambda _payload: wrong)
    with pytest.raises(TypeError):
        site.ask()
    assert site.asked() == []


def test_what_the_function_does_to_the_payload_has_no_effect(site: Site) -> None:
    site.set_up().upstream(lambda payload: payload.clear())
    site.answers(HOME)
    assert EVENT in site.ask(model="m").data
    ((_, _, body),) = site.asked()
    assert body == {**HELLO, "model": "m", "stream": True}


HOSTILE: dict[str, Any] = {
    "base_url": "https://evil.example",
    "api_base": "https://evil.example",
    "url": "https://evil.example",
    "host": "evil.example",
    "upstream": {"base_url": "https://evil.example", "api_key": "x"},
    "upstreams": ["https://evil.example"],
    "api_key": "sk-evil",
    "headers": {"Host": "evil.example", "Authorization": "Bearer x"},
    "extra_headers": {"Host": "evil.example"},
    "query": {"x": "y"},
    "proxies": {"https": "http://evil.example"},
}


@pytest.mark.parametrize(
    "model",
    [
        *("https://evil.example/v1", "//evil.example", "../../x", "@evil.example", "a\r\nHost: x"),
        *("ours", "?x=https://evil.example", "#", "%2e%2e/", "OURS"),
    ],
)
def test_no_payload_can_choose_a_host_or_a_key(
    new_site: Callable[..., Site], tmp_path: Path, model: str
) -> None:
    path = tmp_path / "upstreams.toml"
    path.write_text(
        f'[upstreams.ours]\nbase_url = "{AZURE}"\napi_key = "{USERS_KEY}"\n[models]\nours = "ours"'
    )
    site = new_site(CHATPROXY_UPSTREAMS=str(path))
    site.set_up()
    site.answers(HOME)
    site.answers(AZURE)
    assert EVENT in site.ask(model=model, **HOSTILE).data
    ((url, headers, body),) = site.asked()
    base, key = (AZURE, USERS_KEY) if model == "ours" else (HOME, KEY)
    assert url == f"{base}/chat/completions"
    assert headers["Authorization"] == f"Bearer {key}"
    assert headers["Host"] == base.split("/")[2]
    assert body == {**HELLO, **HOSTILE, "model": model, "stream": True}


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_is_told_to_nobody(site: Site, caplog: pytest.LogCaptureFixture, status: int) -> None:
    """Neither one in a header or a query, nor if the upstream repeats it, or a part of it."""
    token, signature = "token-0123456789", "signature/0123456789"
    site.set_up().upstream(
        lambda _payload: Upstream(
            *("https://a.example", USERS_KEY), headers={"X-T": token}, query={"s": signature}
        )
    )
    said = f"Wrong: {USERS_KEY} {token} {signature} signature%2F0123456789 {USERS_KEY[:-1]}"
    site.mock.post(
        "https://a.example/chat/completions", status=status, json={"error": {"message": said}}
    )
    with caplog.at_level(logging.DEBUG):
        response = site.ask()
        wait_for(lambda: "ended outcome" in caplog.text)
    ours = [each.getMessage() for each in caplog.records if each.name == "chatproxy"]
    for text in (response.get_data(as_text=True), "\n".join(ours)):
        for secret in (USERS_KEY, USERS_KEY[:-1], token, signature, "0123456789"):
            assert secret not in text


def test_deepseek_needs_no_key_if_the_application_chooses(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.app.config["DEEPSEEK_API_KEY"] = ""
    with pytest.raises(ConfigError, match="DEEPSEEK_API_KEY"):
        ChatProxy(site.app)
    site.set_up(upstream=lambda payload: None)
    response = site.ask()
    assert (response.status_code, response.get_json()["code"]) == (502, "upstream_auth")
    assert site.asked() == []
    assert "DeepSeek failed session_1: DEEPSEEK_API_KEY is not set" in caplog.text


# --- by a file


ROUTES = """
others = "refuse"
[upstreams.a]
base_url = "https://a.example"
api_key_env = "KEY_OF_A"
[upstreams.b]
base_url = "https://b.example"
api_key = ""
[models]
one = ["a", { upstream = "b", model = "eins" }]
deepseek-flash = "b"
"""


@pytest.fixture
def routed(new_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    path = tmp_path / "upstreams.toml"
    path.write_text(ROUTES)
    monkeypatch.setenv("KEY_OF_A", USERS_KEY)
    site = new_site(CHATPROXY_UPSTREAMS=str(path))
    site.app.config["DEEPSEEK_API_KEY"] = ""  # which is not needed
    return site


def test_a_model_is_answered_by_the_upstreams_that_the_file_names(routed: Site) -> None:
    """A question that names no model has the default one; what nobody answers is refused."""
    routed.set_up()
    routed.answers("https://a.example", 503)
    routed.answers("https://b.example")
    assert EVENT in routed.ask("session_1", model="one").data
    assert EVENT in routed.ask("session_2").data
    refused = routed.ask("session_3", model="two")
    assert (refused.status_code, refused.get_json()["code"]) == (404, "model_not_found")
    (a, b, default) = routed.asked()
    assert a[1]["Authorization"] == f"Bearer {USERS_KEY}"
    assert (a[2]["model"], b[2]["model"]) == ("one", "eins")
    assert default[0] == "https://b.example/chat/completions"


def test_the_application_goes_before_the_file(routed: Site) -> None:
    routed.set_up(upstream=lambda _payload: Upstream("https://c.example"))
    routed.answers("https://c.example")
    assert EVENT in routed.ask(model="two").data


@pytest.mark.parametrize("others", ["refuse", "DeepSeek"])
def test_the_list_of_models_has_those_of_the_file(
    routed: Site, tmp_path: Path, others: str
) -> None:
    (tmp_path / "upstreams.toml").write_text(ROUTES.replace("refuse", others))
    routed.app.config["DEEPSEEK_API_KEY"] = KEY
    routed.set_up()
    routed.mock.get(f"{HOME}/models", json={"data": [{"id": "theirs"}, {"id": "one"}]})
    listed = routed.app.test_client().get("/v1/models").get_json()["data"]
    theirs = ["theirs"] if others == "DeepSeek" else []
    assert sorted(each["id"] for each in listed) == sorted(["one", "deepseek-flash", *theirs])
    assert next(each for each in listed if each["id"] == "one")["owned_by"] == "a"


# --- in a run


@pytest.mark.parametrize("chosen", ["by the run", "for the run", "by the file"])
def test_a_question_of_a_run_goes_where_it_is_sent(routed: Site, chosen: str) -> None:
    chat = routed.set_up()

    @chat.run("twice")
    def twice(run: Run, payload: dict[str, Any]) -> Iterator[Any]:
        upstream = Upstream("https://c.example", USERS_KEY) if chosen == "by the run" else None
        yield from run.ask({**HELLO, "model": "one"}, upstream=upstream)

    @chat.upstream
    def choose(payload: dict[str, Any]) -> Upstream | None:
        assert payload["model"] == "run:twice"
        return Upstream("https://d.example") if chosen == "for the run" else None

    host = {"by the run": "c", "for the run": "d", "by the file": "a"}[chosen]
    routed.answers(f"https://{host}.example")
    assert b"Hi" in routed.ask(model="run:twice").data
    assert [url.split("/")[2] for url, *_ in routed.asked()] == [f"{host}.example"]
