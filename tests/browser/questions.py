"""What the page asks, what it gets, and what it shows of both."""

import json


def play(page, **scenario):
    """What the simulated DeepSeek does from now on, without another load of the page."""

    def add(route):
        route.continue_(
            post_data=json.dumps({**route.request.post_data_json, "simulate": scenario})
        )

    page.page.route("**/api/chat/stream", add)


def finish(page, text="Hello"):
    """Ask, and have the whole answer."""
    page.ask(text)
    page.page.locator("article[data-state=finished]").last.wait_for()
    page.wait_until_idle()


def stop(page):
    page.stop_button.click()
    page.wait_until_idle()


def payloads(page):
    """What the page has sent to the stream route."""
    return [json.loads(each.post_data) for each in page.requested() if "/chat/stream" in each.url]


def contents(page):
    """Who said what in the newest question."""
    return [(each["role"], each["content"]) for each in payloads(page)[-1]["messages"]]


def shown(page):
    """The texts of the messages that are shown."""
    texts = page.page.locator(".bubble, .answer-text").all_inner_texts()
    return [" ".join(text.split()) for text in texts]


def button(page, name):
    return page.page.get_by_role("button", name=name)


def chats_of(page):
    """The list of chats."""
    return page.page.get_by_role("navigation", name="Chats")
