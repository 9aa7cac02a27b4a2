"""Is the page light, quick and smooth? ``python -m benchmarks.page``

A real Chromium opens it over a slow line, opens a long chat, and shows answers that stream: it
counts long tasks (over 50 ms, as the browser's own Long Tasks API does) and frames that came late,
and tells how much of the processor the longest task took, which no other work on the machine
changes. The same page at rest, in the same run, shows what the machine alone does. It weighs what
is left of a long answer, beside the same answer opened anew.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.support.servers import DeepSeek, Proxy
from tests.support.waiting import wait_for

SECONDS = 8
#: Tokens that a chat already has, while more come.
HISTORY = 20_000
RATES = (200, 2000)
TURNS = 300
#: Tokens of the answer that is weighed.
ANSWER = 36_000
#: 400 kbit/s, and 400 ms for each question.
SLOW_3G = {
    "offline": False,
    "latency": 400,
    "downloadThroughput": 400_000 / 8,
    "uploadThroughput": 400_000 / 8,
}

_TEXT = """## A heading

Some words of a paragraph, **bold** and *slanted*, with `code` in it, and a [link](https://example.com).

1. first item of a list
2. second item

| one | two |
| --- | --- |
| a cell | and another |

```python
def function(argument):
    return argument + 1
```

"""

#: Notes when the box and the last message were there, and the long tasks until then.
_NOTES = """
    const noted = window.noted = {tasks: []};
    new PerformanceObserver((list) =>
        list.getEntries().forEach((each) => noted.tasks.push(each.duration))
    ).observe({type: "longtask", buffered: true});
    new MutationObserver(() => {
        const note = (name) => requestAnimationFrame(() => requestAnimationFrame(() => {
            noted[name] ??= performance.now();
        }));
        if (document.querySelector("textarea")) { note("box"); }
        if (document.querySelector("article")) { note("end"); }
        if (document.querySelectorAll("article:has(button)").length === window.expected) {
            note("all");
        }
    }).observe(document, {childList: true, subtree: true});
"""

_MEASURE = """async (seconds) => {
    const tasks = [], frames = [];
    const observer = new PerformanceObserver((list) =>
        list.getEntries().forEach((each) => tasks.push(each.duration)));
    observer.observe({type: "longtask"});
    const end = performance.now() + seconds * 1000;
    let last = performance.now();
    await new Promise((resolve) => {
        const frame = (now) => {
            frames.push(now - last);
            last = now;
            now < end ? requestAnimationFrame(frame) : resolve();
        };
        requestAnimationFrame(frame);
    });
    observer.disconnect();
    return {tasks, frames: frames.slice(1)};
}"""


def main() -> None:
    """Print a line for each."""
    if CHROMIUM is None:
        sys.exit("Chromium is not installed.")
    logs = Path(tempfile.mkdtemp(prefix="chatproxy-page-"))
    with (
        DeepSeek(logs / "deepseek.log") as deepseek,
        Proxy("gunicorn", deepseek.url, logs / "page.log", CHATPROXY_NOTICE="Measuring.") as proxy,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for measure in (_first_visit, _long_chat, _streaming, _memory):
            with _new_page(browser) as page:
                measure(page, proxy.url)
        browser.close()
    shutil.rmtree(logs)


@contextmanager
def _new_page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


def _first_visit(page: Page, url: str) -> None:
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW_3G)
    page.add_init_script(_NOTES)
    page.goto(url)
    took = wait_for(lambda: page.evaluate("noted.box"))
    page.wait_for_load_state("networkidle")
    sizes = page.evaluate(
        "performance.getEntriesByType('resource').map((each) => each.encodedBodySize)"
    )
    size = sum(sizes) / 1000
    print(f"the first visit: {size:.0f} KB; over slow 3G the box is there in {took:.0f} ms")


def _long_chat(page: Page, url: str) -> None:
    _open(page, url, {})
    kept = json.dumps(_chat_of(TURNS))
    page.evaluate("(kept) => localStorage.setItem('chatproxy.chat.long', kept)", kept)
    page.reload()
    page.locator("article").first.wait_for()
    page.add_init_script(f"window.expected = {2 * TURNS};{_NOTES}")
    page.reload()
    wait_for(lambda: page.evaluate("noted.all"), 60)
    noted = page.evaluate("noted")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    print(
        f"a chat of {TURNS} turns: its end is there in {noted['end']:.0f} ms, all of it ({nodes} "
        f"elements) in {noted['all']:.0f} ms; {_tasks(noted['tasks'])}"
    )


def _streaming(page: Page, url: str) -> None:
    _open(page, url, {"rate": 0, "text": _TEXT, "tokens": HISTORY})
    _send(page, "finished")
    _report("at rest", page)
    for rate in RATES:
        _open(page, url, {"rate": rate, "text": _TEXT, "tokens": 10 * rate * SECONDS})
        _send(page, "running")
        assert page.locator("article").count() > 2, "the long answer is not there any more"
        _report(f"{rate} tokens a second", page)
        page.keyboard.press("Escape")
        page.locator("article[data-state=stopped]").last.wait_for()
        page.wait_for_timeout(1500)  # the page saves once a second


def _memory(page: Page, url: str) -> None:
    _open(page, url, {"rate": 2000, "text": _TEXT, "tokens": ANSWER, "reasoning_tokens": 0})
    empty = _heap(page)
    _send(page, "finished")
    streamed = (_heap(page) - empty) / 1e6
    page.wait_for_timeout(1500)
    page.reload()
    page.locator("article[data-state=finished]").wait_for()
    page.wait_for_timeout(1500)
    opened = (_heap(page) - empty) / 1e6
    print(f"{ANSWER} tokens: {streamed:.0f} MB when streamed, {opened:.0f} MB when opened")


def _heap(page: Page) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    size = session.send("Runtime.getHeapUsage")["usedSize"]
    assert isinstance(size, float | int)
    return size


def _chat_of(turns: int) -> dict[str, object]:
    messages: list[dict[str, object]] = []
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
                "text": _TEXT * 5,
            },
        ]
    return {"id": "long", "title": "A long chat", "updatedAt": 1, "messages": messages}


def _open(page: Page, url: str, simulate: dict[str, object]) -> None:
    page.goto(f"{url}/?simulate={quote(json.dumps(simulate))}")
    page.locator("textarea").wait_for()


def _send(page: Page, state: str) -> None:
    page.locator("textarea").fill("Go on")
    page.locator("textarea").press("Enter")
    page.locator(f"article[data-state={state}]").last.wait_for(timeout=90_000)


def _report(name: str, page: Page) -> None:
    browser = page.context.browser
    assert browser is not None
    browser.start_tracing(page=page, categories=["toplevel"])
    found = page.evaluate(_MEASURE, SECONDS)
    longest = _longest_task(json.loads(browser.stop_tracing())["traceEvents"])
    frames = sorted(found["frames"])
    late = sum(frame > 20 for frame in frames)
    print(
        f"{name}: {len(frames)} frames in {SECONDS} s, median {frames[len(frames) // 2]:.1f} ms, "
        f"{late} over 20 ms; {_tasks(found['tasks'])}, of the processor {longest:.0f} ms"
    )


def _longest_task(events: list[dict[str, Any]]) -> float:
    """The most time of the processor, in ms, that a task on a page's main thread took."""
    threads = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = (
        each
        for each in events
        if each["name"].endswith("RunTask") and (each["pid"], each["tid"]) in threads
    )
    return max((each.get("tdur", 0) / 1000 for each in tasks), default=0)


def _tasks(tasks: list[float]) -> str:
    return f"{len(tasks)} long tasks, the longest {max(tasks, default=0):.0f} ms"


if __name__ == "__main__":
    main()
