"""The page in Chinese and in English, in the schemes that it has."""

import json
import re

import pytest

from ..support.waiting import wait_for
from .conftest import assert_stopped, violations

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
    page = in_chinese(new_page({"rate": 40, "tokens": 5000}, locale="zh-CN"))
    page.box.wait_for()
    assert language(page) == "zh-CN"
    page.ask("你好")
    page.wait_for_text("yarrow")
    page.stop_button.click()
    assert_stopped(page, server, deepseek)
    assert page.page.get_by_text(re.compile("停止用时 .+毫秒.已收到 .+ 个数据块")).count() == 1
    latin = re.findall(r"[A-Za-z]{3,}", page.page.get_by_role("navigation").inner_text())
    assert latin == []
    assert violations(page.page) == []


def test_an_error_is_told_in_chinese_with_the_server_s_words_as_a_detail(new_page):
    page = in_chinese(new_page({"status": 402}, locale="zh-CN"))
    page.expected_messages = ("Failed to load resource",)
    page.ask("你好")
    page.error_note.filter(has_text="余额已用完").wait_for()
    assert page.error_note.locator("[lang=en]").inner_text() != ""


def test_the_language_can_be_chosen_and_is_kept(new_page):
    page = new_page({"rate": 0})
    page.box.wait_for()
    assert language(page) == "en"
    page.page.get_by_role("button", name="Settings").click()
    page.page.get_by_role("combobox", name="Language").select_option("zh-CN")
    page.page.get_by_role("dialog", name="设置").get_by_role("button", name="关闭").click()
    assert language(page) == "zh-CN"
    page.page.reload()
    in_chinese(page).box.wait_for()
    assert language(page) == "zh-CN"
    page.page.get_by_role("button", name="设置").click()
    page.page.get_by_role("combobox", name="语言").select_option("")
    page.page.get_by_role("dialog", name="Settings").wait_for()
    assert language(page) == "en"


def test_the_scheme_can_be_chosen_and_is_there_before_anything_is_painted(new_page):
    page = new_page({"rate": 0}, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(ground)
    page.page.get_by_role("button", name="Settings").click()
    page.page.get_by_role("combobox", name="Colours").select_option("dark")
    wait_for(lambda: page.page.evaluate(ground) != light)
    dark = page.page.evaluate(ground)
    page.page.reload()
    page.box.wait_for()
    assert page.page.evaluate(ground) == dark
    blocking = """performance.getEntriesByType("resource").filter(
        (each) => /early/.test(each.name) && each.renderBlockingStatus === "blocking").length"""
    assert page.page.evaluate(blocking) == 1
    shown = "document.querySelector('meta[name=theme-color][media=all]').content"
    assert page.page.evaluate(shown) == "#17181b"


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_axe_finds_no_violation_in_any_dialog(new_page, locale):
    page = new_page({"rate": 0}, locale=locale)
    names = {
        "en": ["Settings", "Keyboard shortcuts", "Saved prompts"],
        "zh-CN": ["设置", "键盘快捷键", "常用提示词"],
    }
    for name in names[locale]:
        page.page.get_by_role("button", name=name).click()
        page.page.get_by_role("dialog", name=name).wait_for()
        assert violations(page.page) == [], name
        page.page.keyboard.press("Escape")
        page.page.get_by_role("dialog").wait_for(state="detached")


def test_it_can_be_installed(new_page, server):
    page = new_page({"rate": 0})
    address = page.page.locator("link[rel=manifest]").get_attribute("href")
    told = page.page.request.get(address)
    manifest = json.loads(told.text())
    assert "json" in told.headers["content-type"]
    assert (manifest["start_url"], manifest["display"]) == ("/", "standalone")
    for icon in manifest["icons"]:
        response = page.page.request.get(icon["src"])
        assert response.status == 200
        assert response.headers["content-type"].startswith(icon["type"])
    client = page.page.context.new_cdp_session(page.page)
    assert client.send("Page.getAppManifest")["errors"] == []
