"""The six connections that a browser has for a server over HTTP/1.1, and more answers than that.

Tabs are tried with a server that stops an answer without a reader, with one that lets it go on, and
over HTTP/2, where all answers share one connection.
"""

import contextlib
import json
import re
from urllib.parse import quote

import pytest

from ..support.nginx import NGINX, Nginx
from ..support.servers import Proxy
from ..support.waiting import wait_for
from .conftest import Page

#: What is drawn costs as much as it says.
LONG = {"rate": 0.5, "tokens": 5000}
MOST = 4


@pytest.fixture(scope="module", params=["stops", "goes on", "over HTTP/2"])
def kind(request):
    """What becomes of an answer without a reader: over HTTP/2, too, it is stopped."""
    if request.param == "over HTTP/2" and not NGINX:
        pytest.skip("nginx is not installed")
    return request.param


@pytest.fixture(scope="module")
def server(logs, deepseek, kind):
    seconds = 30 if kind == "goes on" else "stop"
    settings = {"CHATPROXY_NOTICE": "A simulation.", "CHATPROXY_ON_DISCONNECT": seconds}
    with Proxy("gunicorn", deepseek.url, logs("connections"), **settings) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def url(server, kind, certificate, tmp_path_factory):
    """Where the browser finds the server."""
    if kind != "over HTTP/2":
        yield server.url
        return
    servers = [server.url.removeprefix("http://")]
    with contextlib.closing(Nginx(tmp_path_factory.mktemp("nginx"), certificate, servers)) as nginx:
        yield nginx.url


@pytest.fixture
def tabs(browser, url):
    """Opens tabs of one browser; at the end nothing but a 404 for a Stop has been complained of."""
    messages = []
    options = {"base_url": url, "reduced_motion": "reduce", "ignore_https_errors": True}
    with browser.new_context(**options) as context:

        def open_tab():
            tab = Page(context.new_page(), messages, LONG, "/")
            tab.expected_messages = ("status of 404",)
            return tab

        yield open_tab
    assert messages == []


def ask(tab, question):
    tab.page.get_by_role("button", name="New chat").click()
    tab.box.fill(question)
    tab.box.press("Enter")
    tab.page.locator("article[data-state=running]").wait_for()


def open_chat(tab, question):
    chats = tab.page.get_by_role("navigation", name="Chats")
    chats.locator(".list-open-chat", has_text=question).click()
    chats.locator("[aria-current]", has_text=question).wait_for()
    return tab.page.locator("article.answer")


def is_sent_or_waits(tab, question):
    """Whether an answer's question was sent; if not, it has to say so."""
    answer = open_chat(tab, question)
    sent = answer.get_attribute("data-session-id") in tab.header_ids()
    if not sent:
        answer.get_by_text("Not sent yet: waiting for a free connection").wait_for()
    return sent


def stop(tab, question):
    """Stop an answer, and see what becomes known about it."""
    answer = open_chat(tab, question)
    tab.page.keyboard.press("Escape")
    known = answer.locator("[data-stop=stopped], [data-stop=nothing-to-stop]")
    known.wait_for()
    assert answer.get_by_text("AI response stopped by user.").count() == 1
    if answer.get_attribute("data-session-id") in tab.header_ids():
        assert re.match(r"stopped in \d+ ms", known.inner_text())


def assert_prompt(tab):
    """Every Stop has had its answer within a second, the wait for a connection included."""
    stops = [each for each in tab.requested() if "/cancel/" in each.url]
    for each in stops:
        each.response().finished()
    took = [each.timing["responseEnd"] for each in stops]
    assert all(0 <= ms < 1000 for ms in took)


def assert_all_over(server, tabs):
    ids = [session_id for tab in tabs for session_id in tab.header_ids()]
    assert ids
    for session_id in ids:
        assert "outcome=stopped" in server.closing_line(session_id)
    server.wait_until_empty()


def test_eight_answers_in_two_tabs(tabs, server, kind):
    """Six in one of them, then two in another, which has to be loaded meanwhile."""
    asked = []
    for name, count in (("red", 6), ("blue", 2)):
        tab = tabs()
        for number in range(count):
            ask(tab, f"{name} {number}")
            asked.append((tab, f"{name} {number}"))
    opened = {tab for tab, _ in asked}
    sent = MOST if kind == "stops" else len(asked)
    # A tab reads on for a moment what it showed before its own question.
    wait_for(lambda: sum(len(tab.header_ids()) for tab in opened) == sent)
    for tab in opened:  # what another tab asks comes above, and moves what is to be clicked
        tab.page.locator(f".list-item:nth-child({len(asked)})").wait_for()
    if kind == "stops":
        wait_for(lambda: len(server.live()) == sent)
        assert [is_sent_or_waits(tab, question) for tab, question in asked].count(True) == sent
    for tab, question in asked:
        stop(tab, question)
    for tab in opened:
        assert_prompt(tab)
    assert_all_over(server, opened)


def test_an_answer_in_the_background_is_whole_when_it_is_shown_again(tabs, server, deepseek, kind):
    """Its words are numbered: none is missing, and none comes twice."""
    tab = tabs()
    words = [f"word{number}" for number in range(1, 61)]
    # It goes on for as long as its connection is kept, and for a while after that.
    simulate = {"text": " ".join(words), "rate": 10 if kind == "goes on" else 40}
    tab.page.goto(f"/?simulate={quote(json.dumps({'tag': tab.tag, **simulate}))}")
    ask(tab, "Count")
    tab.wait_for_text("word10")
    tab.page.get_by_role("button", name="New chat").click()
    if kind == "goes on":  # it gives its connection back
        (session_id,) = tab.header_ids()
        wait_for(lambda: server.lines(f"{session_id} client disconnected"))
    wait_for(lambda: deepseek.entry(tab.tag)["tokens"] >= 50)
    answer = open_chat(tab, "Count")
    tab.page.locator("article[data-state=finished]").wait_for()
    assert answer.locator(".answer-text").inner_text().split() == words
    assert len(deepseek.entries(tab.tag)) == 1
