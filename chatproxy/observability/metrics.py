"""Signals in, Prometheus metrics out: the numbers of one application, summed over its workers.

``SharedCounters`` keeps the numbers, and ``prometheus_client`` writes them when they are scraped.

Its own way to sum over processes has one directory for all metrics of a process, fixed when it is
first imported: two applications in one process would overwrite each other's numbers, and the
application's own metrics would change their mode with ours. So it is imported only when something
is scraped, and the application can still choose that mode for itself. To count, it need not even
be installed.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask import Flask, Response, current_app, request

from .. import __version__, signals
from ..answers.session import StreamSession
from ..answers.usage import Account
from ..errors import ConfigError
from .counters_by_name import CountersByName
from .families import (
    BY_UPSTREAM,
    CANCELS,
    COST,
    EVENTS,
    FAMILIES,
    FIRST_EVENT,
    FORGOTTEN,
    PEER_REQUESTS,
    RECEIVED,
    RECORDED,
    ROW,
    SAVED,
    SESSIONS,
    SESSIONS_LIVE,
    STOP,
    TOKENS,
    UNFINISHED,
    UPSTREAM_CALLS,
    UPSTREAM_ERRORS,
    UPSTREAM_FIRST_EVENT,
    UPSTREAM_ROW,
    Addition,
    Family,
    Labels,
    Row,
)
from .shared_counters import Directory, SharedCounters

if TYPE_CHECKING:
    from prometheus_client import Metric


def _account_of(account: Account, outcome: str) -> Iterator[Addition]:
    usage, source = account.usage, account.usage.source.value
    if usage.tokens:
        yield TOKENS, ("input", source, outcome), usage.prompt_tokens
        yield TOKENS, ("output", source, outcome), usage.completion_tokens
    if account.cost is not None:
        yield COST, (account.cost.currency,), float(account.cost.amount)
    if account.saved is not None and account.saved.at_most is not None:
        yield SAVED, (), account.saved.at_most


def _counts(
    receive: Callable[..., Iterator[Addition]],
) -> Callable[..., None]:
    """A receiver that adds what ``receive`` yields."""

    @functools.wraps(receive)
    def receiver(self: Metrics, _sender: object, **sent: Any) -> None:
        self._add(receive(self, **sent))

    return receiver


class Metrics:
    """The metrics of one application. A collector, for a ``prometheus_client`` registry.

    :param directory: a directory that its workers share; ``PROMETHEUS_MULTIPROC_DIR`` overrides it.
    :param name: what the application is called among those that share it.
    """

    def __init__(self, app: Flask, directory: Directory = None, name: str = "") -> None:
        #: Told of all that is counted, too; None if nobody is.
        self.mirror: Callable[[Iterable[Addition], dict[str, str]], None] | None = None
        folder = partial(_folder, name or app.name, directory)
        self._counters = SharedCounters(folder, ROW.layout, ROW.size, ROW.gauges)
        self._by_upstream = CountersByName(folder, UPSTREAM_ROW)
        for signal, receiver in (
            (signals.stream_opened, self._stream_opened),
            (signals.stream_closed, self._stream_closed),
            (signals.call_ended, self._call_ended),
            (signals.cancel_answered, self._cancel_answered),
            (signals.peer_asked, self._peer_asked),
            (signals.cancel_forgotten, self._cancel_forgotten),
            (signals.request_unfinished, self._request_unfinished),
            (signals.answers_recorded, self._answers_recorded),
        ):
            signal.connect(receiver, sender=app)
        signals.request_unfinished.connect(self._request_unfinished, sender=None)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now, summed over the workers."""
        return _metrics(self._counters.total(), self._by_upstream.totals())

    def describe(self) -> Iterator[Metric]:
        """The same metrics without their numbers."""
        return _metrics([0.0] * ROW.size, {})

    def watch(self, upstreams: object) -> None:
        """Count the tries of what makes the calls, too."""
        signals.try_failed.connect(self._try_failed, sender=upstreams)

    def _add(self, additions: Iterable[Addition]) -> None:
        additions = list(additions)
        self._counters.add(ROW.amounts(additions))
        if self.mirror is not None:
            self.mirror(additions, {})

    def _add_for(self, upstream: str, *additions: Addition) -> None:
        counted_for = self._by_upstream.add(upstream, UPSTREAM_ROW.amounts(additions))
        if self.mirror is not None:
            self.mirror(additions, {"upstream": counted_for})

    def _count_call(self, session: StreamSession) -> None:
        """Count an answer, or a call of a run, for the upstream that was asked last."""
        if not session.upstream or session.outcome is None:
            return
        additions: list[Addition] = [(UPSTREAM_CALLS, (session.outcome.value,), 1)]
        if session.first_event_at is not None:
            asked_at = session.asked_at or session.started_at
            additions.append((UPSTREAM_FIRST_EVENT, (), session.first_event_at - asked_at))
        self._add_for(session.upstream, *additions)

    @_counts
    def _stream_opened(self, **_: Any) -> Iterator[Addition]:
        yield SESSIONS_LIVE, (), 1

    @_counts
    def _stream_closed(self, session: StreamSession, **_: Any) -> Iterator[Addition]:
        outcome = session.outcome.value if session.outcome else "other"
        reason = session.reason.value if session.reason else "none"
        yield SESSIONS_LIVE, (), -1
        yield SESSIONS, (outcome, session.phase.value, reason), 1
        yield EVENTS, (), session.events
        yield RECEIVED, (), session.bytes
        if session.first_event_at is not None:
            yield FIRST_EVENT, (), session.first_event_at - session.started_at
        yield from _account_of(session.account, outcome)
        if session.refusal is not None:
            yield UPSTREAM_ERRORS, (session.refusal.code,), 1
        self._count_call(session)

    @_counts
    def _call_ended(self, call: object, **_: Any) -> Iterator[Addition]:
        if isinstance(call, StreamSession):
            self._count_call(call)
        yield from ()

    @_counts
    def _try_failed(self, upstream: str, **_: Any) -> Iterator[Addition]:
        self._add_for(upstream, (UPSTREAM_CALLS, ("passed_on",), 1))
        yield from ()

    @_counts
    def _cancel_answered(
        self, result: str, by: str, seconds: float | None, **_: Any
    ) -> Iterator[Addition]:
        yield CANCELS, (result, by), 1
        if seconds is not None:
            yield STOP, (by,), seconds

    @_counts
    def _peer_asked(self, operation: str, result: str, **_: Any) -> Iterator[Addition]:
        yield PEER_REQUESTS, (operation, result), 1

    @_counts
    def _cancel_forgotten(self, **_: Any) -> Iterator[Addition]:
        yield FORGOTTEN, (), 1

    @_counts
    def _request_unfinished(self, part: str, why: str, **_: Any) -> Iterator[Addition]:
        yield UNFINISHED, (part, why), 1

    @_counts
    def _answers_recorded(self, result: str, count: int, **_: Any) -> Iterator[Addition]:
        yield RECORDED, (result,), count


def _folder(name: str, directory: Directory) -> Path | None:
    """The directory for one application's files."""
    given = directory() if callable(directory) else directory
    chosen = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or given
    return Path(chosen, f"chatproxy-{quote(name, safe='%')}") if chosen else None


#: Rows of numbers, each with the values of labels that all its series have.
_Rows = Sequence[tuple[Labels, Sequence[float]]]


def _metrics(
    numbers: Sequence[float], by_upstream: Mapping[str, Sequence[float]]
) -> Iterator[Metric]:
    import prometheus_client.core as prometheus  # noqa: PLC0415

    yield prometheus.InfoMetricFamily("chatproxy", "What runs here.", {"version": __version__})
    for family in FAMILIES:
        yield _metric(family, ROW, [((), numbers)])
    rows = [((upstream,), numbers) for upstream, numbers in by_upstream.items()]
    for family in BY_UPSTREAM:
        yield _metric(family, UPSTREAM_ROW, rows, ("upstream",))


def _metric(family: Family, row: Row, rows: _Rows, more: Labels = ()) -> Metric:
    """A metric.

    :param more: the labels whose values the rows have.
    """
    import prometheus_client.core as prometheus  # noqa: PLC0415

    name, text, labels, unit = family.name, family.help, (*more, *family.labels), family.unit
    series = [
        ((*first, *rest), found)
        for first, numbers in rows
        for rest, found in row.series(family, numbers)
    ]
    if family.type == "histogram":
        histogram = prometheus.HistogramMetricFamily(name, text, labels=labels, unit=unit)
        bounds = [*map(str, family.bounds), "+Inf"]
        for values, (*counts, total) in series:
            buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
            histogram.add_metric(values, buckets, total)
        return histogram
    kind = (
        prometheus.CounterMetricFamily if family.type == "counter" else prometheus.GaugeMetricFamily
    )
    metric = kind(name, text, labels=labels, unit=unit)
    for values, (number,) in series:
        metric.add_metric(values, number)
    return metric


def init_app(app: Flask, path: str = "/metrics") -> None:
    """Add a route for Prometheus to an application that has ``ChatProxy``.

    It runs inside the application's own ``before_request``.

    :raises ConfigError: if ``prometheus_client`` is not installed.
    :raises RuntimeError: if the application has no ``ChatProxy`` yet, or if the path is taken (by
        another exporter, for example: its route is the one that would be served).
    """
    if find_spec("prometheus_client") is None:
        raise ConfigError("Metrics need prometheus_client: pip install 'chatproxy[metrics]'.")
    if "chatproxy" not in app.extensions:
        raise RuntimeError("ChatProxy must be set up on this application first.")
    taken = [rule.endpoint for rule in app.url_map.iter_rules() if rule.rule == path]
    if taken:
        raise RuntimeError(f"{path} is taken by {taken[0]!r} already; give another path.")
    app.add_url_rule(path, "chatproxy_metrics", scrape)


def scrape() -> Response:
    """The metrics of the current application, in the format that the scraper asks for."""
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (TypeError, ValueError):  # a version that is not a number
        encode, content_type = choose_encoder("")
    metrics: Metrics = current_app.extensions["chatproxy"].metrics
    return Response(
        encode(metrics), content_type=content_type, headers={"Cache-Control": "no-store"}
    )
