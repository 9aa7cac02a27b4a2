"""The run directory of a running server is removed, filled, taken by somebody else: never a guess.

A live answer is found by a Stop on any other worker, or that Stop is an honest 503; and all mends
itself while the server runs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
import requests

from .support import cluster
from .support.cluster import begin
from .support.servers import COMMANDS, Process, Proxy, clean_environment, new_id
from .support.waiting import wait_for


@pytest.fixture(scope="module")
def started(deepseek, logs, tmp_path_factory):
    """A server of three workers in a named directory."""
    folder = tmp_path_factory.mktemp("r")
    settings = {"CHATPROXY_TOKENS": cluster.tokens("ada")}
    with cluster.start("gunicorn", deepseek, logs, folder, workers=3, **settings) as started:
        yield started


@pytest.fixture
def servers(started):
    """The same, mended from whatever the test before has done to it, with its present workers."""
    (proxy,) = started.proxies
    wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
    for worker in started.workers:
        worker.close()
    started.workers = cluster.workers_of(proxy, 3)
    for worker in started.workers:
        worker.connect()  # when it has begun
    return started


def ready(proxy):
    answer = requests.get(f"{proxy.url}/readyz", timeout=10)
    return answer.status_code, answer.json()


def all_say_so(proxy, worker, why):
    """The server is not ready, and says why; an answer is refused."""
    status, answer = ready(proxy)
    assert (status, answer["status"]) == (503, "unavailable")
    assert why in answer["reason"]
    refused = worker.start(new_id())
    assert (refused.status, b"peers_unavailable" in refused.read()) == (503, True)


def stop_without_a_guess(worker, session_id):
    """Press Stop until it is told what it asks for; a 404 would be a lie."""

    def stopped():
        status, body = worker.cancel(session_id)
        assert status in (200, 503)
        return status == 200 and body["upstreamClosed"]

    wait_for(stopped, message="a Stop")


def remove(run_dir):
    """Remove it at once: amid that, a worker would begin to make it again."""
    aside = run_dir.with_name(new_id())
    run_dir.rename(aside)
    shutil.rmtree(aside)


def put_a_file_in_place_of(run_dir):
    """A worker may make it again between two steps."""
    while not run_dir.is_file():
        remove(run_dir)
        with contextlib.suppress(FileExistsError):
            run_dir.touch(exist_ok=False)


def remove_sockets(run_dir):
    for path in run_dir.glob("*.sock"):
        path.unlink()


def remove_contents(run_dir):
    for path in run_dir.iterdir():
        path.unlink() if not path.is_dir() else shutil.rmtree(path)


@pytest.mark.parametrize("lose", [remove, remove_sockets, remove_contents])
def test_what_was_removed_is_made_again_and_no_stop_is_told_a_lie(servers, deepseek, lose):
    run_dir, workers = servers.run_dirs[0], servers.workers
    streams = [begin(worker) for worker in workers]
    early = new_id()
    assert workers[0].cancel(early)[0] == 404
    lose(run_dir)
    for number, stream in enumerate(streams):
        stop_without_a_guess(workers[number - 1], stream.id)
        assert deepseek.gone(stream.id)
    assert workers[1].start(early).status == 409  # its Stop came first
    wait_for(lambda: len(servers.sockets()) == 3, message="all sockets")
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in servers.run_dirs)
    assert ready(servers.proxies[0]) == (200, {"status": "ready"})


def test_the_metrics_go_on_as_those_of_all_workers_after_a_removal(servers):
    proxy, workers = servers.proxies[0], servers.workers
    streams = [begin(worker) for worker in workers]

    def live():
        text = requests.get(f"{proxy.url}/metrics", timeout=10).text
        return float(text.partition("\nchatproxy_sessions_live ")[2].split("\n")[0])

    wait_for(lambda: live() == 3)
    remove(servers.run_dirs[0])
    wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
    for worker in workers:  # whoever is asked for them, or counts, misses the file
        connection = worker.connect()
        connection.request("GET", "/metrics")
        connection.getresponse().read()
    wait_for(lambda: {live() for _ in range(8)} == {3}, message="the sum")
    for stream in streams:
        stream.leave()


def test_while_it_cannot_be_had_all_say_so_and_then_it_mends_itself(servers, deepseek):
    run_dir, (one, two, _) = servers.run_dirs[0], servers.workers
    mine, another = begin(one), begin(one)
    put_a_file_in_place_of(run_dir)
    all_say_so(servers.proxies[0], two, "run directory")
    assert two.cancel(another.id)[0] == 503
    assert one.cancel(mine.id)[0] == 200
    run_dir.unlink()
    wait_for(lambda: ready(servers.proxies[0])[0] == 200, message="readiness")
    stop_without_a_guess(two, another.id)
    assert deepseek.gone(another.id)
    assert begin(two)


def test_a_worker_that_begins_meanwhile_does_not_end_its_server(servers):
    """gunicorn gives up if a worker can't begin, and cuts off all that runs."""
    run_dir, (one, two, _) = servers.run_dirs[0], servers.workers
    stream, before = begin(one), set(cluster.children(servers.proxies[0]))
    put_a_file_in_place_of(run_dir)
    os.kill(two.pid, signal.SIGKILL)
    (begun,) = wait_for(lambda: set(cluster.children(servers.proxies[0])) - before)
    newcomer = cluster.Worker(servers.proxies[0], begun)
    all_say_so(servers.proxies[0], newcomer, "run directory")
    assert stream.read_event()
    run_dir.unlink()
    wait_for(lambda: ready(servers.proxies[0])[0] == 200, message="readiness")
    wait_for(lambda: newcomer.start(new_id(), tokens=1).status == 200, message="a new answer")
    assert one.cancel(stream.id)[0] == 200


def test_a_worker_that_was_frozen_over_it_gives_up_what_another_has_by_then(servers, deepseek):
    frozen, other, _ = servers.workers
    stream = begin(frozen)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        remove(servers.run_dirs[0])
        # Nobody can tell it from a dead one any more.
        wait_for(lambda: other.cancel(stream.id)[0] == 404, message="the end of its id")
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert deepseek.gone(stream.id)


@pytest.fixture
def small_disk(tmp_path_factory):
    """A file system with room for few files."""
    disk = tmp_path_factory.mktemp("d") / "disk"
    disk.mkdir()
    options = ["-o", "nr_inodes=40,mode=0700", "tmpfs", str(disk)]
    if subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_while_the_file_system_is_full_all_say_so_and_then_it_mends_itself(
    small_disk, deepseek, logs
):
    settings = {"CHATPROXY_TOKENS": cluster.tokens("ada"), "CHATPROXY_RUN_DIR": small_disk / "run"}
    with Proxy("gunicorn", deepseek.url, logs("full"), cluster.OPTIONS, **settings) as proxy:
        (worker,) = cluster.workers_of(proxy, 1)
        stream = begin(worker)
        fillers = []
        with contextlib.suppress(OSError):
            for number in range(100):
                fillers.append(small_disk / f"filler-{number}")
                fillers[-1].touch()
        all_say_so(proxy, worker, "No space left")
        assert worker.cancel(stream.id)[0] == 200
        for filler in fillers[:-1]:
            filler.unlink()
        assert ready(proxy) == (200, {"status": "ready"})
        assert begin(worker)


# ---- where none is named ------------------------------------------------------------------------


@pytest.fixture
def shared():
    """A directory that every user may write to, as /dev/shm."""
    folder = Path(tempfile.mkdtemp(prefix="s-"))
    folder.chmod(0o1777)
    yield folder
    # A worker that is about to end may still make something.
    wait_for(lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists())


def run_dirs(shared):
    return [path for path in shared.glob("chatproxy-*") if path.is_dir()]


def start_in(shared, deepseek, logs, *options, config=True):
    plain = ("-c", "python:tests.support.plain_worker_ports", "--keep-alive", "60")
    command = [*COMMANDS["gunicorn"], *options, *(cluster.OPTIONS if config else plain)]
    environment = clean_environment(
        DEEPSEEK_BASE_URL=deepseek.url,
        CHATPROXY_TOKENS=cluster.tokens("ada"),
        TMPDIR=shared,
    )
    return Process([*command, "tests.support.serving:app"], logs("shared"), environment, "gevent")


@pytest.mark.parametrize("config", [True, False])
def test_a_directory_that_another_user_has_in_its_place_is_passed_over(
    shared, deepseek, logs, config
):
    """What somebody removes, another may put there: a name is known once it has been seen.

    With our settings, the workers meet before the first request.
    """
    with start_in(shared, deepseek, logs, "--workers", "2", config=config) as server:
        if config:
            wait_for(lambda: len([*shared.glob("[!.]*/*.sock")]) == 2, message="all sockets")
        one, two = cluster.workers_of(server, 2)
        stream = begin(one)
        assert two.cancel(new_id())[0] == 404
        (run_dir,) = run_dirs(shared)
        assert len([*run_dir.glob("*.sock")]) == 2
        # Nobody could have made it before.
        assert run_dir.name.startswith(f"chatproxy-{os.geteuid()}-{server.process.pid}-")
        remove(run_dir)
        run_dir.mkdir(mode=0o777)
        if os.geteuid() == 0:
            os.chown(run_dir, 65534, 65534)
        stop_without_a_guess(two, stream.id)
        assert list(run_dir.iterdir()) == []
        assert len(run_dirs(shared)) == 2
        for client in (stream, begin(two)):
            client.leave()
        two.close()
        if config:
            assert server.stop() == 0
            assert set(run_dirs(shared)) <= {run_dir}, "nothing of its own"
