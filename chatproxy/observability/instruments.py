"""The metrics of ``families`` as OpenTelemetry has them. Imported only if telemetry is on.

Each process tells what it has itself counted since it began, as an instance of the service of its
own (``otlp``), and whoever reads them adds up: nothing is counted twice. ``/metrics`` has the sums
of a host's workers instead; read one of the two.

The names are such that a collector which writes them for Prometheus makes those of ``/metrics``:
``chatproxy.stop`` in seconds is ``chatproxy_stop_seconds``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics

from .. import __version__
from .families import BY_UPSTREAM, FAMILIES, Addition, Family, known

_UNITS = {"seconds": "s", "bytes": "By"}
#: Adds an amount to a series; to a histogram, an observation.
_Add = Callable[[float, "dict[str, str]"], None]


class Instruments:
    """An instrument for each metric."""

    def __init__(self) -> None:
        meter = metrics.get_meter("chatproxy", __version__)
        self._add: dict[str, _Add] = {
            each.name: _instrument(meter, each) for each in (*FAMILIES, *BY_UPSTREAM)
        }

    def add(self, additions: Iterable[Addition], more: Mapping[str, str]) -> None:
        """Count what ``Metrics`` counts.

        :param more: labels that all of it has.
        """
        for family, labels, amount in additions:
            labelled = dict(zip(family.labels, known(family, labels), strict=True))
            self._add[family.name](amount, {**more, **labelled})


def name_of(family: Family) -> str:
    """What a metric is called."""
    name = family.name.removeprefix("chatproxy_").removesuffix("_total")
    return f"chatproxy.{name.removesuffix(f'_{family.unit}')}"


def _instrument(meter: metrics.Meter, family: Family) -> _Add:
    name, unit = name_of(family), _UNITS.get(family.unit, family.unit)
    if family.type == "histogram":
        bounds = family.bounds
        return meter.create_histogram(
            name, unit, family.help, explicit_bucket_boundaries_advisory=bounds
        ).record
    if family.type == "gauge":
        return meter.create_up_down_counter(name, unit, family.help).add
    return meter.create_counter(name, unit, family.help).add
