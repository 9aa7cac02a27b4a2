"""Front ends of other people, in Chromium: useChat, useAnswer, assistant-ui, plain fetch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from ..support.servers import ROOT, Proxy, clean_environment, new_id
from ..support.waiting import wait_for

PACKAGE = ROOT / "packages" / "client"
SOURCE = Path(__file__).parent / "front_end"
WORDS = [f"word{number}" for number in range(1, 71)]
SIMULATE = {"text": " ".join(WORDS), "rate": 10}
CONFIG = f"""
export default {{
  build: {{
    lib: {{ entry: "main.tsx", formats: ["es"], fileName: () => "main.js" }},
    minify: false,
  }},
  define: {{ "process.env.NODE_ENV": '"development"' }},
  resolve: {{
    alias: [{{ find: /^@chatproxy\\/client\\/(.*)$/, replacement: "{PACKAGE}/src/$1.ts" }}],
  }},
}};
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The front end, built of the package's source."""
    if not (PACKAGE / "node_modules").exists():
        pytest.skip("The tools of packages/client are not installed")
    folder = tmp_path_factory.mktemp("front_end")
    (folder / "node_modules").symlink_to(PACKAGE / "node_modules")
    (folder / "vite.config.mjs").write_text(CONFIG)
    shutil.copy(SOURCE / "main.tsx", folder)
    vite = PACKAGE / "node_modules" / ".bin" / "vite"
    environment = clean_environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    command = [vite, "build", "--mode", "development", "--logLevel", "error"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return (folder / "dist" / "main.js").read_text()


@pytest.fixture(scope="module")
def server(logs, deepseek):
    with Proxy("gunicorn", deepseek.url, logs("front-ends"), CHATPROXY_ON_DISCONNECT=30) as proxy:
        yield proxy


@pytest.fixture
def page(browser, server):
    """A page of the server's origin, with nothing in it."""
    messages = []
    with browser.new_context(base_url=server.url) as context:
        page = context.new_page()
        page.on("console", lambda each: messages.append(each.text) if each.type == "error" else 0)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.route("**/front-end*", lambda route: route.fulfill(body="", content_type="text/html"))
        yield page
    assert messages == []


class FrontEnd:
    """The front end, as its user sees it."""

    def __init__(self, page, script, kind, **simulate):
        self.page = page
        self.tag = new_id()
        html = "<!doctype html><body><script type=module src=/main.js></script>"
        page.unroute("**/front-end*")
        page.route("**/front-end*", lambda r: r.fulfill(body=html, content_type="text/html"))
        page.route("**/main.js", lambda r: r.fulfill(body=script, content_type="text/javascript"))
        self.requests = []
        page.on("request", self._record)
        simulate = quote(json.dumps({"tag": self.tag, **SIMULATE, **simulate}))
        page.goto(f"/front-end?{kind}&chat={new_id()}&simulate={simulate}")

    def _record(self, request):
        self.requests.append(request)

    def press(self, name):
        self.page.get_by_role("button", name=name).click()

    def wait_for_word(self, number):
        self.page.get_by_text(re.compile(rf"\bword{number}\b")).wait_for()

    def words(self):
        return self.page.locator("p").inner_text().split()

    def wait_for_status(self, *statuses):
        self.page.locator("output", has_text=re.compile("|".join(statuses))).wait_for()

    def wait_for_stop(self, state):
        self.page.locator("small", has_text=state).wait_for()

    def cancels(self):
        return [each for each in self.requests if "/cancel/" in each.url]

    def asked(self):
        return [
            each for each in self.requests if each.method == "POST" and "cancel" not in each.url
        ]


@pytest.fixture(params=["useChat", "useAnswer"])
def front_end(request, page, script):
    return FrontEnd(page, script, request.param)


def test_a_stop_has_its_receipt(front_end, deepseek):
    front_end.press("Send")
    front_end.wait_for_word(5)
    front_end.press("Stop")
    front_end.wait_for_stop("stopped")
    front_end.wait_for_status("ready", "stopped")
    assert not deepseek.gone(front_end.tag)["finished"]
    words = front_end.words()
    assert words == WORDS[: len(words)]
    assert len(front_end.asked()) == 1


def test_after_a_reload_the_answer_goes_on(front_end, deepseek):
    front_end.press("Send")
    front_end.wait_for_word(10)
    front_end.page.reload()
    front_end.wait_for_word(len(WORDS))
    front_end.wait_for_status("ready", "finished")
    assert front_end.words() == WORDS
    assert len(deepseek.entries(front_end.tag)) == 1
    assert front_end.cancels() == []


def test_a_stop_after_a_reload_has_its_receipt(front_end, deepseek):
    front_end.press("Send")
    front_end.wait_for_word(10)
    front_end.page.reload()
    front_end.wait_for_word(20)
    front_end.press("Stop")
    front_end.wait_for_stop("stopped")
    assert not deepseek.gone(front_end.tag)["finished"]


def test_assistant_ui_needs_no_adapter(page, script, deepseek):
    """Its Stop is a Stop with a receipt, and closes nothing before."""
    front_end = FrontEnd(page, script, "assistant-ui")
    page.get_by_role("textbox").fill("Hello")
    front_end.press("Send")
    front_end.wait_for_word(5)
    front_end.wait_for_status("running")
    front_end.press("Stop")
    front_end.wait_for_stop("stopped")
    front_end.wait_for_status("ready")
    assert not deepseek.gone(front_end.tag)["finished"]
    words = front_end.words()
    assert words == WORDS[: len(words)]
    assert len(front_end.asked()) == 1


def test_assistant_ui_resumes_a_chat_whose_id_outlives_a_reload(page, script, deepseek):
    words = [f"word{number}" for number in range(1, 1001)]
    front_end = FrontEnd(page, script, "assistant-ui-resuming", text=" ".join(words))
    page.get_by_role("textbox").fill("Hello")
    front_end.press("Send")
    front_end.wait_for_word(10)
    page.reload()
    front_end.wait_for_word(20)
    assert front_end.cancels() == []
    front_end.wait_for_status("running")
    front_end.press("Stop")
    front_end.wait_for_stop("stopped")
    front_end.wait_for_status("ready")
    assert not deepseek.gone(front_end.tag)["finished"]
    shown = front_end.words()
    assert shown == words[: len(shown)]
    assert (len(front_end.asked()), len(front_end.cancels())) == (1, 1)


def test_a_stop_from_elsewhere_is_seen(front_end, server):
    front_end.press("Send")
    front_end.wait_for_word(5)
    session_id = front_end.asked()[0].headers["x-session-id"]
    assert requests.post(f"{server.url}/api/chat/cancel/{session_id}", timeout=10).ok
    front_end.wait_for_status("ready", "stopped")
    words = front_end.words()
    assert words == WORDS[: len(words)]


def test_an_answer_that_nobody_looks_at_gives_its_connection_back(front_end, server, deepseek):
    front_end.press("Send")
    front_end.wait_for_word(5)
    look = """(to) => {
        Object.defineProperty(document, "visibilityState", {value: to, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    front_end.page.evaluate(look, "hidden")
    session_id = front_end.asked()[0].headers["x-session-id"]
    wait_for(lambda: server.lines(f"{session_id} client disconnected"))
    wait_for(lambda: deepseek.entry(front_end.tag)["tokens"] > 55)
    front_end.page.evaluate(look, "visible")
    front_end.wait_for_word(len(WORDS))
    front_end.wait_for_status("ready", "finished")
    assert front_end.words() == WORDS
    assert len(deepseek.entries(front_end.tag)) == 1


def test_the_guide_to_plain_fetch(page, server, deepseek):
    guide = (ROOT / "docs" / "front-ends.md").read_text()
    code = re.search(r"```js\n(// chatproxy.js\n.*?)```", guide, re.DOTALL)[1]
    page.route("**/chatproxy.js", lambda r: r.fulfill(body=code, content_type="text/javascript"))
    page.goto("/front-end")
    tag = new_id()
    messages = [{"role": "user", "content": "Hello"}]
    receipt = page.evaluate(
        """async ([messages, simulate]) => {
            const { ask, createSessionId, stop } = await import("/chatproxy.js");
            const real = window.fetch;
            window.fetch = (url, init) => real(url, init?.body
                ? {...init, body: JSON.stringify({...JSON.parse(init.body), simulate})} : init);
            const sessionId = createSessionId();
            let text = "";
            const asking = ask(sessionId, messages, (piece) => (text += piece));
            while (!text.includes("word5")) {
                await new Promise((resolve) => setTimeout(resolve, 10));
            }
            const receipt = await stop(sessionId);
            return {...receipt, outcome: await asking, text};
        }""",
        [messages, {"tag": tag, **SIMULATE}],
    )
    assert receipt["upstreamClosed"] is True
    assert receipt["outcome"] == "stopped"
    words = receipt["text"].split()
    assert words == WORDS[: len(words)]
    assert not deepseek.gone(tag)["finished"]
