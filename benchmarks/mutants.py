"""Which mistakes in the core its tests would miss: ``python -m benchmarks.mutants``.

Cosmic Ray (``make mutants`` installs it) makes one small change to a module after another, such as
``<`` for ``<=``, and runs the tests of that module. If they do not notice, the change *survived*: a
claim is missing or is made elsewhere, or the change makes no difference. Of all the changes that
are possible a sample is tried, the same for the same seed: at most one at each place, and none of
annotations. All of it happens in a copy of the tree.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The modules, and the tests that have to notice.
TESTS = {
    "answers/abort": "abort",
    "answers/drain": "drain registry",
    "answers/log": "answer_log",
    "answers/readers": "answer_log direct_write",
    "answers/receipt": "receipt",
    "answers/session": "session",
    "answers/shares": "shares",
    "answers/transcript": "transcript",
    "answers/watchdog": "clock",
    "cluster/coordinator": "coordinator registry",
    "cluster/early_stops": "session_table",
    "cluster/limits": "limits",
    "cluster/registry": "registry",
    "cluster/retention": "session_table",
    "cluster/session_table": "session_table registry",
    "sse": "sse",
}
SECONDS = 120  # for the tests of one change; it may have made one wait for ever

CONFIGURATION = """
[cosmic-ray]
module-path = "chatproxy/{module}.py"
timeout = {seconds}.0
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider -m 'not slow' {tests}"

[cosmic-ray.distributor]
name = "local"
"""


def main() -> int:
    """Try a sample, and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cosmic-ray", default="cosmic-ray", help="its command")
    parser.add_argument("--number", type=int, default=4, help="changes of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", nargs="*", default=list(TESTS))
    options = parser.parse_args()
    tried = survived = 0
    with tempfile.TemporaryDirectory(prefix="mutants") as name:
        folder = Path(name)
        _copy_to(folder)
        for module in options.modules:
            dice = random.Random(f"{options.seed} {module}")
            for outcome, row, diff in _try(module, folder, options, dice):
                tried += 1
                survived += outcome == "survived"
                print(f"{module}:{row} {outcome}", flush=True)
                if outcome == "survived":
                    print(diff, flush=True)
    print(f"{tried} changes were tried; {survived} survived.")
    return 0


def _copy_to(folder: Path) -> None:
    ignored = shutil.ignore_patterns("client", "static", "__pycache__")
    for part in ("chatproxy", "tests", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    for part in ("conftest.py", "setup.cfg"):
        shutil.copy(ROOT / part, folder / part)


def _try(
    module: str, folder: Path, options: argparse.Namespace, dice: random.Random
) -> Iterator[tuple[str, int, str]]:
    """What came of each change of a module, in which line it is, and its two lines."""
    tests = " ".join(f"tests/test_{each}.py" for each in TESTS[module].split())
    chosen = {"module": module, "tests": tests, "python": sys.executable, "seconds": SECONDS}
    configuration, found = folder / "mutants.toml", folder / "mutants.sqlite"
    configuration.write_text(CONFIGURATION.format(**chosen))
    found.unlink(missing_ok=True)

    def run(word: str) -> None:
        command = [options.cosmic_ray, word, configuration, found]
        # Else what was compiled before a change of the same length might be run.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)

    run("init")
    with sqlite3.connect(found) as session:
        _take_a_sample(session, options.number, dice)
    run("exec")
    with sqlite3.connect(found) as session:
        results = session.execute(
            "SELECT test_outcome, output, start_pos_row, diff FROM work_results"
            " JOIN mutation_specs USING (job_id) ORDER BY 3"
        ).fetchall()
    for outcome, output, row, diff in results:
        lines = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] != "+++"]
        timed_out = output.strip() == "timeout"
        yield "timed out" if timed_out else outcome.lower(), row, "\n".join(lines[1:])


def _take_a_sample(session: sqlite3.Connection, number: int, dice: random.Random) -> None:
    """Leave some changes of all."""
    places: dict[tuple[object, ...], list[str]] = {}
    for job, operator, *place in session.execute(
        "SELECT job_id, operator_name, start_pos_row, start_pos_col FROM mutation_specs"
        " WHERE operator_name NOT LIKE 'core/ReplaceBinaryOperator_BitOr%' ORDER BY 3, 4, 2"
    ):
        places.setdefault((operator.partition("_")[0], *place), []).append(job)
    sample = dice.sample(list(places.values()), min(number, len(places)))
    chosen = {dice.choice(jobs) for jobs in sample}
    everything = [job for (job,) in session.execute("SELECT job_id FROM work_items")]
    dropped = [(job,) for job in everything if job not in chosen]
    for table in ("mutation_specs", "work_items"):
        session.executemany(f"DELETE FROM {table} WHERE job_id = ?", dropped)


if __name__ == "__main__":
    sys.exit(main())
