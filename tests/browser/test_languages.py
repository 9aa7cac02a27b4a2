"""The page in Chinese and in English, in the schemes that it has."""

import re

from ..support.waiting import wait_for
from .axe import violations
from .conftest import assert_stopped
from .questions import button, play

STOPPED = "用户已停止 AI 回答。"


def in_chinese(page):
    """The same page, whose user reads Chinese."""
    by_role = page.page.get_by_role
    page.box = by_role("textbox", name="消息")
    page.send_button = by_role("button", name="发送")
    page.stop_button = by_role("button", name="停止生成")
    page.stopped_note = page.page.get_by_text(STOPPED)
    return page


def language(page):
    return page.page.evaluate("document.documentElement.lang")


def test_who_reads_chinese_gets_a_chinese_page_and_can_stop_there(new_page, server, deepseek):
    """An error has the server's own words as a detail. Axe finds nothing in the dialogs, too."""
    page = new_page({"rate": 0, "tokens": 50, "silence_after": 25}, locale="zh-CN")
    in_chinese(page).box.wait_for()
    assert language(page) == "zh-CN"
    for name in ("设置", "键盘快捷键", "常用提示词"):
        button(page, name).click()
        page.page.get_by_role("dialog", name=name).wait_for()
        assert violations(page.page) == [], name
        page.page.keyboard.press("Escape")
    page.ask("你好")
    page.wait_for_text("yarrow")
    page.stop_button.click()
    assert_stopped(page, server, deepseek)
    assert page.page.get_by_text(re.compile("停止用时 .+毫秒.已收到 .+ 个数据块")).count() == 1
    latin = re.findall(r"[A-Za-z]{3,}", page.page.get_by_role("navigation").inner_text())
    assert latin == []

    page.expected_messages = ("Failed to load resource",)
    play(page, status=402)
    page.ask("你好")
    page.error_note.filter(has_text="余额已用完").wait_for()
    assert page.error_note.locator("[lang=en]").inner_text() != ""
    assert violations(page.page) == []


def test_language_and_scheme_can_be_chosen_and_are_kept(new_page):
    """The scheme is there before anything is painted."""
    page = new_page(color_scheme="light")
    page.box.wait_for()
    assert language(page) == "en"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(ground)
    button(page, "Settings").click()
    page.page.get_by_role("combobox", name="Colours").select_option("dark")
    wait_for(lambda: page.page.evaluate(ground) != light)
    dark = page.page.evaluate(ground)
    page.page.get_by_role("combobox", name="Language").select_option("zh-CN")
    page.page.get_by_role("dialog", name="设置").get_by_role("button", name="关闭").click()
    assert language(page) == "zh-CN"
    page.page.reload()
    in_chinese(page).box.wait_for()
    assert language(page) == "zh-CN"
    assert page.page.evaluate(ground) == dark
    blocking = """performance.getEntriesByType("resource").filter(
        (each) => /early/.test(each.name) && each.renderBlockingStatus === "blocking").length"""
    assert page.page.evaluate(blocking) == 1
    shown = "document.querySelector('meta[name=theme-color][media=all]').content"
    assert page.page.evaluate(shown) == "#17181b"
    button(page, "设置").click()
    page.page.get_by_role("combobox", name="语言").select_option("")
    page.page.get_by_role("dialog", name="Settings").wait_for()
    assert language(page) == "en"
