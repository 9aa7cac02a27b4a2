"""The harness that measures relays beside each other works. What it finds is not judged here."""

import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest

from benchmarks.figures import Span
from benchmarks.load import LoadError
from benchmarks.native import Delays
from benchmarks.processes import Cores
from benchmarks.relays import ALL, Unavailable
from benchmarks.speed import plot, report
from benchmarks.speed import subject as subject_module
from benchmarks.speed.measures import Measure
from benchmarks.speed.plan import FULL, QUICK
from benchmarks.speed.results import TABLES, Results
from benchmarks.speed.rounds import Rounds
from benchmarks.speed.search import most_streams
from benchmarks.speed.subject import NotHeld, Subject
from tests.support.nginx import NGINX

CORES = Cores.all_for_all()

WHERE = {
    "cores": 2,
    "processor": "one",
    "system": "Linux",
    "python": "3",
    "versions": {"gevent": "1"},
    "pinned_apart": False,
    "load_average": 0.5,
}


def results_of(**samples):
    """Results of two relays: for each key, the samples of each round, by relay."""
    results = Results(relays={"chatproxy": "chatproxy", "nginx": "nginx"})
    results.versions = {"chatproxy": {"chatproxy": "1"}, "nginx": {"nginx": "2"}}
    for key, by_relay in samples.items():
        for relay, rounds in by_relay.items():
            for number, values in enumerate(rounds, 1):
                results.add(relay, number, {key: values})
    return results


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_a_small_run_gives_every_figure(run, tmp_path):
    figures, table, plots = tmp_path / "figures.json", tmp_path / "table.md", tmp_path / "plots"
    written = ["--json", figures, "--markdown", table, "--plots", plots]
    run("speed.__main__", "--quick", "--relays", "chatproxy,nginx", *written)
    document = json.loads(figures.read_text())
    assert document["lost"] == {}
    for key, figure in document["figures"].items():
        for kind, found in figure.items():
            if kind != "unit":
                ours = key.startswith("tls")
                assert set(found["relays"]) == ({"chatproxy"} if ours else {"chatproxy", "nginx"})
    quantities = {quantity.key for row in TABLES.values() for quantity in row}
    assert set(document["figures"]) == quantities
    assert "| an event, steady, µs |" in table.read_text()
    for name in ("cpu", "stop", "delays"):
        ElementTree.parse(plots / f"speed-{name}.svg")


class NoRelay:
    """A relay that is never started, for measures that ask nothing of it."""

    name = "none"
    title = "None"

    def __init__(self, refusal=None):
        self.refusal = refusal
        self.starts = 0

    def install(self):
        if self.refusal:
            raise Unavailable(self.refusal)

    def versions(self):
        return {"none": "1"}

    def start(self, *_):
        self.starts += 1
        raise OSError("it has no program")


def run(tmp_path, *takes, relay=None, rounds=2):
    """The results of measures that are these functions, m0, m1 and so on."""
    measures = [Measure(f"m{number}", "m", take) for number, take in enumerate(takes)]
    plan = replace(QUICK, rounds=rounds, fresh=True)
    return Rounds(plan, [relay or NoRelay()], measures, CORES).run(tmp_path)


def failing(error, calls):
    def take(subject):
        calls.append(subject)
        raise error

    return take


def test_a_measure_that_fails_loses_its_figure_and_no_other(tmp_path):
    calls = []
    results = run(tmp_path, failing(LoadError("it broke"), calls), lambda _: {"cpu_steady": [5.0]})
    assert results.lost == {"m0": {"none": "failed: it broke (round 2)"}}
    assert results.samples == {"cpu_steady": {"none": {1: [5.0], 2: [5.0]}}}
    assert len(calls) == 2  # it may have been the machine's fault


def test_what_was_not_held_is_not_asked_again(tmp_path):
    calls = []
    results = run(tmp_path, failing(NotHeld("too many"), calls))
    assert results.lost == {"m0": {"none": "not held: too many"}}
    assert len(calls) == 1


def test_each_measure_has_a_fresh_process(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(Subject, "end", lambda _: ended.append(True))
    run(tmp_path, failing(OSError("gone"), []), lambda _: ended.append("next") or {}, rounds=1)
    assert ended[:3] == [True, "next", True]


def test_a_relay_that_does_not_start_is_tried_once_in_a_round(tmp_path):
    def asks(subject):
        return {"start": [subject.running.cpu()]}

    relay = NoRelay()
    results = run(tmp_path, asks, asks, asks, relay=relay)
    assert relay.starts == 2
    assert set(results.lost) == {"m0", "m1", "m2"}
    assert results.lost["m2"] == {"none": "failed: it has no program (round 2)"}


def test_what_fails_with_tls_alone_is_asked_again_without(tmp_path):
    relay = NoRelay()
    subject = Subject(relay, QUICK, SimpleNamespace(url="plain"), CORES, tmp_path)
    for url, starts in (("tls", 1), ("tls", 2), ("plain", 3)):
        subject.turn_to(url)
        for _ in range(2):
            with pytest.raises(LoadError, match="no program"):
                _ = subject.running
        assert relay.starts == starts


def test_a_relay_that_is_not_there_is_left_out_with_its_sentence(tmp_path):
    results = run(tmp_path, lambda _: {}, relay=NoRelay("It is not installed."))
    assert results.relays == {}
    assert "none is left out: It is not installed." in report.text(results, WHERE, 1)


def test_a_ratio_is_taken_round_by_round():
    """It is not that of the medians, which may be of different rounds."""
    ours, theirs = [[2.0], [20.0], [3.0]], [[1.0], [40.0], [30.0], [5.0]]
    results = results_of(start={"chatproxy": ours, "nginx": theirs})
    assert str(results.ratio("start", "chatproxy", "nginx", "")) == "0.50 (0.10-2.00)"
    assert results.ratio("start", "chatproxy", "express", "") is None
    assert str(results.figure("start", "chatproxy", "")) == "3.00 (2.00-20.0)"


def test_a_percentile_is_the_median_of_those_of_the_rounds():
    """So a round that was disturbed does not make it."""
    quiet, disturbed = [1.0] * 98 + [2.0, 7.0], [500.0] * 100
    results = results_of(stop_rest={"nginx": [quiet, disturbed, quiet]})
    assert str(results.figure("stop_rest", "nginx", "p99")) == "2.00 (2.00-500)"
    assert str(results.figure("stop_rest", "nginx", "p50")) == "1.00 (1.00-500)"


def test_the_tables_say_what_is_missing_and_why():
    results = results_of(cpu_steady={"nginx": [[10.0]], "chatproxy": [[15.0]]})
    results.lost = {"cpu_saturated": {"nginx": "failed: it broke"}}
    results.notes = {"cpu_steady": {"nginx": "10 streams", "chatproxy": "10 streams"}}
    text = report.text(results, WHERE, 1)
    assert "an event, many streams, µs  -          failed*" in text
    assert "* cpu_saturated, nginx: failed: it broke" in text
    assert "cpu_steady, nginx and chatproxy: 10 streams" in text
    assert "| an event, steady, µs | 1.50 |" in report.markdown(results, WHERE)


def test_a_document_does_not_tell_the_load_of_a_moment():
    assert "Load average" in report.text(Results(), WHERE, 1)
    assert "Load average" not in report.markdown(Results(), WHERE)


def test_a_plot_says_what_was_not_held():
    results = results_of(cpu_steady={"nginx": [[10.0]]})
    results.lost = {"cpu_steady": {"chatproxy": "not held: too many"}}
    image = ElementTree.fromstring(plot.cpu(results))
    assert "not held" in [each.text for each in image.iter()]
    assert "prefers-color-scheme: dark" in plot.cpu(results)
    assert plot.stop(results) == plot.delays(results) == ""


def test_each_relay_has_a_colour_of_its_own():
    relays = {relay.name: relay.title for relay in ALL}
    samples = {"cpu_steady": {name: {1: [10.0]} for name in relays}}
    image = plot.cpu(Results(relays=relays, samples=samples))
    for number in range(len(ALL)):
        assert image.count(f".c{number} {{ color: ") == 2  # by light and in the dark
        assert f'class="c{number}"' in image


class Pretence(SimpleNamespace):
    """A relay that holds so many streams, as the search sees it."""

    def __init__(self, holds, failures=0):
        super().__init__(plan=FULL, points=[], there=0, expected=0, holds=holds, failures=failures)

    def open(self, streams, _rate):
        self.there += streams

    def leave(self, streams):
        self.there -= streams

    def rest(self):
        self.there = 0

    def span(self, name, seconds, streams, rate):
        assert self.there == streams
        events, late = int(streams * rate * seconds), 80.0 if streams > self.holds else 5.0
        if self.failures and streams > 300 and seconds == self.plan.search_span:
            self.failures, late = self.failures - 1, 80.0
        busy = min(1.0, streams / self.holds) * seconds
        delays = Delays(1.0, 2.0, late, 99.0)
        span = Span(name, seconds, events, streams, streams, streams * rate, busy, 0, 0, 0, 0)
        return span, delays


@pytest.mark.parametrize("holds", [1, 7, 90, 100, 333, 1024, 1599])
def test_the_most_streams_are_found_within_a_twentieth(holds):
    found = most_streams(Pretence(holds))
    assert found.streams <= holds < found.too_many
    assert found.too_many <= max(found.streams + 1, 1.05 * found.streams)


def test_the_search_ends_where_it_was_told_to():
    found = most_streams(Pretence(9999))
    assert (found.streams, found.too_many) == (1600, None)


def test_one_late_moment_does_not_make_a_number_too_many():
    assert most_streams(Pretence(1024, failures=1)).streams >= 1024 / 1.05


def test_the_search_begins_near_what_another_round_has_found():
    pretence = Pretence(1024)
    pretence.expected = 1000
    assert most_streams(pretence).streams >= 1024 / 1.05
    assert pretence.points[0][0] == 800


def test_a_search_that_expects_too_much_finds_less():
    pretence = Pretence(500)
    pretence.expected = 1500
    assert 500 / 1.05 <= most_streams(pretence).streams <= 500


def test_where_not_one_stream_is_held_that_is_said():
    with pytest.raises(NotHeld, match="not even one"):
        most_streams(Pretence(0.5))


def test_streams_that_do_not_begin_in_time_are_not_held(tmp_path, monkeypatch):
    begun = []

    class Slow:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def answers(self, number, *_):
            return SimpleNamespace(whole=number, failures=[])

        def open(self, number, _prefix, _spec):
            begun.append(number)
            return SimpleNamespace(open=number, failed=0)

    monkeypatch.setattr(subject_module, "Load", Mock(return_value=Slow()))

    plan = replace(QUICK, seconds_to_open=-1.0)
    relay = Mock(**{"start.return_value": nullcontext(Mock(**{"cpu.return_value": 0.0}))})
    subject = Subject(relay, plan, SimpleNamespace(url=""), CORES, tmp_path)
    with pytest.raises(NotHeld, match="100 of 120 streams began in time"):
        subject.open(120, 1)
    assert begun == [100]
