"""The floors in setup.cfg are the versions with which ``make floors`` runs tests."""

from __future__ import annotations

import configparser
import re

from .support.servers import ROOT


def floors_of_the_package() -> dict[str, str]:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    wanted = metadata["options"]["install_requires"].split("\n")
    found = (re.fullmatch(r"(\S+) >= ([\d.]+)(?:, < \d+)?", each) for each in wanted if each)
    return {each[1]: each[2] for each in found if each is not None}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and line[0] not in "#-")


def names_of(requirements: dict[str, str]) -> set[str]:
    return {each.partition("[")[0].lower().replace("_", "-") for each in requirements}


def test_every_requirement_has_a_floor_and_each_is_tested() -> None:
    metadata = (ROOT / "setup.cfg").read_text()
    wanted = metadata.partition("install_requires =\n")[2].partition("\n\n")[0].splitlines()
    assert floors_of_the_package() == pins("tests/floors.txt")
    assert len(wanted) == len(floors_of_the_package())


def test_what_the_package_requires_is_pinned_for_a_deployment() -> None:
    assert names_of(floors_of_the_package()) <= names_of(pins("requirements.txt"))
