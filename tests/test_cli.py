"""The command line, and the ways in which people start a server, as they start it."""

import os
import re
import signal
import subprocess
import sys

import pytest
import requests
from click.testing import CliRunner

from chatproxy import cli
from chatproxy.cli import operators
from chatproxy.config import describe

from .support.another import Another
from .support.servers import (
    GUNICORN,
    ROOT,
    Client,
    Process,
    ask,
    clean_environment,
    events,
    new_id,
)
from .support.waiting import wait_for

CHATPROXY = [sys.executable, "-m", "chatproxy"]
WSGI = [*GUNICORN, "-k", "gevent", "wsgi:app"]


def run(*command, cwd=ROOT, **settings):
    """Run a command that ends by itself."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def stop_in_mid_answer(port):
    """Begin an answer, read a little, press Stop; return the id and the receipt."""
    session_id = new_id()
    client = Client(port).post_stream(session_id, simulate={"rate": 20, "tag": session_id})
    client.read_until(b"id: 3\n")
    url = f"http://127.0.0.1:{port}/api/chat/cancel/{session_id}"
    return session_id, requests.post(url, timeout=5).json()


def test_an_owner_is_one_cell_of_the_list_of_sessions(monkeypatch):
    """An application may take any text for one, such as a name that a user has chosen."""
    owner = {"owner": "ann\nforged  bob\x1b[2J", "application": "chatproxy", "runDir": "/r"}
    state = {"sessionId": "session_1", "outcome": None, "phase": "waiting", "events": 0}
    found = [
        {**owner, **state, "ageSeconds": 1.0},
        {**owner, **state, "owner": "b", "ageSeconds": 1},
    ]
    monkeypatch.setattr(operators, "sessions", lambda _run_dir: found)
    listed = CliRunner().invoke(cli.main, ["sessions"]).output
    assert [line.split()[0] for line in listed.splitlines()] == [
        "SESSION",
        "session_1",
        "session_1",
    ]
    refused = CliRunner().invoke(cli.main, ["cancel", "session_1"]).output
    assert "Several owners have this id: ann forged  bob [2J, b. Choose one" in refused
    assert (listed + refused).replace("\n", "").isprintable()


def test_the_demo_is_a_server_with_a_simulation_behind_it(logs, tmp_path):
    """One command; Ctrl-C ends both of its processes without a traceback. It reaches nothing that
    the environment names for a real server."""
    environment = clean_environment(
        CHATPROXY_UPSTREAMS=tmp_path / "upstreams.toml",
        CHATPROXY_RECORDS=f"sqlite:///{tmp_path}/records.db",
        CHATPROXY_RUN_DIR=tmp_path / "run",
        CHATPROXY_PEERS="redis://127.0.0.1:9",
    )
    command = [*CHATPROXY, "demo", "--bind", "127.0.0.1:0"]
    with Process(command, logs("demo"), environment) as demo:
        wait_for(lambda: "Ctrl-C ends both" in demo.log())
        upstream = re.search(r"simulated DeepSeek at (\S+)", demo.log())[1]
        session_id, receipt = stop_in_mid_answer(demo.port)
        assert receipt["upstreamClosed"] is True
        entry = requests.get(f"{upstream}/ledger", params={"tag": session_id}, timeout=5).json()
        assert entry["requests"][0]["peer_gone_how"] == "closed"
        os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does
        assert demo.process.wait(20) == 0
        assert "Traceback" not in demo.log()
        with pytest.raises(requests.ConnectionError):
            requests.get(upstream, timeout=5)
    assert list(tmp_path.iterdir()) == []


def test_serve_runs_one_gevent_worker(logs, deepseek_tls, ca_file):
    """From nothing, in front of a DeepSeek behind TLS; a setting that it does not know is no more
    than a warning."""
    command = [*CHATPROXY, "serve", "--bind", "127.0.0.1:0"]
    environment = clean_environment(
        DEEPSEEK_BASE_URL=deepseek_tls.url,
        REQUESTS_CA_BUNDLE=ca_file,
        CHATPROXY_SERVICE_HOST="10.0.0.1",
        CHATPROXY_PORT="tcp://10.0.0.1:80",
    )
    with Process(command, logs("serve"), environment) as server:
        assert events(ask(server, simulate={"rate": 0}).content)[-1]["data"] == "[DONE]"
        assert "Using worker: gevent" in server.log()
        assert "CHATPROXY_SERVICE_HOST is not a setting" in server.log()
        assert server.stop(signal.SIGINT) == 0
        assert "Traceback" not in server.log()


def test_gunicorn_serves_wsgi_app(logs, deepseek):
    environment = clean_environment(DEEPSEEK_BASE_URL=deepseek.url)
    with Process(WSGI, logs("wsgi"), environment) as server:
        assert events(ask(server, simulate={"rate": 0}).content)[-1]["data"] == "[DONE]"
        assert requests.get(f"{server.url}/healthz", timeout=5).json() == {"status": "ok"}
        assert requests.get(f"{server.url}/readyz", timeout=5).json() == {"status": "ready"}


@pytest.fixture
def application(tmp_path):
    """Writes an application of a few lines, as the module ``myapp``; gives where it is found."""

    def application(*lines):
        imports = ("from flask import Flask", "from chatproxy import ChatProxy")
        text = "\n".join([*imports, "app = Flask(__name__)", *lines, "ChatProxy(app)"])
        (tmp_path / "myapp.py").write_text(text)
        return f"{tmp_path}:{ROOT}"

    return application


def test_an_application_of_three_lines(logs, deepseek, application, tmp_path):
    environment = clean_environment(DEEPSEEK_BASE_URL=deepseek.url, PYTHONPATH=application())
    command = [*GUNICORN, "-k", "gevent", "--chdir", str(tmp_path), "myapp:app"]
    with Process(command, logs("three-lines"), environment) as server:
        session_id, receipt = stop_in_mid_answer(server.port)
        assert receipt["upstreamClosed"] is True
        deepseek.gone(session_id)


@pytest.mark.parametrize(
    ("command", "settings", "status", "sentence"),
    [
        ([*CHATPROXY, "serve"], {}, 1, "DEEPSEEK_API_KEY is not set"),
        (WSGI, {"DEEPSEEK_API_KEY": "sk-1", "CHATPROXY_HEARTBEAT": "x"}, 1, "CHATPROXY_HEARTBEAT"),
        (WSGI, {"DEEPSEEK_API_KEY": "sk-1", "CHATPROXY_RUN_DIR": "/usr"}, 1, "CHATPROXY_RUN_DIR"),
        # Without our settings for gunicorn, it is the worker that finds out.
        ([*WSGI, "-c", os.devnull], {}, 4, "DEEPSEEK_API_KEY is not set"),
    ],
    ids=["serve", "wsgi", "run directory", "worker"],
)
def test_a_wrong_setting_stops_the_start_with_one_sentence(command, settings, status, sentence):
    result = run(*command, **settings)
    assert result.returncode == status
    assert result.stderr.count(f"chatproxy: {sentence}") == 1
    assert "Traceback" not in result.stderr
    assert "sk-1" not in result.stderr


def test_a_key_in_the_config_of_an_application_is_enough(logs, application):
    keyed = application("app.config['DEEPSEEK_API_KEY'] = 'sk-1'", "app.get('/')(lambda: 'fine')")
    command = [*GUNICORN, "-c", "python:chatproxy.gunicorn_config", "myapp:app"]
    with Process(command, logs("keyed"), clean_environment(PYTHONPATH=keyed)) as server:
        assert requests.get(server.url, timeout=5).text == "fine"


@pytest.mark.parametrize("command", [[], ["serve"], ["simulate"], ["demo"]])
def test_help(command):
    result = CliRunner().invoke(cli.main, [*command, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    if command == ["serve"]:
        for name, _, _ in describe():
            assert name in result.output


def test_a_port_that_is_taken_is_one_sentence(deepseek):
    port = deepseek.url.rsplit(":", 1)[1]
    result = run(*CHATPROXY, "simulate", "--port", port)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: cannot listen on 127.0.0.1:")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("serve", "gunicorn", "server"),
        ("demo", "gunicorn", "server"),
        ("demo", "h11", "simulate"),
        ("simulate", "h11", "simulate"),
    ],
)
def test_a_command_whose_package_is_not_installed_says_how_to_install_it(
    command, package, extra, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(cli.main, [command])
    assert result.exit_code == 1
    assert result.stderr == f"Error: this needs {package}: pip install 'chatproxy[{extra}]'\n"


def test_help_needs_none_of_them():
    hidden = "import sys; sys.modules['gunicorn'] = sys.modules['h11'] = None"
    assert Another(f"{hidden}; from chatproxy.cli import main; main(['--help'])").rest()
