"""The code of the guides in docs/, for the tests that run it."""

from __future__ import annotations

import re

from .servers import ROOT


def blocks_in(path: str) -> list[str]:
    """The blocks of Python in a guide, in their order."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)


def files_in(path: str) -> dict[str, str]:
    """The files in a guide, by their names: a first line says which a block belongs to."""
    files: dict[str, str] = {}
    for block in blocks_in(path):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, block
        files[name[1]] = files.get(name[1], "") + block
    return files
