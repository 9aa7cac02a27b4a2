"""An answer goes on after a reload, after a lost network, and in a second tab.

The words of these answers are numbered, so that none can be missing or come twice unseen.
"""

import contextlib
import re
import socket
import threading

import pytest

from ..support import cluster
from ..support.servers import Proxy, new_id
from ..support.waiting import wait_for
from .conftest import Page
from .questions import chats_of

NUMBERED = [f"word{number}" for number in range(1, 251)]
WORDS = NUMBERED[:45]
ANSWER = {"text": " ".join(WORDS), "rate": 15}
#: It goes on until it is stopped, also if the machine is busy.
LONG = {"text": " ".join(NUMBERED), "rate": 20}
OFFLINE = ("net::ERR_",)


@pytest.fixture(scope="module")
def server(logs, deepseek):
    """One that lets an answer go on for a while without a reader."""
    settings = {"CHATPROXY_NOTICE": "A simulation.", "CHATPROXY_ON_DISCONNECT": 30}
    with Proxy("gunicorn", deepseek.url, logs("resume-page"), **settings) as proxy:
        yield proxy


@pytest.fixture
def second_tab():
    """Opens the page in another tab of the same browser."""
    messages = []

    def open_tab(page):
        tab = Page(page.page.context.new_page(), messages, None, "/")
        tab.tag = page.tag
        return tab

    yield open_tab
    assert messages == []


class Line:
    """A line to a server that can be cut, which Chromium's own offline mode does to no stream."""

    def __init__(self, port):
        self._far = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._up = True
        self._ends = []
        self._threads = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._begin(self._accept)

    def cut(self, page):
        self._up = False
        self._hang_up()
        page.page.context.set_offline(True)

    def mend(self, page):
        self._up = True
        page.page.context.set_offline(False)

    def close(self):
        self._up = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._hang_up()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _begin(self, *call):
        self._threads.append(threading.Thread(target=call[0], args=call[1:]))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                if not self._up:
                    near.shutdown(socket.SHUT_RDWR)
                    continue
                far = socket.create_connection(self._far)
                self._ends.append(far)
                self._begin(self._carry, near, far)
                self._begin(self._carry, far, near)

    def _hang_up(self):
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _carry(source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(server):
    line = Line(server.port)
    yield line
    line.close()


def shown(page):
    """The words of the answer that are on the page."""
    return page.page.locator(".answer-text").inner_text().split()


def kept(page):
    """The newest answer in the browser's storage."""
    answers = [each for each in page.library()["messages"] if each["role"] == "assistant"]
    return max(answers, key=lambda answer: answer["startedAt"], default={})


def questions(page):
    return [each for each in page.requests if each.method == "POST" and "/stream" in each.url]


def reads(page):
    return [each for each in page.requests if each.method == "GET" and "/stream/" in each.url]


def session_id(page):
    return questions(page)[0].headers["x-session-id"]


def wait_for_word(page, number):
    page.wait_for_text(f"word{number}")


def assert_whole(page, deepseek):
    """The whole answer, word for word, on the page and in the storage; asked for once."""
    page.page.locator("article[data-state=finished]").wait_for()
    assert shown(page) == WORDS
    wait_for(lambda: kept(page).get("state") == "finished")
    assert kept(page)["text"] == ANSWER["text"]
    assert page.error_note.count() == 0
    assert page.stopped_note.count() == 0
    assert len(deepseek.entries(page.tag)) == 1


def watch_text(page):
    """Note in every tab whenever the answer's text is not shown: at each change, and a frame later.

    What counts is the longest text that was there, before a reload too.
    """
    script = """window.missing = [];
        const watch = (when) => {
            const answer = document.querySelector(".answer-text");
            if (answer === null) { return; }
            const [there, shown] =
                [answer.textContent, answer.innerText].map((text) => text.trim().length);
            const most = Math.max(there, Number(sessionStorage.most ?? 0));
            if (shown < most) { window.missing.push({when, most, there, shown}); }
            sessionStorage.most = most;
        };
        const changed = () => {
            watch("change");
            requestAnimationFrame(() => watch("frame"));
        };
        new MutationObserver(changed)
            .observe(document, {subtree: true, childList: true, characterData: true});"""
    page.page.context.add_init_script(script)
    page.page.evaluate(script)


def slow_down(page, times):
    """Have the page's own code run so many times slower."""
    devtools = page.page.context.new_cdp_session(page.page)
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": times})


def missing(page):
    page.page.wait_for_timeout(50)  # a few frames
    return page.page.evaluate("missing")


def press_stop(page):
    """Press Stop; wait until its receipt is kept: else a reload of any tab would press it again."""
    page.stop_button.click()
    page.wait_for_text("stopped in")
    wait_for(lambda: [each for each in page.library()["messages"] if "receipt" in each])


def assert_stopped_calmly(page):
    """A part of the answer, and one sentence; the words that are there."""
    page.stopped_note.wait_for()
    page.wait_until_idle()
    assert page.stopped_note.count() == 1
    assert page.error_note.count() == 0
    words = shown(page)
    assert words == NUMBERED[: len(words)]
    return words


def assert_stopped_everywhere(page, server, deepseek):
    assert not deepseek.gone(page.tag)["finished"]
    assert server.closing_line(session_id(page)).count("outcome=stopped") == 1


@pytest.mark.parametrize(
    ("simulate", "state"),
    [
        ({"rate": 0}, "finished"),
        ({"rate": 400}, "finished"),
        ({"rate": 0, "end": "eof", "end_after": 40}, "failed"),
        ({"rate": 0, "silence_after": 40}, "stopped"),
    ],
    ids=["all at once", "finished", "failed", "stopped"],
)
def test_the_text_never_gets_shorter_at_the_end(new_page, simulate, state):
    page = new_page({**ANSWER, **simulate})
    watch_text(page)
    slow_down(page, 2)
    page.ask()
    if state == "stopped":
        wait_for_word(page, 35)
        page.stop_button.click()
    page.page.locator(f"article[data-state={state}]").wait_for()
    assert missing(page) == []
    assert len(shown(page)) >= 35


def test_after_a_reload_the_text_goes_on_where_it_was_until_a_stop(new_page, server, deepseek):
    page = new_page(LONG)
    watch_text(page)
    page.ask()
    wait_for_word(page, 15)
    page.page.reload()
    wait_for_word(page, 25)
    assert missing(page) == []  # what was there came back at once, from the storage
    press_stop(page)
    words = assert_stopped_calmly(page)
    assert page.cancelled_ids() == [session_id(page)]
    assert_stopped_everywhere(page, server, deepseek)
    page.page.reload()
    assert assert_stopped_calmly(page) == words


def test_a_reload_before_anything_came(new_page, deepseek):
    page = new_page({**ANSWER, "rate": 200, "first_token_delay": 5})
    page.ask()
    wait_for(lambda: deepseek.entries(page.tag))
    page.page.reload()
    page.wait_for_text("Waiting for DeepSeek")
    assert_whole(page, deepseek)


def test_five_reloads_in_a_row(new_page, deepseek):
    """The first ones while it thinks, the others in mid-text."""
    page = new_page({**ANSWER, "reasoning_tokens": 30})
    page.ask()
    page.wait_for_text("Thinking…")
    for number in range(5):
        page.page.reload()
        page.wait_for_text(re.compile("Thinking…|Thought for"))  # a busy machine opens it late
        if number > 2:
            wait_for_word(page, 10 * number)
    assert_whole(page, deepseek)
    assert len(kept(page)["reasoning"].split()) == 30
    assert len(questions(page)) == 1
    assert len(reads(page)) <= 5  # fewer if the next reload came before the page had asked


def test_an_answer_that_ends_while_there_is_no_page(new_page, deepseek):
    """Its end is still to be had; another reload asks for nothing."""
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 15)
    address = page.page.url
    page.page.goto("about:blank")
    wait_for(lambda: deepseek.entry(page.tag)["finished"])
    page.page.goto(address)
    assert_whole(page, deepseek)
    asked = len(reads(page))
    page.page.reload()
    assert_whole(page, deepseek)
    assert len(reads(page)) == asked


def test_what_comes_without_a_network_is_read_when_it_is_back(new_page, line, deepseek):
    page = new_page(ANSWER, path=f"{line.url}/")
    page.expected_messages = OFFLINE
    page.ask()
    wait_for_word(page, 5)
    line.cut(page)
    page.wait_for_text("Reconnecting")
    deepseek.entry(page.tag, lambda entry: entry["tokens"] >= 35)
    assert page.stop_button.is_visible()
    assert len(shown(page)) < 35
    line.mend(page)
    assert_whole(page, deepseek)
    assert len(reads(page)) >= 1


def test_stop_without_a_network_is_told_once_it_is_back(new_page, line, server, deepseek):
    """Also of an answer that goes on since the network was away before."""
    page = new_page({**LONG, "rate": 10}, path=f"{line.url}/")
    page.expected_messages = OFFLINE
    page.ask()
    wait_for_word(page, 5)
    line.cut(page)
    page.wait_for_text("Reconnecting")
    line.mend(page)
    wait_for_word(page, 12)
    line.cut(page)
    page.wait_for_text("Reconnecting")
    page.stop_button.click()
    assert_stopped_calmly(page)
    line.mend(page)
    page.wait_for_text("stopped in")
    assert_stopped_calmly(page)
    assert_stopped_everywhere(page, server, deepseek)


def test_a_stop_that_is_not_confirmed_says_so_and_is_pressed_again_after_a_reload(
    new_page, server, deepseek
):
    page = new_page({**LONG, "rate": 5})
    page.expected_messages = (*OFFLINE, "status of 404")
    page.ask()
    wait_for_word(page, 2)
    page.page.route("**/cancel/*", lambda route: route.abort())
    page.stop_button.click()
    page.wait_for_text("not confirmed yet")
    assert_stopped_calmly(page)
    page.page.reload()
    page.page.unroute("**/cancel/*")
    # The page that goes tries once more, which can't be intercepted; then nothing is left to stop.
    page.wait_for_text(re.compile("stopped in|had nothing to stop"))
    assert_stopped_calmly(page)
    assert_stopped_everywhere(page, server, deepseek)


def test_a_second_tab_watches(new_page, second_tab, deepseek):
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 10)
    tab = second_tab(page)
    wait_for_word(tab, 20)
    for each in (page, tab):
        assert_whole(each, deepseek)
        each.page.reload()
        assert_whole(each, deepseek)
    assert questions(tab) == []


def test_a_tab_that_is_open_already_sees_a_new_chat_and_outlives_the_other(
    new_page, second_tab, deepseek
):
    page = new_page(ANSWER)
    tab = second_tab(page)
    # It may ask for the answer before the server has been asked for it, and asks again.
    tab.expected_messages = ("status of 404",)
    page.ask("A new one")
    chats_of(tab).get_by_role("link", name="A new one", exact=True).click()
    wait_for_word(tab, 15)
    page.page.close()
    assert_whole(tab, deepseek)


@pytest.mark.parametrize("stopping", ["first", "second"])
def test_stop_works_from_either_tab(new_page, second_tab, server, deepseek, stopping):
    """The other one has been reloaded; and neither ever shows less than it did."""
    page = new_page(LONG)
    watch_text(page)
    page.ask()
    wait_for_word(page, 5)
    tab = second_tab(page)
    wait_for_word(tab, 10)
    stops, sees = (page, tab) if stopping == "first" else (tab, page)
    sees.page.reload()
    wait_for_word(sees, 20)
    press_stop(stops)
    for each in (page, tab):
        assert_stopped_calmly(each)
        each.page.reload()
        assert_stopped_calmly(each)
        assert missing(each) == []
    assert len(page.cancelled_ids() + tab.cancelled_ids()) == 1
    assert_stopped_everywhere(page, server, deepseek)


def test_what_is_lost_is_said_in_one_sentence(new_page, deepseek):
    page = new_page(LONG)
    page.expected_messages = ("status of 404",)
    page.ask()
    wait_for_word(page, 15)
    refusal = {"status": 404, "json": {"error": "No.", "code": "not_found"}}
    page.page.route("**/api/chat/stream/*", lambda route: route.fulfill(**refusal))
    page.page.reload()
    page.wait_until_idle()
    count = wait_for(lambda: kept(page)["state"] == "cut_off" and len(kept(page)["text"]))
    (sentence,) = page.page.locator(".note p").all_inner_texts()
    assert f"the {count} characters above are all that came" in sentence
    assert page.page.get_by_role("button", name="Try again").count() == 1
    assert len(shown(page)) >= 13
    assert len(deepseek.entries(page.tag)) == 1


def test_a_server_that_stops_at_once_leaves_all_that_came(browser, start_proxy, deepseek):
    proxy = start_proxy("gunicorn", deepseek.url, CHATPROXY_NOTICE="A simulation.")
    messages = []
    with browser.new_context(base_url=proxy.url) as context:
        page = Page(context.new_page(), messages, LONG, "/")
        page.ask()
        wait_for_word(page, 15)
        page.page.goto("about:blank")
        made = deepseek.gone(page.tag)["tokens"]
        page.page.go_back()
        page.page.get_by_text("The page was closed or reloaded here").wait_for()
        page.wait_until_idle()
        words = shown(page)
        assert words == NUMBERED[: len(words)]
        assert 15 <= len(words) <= made
        assert page.page.locator(".note").count() == 1
        assert len(questions(page)) == 1
    assert messages == []


def test_an_answer_that_runs_elsewhere_can_be_stopped(browser, start_proxy, deepseek):
    settings = {"CHATPROXY_NOTICE": "A simulation.", "CHATPROXY_TOKENS": cluster.tokens("ann")}
    proxy = start_proxy("gunicorn", deepseek.url, **settings)
    stream = cluster.Stream(cluster.Connection(proxy.port), new_id(), "ann")
    stream.post({"rate": 5, "tokens": 5000}).read_event()
    messages = []
    with browser.new_context(base_url=proxy.url) as context:
        page = Page(context.new_page(), messages, None, "/")
        page.page.get_by_label("Access token").fill(cluster.token_of("ann"))
        page.page.get_by_role("button", name="Continue").click()
        page.wait_for_text("You have an answer running elsewhere.")
        page.page.get_by_role("button", name="Stop it").click()
        page.page.get_by_text("You have an answer running elsewhere.").wait_for(state="hidden")
    assert messages == []
    assert not deepseek.gone(stream.id)["finished"]
    assert "outcome=stopped" in proxy.closing_line(stream.id)
