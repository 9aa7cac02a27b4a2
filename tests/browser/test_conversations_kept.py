"""Conversations that are kept on the server: two devices, two owners, a database that is away."""

import contextlib

import pytest

from ..support.servers import Proxy
from ..support.waiting import wait_for
from .conftest import Page
from .questions import chats_of, finish, shown

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"
LONG = {"rate": 20, "tokens": 5000}
KEPT = "/api/chat/conversations"


@pytest.fixture(scope="module")
def server(logs, deepseek, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    settings = {
        "CHATPROXY_NOTICE": "A simulation.",
        "CHATPROXY_TOKENS": f"ann:{ANN},bob:{BOB}",
        "CHATPROXY_RECORDS": f"sqlite:///{folder}/records.db",
        "CHATPROXY_CONVERSATIONS": "1",
    }
    with Proxy("gunicorn", deepseek.url, logs("conversations"), **settings) as proxy:
        yield proxy


@pytest.fixture
def new_device(browser, server):
    """Opens the page on another device, whose tab has a token, if that is to have one.

    At the end no console message is left.
    """
    messages = []
    with contextlib.ExitStack() as stack:

        def new_device(token=ANN, simulate=None):
            options = {"base_url": server.url, "reduced_motion": "reduce"}
            context = stack.enter_context(browser.new_context(**options))
            if token:
                context.add_init_script(f"sessionStorage['chatproxy.token'] = '{token}'")
            page = Page(context.new_page(), messages, simulate or {"rate": 0, "text": "Yes."}, "/")
            page.expected_messages = ("status of 4", "status of 503", "Failed to load resource")
            return page

        yield new_device
    assert messages == []


def enter(page, token):
    """The page begins again as its owner's."""
    with page.page.expect_navigation():
        page.page.get_by_label("Access token").fill(token)
        page.page.get_by_role("button", name="Continue").click()
    page.page.get_by_role("button", name="Forget token").wait_for()


def titles(page):
    return chats_of(page).get_by_role("link").all_inner_texts()


def sent(page, method="PUT"):
    """What the page has sent of conversations."""
    page.page.wait_for_timeout(1)
    return [each for each in page.requests if each.method == method and KEPT in each.url]


def opened_anew(page):
    page.page.reload()
    page.page.get_by_text("Yes.").wait_for()
    return shown(page)


def see(condition, *pages):
    """Have pages come into sight, which makes them send and fetch, until it is so."""

    def look():
        for page in pages:
            page.page.evaluate("dispatchEvent(new Event('focus'))")
        pages[-1].page.wait_for_timeout(250)
        return condition()

    wait_for(look)


def appears(text, *pages):
    """What the first page has to send is seen on the last one."""
    see(pages[-1].page.get_by_text(text).count, *pages)


def forget(page):
    with page.page.expect_navigation():
        page.page.get_by_role("button", name="Forget token").click()
    page.page.get_by_label("Access token").wait_for()


def test_a_chat_is_on_the_other_device_and_can_be_stopped_and_goes_on_there(new_device, deepseek):
    one, two = new_device(simulate=LONG), new_device()
    one.ask("Tell me all")
    one.wait_for_text("amber")
    appears("Tell me all", one, two)
    two.page.get_by_role("link", name="Tell me all").click()
    two.wait_for_text("amber")
    two.stop_button.click()
    two.stopped_note.wait_for()
    one.stopped_note.wait_for()
    deepseek.gone(one.tag)
    two.wait_until_idle()
    two.page.wait_for_timeout(400)  # a click right after a button has changed would be on the other
    finish(two, "Another one")
    appears("Another one", two, one)
    # One that is open shows what it had at the Stop, even if another device has read further.
    see(lambda: opened_anew(one) == opened_anew(two), one, two)
    assert (shown(one)[0], *shown(one)[2:]) == ("Tell me all", "Another one", "Yes.")
    # Deleted and restored: each is seen on the other one.
    one.page.get_by_role("link", name="Tell me all").hover()
    one.page.get_by_role("button", name="Delete chat: Tell me all").click()
    see(lambda: titles(two) == [], one, two)
    one.page.get_by_role("button", name="Undo").click()
    see(lambda: titles(two) == ["Tell me all"], one, two)


def test_what_is_written_without_the_server_is_sent_when_it_is_back(new_device):
    one, two = new_device(BOB), new_device(BOB)
    finish(one, "Both have this")
    appears("Both have this", one, two)
    two.page.get_by_role("link", name="Both have this").click()
    wait_for(lambda: shown(two) == ["Both have this", "Yes."])
    for page in (one, two):
        page.page.route(f"**{KEPT}**", lambda route: route.abort())
    finish(one, "Only one")
    finish(two, "Only two")
    for page in (one, two):
        page.page.unroute(f"**{KEPT}**")
    # Both are versions of what follows the first answer.
    for page in (one, two):
        see(page.page.get_by_role("group", name="Version 2 of 2").count, one, two)
    one.page.get_by_role("button", name="Previous version").click()
    assert "Only one" in one.text()


def test_another_owner_in_the_same_browser_sees_and_sends_nothing_of_it(new_device):
    page = new_device(None)
    enter(page, ANN)
    page.box.fill("A draft of Ann's")
    page.page.get_by_role("button", name="New chat").click()
    finish(page, "A secret of Ann's")
    see(lambda: sent(page), page)
    forget(page)
    assert "secret" not in page.text()
    assert titles(page) == []
    del page.requests[:]
    page.box.fill("Begun before the login")
    enter(page, BOB)
    wait_for(lambda: sent(page, "GET"))
    assert not [title for title in titles(page) if "Ann" in title]
    assert page.box.input_value() == "Begun before the login"
    assert not [each for each in page.requests if "secret" in (each.post_data or "")]
    forget(page)
    enter(page, ANN)
    appears("A secret of Ann's", page)


def test_a_full_server_is_told_and_a_login_that_has_changed_shows_the_page_of_the_other_owner(
    new_device,
):
    page = new_device()
    full = {"status": 507, "json": {"error": "No more.", "code": "conversations_full"}}

    def refuse(route):
        if route.request.method == "PUT":
            route.fulfill(**full)
        else:
            route.continue_()

    page.page.route(f"**{KEPT}/*", refuse)
    finish(page, "Another secret of Ann's")
    see(page.page.get_by_role("alert").get_by_text("The server has no room").count, page)
    page.page.get_by_role("button", name="Save all chats to a file").wait_for()

    other = {"status": 409, "json": {"error": "Another owner.", "code": "another_owner"}}
    page.page.route(f"**{KEPT}*", lambda route: route.fulfill(**other))
    told = {"conversations": {"owner": "b" * 32}}
    page.page.route("**/page.json?owner", lambda route: route.fulfill(json=told))
    with page.page.expect_navigation():
        page.page.evaluate("dispatchEvent(new Event('focus'))")
    page.box.wait_for()
    assert "secret" not in page.text()


SEED = """() => new Promise((resolve) => {
    indexedDB.open("chatproxy").onsuccess = ({target: {result: db}}) => {
        const tx = db.transaction(["chats", "messages"], "readwrite");
        tx.objectStore("chats").put({id: "old", title: "Old", updatedAt: 1, chosen: []});
        const prompt = {role: "user", id: "u", parentId: null, at: 1, text: "From before"};
        tx.objectStore("messages").put({chatId: "old", ...prompt});
        tx.oncomplete = () => resolve(db.close());
    };
})"""


def test_chats_from_before_become_an_owner_s_if_they_take_them(new_device):
    page = new_device(None)
    page.page.evaluate(SEED)
    page.page.evaluate("""localStorage["chatproxy.draft.old"] = '{"text": "Begun"}'""")
    enter(page, BOB)
    page.wait_for_text("This browser has 1 chat from before you said who you are.")
    assert "Old" not in titles(page)
    page.page.get_by_role("button", name="Add to mine").click()
    page.page.get_by_role("link", name="Old").click()
    page.wait_for_text("From before")
    assert page.box.input_value() == "Begun"
    page.box.fill("")
    see(lambda: [each for each in sent(page) if "From before" in each.post_data], page)
    forget(page)
    assert titles(page) == []
