"""A question of the AI SDK: the body that ``useChat`` sends in, a chat completion's out. No I/O.

The body is ``{id, messages, trigger, messageId, …}`` (``ai`` 7.0.173, ``HttpChatTransport``), and a
message ``{id, role, parts, …}`` (``src/ui/ui-messages.ts``). What becomes of the messages follows
``convertToModelMessages`` of that package:

    system, user       the texts joined; a list of texts and ``image_url`` if there are files
    assistant          for each step (``step-start``) the texts joined and the ``tool_calls``, then
                       a message with the role ``tool`` for each result
    steering-message   a message of the user's, between two steps

Reasoning, sources and data parts are left out, and so are tool calls without a result, for example
of an answer that was stopped: the upstream would refuse them. Every other field of the body, such
as ``model`` or ``tools``, goes on as the JSON text that came (``chat_request``). So do the texts:
they are put together without being decoded.

Anybody may send a megabyte of the smallest parts, so their number is bounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import msgspec

from ..errors import InvalidRequest
from . import surrogates
from .chat_request import Payload
from .headers import check_not_taken, check_session_id

#: The most messages and parts of a question, together.
MOST_PARTS = 4_000

#: The fields that are the AI SDK's own.
_OWN_FIELDS = ("id", "messages", "trigger", "messageId")

_NULL = msgspec.Raw(b"null")
_CHAT_ID = msgspec.json.Decoder(str | None)


class _Counted(str):
    """A string that each message, or part, has once."""

    __slots__ = ()


class _Approval(msgspec.Struct, gc=False):
    approved: msgspec.Raw = _NULL
    reason: msgspec.Raw = _NULL


class _Part(msgspec.Struct, gc=False):
    type: _Counted
    text: msgspec.Raw = _NULL
    mediaType: msgspec.Raw = _NULL  # noqa: N815
    url: msgspec.Raw = _NULL
    parts: list[_Part] | None = None
    toolName: msgspec.Raw = _NULL  # noqa: N815
    toolCallId: msgspec.Raw = _NULL  # noqa: N815
    state: msgspec.Raw = _NULL
    input: msgspec.Raw = _NULL
    rawInput: msgspec.Raw = _NULL  # noqa: N815
    output: msgspec.Raw = _NULL
    preliminary: msgspec.Raw = _NULL
    errorText: msgspec.Raw = _NULL  # noqa: N815
    approval: _Approval | None = None


class _Message(msgspec.Struct, gc=False):
    role: _Counted
    parts: list[_Part]
    id: msgspec.Raw = _NULL


def chat_id_of(fields: Payload) -> str:
    """The id of the chat that a question belongs to; "" if it has none.

    :raises InvalidRequest: if it can't be one.
    """
    try:
        chat_id = _CHAT_ID.decode(bytes(fields.get("id", b"null"))) or ""
    except msgspec.DecodeError:
        raise InvalidRequest("'id', the id of the chat, must be a string.") from None
    return check_not_taken(chat_id and check_session_id(chat_id))


def payload_of(fields: Payload) -> tuple[Payload, bool]:
    """The fields of a chat completion, and whether its answer continues a message of the client's.

    :param fields: the body, as ``chat_request.parse`` returns it.
    :raises InvalidRequest: if the messages can't be used.
    """
    text = bytes(fields.get("messages", b""))
    messages, show = _decode(text)
    converted = b"[%b]" % b",".join(_converted(messages, show))
    payload = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    payload.setdefault("stream_options", {"include_usage": True})
    payload["messages"] = msgspec.Raw(show(converted))
    return payload, _continues(messages, bytes(fields.get("messageId", b"")))


def _decode(text: bytes) -> tuple[list[_Message], Callable[[bytes], bytes]]:
    """The messages, and what shows the surrogates that are hidden in them."""
    try:
        return surrogates.decoded(_parse, text)
    except msgspec.DecodeError:
        if text.startswith(b"["):
            sentence = "Each of 'messages' must have a 'role', and 'parts' that have a 'type'."
            raise InvalidRequest(sentence) from None
    raise InvalidRequest("'messages' must be a list with at least one message.")


def _parse(text: bytes) -> list[_Message]:
    numbers = itertools.count(1)

    def count(_type: type, value: object) -> _Counted:
        if not isinstance(value, str):
            raise TypeError
        if next(numbers) > MOST_PARTS:
            raise InvalidRequest(f"The messages have more than {MOST_PARTS} parts.")
        return _Counted(value)

    return msgspec.json.decode(text, type=list[_Message], dec_hook=count)


def _continues(messages: list[_Message], message_id: bytes) -> bool:
    """Whether the message that is answered is the assistant's own, as after a tool's result."""
    named = (each for each in messages if bytes(each.id) == message_id)
    answered = next(named, messages[-1] if messages else None)
    return answered is not None and answered.role == "assistant"


def _converted(messages: list[_Message], show: Callable[[bytes], bytes]) -> Iterator[bytes]:
    for message in messages:
        if message.role in ("system", "user"):
            yield _asked(message.role, message.parts)
        elif message.role == "assistant":
            yield from _answered(message.parts, show)
        else:
            raise InvalidRequest("The 'role' of a message must be system, user or assistant.")


def _asked(role: str, parts: Iterable[_Part]) -> bytes:
    """A message of the user's, or of the system's."""
    said = [part for part in parts if part.type in ("text", "file")]
    if all(part.type == "text" for part in said):
        return b'{"role":"%b","content":%b}' % (role.encode(), _joined(said))
    return b'{"role":"%b","content":[%b]}' % (role.encode(), b",".join(map(_content, said)))


def _content(part: _Part) -> bytes:
    if part.type == "text":
        return b'{"type":"text","text":%b}' % _joined([part])
    kind = bytes(part.mediaType)
    if not kind.startswith(b'"image/') and kind != b'"image"':
        raise InvalidRequest("A file in a message must be an image.")
    url = _string(part.url, "A file in a message must have a 'url'.")
    return b'{"type":"image_url","image_url":{"url":%b}}' % url


def _answered(parts: list[_Part], show: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """The messages that an answer, with the tools' results, is to the upstream."""
    texts: list[_Part] = []
    calls: list[bytes] = []
    results: list[bytes] = []

    def step() -> Iterator[bytes]:
        if texts or calls:
            named = b',"tool_calls":[%b]' % b",".join(calls) if calls else b""
            yield b'{"role":"assistant","content":%b%b}' % (_joined(texts), named)
        yield from results
        for each in (texts, calls, results):
            each.clear()

    for part in parts:
        if part.type == "text":
            texts.append(part)
        elif part.type in ("step-start", "steering-message"):
            yield from step()
            if part.parts is not None:
                yield _asked("user", part.parts)
        elif _is_tool(part) and (result := _result(part, show)) is not None:
            call_id = _string(part.toolCallId, "A tool's part must have a 'toolCallId'.")
            calls.append(_call(part, call_id, show))
            results.append(b'{"role":"tool","tool_call_id":%b,"content":%b}' % (call_id, result))
    yield from step()


def _is_tool(part: _Part) -> bool:
    return part.type == "dynamic-tool" or part.type.startswith("tool-")


def _call(part: _Part, call_id: bytes, show: Callable[[bytes], bytes]) -> bytes:
    if part.type == "dynamic-tool":
        name = _string(part.toolName, "A tool's part must have a 'toolName'.")
    else:
        name = msgspec.json.encode(part.type.removeprefix("tool-"))
    given = part.rawInput if bytes(part.input) == b"null" else part.input
    arguments = _quoted(given, show) if bytes(given) != b"null" else b'"{}"'
    function = b'{"name":%b,"arguments":%b}' % (name, arguments)
    return b'{"id":%b,"type":"function","function":%b}' % (call_id, function)


def _result(part: _Part, show: Callable[[bytes], bytes]) -> bytes | None:
    """What a tool has said, as the JSON of a string; None if it has not ended."""
    approval = part.approval or _Approval()
    state = bytes(part.state)
    if state == b'"output-available"' and bytes(part.preliminary) != b"true":
        output = bytes(part.output)
        return output if output.startswith(b'"') else _quoted(part.output, show)
    if state == b'"output-error"':
        return _string(part.errorText, "A tool's error must have an 'errorText'.")
    if state == b'"output-denied"' or (
        state == b'"approval-responded"' and bytes(approval.approved) == b"false"
    ):
        reason = bytes(approval.reason)
        return reason if reason.startswith(b'"') else b'"Tool call execution denied."'
    return None


def _joined(parts: Iterable[_Part]) -> bytes:
    """The JSON of the texts of these parts, one after the other."""
    texts = [_string(part.text, "A part of the type 'text' must have a 'text'.") for part in parts]
    return b'"%b"' % b"".join([text[1:-1] for text in texts])


def _string(value: msgspec.Raw, sentence: str) -> bytes:
    text = bytes(value)
    if not text.startswith(b'"'):
        raise InvalidRequest(sentence)
    return text


def _quoted(value: msgspec.Raw, show: Callable[[bytes], bytes]) -> bytes:
    """The JSON of a string that is this JSON."""
    return msgspec.json.encode(show(bytes(value)).decode())
