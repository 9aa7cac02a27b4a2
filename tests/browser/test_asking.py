"""What goes with a question: the settings of its chat, files, saved prompts, and the keys."""

import re

from ..support.waiting import wait_for
from .questions import button, finish, payloads

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


LATIN = [b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
#: A font that is not in the PDF, and an encoding that every reader knows.
CHINESE = [
    b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /GBK-EUC-H"
    b" /DescendantFonts [6 0 R] >>",
    b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light"
    b" /CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >>"
    b" /FontDescriptor 7 0 R >>",
    b"<< /Type /FontDescriptor /FontName /STSong-Light /Flags 4 /Ascent 880 /Descent -120"
    b" /CapHeight 880 /ItalicAngle 0 /StemV 80 /FontBBox [0 -120 1000 880] >>",
]


def pdf_of(text, encoding="ascii", font=LATIN):
    """A PDF of one page with this text."""
    drawn = f"BT /F1 24 Tf 72 720 Td <{text.encode(encoding).hex()}> Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        *font,
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    head = b"xref\n0 %d\n0000000000 65535 f \n" % size
    tail = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, len(body))
    return body + head + table + tail


def attach(page, *files):
    """Choose files, each a name, a type and its bytes."""
    chosen = [{"name": n, "mimeType": t, "buffer": content} for n, t, content in files]
    page.page.locator("input[type=file]").set_input_files(chosen)


def kept_files(page):
    """The names of the files that are attached and not sent, as the browser keeps them."""
    return [each["name"] for draft in page.library()["drafts"] for each in draft["attachments"]]


def test_a_chat_asks_with_its_own_settings_and_keeps_them(page):
    def settings():
        button(page, "Settings").click()
        return page.page.get_by_role("dialog")

    dialog = settings()
    dialog.get_by_label("System prompt").fill("Be brief.")
    dialog.get_by_label("Temperature").fill("0,5")
    tokens = dialog.get_by_label("Longest answer")
    tokens.fill("100")
    tokens.fill("1000000")
    assert tokens.get_attribute("aria-invalid") == "true"
    dialog.get_by_label("Thinking effort").select_option("low")
    page.page.keyboard.press("Escape")
    finish(page, "Hello")
    (payload,) = payloads(page)
    assert payload["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert (payload["temperature"], payload["max_tokens"]) == (0.5, 100)
    assert payload["reasoning_effort"] == "low"
    page.page.reload()
    page.box.wait_for()
    dialog = settings()
    assert dialog.get_by_label("System prompt").input_value() == "Be brief."
    dialog.get_by_role("button", name="Use the defaults").click()
    assert dialog.get_by_label("System prompt").input_value() == ""
    dialog.get_by_role("button", name="Undo").click()
    assert dialog.get_by_label("System prompt").input_value() == "Be brief."
    page.page.keyboard.press("Escape")
    button(page, "New chat").click()
    finish(page, "Another")
    other = payloads(page)[-1]
    assert [message["role"] for message in other["messages"]] == ["user"]
    assert not {"temperature", "max_tokens", "reasoning_effort"} & set(other)


def test_files_go_with_a_question_and_outlive_a_reload_until_it_is_sent(page):
    attach(page, ("a.txt", "text/plain", "Grüße".encode()), ("b.txt", "text/plain", b"gone"))
    attached = page.page.get_by_role("list", name="Attached files")
    attached.get_by_text("b.txt").wait_for()
    button(page, "Remove file: b.txt").click()
    chinese = pdf_of("你好世界", "gbk", CHINESE)
    attach(
        page,
        ("c.pdf", "application/pdf", pdf_of("Words of a PDF")),
        ("d.pdf", "application/pdf", chinese),
    )
    button(page, "Remove file: d.pdf").wait_for()
    wait_for(lambda: kept_files(page) == ["a.txt", "c.pdf", "d.pdf"])
    page.page.reload()
    attached.get_by_text("a.txt").wait_for()
    assert attached.get_by_role("listitem").count() == 3
    finish(page, "What do they say?")
    ((message,),) = [each["messages"] for each in payloads(page)]
    file = "[file name]: a.txt\n[file content begin]\nGrüße\n[file content end]"
    for part in (file, "Words of a PDF", "你好世界"):
        assert part in message["content"]
    assert message["content"].endswith("What do they say?")
    assert "gone" not in message["content"]
    page.page.reload()
    sent = page.page.locator("article[data-role=user]")
    sent.get_by_text("a.txt").click()
    sent.get_by_text("Grüße").wait_for()
    assert button(page, "Remove file").count() == 0


DROP_AND_PASTE = """() => {
    const options = (name) => {
        const data = new DataTransfer();
        data.items.add(new File(["words"], name, {type: "text/plain"}));
        return {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
    };
    document.body.dispatchEvent(new DragEvent("drop", options("dropped.txt")));
    const box = document.querySelector("textarea");
    box.dispatchEvent(new ClipboardEvent("paste", options("pasted.txt")));
}"""


def test_files_are_chosen_dropped_anywhere_or_pasted_and_a_refusal_has_its_reason(page):
    """An image goes to a model that takes some, and to no other."""
    image = ("a.png", "image/png", PNG)
    attach(
        page,
        image,
        ("b.zip", "application/zip", b"PK\x03\x04\x00\x00"),
        ("c.txt", "text/plain", b"x" * (1 << 20)),
        ("d.pdf", "application/pdf", b"%PDF-1.4 and no more"),
    )
    for reason in ("takes no images", "only text, PDFs and images", "too large", "damaged"):
        page.page.get_by_role("alert").get_by_text(reason).wait_for()
    assert page.page.get_by_role("list", name="Attached files").count() == 0
    page.page.evaluate(DROP_AND_PASTE)
    for name in ("dropped.txt", "pasted.txt"):
        button(page, f"Remove file: {name}").click()
    wait_for(lambda: kept_files(page) == [])

    page.page.route("**/page.json", tell_of_vision)
    page.page.reload()
    attach(page, image)
    button(page, "Remove file: a.png").wait_for()
    finish(page, "What is it?")
    sent, text = payloads(page)[-1]["messages"][0]["content"]
    assert sent["type"] == "image_url"
    assert sent["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "What is it?"}
    page.page.get_by_role("img", name="a.png").wait_for()


def tell_of_vision(route):
    """The page is told that its model takes images."""
    settings = route.fetch().json()
    route.fulfill(json={**settings, "visionModels": [settings["model"]]})


def test_a_saved_prompt_is_put_where_the_text_is_written(page):
    page.box.fill("Translate into French: ")
    button(page, "Saved prompts").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Save", exact=True).click()
    dialog.get_by_role("button", name="Translate into French:", exact=False).first.wait_for()
    page.page.keyboard.press("Escape")
    page.page.reload()
    page.box.fill("")
    button(page, "Saved prompts").click()
    dialog.locator(".prompt-insert").click()
    wait_for(lambda: page.box.input_value() == "Translate into French: ")
    wait_for(lambda: page.page.evaluate("document.activeElement.tagName") == "TEXTAREA")
    button(page, "Saved prompts").click()
    dialog.get_by_role("button", name=re.compile("Delete prompt")).click()
    dialog.get_by_role("button", name="Undo").click()
    assert dialog.locator(".prompt-insert").count() == 1


def test_keys_open_the_help_and_escape_closes_it_without_a_stop(new_page):
    """And the thinking is open while it goes on, then folded unless it was touched."""
    page = new_page({"rate": 10, "reasoning_tokens": 20, "tokens": 50, "silence_after": 25})
    opened = page.page.locator("details.thinking[open]")
    page.ask()
    opened.wait_for()
    page.wait_for_text("Thought for")
    assert opened.count() == 0
    page.page.get_by_text("Thought for").click()
    opened.locator(".disclosed").wait_for()

    page.box.focus()
    page.page.keyboard.type("?")
    assert page.box.input_value() == "?"
    page.page.keyboard.press("Control+/")
    page.page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.page.keyboard.press("Escape")
    page.page.get_by_role("dialog").wait_for(state="detached")
    assert page.cancelled_ids() == []
    page.page.keyboard.press("Escape")
    page.stopped_note.wait_for()
    assert opened.locator(".disclosed").is_visible()
    page.page.keyboard.press("Control+Shift+O")
    page.page.get_by_role("heading", name="What would you like to know?").wait_for()
    page.page.keyboard.press("Control+k")
    assert page.page.get_by_role("searchbox").evaluate("(it) => it === document.activeElement")
