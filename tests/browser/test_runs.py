"""A run on the page: its steps as they happen, and what a Stop has ended."""

import re

STEPS = ".steps > li"


def steps(page):
    """The name and the state of each."""
    return [
        (each.locator(".step-name").inner_text(), each.get_attribute("data-step"))
        for each in page.page.locator(STEPS).all()
    ]


def ask_a_run(new_page, simulate):
    page = new_page(simulate)
    page.choose("run:research")
    page.ask()
    return page


def test_the_page_asks_a_run_and_shows_its_steps_and_folds_them_by_keys(new_page):
    page = ask_a_run(new_page, {"rate": 200, "tokens": 100, "reasoning_tokens": 0})
    page.wait_until_idle()
    summary = page.page.locator(".run > summary")
    assert page.page.locator(".steps").count() == 0  # folded as the answer began
    assert summary.inner_text() == "4 steps"
    summary.press("Enter")
    page.page.locator(".steps").wait_for()
    assert steps(page) == [(name, "finished") for name in ("plan", "source", "weather", "answer")]
    page.page.locator("[data-kind=tool] summary").press("Enter")
    assert "degrees" in page.page.locator(".step-text").last.inner_text()
    page.page.reload()
    summary.click()
    page.page.locator(".steps").wait_for()
    assert len(steps(page)) == 4  # they are kept


def test_a_stop_names_what_it_has_ended(new_page):
    page = ask_a_run(new_page, {"never": "tokens"})
    page.page.get_by_text("Working: weather and answer").wait_for()
    page.stop_button.click()
    page.wait_for_text("stopped with it: weather and answer")
    page.page.locator(".run > summary").click()
    page.page.locator(".steps").wait_for()
    assert [state for _, state in steps(page)] == ["finished", "finished", "stopped", "stopped"]


def test_under_an_answer_stands_what_it_came_to_and_after_a_stop_what_that_saved(new_page):
    page = new_page({"rate": 0, "tokens": 50, "reasoning_tokens": 0})
    page.ask()
    page.wait_until_idle()
    page.page.get_by_text(re.compile(r"^question \d+, answer 50 tokens, \D*0\.0")).wait_for()
    page = new_page({"rate": 40, "tokens": 5000})
    page.page.get_by_role("button", name="Settings").click()
    page.page.get_by_label("Longest answer").fill("8000")
    page.page.keyboard.press("Escape")
    page.ask()
    page.wait_for_text("amber")
    page.stop_button.click()
    page.page.get_by_text(re.compile(r"tokens came, at most 7,9\d\d more were saved")).wait_for()
