"""An answer goes on after a reload, after a lost network, and in a second tab.

The words of these answers are numbered, so that none can be missing or come twice unseen.
"""

import contextlib
import json
import re
import socket
import threading

import pytest

from ..support.servers import Client, Proxy, chat, new_id
from ..support.waiting import wait_for
from .conftest import Page

WORDS = [f"word{number}" for number in range(1, 181)]
TEXT = " ".join(WORDS)
ANSWER = {"text": TEXT, "rate": 30}
THOUGHTFUL = {**ANSWER, "reasoning_tokens": 60}
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
    page.send_button.wait_for(timeout=30_000)
    assert shown(page) == WORDS
    wait_for(lambda: kept(page).get("state") == "finished")
    assert kept(page)["text"] == TEXT
    assert page.error_note.count() == 0
    assert page.stopped_note.count() == 0
    assert len(deepseek.entries(page.tag)) == 1


def watch_words(page):
    """Note from the first moment of each new document on how many words are shown."""
    page.page.add_init_script(
        """window.counts = [];
        new MutationObserver(() => {
            const answer = document.querySelector(".answer-text");
            const count = answer ? answer.textContent.split(/\\s+/).filter(Boolean).length : null;
            if (window.counts.at(-1) !== count) { window.counts.push(count); }
        }).observe(document, {subtree: true, childList: true, characterData: true});"""
    )


def watch_text(page):
    """Note in every tab, at each change and each frame, whenever the answer's text is not shown.

    What counts is the longest text that was there, before a reload too.
    """
    page.page.context.add_init_script(
        """window.missing = [];
        const watch = (when) => {
            const answer = document.querySelector(".answer-text");
            if (answer === null) { return; }
            const [there, shown] =
                [answer.textContent, answer.innerText].map((text) => text.trim().length);
            const most = Math.max(there, Number(sessionStorage.most ?? 0));
            if (shown < most) { window.missing.push({when, most, there, shown}); }
            sessionStorage.most = most;
        };
        const frame = () => { watch("frame"); requestAnimationFrame(frame); };
        frame();
        new MutationObserver(() => watch("change"))
            .observe(document, {subtree: true, childList: true, characterData: true});"""
    )
    page.page.reload()


def slow_down(page, times):
    """Have the page's own code run so many times slower."""
    devtools = page.page.context.new_cdp_session(page.page)
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": times})


def missing(page):
    page.page.wait_for_timeout(50)  # a few frames
    return page.page.evaluate("missing")


@pytest.mark.parametrize(
    ("simulate", "state"),
    [
        ({"rate": 0}, "finished"),
        ({"rate": 400}, "finished"),
        ({"rate": 0, "end": "eof", "end_after": 150}, "failed"),
        ({"rate": 0, "silence_after": 150}, "stopped"),
    ],
    ids=["all at once", "finished", "failed", "stopped"],
)
def test_the_text_never_gets_shorter_at_the_end(new_page, simulate, state):
    page = new_page({**ANSWER, **simulate})
    watch_text(page)
    slow_down(page, 6)
    page.ask()
    if state == "stopped":
        wait_for_word(page, 140)
        page.stop_button.click()
    page.page.locator(f"article[data-state={state}]").wait_for()
    assert missing(page) == []
    assert len(shown(page)) >= 140


def test_the_text_never_gets_shorter_at_a_reload_or_when_another_tab_stops_it(new_page, second_tab):
    page = new_page({"rate": 40, "tokens": 5000})
    watch_text(page)
    page.ask()
    wait_for(lambda: len(shown(page)) > 20)
    tab = second_tab(page)
    page.page.reload()
    tab.page.reload()
    for each in (page, tab):
        least = len(shown(each))
        wait_for(lambda each=each, least=least: len(shown(each)) > least)
    page.stop_button.click()
    page.wait_for_text("stopped in")  # else the reloaded page presses Stop again, and gets a 404
    for each in (page, tab):
        each.stopped_note.wait_for()
        each.page.reload()
        each.stopped_note.wait_for()
        assert missing(each) == []


def test_a_reload_in_mid_answer_goes_on_where_it_was(new_page, deepseek):
    page = new_page(ANSWER)
    watch_words(page)
    page.ask()
    wait_for_word(page, 40)
    page.page.reload()
    wait_for_word(page, 60)
    counts = [count for count in page.page.evaluate("counts") if count is not None]
    assert counts[0] >= 38  # at once, from the storage
    assert counts == sorted(counts)
    assert_whole(page, deepseek)
    assert len(questions(page)) == 1


def test_a_reload_while_it_thinks(new_page, deepseek):
    page = new_page(THOUGHTFUL)
    page.ask()
    page.wait_for_text(re.compile("Thinking…|Thought for"))
    wait_for(lambda: deepseek.entry(page.tag)["tokens"] > 15)
    page.page.reload()
    page.wait_for_text(re.compile("Thinking…|Thought for"))  # a busy machine opens it late
    assert_whole(page, deepseek)
    assert len(kept(page)["reasoning"].split()) == 60


def test_a_reload_before_anything_came(new_page, deepseek):
    page = new_page({**ANSWER, "rate": 200, "first_token_delay": 8})
    page.ask()
    wait_for(lambda: deepseek.entries(page.tag))
    page.page.reload()
    page.wait_for_text("Waiting for DeepSeek")
    assert_whole(page, deepseek)


def test_five_reloads_in_a_row(new_page, deepseek):
    page = new_page({**THOUGHTFUL, "rate": 15})
    page.ask()
    page.wait_for_text("Thinking…")
    for number in range(5):
        page.page.reload()
        page.stop_button.wait_for()
        if number > 2:
            wait_for_word(page, 15 * number)
    assert_whole(page, deepseek)
    assert len(kept(page)["reasoning"].split()) == 60
    assert len(reads(page)) <= 5  # fewer if the next reload came before the page had asked


def test_a_reload_after_the_end_asks_for_nothing(new_page, deepseek):
    page = new_page({**ANSWER, "rate": 0})
    page.ask()
    wait_for_word(page, len(WORDS))  # the button is there before it is pressed, too
    assert_whole(page, deepseek)
    page.page.reload()
    assert_whole(page, deepseek)
    assert reads(page) == []


def test_a_reload_at_the_very_end(new_page, deepseek):
    """The answer ends while there is no page; its end is still to be had."""
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 150)
    address = page.page.url
    page.page.goto("about:blank")
    wait_for(lambda: deepseek.entry(page.tag)["finished"])
    page.page.goto(address)
    assert_whole(page, deepseek)


def test_stop_after_a_reload(new_page, server, deepseek):
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 30)
    page.page.reload()
    wait_for_word(page, 40)
    page.stop_button.click()
    page.page.get_by_text("stopped in").wait_for()
    assert page.stopped_note.count() == 1
    assert page.error_note.count() == 0
    assert page.cancelled_ids() == [session_id(page)]
    assert server.closing_line(session_id(page)).count("outcome=stopped") == 1
    assert not deepseek.gone(page.tag)["finished"]
    words = shown(page)
    assert words == WORDS[: len(words)]
    page.page.reload()
    page.stopped_note.wait_for()
    assert shown(page) == words


def test_five_seconds_without_a_network(new_page, line, deepseek):
    page = new_page({**ANSWER, "rate": 20}, path=f"{line.url}/")
    page.expected_messages = OFFLINE
    page.ask()
    wait_for_word(page, 30)
    line.cut(page)
    page.wait_for_text("Reconnecting")
    page.page.wait_for_timeout(5000)
    assert page.stop_button.is_visible()
    assert len(shown(page)) < 100
    line.mend(page)
    wait_for_word(page, 120)
    assert_whole(page, deepseek)
    assert len(reads(page)) >= 1


def test_stop_without_a_network_is_told_once_it_is_back(new_page, line, server, deepseek):
    page = new_page({**ANSWER, "rate": 5}, path=f"{line.url}/")
    page.expected_messages = OFFLINE
    page.ask()
    wait_for_word(page, 5)
    line.cut(page)
    page.wait_for_text("Reconnecting")
    page.stop_button.click()
    page.stopped_note.wait_for()
    page.page.wait_for_timeout(3000)
    line.mend(page)
    page.page.get_by_text("stopped in").wait_for()
    assert page.stopped_note.count() == 1
    assert page.error_note.count() == 0
    assert not deepseek.gone(page.tag)["finished"]
    assert "outcome=stopped" in server.closing_line(session_id(page))


def test_a_stop_that_is_not_confirmed_says_so_and_is_pressed_again_after_a_reload(
    new_page, server, deepseek
):
    page = new_page({**ANSWER, "rate": 5})
    page.expected_messages = (*OFFLINE, "status of 404")
    page.ask()
    wait_for_word(page, 5)
    page.page.route("**/cancel/*", lambda route: route.abort())
    page.stop_button.click()
    page.stopped_note.wait_for()
    page.page.get_by_text("not confirmed yet").wait_for()
    assert page.error_note.count() == 0
    page.page.reload()
    page.page.unroute("**/cancel/*")
    # The page that goes tries once more, which can't be intercepted; then nothing is left to stop.
    page.page.get_by_text(re.compile("stopped in|had nothing to stop")).wait_for()
    assert page.stopped_note.count() == 1
    assert not deepseek.gone(page.tag)["finished"]
    assert "outcome=stopped" in server.closing_line(session_id(page))


def test_stop_after_the_network_was_away(new_page, line, deepseek):
    page = new_page(ANSWER, path=f"{line.url}/")
    page.expected_messages = OFFLINE
    page.ask()
    wait_for_word(page, 20)
    line.cut(page)
    page.wait_for_text("Reconnecting")
    line.mend(page)
    wait_for_word(page, 50)
    page.stop_button.click()
    page.page.get_by_text("stopped in").wait_for()
    assert page.stopped_note.count() == 1
    assert not deepseek.gone(page.tag)["finished"]


def test_a_second_tab_watches(new_page, second_tab, deepseek):
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 20)
    tab = second_tab(page)
    wait_for_word(tab, 60)
    assert_whole(page, deepseek)
    assert_whole(tab, deepseek)
    assert questions(tab) == []
    for each in (page, tab):
        each.page.reload()
        assert_whole(each, deepseek)


def test_a_tab_that_is_open_already_sees_a_new_chat(new_page, second_tab, deepseek):
    page = new_page(ANSWER)
    tab = second_tab(page)
    # It may ask for the answer before the server has been asked for it, and asks again.
    tab.expected_messages = ("status of 404",)
    page.ask("A new one")
    chats = tab.page.get_by_role("navigation", name="Chats")
    chats.get_by_role("link", name="A new one", exact=True).click()
    wait_for_word(tab, 30)
    assert_whole(page, deepseek)
    assert_whole(tab, deepseek)


@pytest.mark.parametrize("stopping", ["first", "second"])
def test_stop_works_from_either_tab(new_page, second_tab, server, deepseek, stopping):
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 20)
    tab = second_tab(page)
    wait_for_word(tab, 30)
    (page if stopping == "first" else tab).stop_button.click()
    for each in (page, tab):
        each.stopped_note.wait_for()
        each.wait_until_idle()
        assert each.stopped_note.count() == 1
        assert each.error_note.count() == 0
        words = shown(each)
        assert words == WORDS[: len(words)]
    assert len(page.cancelled_ids() + tab.cancelled_ids()) == 1
    assert not deepseek.gone(page.tag)["finished"]
    assert "outcome=stopped" in server.closing_line(session_id(page))


def test_the_first_tab_closes_and_the_second_reads_on(new_page, second_tab, deepseek):
    page = new_page(ANSWER)
    page.ask()
    wait_for_word(page, 20)
    tab = second_tab(page)
    wait_for_word(tab, 30)
    page.page.close()
    assert_whole(tab, deepseek)


def test_what_is_lost_is_said_in_one_sentence(new_page, deepseek):
    page = new_page(ANSWER)
    page.expected_messages = ("status of 404",)
    page.ask()
    wait_for_word(page, 30)
    refusal = {"status": 404, "json": {"error": "No.", "code": "not_found"}}
    page.page.route("**/api/chat/stream/*", lambda route: route.fulfill(**refusal))
    page.page.reload()
    page.wait_until_idle()
    count = wait_for(lambda: kept(page)["state"] == "cut_off" and len(kept(page)["text"]))
    (sentence,) = page.page.locator(".note p").all_inner_texts()
    assert f"the {count} characters above are all that came" in sentence
    assert page.page.get_by_role("button", name="Try again").count() == 1
    assert len(shown(page)) >= 28
    assert len(deepseek.entries(page.tag)) == 1


def test_a_server_that_stops_at_once_leaves_all_that_came(browser, start_proxy, deepseek):
    proxy = start_proxy("gunicorn", deepseek.url, CHATPROXY_NOTICE="A simulation.")
    messages = []
    with browser.new_context(base_url=proxy.url) as context:
        page = Page(context.new_page(), messages, ANSWER, "/")
        page.ask()
        wait_for_word(page, 40)
        page.page.goto("about:blank")
        made = deepseek.gone(page.tag)["tokens"]
        page.page.go_back()
        page.page.get_by_text("The page was closed or reloaded here").wait_for()
        page.wait_until_idle()
        words = shown(page)
        assert words == WORDS[: len(words)]
        assert 40 <= len(words) <= made
        assert page.page.locator(".note").count() == 1
        assert len(questions(page)) == 1
    assert messages == []


def test_an_answer_that_runs_elsewhere_can_be_stopped(browser, start_proxy, deepseek):
    token = "ann-0123456789abcdef"
    settings = {"CHATPROXY_NOTICE": "A simulation.", "CHATPROXY_TOKENS": f"ann:{token}"}
    proxy = start_proxy("gunicorn", deepseek.url, **settings)
    session_id = new_id()
    client = Client(proxy.port)
    body = json.dumps(chat(simulate={"rate": 20, "tokens": 5000, "tag": session_id}))
    client.send(
        f"POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"X-Session-Id: {session_id}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    client.read_until(b"amber")
    messages = []
    with browser.new_context(base_url=proxy.url) as context:
        page = Page(context.new_page(), messages, None, "/")
        page.page.get_by_label("Access token").fill(token)
        page.page.get_by_role("button", name="Continue").click()
        page.wait_for_text("You have an answer running elsewhere.")
        page.page.get_by_role("button", name="Stop it").click()
        page.page.get_by_text("You have an answer running elsewhere.").wait_for(state="hidden")
    assert messages == []
    assert not deepseek.gone(session_id)["finished"]
    assert "outcome=stopped" in proxy.closing_line(session_id)
