"""The relays that are measured beside each other: what needs no more than the tests have.

The others are what ``python -m benchmarks.relays`` installs; here only what would be installed is
looked at.
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from benchmarks import native, relays
from benchmarks.processes import Cores, Group, reserved_port
from benchmarks.relays import __main__ as command
from tests.support.nginx import NGINX
from tests.support.servers import ROOT, new_id
from tests.support.waiting import wait_for

FOLDER = ROOT / "benchmarks" / "relays"

HERE = [
    "chatproxy",
    pytest.param("nginx", marks=pytest.mark.skipif(not NGINX, reason="nginx is not installed")),
]


@pytest.fixture(scope="module", params=HERE)
def name(request):
    """The relays that are here without being installed."""
    return request.param


@pytest.fixture(scope="module")
def relay(name, deepseek, tmp_path_factory):
    """A relay in front of the simulated DeepSeek."""
    found = relays.find(name)
    found.install()
    with found.start(deepseek.url, Cores.all_for_all(), tmp_path_factory.mktemp("relay")) as it:
        yield it


def begin(relay, **simulate):
    """Ask as the load does; the id, and the response once it has begun."""
    tag = new_id()
    body = json.loads(relay.body.replace(b"@SPEC@", b"rate=50 tokens=0").replace(b"@TAG@", b"t"))
    body["simulate"] = {"tag": tag, **simulate}
    headers = {name: value.replace("@TAG@", tag) for name, value in relay.headers.items()}
    url = f"http://127.0.0.1:{relay.port}{relay.path}"
    return tag, requests.post(url, json.dumps(body), headers=headers, stream=True, timeout=20)


def events(response):
    """The data of its events, as they come."""
    return (line[6:] for line in response.iter_lines(chunk_size=1) if line.startswith(b"data: "))


def test_a_whole_answer_goes_through(relay):
    _, response = begin(relay, tokens=20)
    *some, last = events(response)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert len(some) >= 20
    assert last == b"[DONE]"


def test_the_words_of_the_load_reach_the_native_upstream(name, tmp_path):
    cores, tag = Cores.all_for_all(), f"words_{time.monotonic_ns()}"
    with native.Upstream(tmp_path / "upstream.log", cores) as upstream:
        with relays.find(name).start(upstream.url, cores, tmp_path) as relay:
            asked = (relay.port, relay.path, relay.body, relay.headers)
            with native.Load(*asked, cancel_path=relay.cancel_path, cores=cores) as load:
                done = load.answers(3, 1, tag, "rate=500 tokens=5")
        assert (done.whole, done.events) == (3, 15), done.failures
        for number in (1, 2, 3):
            (entry,) = upstream.ledger(f"{tag}_{number}")
            assert entry.finished
            assert entry.events == 5


def test_an_event_goes_on_before_the_next_one_is_there(relay, deepseek):
    tag, response = begin(relay, rate=0.05)
    coming = events(response)
    assert b"chat.completion.chunk" in next(coming)
    assert deepseek.entry(tag)["open"]
    response.close()


def test_a_client_that_leaves_ends_the_answer(relay, deepseek):
    tag, response = begin(relay, rate=20, tokens=10_000)
    next(events(response))
    response.close()
    assert not deepseek.gone(tag)["finished"]


def test_its_stop_ends_the_answer(relay, deepseek):
    if relay.cancel_path is None:
        assert relay.path == "/v1/chat/completions"  # it speaks as DeepSeek does, who has no Stop
        return
    tag, response = begin(relay, rate=20, tokens=10_000)
    coming = events(response)
    next(coming)
    url = f"http://127.0.0.1:{relay.port}{relay.cancel_path.replace('@TAG@', tag)}"
    assert requests.post(url, timeout=20).ok
    assert not deepseek.gone(tag)["finished"]
    assert len(list(coming)) < 10_000


def test_cpu_and_memory_are_those_of_all_its_processes(relay):
    """In both, a master starts the worker that does all the work."""
    master = relay.server.process.pid
    assert len(relay.server.pids()) == 2
    assert master in relay.server.pids()
    before = relay.cpu()
    for _ in range(20):
        assert list(events(begin(relay, tokens=50, rate=100_000)[1]))
    assert relay.cpu() > before + 0.001
    shares = [share(pid) for pid in relay.server.pids()]
    assert relay.memory() == pytest.approx(sum(shares), rel=0.1)
    assert relay.memory() > max(shares)


def share(pid):
    """What a process holds of memory, in KB, by the other of the system's two accounts."""
    return sum(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines()
        if line.startswith("Pss:")
    )


def test_when_it_has_ended_nothing_is_left_of_it(deepseek, tmp_path):
    with relays.find("chatproxy").start(deepseek.url, Cores.all_for_all(), tmp_path) as relay:
        pids = relay.server.pids()
    wait_for(lambda: not any(map(lives, pids)), message="the end")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", relay.port), timeout=5)


def test_what_the_first_process_leaves_behind_is_ended_too(tmp_path):
    """As with a script that starts the server and is ended without passing that on."""
    with reserved_port() as port:
        server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
        script = f"import subprocess; subprocess.run({server})"
        log_path, cores = tmp_path / "log", Cores.all_for_all().proxy
        with Group([sys.executable, "-c", script], log_path, cores, port) as group:
            pids = group.pids()
        assert len(pids) == 2
        wait_for(lambda: not any(map(lives, pids)), message="the end of both")


def lives(pid):
    """Whether it runs; nobody may have asked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_reserved_port_is_there_for_a_server_and_for_nobody_who_takes_any():
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_what_can_not_be_had_is_said_and_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(relays, "program", lambda _name: None)
    monkeypatch.setattr(command, "ALL", [relays.find("nginx"), relays.find("chatproxy")])
    assert command.main() == 0
    nginx, chatproxy = capsys.readouterr().out.splitlines()
    assert nginx.split(maxsplit=1) == [
        "nginx",
        "not here: nginx is not installed (Debian's package nginx-light).",
    ]
    assert "gunicorn" in chatproxy


@pytest.mark.parametrize("main", ["fastapi", "litellm"])
def test_every_python_package_is_pinned_and_none_has_an_address(main):
    lines = (FOLDER / main / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert any(pin.startswith(f"{main}==") for pin in pins)
    for pin in pins:
        package, _, version = pin.partition("==")
        assert package
        assert version
        assert not {"/", " ", "@"} & set(pin)


def test_every_node_package_is_pinned_by_what_is_in_it_and_none_has_an_address():
    wanted = json.loads((FOLDER / "express" / "package.json").read_text())["dependencies"]
    packages = json.loads((FOLDER / "express" / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_an_earlier_commit_is_measured_as_it_was(tmp_path):
    """Not the code that is here, where the relays are started."""
    package = tmp_path / "chatproxy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("import sys\ndef main(): print(__file__, sys.argv[1])\n")
    started = [str(part) for part in relays.Earlier(tmp_path).launch(1, "", tmp_path).command]
    done = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(package / "cli.py"), "serve"], done.stderr
