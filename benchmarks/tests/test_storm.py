"""Workers are killed and frozen while sessions come and go, and no answer to a Stop is untrue."""

import asyncio

import pytest

from benchmarks.storm import QUICK, storm


@pytest.mark.timeout(150)
def test_a_storm_in_which_workers_are_killed_and_frozen_leaves_nothing_and_nobody_in_the_dark():
    record = asyncio.run(storm(QUICK))
    assert record.wrong == []
    assert len(record.of_kind("kill")) >= 2
    assert len(record.of_kind("freeze")) >= 1
    assert record.stops, "no Stop was confirmed"
    assert record.sessions["finished"] > 0
    assert sum(record.sessions.values()) >= QUICK.rate * QUICK.seconds / 2  # a busy machine is late
