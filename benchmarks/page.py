"""Does the page stay smooth? ``python -m benchmarks.page``

A real Chromium shows a conversation of 20,000 tokens of Markdown while 200 tokens a second are
added to it, and counts long tasks (over 50 ms, as the browser's own Long Tasks API does) and
frames that came late. The same page at rest, in the same run, shows what the machine alone does.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.support.servers import ROOT, DeepSeek, Proxy

SECONDS = 8
HISTORY = 20_000
RATE = 200

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
    """Print one line for the page at rest, and one while it streams."""
    if CHROMIUM is None:
        sys.exit("Chromium is not installed.")
    print(f"page: {_compressed_size() / 1000:.0f} KB compressed")
    logs = Path(tempfile.mkdtemp(prefix="chatproxy-page-"))
    with (
        DeepSeek(logs / "deepseek.log") as deepseek,
        Proxy("gunicorn", deepseek.url, logs / "page.log", CHATPROXY_NOTICE="Measuring.") as proxy,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        _open(page, proxy.url, {"rate": 0, "text": _TEXT, "tokens": HISTORY})
        _send(page, "answer[data-state=finished]")
        _report("at rest", page.evaluate(_MEASURE, SECONDS))
        _open(page, proxy.url, {"rate": RATE, "text": _TEXT, "tokens": 10 * RATE * SECONDS})
        _send(page, "answer[data-state=running]")
        assert page.locator("article").count() == 4, "the long answer is not there any more"
        _report(f"{RATE} tokens a second", page.evaluate(_MEASURE, SECONDS))
        browser.close()
    shutil.rmtree(logs)


def _open(page: Page, url: str, simulate: dict[str, object]) -> None:
    page.goto(f"{url}/?simulate={quote(json.dumps(simulate))}")


def _send(page: Page, state: str) -> None:
    page.locator("textarea").fill("Go on")
    page.locator("textarea").press("Enter")
    page.locator(f"article{state.removeprefix('answer')}").last.wait_for(timeout=60_000)


def _report(name: str, found: dict[str, list[float]]) -> None:
    frames = sorted(found["frames"])
    late = sum(frame > 20 for frame in frames)
    longest = max(found["tasks"], default=0)
    print(
        f"{name}: {len(frames)} frames in {SECONDS} s, median {frames[len(frames) // 2]:.1f} ms, "
        f"{late} over 20 ms; {len(found['tasks'])} long tasks, the longest {longest:.0f} ms"
    )


def _compressed_size() -> int:
    """Of what the page loads before anything is asked."""
    static = ROOT / "chatproxy" / "static"
    index = static / "index.html"
    named = re.findall(r'(?:src|href)="/([^"]+)"', index.read_text())
    files = [index, *(static / name for name in named)]
    return sum(len(gzip.compress(each.read_bytes())) for each in files)


if __name__ == "__main__":
    main()
