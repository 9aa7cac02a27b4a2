"""The headers of a request: which session ids there can be, and what else a client says."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.errors import InvalidRequest
from chatproxy.protocols import headers


@pytest.mark.parametrize(
    "session_id",
    [
        *("session_1718345013123_k3j9x0ab", "a", "A.b_c:d-9", "7" * 128),
        *("...", ".a", "a..", "-", ":", "http:"),
    ],
)
def test_an_id_of_the_allowed_characters_passes_unchanged(session_id: str) -> None:
    assert headers.check_session_id(session_id) == session_id


@pytest.mark.parametrize(
    "session_id",
    [
        *("a b", "a/b", "a\n", "\na", "a\r\nb", "ä", "٣", "a%", "a,b", "x" * 129, " ", "a\x00"),
        *(".", ".."),
    ],
)
def test_any_other_id_is_refused(session_id: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        headers.check_session_id(session_id)
    assert (caught.value.status, caught.value.code) == (400, "invalid_session_id")
    assert caught.value.message.startswith("The session id must be ")
    assert not headers.is_session_id(session_id)


@given(st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True) | st.from_regex(r"[.:-]{1,4}\Z"))
def test_every_id_arrives_in_the_path_of_its_stop_as_it_is(session_id: str) -> None:
    """Clients take the segments . and .. away, and nothing else of what an id may have."""
    if headers.is_session_id(session_id):
        path = f"/api/chat/cancel/{session_id}"
        sent = requests.Request("POST", f"http://chat.example{path}").prepare().path_url
        joined = urljoin("http://chat.example/page/", path)
        assert (sent, joined) == (path, f"http://chat.example{path}")


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_id_is_refused_in_the_agreed_words(missing: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        headers.check_session_id(missing)
    assert (caught.value.message, caught.value.code) == ("Missing sessionId", "missing_session_id")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 60.0), ("stop", 0.0), (" stop ", 0.0), ("0", 0.0), ("2.5", 2.5), ("1e9", 60.0)],
)
def test_a_client_may_want_its_answer_to_wait_for_it_as_long_as_the_server_allows(
    said: str | None, seconds: float
) -> None:
    assert headers.check_reconnect_seconds(said, 60.0) == seconds


@pytest.mark.parametrize("said", ["", "never", "-1", "nan", "inf", "stop, 3"])
def test_what_is_no_number_of_seconds_is_refused(said: str) -> None:
    with pytest.raises(InvalidRequest, match="X-On-Disconnect"):
        headers.check_reconnect_seconds(said, 60.0)


@pytest.mark.parametrize(("said", "number"), [(None, 0), ("", 0), ("0", 0), ("41", 41)])
def test_a_reader_without_an_event_begins_at_the_first(said: str | None, number: int) -> None:
    assert headers.check_event_id(said) == number


@pytest.mark.parametrize("said", ["-1", "1.0", " 1", "٣", "one", "1" * 16])
def test_what_is_no_number_of_an_event_is_refused(said: str) -> None:
    with pytest.raises(InvalidRequest, match="Last-Event-ID"):
        headers.check_event_id(said)


@pytest.mark.parametrize("chat_id", [None, ""])
def test_a_chat_need_not_be_named(chat_id: str | None) -> None:
    assert headers.check_chat_id(chat_id) == ""


@pytest.mark.parametrize("chat_id", ["*", "a b", "..", "x" * 129])
def test_the_id_of_a_chat_looks_like_a_session_id(chat_id: str) -> None:
    """So nobody can name the chat of an owner's questions that name none."""
    assert headers.check_chat_id("chat_1") == "chat_1"
    with pytest.raises(InvalidRequest, match="X-Chat-Id"):
        headers.check_chat_id(chat_id)


@pytest.mark.parametrize("chat_id", headers.TAKEN)
def test_the_id_of_a_chat_is_no_routes(chat_id: str) -> None:
    with pytest.raises(InvalidRequest, match=f"can't be {chat_id}, which is a route"):
        headers.check_chat_id(chat_id)
