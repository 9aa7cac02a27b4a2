"""Under gevent: what waits, or is shared by threads, does the same as in plain threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .support.servers import ROOT, clean_environment

#: Whose tests are run once more; those who start servers try both kinds by themselves.
NAMES = ("adding_an_upstream", "call_limits", "chats", "connections", "fallback")


@pytest.mark.slow
def test_they_pass_under_gevent_too() -> None:
    options = [*(f"tests/test_{name}.py" for name in NAMES), "-qp", "no:cacheprovider"]
    code = "from gevent import monkey; monkey.patch_all(); import pytest, sys; "
    code += f"sys.exit(pytest.main({[*options, '-m', 'not slow']!r}))"
    environment = clean_environment(PYTHONPATH=ROOT)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
