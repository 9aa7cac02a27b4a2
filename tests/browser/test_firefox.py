"""The Stop in Firefox, by the tests that hold it in Chromium: its fetch and streams are its own."""

import shutil

import pytest

from . import test_chat, test_stop

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

test_a_whole_conversation = test_chat.test_a_whole_conversation
test_each_way_to_stop_ends_an_answer_and_the_next_is_asked_for = (
    test_stop.test_each_way_to_stop_ends_an_answer_and_the_next_is_asked_for
)


@pytest.fixture(scope="module")
def browser(playwright):
    """A Firefox as it is installed, which speaks WebDriver BiDi."""
    if FIREFOX is None:
        pytest.skip("Firefox is not installed")
    browser = playwright.firefox.launch(channel="moz-firefox", executable_path=FIREFOX)
    yield browser
    browser.close()


def test_stop_before_anything_came(new_page, server, deepseek):
    test_stop.test_stop_in_the_first_50_ms(new_page, server, deepseek, {"never": "headers"})
