"""The access token, where the server wants one: asked for, refused, kept for the tab, forgotten."""

import pytest

from ..support.servers import Proxy
from ..support.waiting import wait_for
from .axe import violations
from .conftest import assert_stopped

TOKEN, OTHER = "ann-0123456789abcdef", "bob-0123456789abcdef"
LONG = {"rate": 40, "tokens": 5000}
REFUSED = "That token was not accepted."


@pytest.fixture(scope="module")
def server(logs, deepseek):
    """In place of the one that lets everybody in."""
    settings = {"CHATPROXY_NOTICE": "A simulation.", "CHATPROXY_TOKENS": f"ann:{TOKEN},bob:{OTHER}"}
    with Proxy("gunicorn", deepseek.url, logs("tokens-page"), **settings) as proxy:
        yield proxy


@pytest.fixture
def new_page(new_page):
    """Chromium itself says on its console that something was refused."""

    def new_tokens_page(simulate=None, **options):
        page = new_page(simulate, **options)
        page.expected_messages = ("status of 401",)
        return page

    return new_tokens_page


def token_box(page):
    return page.page.get_by_label("Access token")


def enter(page, token):
    token_box(page).fill(token)
    page.page.get_by_role("button", name="Continue").click()


def forget_button(page):
    return page.page.get_by_role("button", name="Forget token")


def sent_tokens(page):
    """The ``Authorization`` of each question and each Stop."""
    sent = [each for each in page.requests if "/api/" in each.url and each.method == "POST"]
    return [each.headers.get("authorization") for each in sent]


def kept(page):
    """Everything in the browser's storages."""
    in_tab, lasting = page.page.evaluate("[{...sessionStorage}, {...localStorage}]")
    return in_tab, {**lasting, **page.library()}


def right_edge(part):
    box = part.bounding_box()
    return box["x"] + box["width"]


def focused(page):
    return page.page.evaluate("document.activeElement.type")


def test_asks_then_refuses_a_wrong_token_then_answers_and_stops(new_page, server, deepseek):
    page = new_page(LONG)
    page.wait_for_text("This server needs an access token.")
    enter(page, "wrong-0123456789abcdef")
    page.ask("Tell me all")
    page.page.get_by_role("alert").get_by_text(REFUSED).wait_for()
    assert deepseek.entries(page.tag) == []
    page.page.locator(".bubble").get_by_text("Tell me all").wait_for()

    enter(page, TOKEN)
    page.page.get_by_role("button", name="Try again").click()
    page.wait_for_text("amber")
    page.stop_button.click()
    assert_stopped(page, server, deepseek, asked=2)
    page.page.get_by_text("chunks received").wait_for()
    page.page.get_by_text("stopped in").wait_for()
    wrong, *right = sent_tokens(page)
    assert wrong == "Bearer wrong-0123456789abcdef"
    assert right == [f"Bearer {TOKEN}"] * 2


def test_nothing_is_sent_without_a_token_and_what_was_written_stays(new_page):
    page = new_page()
    page.box.fill("A long thought")
    for _ in range(2):
        page.page.keyboard.press("Enter")
        wait_for(lambda: focused(page) == "password")
    for token in ("two words", "tökén-0123456789abcdef"):  # can be none
        enter(page, token)
        page.page.get_by_role("alert").get_by_text(REFUSED).wait_for()
        assert focused(page) in ("password", "submit")
    assert page.box.input_value() == "A long thought"
    assert sent_tokens(page) == []
    enter(page, TOKEN)
    wait_for(lambda: focused(page) == "textarea")
    assert page.box.input_value() == "A long thought"
    page.page.keyboard.press("Enter")
    page.wait_for_text("This is a simulation")


def test_a_401_in_mid_use_takes_nothing_that_is_being_written(new_page):
    page = new_page()
    enter(page, "wrong-0123456789abcdef")
    held = []

    def hold(route):
        held.append(route)

    page.page.route("**/api/chat/stream", hold)
    page.ask("The first")
    wait_for(lambda: page.page.wait_for_timeout(1) or held)
    page.box.press_sequentially("The second")
    held[0].continue_()
    page.page.get_by_role("alert").get_by_text(REFUSED).wait_for()
    assert focused(page) == "textarea"
    page.page.keyboard.type(", which goes on")
    assert page.box.input_value() == "The second, which goes on"
    page.page.locator(".bubble").get_by_text("The first").wait_for()


def test_the_token_is_kept_for_the_tab_until_it_is_forgotten_and_no_longer(new_page):
    page = new_page()
    enter(page, TOKEN)
    page.ask("Remember this")
    page.wait_until_idle()
    in_tab, lasting = wait_for(lambda: "Remember this" in str(kept(page)[1]) and kept(page))
    assert TOKEN in in_tab.values()
    assert TOKEN not in str(lasting)
    page.page.reload()
    page.send_button.wait_for()
    assert token_box(page).count() == 0
    forget_button(page).click()
    wait_for(lambda: focused(page) == "password")
    assert page.page.get_by_role("alert").count() == 0
    assert forget_button(page).count() == 0
    wait_for(lambda: TOKEN not in str(kept(page)))
    page.page.reload()
    token_box(page).wait_for()


def test_the_token_is_kept_and_asked_for_if_the_page_gets_no_settings(new_page):
    """The network may be slow, or the server away for a moment, when the page is loaded."""
    page = new_page()
    page.expected_messages += (
        "Failed to load resource: net::ERR_FAILED",
        "was preloaded using link preload",
    )
    enter(page, TOKEN)
    page.page.route("**/page.json", lambda route: route.abort())
    page.page.reload()
    page.ask()
    page.wait_until_idle()
    assert sent_tokens(page) == [f"Bearer {TOKEN}"]
    forget_button(page).click()
    page.page.reload()
    page.ask("Who am I?")
    page.wait_for_text("This server needs an access token.")
    enter(page, TOKEN)
    page.page.get_by_role("button", name="Try again").click()
    page.wait_until_idle()
    assert page.error_note.count() == 0
    assert sent_tokens(page)[1:] == [None, f"Bearer {TOKEN}"]


def test_an_answer_that_runs_can_be_stopped_after_its_token_was_forgotten(
    new_page, server, deepseek
):
    page = new_page(LONG)
    enter(page, TOKEN)
    page.ask()
    page.wait_for_text("amber")
    forget_button(page).click()
    enter(page, OTHER)
    page.stop_button.click()
    assert_stopped(page, server, deepseek)
    page.page.get_by_text("stopped in").wait_for()
    assert sent_tokens(page) == [f"Bearer {TOKEN}"] * 2


def test_all_can_see_the_form_and_after_a_refusal_it_has_the_focus(new_page):
    """axe finds nothing, and a small screen shows all of it."""
    page = new_page()
    token_box(page).wait_for()
    assert violations(page.page) == [], "asked"
    enter(page, "wrong-0123456789abcdef")
    page.ask()
    page.page.get_by_role("alert").wait_for()
    wait_for(lambda: focused(page) == "password")
    assert token_box(page).input_value() == ""
    assert violations(page.page) == [], "refused"

    page.page.set_viewport_size({"width": 320, "height": 568})
    for part in (token_box(page), page.page.get_by_role("button", name="Continue")):
        wait_for(lambda part=part: right_edge(part) <= 320)
    enter(page, TOKEN)
    for part in (forget_button(page), page.page.get_by_role("switch", name="Thinking")):
        part.wait_for()
        assert right_edge(part) <= 320
