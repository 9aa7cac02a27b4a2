"""A real Chromium with the real page, in front of the real server and the simulated DeepSeek."""

import json
import shutil
from urllib.parse import quote

import pytest
from playwright.sync_api import sync_playwright

from ..support.servers import Proxy, new_id
from ..support.waiting import PATIENCE, wait_for

#: Without windows it takes a third of the time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

LIBRARY = """async () => {
    const result = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    const db = await result(indexedDB.open("chatproxy"));
    const all = (name) => result(db.transaction(name).objectStore(name).getAll());
    const [chats, messages, drafts] = await Promise.all(["chats", "messages", "drafts"].map(all));
    db.close();
    return {chats, messages, drafts};
}"""


@pytest.fixture(scope="package")
def server(logs, deepseek):
    settings = {"CHATPROXY_NOTICE": "A simulation.", "TEST_RUNS": 1}
    with Proxy("gunicorn", deepseek.url, logs("page"), **settings) as proxy:
        yield proxy


@pytest.fixture(scope="package")  # while it is there, asyncio.run cannot be used
def playwright():
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def new_page(browser, server):
    """Opens pages, each in a browser profile of its own; at the end no console message is left."""
    contexts, messages = [], []

    def new_page(simulate=None, path="/", **options):
        # What moves is drawn sixty times a second, without a graphics card.
        options = {"reduced_motion": "reduce", **options}
        context = browser.new_context(base_url=server.url, **options)
        contexts.append(context)
        return Page(context.new_page(), messages, simulate, path)

    yield new_page
    for context in contexts:
        context.close()
    assert messages == []


@pytest.fixture
def page(new_page):
    return new_page()


class Page:
    """The chat page, as its user sees it.

    ``simulate`` chooses what the simulated DeepSeek does; its ``tag`` is added.
    """

    def __init__(self, page, messages, simulate, path):
        self.page = page
        self.tag = new_id()
        self.requests = []
        self.expected_messages = ()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda each: self._note(messages, each.type, each.text))
        page.on("pageerror", lambda error: messages.append(("pageerror", str(error))))
        page.on("request", self._record)
        simulation = json.dumps({"tag": self.tag, **(simulate or {"rate": 0})})
        page.goto(f"{path}?simulate={quote(simulation)}")
        self.box = page.get_by_role("textbox", name="Message")
        self.send_button = page.get_by_role("button", name="Send")
        self.stop_button = page.get_by_role("button", name="Stop AI")
        self.error_note = page.locator("[data-note=failed], [data-note=cut_off]")
        self.stopped_note = page.get_by_text("AI response stopped by user.")

    def _note(self, messages, kind, text):
        if not any(expected in text for expected in self.expected_messages):
            messages.append((kind, text))

    def _record(self, request):
        self.requests.append(request)

    def write(self, text):
        """By keys: what Playwright fills in at once, Firefox does not tell to the page."""
        self.box.select_text()
        self.box.press_sequentially(text)

    def ask(self, text="Hello"):
        asked = len(self.header_ids())
        self.write(text)
        # A click right after the button has changed counts as one on the other button.
        self.page.wait_for_timeout(400 if asked else 0)
        self.send_button.click()
        wait_for(lambda: len(self.header_ids()) == asked + 1)

    def choose(self, model):
        self.page.locator(".picker select").select_option(model)

    def text(self):
        return self.page.get_by_role("main").inner_text()

    def wait_for_text(self, text):
        self.page.get_by_text(text).first.wait_for()

    def wait_until_idle(self):
        self.send_button.wait_for()

    def requested(self):
        self.page.wait_for_timeout(1)  # lets Playwright hand over what has happened
        return self.requests

    def library(self):
        """What the browser keeps: chats, their messages, and files that are not sent yet."""
        return self.page.evaluate(LIBRARY)

    def header_ids(self):
        return [
            each.headers["x-session-id"]
            for each in self.requested()
            if "/chat/stream" in each.url and each.method == "POST"
        ]

    def cancelled_ids(self):
        return [each.url.rsplit("/", 1)[1] for each in self.requested() if "/cancel/" in each.url]


def assert_stopped(page, server, deepseek, *, asked=1, stops=1, overtaken=False):
    """A Stop: the calm page, the same id everywhere, and the connection to DeepSeek closed.

    It is the last of so many ``stops`` of the page's own, each of another answer.
    A Stop may have overtaken its start; then there never was a connection, nor perhaps a question.
    Or it came before the request was sent; then DeepSeek never heard of it.
    """
    page.stopped_note.first.wait_for()
    page.wait_until_idle()
    wait_for(lambda: page.stopped_note.count() == stops)
    assert page.error_note.count() == 0
    wait_for(lambda: page.page.evaluate("document.activeElement.tagName") == "TEXTAREA")
    ids = page.header_ids()
    assert len(set(page.cancelled_ids())) == stops
    stopped = page.cancelled_ids()[-1]
    wait_for(lambda: server.lines(f"Cancel request received for {stopped}"))
    if overtaken:
        assert set(ids) <= {stopped}
        assert server.lines(f"{stopped} ended") == []
        assert deepseek.entries(page.tag) == []
    else:
        assert (len(ids), ids[-1]) == (asked, stopped)
        [ended] = wait_for(lambda: server.lines(f"{stopped} ended outcome=stopped"))
        if "phase=connecting" not in ended:
            deepseek.gone(page.tag)
        for entry in deepseek.entries(page.tag):
            assert not entry["finished"]
            assert not entry["open"]
