"""The floors in setup.cfg are the versions with which ``make floors`` runs tests."""

from __future__ import annotations

import configparser
import re

from .support.servers import ROOT

#: Those that serve; ``testing`` is for the tests of applications.
EXTRAS = {"server", "redis", "metrics", "records", "simulate", "telemetry", "tokenizer"}


def setup() -> configparser.ConfigParser:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    return metadata


def requirements() -> list[str]:
    """What the package requires, with all extras, as setup.cfg has it."""
    metadata = setup()
    extras = metadata["options.extras_require"]
    lists = [metadata["options"]["install_requires"], *(extras[name] for name in EXTRAS)]
    return [each for listed in lists for each in listed.split("\n") if each]


def floors_of_the_package() -> dict[str, str]:
    found = (
        re.fullmatch(r"(\S+) >= ([\d.]+)(?:, < \d+)?(?:; .+)?", each) for each in requirements()
    )
    return {each[1]: each[2] for each in found if each is not None}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    pinned = (line.partition(";")[0] for line in lines if line and line[0] not in "#-")
    return dict(each.split("==") for each in pinned)


def names_of(requirements: dict[str, str]) -> set[str]:
    return {each.partition("[")[0].lower().replace("_", "-") for each in requirements}


def test_every_requirement_has_a_floor_and_each_is_tested() -> None:
    assert floors_of_the_package() == pins("tests/floors.txt")
    assert len(requirements()) == len(floors_of_the_package())


def test_what_the_package_requires_is_pinned_for_a_deployment() -> None:
    assert names_of(floors_of_the_package()) <= names_of(pins("requirements.txt"))


def test_the_extra_all_holds_every_other_one() -> None:
    extras = setup()["options.extras_require"]
    held = re.fullmatch(r"chatproxy\[([a-z,]+)\]", extras["all"].strip())
    assert held is not None
    assert set(held[1].split(",")) == EXTRAS == set(extras) - {"all", "testing"}
