"""A run on the page: its steps as they happen, and what a Stop has ended."""

import json

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
    page = ask_a_run(new_page, {"rate": 200, "tokens": 400, "reasoning_tokens": 0})
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


def test_under_an_answer_stands_what_it_came_to(new_page):
    """Said by hand, as the server says it."""
    account = {
        "usage": {"prompt_tokens": 12, "completion_tokens": 163},
        "usageSource": "estimated",
        "cost": {"amount": 0.00021, "currency": "USD"},
        "savedAtMost": 7837,
    }
    page = new_page({"rate": 40, "tokens": 5000})

    def receipt(route):
        response = route.fetch()
        route.fulfill(response=response, body=json.dumps({**response.json(), **account}))

    page.page.route("**/cancel/**", receipt)
    page.ask()
    page.wait_for_text("amber")
    page.stop_button.click()
    page.wait_for_text("about 160 tokens came, at most 7,837 more were saved")
    page.wait_for_text("question about 12, answer about 160 tokens, about $0.00021")
