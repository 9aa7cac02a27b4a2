"""What an answer looks like: Chinese, formulas, code, diagrams; streamed, and after a reload."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests

from ..support.waiting import wait_for
from .questions import button, finish, play

ANSWER = (Path(__file__).parent / "answer.md").read_text()
#: Three colours: the text's, a keyword's, a comment's.
COLOURS = """[".code pre", ".hljs-keyword", ".hljs-comment"].map(
    (each) => getComputedStyle(document.querySelector(each)).color)"""


def test_an_answer_is_drawn_as_it_is_meant(new_page):
    page = new_page({"rate": 400, "text": ANSWER})
    answer = page.page.locator(".answer-text")
    page.ask()
    page.wait_until_idle()
    wait_for(lambda: answer.locator(".formula .katex").count() == 4)

    assert "10~20元" in answer.inner_text()
    assert [each[:2] for each in answer.locator("strong").all_inner_texts()] == [
        "注意",
        "“你",
        "بك",
    ]
    assert answer.locator("del").count() == 0
    links = answer.locator("a:not([role])")
    assert [each.get_attribute("href") for each in links.all()] == ["https://example.com/docs"]
    directions = "each => getComputedStyle(each).direction"
    assert answer.locator("p", has_text="مرحبا").evaluate(directions) == "rtl"

    assert "costs $5 and then $10" in answer.inner_text()
    assert answer.locator("math").count() == 4
    assert answer.locator(".tex").count() == 0
    assert answer.locator("sub, kbd, details > summary").all_inner_texts() == ["2", "Ctrl", "More"]
    assert "<blink>tag</blink>" in answer.inner_text()

    answer.locator("[role=doc-noteref]").first.click()
    assert page.page.evaluate("document.activeElement.innerText").startswith("The first note.")
    answer.get_by_role("button", name="Back to the text").first.click()
    assert page.page.evaluate("document.activeElement.innerText") == "1"

    wait_for(lambda: answer.locator(".hljs-keyword").count() >= 2)
    seen = set(page.page.evaluate(COLOURS))
    page.page.emulate_media(color_scheme="dark")
    assert len(seen.union(page.page.evaluate(COLOURS))) == 6

    streamed = answer.inner_html()
    page.page.reload()
    wait_for(lambda: without_ids(answer.inner_html()) == without_ids(streamed))


def without_ids(html):
    return re.sub(r'(?<=")[^"]*(?=-footnote-)|(?<=#)[^"]*(?=-footnote-)', "", html)


def test_a_diagram_is_drawn_in_a_frame_that_reaches_nothing(new_page):
    page = new_page({"rate": 0, "text": ANSWER})
    page.expected_messages = ("Content Security Policy", "Failed to load resource")
    page.ask()
    button(page, "Show diagram").click()
    element = page.page.get_by_title("Diagram")
    frame = page.page.frame_locator("iframe.diagram")
    frame.get_by_text("Begin").wait_for()
    drawing = frame.locator("svg")
    wait_for(lambda: element.bounding_box()["height"] >= drawing.bounding_box()["height"])

    frame = element.element_handle().content_frame()
    light = drawing.inner_html()
    page.page.evaluate("dispatchEvent(new CustomEvent('theme', {detail: 'dark'}))")
    wait_for(lambda: drawing.inner_html() != light)
    assert frame.evaluate("origin") == "null"
    reach = "fetch('/page.json').then(() => 'reached', () => 'refused')"
    assert frame.evaluate(reach) == "refused"
    with pytest.raises(Exception, match="cross-origin"):
        frame.evaluate("parent.document.title")
    assert page.page.evaluate("window.hacked") is None

    button(page, "Show code").click()
    page.wait_for_text("graph LR")
    play(page, rate=0, text="```mermaid\ngraph LR\n  A -->\n```")
    finish(page, "Another")
    wait_for(lambda: button(page, "Show diagram").count() == 2)
    button(page, "Show diagram").last.click()
    page.wait_for_text("Its code may have a mistake.")
    assert page.page.locator("iframe").count() == 0


def test_headers_let_nothing_else_run(server):
    page, diagram = (
        requests.get(server.url + path, timeout=5).headers["Content-Security-Policy"]
        for path in ("/", "/diagram.html")
    )
    assert page.startswith("default-src 'none'; ")
    assert "unsafe" not in page
    assert diagram.startswith("sandbox allow-scripts; default-src 'none'; script-src 'self';")


HOSTILE = r"""<script>window.hacked = 1</script>

<img src=x onerror="window.hacked = 2">

<svg onload="window.hacked = 3"></svg>

[a link](javascript:window.hacked=4) and <a href="javascript:window.hacked=5">another</a>
![an image](javascript:window.hacked=6) <iframe srcdoc="<script>parent.hacked=7</script>">

[data](data:text/html,<script>window.hacked=8</script>) [fine](https://example.com/)

<style>body { display: none }</style>

$\rule{5000em}{5000em}$ and $\kern-5000em x$ and $a\raisebox{-500em}{b}$

$$\kern-50em \rule{100em}{100em}$$

$\href{javascript:alert(1)}{x}$ $\includegraphics{https://example.com/x.png}$
$\htmlStyle{color:red}{x}$

$\rlap{\rule{20em}{1em}}$ <kbd>Beside it</kbd>

The end.
"""


def test_a_hostile_answer_runs_no_script_stays_in_its_box_and_ends(new_page):
    page = new_page({"rate": 0, "text": HOSTILE})
    finish(page)
    answer = page.page.locator(".answer-text")
    answer.locator(".formula").first.wait_for()
    assert page.page.evaluate("window.hacked") is None
    links = answer.get_by_role("link")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.com/"]
    assert "noopener" in links.first.get_attribute("rel")
    assert answer.locator("script, iframe, style, svg[onload], img, [style*=red]").count() == 0
    for box in (page.box, *(page.page.get_by_text(text) for text in ("Beside it", "The end."))):
        assert box.evaluate(
            """each => {
              const { x, y, width, height } = each.getBoundingClientRect();
              return each.contains(document.elementFromPoint(x + width / 2, y + height / 2));
            }"""
        )
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
