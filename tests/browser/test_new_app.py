"""The page of the application that ``chatproxy new app`` writes, from the login to the logout."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from chatproxy.cli import main

from ..support.servers import Process, clean_environment
from ..support.waiting import PATIENCE


class Server(Process):
    """``flask run``."""

    ready = re.compile(r"Running on (http://[\w.:]+)")


@pytest.fixture
def own_server(tmp_path, deepseek, logs):
    folder = tmp_path / "app"
    assert CliRunner().invoke(main, ["new", "app", str(folder)]).exit_code == 0
    settings = folder / "instance" / "settings.py"
    settings.write_text(settings.read_text().replace("http://127.0.0.1:8001", deepseek.url))
    flask = [sys.executable, "-m", "flask", "--app", str(folder / "app.py")]
    environment = clean_environment()
    command = [*flask, "add-user", "ann", "--password", "secret"]
    subprocess.run(command, env=environment, check=True, timeout=30)
    with Server([*flask, "run", "--port", "0"], logs("new-app"), environment) as server:
        yield server


def test_an_answer_is_stopped_and_kept(browser, own_server, deepseek):
    deepseek.clear()
    with browser.new_context(base_url=own_server.url) as context:
        page, errors = context.new_page(), []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        page.get_by_label("Message").fill("<b>Hello</b>")
        page.get_by_label("carefully").check()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Making a draft").wait_for()
        deepseek.entry(None, lambda entry: entry["tokens"] > 2)
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped after").wait_for()
        assert deepseek.gone(None)["tokens"] < 100
        page.get_by_label("carefully").uncheck()
        page.get_by_role("button", name="Send").click()
        page.locator("#answer", has_text="simulation").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Name").wait_for()
        deepseek.gone(None)
        assert errors == []
