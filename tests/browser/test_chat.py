"""A whole conversation, as people have it."""

from ..support.waiting import wait_for
from .questions import button, finish, payloads, play, stop


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


def test_a_question_is_written_and_its_answer_read_and_copied(new_page):
    """Enter sends, Shift+Enter begins a new line, and nothing is sent for an empty box."""
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.box.fill("   ")
    page.page.keyboard.press("Enter")
    assert page.header_ids() == []
    page.box.fill("one")
    page.page.keyboard.press("Shift+Enter")
    page.page.keyboard.type("two")
    assert page.box.input_value() == "one\ntwo"
    page.page.keyboard.press("Enter")
    page.wait_for_text("This is a simulation")
    assert page.box.input_value() == ""
    page.wait_until_idle()
    thought = page.page.get_by_text("there is no model here")
    assert not thought.is_visible()
    page.page.get_by_text("Thought for").click()
    thought.wait_for()
    page.page.get_by_role("main").get_by_role("button", name="Copy code").click()
    copied = wait_for(lambda: page.page.evaluate("navigator.clipboard.readText()"))
    assert copied.startswith("def stop")


def test_queued_stalled_and_stopped_are_said_and_announced_and_tokens_are_not(new_page):
    page = new_page({"never": "tokens", "keep_alive_every": 0.2})
    page.page.clock.install()
    page.page.reload()
    page.ask()
    page.wait_for_text("Queued at DeepSeek")
    stop(page)
    play(page, rate=0, tokens=50, silence_after=20)
    page.ask()
    page.wait_for_text("amber")
    page.page.clock.fast_forward(10_000)
    page.wait_for_text("Stalled")
    live = page.page.locator("[aria-live=polite]")
    assert "amber" not in live.inner_text()
    page.stop_button.click()
    wait_for(lambda: "topped" in live.inner_text())
    page.stopped_note.last.wait_for()


def test_an_error_of_deepseek_is_said_in_plain_words(new_page):
    """A refusal, and an answer that breaks off; the sentences for the others are the reducer's."""
    page = new_page({"status": 429, "retry_after": 60})
    page.expected_messages = ("Failed to load resource",)  # Chromium's own, for any 4xx and 5xx
    page.ask()
    page.error_note.filter(has_text="busy").wait_for()
    page.wait_until_idle()
    play(page, rate=0, tokens=50, end="eof", end_after=20)
    page.ask()
    page.error_note.filter(has_text="closed the connection").wait_for()
    page.wait_until_idle()
    assert page.stopped_note.count() == 0


def test_a_reload_in_mid_answer_keeps_what_came_and_stops_the_rest(new_page, server, deepseek):
    page = new_page({"rate": 0, "tokens": 50, "silence_after": 20})
    page.ask()
    page.wait_for_text("thistle")
    page.page.reload()
    page.wait_for_text("thistle")
    page.wait_until_idle()
    deepseek.gone(page.tag)
    (session_id,) = page.header_ids()
    wait_for(lambda: server.lines(f"{session_id} ended outcome=stopped"))


def test_a_line_of_2_mb_does_not_hang_the_page(new_page):
    page = new_page({"rate": 0, "text": "x" * 2000, "tokens": 1000})
    page.ask()
    page.wait_for_text("x" * 2000)
    page.send_button.wait_for(timeout=30_000)
    assert page.page.evaluate("1 + 1") == 2
    page.box.fill("still here")


def test_scrolling_up_lets_go_of_the_end(new_page):
    page = new_page({"rate": 10, "text": "x" * 500, "tokens": 500})
    scroller = page.page.locator(".scroller")
    page.ask()
    wait_for(lambda: scroller.evaluate("(it) => it.scrollTop > 100"))
    page.page.mouse.move(600, 300)
    page.page.mouse.wheel(0, -2000)
    jump = button(page, "Jump to the latest")
    jump.wait_for()
    height = scroller.evaluate("(it) => it.scrollHeight")
    wait_for(lambda: scroller.evaluate("(it) => it.scrollHeight") > height)
    assert scroller.evaluate("(it) => it.scrollTop") == 0
    jump.click()
    gap = "(it) => it.scrollHeight - it.scrollTop - it.clientHeight"
    wait_for(lambda: scroller.evaluate(gap) < 30)
    stop(page)


def test_each_chat_is_kept_with_its_answer_and_the_model_that_was_chosen_in_it(page):
    shown = page.page.locator(".picker select")
    for model in ("deepseek-v4-pro", "deepseek-flash"):
        button(page, "New chat").click()
        assert page.page.locator(".bubble").count() == 0
        page.choose(model)
        page.page.get_by_role("switch", name="Thinking").click()
        finish(page, f"Of {model}")
    told = [(each["model"], each["thinking"]["type"]) for each in payloads(page)]
    assert told == [("deepseek-v4-pro", "disabled"), ("deepseek-flash", "enabled")]
    page.page.reload()
    page.page.get_by_role("link", name="Of deepseek-v4-pro").click()
    page.page.get_by_role("main").get_by_role("table").wait_for()
    assert page.page.locator(".bubble").all_inner_texts() == ["Of deepseek-v4-pro"]
    assert page.page.get_by_text("Thought for").count() == 0
    assert shown.input_value() == "deepseek-v4-pro"
    button(page, "New chat").click()
    assert shown.input_value() == "deepseek-flash"  # as was chosen last
