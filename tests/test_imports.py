"""The layers of the package, what is imported before gevent patches, and the public names."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatproxy

from .support.another import Another

PACKAGE = Path(chatproxy.__file__).parent

#: From the bottom up. A folder, or a module beside the folders, imports only from itself and from
#: those further down; those side by side don't know each other.
FLOORS = [
    {
        "errors",
        "forks",
        "hosts",
        "masking",
        "scopes",
        "signals",
        "sockets",
        "sse",
        "config",
        "values",
    },
    {"answers", "toml_files"},
    {"accounting", "upstreams", "server", "cluster", "protocols", "observability", "records"},
    {"service", "budgeted_caller", "record_keeping", "runs"},
    {"web", "tools"},
    {"extension", "metrics"},
    {"app", "testing"},
    {"gunicorn_config"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GROUND = FLOORS[0]

#: What is imported by few modules alone.
RESERVED = {
    "requests": "upstreams",
    "urllib3": "upstreams",
    "python_socks": "upstreams",
    "gevent": "server",
    "gunicorn": "server cli",
    "flask": "web observability extension app testing",
    "prometheus_client": "observability",
    "opentelemetry": "observability",
    "redis": "cluster.redis",
    "sqlalchemy": "records",
    "alembic": "records",
}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def imports(node: ast.AST, home: str, *, types: bool = False) -> Iterator[str]:
    """The absolute names that the code below a node imports.

    :param home: the package of the module that the node is part of.
    :param types: also those that are imported for annotations alone.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from names_from(child, home)
        elif types or not is_type_checking(child):
            yield from imports(child, home, types=types)


def names_from(node: ast.ImportFrom, home: str) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        above = home.split(".")[: 1 - node.level or None]
        base = ".".join([*above, base]).rstrip(".")
    for alias in node.names:
        yield f"{base}.{alias.name}"


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    """The dotted name of a module, without the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


#: Every module but the package itself, whose public names are imported when they are used.
MODULES = {
    name_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not {"client", "static", "simulated"} & set(path.relative_to(PACKAGE).parts)
    and name_of(path)
}


def home_of(module: str) -> str:
    """The package that a module is in."""
    return ".".join(["chatproxy", *MODULES[module].relative_to(PACKAGE).parts[:-1]])


def room_of(module: str) -> str:
    """The folder of a module, or the module itself if it is beside the folders."""
    return module.split(".", maxsplit=1)[0]


def ours(module: str, *, types: bool = False) -> set[str]:
    """The modules of the package that one of them imports."""
    found = set()
    for name in imports(tree_of(MODULES[module]), home_of(module), types=types):
        package, *rest = name.split(".")
        if package == "chatproxy":
            parts = [".".join(rest[:length]) for length in range(len(rest), 0, -1)]
            found |= set(next(([part] for part in parts if part in MODULES), []))
    return found - {module}


@functools.cache
def foreign(module: str) -> set[str]:
    """The packages that a module imports, for whatever purpose."""
    names = imports(tree_of(MODULES[module]), home_of(module), types=True)
    return {name.split(".")[0] for name in names}


def test_every_room_has_its_floor() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOOR)


def test_a_module_imports_only_from_its_own_room_and_the_floors_below() -> None:
    wrong = set()
    for module in MODULES:
        room = room_of(module)
        others = {other for other in ours(module, types=True) if room_of(other) != room}
        for other in others:
            below = FLOOR[room_of(other)] < FLOOR[room]
            if not (below or {room, room_of(other)} <= GROUND):
                wrong.add((module, other))
    assert wrong == set()


def test_no_module_imports_itself_by_a_detour() -> None:
    left = {module: ours(module) for module in MODULES}
    while free := {module for module, needed in left.items() if not needed & set(left)}:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("package", RESERVED)
def test_a_package_is_imported_only_by_the_rooms_that_it_is_for(package: str) -> None:
    importers = {module for module in MODULES if package in foreign(module)}
    allowed = tuple(f"{each}." for each in RESERVED[package].split())
    assert importers
    assert {each for each in importers if not f"{each}.".startswith(allowed)} == set()


def test_the_ground_needs_the_standard_library_and_blinker_alone() -> None:
    ours_or_python = {"chatproxy", "blinker", "_typeshed", *sys.stdlib_module_names}
    for module in MODULES:
        assert room_of(module) not in GROUND or foreign(module) <= ours_or_python, module


def test_the_simulated_deepseek_stands_alone() -> None:
    """It needs the standard library, h11 and itself, and nothing that the proxy is made of."""
    paths = sorted((PACKAGE / "simulated").rglob("*.py"))
    assert paths
    for path in paths:
        nodes = [*ast.walk(tree_of(path))]
        levels = {node.level for node in nodes if isinstance(node, ast.ImportFrom)}
        assert levels <= {0, 1}, path
        named = imports(tree_of(path), "simulated", types=True)
        needed = {name.split(".")[0] for name in named}
        assert needed <= {"simulated", "h11", *sys.stdlib_module_names}, path


def imported_by(module: str) -> set[str]:
    """All that is imported with a module, in a fresh interpreter."""
    code = f"import {module}, sys; print(*sys.modules)"
    return set(Another(code, DEEPSEEK_BASE_URL="http://127.0.0.1:1").rest().split())


@pytest.mark.parametrize("module", ["chatproxy.cli", "chatproxy.gunicorn_config"])
def test_what_is_imported_before_gevent_patches_leaves_requests_alone(module: str) -> None:
    """The package itself, too, which is imported with each."""
    found = imported_by(module)
    assert found & {"requests", "urllib3", "gevent"} == set()
    assert module != "chatproxy.gunicorn_config" or "ssl" not in found


def test_the_public_names_are_these() -> None:
    assert chatproxy.__all__ == [
        *("Answer", "Budget", "ChatProxy", "ChatProxyError", "ConfigError", "Receipt", "Refusal"),
        *("Run", "Stopped", "Upstream", "__version__", "create_app", "current_run"),
        *("stream_ended", "stream_started"),
    ]
    for name in chatproxy.__all__:
        assert getattr(chatproxy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = chatproxy.Nothing
