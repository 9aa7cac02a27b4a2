"""Two applications of one origin, each with its page, and nothing of the other on it."""

from urllib.parse import urlsplit

import pytest

from ..support.servers import COMMANDS, Process, clean_environment
from .questions import chats_of

LONG = {"rate": 40, "tokens": 5000}
QUESTION = "A question for one of them"


@pytest.fixture(scope="module")
def server(logs, deepseek):
    """In place of the one with one application: the second is below ``/globex``."""
    environment = clean_environment(
        DEEPSEEK_BASE_URL=deepseek.url, CHATPROXY_NOTICE="A simulation.", TEST_NAMED="yes"
    )
    command = [*COMMANDS["gunicorn"], "tests.support.tenants:app"]
    with Process(command, logs("mounts"), environment, "gevent") as server:
        yield server


@pytest.mark.parametrize(("path", "other"), [("/globex", "/"), ("/", "/globex/")])
def test_a_page_asks_and_shows_its_own_application_alone(new_page, path, other):
    page = new_page(LONG, path, extra_http_headers={"X-User": "ann"})
    page.ask(QUESTION)
    page.wait_for_text("amber")
    page.stop_button.click()
    page.page.get_by_text("stopped in").wait_for()
    page.page.reload()
    chats_of(page).get_by_text(QUESTION).wait_for()
    paths = {urlsplit(each.url).path for each in page.requested()}
    assert len(paths) > 5
    assert all(each.startswith("/globex") == (path == "/globex") for each in paths), paths

    page.page.goto(other)
    page.box.wait_for()
    assert page.page.get_by_text(QUESTION).count() == 0
