"""What is measured: each metric with its name, type, unit, help text and labels.

No label has a value from a client, so all series are known beforehand. Each of their numbers has
its place in one row (``Row``), which workers can share (``shared_counters``). Those of an upstream
have a row for each upstream, whose name is a label of theirs beside the others
(``counters_by_name``).
"""

from __future__ import annotations

import itertools
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..answers.session import Outcome, Phase, Reason
from ..answers.usage import UsageSource

Labels = tuple[str, ...]

#: The codes of ``UpstreamError``. Any other is counted as "other".
UPSTREAM_CODES = (
    "too_many_sessions",
    "upstream_auth",
    "upstream_balance",
    "upstream_busy",
    "upstream_failed",
    "upstream_rejected",
    "upstream_timeout",
    "upstream_unreachable",
)

_STOP_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_FIRST_EVENT_BOUNDS = (
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
)


@dataclass(frozen=True)
class Family:
    """One metric: its name, type, help text and unit, and every combination of labels it has.

    :param series: the labels' values that are shown from the start, even if 0.
    :param bounds: the upper bounds of a histogram's buckets, without the infinite one.
    """

    name: str
    type: str
    help: str = field(repr=False)
    labels: Labels = ()
    series: tuple[Labels, ...] = ((),)
    unit: str = ""
    bounds: tuple[float, ...] = ()


#: What to add to one series; for a histogram, what to observe.
Addition = tuple[Family, Labels, float]


def _ways_to_end() -> Iterator[Labels]:
    for phase in Phase:
        yield Outcome.FAILED.value, phase.value, "none"
        yield from ((Outcome.STOPPED.value, phase.value, reason.value) for reason in Reason)
        if phase is not Phase.CONNECTING:
            yield Outcome.FINISHED.value, phase.value, "none"


SESSIONS_LIVE = Family("chatproxy_sessions_live", "gauge", "Answers that are running now.")
SESSIONS = Family(
    "chatproxy_sessions_total",
    "counter",
    "Answers that ended, by outcome, phase, and why they were stopped.",
    ("outcome", "phase", "reason"),
    tuple(sorted(_ways_to_end())),
)
STOP = Family(
    "chatproxy_stop_seconds",
    "histogram",
    "Time from the arrival of a Stop to the close of the connection to DeepSeek.",
    ("by",),
    (("self",), ("peer",)),
    "seconds",
    _STOP_BOUNDS,
)
CANCELS = Family(
    "chatproxy_cancels_total",
    "counter",
    "Stops that were answered, by result, and whether another worker had to be asked.",
    ("result", "by"),
    tuple(itertools.product(("stopped", "not_found", "unavailable"), ("self", "peer"))),
)
FIRST_EVENT = Family(
    "chatproxy_first_event_seconds",
    "histogram",
    "Time from the start of an answer to DeepSeek's first event; counted when the answer ends.",
    unit="seconds",
    bounds=_FIRST_EVENT_BOUNDS,
)
EVENTS = Family(
    "chatproxy_events_total",
    "counter",
    "Events received from DeepSeek; counted when the answer ends.",
)
RECEIVED = Family(
    "chatproxy_received_bytes_total",
    "counter",
    "Bytes of events received from DeepSeek; counted when the answer ends.",
    unit="bytes",
)
TOKENS = Family(
    "chatproxy_tokens_total",
    "counter",
    "Tokens of answers that ended: input or output, who says so, and how the answer ended.",
    ("direction", "source", "outcome"),
    tuple(
        itertools.product(
            ("input", "output"),
            (source.value for source in UsageSource if source is not UsageSource.NONE),
            (outcome.value for outcome in Outcome),
        )
    ),
)
SAVED = Family(
    "chatproxy_saved_tokens_total",
    "counter",
    "Tokens that Stops have saved at most: what the questions allowed, less what came.",
)
COST = Family(
    "chatproxy_cost_total",
    "counter",
    "What answers have cost, as far as that is known, by currency.",
    ("currency",),
    (("CNY",), ("EUR",), ("USD",)),
)
UPSTREAM_ERRORS = Family(
    "chatproxy_upstream_errors_total",
    "counter",
    "Answers that DeepSeek refused, broke off or did not begin, by the code that clients got.",
    ("code",),
    tuple((code,) for code in UPSTREAM_CODES),
)
PEER_REQUESTS = Family(
    "chatproxy_peer_requests_total",
    "counter",
    "Requests for an id among the workers, and questions to one of them, by result.",
    ("operation", "result"),
    tuple(itertools.product(("take", "ask"), ("ok", "unavailable"))),
)
FORGOTTEN = Family(
    "chatproxy_early_cancels_forgotten_total",
    "counter",
    "Stops that came before their start, and were forgotten early to make room for others.",
)
UNFINISHED = Family(
    "chatproxy_requests_unfinished_total",
    "counter",
    "Requests that the server gave up, by the part that was missing, and why.",
    ("part", "why"),
    (*itertools.product(("head", "body"), ("timeout", "room")), ("answer", "room")),
)
RECORDED = Family(
    "chatproxy_records_total",
    "counter",
    "Answers that were written to the records, or are lost to them.",
    ("result",),
    (("written",), ("lost",)),
)

FAMILIES = (
    SESSIONS_LIVE,
    SESSIONS,
    STOP,
    CANCELS,
    FIRST_EVENT,
    EVENTS,
    RECEIVED,
    TOKENS,
    SAVED,
    COST,
    UPSTREAM_ERRORS,
    PEER_REQUESTS,
    FORGOTTEN,
    UNFINISHED,
    RECORDED,
)

UPSTREAM_CALLS = Family(
    "chatproxy_upstream_calls_total",
    "counter",
    "Calls of an upstream, by outcome; passed_on is a try that failed, after which another came.",
    ("outcome",),
    (*((outcome.value,) for outcome in Outcome), ("passed_on",)),
)
UPSTREAM_FIRST_EVENT = Family(
    "chatproxy_upstream_first_event_seconds",
    "histogram",
    "Time from the try that an upstream has answered to its first event.",
    unit="seconds",
    bounds=_FIRST_EVENT_BOUNDS,
)

#: Those of each upstream.
BY_UPSTREAM = (UPSTREAM_CALLS, UPSTREAM_FIRST_EVENT)


def _others(family: Family) -> Labels:
    """The series for values that nobody has foreseen; shown only if there are any."""
    return ("other",) * len(family.labels)


def known(family: Family, labels: Labels) -> Labels:
    """The series that these labels count for."""
    return labels if labels in family.series else _others(family)


class Row:
    """Where the numbers of some metrics are in a row of numbers.

    :ivar size: how many numbers there are.
    :ivar gauges: the places of those that end with their worker.
    :ivar layout: differs if the places do, as after an update of the package.
    """

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._places: dict[tuple[str, Labels], range] = {}
        self.size = 0
        for family in families:
            # A histogram has its buckets, the infinite one, and the sum.
            width = len(family.bounds) + 2 if family.type == "histogram" else 1
            for labels in dict.fromkeys((*family.series, _others(family))):
                self._places[family.name, labels] = range(self.size, self.size + width)
                self.size += width
        gauges = (family for family in families if family.type == "gauge")
        self.gauges = [self._places[family.name, ()].start for family in gauges]
        self.layout = f"{zlib.crc32(repr(families).encode()):08x}"

    def amounts(self, additions: Iterable[Addition]) -> dict[int, float]:
        """How much to add, and in which places."""
        amounts: dict[int, float] = {}
        for family, labels, amount in additions:
            found = self._places[family.name, known(family, labels)]
            amounts[found[-1]] = amount
            if family.type == "histogram":
                amounts[found[bisect_left(family.bounds, amount)]] = 1
        return amounts

    def series(
        self, family: Family, numbers: Sequence[float]
    ) -> Iterator[tuple[Labels, Sequence[float]]]:
        """The series of a metric, each with its numbers out of the whole row."""
        others = _others(family)
        for labels in dict.fromkeys((*family.series, others)):
            found = [numbers[place] for place in self._places[family.name, labels]]
            if labels in family.series or any(found):
                yield labels, found


ROW = Row(FAMILIES)
UPSTREAM_ROW = Row(BY_UPSTREAM)
