"""``chatproxy new app``: what it writes works, and what is there already stays as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chatproxy.cli import main
from chatproxy.cli.new import FILES

from .support.servers import ROOT, clean_environment


def write(folder: Path | str) -> Result:
    return CliRunner().invoke(main, ["new", "app", str(folder)])


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=clean_environment(PYTHONPATH=ROOT, PYTHONDONTWRITEBYTECODE=1),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_the_application_passes_its_own_tests(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "my chat"
    assert write(folder).exit_code == 0
    done = run(*("pytest", "-q", "-p", "chatproxy.testing", "-p", "no:cacheprovider"), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_it_is_written_whole_and_secret(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        result = write(folder)
        assert result.exit_code == 0
        assert result.output == f"{folder}/README.md tells how to go on.\n"
        assert written(folder) == set(FILES)
        text = "".join((folder / name).read_text() for name in FILES)
        assert "@NAME@" not in text
        assert "@SECRET@" not in text
    assert (folders[0] / "README.md").read_text().startswith("# one\n")
    secrets = [folder / "instance" / "settings.py" for folder in folders]
    assert secrets[0].read_text() != secrets[1].read_text()
    assert secrets[0].stat().st_mode & 0o77 == 0


def test_its_source_is_clean(tmp_path: Path) -> None:
    write(tmp_path / "app")
    checks = ("ruff", "check", "--isolated", "--select", "E,F,W,I,B,UP,SIM", "--line-length=100")
    for command in (checks, ("ruff", "format", "--isolated", "--check", "--line-length=100")):
        done = run(*command, ".", cwd=tmp_path / "app")
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text("mine")
    result = write(tmp_path)
    assert result.exit_code == 1
    assert (
        result.output == f"Error: {tmp_path}/test_app.py is there already; nothing was written.\n"
    )
    assert written(tmp_path) == {"test_app.py"}


def test_beside_other_files_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["new", "app"])
    assert result.output == "README.md tells how to go on.\n"
    assert written(tmp_path) == set(FILES)


@pytest.mark.parametrize("name", ["-x", "a<b", "x" * 65, "naïve"])
def test_a_name_that_can_not_be_one_is_refused(tmp_path: Path, name: str) -> None:
    result = write(tmp_path / name)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: An application can't be called {name!r}: ")
    assert written(tmp_path) == set()


def test_a_folder_that_can_not_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = write(tmp_path / "file" / "app")
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path}/file/app: Not a directory\n"
