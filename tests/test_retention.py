"""Ended answers are kept within bounds."""

import subprocess
import sys

from .servers import ROOT


def test_5000_ended_answers_of_200_kb_take_no_more_memory_than_they_may():
    """In a process of its own, as a worker keeps them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.retain"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    allowed, grown, kept, first, last = map(int, done.stdout.split())
    assert grown < 1.25 * allowed
    assert 5000 > kept > 0.8 * allowed / 220_000
    assert (first, last) == (0, 1), "the oldest go first"
