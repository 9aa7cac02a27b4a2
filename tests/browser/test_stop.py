"""The Stop AI button, in every moment in which people press it."""

import contextlib
import json

import pytest
import requests
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from ..support.servers import new_id
from ..support.waiting import wait_for
from .conftest import assert_stopped

LONG = {"rate": 20, "tokens": 5000}


def wait_for_answer(page, number):
    """Wait until words of this answer are shown; the first one of the page is 0."""
    page.page.locator("article.answer").nth(number).get_by_text("amber birch").first.wait_for()


def assert_goes_on(page):
    length = len(page.text())
    wait_for(lambda: len(page.text()) > length)
    assert page.stop_button.count() == 1


def test_each_way_to_stop_ends_an_answer_and_the_next_is_asked_for(new_page, server, deepseek):
    """By the button, by Escape unless an input method composes, and from elsewhere."""
    page = new_page(LONG)
    page.ask("First")
    page.wait_for_text("amber birch")
    page.stop_button.click()
    before = page.text()
    assert_stopped(page, server, deepseek)
    assert "amber birch" in page.text()
    assert page.text().count("amber") == before.count("amber")
    page.wait_for_text("chunks received")

    page.ask("Second")
    wait_for_answer(page, 1)
    page.page.evaluate(
        """() => document.querySelector("textarea").dispatchEvent(
            new KeyboardEvent("keydown", {key: "Escape", bubbles: true, isComposing: true}))"""
    )
    assert_goes_on(page)
    page.page.keyboard.press("Escape")
    assert_stopped(page, server, deepseek, asked=2, stops=2)

    page.ask("Third")
    wait_for_answer(page, 2)
    assert len(set(page.header_ids())) == 3
    url = f"{server.url}/api/chat/cancel/{page.header_ids()[-1]}"
    assert requests.post(url, timeout=5).json()["upstreamClosed"] is True
    wait_for(lambda: page.stopped_note.count() == 3)
    page.wait_until_idle()
    assert page.error_note.count() == 0
    assert len(page.cancelled_ids()) == 2
    deepseek.gone(page.tag)
    assert page.page.get_by_label("Access token").count() == 0, "this server wants none"
    assert not any("authorization" in each.headers for each in page.requests)


@pytest.mark.parametrize(
    "scenario", [{"never": "headers"}, LONG, {"never": "tokens", "keep_alive_every": 0.1}]
)
def test_stop_in_the_first_50_ms(new_page, server, deepseek, scenario):
    """The button is there at once, and works before anything has come back."""
    page = new_page(scenario)
    page.expected_messages = ("status of 404", "status of 409")  # where the Stop came first
    page.write("Hello")
    page.page.evaluate(
        """async () => {
            const button = (name) => [...document.querySelectorAll("button")]
                .find((each) => (each.getAttribute("aria-label") ?? each.textContent)
                    .trim() === name);
            button("Send").click();
            const begun = performance.now();
            while (performance.now() - begun < 45) {
                await new Promise((resolve) => setTimeout(resolve, 5));
            }
            document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
        }"""
    )
    page.wait_until_idle()
    page.page.locator("[data-stop=stopped], [data-stop=nothing-to-stop]").wait_for()
    overtaken = page.page.locator("[data-stop=nothing-to-stop]").count() == 1
    assert_stopped(page, server, deepseek, overtaken=overtaken)


def test_stop_while_it_thinks(new_page, server, deepseek):
    page = new_page({"rate": 40, "reasoning_tokens": 5000, "tokens": 10})
    page.ask()
    page.wait_for_text("Thinking")
    wait_for(lambda: deepseek.entry(page.tag)["tokens"] > 5)
    page.stop_button.click()
    assert_stopped(page, server, deepseek)


def test_stop_at_the_last_token(new_page, server):
    """Whichever is first, the page comes to rest, and shows no error."""
    page = new_page({"rate": 100, "tokens": 10})
    page.expected_messages = ("status of 404",)  # Chromium's own, where the answer was faster
    for asked, pause in enumerate((0, 40, 80, 120, 160), start=1):
        page.ask()
        page.page.wait_for_timeout(60 + pause)
        with contextlib.suppress(PlaywrightTimeout):
            page.stop_button.click(timeout=100, force=True)
        page.wait_until_idle()
        assert page.error_note.count() == 0
        assert page.stopped_note.count() <= asked
        assert len(page.header_ids()) == asked


def test_a_double_click_sends_once_and_another_stops_once(new_page, server, deepseek):
    """What came until then is told with the next question."""
    page = new_page(LONG)
    page.write("Hello")
    page.send_button.dblclick()
    page.wait_for_text("amber")
    assert len(page.header_ids()) == 1
    page.stop_button.dblclick()
    assert_stopped(page, server, deepseek)
    page.ask("Second")
    body = json.loads([each for each in page.requests if "/stream" in each.url][1].post_data)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    wait_for_answer(page, 1)
    page.stop_button.click()
    page.wait_until_idle()


def test_stop_while_the_network_is_gone(new_page, server, deepseek):
    """The page comes to rest all the same; the server notices the client that left."""
    page = new_page(LONG)
    # The Stop is sent again when the network is back, and finds nothing left to stop.
    page.expected_messages = (
        "ERR_INTERNET_DISCONNECTED",
        "ERR_NETWORK_CHANGED",
        "status of 404",
    )
    page.ask()
    page.wait_for_text("amber")
    page.page.context.set_offline(True)
    page.stop_button.click()
    page.stopped_note.wait_for()
    page.wait_until_idle()
    assert page.stopped_note.count() == 1
    assert page.error_note.count() == 0
    deepseek.gone(page.tag)
    page.page.context.set_offline(False)
    session_id = page.header_ids()[0]
    wait_for(lambda: server.lines(f"{session_id} ended outcome=stopped"))


def test_two_pages_do_not_meet(new_page, server, deepseek):
    one, other = new_page(LONG), new_page({**LONG, "tag": new_id()})
    one.ask()
    other.ask()
    one.wait_for_text("amber")
    other.wait_for_text("amber")
    one.stop_button.click()
    assert_stopped(one, server, deepseek)
    assert_goes_on(other)
    other.stop_button.click()
    other.stopped_note.wait_for()
