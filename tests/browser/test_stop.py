"""The Stop AI button, in every moment in which people press it."""

import contextlib
import json

import pytest
import requests
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from ..support.servers import new_id
from ..support.waiting import wait_for
from .conftest import assert_stopped

LONG = {"rate": 40, "tokens": 5000}


def test_stop_in_mid_text(new_page, server, deepseek):
    page = new_page(LONG)
    page.ask()
    page.wait_for_text("amber birch")
    page.stop_button.click()
    before = page.text()
    assert_stopped(page, server, deepseek)
    assert "amber birch" in page.text()
    assert page.text().count("amber") == before.count("amber")
    page.page.get_by_text("chunks received").wait_for()


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
    for pause in (0, 40, 80, 120, 160):
        page = new_page({"rate": 100, "tokens": 10})
        page.expected_messages = ("status of 404",)  # Chromium's own, where the answer was faster
        page.ask()
        page.page.wait_for_timeout(60 + pause)
        with contextlib.suppress(PlaywrightTimeout):
            page.stop_button.click(timeout=100, force=True)
        page.wait_until_idle()
        assert page.error_note.count() == 0
        assert page.stopped_note.count() <= 1
        assert len(page.header_ids()) == 1


def test_escape_stops(new_page, server, deepseek):
    page = new_page(LONG)
    page.ask()
    page.wait_for_text("amber")
    page.page.keyboard.press("Escape")
    assert_stopped(page, server, deepseek)


def test_escape_while_an_input_method_composes_does_not_stop(new_page, server, deepseek):
    page = new_page(LONG)
    page.ask()
    page.wait_for_text("amber")
    page.page.evaluate(
        """() => document.querySelector("textarea").dispatchEvent(
            new KeyboardEvent("keydown", {key: "Escape", bubbles: true, isComposing: true}))"""
    )
    page.wait_for_text("yarrow")
    assert page.stop_button.count() == 1
    page.page.keyboard.press("Escape")
    assert_stopped(page, server, deepseek)


def test_a_double_click_stops_once_and_sends_nothing(new_page, server, deepseek):
    page = new_page(LONG)
    page.ask()
    page.wait_for_text("amber")
    page.stop_button.dblclick()
    assert_stopped(page, server, deepseek)


def test_a_double_click_on_send_sends_once(new_page, server, deepseek):
    page = new_page(LONG)
    page.write("Hello")
    page.send_button.dblclick()
    page.wait_for_text("amber")
    assert len(page.header_ids()) == 1
    page.stop_button.click()
    assert_stopped(page, server, deepseek)


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


def test_a_cancel_from_elsewhere_ends_the_answer_here(new_page, server, deepseek):
    page = new_page(LONG)
    page.ask()
    page.wait_for_text("amber")
    session_id = page.header_ids()[0]
    url = f"{server.url}/api/chat/cancel/{session_id}"
    assert requests.post(url, timeout=5).json()["upstreamClosed"] is True
    page.stopped_note.wait_for()
    page.wait_until_idle()
    assert page.stopped_note.count() == 1
    assert page.cancelled_ids() == []
    deepseek.gone(page.tag)


def test_after_a_stop_the_next_prompt_is_answered(new_page, server, deepseek):
    page = new_page(LONG)
    page.ask("First")
    page.wait_for_text("amber")
    page.stop_button.click()
    assert_stopped(page, server, deepseek)
    page.ask("Second")
    first, second = page.header_ids()
    assert first != second
    body = json.loads([r for r in page.requests if "/stream" in r.url][1].post_data)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    page.stop_button.click()
    page.wait_until_idle()


def test_two_pages_do_not_meet(new_page, server, deepseek):
    one, other = new_page(LONG), new_page({**LONG, "tag": new_id()})
    one.ask()
    other.ask()
    one.wait_for_text("amber")
    other.wait_for_text("amber")
    one.stop_button.click()
    assert_stopped(one, server, deepseek)
    other.wait_for_text("yarrow")
    assert other.stop_button.count() == 1
    other.stop_button.click()
    other.stopped_note.wait_for()
