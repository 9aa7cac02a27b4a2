"""The plot of a storm, as an SVG with its own background: readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from . import svg as shapes
from .figures import percentile
from .record import Record, Sample

_WIDTH, _HEIGHT = 960, 640
_LEFT, _RIGHT, _TOP, _PANEL, _GAP = 64, 24, 64, 140, 44
#: Into how many pieces the time is cut for the percentiles of Stops.
_PIECES = 60

_STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
.ground { fill: #ffffff; } text { fill: #24292f; } .faint { fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.kill { stroke: #cf222e; stroke-width: 1; stroke-dasharray: 4 3; } .freeze { fill: #54aeff66; }
.kill-text { fill: #cf222e; } .freeze-text { fill: #0969da; }
.a { stroke: #0969da; } .b { stroke: #8250df; } .other { stroke: #8c959f; stroke-width: 1.2; }
.a-text { fill: #0969da; } .b-text { fill: #8250df; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; }
  .grid { stroke: #30363d; } .kill { stroke: #ff7b72; } .freeze { fill: #388bfd66; }
  .kill-text { fill: #ff7b72; } .freeze-text { fill: #58a6ff; }
  .a { stroke: #58a6ff; } .b { stroke: #d2a8ff; } .other { stroke: #6e7681; }
  .a-text { fill: #58a6ff; } .b-text { fill: #d2a8ff; }
}
"""

_Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Scale:
    """Seconds and values to places within one panel; values from 0 to ``most``."""

    top: float
    seconds: float
    most: float

    def x(self, at: float) -> float:
        return _LEFT + at / self.seconds * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.top + _PANEL * (1 - min(value, self.most) / self.most)

    def line(self, points: _Points, name: str) -> str:
        places = " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in points)
        return f'<polyline class="line {name}" points="{places}"/>'


def svg(record: Record) -> str:
    """Live sessions, memory, and the time from Stop to close, each over the time of the storm."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(_title(record))}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
        shapes.text(_LEFT, 26, _title(record), size=15),
        *_legend(record),
    ]
    for number, panel in enumerate((_live, _memory, _stops)):
        top = _TOP + 24 + number * (_PANEL + _GAP)
        parts += panel(record, top)
    return "\n".join([*parts, "</svg>", ""])


def _title(record: Record) -> str:
    sessions = sum(record.sessions.values())
    return f"{sessions:,} sessions in {_minutes(record.seconds)}, with workers killed and frozen"


def _legend(record: Record) -> Iterator[str]:
    kills, freezes = (len(record.of_kind(kind)) for kind in ("kill", "freeze"))
    yield shapes.text(_LEFT, 46, f"┆ a worker is killed ({kills})", "kill-text")
    yield shapes.text(_LEFT + 170, 46, f"▮ a worker is frozen ({freezes})", "freeze-text")


def _live(record: Record, top: float) -> Iterator[str]:
    points = [(sample.at, float(sample.live)) for sample in _storm(record)]
    scale = _Scale(top, record.seconds, _nice(max(value for _, value in points)))
    yield from _panel(record, scale, "live sessions")
    yield scale.line(points, "a")


def _memory(record: Record, top: float) -> Iterator[str]:
    samples = _storm(record)
    most = max(max(sample.memory.values()) for sample in samples)
    scale = _Scale(top, record.seconds, _nice(most))
    yield from _panel(record, scale, "memory of each worker, MB (RSS)")
    yield shapes.text(_WIDTH - _RIGHT, top - 8, "in blue: there all the time", "a-text", "end")
    oldest = set(samples[0].memory) & set(samples[-1].memory)
    for pid in sorted({pid for s in samples for pid in s.memory}, key=oldest.__contains__):
        points = [(s.at, s.memory[pid]) for s in samples if pid in s.memory]
        yield scale.line(points, "a" if pid in oldest else "other")


def _stops(record: Record, top: float) -> Iterator[str]:
    piece = record.seconds / _PIECES
    groups: dict[int, list[float]] = {}
    for stop in record.stops:
        groups.setdefault(min(int(stop.at / piece), _PIECES - 1), []).append(stop.to_close)
    middle = [((n + 0.5) * piece, percentile(0.5, groups[n])) for n in sorted(groups)]
    high = [((n + 0.5) * piece, percentile(0.99, groups[n])) for n in sorted(groups)]
    # A Stop whose worker is frozen waits for its thaw. Such would press all others to the ground.
    most = _nice(percentile(0.9, [value for _, value in high]) * 1.2)
    scale = _Scale(top, record.seconds, most)
    yield from _panel(record, scale, "Stop sent to upstream closed, ms")
    yield shapes.text(_WIDTH - _RIGHT - 80, top - 8, "median", "a-text", "end")
    yield shapes.text(_WIDTH - _RIGHT, top - 8, "99 of 100", "b-text", "end")
    yield scale.line(high, "b")
    yield scale.line(middle, "a")
    for at, value in high:
        if value > most:
            yield shapes.text(scale.x(at) + 4, top + 11, f"{value:,.0f}", "b-text", size=9)
    for minute in range(int(record.seconds // 60) + 1):
        yield shapes.text(scale.x(60 * minute), top + _PANEL + 18, f"{minute}", "faint", "middle")
    yield shapes.text(_WIDTH - _RIGHT, top + _PANEL + 34, "minutes", "faint", "end")


def _panel(record: Record, scale: _Scale, name: str) -> Iterator[str]:
    yield shapes.text(_LEFT, scale.top - 8, name)
    for event in record.events:
        x, bottom = scale.x(event.at), scale.top + _PANEL
        if event.kind == "kill":
            yield shapes.line(x, scale.top, x, bottom, "kill")
        else:
            width = max(1.5, scale.x(event.at + event.seconds) - x)
            place = f'x="{x:.1f}" y="{scale.top}" width="{width:.1f}" height="{_PANEL}"'
            yield f'<rect class="freeze" {place}/>'
    for share in (0.0, 0.5, 1.0):
        y = scale.y(share * scale.most)
        yield shapes.line(_LEFT, y, _WIDTH - _RIGHT, y, "grid")
        yield shapes.text(_LEFT - 8, y + 4, f"{share * scale.most:g}", "faint", "end")


def _storm(record: Record) -> list[Sample]:
    return [sample for sample in record.samples if sample.at <= record.seconds]


def _nice(value: float) -> float:
    """The next round number, of which the half is one as well."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    return next(power * step for step in (1, 2, 3, 4, 5, 6, 8, 10) if power * step >= value)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
