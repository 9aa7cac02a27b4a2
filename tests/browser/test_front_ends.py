"""Front ends of other people, in Chromium: useChat, useAnswer, assistant-ui, plain fetch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from ..support.servers import ROOT, Proxy, clean_environment, new_id
from ..support.waiting import wait_for

PACKAGE = ROOT / "packages" / "client"
SOURCE = Path(__file__).parent / "front_end"
WORDS = [f"word{number}" for number in range(1, 1001)]
SIMULATE = {"text": " ".join(WORDS), "rate": 30}
#: As many words as the answers have that are read to their end.
END = 240
CONFIG = f"""
export default {{
  build: {{
    lib: {{ entry: "main.tsx", formats: ["es"], fileName: () => "main.js" }},
    minify: "oxc",
    rolldownOptions: {{ output: {{ minify: true, chunkFileNames: "[name].js" }} }},
  }},
  define: {{ "process.env.NODE_ENV": '"development"' }},
  resolve: {{
    alias: [{{ find: /^@chatproxy\\/client\\/(.*)$/, replacement: "{PACKAGE}/src/$1.ts" }}],
  }},
}};
"""
HTML = """<!doctype html><body><script type=module src=/built/main.js></script><script>
    window.clicked = [];
    addEventListener("click", ({target}) => clicked.push(target.innerText), true);
</script>"""
LOOK = """(to) => {
    Object.defineProperty(document, "visibilityState", {value: to, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the front end's scripts, built of the package's source."""
    if not (PACKAGE / "node_modules").exists():
        pytest.skip("The tools of packages/client are not installed")
    folder = tmp_path_factory.mktemp("front_end")
    (folder / "node_modules").symlink_to(PACKAGE / "node_modules")
    (folder / "vite.config.mjs").write_text(CONFIG)
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    vite = PACKAGE / "node_modules" / ".bin" / "vite"
    environment = clean_environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    command = [vite, "build", "--mode", "development", "--logLevel", "error"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder / "dist"


@pytest.fixture(scope="module")
def server(logs, deepseek):
    with Proxy("gunicorn", deepseek.url, logs("front-ends"), CHATPROXY_ON_DISCONNECT=30) as proxy:
        yield proxy


@pytest.fixture
def page(browser, server, built):
    """A page of the server's origin, which can load what is built."""
    messages = []

    def serve(route):
        route.fulfill(path=built / route.request.url.rsplit("/", 1)[1])

    with browser.new_context(base_url=server.url) as context:
        page = context.new_page()
        page.on("console", lambda each: messages.append(each.text) if each.type == "error" else 0)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.route("**/front-end*", lambda r: r.fulfill(body=HTML, content_type="text/html"))
        page.route("**/built/*.js", serve)
        yield page
    assert messages == []


class FrontEnd:
    """The front end, as its user sees it."""

    def __init__(self, page, kind, **simulate):
        self.page = page
        self.tag = new_id()
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

    def wait_for_stop(self):
        """Wait until it shows that it was stopped, with a part of the answer."""
        try:
            self.page.locator("small", has_text="stopped").wait_for()
        except PlaywrightTimeout as error:
            shown, clicked = self.page.inner_text("body"), self.page.evaluate("clicked")
            sent = [each.url for each in self.requests]
            raise AssertionError(f"clicked {clicked}, sent {sent}, shows {shown}") from error
        self.wait_for_end()

    def wait_for_end(self):
        self.wait_for_status("ready", "stopped")
        words = self.words()
        assert words == WORDS[: len(words)]

    def cancels(self):
        return [each for each in self.requests if "/cancel/" in each.url]

    def asked(self):
        return [
            each for each in self.requests if each.method == "POST" and "cancel" not in each.url
        ]


@pytest.fixture(params=["useChat", "useAnswer"])
def kind(request):
    return request.param


def test_a_stop_has_its_receipt_also_after_a_reload_and_one_from_elsewhere_is_seen(
    kind, page, server, deepseek
):
    front_end = FrontEnd(page, kind)
    for reload in (False, True):
        front_end.press("Send")
        front_end.wait_for_word(5)
        if reload:
            page.reload()
            front_end.wait_for_word(10)
        front_end.press("Stop")
        front_end.wait_for_stop()
        assert not deepseek.gone(front_end.tag)["finished"]
        page.reload()  # shows nothing of it
    front_end.press("Send")
    front_end.wait_for_word(5)
    session_id = front_end.asked()[2].headers["x-session-id"]
    assert server.cancel(session_id)[0] == 200
    front_end.wait_for_end()
    assert (len(front_end.asked()), len(front_end.cancels())) == (3, 2)


def test_an_answer_goes_on_if_nobody_looks_at_it_and_after_a_reload(kind, page, server, deepseek):
    """A page that is hidden gives its connection back."""
    front_end = FrontEnd(page, kind, tokens=END)
    front_end.press("Send")
    front_end.wait_for_word(5)
    page.evaluate(LOOK, "hidden")
    session_id = front_end.asked()[0].headers["x-session-id"]
    wait_for(lambda: server.lines(f"{session_id} client disconnected"))
    seen = deepseek.entry(front_end.tag)["tokens"]
    deepseek.entry(front_end.tag, lambda entry: entry["tokens"] > seen + 10)
    page.evaluate(LOOK, "visible")
    front_end.wait_for_word(seen + 10)
    page.reload()
    front_end.wait_for_word(END)
    front_end.wait_for_status("ready", "finished")
    assert front_end.words() == WORDS[:END]
    assert len(deepseek.entries(front_end.tag)) == 1
    assert front_end.cancels() == []


@pytest.mark.parametrize("kind", ["assistant-ui", "assistant-ui-resuming"])
def test_assistant_ui_needs_no_adapter(page, kind, deepseek):
    """Its Stop is a Stop with a receipt, and closes nothing before.

    It resumes a chat whose id outlives a reload.
    """
    front_end = FrontEnd(page, kind)
    page.get_by_role("textbox").fill("Hello")
    front_end.press("Send")
    front_end.wait_for_word(5)
    if kind == "assistant-ui-resuming":
        page.reload()
        front_end.wait_for_word(15)
        assert front_end.cancels() == []
    front_end.wait_for_status("running")
    front_end.press("Stop")
    front_end.wait_for_stop()
    assert not deepseek.gone(front_end.tag)["finished"]
    assert (len(front_end.asked()), len(front_end.cancels())) == (1, 1)


def test_the_guide_to_plain_fetch(page, server, deepseek):
    guide = (ROOT / "docs" / "front-ends.md").read_text()
    code = re.search(r"```js\n(// chatproxy.js\n.*?)```", guide, re.DOTALL)[1]
    page.route("**/chatproxy.js", lambda r: r.fulfill(body=code, content_type="text/javascript"))
    page.goto("/healthz")
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
