"""Small runs of benchmarks, in the process of their tests."""

import importlib
import signal
import sys

import pytest

from benchmarks import processes


@pytest.fixture(scope="package", autouse=True)
def _forked():
    """Servers begin soon, because nothing is measured here."""
    processes.forked = True
    yield
    processes.forked = False


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs ``python -m benchmarks.NAME OPTIONS``; returns what it prints."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(name, *options):
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        assert importlib.import_module(f"benchmarks.{name}").main() == 0
        return capsys.readouterr().out

    yield run
    for number, handler in usual.items():
        signal.signal(number, handler)
