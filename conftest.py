"""What the tests of the package share with those of the benchmarks."""

import contextlib
import itertools
import os
import sys

import pytest
import trustme

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
#: keep only a part of the machine busy. Those that mostly wait take turns with those in a browser,
#: which mostly compute.
LONGEST = (
    *("test_faults_redis", "test_resume", "test_peers_redis", "test_connections", "test_faults"),
    *("test_page_limits", "test_package", "test_front_ends", "test_cancellations", "test_keeping"),
    *("test_gunicorn_worker", "test_firefox", "test_scopes", "test_chat", "test_peers"),
    *(
        "test_asking",
        "test_records_storm",
        "test_storm",
        "test_benchmarks",
        "test_rotation",
        "test_stop",
    ),
    *("test_retention", "test_readers", "test_tokens", "test_upstreams_served", "test_runs"),
    *("test_languages", "test_hostile_upstream", "test_rendering", "test_speed"),
    *("test_misbehaviour", "test_use_chat", "test_client_package", "test_deployment"),
    *("test_servers", "test_nginx", "test_run_dir_lost", "test_simulated", "test_testing"),
    "test_examples",
)


def pytest_collection_modifyitems(items):
    """What starts processes is slow, whether it says so or not, and so is what measures."""
    for item in items:
        if PROCESSES.intersection(item.fixturenames) or "benchmarks" in item.path.parts:
            item.add_marker("slow")


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def pytest_begin_with_the_longest(items):
    """Have the files that take longest begin first."""
    items.sort(key=lambda item: (*LONGEST, item.path.stem).index(item.path.stem))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI set, a skipped test is a failure."""
    report = (yield).get_result()
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
