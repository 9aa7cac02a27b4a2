"""Conversations that are kept on the server: whose they are, their revisions, bounds, bad input."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import text

from chatproxy import ChatProxy, ConfigError, create_app
from chatproxy.cli import main
from chatproxy.errors import DatabaseUnavailable
from chatproxy.records import asking
from chatproxy.records import conversations as module
from chatproxy.records.database import Database
from chatproxy.records.schema import conversations

from .support.postgresql import PostgreSQL
from .support.servers import new_id
from .support.waiting import wait_for

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"
PATH = "/api/chat/conversations"
NEW = {"If-None-Match": "*"}


@pytest.fixture
def sqlite(tmp_path):
    return f"sqlite:///{tmp_path}/records.db"


def make_app(url, **settings):
    return create_app(
        {
            "DEEPSEEK_BASE_URL": "http://127.0.0.1:1",
            "CHATPROXY_TOKENS": f"ann:{ANN},bob:{BOB}",
            "CHATPROXY_NAME": new_id(),
            "CHATPROXY_RECORDS": url,
            "CHATPROXY_CONVERSATIONS": "1",
            **settings,
        }
    )


class User:
    """A device of somebody's."""

    def __init__(self, app, token=ANN):
        self._client = app.test_client()
        self._token = {"Authorization": f"Bearer {token}"}

    def ask(self, method, path="", headers=(), **options):
        headers = {**self._token, **dict(headers)}
        response = self._client.open(PATH + path, method=method, headers=headers, **options)
        return response.status_code, response.json

    def put(self, id="c1", seen=0, content="Hello", **fields):
        headers = {"If-Match": f'"{seen}"'} if seen else NEW
        body = {"title": "A chat", "updatedAt": 1000, "content": content, **fields}
        return self.ask("PUT", f"/{id}", headers, json=body)

    def kept(self, id="c1", **fields):
        """Put what has to be kept; the revision."""
        status, told = self.put(id, **fields)
        assert status == 200, told
        return told["revision"]

    def get(self, id="c1"):
        return self.ask("GET", f"/{id}")

    def delete(self, id="c1", seen=0):
        return self.ask("DELETE", f"/{id}", {"If-Match": f'"{seen}"'})

    def listed(self, after=0):
        status, told = self.ask("GET", f"?after={after}")
        assert status == 200, told
        return told


@pytest.fixture
def app(database_url):
    return make_app(database_url)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """An application that keeps nothing of what these tests send it."""
    return make_app(f"sqlite:///{tmp_path_factory.mktemp('guarded')}/records.db")


@pytest.fixture
def ann(app):
    return User(app)


@pytest.fixture
def bob(app):
    return User(app, BOB)


def test_what_one_device_writes_another_one_reads_as_it_was(app, ann):
    content = {"messages": [{"text": "\0 \ud83d 你好 \U0001f600"}], "number": 1e300}
    revision = ann.kept(content=content, title="\0\ud83d你好", pinned=True)
    head = {"id": "c1", "revision": revision, "pinned": True, "updatedAt": 1000}
    head["title"] = "\0\ud83d你好"
    device = User(app)
    assert device.get() == (200, {**head, "bytes": device.get()[1]["bytes"], "content": content})
    [listed] = device.listed()["conversations"]
    assert {**listed, "bytes": 0} == {**head, "bytes": 0}


def test_an_owner_s_conversations_are_nobody_else_s_nor_another_application_s(
    database_url, ann, bob
):
    revision = ann.kept()
    other = User(make_app(database_url))
    assert other.get()[0] == 404
    assert other.listed()["conversations"] == []
    assert bob.get()[0] == 404
    assert bob.delete(seen=revision)[0] == 404
    assert bob.put(seen=revision)[0] == 412
    assert bob.listed()["conversations"] == []
    assert bob.listed()["owner"] != ann.listed()["owner"]
    bob.kept(content="Bob's")
    assert ann.get()[1]["content"] == "Hello"
    assert ann.listed(after=revision)["conversations"] == []


def test_nobody_overwrites_or_deletes_what_they_have_not_seen(ann):
    first = ann.kept()
    second = ann.kept(seen=first, content="Changed")
    assert second > first
    for status, told in (
        ann.put(seen=first, content="Lost"),
        ann.put(content="Lost"),
        ann.delete(seen=first),
    ):
        assert (status, told["code"], told["revision"]) == (412, "conversation_changed", second)
    assert ann.put("c2", seen=second)[0] == 412
    assert ann.get()[1]["content"] == "Changed"


def test_of_writes_at_the_same_moment_one_is_kept(app, ann):
    seen = ann.kept()
    with ThreadPoolExecutor(6) as pool:
        users = [User(app) for _ in range(6)]
        told = list(pool.map(lambda user: user.put(seen=seen)[0], users))
        assert sorted(told) == [200] + [412] * 5
        revisions = list(pool.map(lambda n: users[n].kept(f"new{n}"), range(6)))
    listed = [each["revision"] for each in ann.listed(after=seen)["conversations"]]
    assert listed == sorted(listed)
    assert set(revisions) < set(listed)


def test_a_list_has_what_came_after_page_by_page(ann, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    revisions = {id: ann.kept(id) for id in ("a", "b", "c")}
    revisions["a"] = ann.kept("a", seen=revisions["a"])
    one = ann.listed()
    assert [each["id"] for each in one["conversations"]] == ["b", "c"]
    assert (one["revision"], one["more"]) == (revisions["c"], True)
    two = ann.listed(after=one["revision"])
    assert [each["id"] for each in two["conversations"]] == ["a"]
    assert (two["revision"], two["more"]) == (revisions["a"], False)
    assert ann.listed(after=two["revision"])["revision"] == two["revision"]


def test_other_devices_hear_of_a_deletion_and_can_undo_it(ann):
    seen = ann.kept()
    status, told = ann.delete(seen=seen)
    gone = told["revision"]
    assert status == 200
    listed = {"id": "c1", "revision": gone, "deleted": True}
    assert ann.listed(after=seen)["conversations"] == [listed]
    said = {"error": "This conversation was deleted.", "code": "conversation_deleted"}
    assert ann.get() == (410, {**said, "revision": gone})
    assert ann.delete(seen=seen) == (200, {"id": "c1", "revision": gone})
    assert ann.put(seen=seen)[0] == 412
    ann.kept(seen=gone, content="Back")
    assert ann.get()[1]["content"] == "Back"


def test_only_the_last_deletions_are_remembered(ann, monkeypatch):
    monkeypatch.setattr(module, "DELETIONS", 2)
    for id in ("a", "b", "c", "d"):
        seen = ann.kept(id)
        if id != "d":
            ann.delete(id, seen)
    assert [each["id"] for each in ann.listed()["conversations"]] == ["b", "c", "d"]
    assert ann.get("a")[0] == 404


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"CHATPROXY_CONVERSATION_BYTES": 200}, 413, "body_too_large"),
        ({"CHATPROXY_CONVERSATION_BYTES_PER_OWNER": 200}, 507, "conversations_full"),
        ({"CHATPROXY_CONVERSATIONS_PER_OWNER": 1}, 507, "conversations_full"),
    ],
)
def test_the_bounds_hold_for_each_owner_and_leave_what_is_there(sqlite, settings, status, code):
    app = make_app(sqlite, **settings)
    ann, bob = User(app), User(app, BOB)
    seen = ann.kept(content="x" * 90)
    told = ann.put("c2", content="x" * 190)
    assert (told[0], told[1]["code"]) == (status, code)
    bob.kept(content="x" * 90)
    seen = ann.kept(seen=seen, content="x" * 80)
    assert ann.delete(seen=seen)[0] == 200
    ann.kept("c3", content="x" * 90)
    assert [each["id"] for each in ann.listed()["conversations"]] == ["c1", "c3"]


BODY = {"title": "A", "updatedAt": 1, "content": {}}


#: What is refused: the request, its status and its code.
BAD = [
    ("PUT", "/c1", {}, BODY, 428, "revision_required"),
    ("PUT", "/c1", {"If-Match": "*"}, BODY, 428, "revision_required"),
    ("PUT", "/c1", {"If-Match": '"x"'}, BODY, 428, "revision_required"),
    ("PUT", "/c1", {"If-Match": '"99999999999999999999"'}, BODY, 428, "revision_required"),
    ("DELETE", "/c1", NEW, b"", 428, "revision_required"),
    ("PUT", "/c 1", NEW, BODY, 400, "invalid_session_id"),
    ("GET", f"/{'c' * 129}", {}, b"", 400, "invalid_session_id"),
    ("GET", "?after=-1", {}, b"", 400, "invalid_request"),
    ("GET", "?after=x", {}, b"", 400, "invalid_request"),
    *(
        ("PUT", "/c1", NEW, body, 400, "invalid_request")
        for body in (
            {**BODY, "title": 1},
            {**BODY, "title": "x" * 1001},
            {**BODY, "updatedAt": -1},
            {**BODY, "updatedAt": 1 << 53},
            {**BODY, "pinned": 1},
            {"title": "A", "updatedAt": 1},
            [],
            b"{",
            b'{"title":"\xff","updatedAt":1,"content":1}',
            b'{"title":"a\0","updatedAt":1,"content":1}',
            b'{"title":"a","updatedAt":1,"content":' + b"[" * 9999,
        )
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad[0]} {str(bad[2:4])[:60]}")
def test_bad_input_is_refused_in_one_sentence(guarded, bad):
    method, path, headers, body, status, code = bad
    ann = User(guarded)
    data = body if isinstance(body, bytes) else json.dumps(body)
    told = ann.ask(method, path, headers, data=data, content_type="application/json")
    assert (told[0], told[1]["code"]) == (status, code)
    assert told[1]["error"]
    assert ann.listed()["conversations"] == []


def test_another_origin_s_form_and_whoever_is_not_logged_in_can_t_write_or_read(guarded):
    told = User(guarded).ask("PUT", "/c1", NEW, data=json.dumps(BODY), content_type="text/plain")
    assert (told[0], told[1]["code"]) == (415, "not_json")
    stranger = User(guarded, "wrong-0123456789abcdef")
    for method, path in (("GET", "/c1"), ("PUT", "/c1"), ("DELETE", "/c1"), ("GET", "")):
        assert stranger.ask(method, path)[0] == 401


def test_a_copy_of_another_owner_s_does_not_get_into_the_account(sqlite):
    ann = User(make_app(sqlite))
    key = ann.listed()["owner"]
    assert ann.ask("PUT", "/c1", {**NEW, "X-Owner-Key": key}, json=BODY)[0] == 200
    status, told = ann.ask("PUT", "/c2", {**NEW, "X-Owner-Key": "b" * 32}, json=BODY)
    assert (status, told["code"]) == (409, "another_owner")
    assert ann.ask("GET", "/c2")[0] == 404


def test_the_page_learns_whose_conversations_are_kept_and_no_cache_keeps_it(guarded):
    client = guarded.test_client()
    told = {
        token: client.get("/page.json", headers={"Authorization": f"Bearer {token}"})
        for token in (ANN, BOB, "")
    }
    owners = [each.json["conversations"]["owner"] for each in told.values()]
    assert owners[0] == User(guarded).listed()["owner"]
    assert len(set(owners)) == 3
    assert owners[2] is None
    assert "ann" not in str(owners)
    for response in (client.get(PATH), *told.values()):
        assert response.headers["Cache-Control"] == "no-store"


def test_switched_off_there_are_no_such_routes_and_the_page_is_told(sqlite):
    app = make_app(sqlite, CHATPROXY_CONVERSATIONS="0")
    assert User(app).ask("GET")[0] == 404
    assert app.test_client().get("/page.json").json["conversations"] is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"CHATPROXY_RECORDS": ""}, "CHATPROXY_CONVERSATIONS needs a database"),
        ({"CHATPROXY_TOKENS": ""}, "CHATPROXY_CONVERSATIONS needs owners"),
    ],
)
def test_the_start_is_refused_without_what_it_needs(sqlite, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_app(sqlite, **settings)


def test_a_database_that_is_away_is_a_503_and_is_found_again(postgresql, caplog, monkeypatch):
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    ann = User(make_app(postgresql.new_database()))
    seen = ann.kept()
    postgresql.kill()
    try:
        with caplog.at_level(logging.INFO, "chatproxy"):
            for status, told in (ann.put(seen=seen, content="secret"), ann.ask("GET")):
                assert (status, told["code"]) == (503, "database_unavailable")
    finally:
        postgresql.start()
    assert ann.put(seen=seen)[0] == 200
    assert [each.message.split(":")[0] for each in caplog.records] == [
        "The conversations can't be reached",
        "The conversations can be reached again",
    ]
    assert "secret" not in caplog.text
    assert PostgreSQL.password not in caplog.text


def test_requests_that_wait_are_bounded_for_each_owner_and_in_time(sqlite, monkeypatch):
    app = make_app(f"{sqlite}?timeout=30")
    ann, bob = User(app), User(app, BOB)
    bob.kept("before")
    other = Database(sqlite)
    with ThreadPoolExecutor(module.AT_ONCE_OF_ONE + 2) as pool:
        with other.writing():  # which only one can do at a time
            held = pool.submit(bob.put)
            waiting = [pool.submit(ann.put) for _ in range(module.AT_ONCE_OF_ONE + 1)]
            refused = next(as_completed(waiting, 10))
            assert refused.result()[1]["code"] == "too_many_requests"
            monkeypatch.setattr(asking, "PATIENCE", 0.0)
        waiting.remove(refused)
        told = [each.result()[0] for each in [held, *waiting]]
    other.close()
    assert told.count(503) >= module.AT_ONCE_OF_ONE  # one may have been in the database by then
    monkeypatch.setattr(asking, "PATIENCE", 5.0)
    assert bob.get("before")[0] == 200


def test_a_slow_statement_is_given_up(postgresql, monkeypatch):
    url = postgresql.new_database()
    kept = make_app(url).extensions["chatproxy"].conversations
    assert kept.heads("ann", 0) == ([], False)
    monkeypatch.setattr(module, "STATEMENT_MS", 100)
    other = Database(url)
    with other.writing() as connection:
        connection.execute(text(f"LOCK TABLE {conversations.name}"))
        with pytest.raises(DatabaseUnavailable) as raised:
            kept.heads("ann", 0)
    other.close()
    assert "statement timeout" in raised.value.reason


class Held(Database):
    """A database in which something happens before what was written is committed."""

    def __init__(self, url):
        super().__init__(url)
        self.url = url
        self.amid = lambda _connection: None

    @contextmanager
    def writing(self):
        with super().writing() as connection:
            yield connection
            self.amid(connection)

    def conversations(self):
        return module.Conversations(self, lambda call: call(), "app", module.Bounds(9, 999))


@pytest.fixture
def held(postgresql):
    held = Held(postgresql.new_database())
    yield held
    held.close()


def draft(id):
    return module.Draft(id, f'"{id}"', False, 1, b"1")


def test_erasing_waits_for_what_is_being_written(held):
    """Also if it is the owner's first."""
    other = Held(held.url)
    writer, eraser = held.conversations(), other.conversations()
    assert eraser.erase("ann") == 0
    writer.put("ann", draft("a"), 0)
    locks = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def erase(connection):
        erased.append(pool.submit(eraser.erase, owner))
        wait_for(lambda: connection.scalar(locks) == 1 or erased[-1].done())

    erased, held.amid = [], erase
    with ThreadPoolExecutor(1) as pool:
        for owner, number in (("ann", 2), ("bob", 1)):
            writer.put(owner, draft("b"), 0)
            assert erased.pop().result() == number
            assert writer.heads(owner, 0) == ([], False)
    other.close()


def test_erasing_may_take_longer_than_what_a_page_asks_for(held):
    bounds = []
    held.amid = lambda connection: bounds.append(connection.scalar(text("SHOW statement_timeout")))
    kept = held.conversations()
    kept.put("ann", draft("a"), 0)
    kept.erase("ann")
    assert bounds == [f"{module.STATEMENT_MS // 1000}s", "1min"]


def test_an_export_leaves_out_what_is_deleted_meanwhile_and_nothing_is_logged(app, ann, caplog):
    with caplog.at_level(logging.DEBUG):
        ann.kept("a", content="secret", title="secret")
        seen = ann.kept("b", content="secret")
        exported = app.extensions["chatproxy"].conversations.export("ann")
        ann.put("b", seen=1, content="secret")
        ann.delete("b", seen)
        assert [each.head.id for each in exported] == ["a"]
    assert "secret" not in caplog.text


def test_the_operator_writes_out_and_erases_what_is_kept_of_an_owner(sqlite):
    app = make_app(sqlite)
    ann, bob = User(app), User(app, BOB)
    chats = [{"id": id, "text": "你好"} for id in ("a", "b")]
    for chat in chats:
        ann.kept(chat["id"], content=chat)
    deleted = ann.kept("c")
    ann.delete("c", deleted)
    bob.kept("b", content="Bob's")
    name = app.extensions["chatproxy"].scope
    command = ["conversations", "--owner", "ann", "--application", name, "--records", sqlite]
    told = CliRunner().invoke(main, command)
    exported = json.loads(told.output)
    assert (exported["format"], exported["chats"]) == ("chatproxy", chats)
    assert CliRunner().invoke(main, [*command, "--delete"]).output == "Erased 2 conversations.\n"
    assert ann.listed()["conversations"] == []
    assert ann.kept("a") > deleted  # devices that know the old ones hear of what is new
    assert bob.get("b")[1]["content"] == "Bob's"
    wrong = CliRunner().invoke(main, [*command[:-1], "sqlite:////nowhere/records.db"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith("Error: ")


def test_a_login_of_an_application_s_own_will_do(sqlite, guarded):
    site = Flask("site")
    site.config.update(guarded.config, CHATPROXY_TOKENS="", CHATPROXY_NAME=new_id())
    site.config["CHATPROXY_RECORDS"] = sqlite
    ChatProxy(site, owner=lambda: "ann", url_prefix="/chat")
    response = site.test_client().put("/chat/conversations/c1", json=BODY, headers=NEW)
    assert response.status_code == 200
