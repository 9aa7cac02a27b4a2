"""Applications never meet: what each is called, and what several have of each other."""

import contextlib
import gc
import json
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from chatproxy import ChatProxy, ConfigError, scopes
from chatproxy.cli import main

from .support import cluster
from .support.servers import COMMANDS, Process, chat, clean_environment, new_id
from .support.valkey import Valkey
from .support.waiting import wait_for, wait_for_garbage

# ---- what an application is called --------------------------------------------------------------


def make(import_name, name=None, **config):
    """An application with ChatProxy."""
    app = Flask(import_name)
    app.config.update(DEEPSEEK_BASE_URL="http://127.0.0.1:1", **config)
    ChatProxy(app, name=name)
    return app


def scope_of(app):
    return app.extensions["chatproxy"].scope


def test_an_application_has_the_name_that_it_was_given_or_its_own():
    assert scope_of(make("mine", "acme-7")) == "acme-7"
    assert scope_of(make("its.own")) == "its.own"
    assert scope_of(make("any", CHATPROXY_NAME="by-setting")) == "by-setting"
    assert scope_of(make("any", "by-code", CHATPROXY_NAME="by-setting-2")) == "by-code"


def test_a_name_that_no_application_can_have_is_changed_so_that_all_can_bear_it():
    assert scope_of(make("a b:ö#2")) == "a%20b%3A%C3%B6%232"


@pytest.mark.parametrize("name", ["", "a b", "a#2", "a:b", "../a", "-a", "x" * 65, "ä", "a\n", 7])
def test_a_name_that_could_be_taken_for_something_else_is_refused(name):
    with pytest.raises(ConfigError, match="1 to 64 characters"):
        ChatProxy(name=name)


def test_one_extension_with_a_name_serves_one_application():
    chat, apps = ChatProxy(name="of-one"), [Flask("a"), Flask("b")]
    for app in apps:
        app.config["DEEPSEEK_BASE_URL"] = "http://127.0.0.1:1"
    chat.init_app(apps[0])
    with pytest.raises(ConfigError, match="of-one"):
        chat.init_app(apps[1])


@pytest.fixture(scope="module")
def valkey():
    """A Valkey that the applications here have used for long."""
    with Valkey() as valkey:
        for scope in ("again-and-again", "acme", "globex"):
            valkey.settle(scope)
        yield valkey


@pytest.mark.parametrize("peers", ["local", "redis"])
def test_an_application_that_is_garbage_is_in_nobodys_way(peers, valkey):
    """A test suite makes the same one again and again, and uses it."""
    chosen = {"CHATPROXY_PEERS": valkey.url if peers == "redis" else ""}
    for _ in range(3):
        app = make("suite", "again-and-again", **chosen)
        client = app.test_client()
        assert client.post(f"/api/chat/cancel/{new_id()}").status_code == 404
        del app, client
    with valkey.client() as redis:
        members = "chatproxy:again-and-again:workers"
        wait_for_garbage(lambda: redis.zcard(members) == 0)


def test_further_applications_of_a_name_have_numbers_that_are_not_used_again(caplog):
    first, second = make("twins"), make("twins")
    assert [scope_of(first), scope_of(second)] == ["twins", "twins#2"]
    (warning,) = [each.getMessage() for each in caplog.records if "twins" in each.getMessage()]
    assert "name=" in warning
    del second
    gc.collect()
    assert scope_of(make("twins")) == "twins#3"
    assert caplog.text.count("twins") == 1


def test_of_two_applications_that_live_the_second_cannot_have_the_name_given_to_the_first():
    """Nor does it get that name because its own is the same."""
    given = make("other", "odd")
    assert scope_of(make("odd")) == "odd#2"
    with pytest.raises(ConfigError, match="called odd: give each a name of its own"):
        make("other", "odd")
    assert scope_of(given) == "odd"


def test_a_second_try_after_a_wrong_setting_gets_the_same_name():
    app = Flask("tried")
    app.config.update(DEEPSEEK_BASE_URL="http://127.0.0.1:1", CHATPROXY_PEERS="redis://a b")
    with pytest.raises(ConfigError):
        ChatProxy(app)
    app.config.update(CHATPROXY_PEERS="redis://localhost/not-a-database")
    for _ in range(2):
        with pytest.raises(ConfigError):
            ChatProxy(app)
    app.config.update(CHATPROXY_PEERS="local")
    ChatProxy(app)
    assert scope_of(app) == "tried"


# ---- two applications of one server -------------------------------------------------------------

#: What is logged of an application that no other worker can find.
NO_NAME = "was made during a request, and has no name"


class Tenant:
    """One of the two, as users reach it at each of three workers."""

    def __init__(self, prefix, workers):
        self.prefix = prefix
        self.workers = workers

    def _request(self, worker, method, path, session_id=None, body=None):
        connection = self.workers[worker].connect()
        headers = {"X-User": "ada", "Content-Type": "application/json"}
        if session_id:
            headers["X-Session-Id"] = session_id
        connection.request(method, self.prefix + path, body, headers)
        return connection.getresponse()

    def start(self, worker, session_id):
        fields = {"rate": 20, "tokens": 100_000, "tag": f"{self.prefix}{session_id}"}
        body = json.dumps(chat(simulate=fields))
        return self._request(worker, "POST", "/api/chat/stream", session_id, body)

    def stop(self, worker, session_id):
        answer = self._request(worker, "POST", f"/api/chat/cancel/{session_id}", body="")
        answer.read()
        return answer.status

    def read_again(self, worker, session_id):
        return self._request(worker, "GET", f"/api/chat/stream/{session_id}").status

    def is_ready(self, worker):
        return self._request(worker, "GET", "/readyz").status == 200

    def listed(self, worker):
        answer = self._request(worker, "GET", "/api/chat/sessions")
        return {each["sessionId"] for each in json.loads(answer.read())["sessions"]}

    def count(self, name):
        text = self._request(0, "GET", "/metrics").read().decode()
        families = text_string_to_metric_families(text)
        samples = [each for family in families for each in family.samples]
        return sum(each.value for each in samples if each.name == name)


class Site(NamedTuple):
    """A server with two applications."""

    server: Process
    run_dir: Path
    acme: Tenant
    globex: Tenant


@contextlib.contextmanager
def start_site(deepseek, logs, run_dir, workers, **settings):
    environment = clean_environment(
        DEEPSEEK_BASE_URL=deepseek.url,
        CHATPROXY_RUN_DIR=run_dir,
        CHATPROXY_MAX_SESSIONS_PER_OWNER=2,
        **settings,
    )
    command = [*COMMANDS["gunicorn"], "-w", str(workers), *cluster.OPTIONS]
    command.append("tests.support.tenants:app")
    with Process(command, logs("tenants"), environment, "gevent") as server:
        found = cluster.workers_of(server, workers)
        acme, globex = Tenant("", found), Tenant("/globex", found)
        for worker in range(workers):  # with TEST_LAZY, each makes them in another order
            for tenant in (globex, acme) if worker % 2 else (acme, globex):
                wait_for(partial(tenant.is_ready, worker))
        yield Site(server, run_dir, acme, globex)


@pytest.fixture(scope="module", params=["unnamed", "redis"])
def site(request, deepseek, logs, valkey, tmp_path_factory):
    """One of three workers; those that meet in Redis make named applications during requests."""
    settings = {}
    if request.param == "redis":
        settings = {"TEST_NAMED": "yes", "TEST_LAZY": "yes", "CHATPROXY_PEERS": valkey.url}
    run_dir = tmp_path_factory.mktemp("r") / "run"
    with start_site(deepseek, logs, run_dir, workers=3, **settings) as site:
        yield site


def test_two_applications_of_one_server_have_nothing_of_each_other(site, deepseek):
    acme, globex = site.acme, site.globex
    shared, own = new_id(), new_id()
    streams = [acme.start(0, shared), globex.start(1, shared), acme.start(1, own)]
    assert [stream.status for stream in streams] == [200, 200, 200]
    for worker in range(3):
        assert acme.listed(worker) == {shared, own}
        assert globex.listed(worker) == {shared}
        assert globex.read_again(worker, own) == 404
    live = "chatproxy_sessions_live"
    assert (acme.count(live), globex.count(live)) == (2, 1)
    assert globex.stop(2, own) == 404
    assert acme.start(2, new_id()).status == 429
    more = globex.start(2, new_id())  # ada has a place there
    assert more.status == 200
    assert acme.stop(2, shared) == 200
    assert deepseek.gone(shared)
    assert deepseek.entries(f"/globex{shared}")[-1]["peer_gone_at"] is None
    assert deepseek.entries(own)[-1]["peer_gone_at"] is None
    assert globex.stop(2, shared) == 200
    assert deepseek.gone(f"/globex{shared}")
    assert acme.stop(0, own) == 200
    early = new_id()
    assert globex.stop(0, early) == 404
    stream = acme.start(1, early)
    assert stream.status == 200
    assert acme.stop(2, early) == 200
    stopped = "chatproxy_stop_seconds_count"
    assert (acme.count(stopped), globex.count(stopped)) == (3, 1)


def test_without_names_tenants_that_are_made_during_requests_do_not_meet(deepseek, logs, tmp_path):
    """Not even two of one tenant: a Stop that misses is better than one that hits another's."""
    with start_site(deepseek, logs, tmp_path / "r", workers=2, TEST_LAZY="yes") as site:
        acme, globex = site.acme, site.globex
        session_id = new_id()
        stream = acme.start(0, session_id)
        assert stream.status == 200
        for worker in range(2):
            assert globex.listed(worker) == set()
            assert globex.read_again(worker, session_id) == 404
            assert globex.stop(worker, session_id) == 404
        assert acme.stop(1, session_id) == 404
        assert deepseek.entries(session_id)[-1]["peer_gone_at"] is None
        assert acme.stop(0, session_id) == 200
        assert deepseek.gone(session_id)
        assert acme.count("chatproxy_stop_seconds_count") == 1
        assert site.server.log().count(NO_NAME) == 2
        assert list((site.run_dir / "metrics").glob("*")) == []


def operate(*command):
    done = CliRunner().invoke(main, command)
    return done.exit_code, done.output


def test_operators_see_whose_an_answer_is_and_stop_the_one_that_they_mean(site, deepseek):
    """All workers agree what each is called."""
    session_id, run_dir = new_id(), str(site.run_dir)
    streams = [site.acme.start(0, session_id), site.globex.start(1, session_id)]
    assert [stream.status for stream in streams] == [200, 200]
    _, listed = operate("sessions", "--run-dir", run_dir)
    assert "APPLICATION" in listed
    names = sorted(re.findall(rf"{session_id} .* (\S+)\n", listed))
    module = "tests.support.tenants"
    assert names in (["acme", "globex"], [module, f"{module}#2"])
    status, refusal = operate("cancel", session_id, "--run-dir", run_dir)
    assert status == 1
    assert "Several applications have this id" in refusal
    assert "--application" in refusal
    chosen = ["--run-dir", run_dir, "--application", names[1]]
    status, receipt = operate("cancel", session_id, *chosen)
    assert (status, json.loads(receipt)["upstreamClosed"]) == (0, True)
    assert deepseek.gone(f"/globex{session_id}")
    assert deepseek.entries(session_id)[-1]["peer_gone_at"] is None
    # The one that has ended is still listed, and is not meant.
    status, receipt = operate("cancel", session_id, "--run-dir", run_dir)
    assert (status, json.loads(receipt)["upstreamClosed"]) == (0, True)
    assert deepseek.gone(session_id)
    assert NO_NAME not in site.server.log()
    assert len(list((site.run_dir / "metrics").glob("*"))) == 2


def test_what_is_known_of_applications_keeps_none_alive():
    name = scope_of(make("short-lived"))
    wait_for_garbage(lambda: name not in [scope_of(app) for app in scopes.applications()])


def test_an_application_that_could_not_be_set_up_is_none_of_the_process(monkeypatch):
    """A worker looks after those that there are, and must not fail for it."""
    monkeypatch.setattr("chatproxy.extension.find_spec", lambda _name: None)
    app = Flask("without redis")
    app.config["CHATPROXY_PEERS"] = "redis://127.0.0.1:1/0"
    app.config["DEEPSEEK_BASE_URL"] = "http://127.0.0.1:1"
    with pytest.raises(ConfigError):
        ChatProxy(app)
    assert app not in scopes.applications()
