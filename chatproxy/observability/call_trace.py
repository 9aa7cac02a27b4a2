"""CallTrace: the span of one call, and what is noted for its end."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span

from ..answers.question import Question
from ..answers.transcript import chunk_of
from . import genai

#: What an event has that does not say why the answer ends, and what one has that does.
_UNFINISHED = b'"finish_reason":null'
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
#: The most events that are kept because they may say that.
_MOST_ENDS = 16


class CallTrace:
    """A ``Trace``: the span of one call, and what is noted for its end.

    :param tracing: what has made it.
    :param headers: see ``Trace``.
    """

    def __init__(self, tracing: object, span: Span, headers: Mapping[str, str]) -> None:
        self.tracing = tracing
        self.span = span
        self.id = trace.format_trace_id(span.get_span_context().trace_id)
        self.headers = headers
        #: None after the end, and of what is no question.
        self.question: Question | None = None
        #: The spans of tools that are open, by the tools' ids, and in which context each began;
        #: None after the end.
        self._tools: dict[str, tuple[Span, Context]] | None = {}
        self._lock = threading.Lock()
        self._first = b""
        self._ends: list[bytes] = []

    def take(self, events: list[bytes]) -> None:
        """See ``Trace``. Nothing is decoded before the end."""
        if not self._first:
            self._first = events[0]
        for block in events:
            if block.rfind(_UNFINISHED) < 0 and _FINISH_REASON.search(block):
                self._ends = [*self._ends, block][-_MOST_ENDS:]

    def response(self) -> genai.Attributes:
        """What the upstream calls its answer."""
        chunk = chunk_of(self._first) if self._first else None
        named = chunk if isinstance(chunk, dict) else {}
        found = {f"gen_ai.response.{name}": named.get(name) for name in ("id", "model")}
        return {name: genai.named(each) for name, each in found.items() if isinstance(each, str)}

    def finish_reasons(self) -> dict[int, str]:
        """Why each choice ended, as far as that has come."""
        found: dict[int, str] = {}
        for chunk in map(chunk_of, self._ends):
            choices = chunk.get("choices") if isinstance(chunk, dict) else None
            for choice in choices if isinstance(choices, list) else ():
                index, reason = (
                    (choice.get("index", 0), choice.get("finish_reason"))
                    if isinstance(choice, dict)
                    else (0, None)
                )
                if isinstance(index, int) and isinstance(reason, str):
                    found[index] = genai.named(reason)
        return found

    def open_tool(self, call_id: str, span: Span, before: Context) -> None:
        """Keep the span of a tool until it is closed, or this one ends."""
        with self._lock:
            left = span if self._tools is None else None
            if self._tools is not None:
                left, _ = self._tools.pop(call_id, (None, None))
                self._tools[call_id] = span, before
        if left is not None:
            left.end()

    def close_tool(self, call_id: str) -> tuple[Span, Context] | None:
        """The span of a tool, which is for the caller to end; None if there is none."""
        with self._lock:
            return None if self._tools is None else self._tools.pop(call_id, None)

    def end(self) -> None:
        """End the span, and whatever is open under it. The id stays, for the log."""
        with self._lock:
            tools, self._tools = self._tools or {}, None
        for tool, _ in tools.values():
            tool.end()
        self.span.end()
        # The session may be retained for long; what begins late can still be beneath it.
        self.span = NonRecordingSpan(self.span.get_span_context())
        self.question = None
        self._first, self._ends = b"", []
