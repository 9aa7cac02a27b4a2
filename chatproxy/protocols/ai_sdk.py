"""The AI SDK's protocol: an answer as the UI message stream that ``useChat`` reads. No I/O.

The format is "v1" of the package ``ai`` (7.0.173, ``src/ui-message-stream/ui-message-chunks.ts``):
events whose data is a JSON object with a ``type``, a *part*, and ``[DONE]`` at the end. What the
client does with them is in ``src/ui/process-ui-message-stream.ts``.

    the first choice          start, start-step
    reasoning_content         reasoning-start, reasoning-delta …, reasoning-end
    content                   text-start, text-delta …, text-end
    tool_calls                tool-input-start, tool-input-delta …
    finish_reason             what is open ends; tool-input-available, or -error if it is no JSON
    [DONE]                    finish-step, finish, [DONE]
    event: stopped            what is open ends; data-chatproxy-stopped, message-metadata, abort,
                              finish (``interrupted``); then [DONE]
    event: error              what is open ends; error, and nothing after it
    event: tool-call          tool-input-available  } of a run: its tools are
    event: tool-result        tool-output-…         } called by the server
    any other of a run's own  data-<name>

What holds at all times:

* A delta comes between the start and the end of its part, or the client fails. At most one text or
  reasoning is open; each is ended, or the client shows it as unfinished for ever.
* The same events give the same parts, with the same ids, to every client and on every worker.
* A tool call of a stopped or failed answer is never *available*: the client would carry it out.
* An answer that has no ``finish`` ends with ``error``: the client takes a mere end for a good one.
* Only the choice with index 0 is told. Chunks that look otherwise are passed over.
* A text is not decoded: its JSON goes from the upstream's event into the part as it came.
* ``id`` stands before the last part that an event gives, so whoever has the id has all of it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from .. import sse
from ..answers.foreign_json import NO_JSON
from ..errors import Refusal
from . import chunk_texts, native
from .chunk_texts import Chunk, ToolCall, TooManyError, says

#: The most bytes of tool calls that an encoder keeps, and what each call adds to its own: all of
#: them are ended at once.
_MOST_CALL_BYTES = 1 << 20
_CALL_BYTES = 2000
#: How many tools of a run are ended with an answer that breaks off.
_MOST_CALLED = 1000

#: ``finish_reason`` of OpenAI and DeepSeek, as the AI SDK names it; any other one is ``other``.
_FINISH_REASONS = {
    "stop": b"stop",
    "length": b"length",
    "content_filter": b"content-filter",
    "tool_calls": b"tool-calls",
    "function_call": b"tool-calls",
    "insufficient_system_resource": b"error",
}


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


_USAGE = msgspec.json.Decoder(_Usage)
_NULL = msgspec.Raw(b"null")


class _ToolCall(msgspec.Struct, gc=False):
    """A tool that a run calls, as ``Run.tell_tool_call`` tells it."""

    toolCallId: msgspec.Raw  # noqa: N815
    toolName: msgspec.Raw  # noqa: N815
    input: msgspec.Raw = _NULL


class _ToolResult(msgspec.Struct, gc=False):
    """What came of it, as ``Run.tell_tool_result`` tells it."""

    toolCallId: msgspec.Raw  # noqa: N815
    output: msgspec.Raw = _NULL
    errorText: msgspec.Raw = _NULL  # noqa: N815


#: The client must not call such a tool itself, and need not know it.
_BY_THE_SERVER = {"dynamic": b"true", "providerExecuted": b"true"}
_TOOL_CALL = msgspec.json.Decoder(_ToolCall)
_TOOL_RESULT = msgspec.json.Decoder(_ToolResult)


class _Call:
    """A tool call that has begun.

    :ivar id: the JSON of its id.
    :ivar name: the JSON of the tool's name.
    :ivar arguments: what came of the arguments, as between the quotes of a JSON string.
    """

    __slots__ = ("arguments", "id", "name")

    def __init__(self, call_id: bytes, name: bytes) -> None:
        self.id = call_id
        self.name = name
        self.arguments = bytearray()

    def end(self) -> bytes:
        """The part that ends it: the tool can be called if its arguments are JSON."""
        text = json.loads(self._quoted().decode("utf-8", "replace")).encode("utf-8", "replace")
        try:
            arguments = msgspec.json.format(text.strip() or b"{}", indent=-1)  # on one line
        except NO_JSON:
            return self.fail("The arguments of this call are no valid JSON.")
        return self._part(b"tool-input-available", input=arguments)

    def fail(self, sentence: str) -> bytes:
        """The part that ends it if the tool is not to be called."""
        return self._part(b"tool-input-error", input=self._quoted(), errorText=_json(sentence))

    def _part(self, kind: bytes, **fields: bytes) -> bytes:
        return _part(kind, toolCallId=self.id, toolName=self.name, **fields)

    def _quoted(self) -> bytes:
        return b'"%b"' % bytes(self.arguments)


class AiSdkEncoder:
    """Log events in, UI message parts out, for one client.

    :param session_id: the answer's id, which the message's metadata tells.
    :param continues: whether the client adds the answer to a message that it has. Then the message
        keeps its id; otherwise it has one that is made of the upstream's.
    """

    __slots__ = (
        *("_begun", "_calls", "_called", "_continues", "_ended", "_failed", "_finish_reason"),
        *("_held",),
        *("_message_id", "_number", "_open", "_prefix", "_session_id", "_usage", "refusal"),
    )

    heartbeat = sse.HEARTBEAT
    withheld = None

    def __init__(self, session_id: str, *, continues: bool = False) -> None:
        #: Set if this client can't be told the rest. A failure of the answer is an event.
        self.refusal: Refusal | None = None
        self._session_id = session_id
        self._continues = continues
        self._begun = False
        #: Whether ``finish`` or ``error`` has been said; and whether it was ``error``.
        self._ended = self._failed = False
        self._message_id = b""
        #: ``text`` or ``reasoning`` if one is open, with the beginning of its deltas.
        self._open = b""
        self._prefix = b""
        self._number = 0
        #: The tool calls that are open, by index, and about how many bytes all calls took.
        self._calls: dict[int, _Call] = {}
        self._held = 0
        #: The ids, as JSON, of the tools of a run that have given nothing yet.
        self._called: dict[bytes, None] = {}
        self._finish_reason: bytes | None = None
        #: The upstream's ``usage`` so far, as JSON.
        self._usage = b""

    def encode(self, data: bytes) -> bytes:
        """What the client gets for these events and comments, which are whole."""
        written = []
        for event in data.split(b"\n\n"):
            while event.startswith(b":"):
                comment, _, event = event.partition(b"\n")  # noqa: PLW2901
                written.append(comment + b"\n")
            number, _, block = event.partition(b"\n")
            if block and (parts := self._take(block)):
                *before, last = parts
                written += [b"data: %b\n\n" % part for part in before]
                written.append(b"%b\ndata: %b\n\n" % (number, last))
        return b"".join(written)

    def fail(self, refusal: Refusal) -> bytes:
        """What the client gets if the rest can't be read."""
        parts = [] if self._ended else self._fail(refusal.message)
        return b"".join(b"data: %b\n\n" % part for part in parts)

    def _take(self, block: bytes) -> list[bytes]:
        """The parts for one event."""
        if block.startswith(b"data: {") and b"\n" not in block:  # as nearly all are
            data = block[6:]
        elif sse.is_done(block):
            return [] if self._failed else [*self._finish(), b"[DONE]"]
        elif (ending := native.ending_of(block)) is not None:
            if self._ended:
                return []
            error = ending.get("error")
            return self._fail(str(error["message"])) if error else self._stop(ending)
        elif (emitted := native.emitted_in(block)) is not None:
            return [] if self._ended else self._tell(*emitted)
        else:
            data = sse.data_of(block)
        try:
            return [] if self._ended else self._say(chunk_texts.parse(data))
        except NO_JSON:
            return []
        except TooManyError:
            return self._give_up("An event of this answer has too many parts.")

    def _tell(self, name: str, data: bytes) -> list[bytes]:
        """The parts for an event of a run's own; none if it can't be one."""
        try:
            return self._told(name, data)
        except NO_JSON:
            return []

    def _told(self, name: str, data: bytes) -> list[bytes]:
        parts = [] if self._begun else self._begin()
        if name == "tool-call":
            call = _TOOL_CALL.decode(data)
            if len(self._called) < _MOST_CALLED:
                self._called[bytes(call.toolCallId)] = None
            fields = {"toolCallId": call.toolCallId, "toolName": call.toolName, "input": call.input}
            parts += [*self._close(), _raw_part(b"tool-input-available", fields, **_BY_THE_SERVER)]
        elif name == "tool-result":
            result = _TOOL_RESULT.decode(data)
            self._called.pop(bytes(result.toolCallId), None)
            kind, told = b"tool-output-available", {"output": result.output}
            if bytes(result.errorText) != b"null":
                kind, told = b"tool-output-error", {"errorText": result.errorText}
            fields = {"toolCallId": result.toolCallId, **told}
            parts.append(_raw_part(kind, fields, **_BY_THE_SERVER))
        else:
            parts.append(_part(b"data-" + name.encode("ascii"), data=data))
        return parts

    def _say(self, chunk: Chunk) -> list[bytes]:
        parts: list[bytes] = []
        if (usage := bytes(chunk.usage)).startswith(b"{"):
            self._usage = usage
        for choice in chunk.choices or ():
            if choice.index or self._ended:
                continue
            if not self._begun:
                parts += self._begin(_message_id(chunk))
            if (delta := choice.delta) is not None:
                if says(text := bytes(delta.reasoning_content)):
                    self._add(b"reasoning", text, parts)
                if says(text := bytes(delta.content)):
                    self._add(b"text", text, parts)
                for call in delta.tool_calls or ():
                    self._add_call(call, parts)
            if choice.finish_reason and not self._ended:
                self._finish_reason = _FINISH_REASONS.get(choice.finish_reason, b"other")
                parts += self._close()
                parts += [call.end() for call in self._calls.values()]
                self._calls.clear()
        return parts

    def _begin(self, message_id: bytes = b"") -> list[bytes]:
        self._begun = True
        self._message_id = message_id
        fields = {} if self._continues or not message_id else {"messageId": message_id}
        fields["messageMetadata"] = b'{"chatproxy":{"sessionId":%b}}' % _json(self._session_id)
        return [_part(b"start", **fields), _part(b"start-step")]

    def _add(self, kind: bytes, text: bytes, parts: list[bytes]) -> None:
        """Add a piece of text or reasoning; ``text`` is the JSON of it."""
        if self._open != kind:
            parts += self._close()
            self._number += 1
            self._open = kind
            part_id = b'"%b-%d"' % (kind, self._number)
            self._prefix = b'{"type":"%b-delta","id":%b,"delta":' % (kind, part_id)
            parts.append(_part(kind + b"-start", id=part_id))
        parts.append(self._prefix + text + b"}")

    def _close(self) -> list[bytes]:
        """End the text or reasoning that is open."""
        kind, self._open = self._open, b""
        return [_part(kind + b"-end", id=b'"%b-%d"' % (kind, self._number))] if kind else []

    def _add_call(self, said: ToolCall, parts: list[bytes]) -> None:
        """Add a piece of a tool call, or begin it."""
        if (function := said.function) is None or self._ended:
            return
        index = said.index or 0
        call = self._calls.get(index)
        if call is None:
            if not says(name := bytes(function.name)):
                return
            call = self._calls[index] = _Call(self._id_of(said), name)
            self._held += _CALL_BYTES + len(call.id) + len(name)
            parts += self._close()
            parts.append(_part(b"tool-input-start", toolCallId=call.id, toolName=name))
        if says(text := bytes(function.arguments)):
            call.arguments += text[1:-1]
            self._held += len(text)
            parts.append(_part(b"tool-input-delta", toolCallId=call.id, inputTextDelta=text))
        if self._held > _MOST_CALL_BYTES:
            parts += self._give_up("The tool calls of this answer are too long.")

    def _id_of(self, said: ToolCall) -> bytes:
        """The JSON of a call's id; made of the message's and its index if it has none."""
        given = bytes(said.id)
        if says(given):
            return given
        return b'"%b-call-%d"' % (self._message_id[1:-1], said.index or 0)

    def _finish(self) -> list[bytes]:
        if self._ended:
            return []
        parts = [] if self._begun else self._begin()
        self._ended = True
        parts += self._close()
        parts += [call.end() for call in self._calls.values()]
        fields = {}
        if self._finish_reason is not None:
            fields["finishReason"] = b'"%b"' % self._finish_reason
        if self._usage:
            fields["messageMetadata"] = b"{%b}" % self._usage_field()
        return [*parts, _part(b"finish-step"), _part(b"finish", **fields)]

    def _stop(self, stopped: dict[str, Any]) -> list[bytes]:
        parts = [] if self._begun else self._begin()
        parts += self._break_off("The answer was stopped.")
        if not self._usage and stopped.get("usage"):
            self._usage = _json(stopped["usage"])
        usage = b"," + self._usage_field() if self._usage else b""
        metadata = b'{"chatproxy":{"stopped":%b}%b}' % (_json(stopped), usage)
        return [
            *parts,
            _part(b"data-chatproxy-stopped", data=_json(stopped), transient=b"true"),
            _part(b"message-metadata", messageMetadata=metadata),
            _part(b"abort", reason=_json(stopped["reason"])),
            _part(b"finish", finishReason=b'"interrupted"'),
        ]

    def _give_up(self, sentence: str) -> list[bytes]:
        """Fail because the answer is too large for this protocol; it goes on for other clients."""
        self.refusal = Refusal(sentence, status=502, code="answer_too_large")
        return self._fail(sentence)

    def _fail(self, sentence: str) -> list[bytes]:
        self._failed = True
        parts = self._break_off("The answer has failed.")
        return [*parts, _part(b"error", errorText=_json(sentence))]

    def _break_off(self, sentence: str) -> list[bytes]:
        """End what is open, in an answer that is not whole."""
        self._ended = True
        error = {"errorText": _json(sentence), **_BY_THE_SERVER}
        return [
            *self._close(),
            *(call.fail(sentence) for call in self._calls.values()),
            *(_part(b"tool-output-error", toolCallId=each, **error) for each in self._called),
        ]

    def _usage_field(self) -> bytes:
        """``usage`` as the AI SDK has it (``LanguageModelUsage``), the upstream's own in it."""
        try:
            raw = msgspec.json.format(self._usage, indent=-1)
            usage = _USAGE.decode(raw)
        except NO_JSON:
            return b'"usage":{}'
        given = usage.prompt_tokens_details or _Details()
        made = usage.completion_tokens_details or _Details()
        fields = {
            "inputTokens": usage.prompt_tokens,
            "inputTokenDetails": _known(cacheReadTokens=given.cached_tokens),
            "outputTokens": usage.completion_tokens,
            "outputTokenDetails": _known(reasoningTokens=made.reasoning_tokens),
            "totalTokens": usage.total_tokens,
            "raw": msgspec.Raw(raw),
        }
        return b'"usage":' + msgspec.json.encode(_known(**fields))


def _message_id(chunk: Chunk) -> bytes:
    """The JSON of the message's id: the chunk's id and time, as some count their ids to 999."""
    chunk_id, created = bytes(chunk.id), bytes(chunk.created)
    if not says(chunk_id):
        return b""
    return b'%b-%b"' % (chunk_id[:-1], created) if created.isdigit() else chunk_id


def _known(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _part(kind: bytes, **fields: bytes) -> bytes:
    """A part, from the JSON of its fields."""
    rest = b"".join([b',"%b":%b' % (name.encode(), text) for name, text in fields.items()])
    return b'{"type":"%b"%b}' % (kind, rest)


def _raw_part(kind: bytes, fields: dict[str, msgspec.Raw], **more: bytes) -> bytes:
    return _part(kind, **{name: bytes(text) for name, text in fields.items()}, **more)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
