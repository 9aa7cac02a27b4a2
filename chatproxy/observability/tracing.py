"""Signals in, OpenTelemetry spans out. Imported only if ``CHATPROXY_TELEMETRY`` is on.

An answer is one span, a child of whatever its request is in. It is ``chat <model>`` if an upstream
makes it, all tries included. It is ``invoke_agent <name>`` if a run does; then each call of an
upstream, each HTTP request and each tool under the run is a child. Rules:

* What has begun has an end, in whatever way the answer ends: the end of an answer also ends what is
  open under it.
* To stop is no error. A span is in error if an answer failed, or was stopped by what nobody wanted
  (silence, the deadline, the loss of its lease).
* The span is the present one for all that is done for its answer, and nowhere else: the producer
  has a context of its own (PEP 567). So what other instrumentations make there are its children.
* What is said is in no span, unless ``CHATPROXY_TELEMETRY_CONTENT`` is on. Nor is the sentence of
  what has failed, which may quote it: there is its code alone.
* Spans are given to the application's own tracer provider, if it has one.
* What fails here fails no answer: ``signals`` sees to that, and a span is kept as soon as it is
  there, so that it is ended all the same.

``genai`` has the names of what is noted.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__, signals
from ..answers.calls import State
from ..answers.question import Question
from ..answers.session import Outcome, Reason, StreamSession
from ..answers.trace import Trace
from ..answers.upstream import CONFIGURED, Upstream
from ..config import Settings
from . import genai
from .call_trace import CallTrace

#: The most names of models that the metrics tell apart: clients choose them.
_MOST_MODELS = 50
#: The bounds that the conventions ask for, of seconds and of tokens.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(float(4**power) for power in range(14))
#: What an upstream is told of: the trace, and nothing else of the request (its baggage, say).
_TRACE_CONTEXT = TraceContextTextMapPropagator()


class Tracing:
    """The spans of one application's answers, and the metrics of the GenAI conventions."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._tracer = trace.get_tracer("chatproxy", __version__)
        meter = metrics.get_meter("chatproxy", __version__)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long a call of a model took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a call of a model.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._configured = Upstream(settings.base_url, name=CONFIGURED)
        self._with_content = settings.telemetry_content
        self._propagates = settings.propagate_trace
        self._models: set[str] = set()
        signals.answer_begun.connect(self._answer_begun, sender=app)
        signals.stream_closed.connect(self._stream_closed, sender=app)
        signals.call_begun.connect(self._call_begun, sender=app)
        signals.call_ended.connect(self._call_ended, sender=app)
        # The senders of these don't know for which application it is.
        signals.producer_begun.connect(self._producer_begun)
        signals.try_failed.connect(self._try_failed)
        signals.tool_begun.connect(self._tool_begun)
        signals.tool_ended.connect(self._tool_ended)

    def _own(self, found: Trace | None) -> CallTrace | None:
        """What is ours; None if it is another application's."""
        return found if isinstance(found, CallTrace) and found.tracing is self else None

    # ---- what begins -----------------------------------------------------------------------------

    def _answer_begun(
        self, _: object, session: StreamSession, question: Question, **__: Any
    ) -> None:
        more, context = genai.of_session(session), contexts.get_current()
        session.trace = found = self._begin_question(question, more, context)
        self._take_question(found, question)

    def _call_begun(
        self, _: object, call: State, name: str, question: Question | None, within: Any, **__: Any
    ) -> None:
        if (parent := self._own(within)) is None:
            return
        context = _beneath(parent)
        if question is not None:
            call.trace = found = self._begin_question(question, {}, context)
            self._take_question(found, question)
        else:
            name = genai.named(name)
            method, _space, host = name.partition(" ")
            attributes: genai.Attributes = {"http.request.method": method, "server.address": host}
            call.trace = self._begin(name, context, SpanKind.CLIENT, attributes)

    def _begin_question(
        self, question: Question, more: genai.Attributes, context: contexts.Context
    ) -> CallTrace | None:
        kind, attributes = SpanKind.INTERNAL, {**genai.of_question(question), **more}
        if not question.run:
            kind = SpanKind.CLIENT
            attributes |= genai.of_server(self._upstreams_of(question)[0])
        found = self._begin(genai.name_of(question), context, kind, attributes)
        if found is not None:
            found.question = question
        return found

    def _take_question(self, found: CallTrace | None, question: Question) -> None:
        """Note what is asked, if that is wanted."""
        if self._with_content and found is not None and found.span.is_recording():
            messages = genai.input_messages(question.body)
            found.span.set_attribute("gen_ai.input.messages", messages)

    def _begin(
        self, name: str, context: contexts.Context, kind: SpanKind, attributes: genai.Attributes
    ) -> CallTrace | None:
        """Begin a span; None if there is no trace, as nobody wants one."""
        span = self._tracer.start_span(name, context, kind, attributes)
        if not span.get_span_context().is_valid:
            return None
        headers: dict[str, str] = {}
        if self._propagates:
            _TRACE_CONTEXT.inject(headers, trace.set_span_in_context(span, context))
        return CallTrace(self, span, headers)

    def _upstreams_of(self, question: Question) -> tuple[Upstream, ...]:
        return question.upstreams or (self._configured,)

    def _producer_begun(self, _: object, session: StreamSession, **__: Any) -> None:
        if (found := self._own(session.trace)) is not None:
            contexts.attach(trace.set_span_in_context(found.span))

    # ---- on the way ------------------------------------------------------------------------------

    def _try_failed(
        self,
        _: object,
        *,
        session: StreamSession,
        upstream: str,
        code: str,
        reason: str,
        following: str,
        pause: float,
        **__: Any,
    ) -> None:
        if (found := self._own(session.trace)) is not None:
            attributes: genai.Attributes = {
                "chatproxy.upstream": upstream,
                "error.type": genai.named(code),
                "chatproxy.following": following,
                "chatproxy.pause": pause,
            }
            if self._with_content:
                attributes["chatproxy.reason"] = genai.encodable(reason)
            found.span.add_event("chatproxy.try_failed", attributes)

    def _tool_begun(
        self, _: object, within: Any, call_id: str, name: str, arguments: Any, **__: Any
    ) -> None:
        if (parent := self._own(within)) is None:
            return
        before = _beneath(parent)
        attributes = genai.of_tool(name, call_id)
        if self._with_content:
            attributes["gen_ai.tool.call.arguments"] = genai.content(arguments)
        span = self._tracer.start_span(
            f"execute_tool {genai.named(name)}", before, attributes=attributes
        )
        parent.open_tool(call_id, span, before)
        contexts.attach(trace.set_span_in_context(span, before))

    def _tool_ended(
        self, _: object, within: Any, call_id: str, output: Any, error: str | None, **__: Any
    ) -> None:
        parent = self._own(within)
        if parent is None or (found := parent.close_tool(call_id)) is None:
            return
        span, before = found
        if error is not None:
            span.set_attribute("error.type", "tool_failed")
            span.set_status(StatusCode.ERROR)
        elif self._with_content:
            span.set_attribute("gen_ai.tool.call.result", genai.content(output))
        span.end()
        if trace.get_current_span() is span:
            contexts.attach(before)

    # ---- what ends -------------------------------------------------------------------------------

    def _stream_closed(self, _: object, session: StreamSession, **__: Any) -> None:
        if (found := self._own(session.trace)) is not None:
            self._end_session(found, session)

    def _call_ended(self, _: object, call: Any, **__: Any) -> None:
        if (found := self._own(call.trace)) is None:
            return
        if isinstance(call, StreamSession):
            self._end_session(found, call)
            return
        if call.status is not None:
            found.span.set_attribute("http.response.status_code", call.status)
        if call.aborted:
            found.span.set_attribute("chatproxy.outcome", Outcome.STOPPED.value)
        elif call.failure:
            found.span.set_attribute("error.type", call.failure)
            found.span.set_status(StatusCode.ERROR)
        found.end()

    def _end_session(self, found: CallTrace, session: StreamSession) -> None:
        try:
            attributes = genai.of_end(session)
            if found.question is not None and not found.question.run:
                attributes |= self._of_answer(found, found.question, session)
            if session.outcome is Outcome.STOPPED:
                attributes["langfuse.observation.level"] = "WARNING"
                attributes["langfuse.observation.status_message"] = _words_of(session.reason)
            if error := genai.error_of(session):
                attributes["langfuse.observation.level"] = "ERROR"
                found.span.set_status(StatusCode.ERROR, self._words_of_error(session, error))
            found.span.set_attributes(attributes)
        finally:
            found.end()

    def _words_of_error(self, session: StreamSession, code: str) -> str:
        if self._with_content and session.refusal is not None:
            return genai.encodable(session.refusal.message)
        return code

    def _of_answer(
        self, found: CallTrace, question: Question, session: StreamSession
    ) -> genai.Attributes:
        upstreams = self._upstreams_of(question)
        asked = next((each for each in upstreams if each.name == session.upstream), upstreams[0])
        server = genai.of_server(asked)
        reasons = found.finish_reasons()
        listed = genai.finish_reasons(reasons, question.choices, session.outcome)
        attributes: genai.Attributes = {
            **server,
            **found.response(),
            **genai.of_first_event(session),
            **genai.of_account(session.account),
            "gen_ai.response.finish_reasons": listed,
        }
        is_wanted = self._with_content and found.span.is_recording()
        said = session.log.transcribed() if is_wanted else None
        if said is not None:
            attributes["gen_ai.output.messages"] = genai.output_messages(
                said.text, said.reasoning_text, reasons.get(0, "error")
            )
        self._measure(question, session, server)
        return attributes

    def _measure(
        self, question: Question, session: StreamSession, server: genai.Attributes
    ) -> None:
        attributes: genai.Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": self._bounded(genai.named(question.model)),
            **server,
        }
        ended = session.closed_at or session.last_event_at
        error = genai.error_of(session)
        of_duration = {**attributes, **({"error.type": error} if error else {})}
        self._duration.record(max(0.0, ended - session.started_at), of_duration)
        counts = genai.counts_of(session.account.usage)
        for kind in ("input", "output"):
            if (count := counts.get(f"{kind}_tokens")) is not None:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})

    def _bounded(self, model: str) -> str:
        if len(self._models) < _MOST_MODELS:
            self._models.add(model)
        return model if model in self._models else "other"


def _beneath(parent: CallTrace) -> contexts.Context:
    """The context for what begins under a run: the present one, if it is of its trace.

    A thread that the application has begun itself may have none.
    """
    current = contexts.get_current()
    present = trace.get_current_span(current).get_span_context()
    if trace.format_trace_id(present.trace_id) == parent.id:
        return current
    return trace.set_span_in_context(parent.span, current)


def _words_of(reason: Reason | None) -> str:
    if reason is Reason.USER:
        return "stopped by user"
    return f"stopped: {reason.value}" if reason else "stopped"
