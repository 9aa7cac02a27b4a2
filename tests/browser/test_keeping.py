"""Nothing that a person wrote or got is lost unasked, and all of it is found again."""

from ..support.waiting import wait_for
from .conftest import Page
from .questions import button, chats_of, contents, finish, payloads, play, shown, stop

#: Comes to rest with a text that has not ended.
UNENDED = {"rate": 0, "tokens": 100, "reasoning_tokens": 0, "silence_after": 5}


def test_a_changed_prompt_and_another_answer_are_versions(new_page):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "First")
    button(page, "Regenerate").click()
    page.page.get_by_role("group", name="Version 2 of 2").wait_for()
    page.wait_until_idle()
    assert shown(page) == ["First", "Yes."]
    button(page, "Edit message").click()
    assert page.box.input_value() == "First"
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
    assert contents(page) == [("user", "First"), ("assistant", "Yes."), ("user", "Third")]


def test_what_is_being_written_is_each_chat_s_own_and_outlives_a_reload(new_page):
    """An answer that is changed, too; the model is told that as its own."""
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "One")
    page.box.fill("later")
    button(page, "New chat").click()
    assert page.box.input_value() == ""
    page.box.fill("something new")
    page.page.reload()
    assert page.box.input_value() == "something new"
    chats_of(page).get_by_role("link", name="One").click()
    assert page.box.input_value() == "later"
    button(page, "Edit message").click()
    page.box.fill("One and a half")
    page.page.reload()
    assert page.box.input_value() == "One and a half"
    button(page, "Cancel").click()
    assert page.box.input_value() == "later"
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
    assert contents(page) == [("user", "One"), ("assistant", "No"), ("user", "Why?")]


def test_a_chat_has_an_address_and_comes_back_if_it_was_deleted(page):
    """Reload, back and a link lead to the address; a deletion can be undone after a reload."""
    finish(page, "One")
    assert page.page.title() == "One"
    first = page.page.url
    button(page, "New chat").click()
    wait_for(lambda: page.page.title() == "New chat")
    finish(page, "Two")
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
    chats = chats_of(page)
    assert chats.get_by_role("link", name="One").get_attribute("href") in first

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


def test_the_tab_tells_what_an_answer_does_and_a_note_that_it_is_there_to_who_wants_that(new_page):
    page = new_page(UNENDED)
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
    wait_for(lambda: page.page.title() == "● First")
    page.wait_for_text("amber")
    page.stop_button.click()
    wait_for(lambda: page.page.title() == "First")
    play(page, rate=0, text="Yes.")
    page.page.evaluate("lookAway('hidden')")
    page.ask("Second")
    wait_for(lambda: page.page.title() == "✓ First")
    assert page.page.evaluate("told") == []  # nobody has asked for it
    page.page.evaluate("lookAway('visible')")
    assert page.page.title() == "First"
    page.page.get_by_text("Storage and files").click()
    page.page.get_by_role("switch", name="Notify me").click()
    page.page.evaluate("lookAway('hidden')")
    page.ask("Third")
    wait_for(lambda: page.page.evaluate("told") == ["First: The answer is complete."])


def test_a_chat_is_pinned_and_saved_and_taken_in_elsewhere(new_page, tmp_path):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "One")
    chats = chats_of(page)
    chats.get_by_role("link", name="One").hover()
    button(page, "More for chat: One").click()
    button(page, "Pin").click()
    chats.get_by_role("link", name="Pinned One").wait_for()
    with page.page.expect_download() as markdown:
        button(page, "Save as Markdown").click()
    assert markdown.value.suggested_filename == "One.md"
    lines = markdown.value.path().read_text().split("\n\n")
    assert lines[:5] == ["# One", "## You", "One", "## DeepSeek", "Yes."]
    assert lines[5].startswith("*question 4, answer 1 token, ")
    with page.page.expect_download() as saved:
        button(page, "Save as JSON").click()
    saved.value.save_as(tmp_path / "chat.json")

    other = new_page()
    other.page.get_by_text("Storage and files").click()
    box = other.page.get_by_label("File with chats")
    box.set_input_files(tmp_path / "chat.json")
    other.page.get_by_text("Chats taken in: 1 new.").wait_for()
    chats_of(other).get_by_role("link", name="One").click()
    wait_for(lambda: shown(other) == ["One", "Yes."])
    box.set_input_files(tmp_path / "chat.json")
    other.page.get_by_text("1 here already").wait_for()


def test_what_is_stopped_goes_on_and_the_page_says_how(new_page):
    """A question without an answer is told with the next one."""
    page = new_page({"never": "tokens"})
    page.ask("One thing")
    page.wait_for_text("Waiting")
    stop(page)
    play(page, **UNENDED)
    page.ask("Begin")
    assert contents(page) == [("user", "One thing\n\nBegin")]
    page.wait_for_text("ember")
    stop(page)
    begun = "amber birch cloud delta ember"
    assert shown(page)[-1] == begun
    button(page, "Ask to continue").click()
    wait_for(lambda: shown(page)[-2:] == ["Continue.", begun])
    assert contents(page)[-2:] == [("assistant", f"{begun} "), ("user", "Continue.")]
    stop(page)

    page.page.route("**/page.json", tell_prefix)
    page.page.reload()
    button(page, "Continue").last.click()
    page.stop_button.wait_for()
    wait_for(lambda: shown(page)[-1] == f"{begun} {begun}")
    last = payloads(page)[-1]["messages"][-1]
    assert last == {"role": "assistant", "content": f"{begun} ", "prefix": True}
    stop(page)
    page.page.get_by_text("continued from an earlier version").wait_for()
    assert page.page.get_by_role("group", name="Version 2 of 2").count() == 1


def tell_prefix(route):
    """The upstream has prefix completion, the page is told."""
    response = route.fetch()
    route.fulfill(response=response, json={**response.json(), "prefix": True})


def test_what_one_tab_does_another_shows(new_page):
    page = new_page({"rate": 0, "text": "Yes."})
    finish(page, "One")
    tab = Page(page.page.context.new_page(), [], None, "/")
    wait_for(lambda: shown(tab) == ["One", "Yes."])
    finish(page, "Two")
    wait_for(lambda: shown(tab) == ["One", "Yes.", "Two", "Yes."])
    chats = chats_of(page)
    chats.get_by_role("link", name="One").hover()
    button(page, "More for chat: One").click()
    button(page, "Rename").click()
    page.page.keyboard.type("My chat")
    page.page.keyboard.press("Enter")
    chats_of(tab).get_by_role("link", name="My chat").wait_for()
    button(page, "Delete chat: My chat").click()
    tab.wait_for_text("This chat is deleted.")
    assert shown(tab) == ["One", "Yes.", "Two", "Yes."]  # not taken from under one's eyes
    tab.page.get_by_role("main").get_by_role("button", name="Restore").click()
    chats.get_by_role("link", name="My chat").wait_for()


def test_a_storage_that_is_full_or_not_there_is_said_and_nothing_is_lost(new_page):
    page = new_page(viewport={"width": 390, "height": 780})  # the list is out of sight
    play(page, rate=0, text="Yes.")
    page.page.evaluate(
        """() => {
            const full = () => { throw new DOMException("full", "QuotaExceededError"); };
            IDBObjectStore.prototype.put = full;
        }"""
    )
    finish(page, "Too much")
    page.page.get_by_role("alert").get_by_text("There is no room for more.").wait_for()
    with page.page.expect_download() as saved:
        button(page, "Save all chats to a file").click()
    assert "Too much" in saved.value.path().read_text()
    page.page.reload()  # the journal is a place of its own
    page.page.locator(".bubble").get_by_text("Too much").wait_for()

    page.page.add_init_script("Object.defineProperty(window, 'indexedDB', {value: undefined})")
    page.page.goto("/")
    page.page.get_by_text("This browser lets the page keep nothing.").wait_for()
    finish(page, "One")
    page.page.reload()
    wait_for(lambda: shown(page) == ["One", "Yes."])


def test_a_thousand_chats_are_listed_and_searched(page):
    page.page.evaluate(MANY)
    page.page.reload()
    chats, search = chats_of(page), page.page.get_by_role("searchbox", name="Search chats")
    chats.locator(".list-open-chat", has_text="Chat 999").wait_for()
    hit = chats.get_by_role("link").filter(has_text="Chat 345")
    for query, around in (("CAFE lodz", "Das"), ("北京", "Das"), ("345 needle", "needle")):
        search.fill(query)
        hit.get_by_text(around).wait_for()
        assert chats.get_by_role("status").first.inner_text() == "1 hit"
    hit.click()
    wait_for(lambda: "Das Café" in page.text())
    search.fill("nowhere")
    chats.get_by_text("Nothing found.").wait_for()


MANY = """async () => {
    const db = await new Promise((resolve) => {
        const request = indexedDB.open("chatproxy");
        request.onsuccess = () => resolve(request.result);
    });
    const tx = db.transaction(["chats", "messages"], "readwrite");
    for (let n = 0; n < 1000; n += 1) {
        const id = `c${n}`;
        tx.objectStore("chats").put({id, title: `Chat ${n}`, updatedAt: n, chosen: []});
        const words = n === 345 ? "Das Café ist in Łódź. 我们明天去北京。" : "words ".repeat(100);
        const text = `${words} needle ${n}`;
        tx.objectStore("messages").put(
            {chatId: id, id: `${id}u`, role: "user", parentId: null, at: n, text});
    }
    await new Promise((resolve) => { tx.oncomplete = resolve; });
    db.close();
}"""
