"""Nothing that a person wrote or got is lost unasked, and all of it is found again."""

import json

import pytest

from ..support.waiting import wait_for
from .conftest import Page, violations


@pytest.fixture
def list_of():
    """The list of chats of a page."""
    return lambda page: page.page.get_by_role("navigation", name="Chats")


def shown(page):
    """The texts of the messages that are shown."""
    texts = page.page.locator(".bubble, .answer-text").all_inner_texts()
    return [" ".join(text.split()) for text in texts]


def payload(page, number=-1):
    asked = [each for each in page.requested() if "/chat/stream" in each.url and each.post_data]
    return json.loads(asked[number].post_data)


def contents(page, number=-1):
    return [(each["role"], each["content"]) for each in payload(page, number)["messages"]]


def button(page, name):
    return page.page.get_by_role("button", name=name)


def finish(page, text):
    page.ask(text)
    page.page.locator("article[data-state=finished]").last.wait_for()
    page.wait_until_idle()


def rename(page, chats, name, new_name):
    chats.get_by_role("link", name=name).hover()
    button(page, f"More for chat: {name}").click()
    button(page, "Rename").click()
    page.page.keyboard.type(new_name)
    page.page.keyboard.press("Enter")


def test_a_changed_prompt_and_another_answer_are_versions(new_page):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "First")
    button(page, "Regenerate").click()
    page.page.get_by_role("group", name="Version 2 of 2").wait_for()
    page.wait_until_idle()
    button(page, "Edit message").click()
    finish(page, "Second")
    assert contents(page) == [("user", "Second")]
    assert shown(page) == ["Second", "Yes."]
    button(page, "Previous version").click()
    page.page.locator(".bubble").get_by_text("First").wait_for()
    assert shown(page) == ["First", "Yes."]
    assert page.page.get_by_role("group", name="Version 2 of 2").count() == 1  # of the answer
    page.page.reload()
    page.page.get_by_role("group", name="Version 1 of 2").wait_for()
    assert shown(page) == ["First", "Yes."]
    page.ask("Third")  # where one is, not where the newest version is
    told = [("user", "First"), ("assistant", "Yes."), ("user", "Third")]
    wait_for(lambda: contents(page) == told)


def test_drafts_are_each_chat_s_own_and_outlive_a_reload(page, list_of):
    page.ask("One")
    page.wait_until_idle()
    page.box.fill("later")
    button(page, "New chat").click()
    assert page.box.input_value() == ""
    page.box.fill("something new")
    page.page.reload()
    assert page.box.input_value() == "something new"
    list_of(page).get_by_role("link", name="One").click()
    assert page.box.input_value() == "later"
    button(page, "Edit message").click()
    page.box.fill("One and a half")
    page.page.reload()
    assert page.box.input_value() == "One and a half"
    button(page, "Cancel").click()
    assert page.box.input_value() == "later"


def test_each_deletion_can_be_undone_also_after_a_reload(page, list_of):
    for name in ("One", "Two"):
        button(page, "New chat").click()
        page.ask(name)
        page.wait_until_idle()
    chats = list_of(page)
    for name in ("One", "Two"):
        chats.get_by_role("link", name=name).hover()
        button(page, f"Delete chat: {name}").click()
    chats.get_by_text("Chat deleted.").wait_for()
    wait_for(lambda: all(each.get("deletedAt") for each in page.library()["chats"]))
    page.page.reload()
    chats.get_by_text("Deleted (2)").click()
    button(page, "Restore chat: One").click()
    assert shown(page)[0] == "One"
    assert chats.get_by_role("link").all_inner_texts() == ["One"]
    button(page, "Delete all of them now").click()
    wait_for(lambda: [each["title"] for each in page.library()["chats"]] == ["One"])


def test_a_chat_has_an_address_that_reload_back_and_a_link_lead_to(page, list_of):
    page.ask("One")
    page.wait_until_idle()
    assert page.page.title() == "One"
    first = page.page.url
    button(page, "New chat").click()
    wait_for(lambda: page.page.title() == "New chat")
    page.ask("Two")
    page.wait_until_idle()
    second = page.page.url
    assert "#/chat/session_" in first
    assert "#/chat/session_" in second
    page.page.go_back()
    wait_for(lambda: shown(page)[:1] == ["One"])
    assert page.page.url == first
    page.page.reload()
    wait_for(lambda: shown(page)[:1] == ["One"])
    page.page.go_forward()
    wait_for(lambda: shown(page)[:1] == ["Two"])
    page.page.goto(f"{second}x")
    page.page.get_by_text("There is no chat at this address in this browser.").wait_for()
    assert list_of(page).get_by_role("link", name="One").get_attribute("href") in first


def test_a_finished_answer_is_told_to_who_is_elsewhere_and_wants_that(new_page):
    page = new_page({"rate": 40, "tokens": 40, "reasoning_tokens": 0})
    page.page.add_init_script(
        """window.told = [];
        window.Notification = class {
            static permission = "default";
            static async requestPermission() {
                Notification.permission = "granted";
                return "granted";
            }
            constructor(title, {body}) { told.push(`${title}: ${body}`); }
        };
        window.lookAway = (state) => {
            Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        };"""
    )
    page.page.reload()
    page.ask("First")
    page.page.evaluate("lookAway('hidden')")
    wait_for(lambda: page.page.title() == "✓ First")
    assert page.page.evaluate("told") == []  # nobody has asked for it
    page.page.evaluate("lookAway('visible')")
    assert page.page.title() == "First"
    page.page.get_by_text("Storage and files").click()
    page.page.get_by_role("switch", name="Notify me").click()
    page.page.wait_for_timeout(400)
    page.ask("Second")
    page.page.evaluate("lookAway('hidden')")
    wait_for(lambda: page.page.evaluate("told") == ["First: The answer is complete."])


def test_the_tab_s_title_tells_what_the_answer_does(new_page):
    page = new_page({"rate": 40, "tokens": 5000})
    page.ask("Long")
    wait_for(lambda: page.page.title() == "● Long")
    page.stop_button.click()
    wait_for(lambda: page.page.title() == "Long")


def test_all_chats_are_searched(new_page, list_of):
    page = new_page({"rate": 0, "text": "Das Café ist in Łódź. 我们明天去北京。"})
    page.ask("Where to?")
    page.wait_until_idle()
    button(page, "New chat").click()
    chats = list_of(page)
    for query in ("CAFE lodz", "北京"):
        page.page.get_by_role("searchbox", name="Search chats").fill(query)
        hit = chats.get_by_role("link").filter(has_text="Where to?")
        hit.get_by_text("Das").wait_for()
        assert chats.get_by_role("status").first.inner_text() == "1 hit"
    hit.click()
    wait_for(lambda: shown(page)[:1] == ["Where to?"])
    page.page.get_by_role("searchbox", name="Search chats").fill("nowhere")
    chats.get_by_text("Nothing found.").wait_for()


def test_a_chat_is_named_pinned_and_saved_and_taken_in_elsewhere(new_page, list_of, tmp_path):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "One")
    chats = list_of(page)
    rename(page, chats, "One", "My chat")
    chats.get_by_role("link", name="My chat").wait_for()
    button(page, "Pin").click()
    chats.get_by_role("link", name="Pinned My chat").wait_for()
    with page.page.expect_download() as markdown:
        button(page, "Save as Markdown").click()
    assert markdown.value.suggested_filename == "My chat.md"
    lines = markdown.value.path().read_text().split("\n\n")
    assert lines[:5] == ["# My chat", "## You", "One", "## DeepSeek", "Yes."]
    assert lines[5].startswith("*question 4, answer 1 token, ")
    with page.page.expect_download() as saved:
        button(page, "Save as JSON").click()
    saved.value.save_as(tmp_path / "chat.json")

    other = new_page()
    other.page.get_by_text("Storage and files").click()
    box = other.page.get_by_label("File with chats")
    box.set_input_files(tmp_path / "chat.json")
    other.page.get_by_text("Chats taken in: 1 new.").wait_for()
    list_of(other).get_by_role("link", name="My chat").click()
    wait_for(lambda: shown(other) == ["One", "Yes."])
    box.set_input_files(tmp_path / "chat.json")
    other.page.get_by_text("1 here already").wait_for()
    (tmp_path / "other.json").write_text('{"format": "chatproxy", "version": 1, "chats": [{}]}')
    box.set_input_files(tmp_path / "other.json")
    other.page.get_by_text("1 damaged and left out").wait_for()


def tell_prefix(route):
    """The upstream has prefix completion, the page is told."""
    response = route.fetch()
    route.fulfill(response=response, json={**response.json(), "prefix": True})


@pytest.mark.parametrize("prefix", [True, False], ids=["prefix", "question"])
def test_a_stopped_answer_can_go_on_and_the_page_says_how(new_page, prefix):
    page = new_page({"rate": 30, "tokens": 5000, "reasoning_tokens": 0})
    if prefix:
        page.page.route("**/page.json", tell_prefix)
        page.page.reload()
    page.ask("Begin")
    page.wait_for_text("birch")
    page.stop_button.click()
    page.wait_until_idle()
    begun = shown(page)[1]
    button(page, "Continue" if prefix else "Ask to continue").click()
    page.stop_button.wait_for()
    wait_for(lambda: len(page.header_ids()) == 2)
    if prefix:
        last = payload(page)["messages"][-1]
        assert (last["role"], last["prefix"]) == ("assistant", True)
        assert last["content"].split() == begun.split()
        wait_for(lambda: len(shown(page)[1]) > len(begun))
        assert shown(page)[1].startswith(begun)
        page.stop_button.click()
        page.page.get_by_text("continued from an earlier version").wait_for()
        assert page.page.get_by_role("group", name="Version 2 of 2").count() == 1
    else:
        assert contents(page)[-1] == ("user", "Continue.")
        assert shown(page)[2] == "Continue."
        page.stop_button.click()


def test_an_answer_can_be_changed_and_the_model_is_told_that(new_page):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "Sure?")
    button(page, "Edit answer").click()
    editor = page.page.get_by_role("textbox", name="Text of the answer")
    assert editor.input_value() == "Yes."
    editor.fill("No")
    page.page.reload()
    assert editor.input_value() == "No"
    page.page.get_by_role("button", name="Save", exact=True).click()
    page.page.get_by_text("edited by you").wait_for()
    page.page.get_by_role("group", name="Version 2 of 2").wait_for()
    finish(page, "Why?")
    assert contents(page) == [("user", "Sure?"), ("assistant", "No"), ("user", "Why?")]


def test_a_question_that_was_stopped_at_once_is_told_with_the_next(new_page):
    page = new_page({"never": "tokens"})
    page.ask("One thing")
    page.stop_button.click()
    page.wait_until_idle()
    page.ask("Another")
    assert contents(page) == [("user", "One thing\n\nAnother")]
    page.stop_button.click()
    page.wait_until_idle()


def test_what_one_tab_does_another_shows(new_page, list_of):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "One")
    tab = Page(page.page.context.new_page(), [], None, "/")
    wait_for(lambda: shown(tab) == ["One", "Yes."])
    finish(page, "Two")
    wait_for(lambda: shown(tab) == ["One", "Yes.", "Two", "Yes."])
    chats = list_of(page)
    rename(page, chats, "One", "My chat")
    list_of(tab).get_by_role("link", name="My chat").wait_for()
    button(page, "Delete chat: My chat").click()
    tab.wait_for_text("This chat is deleted.")
    assert shown(tab) == ["One", "Yes.", "Two", "Yes."]  # not taken from under one's eyes
    tab.page.get_by_role("main").get_by_role("button", name="Restore").click()
    chats.get_by_role("link", name="My chat").wait_for()


def test_axe_finds_no_violation_in_what_keeps(new_page, list_of):
    page = new_page({"rate": 0, "text": "Yes."})
    for name in ("One", "Two"):
        button(page, "New chat").click()
        finish(page, name)
    button(page, "Regenerate").click()
    page.page.get_by_role("group", name="Version 2 of 2").wait_for()
    chats = list_of(page)
    chats.get_by_role("link", name="One").hover()
    button(page, "Delete chat: One").click()
    chats.get_by_text("Deleted (1)").click()
    chats.get_by_text("Storage and files").click()
    chats.get_by_role("link", name="Two").hover()
    button(page, "More for chat: Two").click()
    assert violations(page.page) == []
    button(page, "Rename").click()
    button(page, "Edit answer").click()
    page.page.get_by_role("searchbox").fill("yes")
    chats.get_by_role("link").get_by_text("Yes").wait_for()
    assert violations(page.page) == []


def test_a_full_storage_is_said_and_all_can_be_saved(new_page):
    page = new_page(viewport={"width": 390, "height": 780})  # where the list is out of sight
    page.page.evaluate(
        """() => {
            const full = () => { throw new DOMException("full", "QuotaExceededError"); };
            IDBObjectStore.prototype.put = full;
        }"""
    )
    page.ask("Too much")
    page.wait_until_idle()
    page.page.get_by_role("alert").get_by_text("There is no room for more.").wait_for()
    with page.page.expect_download() as saved:
        button(page, "Save all chats to a file").click()
    assert "Too much" in saved.value.path().read_text()
    page.page.reload()  # the journal is a place of its own
    page.page.locator(".bubble").get_by_text("Too much").wait_for()


def test_without_indexeddb_the_page_works_and_says_so(new_page):
    page = new_page({"rate": 0, "text": "Yes."})
    page.page.add_init_script("Object.defineProperty(window, 'indexedDB', {value: undefined})")
    page.page.reload()
    page.page.get_by_text("This browser lets the page keep nothing.").wait_for()
    finish(page, "One")
    page.page.reload()
    wait_for(lambda: shown(page) == ["One", "Yes."])


def test_the_chats_of_an_earlier_version_are_taken_over(new_page, list_of):
    page = new_page()
    answer = {"role": "assistant", "id": "a1", "text": "Old answer", "state": "finished"}
    messages = [{"role": "user", "id": "u1", "text": "Old question"}, {**answer, "startedAt": 5}]
    chat = {"id": "old", "title": "Old", "updatedAt": 6, "messages": messages}
    page.page.evaluate("chat => localStorage.setItem('chatproxy.chat.old', chat)", json.dumps(chat))
    page.page.goto("/")
    page.page.reload()
    list_of(page).get_by_role("link", name="Old").click()
    wait_for(lambda: shown(page) == ["Old question", "Old answer"])
    assert page.page.evaluate("localStorage.getItem('chatproxy.chat.old')") is None


def test_a_thousand_chats_are_listed_and_searched(new_page, list_of):
    page = new_page()
    page.page.evaluate(MANY)
    page.page.reload()
    chats = list_of(page)
    chats.get_by_role("link", name="Chat 999").wait_for()
    page.page.get_by_role("searchbox").fill("345 needle")
    chats.get_by_role("link").filter(has_text="Chat 345").wait_for()


MANY = """async () => {
    const db = await new Promise((resolve) => {
        const request = indexedDB.open("chatproxy");
        request.onsuccess = () => resolve(request.result);
    });
    const tx = db.transaction(["chats", "messages"], "readwrite");
    for (let n = 0; n < 1000; n += 1) {
        const id = `c${n}`;
        tx.objectStore("chats").put({id, title: `Chat ${n}`, updatedAt: n, chosen: []});
        const text = `${"some words of an answer ".repeat(400)} needle ${n}`;
        tx.objectStore("messages").put(
            {chatId: id, id: `${id}u`, role: "user", parentId: null, at: n, text});
    }
    await new Promise((resolve) => { tx.oncomplete = resolve; });
    db.close();
}"""
