"""docs/use-chat.md: its page, as it stands there, in a real Chromium."""

import json
import re
import subprocess

import pytest

from ..support.ai_sdk import FOLDER, NODE, is_there
from ..support.servers import ROOT, new_id
from ..support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.skipif(not is_there(), reason="make .venv/ai-sdk")

GUIDE = (ROOT / "docs" / "use-chat.md").read_text()
ROLLDOWN = ROOT / "chatproxy" / "client" / "node_modules" / ".bin" / "rolldown"
LONG = {"rate": 40, "tokens": 5000, "reasoning_tokens": 0}

#: What an application adds: here what the simulated DeepSeek is to do, from the page's address.
AROUND = """
import {{ StrictMode }} from "react";
import {{ createRoot }} from "react-dom/client";
import {{ DefaultChatTransport as WithoutScenario }} from "ai";

const {{ id, simulate, named }} = JSON.parse(decodeURIComponent(location.search.slice(1)));

class DefaultChatTransport extends WithoutScenario {{
  constructor(options) {{
    super({{ ...options, body: {{ simulate }} }});
  }}
}}

{transport}
window.ask = (sendMessage, text, tools) => {{
  {more}
}};

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Chat id={{id}} transport={{named ? transport : new DefaultChatTransport()}} />
  </StrictMode>,
);
"""


def blocks(language):
    """The code of the guide in this language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The guide's code, bundled as an application does it."""
    folder = tmp_path_factory.mktemp("use-chat")
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    (page,) = blocks("jsx")
    more, transport = blocks("js")
    (folder / "page.jsx").write_text(page + AROUND.format(transport=transport, more=more))
    command = [NODE, ROLLDOWN, "page.jsx", "--file", "page.js", "--format", "iife", "--minify"]
    define = '--transform.define=process.env.NODE_ENV="production"'
    done = subprocess.run([*command, define], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / "page.js").read_text()


class Page:
    """The guide's page, as its user sees it."""

    def __init__(self, page, script, **fields):
        self.page = page
        page.set_default_timeout(1000 * PATIENCE)
        html = f'<!doctype html><div id="root"></div><script>{script}</script>'
        page.route("**/use-chat*", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(f"/use-chat?{json.dumps(fields)}")
        self.answer = page.get_by_label("assistant")
        self.stop = page.get_by_role("button", name="Stop")

    def ask(self):
        self.page.get_by_label("Message").fill("Hello")
        self.page.get_by_role("button", name="Send").click()

    def wait_for_text(self, text):
        self.answer.get_by_text(text).wait_for()


@pytest.fixture
def open_page(browser, server, script):
    """Opens the page in a tab; all tabs of a test are in one browser profile."""
    context, errors = browser.new_context(base_url=server.url), []

    def open_page(chat_id, simulate=LONG, named=False, on_resume=None):
        page = context.new_page()
        if on_resume is not None:
            page.route("**/stream", on_resume)
        page.on("pageerror", lambda error: errors.append(str(error)))
        tag = {"tag": chat_id, **simulate}
        return Page(page, script.replace("</", "<\\/"), id=chat_id, simulate=tag, named=named)

    yield open_page
    context.close()
    assert errors == []


@pytest.mark.parametrize("named", [False, True], ids=["the chat's id", "an id for each answer"])
def test_a_stop_in_any_tab_ends_the_answer_in_all(open_page, deepseek, named):
    chat_id = new_id()
    first = open_page(chat_id, named=named)
    first.ask()
    first.wait_for_text("amber birch")
    second = open_page(chat_id, named=named)
    second.wait_for_text("amber birch")
    second.stop.click()
    second.page.get_by_role("status").get_by_text("Closed after").wait_for()
    for page in (first, second):
        page.wait_for_text("Stopped: user.")
        page.page.get_by_role("button", name="Send").wait_for()
        assert page.page.get_by_role("alert").count() == 0
    assert not deepseek.gone(chat_id)["finished"]
    assert len(deepseek.entries(chat_id)) == 1


def test_a_question_that_is_sent_before_the_resume_is_answered_can_be_stopped(open_page, deepseek):
    """And so before its first token."""
    chat_id, resumes = new_id(), []

    def hold(route):
        resumes.append(route)

    page = open_page(chat_id, {"never": "tokens"}, on_resume=hold)
    page.ask()
    deepseek.entry(chat_id)
    for resume in resumes:
        with page.page.expect_response("**/stream"):
            resume.fulfill(status=204)
    page.page.evaluate("() => new Promise(requestAnimationFrame)")
    page.stop.click()
    page.page.get_by_role("button", name="Send").wait_for()
    assert not deepseek.gone(chat_id)["finished"]


def test_a_beacon_is_a_stop_whatever_it_says_and_a_tab_that_is_closed_another(open_page, deepseek):
    chat_id = new_id()
    page = open_page(chat_id)
    page.ask()
    page.wait_for_text("amber birch")
    sent = page.page.evaluate(f"navigator.sendBeacon('/api/chat/{chat_id}/stop', 'bye')")
    assert sent
    page.wait_for_text("Stopped: user.")
    assert not deepseek.gone(chat_id)["finished"]
    page.ask()
    page.answer.nth(1).get_by_text("amber birch").wait_for()
    page.page.close()
    assert not deepseek.gone(chat_id)["finished"]
    assert len(deepseek.entries(chat_id)) == 2


def test_an_answer_is_whole_and_the_next_question_may_follow(open_page):
    page = open_page(new_id(), {"rate": 0, "text": "One two three."})
    for number in (1, 2):
        page.ask()
        wait_for(lambda number=number: page.answer.get_by_text("One two three.").count() == number)
        page.page.get_by_role("button", name="Send").wait_for()


def test_more_fields_go_in_the_body_and_a_cut_answer_is_shown_as_a_failure(open_page):
    page = open_page(new_id(), {"rate": 0, "text": "One two three.", "end": "cut", "end_after": 2})
    given = page.page.evaluate(
        "new Promise((resolve) => window.ask((...given) => resolve(given), 'Hello', []))"
    )
    assert given == [
        {"text": "Hello"},
        {"body": {"model": "deepseek-v4-pro", "temperature": 0.2, "tools": []}},
    ]
    page.ask()
    page.page.get_by_role("alert").wait_for()
    page.wait_for_text("One two")


def test_a_refusal_is_shown_with_its_sentence(open_page):
    page = open_page(new_id(), {"status": 402})
    page.ask()
    page.page.get_by_role("alert").get_by_text("balance").wait_for()
