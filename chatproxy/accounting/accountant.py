"""Accountant: what an answer came to, settled once, when its upstream has been closed.

Where the numbers come from, the first that there is:

1. *provider*: the upstream's own count came, with the last event or, if it is asked for that, with
   each one.
2. *counted*: a tokenizer of the model's counts the question, if it was sent, and what had come.
3. *estimated*: both are worked out from their lengths. No estimate is above ``max_tokens``, unless
   more events have come: not every service keeps to it.
4. *none*: no request was sent, or no answer began: the upstream refused it, or broke off.

No byte is read in order to count, and no Stop waits for it: the connection is gone by then, and a
count is waited for only a moment (``tokenizers``). An answer that is stopped before its first event
has taken the tokens of its question: it was sent.

What finished answers were like is learned here (``estimates``), from the provider's counts.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from .. import signals
from ..answers.question import Question
from ..answers.session import Outcome, Phase, Reason, StreamSession
from ..answers.transcript import Transcript
from ..answers.usage import Account, Saved, Usage, UsageSource, counted
from .estimates import Estimates, size_of, size_of_json
from .prices import Prices
from .tokenizers import TokenCounter

#: The most characters of an answer that are kept for its count.
MOST_CHARACTERS = 4 << 20
#: The largest body of a question that is kept for its count, in bytes.
_LARGEST_KEPT = 128 * 1024
#: An image in a question, and about how many tokens that has.
_INLINE = b'"data:'
_IMAGE = re.compile(rb'"data:[^"]{100,}"')
_TOKENS_OF_IMAGE = 1000
#: The most fields of a provider's usage that are kept.
_MOST_FIELDS = 20
#: A provider that tells more tokens tells nothing.
_MOST_TOKENS = 10**9
#: Seconds after which another finished answer of a model is looked at, however much is known.
_LEARN_SECONDS = 10.0
#: An answer that has run for so long makes it worth while to start a process that counts.
_LASTING_SECONDS = 1.0


class Accountant:
    """The accounts of one application, in one worker.

    :param counter: None if no tokens are counted.
    """

    def __init__(self, prices: Prices, counter: TokenCounter | None) -> None:
        self.prices = prices
        self._counter = counter
        self._estimates = Estimates()
        self._next_look = 0.0

    def open(self, session: StreamSession, question: Question) -> None:
        """Keep what is needed to settle a session: its question, and a transcript in its log."""
        session.model = question.model
        body, images = (
            _IMAGE.subn(b'""', question.body) if _INLINE in question.body else (question.body, 0)
        )
        session.question_size = size_of_json(body) + images * _TOKENS_OF_IMAGE
        session.has_images = images > 0
        is_small = len(question.body) <= _LARGEST_KEPT or signals.stream_ended.receivers
        session.question = question if is_small else question._replace(body=b"")
        session.log.transcript = Transcript(MOST_CHARACTERS)

    def prepare(self, live: Callable[[], Iterable[StreamSession]]) -> None:
        """See that tokens can be counted soon, if an answer lasts: it may be stopped."""
        counter = self._counter
        if counter is None or counter.is_started:
            return
        if any(session.age() >= _LASTING_SECONDS for session in live()):
            counter.start()

    def settle(self, session: StreamSession) -> Account:
        """What a session came to: a run to the sum of its calls."""
        if session.calls is not None:
            return session.calls.account
        question = session.question
        if question is None:
            return session.account
        usage = self._usage_of(session, question)
        upstream, models = session.upstream, (session.upstream_model, session.model)
        cost = self.prices.cost(upstream, models, _time_of(session), usage)
        return Account(usage, cost, self._saved_by(session, question, usage))

    def _usage_of(self, session: StreamSession, question: Question) -> Usage:
        if session.usage is not None and (tokens := _sound(session.usage)):
            usage = Usage(UsageSource.PROVIDER, tokens)
            if session.outcome is Outcome.FINISHED:
                self._learn(session, question, usage)
            return usage
        never_sent = session.phase is Phase.CONNECTING
        was_refused = session.outcome is Outcome.FAILED and session.first_event_at is None
        if never_sent or was_refused or (transcript := session.log.transcribed()) is None:
            return Usage()
        said = transcript.said
        if self._counter is not None and question.body:
            model = session.upstream_model or session.model
            counts = self._counter.count(model, question.body, said)
            if counts is not None:
                return counted(*counts)
        return self._estimated(session, question, said)

    def _estimated(self, session: StreamSession, question: Question, said: str) -> Usage:
        prompt = self._estimates.prompt(session.model, session.question_size)
        completion, spread = self._estimates.completion(session.model, size_of(said))
        if said:
            most = max(question.max_tokens or completion, session.events)
            completion = max(1, min(completion, most))
        return counted(prompt, completion, UsageSource.ESTIMATED, round(spread, 3))

    def _learn(self, session: StreamSession, question: Question, usage: Usage) -> None:
        model, now = session.model, time.monotonic()
        completion = None
        if self._estimates.wants_to_learn(model) or now >= self._next_look:
            self._next_look = now + _LEARN_SECONDS
            transcript = session.log.transcribed()
            if transcript is not None and (said := transcript.said):
                completion = size_of(said), usage.completion_tokens
        prompt = None if session.has_images else (session.question_size, usage.prompt_tokens)
        self._estimates.learn(model, prompt, completion)
        if question.choices == 1 and not session.cut_short:
            self._estimates.learn_length(model, usage.completion_tokens)

    def _saved_by(self, session: StreamSession, question: Question, usage: Usage) -> Saved | None:
        if session.outcome is not Outcome.STOPPED or usage.source is UsageSource.NONE:
            return None
        if session.reason is Reason.BUDGET:  # it has had all that it could
            return None
        granted = session.reservation
        most = question.max_tokens if granted is None else granted.completion
        came = usage.completion_tokens
        likely = self._estimates.rest(session.model, came) if question.choices == 1 else None
        at_most = None if most is None else max(0, most - came)
        return Saved(at_most, likely)


def _time_of(session: StreamSession) -> dt.datetime:
    """When the answer was asked for, which decides on its price."""
    return dt.datetime.fromtimestamp(time.time() - session.age(), dt.timezone.utc)


def _sound(usage: dict[str, Any]) -> dict[str, Any]:
    """What can be told of a provider's usage: whole numbers, and tables of them."""
    sound: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            details = {k[:100]: v for k, v in value.items() if _is_count(v)}
            value = dict(list(details.items())[:_MOST_FIELDS])  # noqa: PLW2901
        elif not _is_count(value):
            continue
        sound[name[:100]] = value
        if len(sound) == _MOST_FIELDS:
            break
    is_usage = "prompt_tokens" in sound or "completion_tokens" in sound
    return sound if is_usage else {}


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_TOKENS
