"""The relays beside each other, as SVG with its own background, for light and for dark pages."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from .. import svg as shapes
from .results import Results
from .search import MOST_DELAY

_WIDTH = 960
_LEFT, _RIGHT, _TOP = 132, 84, 76
_BAR, _GROUP_GAP = 17, 16
_CURVES = 300
_NEAR = 1.1

_STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
.ground { fill: #ffffff; } text { fill: #24292f; } .faint { fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; } .limit { stroke: #cf222e; stroke-dasharray: 4 3; }
.c0 { color: #0969da; } .c1 { color: #57606a; } .c2 { color: #1a7f37; } .c3 { color: #8250df; }
.c4 { color: #bc4c00; } .c5 { color: #bf3989; }
.fill { fill: currentColor; } .line { fill: none; stroke: currentColor; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; }
  .grid { stroke: #30363d; } .limit { stroke: #ff7b72; }
  .c0 { color: #58a6ff; } .c1 { color: #9198a1; } .c2 { color: #3fb950; } .c3 { color: #d2a8ff; }
  .c4 { color: #f0883e; } .c5 { color: #f778ba; }
}
"""

#: A key of what was measured, its name, and how strong its colour is.
_Series = Sequence[tuple[str, str, float]]

#: What is drawn of a relay and a key, at this height and strength.
_Mark = Callable[[str, str, float, float], Iterator[str]]
_Ticks = Sequence[tuple[float, str]]

_LOADS: _Series = (
    ("cpu_steady", "steady, few streams", 1.0),
    ("cpu_saturated", "many streams", 0.45),
)
_STOPS: _Series = (
    ("stop_rest", "at rest", 1.0),
    ("stop_half", "at half of its most events", 0.7),
    ("stop_many", "beside many streams", 0.5),
)


def draw(results: Results, folder: Path) -> list[Path]:
    """Write what can be drawn of these results; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {"cpu": cpu(results), "stop": stop(results), "delays": delays(results)}
    drawn = {folder / f"speed-{name}.svg": image for name, image in images.items() if image}
    for path, image in drawn.items():
        path.write_text(image)
    return list(drawn)


def cpu(results: Results) -> str:
    """Bars of the CPU time for an event; empty if there is none."""
    series = _measured(results, _LOADS)
    most = max((_value(results, *each, "") for each in _pairs(results, series)), default=0.0)
    if not most:
        return ""

    def bar(relay: str, key: str, y: float, strength: float) -> Iterator[str]:
        value = _value(results, relay, key, "")
        width = (_WIDTH - _LEFT - _RIGHT) * value / most
        if value:
            place = f'x="{_LEFT}" y="{y:.1f}" width="{width:.1f}" height="{_BAR - 3}" rx="2"'
            yield f'<rect class="fill" opacity="{strength}" {place}/>'
        said = _short(value) if value else _why_not(results, relay, key)
        yield shapes.text(_LEFT + width + 6, y + 11, said, "" if value else "faint")

    return _rows(results, "CPU of the relay for each event, µs", series, bar)


def stop(results: Results) -> str:
    """From p50 to p99 of the time from Stop to close, by powers of ten; empty if there is none."""
    series = _measured(results, _STOPS)
    pairs = list(_pairs(results, series))
    values = [_value(results, *pair, kind) for pair in pairs for kind in ("p50", "p99")]
    if not (values := [value for value in values if value > 0]):
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    scale = (_WIDTH - _LEFT - _RIGHT) / max(1, high - low)

    def x(value: float) -> float:
        return _LEFT + (math.log10(max(value, 10.0**low)) - low) * scale

    def mark(relay: str, key: str, y: float, strength: float) -> Iterator[str]:
        p50, p99 = (_value(results, relay, key, kind) for kind in ("p50", "p99"))
        if not p99:
            yield shapes.text(_LEFT + 6, y + 11, _why_not(results, relay, key), "faint")
            return
        middle = y + _BAR / 2 - 1
        yield f'<g opacity="{strength}">'
        yield shapes.line(x(p50), middle, x(p99), middle, "line")
        yield f'<circle class="fill" cx="{x(p50):.1f}" cy="{middle:.1f}" r="4.5"/>'
        yield shapes.line(x(p99), middle - 5, x(p99), middle + 5, "line")
        yield "</g>"
        yield shapes.text(x(p99) + 8, y + 11, f"{_short(p50)} to {_short(p99)}")

    ticks = [(x(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    title = "From Stop to the upstream's close, ms: the median, and 99 of 100"
    return _rows(results, title, series, mark, ticks)


def delays(results: Results) -> str:
    """How late the last of 100 events is, by the number of streams; empty if there is nothing."""
    curves = {relay: _curve(points) for relay, points in results.points.items() if points}
    if not curves:
        return ""
    places = [place for curve in curves.values() for place in curve]
    widest = max(streams for streams, _ in places)
    low = math.floor(math.log10(min(value for _, value in places)))
    high = math.ceil(math.log10(max(MOST_DELAY * 2, *(value for _, value in places))))
    bottom = _TOP + _CURVES

    def x(streams: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * streams / widest

    def y(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * _CURVES

    parts = []
    for power in range(low, high + 1):
        parts.append(shapes.line(_LEFT, y(10.0**power), _WIDTH - _RIGHT, y(10.0**power), "grid"))
        parts.append(shapes.text(_LEFT - 8, y(10.0**power) + 4, f"{10.0**power:g}", "faint", "end"))
    parts.append(shapes.line(_LEFT, y(MOST_DELAY), _WIDTH - _RIGHT, y(MOST_DELAY), "limit"))
    for share in (0.25, 0.5, 0.75, 1.0):
        said = f"{share * widest:,.0f}"
        parts.append(shapes.text(x(share * widest), bottom + 18, said, "faint", "middle"))
    parts.append(
        shapes.text(_WIDTH - _RIGHT, bottom + 36, "streams of 50 a second", "faint", "end")
    )
    for number, relay in enumerate(results.relays):
        if curve := curves.get(relay):
            parts += _curve_lines(number, results.relays[relay], [(x(a), y(b)) for a, b in curve])
    title = "How late the last of 100 events is (p99), ms"
    return _image(title, bottom + 52, parts)


def _curve_lines(number: int, title: str, places: Sequence[tuple[float, float]]) -> Iterator[str]:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<g class="c{number}"><polyline class="line" points="{line}"/>'
    for x, y in places:
        yield f'<circle class="fill" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    x = _LEFT + number * 135
    yield f'<rect class="fill" x="{x}" y="38" width="12" height="12" rx="2"/></g>'
    yield shapes.text(x + 18, 48, title)


def _curve(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The medians of numbers of streams that are near each other, as those of two rounds are."""
    near: dict[int, list[tuple[int, float]]] = {}
    for streams, value in points:
        near.setdefault(round(math.log(streams, _NEAR)), []).append((streams, value))
    both = [zip(*near[each], strict=True) for each in sorted(near)]
    return [
        (round(statistics.median(streams)), statistics.median(values)) for streams, values in both
    ]


def _rows(results: Results, title: str, series: _Series, mark: _Mark, ticks: _Ticks = ()) -> str:
    """A group of rows for each relay, a row for each of the series."""
    y, parts = float(_TOP), []
    for number, (relay, name) in enumerate(results.relays.items()):
        parts.append(shapes.text(_LEFT - 12, y + _BAR * len(series) / 2 + 3, name, "", "end"))
        parts.append(f'<g class="c{number}">')
        for key, _, strength in series:
            parts += mark(relay, key, y, strength)
            y += _BAR
        parts.append("</g>")
        y += _GROUP_GAP
    grid = [shapes.line(x, _TOP - 6, x, y - 8, "grid") for x, _ in ticks]
    names = [shapes.text(x, y + 8, said, "faint", "middle") for x, said in ticks]
    return _image(title, y + 24, [*_legend(series), *grid, *parts, *names])


def _legend(series: _Series) -> Iterator[str]:
    for number, (_, name, strength) in enumerate(series):
        x = _LEFT + number * 220
        place = f'x="{x}" y="38" width="12" height="12" rx="2"'
        yield f'<g class="c0"><rect class="fill" opacity="{strength}" {place}/></g>'
        yield shapes.text(x + 18, 48, name)


def _image(title: str, height: float, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:.0f}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height:.0f}" rx="8"/>',
        shapes.text(_LEFT, 24, title, size=15),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _measured(results: Results, series: _Series) -> _Series:
    return [each for each in series if each[0] in results.samples]


def _pairs(results: Results, series: _Series) -> Iterator[tuple[str, str]]:
    return ((relay, key) for relay in results.relays for key, _, _ in series)


def _value(results: Results, relay: str, key: str, kind: str) -> float:
    figure = results.figure(key, relay, kind)
    return figure.value if figure else 0.0


def _why_not(results: Results, relay: str, measure: str) -> str:
    return results.lost.get(measure, {}).get(relay, "not measured").partition(":")[0]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
