"""What relays cost beside each other: ``python -m benchmarks.speed``.

Each relay (:mod:`benchmarks.relays`) runs alone on one core; the upstream and the clients, which
are small programs of their own (:mod:`benchmarks.native`), have the others. In each round the
relays take turns, each in a fresh process. A figure, also a percentile, is made of each round; the
median of the rounds is told, with the lowest and the highest. A ratio is taken round by round, and
the median of these is told.

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

from . import command, report, speed_plot, speed_report
from .load import LoadError
from .native import Upstream
from .processes import Cores, on
from .relays import ALL, Relay, Unavailable
from .speed_measures import GROUPS, MEASURES, Measure
from .speed_plan import FULL, QUICK, Plan
from .speed_results import Results
from .speed_subject import FAILURES, NotHeld, NotStarted, Subject

_LETTERS = 160


class Run:
    """The rounds.

    :param measures: in the order in which they are made.
    """

    def __init__(
        self, plan: Plan, relays: Sequence[Relay], measures: Sequence[Measure], cores: Cores
    ) -> None:
        self.results = Results()
        self._plan = plan
        self._cores = cores
        self._measures = measures
        self._relays = [relay for relay in relays if self._is_here(relay)]

    def _is_here(self, relay: Relay) -> bool:
        try:
            relay.install()
        except Unavailable as error:
            self.results.unavailable[relay.name] = str(error)
            return False
        self.results.relays[relay.name] = relay.title
        self.results.versions[relay.name] = relay.versions()
        return True

    def run(self, folder: Path) -> Results:
        """Measure everything.

        :param folder: for the logs.
        """
        often = [measure for measure in self._measures if not measure.once]
        once = [measure for measure in self._measures if measure.once]
        with Upstream(folder / "upstream.log", self._cores) as upstream:
            for number in range(1, self._plan.rounds + 1):
                first = (number - 1) % max(1, len(self._relays))
                for relay in (*self._relays[first:], *self._relays[:first]):
                    if number > self._plan.of(relay.name).rounds:
                        continue
                    self._turn(relay, often, number, upstream, folder)
            for relay in self._relays:
                self._turn(relay, once, 1, upstream, folder)
        return self.results

    def _turn(
        self, relay: Relay, measures: list[Measure], number: int, upstream: Upstream, folder: Path
    ) -> None:
        if not (wanted := [each for each in measures if self._applies(each, relay)]):
            return
        plan = self._plan.of(relay.name)
        began, parts = time.monotonic(), []
        with Subject(relay, plan, upstream, self._cores, folder) as subject:
            subject.expected = self._expected(relay)
            for measure in wanted:
                start = time.monotonic()
                try:
                    self._take(measure, subject, number)
                except NotStarted as error:
                    # The other measures would wait for it as long, and in vain.
                    for each in wanted[wanted.index(measure) :]:
                        self._lose(each, relay.name, number, error)
                    break
                parts.append(f"{measure.name} {time.monotonic() - start:.0f}")
        self.results.points.setdefault(relay.name, []).extend(subject.points)
        seconds = time.monotonic() - began
        command.tell(f"round {number}, {relay.name}: {seconds:.0f} s ({', '.join(parts)})")

    def _expected(self, relay: Relay) -> int:
        found = self.results.figure("most_streams", relay.name, "")
        return round(found.value) if found else 0

    def _applies(self, measure: Measure, relay: Relay) -> bool:
        """What was not held in one round is not asked again."""
        lost = self.results.lost.get(measure.name, {}).get(relay.name, "")
        wanted = measure.relays is None or relay.name in measure.relays
        return wanted and not lost.startswith("not held")

    def _take(self, measure: Measure, subject: Subject, number: int) -> None:
        relay = subject.relay.name
        subject.notes.clear()
        try:
            found = measure.take(subject)
        except NotStarted:
            raise
        except FAILURES as error:
            self._lose(measure, relay, number, error)
            subject.end()
            return
        subject.found.update(found)
        self.results.add(relay, number, found)
        if subject.notes:
            text = "; ".join(dict.fromkeys(subject.notes))
            self.results.notes.setdefault(measure.name, {})[relay] = text

    def _lose(self, measure: Measure, relay: str, number: int, error: BaseException) -> None:
        if isinstance(error, NotHeld):
            reason = f"not held: {error}"
        else:
            reason = f"failed: {_short(error)} (round {number})"
        self.results.lost.setdefault(measure.name, {})[relay] = reason
        command.tell(f"{measure.name} of {relay} {reason}")


def _short(error: BaseException) -> str:
    """What an error says, without the log that may come before."""
    error = error.__cause__ or error
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0 if isinstance(error, LoadError) else -1][:_LETTERS]


def _chosen(names: str, all_names: Sequence[str]) -> list[str]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in all_names]:
        message = f"there is no {', '.join(unknown)}; there are {', '.join(all_names)}"
        raise argparse.ArgumentTypeError(message)
    return chosen


def _relays(names: str) -> list[Relay]:
    chosen = _chosen(names, [relay.name for relay in ALL])
    return [relay for relay in ALL if relay.name in chosen]


def _measures(names: str) -> list[Measure]:
    chosen = _chosen(names, GROUPS)
    return [measure for measure in MEASURES if measure.group in chosen]


def _options() -> argparse.Namespace:
    parser = command.parser_of_measurements("speed", __doc__)
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", help="3, if not told otherwise")
    add("--relays", type=_relays, default=ALL, metavar="A,B", help=", ".join(r.name for r in ALL))
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


def _run(run: Run) -> Results:
    with tempfile.TemporaryDirectory(prefix="chatproxy-speed-") as name:
        return run.run(Path(name))


def main() -> int:
    """Run the measurements. That a figure could not be had is told, and does not end the run."""
    options = _options()
    if not command.begin():
        return 2
    cores = Cores.shared_out()
    where, began = report.machine(cores), time.monotonic()
    try:
        with on(cores.others):
            run = Run(_plan(options), options.relays, options.measures or MEASURES, cores)
            results = _run(run)
    except KeyboardInterrupt:
        return 130
    except LoadError as error:
        command.tell(f"The measurements failed: {error}.")
        return 1
    seconds = time.monotonic() - began
    print(speed_report.text(results, where, seconds))
    if options.json:
        command.write_json(options.json, speed_report.document(results, where, seconds))
    if options.markdown:
        options.markdown.write_text(speed_report.markdown(results, where))
    if options.plots:
        speed_plot.draw(results, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
