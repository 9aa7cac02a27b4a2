"""What the quick tests notice of mistakes in the core: ``python -m benchmarks.mutants``.

Cosmic Ray (``make mutants`` installs it) makes one small change to the source after another, such
as ``<`` for ``<=``, and runs the tests of each. A change that no test notices has *survived*: a
claim is missing, or the change makes no difference. Of all the changes that are possible a sample
is taken, the same for the same seed: at most one at each place, and none of annotations.

The changes are made in a copy of the tree.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: What is changed, and the tests that have to notice: those that start no server.
SOURCE = (
    "chatproxy/answers",
    "chatproxy/cluster/coordinator.py",
    "chatproxy/cluster/early_stops.py",
    "chatproxy/cluster/limits.py",
    "chatproxy/cluster/registry.py",
    "chatproxy/cluster/retention.py",
    "chatproxy/cluster/session_table.py",
    "chatproxy/sse.py",
)
TESTS = (
    *("abort", "access", "answer_log", "arbitration", "clock", "drain", "endings", "extension"),
    *("reading", "receipt", "registry", "reservations", "session", "shares", "sse", "transcript"),
)
SECONDS = 120  # for the tests of one change; it may have made one wait for ever

CONFIGURATION = """
[cosmic-ray]
module-path = [{paths}]
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
    parser.add_argument("--number", type=int, default=60, help="how many changes are tried")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants") as name:
        folder = Path(name)
        for part in ("chatproxy", "tests"):
            ignored = shutil.ignore_patterns("client", "static", "__pycache__")
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        for part in ("conftest.py", "setup.cfg", "docs"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        tests = " ".join(f"tests/test_{each}.py" for each in TESTS)
        paths = ", ".join(f'"{each}"' for each in SOURCE)
        (folder / "mutants.toml").write_text(
            CONFIGURATION.format(paths=paths, seconds=SECONDS, python=sys.executable, tests=tests)
        )

        def run(*words: str) -> None:
            command = [options.cosmic_ray, *words]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        run("init", "mutants.toml", "mutants.sqlite")
        with sqlite3.connect(folder / "mutants.sqlite") as session:
            possible = _take_a_sample(session, options.number, random.Random(options.seed))
        run("exec", "mutants.toml", "mutants.sqlite")
        with sqlite3.connect(folder / "mutants.sqlite") as session:
            _report(session, possible)
    return 0


def _take_a_sample(session: sqlite3.Connection, number: int, dice: random.Random) -> int:
    """Leave some changes of all; return at how many places there are any."""
    places: dict[tuple[object, ...], list[str]] = {}
    for job, operator, *place in session.execute(
        "SELECT job_id, operator_name, module_path, start_pos_row, start_pos_col"
        " FROM mutation_specs WHERE operator_name NOT LIKE 'core/ReplaceBinaryOperator_BitOr%'"
        " ORDER BY 3, 4, 5, 2"
    ):
        places.setdefault((operator.partition("_")[0], *place), []).append(job)
    chosen = {dice.choice(jobs) for jobs in dice.sample(list(places.values()), number)}
    everything = [job for (job,) in session.execute("SELECT job_id FROM work_items")]
    dropped = [(job,) for job in everything if job not in chosen]
    for table in ("mutation_specs", "work_items"):
        session.executemany(f"DELETE FROM {table} WHERE job_id = ?", dropped)
    return len(places)


def _report(session: sqlite3.Connection, possible: int) -> None:
    found = list(
        session.execute(
            "SELECT test_outcome, module_path, start_pos_row, diff FROM work_results"
            " JOIN mutation_specs USING (job_id) ORDER BY 2, 3"
        )
    )
    survived = [each for each in found if each[0] == "SURVIVED"]
    print(f"{len(found)} changes of {possible}: {len(survived)} survived.")
    for _, path, row, diff in survived:
        print(f"\n{path}:{row}")
        lines = [line for line in diff.splitlines() if line[:1] in "+-"]
        print("\n".join(line for line in lines if line[:3] not in ("+++", "---")))


if __name__ == "__main__":
    sys.exit(main())
