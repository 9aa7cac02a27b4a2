"""docs/architecture.md: its list of files and its floors are those that there are."""

from __future__ import annotations

import re

import pytest

from benchmarks.shape import LISTED_IN, file_list, with_files

from .support.servers import ROOT
from .test_imports import FLOORS

ARCHITECTURE = (ROOT / LISTED_IN).read_text()


def test_the_list_of_files_is_what_they_say_of_themselves() -> None:
    """``python -m benchmarks.shape --files`` brings it up to date."""
    files = file_list(ROOT)
    assert files in ARCHITECTURE
    assert with_files(ARCHITECTURE, files).splitlines() == ARCHITECTURE.splitlines()


def test_the_floors_are_those_that_the_imports_are_held_to() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", ARCHITECTURE, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows] == FLOORS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w+\.py)`", ARCHITECTURE))))
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "chatproxy" / path).exists()
