"""What the page stays within: memory, bytes, small screens, keys alone, paper, chosen colours."""

import json
import re

from ..support.waiting import wait_for
from .conftest import violations

LONG = {"rate": 40, "tokens": 5000}
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
        ids = {"user": f"question-{number}", "assistant": f"answer-{number}"}
        messages.append({"role": "user", "id": ids["user"], "text": f"Question {number}?"})
        messages.append(
            {
                "role": "assistant",
                "id": ids["assistant"],
                "state": "finished",
                "status": "answering",
                "model": "deepseek-flash",
                "startedAt": 1_700_000_000_000 + number,
                "text": ANSWER,
            }
        )
    return {"id": "long", "title": "A long chat", "updatedAt": 1, "messages": messages}


def open_with(new_page, turns, **options):
    """A page that has such a chat and is opened anew, and notes what it draws first."""
    page = new_page(**options)
    kept = json.dumps(conversation(turns))
    page.page.evaluate("(kept) => localStorage.setItem('chatproxy.chat.long', kept)", kept)
    page.page.add_init_script(
        """new MutationObserver(() => {
            const articles = document.querySelectorAll("article");
            window.drawnFirst ??= articles.length
                ? [...articles].filter((each) => each.querySelector("button")).length : undefined;
        }).observe(document, {childList: true, subtree: true});"""
    )
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


def heap(page):
    session = page.page.context.new_cdp_session(page.page)
    session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["usedSize"]


# Memory, nodes, bytes


def test_a_streamed_answer_takes_no_more_memory_than_one_that_is_opened(new_page):
    words = "Some *words* of a paragraph, and then \u2026 two bytes a character.\n\n- an item\n\n"
    page = new_page({"rate": 3000, "tokens": 4500, "reasoning_tokens": 0, "text": words})
    empty = heap(page)
    page.ask()
    page.send_button.wait_for(timeout=30_000)
    streamed = heap(page)
    page.page.wait_for_timeout(1100)  # the page saves once a second
    page.page.reload()
    page.wait_for_text("an item")
    assert streamed - empty < 2 * (heap(page) - empty)


def test_a_long_chat_opens_at_its_end_and_is_drawn_whole(new_page):
    short, long = (open_with(new_page, turns) for turns in (10, 60))
    assert long.page.evaluate("drawnFirst") == short.page.evaluate("drawnFirst")
    assert long.page.locator("article").count() == 120
    wait_for(lambda: drawn(long) == 120)
    assert long.page.locator(".scroller").evaluate(
        "(it) => it.scrollHeight - it.scrollTop - it.clientHeight < 30"
    )
    # In sight is the end; the rest costs no layout, and can still be found and read out.
    skipped = "(it) => !it.checkVisibility({contentVisibilityAuto: true})"
    assert long.page.get_by_text("Some words").first.evaluate(skipped)
    assert not long.page.get_by_text("Some words").last.evaluate(skipped)


def test_the_first_visit_is_light(new_page):
    page = new_page()
    page.page.wait_for_load_state("networkidle")
    sent = page.page.evaluate(
        """() => [...performance.getEntriesByType("navigation"),
                  ...performance.getEntriesByType("resource")]
            .map(({name, encodedBodySize}) => [new URL(name).pathname, encodedBodySize])"""
    )
    assert sum(size for _, size in sent) < 130_000, sent


# Screens, fingers, keys


def test_every_screen_shows_the_box_and_scrolls_down_only(new_page):
    page = new_page({"rate": 0})
    for asked in (False, True):
        if asked:
            page.ask()
            page.wait_until_idle()
        for width, height in SCREENS:
            page.page.set_viewport_size({"width": width, "height": height})
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width
            for part in (page.box, page.send_button):
                box = part.bounding_box()
                assert box["y"] >= 0, (width, height)
                assert box["y"] + box["height"] <= height, (width, height)
            above = page.page.locator(".scroller, .empty").bounding_box()
            assert above["height"] > 20, (width, height)


def test_a_keyboard_that_covers_the_page_does_not_cover_the_box(page):
    """As Safari tells it: the visual viewport alone gets smaller."""
    page.page.evaluate(
        """() => {
            Object.defineProperty(visualViewport, "height", {value: innerHeight - 300});
            visualViewport.dispatchEvent(new Event("resize"));
        }"""
    )
    box = page.box.bounding_box()
    assert box["y"] + box["height"] < page.page.viewport_size["height"] - 300


def test_on_a_touch_screen_enter_is_a_new_line_and_no_keyboard_comes_unasked(new_page):
    page = new_page({"rate": 0}, has_touch=True, is_mobile=True)
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


def test_the_box_has_the_focus_after_everything(page):
    wait_for(lambda: has_the_focus(page))
    page.ask("A first chat")
    page.wait_until_idle()
    page.page.get_by_role("button", name="Regenerate").click()
    page.wait_until_idle()
    assert has_the_focus(page)
    chats = page.page.get_by_role("navigation", name="Chats")
    page.page.get_by_role("button", name="New chat").click()
    assert has_the_focus(page)
    chats.get_by_role("link", name="A first chat", exact=True).click()
    wait_for(lambda: has_the_focus(page))


def test_keys_alone_reach_everything_and_one_sees_where_they_are(page):
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


def test_nothing_moves_for_those_who_asked_for_that(new_page):
    page = new_page(LONG, reduced_motion="reduce")
    page.ask()
    page.wait_for_text("amber")
    assert page.page.evaluate("document.getAnimations().length") == 0
    page.stop_button.click()


# Reading


def test_a_selection_survives_streaming(new_page):
    page = new_page({"rate": 40, "tokens": 5000, "reasoning_tokens": 0})
    page.ask()
    page.wait_for_text("amber birch")
    page.page.evaluate(
        """() => {
            const [text] = document.querySelector(".answer-text p").childNodes;
            getSelection().setBaseAndExtent(text, 0, text, 11);
        }"""
    )
    page.wait_for_text("yarrow")
    assert page.page.evaluate("getSelection().toString()") == "amber birch"
    page.stop_button.click()


def test_paper_gets_the_whole_conversation_and_no_controls(new_page):
    page = open_with(new_page, 30)
    many = len(re.findall(rb"/Type /Page\b", page.page.pdf()))
    assert drawn(page) == 60
    colour = "getComputedStyle(document.body).color"
    dark_text = page.page.evaluate(colour)
    page.page.emulate_media(media="print", color_scheme="dark")
    assert page.page.evaluate(colour) == dark_text
    seen = page.page.locator("button:visible, select:visible, textarea:visible").count()
    assert seen == 0
    assert page.page.get_by_role("heading", name="A long chat").is_visible()
    few = len(re.findall(rb"/Type /Page\b", open_with(new_page, 3).page.pdf()))
    assert many > 4 * few


def test_chosen_colours_hide_nothing(new_page):
    """What the page tells by a ground alone has something else where grounds are taken away."""
    page = new_page(LONG, forced_colors="active")
    page.ask()
    page.wait_for_text("amber")
    ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    style = "(it, [name, pseudo]) => getComputedStyle(it, pseudo)[name]"
    for part, name, pseudo in [
        (page.page.locator(".status .pulse"), "backgroundColor", None),
        (page.page.get_by_role("switch"), "backgroundColor", None),
    ]:
        assert part.evaluate(style, [name, pseudo]) != ground
    for part in (page.stop_button, page.page.locator(".bubble")):
        assert part.evaluate(style, ["borderTopStyle", None]) == "solid"
    page.stop_button.click()


# Those who do not see


def test_axe_finds_no_violation(new_page):
    page = new_page({"rate": 40, "tokens": 5000, "reasoning_tokens": 30})
    assert violations(page.page) == [], "empty"
    page.ask()
    page.page.locator(".thinking").wait_for()
    assert violations(page.page) == [], "thinking"
    page.wait_for_text("amber")
    assert violations(page.page) == [], "running"
    page.stop_button.click()
    page.stopped_note.wait_for()
    assert violations(page.page) == [], "stopped"
    page.page.locator("[data-role=user] .actions button").last.click()
    assert violations(page.page) == [], "editing"
    page.page.set_viewport_size({"width": 390, "height": 780})
    page.page.locator(".topbar button").first.click()
    assert violations(page.page) == [], "list open"
    answered = new_page({"rate": 0})
    answered.ask()
    answered.wait_until_idle()
    answered.page.locator(".thinking summary").click()
    assert violations(answered.page) == [], "answered"
    working = new_page({"never": "tokens"})
    working.choose("run:research")
    working.ask()
    working.page.locator("[data-kind=tool]").wait_for()
    working.page.locator(".step-data summary").first.click()
    assert violations(working.page) == [], "a run works"
    working.stop_button.click()
    working.page.locator(".note .small-print").nth(1).wait_for()
    assert violations(working.page) == [], "a run is stopped"
    failed = new_page({"status": 402})
    failed.expected_messages = ("Failed to load resource",)
    failed.ask()
    failed.error_note.wait_for()
    assert violations(failed.page) == [], "failed"
