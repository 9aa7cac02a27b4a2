"""The shape of the source: ``make shape``, or ``python -m benchmarks.shape [COMMIT ...]``.

Prints the sizes of functions and rooms beside those of four packages worth looking up to, and how
often each room imports from each other one; of the files that are here, and of earlier commits.
With ``--files`` it brings the list of files in docs/architecture.md up to date instead.

What is counted: a line of code holds something other than a comment or a docstring. The size of a
function is the lines of code of its body. A module is a ``.py`` file, ``__init__`` included.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import subprocess
import tarfile
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "chatproxy"
#: Not Python, or another's.
PASSED_OVER = frozenset({"client", "static", "node_modules", "__pycache__"})

#: What has the list of files, between these two marks.
LISTED_IN = "docs/architecture.md"
MARKS = ("<!-- files: python -m benchmarks.shape --files -->", "<!-- end of files -->")

HEADINGS = (
    "function, median / p90 / max lines",
    "functions in 1,000 lines of code",
    "modules in the largest folder",
    "comment to code",
    "lines of docstrings to code",
    "lines of code of tests to source",
    "lines of source, of tests",
)
#: Counted in November 2026.
MODELS = {
    "h11": ("4 / 18 / 45", "77", "11", "56%", "29%", "1.1", ""),
    "httpcore": ("4 / 17 / 73", "84", "8", "10%", "13%", "0.8", ""),
    "flask-sqlalchemy": ("4 / 20 / 80", "77", "10", "5%", "67%", "0.9", ""),
    "trio": ("3 / 16 / 210", "85", "33", "30%", "51%", "0.9", ""),
}

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Documented = ast.Module | ast.ClassDef | _Function
_NO_CODE = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
)


@dataclass
class Size:
    """What is counted of some modules."""

    lines: int = 0
    code: int = 0
    comments: int = 0
    docstrings: int = 0
    functions: list[int] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count another module."""
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        code = {
            line
            for token in tokens
            if token.type not in _NO_CODE
            for line in range(token.start[0], token.end[0] + 1)
        }
        said = {
            line
            for node in ast.walk(tree)
            if isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None
            for line in _lines_of(node.body[:1])
        }
        code -= said
        self.lines += text.count("\n")
        self.docstrings += len(said)
        self.code += len(code)
        self.comments += sum(token.type == tokenize.COMMENT for token in tokens)
        functions = (node for node in ast.walk(tree) if isinstance(node, _Function))
        self.functions += [len(_lines_of(each.body) & code) for each in functions]


def _lines_of(body: list[ast.stmt]) -> set[int]:
    return set(range(body[0].lineno, (body[-1].end_lineno or 0) + 1))


def modules(folder: Path) -> Iterator[Path]:
    """The modules below a folder."""
    for path in sorted(folder.rglob("*.py")):
        if not PASSED_OVER & set(path.relative_to(folder).parts):
            yield path


def size_of(folder: Path) -> Size:
    """What is counted of the modules below a folder."""
    size = Size()
    for path in modules(folder):
        size.add(path.read_text())
    return size


def figures(root: Path) -> tuple[str, ...]:
    """The figures of a tree of the repository, in the order of ``HEADINGS``."""
    source, tests = size_of(root / PACKAGE), size_of(root / "tests")
    sizes = sorted(source.functions)
    median, p90 = statistics.median(sizes), sizes[len(sizes) * 9 // 10]
    folders = Counter(path.parent for path in modules(root / PACKAGE))
    return (
        f"{median:g} / {p90} / {sizes[-1]}",
        f"{1000 * len(sizes) / source.code:.0f}",
        str(max(folders.values())),
        f"{source.comments / source.code:.0%}",
        f"{source.docstrings / source.code:.0%}",
        f"{tests.code / source.code:.1f}",
        f"{source.lines:,}, {tests.lines:,}",
    )


def imports_table(root: Path) -> str:
    """Who imports whom, from the ground up: for each room how many of its modules import others.

    A room is a folder, or a module beside the folders. One that imports itself by a detour has no
    floor, nor has any that imports it.
    """
    found = _imports_of_rooms(root / PACKAGE)
    rows, left = [], dict(found)
    for floor in range(len(found)):
        free = sorted(room for room, others in left.items() if not set(others) & set(left))
        rows += [[str(floor), room, _listed(left.pop(room))] for room in free]
    rows += [["", room, _listed(others)] for room, others in sorted(left.items())]
    return table(["floor", "room", "imports"], rows)


def _listed(others: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(others.items()))


def _imports_of_rooms(home: Path) -> dict[str, Counter[str]]:
    rooms: dict[str, Counter[str]] = {}
    for path in modules(home):
        room = _room(path.relative_to(home).parts)
        if room != "__init__":  # whose public names are imported when they are used
            names = _imports(ast.parse(path.read_text()), path, home)
            rooms.setdefault(room, Counter()).update(set(names) - {room})
    return rooms


def _room(parts: Sequence[str]) -> str:
    return parts[0].removesuffix(".py")


def _imports(tree: ast.Module, path: Path, home: Path) -> Iterator[str]:
    """The rooms that a module imports."""
    above = (PACKAGE, *path.relative_to(home).parts[:-1])
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            start = above[: len(above) + 1 - node.level] if node.level else ()
            names = [(*start, *(node.module or "").split("."), each.name) for each in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(each.name.split(".")) for each in node.names]
        for name in names:
            package, *parts = filter(None, name)
            if package == PACKAGE and parts:
                room = home / parts[0]
                if room.is_dir() or room.with_suffix(".py").exists():
                    yield parts[0]


def file_list(root: Path) -> str:
    """Every module with the first paragraph of its docstring: the folders, then what is beside."""
    home = root / PACKAGE
    rows = []
    for path in sorted(modules(home), key=lambda path: _place_of(path, home)):
        *folders, name = path.relative_to(home).parts
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        shown = f"`{'/'.join([*folders, name])}`"
        if name == "__init__.py" and folders:
            shown = f"**`{'/'.join([*folders, ''])}`**"
        rows.append([shown, " ".join(said.split("\n\n")[0].split()).replace("``", "`")])
    return table(["file", "what it is"], rows)


def with_files(document: str, files: str) -> str:
    """A document with this list between its two marks."""
    begin, end = (re.escape(mark) for mark in MARKS)
    return re.sub(rf"(?s)(?<={begin}\n).*(?={end})", lambda _: f"{files}\n", document)


def _place_of(path: Path, home: Path) -> tuple[bool, tuple[str, ...]]:
    parts = path.relative_to(home).parts
    return len(parts) == 1, parts


def table(head: list[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def check_out(commit: str, folder: Path) -> Path:
    """The source and the tests of a commit, in a folder."""
    command = ["git", "-C", str(ROOT), "archive", commit, PACKAGE, "tests"]
    done = subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="*", metavar="COMMIT", help="to be shown beside")
    parser.add_argument("--files", action="store_true", help=f"write the list in {LISTED_IN}")
    arguments = parser.parse_args()
    if arguments.files:
        document = ROOT / LISTED_IN
        document.write_text(with_files(document.read_text(), file_list(ROOT)))
    else:
        show(arguments.commits)


def show(commits: list[str]) -> None:
    """Print the figures and the imports of some commits, and of the files that are here."""
    with tempfile.TemporaryDirectory() as folder:
        trees = {each: check_out(each, Path(folder, each)) for each in commits} | {"here": ROOT}
        columns = {**{name: figures(tree) for name, tree in trees.items()}, **MODELS}
        rows = (
            [heading, *values] for heading, *values in zip(HEADINGS, *columns.values(), strict=True)
        )
        print(table(["", *columns], rows))
        for name, tree in trees.items():
            print(f"\n{name}:\n\n{imports_table(tree)}")


if __name__ == "__main__":
    main()
