"""The Stop in Firefox, by the tests that hold it in Chromium: its fetch and streams are its own."""

import shutil

import pytest

from . import test_chat, test_stop

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

test_a_whole_conversation = test_chat.test_a_whole_conversation
test_stop_in_mid_text = test_stop.test_stop_in_mid_text
test_stop_in_the_first_50_ms = test_stop.test_stop_in_the_first_50_ms
test_escape_stops = test_stop.test_escape_stops
test_a_cancel_from_elsewhere_ends_the_answer_here = (
    test_stop.test_a_cancel_from_elsewhere_ends_the_answer_here
)


@pytest.fixture(scope="module")
def browser(playwright):
    """A Firefox as it is installed, which speaks WebDriver BiDi."""
    if FIREFOX is None:
        pytest.skip("Firefox is not installed")
    browser = playwright.firefox.launch(channel="moz-firefox", executable_path=FIREFOX)
    yield browser
    browser.close()
