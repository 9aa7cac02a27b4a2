"""What relays cost beside each other: ``python -m benchmarks.speed``.

Each relay (:mod:`benchmarks.relays`) runs alone on one core; the upstream and the clients, which
are small programs of their own (:mod:`benchmarks.native`), have the others. In each round each
thing is measured of one relay after the other, each time in a fresh process. A figure, also a
percentile, is made of each round; the median of the rounds is told, with the lowest and the
highest. A ratio is taken round by round, and the median of these is told.

* *CPU* is what all processes of the relay used, user and system, as the kernel counts it.
* *Delay* is the time from the upstream's sending an event to the client's receiving it.
* *Most streams*: of 50 events a second each, of which 97 in 100 are delivered, and 99 in 100 come
  within 50 ms. *Half load* is half of the events of that relay's own most streams.
* *Time to the first event* begins with the client's connect; of that through the relay the median
  without it is taken away, measured next to it, beside the same load.
* *Stop to close*: from the client's sending the Stop, on a connection of its own, to the
  upstream's seeing its peer gone. A relay without a Stop is stopped by leaving.
* *Other work kept it* is the share of time in which the relay was ready to run and had no core.
  Where it is more than a little, something else ran on the machine: measure again.
* A relay that is far slower than the others is asked for less, and that is said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import command
from ..load import LoadError
from ..processes import Cores, on
from ..relays import ALL, PROTOCOLS, Earlier, Relay
from ..report import machine
from . import plot, report
from .measures import GROUPS, MEASURES, Measure
from .plan import FULL, QUICK, Plan
from .results import Results
from .rounds import Rounds


def _chosen(names: str, all_names: Sequence[str]) -> list[str]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in all_names]:
        message = f"there is no {', '.join(unknown)}; there are {', '.join(all_names)}"
        raise argparse.ArgumentTypeError(message)
    return chosen


def _relays(names: str) -> list[Relay]:
    relays = (*ALL, *PROTOCOLS)
    chosen = _chosen(names, [relay.name for relay in relays])
    return [relay for relay in relays if relay.name in chosen]


def _measures(names: str) -> list[Measure]:
    chosen = _chosen(names, GROUPS)
    return [measure for measure in MEASURES if measure.group in chosen]


def _options() -> argparse.Namespace:
    parser = command.parser_of_measurements("speed", __doc__)
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", help="3, if not told otherwise")
    add(
        "--relays",
        type=_relays,
        default=ALL,
        metavar="A,B",
        help=", ".join(r.name for r in (*ALL, *PROTOCOLS)),
    )
    add("--earlier", type=Path, metavar="FOLDER", help="measure an earlier commit there too")
    add("--measures", type=_measures, metavar="A,B", help=", ".join(GROUPS))
    add("--streams", type=int, metavar="N", help="those of ten_thousand, if not 10,000")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    add("--plots", type=Path, metavar="FOLDER", help="draw the figures there, as SVG")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = replace(plan, rounds=options.rounds)
    if options.streams:
        plan = replace(plan, very_many=options.streams)
    return plan


def _run(rounds: Rounds) -> Results:
    with tempfile.TemporaryDirectory(prefix="chatproxy-speed-") as name:
        return rounds.run(Path(name))


def main() -> int:
    """Run the measurements. That a figure could not be had is told, and does not end the run."""
    options = _options()
    if not command.begin():
        return 2
    cores = Cores.shared_out()
    where, began = machine(cores), time.monotonic()
    try:
        with on(cores.others):
            measures = options.measures or MEASURES
            earlier = [Earlier(options.earlier)] if options.earlier else []
            relays = [*options.relays, *earlier]
            results = _run(Rounds(_plan(options), relays, measures, cores))
    except KeyboardInterrupt:
        return 130
    except LoadError as error:
        command.tell(f"The measurements failed: {error}.")
        return 1
    seconds = time.monotonic() - began
    print(report.text(results, where, seconds))
    if options.json:
        command.write_json(options.json, report.document(results, where, seconds))
    if options.markdown:
        options.markdown.write_text(report.markdown(results, where))
    if options.plots:
        plot.draw(results, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
