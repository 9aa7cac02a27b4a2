"""``make shape`` counts what it says that it counts."""

from __future__ import annotations

from pathlib import Path

from benchmarks.shape import MARKS, figures, file_list, imports_table, with_files

LOW = '''"""A module without imports."""

import json  # not ours


def dump(value: object) -> str:
    """No docstring is counted, and no comment."""
    # Nor an empty line.

    return json.dumps(
        value,
    )
'''


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_lines_of_code_are_neither_comments_nor_docstrings(tmp_path: Path) -> None:
    root = write(tmp_path, {"chatproxy/low.py": LOW, "tests/test_low.py": "assert True\n" * 10})
    assert figures(root) == ("3 / 3 / 3", "200", "1", "40%", "40%", "2.0", "12, 10")


def test_a_room_stands_on_the_floor_above_those_that_it_imports(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "chatproxy/__init__.py": "from .high.one import function\n",
            "chatproxy/low.py": LOW,
            "chatproxy/high/one.py": "from ..low import dump\nfrom . import two\n",
            "chatproxy/high/two.py": "import chatproxy.low\nfrom .. import low\n",
            "chatproxy/round.py": "from . import about\n",
            "chatproxy/about.py": "def late():\n    from .round import something\n",
        },
    )
    assert imports_table(root).splitlines()[2:] == [
        "| 0 | low |  |",
        "| 1 | high | low 2 |",
        "|  | about | round 1 |",
        "|  | round | about 1 |",
    ]


def test_the_list_of_files_says_what_each_says_of_itself(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "chatproxy/__init__.py": '"""All of it."""\n',
            "chatproxy/low.py": LOW,
            "chatproxy/high/__init__.py": '"""The high ones: ``one``\nand more.\n\nRules."""\n',
            "chatproxy/high/one.py": "",
        },
    )
    files = file_list(root).splitlines()[2:]
    assert files == [
        "| **`high/`** | The high ones: `one` and more. |",
        "| `high/one.py` |  |",
        "| `__init__.py` | All of it. |",
        "| `low.py` | A module without imports. |",
    ]
    begin, end = MARKS
    before = f"Files\n{begin}\nold\n{end}\nmore"
    assert with_files(before, "new") == f"Files\n{begin}\nnew\n{end}\nmore"
