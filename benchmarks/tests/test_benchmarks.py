"""The harness of the benchmarks works. What it measures is not judged here."""

import json
from xml.etree import ElementTree

import pytest

from benchmarks import plot
from benchmarks.record import Event, Record, Sample, Stop


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("stop", ["Stop to close", "stopMs", "beside 20 streams", "before headers"]),
        ("reading", ["by who asked", "again, another worker", "over Valkey", "a stream in Redis"]),
        ("protocols", ["native", "OpenAI's, streamed", "OpenAI's, whole", "the AI SDK's"]),
        ("runs", ["CPU of a start", "a run that asks once", "a run of ten calls", "p99"]),
        ("accounts", ["CPU of a start", "all of it off", "all of it on", "p99"]),
        ("attacks", ["at rest", "4 senders of 1 MiB of floats", "all of these", "Stop p99"]),
        ("peers", ["idle", "beside 20 streams", "same worker", "another, same host", "Valkey"]),
    ],
)
def test_a_small_run_gives_every_figure(run, tmp_path, name, titles):
    path = tmp_path / "figures.json"
    printed = run(name, "--quick", "--json", path)
    for title in titles:
        assert title in printed
    assert json.loads(path.read_text())


def test_the_plot_of_a_storm_is_an_image_that_can_be_read():
    record = Record(
        seconds=4,
        samples=[Sample(at, at, {1: 45.0 + at, 2 + at // 2: 44.0}, 0.5) for at in range(1, 5)],
        stops=[Stop(at / 2, 2.0, 1.5, calm=True) for at in range(8)],
        events=[Event(1.0, "kill", 2, 0.02, 3), Event(2.0, "freeze", 1, 1.5, 0)],
        sessions={"stopped": 8},
    )
    image = ElementTree.fromstring(plot.svg(record))
    drawn = [each.get("class") for each in image.iter() if each.get("class")]
    assert drawn.count("kill") == drawn.count("freeze") == 3  # in each of the panels
    assert "prefers-color-scheme: dark" in plot.svg(record)
