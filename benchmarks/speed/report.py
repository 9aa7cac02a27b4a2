"""The results of the relays beside each other, as tables for people and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..figures import Figure
from ..report import machine_lines, table
from .results import TABLES, Quantity, Results

_OURS = "chatproxy"
_NONE = "-"

Row = list[str]


@dataclass(frozen=True)
class Table:
    """A title, rows of which the first is the head, and what is to be said to them."""

    title: str
    rows: list[Row]
    notes: list[str]


def tables(results: Results) -> Iterator[Table]:
    """The tables of what was found, each followed by that of its ratios."""
    for title, quantities in TABLES.items():
        measured = [each for each in quantities if _is_known(results, each)]
        if not measured:
            continue
        relays = [relay for relay in results.relays if _has_any(results, measured, relay)]
        head = ["", *(results.relays[relay] for relay in relays)]
        rows = [row for quantity in measured for row in _rows(results, quantity, relays)]
        yield Table(title, [head, *rows], list(_notes(results, measured)))
        peers = [relay for relay in relays if relay != _OURS]
        if ratios := list(_ratio_rows(results, measured, peers)):
            head = ["", *(results.relays[relay] for relay in peers)]
            yield Table(f"{title}: chatproxy / other", [head, *ratios], [])


def _is_known(results: Results, quantity: Quantity) -> bool:
    return quantity.key in results.samples or quantity.measure in results.lost


def _has_any(results: Results, measured: list[Quantity], relay: str) -> bool:
    return any(
        relay in results.samples.get(each.key, {}) or relay in results.lost.get(each.measure, {})
        for each in measured
    )


def _label(quantity: Quantity, kind: str) -> str:
    words = " ".join(filter(None, [quantity.title, kind]))
    return f"{words}, {quantity.unit}" if quantity.unit else words


def _rows(results: Results, quantity: Quantity, relays: list[str]) -> Iterator[Row]:
    for kind in quantity.kinds:
        cells = [_cell(results, quantity, relay, kind) for relay in relays]
        if set(cells) != {_NONE}:
            yield [_label(quantity, kind), *cells]


def _cell(results: Results, quantity: Quantity, relay: str, kind: str) -> str:
    lost = results.lost.get(quantity.measure, {}).get(relay, "")
    figure = results.figure(quantity.key, relay, kind)
    if figure is None:
        return f"{lost.partition(':')[0]}*" if lost else _NONE
    return f"{_told(figure)}{'*' if lost else ''}"


def _told(figure: Figure) -> str:
    """With its range, where there is more than one round that differs."""
    return str(figure).partition(" ")[0] if figure.low == figure.high else str(figure)


def _ratio_rows(results: Results, measured: list[Quantity], peers: list[str]) -> Iterator[Row]:
    for quantity in measured:
        for kind in quantity.kinds if quantity.compared else ():
            made = [results.ratio(quantity.key, _OURS, peer, kind) for peer in peers]
            if any(made):
                cells = [_told(ratio) if ratio else _NONE for ratio in made]
                yield [_label(quantity, kind), *cells]


def _notes(results: Results, measured: list[Quantity]) -> Iterator[str]:
    """Each is said once, of all relays of which it holds."""
    for measure in dict.fromkeys(quantity.measure for quantity in measured):
        for mark, said in (("* ", results.lost), ("", results.notes)):
            by_text: dict[str, list[str]] = {}
            for relay, text in said.get(measure, {}).items():
                by_text.setdefault(text, []).append(results.relays[relay])
            for text, relays in by_text.items():
                yield f"{mark}{measure}, {' and '.join(relays)}: {text}"


def text(results: Results, where: dict[str, Any], seconds: float) -> str:
    """For a terminal."""
    parts = [*machine_lines(where), *_relay_lines(results), ""]
    for each in tables(results):
        parts += [each.title, "", *table(each.rows), *each.notes, "", ""]
    return "\n".join([*parts, f"Done in {seconds:.0f} s."])


def markdown(results: Results, where: dict[str, Any]) -> str:
    """The same for a document. What differs from run to run, and is no figure, is left out."""
    *machine, _load_average = machine_lines(where)
    parts = ["\n".join(f"- {line}" for line in [*machine, *_relay_lines(results)])]
    for each in tables(results):
        head, *rows = (f"| {' | '.join(row)} |" for row in each.rows)
        rule = f"| --- |{' ---: |' * (len(each.rows[0]) - 1)}"
        parts += [f"### {each.title}", "\n".join([head, rule, *rows])]
        if each.notes:
            parts.append("\n".join(f"- {note.replace('*', chr(92) + '*')}" for note in each.notes))
    return "\n\n".join(parts) + "\n"


def _relay_lines(results: Results) -> Iterator[str]:
    for relay, title in results.relays.items():
        said = ", ".join(f"{name} {number}" for name, number in results.versions[relay].items())
        yield f"{title}: {said}"
    for relay, reason in results.unavailable.items():
        yield f"{relay} is left out: {reason}"


def document(results: Results, where: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Everything, as JSON has it: the figures, the samples of which they are made, the notes."""
    quantities = [quantity for row in TABLES.values() for quantity in row]
    return {
        "machine": where,
        "seconds": round(seconds, 1),
        **asdict(results),
        "figures": {
            quantity.key: {"unit": quantity.unit, **_figures(results, quantity)}
            for quantity in quantities
            if quantity.key in results.samples
        },
    }


def _figures(results: Results, quantity: Quantity) -> dict[str, Any]:
    """By kind, that of each relay, and chatproxy's by that of each other."""
    made: dict[str, Any] = {}
    for kind in quantity.kinds:
        found = {each: results.figure(quantity.key, each, kind) for each in results.relays}
        values = {each: asdict(figure) for each, figure in found.items() if figure}
        ratios = {
            each: asdict(ratio)
            for each in results.relays
            if each != _OURS and (ratio := results.ratio(quantity.key, _OURS, each, kind))
        }
        made[kind or "median"] = {"relays": values, "chatproxy_by": ratios}
    return made
