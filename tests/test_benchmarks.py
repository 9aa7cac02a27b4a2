"""The harness of the benchmarks works. What it measures is not judged here."""

import json
import subprocess
import sys

import pytest

from .servers import ROOT


@pytest.mark.timeout(150)
def test_a_small_run_gives_every_figure(tmp_path):
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.stop", "--quick", "--json", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=140)
    assert result.returncode == 0, result.stdout + result.stderr
    for title in ("Stop to close", "CPU per event", "CPU per started stream", "memory per live"):
        assert title in result.stdout
    assert json.loads(path.read_text())
