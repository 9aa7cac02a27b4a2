"""What the tests of the package share with those of the benchmarks."""

import contextlib
import gc
import itertools
import os
import sys
from pathlib import Path

import pytest
import trustme
from xdist.scheduler import LoadFileScheduling

from tests.support.servers import UNCOUNTED, Client, DeepSeek, Proxy

#: As an application's tests have it, whether the package is installed or not.
pytest_plugins = ["chatproxy.testing"]

# Nothing that the machine sets for chatproxy.
for _name in [each for each in os.environ if each.startswith(("CHATPROXY_", "DEEPSEEK_"))]:
    del os.environ[_name]
os.environ.update(UNCOUNTED)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    """Makes a new file for a process's log."""
    folder = tmp_path_factory.mktemp("logs")
    return lambda name: folder / f"{next(_numbers):03}-{name}.log"


@pytest.fixture(scope="session")
def deepseek(logs):
    """The simulated DeepSeek."""
    with DeepSeek(logs("deepseek")) as process:
        yield process


@pytest.fixture(scope="session")
def authority():
    """An authority for the certificates of the tests."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority, tmp_path_factory):
    """The certificate of that authority, as a file."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="session")
def deepseek_tls(authority, ca_file, logs, tmp_path_factory):
    """The simulated DeepSeek behind TLS."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    with DeepSeek(
        logs("deepseek-tls"), str(folder / "cert.pem"), str(folder / "key.pem"), ca_file
    ) as process:
        yield process


@pytest.fixture(scope="session")
def start_proxy(logs):
    """Starts servers that live until the end of the tests, one for each set of arguments."""
    running = {}

    def start(kind, upstream, **settings):
        key = (kind, upstream, *sorted(settings.items()))
        if key not in running:
            running[key] = Proxy(kind, upstream, logs(kind), **settings)
        return running[key]

    yield start
    for proxy in running.values():
        with proxy:
            pass


@pytest.fixture
def own_proxy(logs, deepseek):
    """Starts servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(kind="gunicorn", options=(), **settings):
            return stack.enter_context(Proxy(kind, deepseek.url, logs(kind), options, **settings))

        yield start


@pytest.fixture(scope="session", params=["gunicorn", "werkzeug"])
def kind(request):
    """The two ways to run: under gunicorn's gevent worker, and under plain threads."""
    return request.param


@pytest.fixture
def _close_races():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture(autouse=True)
def _close_clients():
    yield
    while Client.opened:
        Client.opened.pop().leave()


@pytest.fixture
def proxy(kind, start_proxy, deepseek):
    """chatproxy in front of the simulated DeepSeek."""
    return start_proxy(kind, deepseek.url)


#: The fixtures that start processes, or let a test start them.
PROCESSES = {"logs", "start", "server", "own_server", "postgresql"}


#: The files that take longest, in this order. They begin first: one of them alone at the end would
#: keep only a part of the machine busy.
LONGEST = (
    *("test_peers_redis", "test_endings", "test_readers", "test_benchmarks", "test_cancellations"),
    *("test_hostile_upstream", "test_faults_redis", "test_speed", "test_faults"),
    *("test_budgeted_caller", "test_resume", "test_gunicorn_worker", "test_records"),
    *("test_records_storm", "test_otlp", "test_clients", "test_shutdown", "test_misbehaviour"),
    *("test_usage", "test_run_dir_lost", "test_runs", "test_dead_path", "test_client_package"),
    *("test_nginx", "test_readiness_of_peers", "test_package", "test_conversations", "test_pool"),
    *("test_rotation", "test_storm"),
)
#: Those in a browser are done in two parts, this one and the rest, each from its beginning to its
#: end by one process: whoever runs another test in between has to start the browser anew.
IN_A_BROWSER_FIRST = {
    *("test_resume", "test_page_limits", "test_stop", "test_asking", "test_use_chat"),
    *("test_rendering", "test_languages"),
}


def pytest_collection_modifyitems(items):
    """What starts processes is slow, whether it says so or not, and so is what measures."""
    for item in items:
        if PROCESSES.intersection(item.fixturenames) or "benchmarks" in item.path.parts:
            item.add_marker("slow")


class ByFile(LoadFileScheduling):
    """Gives each process whole files, or a whole part of those in a browser."""

    def _split_scope(self, nodeid):
        file = Path(super()._split_scope(nodeid))
        return f"browser {part(file)}" if "browser" in file.parts else str(file)


def part(file):
    """Which part of the tests in a browser a file is in."""
    return 1 if file.stem in IN_A_BROWSER_FIRST else 2


def pytest_xdist_make_scheduler(config, log):
    """Decide which process runs which tests."""
    return ByFile(config, log)


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def pytest_begin_with_the_longest(items):
    """Have the files that take longest begin first."""

    def turn(item):
        if "browser" in item.path.parts:
            return -1, part(item.path)
        return (*LONGEST, item.path.stem).index(item.path.stem), 0

    items.sort(key=turn)


def pytest_collection_finish():
    """What has been collected stays, and much of it: no garbage collection looks at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI set, a skipped test is a failure."""
    report = (yield).get_result()
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
