"""A whole conversation, as people have it."""

import json

import pytest
import requests

from ..support.waiting import wait_for


def test_a_whole_conversation(new_page, server, deepseek):
    page = new_page({"rate": 0})
    page.ask("Who are you?")
    page.wait_for_text("This is a simulation")
    page.wait_until_idle()
    main = page.page.get_by_role("main")
    assert main.get_by_role("heading", name="This is a simulation").count() == 1
    assert main.get_by_role("table").count() == 1
    assert main.locator("pre code").inner_text().startswith("def stop")
    page.ask("And who else?")
    page.wait_until_idle()
    wait_for(lambda: main.get_by_role("table").count() == 2)
    first, second = page.header_ids()
    assert first != second
    for session_id in (first, second):
        wait_for(lambda session_id=session_id: server.lines(f"{session_id} ended outcome=finished"))


def test_enter_sends_and_shift_enter_begins_a_new_line(page):
    page.box.fill("one")
    page.page.keyboard.press("Shift+Enter")
    page.page.keyboard.type("two")
    assert page.box.input_value() == "one\ntwo"
    page.page.keyboard.press("Enter")
    page.wait_for_text("This is a simulation")
    assert page.box.input_value() == ""


def test_nothing_is_sent_for_an_empty_box(page):
    page.box.fill("   ")
    page.page.keyboard.press("Enter")
    assert page.header_ids() == []


def test_the_thinking_is_folded_and_can_be_read(page):
    page.ask()
    page.wait_for_text("Thought for")
    assert page.page.get_by_text("there is no model here").count() == 0 or not (
        page.page.get_by_text("there is no model here").is_visible()
    )
    page.page.get_by_text("Thought for").click()
    page.page.get_by_text("there is no model here").wait_for()


def test_code_can_be_copied(new_page, server):
    page = new_page({"rate": 0}, permissions=["clipboard-read", "clipboard-write"])
    page.ask()
    page.wait_until_idle()
    page.page.locator("main").get_by_role("button", name="Copy code").click()
    copied = wait_for(lambda: page.page.evaluate("navigator.clipboard.readText()"))
    assert copied.startswith("def stop")


def test_an_answer_can_be_had_again(page):
    page.ask()
    page.wait_until_idle()
    page.page.get_by_role("button", name="Regenerate").click()
    wait_for(lambda: len(page.header_ids()) == 2)
    page.wait_until_idle()
    assert page.page.get_by_role("main").get_by_role("table").count() == 1


def test_keep_alives_show_as_queued_and_silence_as_waiting(new_page):
    page = new_page({"never": "tokens", "keep_alive_every": 0.2})
    page.ask()
    page.wait_for_text("Queued at DeepSeek")
    page.stop_button.click()
    silent = new_page({"never": "tokens"})
    silent.ask()
    silent.wait_for_text("Waiting")
    silent.stop_button.click()
    silent.wait_until_idle()


@pytest.mark.parametrize(
    ("scenario", "sentence"),
    [
        ({"status": 402}, "balance is used up"),
        ({"status": 429, "retry_after": 60}, "busy"),
        ({"rate": 0, "tokens": 50, "end": "eof", "end_after": 20}, "closed the connection"),
    ],
)
def test_an_error_of_deepseek_is_said_in_plain_words(new_page, scenario, sentence):
    page = new_page(scenario)
    page.expected_messages = ("Failed to load resource",)  # Chromium's own, for any 4xx and 5xx
    page.ask()
    page.error_note.filter(has_text=sentence).wait_for()
    page.wait_until_idle()
    assert page.stopped_note.count() == 0


def test_a_reload_in_mid_answer_keeps_what_came_and_stops_the_rest(new_page, server, deepseek):
    page = new_page({"rate": 40, "tokens": 5000})
    page.ask()
    page.wait_for_text("yarrow")
    page.page.wait_for_timeout(1100)  # the page saves once a second
    page.page.reload()
    page.wait_for_text("yarrow")
    page.wait_until_idle()
    deepseek.gone(page.tag)
    (session_id,) = page.header_ids()
    wait_for(lambda: server.lines(f"{session_id} ended outcome=stopped"))


HOSTILE = """<script>window.hacked = 1</script>

<img src=x onerror="window.hacked = 2">

<svg onload="window.hacked = 3"></svg>

[a link](javascript:window.hacked=4) and <a href="javascript:window.hacked=5">another</a>
![an image](javascript:window.hacked=6) <iframe srcdoc="<script>parent.hacked=7</script>">

[data](data:text/html,<script>window.hacked=8</script>) [fine](https://example.com/)

<style>body { display: none }</style>
"""


def test_an_answer_cannot_run_script(new_page):
    page = new_page({"rate": 0, "text": HOSTILE})
    page.ask()
    page.wait_for_text("fine")
    page.wait_until_idle()
    assert page.page.evaluate("window.hacked") is None
    main = page.page.get_by_role("main")
    links = main.get_by_role("link")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.com/"]
    assert "noopener" in links.first.get_attribute("rel")
    assert main.locator("script, iframe, style, svg[onload], img").count() == 0
    assert page.box.is_visible()


def test_a_line_of_2_mb_does_not_hang_the_page(new_page):
    page = new_page({"rate": 0, "text": "x" * 200, "tokens": 10_000})
    page.ask()
    page.wait_for_text("x" * 200)
    page.send_button.wait_for(timeout=30_000)
    assert page.page.evaluate("1 + 1") == 2
    page.box.fill("still here")


def test_scrolling_up_lets_go_of_the_end(new_page):
    page = new_page({"rate": 200, "tokens": 5000})
    page.ask()
    scrolled = "[...document.querySelectorAll('*')].some((each) => each.scrollTop > 100)"
    wait_for(lambda: page.page.evaluate(scrolled))
    page.page.mouse.move(600, 300)
    page.page.mouse.wheel(0, -2000)
    page.page.get_by_role("button", name="Jump to the latest").click()
    page.stop_button.click()
    page.wait_until_idle()


def test_headers_let_nothing_else_run(server):
    response = requests.get(server.url, timeout=5)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-cache"
    script = response.text.split('src="')[1].split('"')[0]
    asset = requests.get(server.url + script, timeout=5)
    assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def payloads(page):
    """What the page has sent to the stream route."""
    return [json.loads(each.post_data) for each in page.requests if "/chat/stream" in each.url]


def prompts(page):
    """What the user has said in the conversation that is shown."""
    return page.page.locator("article[data-role=user] .bubble").all_inner_texts()


def test_a_prompt_can_be_edited_and_sent_again(page):
    page.ask("A first try")
    page.wait_until_idle()
    page.page.get_by_role("button", name="Edit message").click()
    assert page.box.input_value() == "A first try"
    page.ask("A second try")
    page.wait_until_idle()
    assert [message["content"] for message in payloads(page)[1]["messages"]] == ["A second try"]
    assert prompts(page) == ["A second try"]


def test_each_chat_keeps_the_model_that_was_chosen_in_it(page):
    shown = page.page.locator(".picker select")
    for model in ("deepseek-v4-pro", "deepseek-flash"):
        page.page.get_by_role("button", name="New chat").click()
        page.choose(model)
        page.ask(f"Of {model}")
        page.wait_until_idle()
    page.page.get_by_role("link", name="Of deepseek-v4-pro").click()
    assert shown.input_value() == "deepseek-v4-pro"
    page.page.get_by_role("button", name="New chat").click()
    assert shown.input_value() == "deepseek-flash"  # as was chosen last


def test_model_and_thinking_mode_are_sent_as_chosen(page):
    page.page.get_by_role("combobox", name="Model").select_option("deepseek-v4-pro")
    page.page.get_by_role("switch", name="Thinking").click()
    page.ask()
    page.wait_for_text("This is a simulation")
    (payload,) = payloads(page)
    assert payload["model"] == "deepseek-v4-pro"
    assert payload["thinking"] == {"type": "disabled"}
    assert page.page.get_by_text("Thought for").count() == 0


def test_conversations_are_kept_in_the_browser(page):
    page.ask("Remember this")
    page.wait_until_idle()
    page.page.get_by_role("button", name="New chat").click()
    assert prompts(page) == []
    page.ask("And that")
    page.wait_until_idle()
    page.page.reload()
    chats = page.page.get_by_role("navigation", name="Chats")
    chats.get_by_role("link", name="Remember this", exact=True).click()
    page.page.get_by_role("main").get_by_role("table").wait_for()
    assert prompts(page) == ["Remember this"]


def test_silence_in_mid_answer_shows_as_stalled(new_page):
    page = new_page({"rate": 0, "tokens": 50, "silence_after": 20})
    page.page.clock.install()
    page.page.reload()
    page.ask()
    page.wait_for_text("amber")
    page.page.clock.fast_forward(10_000)
    page.page.get_by_text("Stalled").first.wait_for()
    page.stop_button.click()
    page.stopped_note.wait_for()


def test_states_are_announced_and_tokens_are_not(new_page):
    page = new_page({"rate": 40, "tokens": 5000})
    live = page.page.locator("[aria-live=polite]")
    page.ask()
    page.wait_for_text("yarrow")
    assert "amber" not in live.inner_text()
    page.stop_button.click()
    wait_for(lambda: "topped" in live.inner_text())


def test_a_small_screen_shows_everything_without_scrolling_sideways(new_page):
    page = new_page({"rate": 0}, viewport={"width": 390, "height": 780})
    page.ask()
    page.wait_until_idle()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.box.is_visible()
    assert page.send_button.is_visible()
