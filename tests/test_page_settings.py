"""``/page.json``: what the chat page is told of the server."""

import pytest
from flask import Flask

from chatproxy import ChatProxy, ConfigError, create_app

LOCAL = {"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"}


def told(**settings):
    return create_app({**LOCAL, **settings}).test_client().get("/page.json").json


def test_the_page_is_told_what_it_would_otherwise_have_to_guess():
    """Models that take images can be chosen too."""
    defaults = {"system": "Antworte kurz.", "temperature": 0.5}
    page = told(
        CHATPROXY_RETAIN=7,
        CHATPROXY_HEARTBEAT=3,
        CHATPROXY_MAX_BODY_BYTES=2048,
        CHATPROXY_MODEL="m",
        CHATPROXY_VISION_MODELS="qwen-vl,m",
        CHATPROXY_PAGE_DEFAULTS=defaults,
    )
    assert (page["retain"], page["heartbeat"], page["maxBodyBytes"]) == (7, 3, 2048)
    assert (page["model"], page["models"][0], page["defaults"]) == ("m", "m", defaults)
    assert page["visionModels"] == ["qwen-vl", "m"]
    assert page["models"].count("qwen-vl") == page["models"].count("m") == 1
    assert (told()["visionModels"], told()["defaults"]) == ([], {})


def test_an_application_has_the_page_if_it_wants_and_offers_its_runs_there():
    app = Flask(__name__)
    app.config.from_mapping(LOCAL)
    chat = ChatProxy(app, name="with-a-page")
    app.register_blueprint(chat.page())
    chat.run("research")(lambda run, payload: "Hello")
    client = app.test_client()
    assert client.get("/page.json").json["runs"] == ["research"]
    with client.get("/") as index:
        assert b"<title>" in index.data


def test_the_page_asks_the_routes_where_they_are_by_default():
    with pytest.raises(ConfigError, match="/api/chat"):
        ChatProxy(url_prefix="/elsewhere").page()


@pytest.mark.parametrize(("path", "prefix"), [("", False), ("/v1", False), ("/beta", True)])
def test_the_page_is_told_whether_an_answer_can_go_on_where_it_ended(path, prefix):
    assert told(DEEPSEEK_BASE_URL=f"http://127.0.0.1:1{path}")["prefix"] is prefix
