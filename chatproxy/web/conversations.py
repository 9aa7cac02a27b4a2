"""The routes of the conversations that are kept for their owners, so that another device has them.

GET <prefix>/conversations            what was written and deleted after a revision, and what it is
GET <prefix>/conversations/<id>       one, with its content
PUT <prefix>/conversations/<id>       write it; ``If-Match`` has the revision that it was read at,
                                      ``If-None-Match: *`` says that it is new
DELETE <prefix>/conversations/<id>    delete it; ``If-Match`` as above

With ``X-Owner-Key``, the key that ``owner`` is in a list, a request of anybody else's is refused.
All is JSON. A revision is the ``ETag``, too. What is in a conversation is the client's business:
any JSON, which comes back as it was sent. There are no such routes unless
``CHATPROXY_CONVERSATIONS`` is set. ``records.conversations`` has the rules.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response, jsonify, request

from ..answers.foreign_json import NO_JSON
from ..errors import InvalidRequest
from ..protocols import surrogates
from ..protocols.headers import check_session_id
from ..records.conversations import Conversations, Draft, Head
from . import streaming
from .state import State, current_state, give_way

FORM = streaming.Form(lambda refusal: refusal.as_json(), {})

#: The largest number that every client reads as it was written (RFC 8259, section 6).
_LARGEST = (1 << 53) - 1
_LONGEST_TITLE = 1000
#: Bytes that are looked at before others have a turn.
_A_STEP = 512 << 10
_REVISION = re.compile(r'(?:W/)?"([0-9]{1,16})"')

_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]


class _Written(msgspec.Struct, gc=False, rename="camel"):
    title: msgspec.Raw
    content: msgspec.Raw
    updated_at: _Milliseconds
    pinned: bool = False


_WRITTEN = msgspec.json.Decoder(_Written)


def blueprint(url_prefix: str) -> Blueprint:
    """The routes, for one application. The names of the endpoints are part of the interface."""
    routes = streaming.routes("chatproxy_conversations", url_prefix, FORM)
    routes.get("/conversations")(list_of)
    routes.get("/conversations/<id>")(read)
    routes.put("/conversations/<id>")(write)
    routes.delete("/conversations/<id>")(delete)
    routes.after_request(_keep_nowhere)
    return routes


def list_of() -> Response:
    """What the owner has written and deleted after a revision, in that order."""
    state, conversations, owner = _established()
    after = _number(request.args.get("after", "0"))
    heads, more = conversations.heads(owner, after)
    return jsonify(
        owner=state.key_of(owner),
        conversations=[_as_json(head) for head in heads],
        revision=heads[-1].revision if heads else after,
        more=more,
    )


def read(id: str) -> Response:
    """One conversation, with its content."""
    _, conversations, owner = _established()
    found = conversations.get(owner, check_session_id(id))
    fields = json.dumps(_as_json(found.head)).encode()
    body = b'%b,"content":%b}' % (fields[:-1], found.content)
    return _tagged(Response(body, content_type="application/json"), found.head.revision)


def write(id: str) -> Response:
    """Write a conversation, if it is as the client has seen it."""
    state, conversations, owner = _established()
    seen = _seen(may_be_new=True)
    streaming.require_json()
    check_session_id(id)
    draft = _read_draft(id, streaming.read_body(state, state.settings.conversation_bytes))
    give_way()
    revision = conversations.put(owner, draft, seen)
    return _tagged(jsonify(id=id, revision=revision), revision)


def delete(id: str) -> Response:
    """Delete a conversation, if it is as the client has seen it; other devices hear of that."""
    _, conversations, owner = _established()
    revision = conversations.delete(owner, check_session_id(id), _seen(may_be_new=False))
    return _tagged(jsonify(id=id, revision=revision), revision)


def _established() -> tuple[State, Conversations, str]:
    """What belongs to the present request, and who makes it."""
    state = current_state()
    owner = state.establish_owner()
    # A page may still show what is another's, whose login the browser has replaced by this one.
    if request.headers.get("X-Owner-Key", key := state.key_of(owner)) != key:
        sentence = "The X-Owner-Key is another owner's than the one who makes this request."
        raise InvalidRequest(sentence, status=409, code="another_owner")
    assert state.conversations is not None  # otherwise there are no such routes
    return state, state.conversations, owner


def _seen(*, may_be_new: bool) -> int:
    """The revision that the client has seen; 0 if it says that there is none.

    :raises Refusal: if it does not say.
    """
    found = _REVISION.fullmatch(request.headers.get("If-Match", "").strip())
    if found is not None:
        return int(found[1])
    if may_be_new and request.headers.get("If-None-Match", "").strip() == "*":
        return 0
    sentence = "The If-Match header must have the revision that the conversation was read at."
    raise InvalidRequest(sentence, status=428, code="revision_required")


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise InvalidRequest("'after' must be a revision.")
    return int(text)


def _read_draft(id: str, body: bytes) -> Draft:
    """What a client wants to be kept.

    :raises InvalidRequest: if it can't be.
    """
    try:
        _check_characters(body)
        written, show = surrogates.decoded(_WRITTEN.decode, body)
        title = json.loads(show(written.title))
    except NO_JSON:
        title = None
    if not isinstance(title, str) or len(title) > _LONGEST_TITLE:
        raise InvalidRequest(
            "The body must be a JSON object with a 'title' of at most "
            f"{_LONGEST_TITLE} characters, 'updatedAt' in milliseconds, 'pinned', and 'content'."
        )
    return Draft(id, json.dumps(title), written.pinned, written.updated_at, show(written.content))


def _check_characters(body: bytes) -> None:
    """See that this is UTF-8, at which msgspec does not look in what it leaves undecoded.

    :raises UnicodeDecodeError: if it is not.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(body), _A_STEP):
        decoder.decode(body[at : at + _A_STEP])
        give_way()
    decoder.decode(b"", final=True)


def _as_json(head: Head) -> dict[str, Any]:
    if head.is_deleted:
        return {"id": head.id, "revision": head.revision, "deleted": True}
    return {
        "id": head.id,
        "revision": head.revision,
        "title": json.loads(head.title),
        "pinned": head.pinned,
        "updatedAt": head.updated_at,
        "bytes": head.size,
    }


def _tagged(response: Response, revision: int) -> Response:
    response.headers["ETag"] = f'"{revision}"'
    return response


def _keep_nowhere(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
