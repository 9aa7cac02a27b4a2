"""What the page stays within: memory, bytes, small screens, keys alone, paper, chosen colours."""

import json
import re
from pathlib import Path
from urllib.parse import urljoin

from ..support.waiting import wait_for
from .axe import violations
from .questions import button, chats_of, finish, play, stop

ALL_KINDS = (Path(__file__).parent / "answer.md").read_text()
#: Comes to rest with a text that has not ended.
UNENDED = {"rate": 0, "tokens": 100, "silence_after": 30}
#: A screen, and the box in it: the first four are what people have, the last one is a phone on its
#: side with the keyboard open.
SCREENS = [(1280, 800), (640, 400), (320, 568), (320, 256), (750, 160)]

ANSWER = """## An answer

Some words of a paragraph, **bold** and *slanted*, with `code` in it.

1. first item
2. second item

```python
def function(argument):
    return argument + 1
```

| one | two |
| --- | --- |
| a cell | and another |
"""


def conversation(turns):
    """A chat with so many questions and answers, as an earlier version of the page kept it."""
    messages = []
    for number in range(turns):
        messages += [
            {"role": "user", "id": f"question-{number}", "text": f"Question {number}?"},
            {
                "role": "assistant",
                "id": f"answer-{number}",
                "state": "finished",
                "status": "answering",
                "model": "deepseek-flash",
                "startedAt": 1_700_000_000_000 + number,
                "text": ANSWER,
            },
        ]
    return {"id": "long", "title": "A long chat", "updatedAt": 1, "messages": messages}


def open_with(new_page, turns, *, idle=True):
    """A page that has such a chat and is opened anew."""
    page = new_page()
    kept = json.dumps(conversation(turns))
    page.page.evaluate("(kept) => localStorage.setItem('chatproxy.chat.long', kept)", kept)
    if not idle:
        page.page.add_init_script("window.requestIdleCallback = () => 0")
    page.page.reload()
    page.page.get_by_text(f"Question {turns - 1}?").wait_for()
    return page


def drawn(page):
    """How many messages are drawn in full."""
    return page.page.locator("article:has(button)").count()


def focused(page):
    """What has the focus: its name, and whether one can see that it has it.

    After the last of a page comes the browser itself, and then the first again.
    """
    return page.page.evaluate(
        """() => {
            const it = document.activeElement;
            if (it === document.body) {
                return {name: "the browser", seen: true};
            }
            const name = it.getAttribute("aria-label") || it.labels?.[0]?.textContent
                || it.textContent.trim();
            const {outlineStyle} = getComputedStyle(it.closest(".composer-box") ?? it);
            const {width, height} = it.getBoundingClientRect();
            return {name, seen: outlineStyle !== "none" && width > 0 && height > 0};
        }"""
    )


def has_the_focus(page):
    return page.page.evaluate("document.activeElement.tagName") == "TEXTAREA"


def devtools(page):
    return page.page.context.new_cdp_session(page.page)


def heap(page):
    session = devtools(page)
    session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["usedSize"]


# Memory, nodes, bytes


def test_a_streamed_answer_takes_no_more_memory_than_one_that_is_opened(new_page):
    words = "Some *words* of a paragraph, and then \u2026 two bytes a character.\n\n- an item\n\n"
    page = new_page({"rate": 3000, "tokens": 3000, "reasoning_tokens": 0, "text": words})
    empty = heap(page)
    page.ask()
    page.send_button.wait_for(timeout=30_000)
    streamed = heap(page)
    page.page.reload()
    page.wait_for_text("an item")
    assert streamed - empty < 2 * (heap(page) - empty)


def test_a_long_chat_opens_at_its_end_and_is_drawn_whole_when_there_is_time(new_page):
    """What is out of sight costs no layout, and can still be found and read out."""
    page = open_with(new_page, 12)
    wait_for(lambda: drawn(page) == 24)
    assert page.page.evaluate("localStorage.getItem('chatproxy.chat.long')") is None  # taken over
    assert page.page.locator(".scroller").evaluate(
        "(it) => it.scrollHeight - it.scrollTop - it.clientHeight < 30"
    )
    skipped = "(it) => !it.checkVisibility({contentVisibilityAuto: true})"
    assert page.page.get_by_text("Some words").first.evaluate(skipped)
    assert not page.page.get_by_text("Some words").last.evaluate(skipped)


def test_paper_gets_the_whole_conversation_and_no_controls(new_page):
    page = open_with(new_page, 30, idle=False)
    assert drawn(page) == 8
    assert page.page.locator("article").count() == 60
    assert len(re.findall(rb"/Type /Page\b", page.page.pdf())) > 5
    assert drawn(page) == 60
    colour = "getComputedStyle(document.body).color"
    dark_text = page.page.evaluate(colour)
    page.page.emulate_media(media="print", color_scheme="dark")
    assert page.page.evaluate(colour) == dark_text
    seen = page.page.locator("button:visible, select:visible, textarea:visible").count()
    assert seen == 0
    assert page.page.get_by_role("heading", name="A long chat").is_visible()


def test_the_first_visit_is_light_and_it_can_be_installed(page):
    page.page.wait_for_load_state("networkidle")
    sent = page.page.evaluate(
        """() => [...performance.getEntriesByType("navigation"),
                  ...performance.getEntriesByType("resource")]
            .map(({name, encodedBodySize}) => [new URL(name).pathname, encodedBodySize])"""
    )
    assert sum(size for _, size in sent) < 130_000, sent

    address = page.page.locator("link[rel=manifest]").evaluate("link => link.href")
    told = page.page.request.get(address)
    manifest = told.json()
    assert "json" in told.headers["content-type"]
    assert urljoin(address, manifest["start_url"]) == urljoin(page.page.url, "/")
    assert manifest["display"] == "standalone"
    for icon in manifest["icons"]:
        response = page.page.request.get(urljoin(address, icon["src"]))
        assert response.status == 200
        assert response.headers["content-type"].startswith(icon["type"])
    assert devtools(page).send("Page.getAppManifest")["errors"] == []


# Screens, fingers, keys


def test_every_screen_shows_the_box_and_scrolls_down_only(page):
    """Also if a keyboard covers the page, as Safari tells it: the visual viewport gets smaller."""
    for asked in (False, True):
        if asked:
            finish(page)
        for width, height in SCREENS:
            page.page.set_viewport_size({"width": width, "height": height})
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width
            for part in (page.box, page.send_button):
                box = part.bounding_box()
                assert box["y"] >= 0, (width, height)
                assert box["y"] + box["height"] <= height, (width, height)
            above = page.page.locator(".scroller, .empty").bounding_box()
            assert above["height"] > 20, (width, height)
    page.page.set_viewport_size({"width": 390, "height": 780})
    page.page.evaluate(
        """() => {
            Object.defineProperty(visualViewport, "height", {value: innerHeight - 300});
            visualViewport.dispatchEvent(new Event("resize"));
        }"""
    )
    box = page.box.bounding_box()
    assert box["y"] + box["height"] < 780 - 300


def test_on_a_touch_screen_enter_is_a_new_line_and_no_keyboard_comes_unasked(new_page):
    page = new_page(has_touch=True, is_mobile=True)
    page.box.wait_for()
    assert not has_the_focus(page)
    page.box.tap()
    page.page.keyboard.type("one")
    page.page.keyboard.press("Enter")
    page.page.keyboard.type("two")
    assert page.box.input_value() == "one\ntwo"
    assert page.header_ids() == []
    page.send_button.tap()
    page.wait_for_text("This is a simulation")


def test_keys_alone_reach_everything_and_the_box_has_the_focus_after_everything(page):
    """One sees what has the focus."""
    wait_for(lambda: has_the_focus(page))
    page.page.keyboard.type("Hello")
    page.page.keyboard.press("Enter")
    page.wait_for_text("This is a simulation")
    page.wait_until_idle()
    buttons = page.page.locator("button:visible, select, [role=switch], summary").count()
    reached = []
    for _ in range(buttons + 10):
        page.page.keyboard.press("Tab")
        reached.append(focused(page))
    names = {each["name"] for each in reached}
    assert {"New chat", "Thinking", "Conversation", "Copy answer", "Message", "Send"} <= names
    assert [each for each in reached if not each["seen"]] == []

    button(page, "Regenerate").click()
    page.wait_until_idle()
    assert has_the_focus(page)
    button(page, "New chat").click()
    assert has_the_focus(page)
    chats_of(page).get_by_role("link", name="Hello", exact=True).click()
    wait_for(lambda: has_the_focus(page))


# Reading


def test_a_selection_survives_streaming(new_page):
    page = new_page({"rate": 20, "tokens": 500, "reasoning_tokens": 0})
    page.ask()
    page.wait_for_text("amber birch")
    page.page.evaluate(
        """() => {
            const [text] = document.querySelector(".answer-text p").childNodes;
            getSelection().setBaseAndExtent(text, 0, text, 11);
        }"""
    )
    page.wait_for_text("juniper")
    assert page.page.evaluate("getSelection().toString()") == "amber birch"
    stop(page)


def test_nothing_moves_and_nothing_is_hidden_for_those_who_asked_for_that(new_page):
    """What the page tells by a ground alone has something else if grounds are taken away."""
    page = new_page(UNENDED, forced_colors="active", reduced_motion="reduce")
    page.ask()
    page.wait_for_text("amber")
    assert page.page.evaluate("document.getAnimations().length") == 0
    ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    style = "(it, name) => getComputedStyle(it)[name]"
    for part in (page.page.locator(".status .pulse"), page.page.get_by_role("switch")):
        assert part.evaluate(style, "backgroundColor") != ground
    for part in (page.stop_button, page.page.locator(".bubble")):
        assert part.evaluate(style, "borderTopStyle") == "solid"
    stop(page)


# Those who do not see


def with_dialogs(page):
    page.box.wait_for()
    yield "empty"
    for name in ("Settings", "Keyboard shortcuts", "Saved prompts"):
        button(page, name).click()
        page.page.get_by_role("dialog", name=name).wait_for()
        yield name
        page.page.keyboard.press("Escape")


def with_answers(page):
    play(page, never="tokens")
    page.choose("run:research")
    page.ask("A run")
    page.page.locator("[data-kind=tool]").wait_for()
    page.page.locator(".step-data summary").first.click()
    yield "a run works"
    stop(page)
    page.page.locator(".note .small-print").nth(1).wait_for()
    page.choose("deepseek-flash")
    play(page, **UNENDED, reasoning_tokens=40)
    page.ask("Thinking")
    page.page.locator(".thinking").wait_for()
    yield "thinking"
    stop(page)
    play(page, **UNENDED)
    page.ask("Running")
    page.wait_for_text("amber")
    yield "running"
    stop(page)
    play(page, status=402)
    page.expected_messages = ("Failed to load resource",)
    page.ask("Failing")
    page.error_note.filter(has_text="balance is used up").wait_for()
    play(page, rate=0, text=ALL_KINDS, reasoning_tokens=5)
    finish(page, "Answered")
    for drawn_later in (".hljs-keyword", ".katex"):
        page.page.locator(drawn_later).first.wait_for()
    page.page.locator(".thinking summary").last.click()
    yield "stopped, failed and answered"


def with_a_list(page):
    play(page, rate=0, text="Yes.")
    for name in ("One", "Two"):
        button(page, "New chat").click()
        finish(page, name)
    button(page, "Regenerate").click()
    page.page.get_by_role("group", name="Version 2 of 2").wait_for()
    chats = chats_of(page)
    chats.get_by_role("link", name="One").hover()
    button(page, "Delete chat: One").click()
    chats.get_by_text("Deleted (1)").click()
    chats.get_by_text("Storage and files").click()
    chats.get_by_role("link", name="Two").hover()
    button(page, "More for chat: Two").click()
    yield "versions, and all of the list unfolded"
    button(page, "Rename").click()
    button(page, "Edit answer").click()
    button(page, "Edit message").click()
    page.page.get_by_role("searchbox").fill("yes")
    chats.get_by_role("link").get_by_text("Yes").wait_for()
    yield "editing and searching"
    page.page.set_viewport_size({"width": 390, "height": 780})
    page.page.locator(".topbar button").first.click()
    yield "the list over a small page"


def test_axe_finds_no_violation(page):
    """In one document, because axe takes five times as long for its first look at another one."""
    for states in (with_dialogs, with_answers, with_a_list):
        for state in states(page):
            assert violations(page.page) == [], state
