"""The layers of the package, what is imported before gevent patches, and the public names."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatproxy

PACKAGE = Path(chatproxy.__file__).parent

#: From the bottom up. A module imports only from its own layer and those below.
LAYERS = [
    {"errors", "hosts", "sockets"},
    {"scopes"},
    {"sse", "config", "payload", "transcript", "answer_log", "session", "signals", "peers"}
    | {"measures", "tally", "wire", "shares", "stalls", "arrivals", "pacing", "rotation"},
    {"receipt", "refusals", "ended", "early_stops", "reservations"}
    | {"arbitration", "access", "drain", "exposure", "places", "servers"},
    {f"peers.{name}" for name in ("words", "run_dir", "door", "local")}
    | {f"peers.{name}" for name in ("redis", "inbox", "link", "table")},
    {
        "body",
        "http1",
        "line",
        "resolver",
        "dialer",
        "route",
        "connection",
        "failures",
        "readiness",
        "upstream",
        "call",
        "disconnect",
        "logs",
        "metrics",
        "registry",
        "reading",
        "visits",
    },
    {"library", "clock", "shutdown"},
    {"desk", "relay"},
    {"views"},
    {"extension"},
    {"page", "tokens"},
    {"app"},
    {"operators"},
    {"cli", "gunicorn_config", "gunicorn_worker", "gunicorn_client", "__main__"},
]
LAYER = {module: number for number, layer in enumerate(LAYERS) for module in layer}
TOP = len(LAYERS)

#: Modules that may name something of a higher layer in their annotations.
ONLY_FOR_TYPES = {("views", "extension")}

#: What is imported by few modules alone.
RESERVED = {
    "requests": {"call", "connection", "failures", "route", "upstream"},
    "urllib3": {"call", "connection"},
    "gevent": {"disconnect", "gunicorn_client", "gunicorn_worker", "readiness", "resolver"},
    "python_socks": {"route"},
    "prometheus_client": {"metrics"},
    "redis": {"peers.link"},
}
KEPT_OUT_OF_THE_LOWER_LAYERS = {"flask", "requests", "urllib3", "gevent", "redis"}


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


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


MODULES = {
    path.stem: tree_of(path) for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"
}
MODULES["peers"] = tree_of(PACKAGE / "peers" / "__init__.py")
for path in sorted((PACKAGE / "peers").glob("[!_]*.py")):
    MODULES[f"peers.{path.stem}"] = tree_of(path)


def home_of(module: str) -> str:
    """The package that a module is in."""
    return "chatproxy.peers" if module.split(".", maxsplit=1)[0] == "peers" else "chatproxy"


def ours(module: str, *, types: bool = False) -> set[str]:
    """The modules of the package that one of them imports."""
    found = set()
    for name in imports(MODULES[module], home_of(module), types=types):
        package, *rest = name.split(".")
        if package == "chatproxy":
            found |= {".".join(rest[:length]) for length in (1, 2)} & set(MODULES)
    return found - {module}


def higher(module: str, others: set[str]) -> set[str]:
    """Those of the others that are in a layer above this module's."""
    return {other for other in others if LAYER.get(other, TOP) > LAYER.get(module, TOP)}


def foreign(module: str) -> set[str]:
    """The packages that a module imports, for whatever purpose."""
    return {name.split(".")[0] for name in imports(MODULES[module], home_of(module), types=True)}


def test_every_module_has_its_layer() -> None:
    assert set(MODULES) == set(LAYER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_layer_and_those_below(module: str) -> None:
    assert higher(module, ours(module)) == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_for_annotations_keep_to_the_layers_too_but_for_one(module: str) -> None:
    named = higher(module, ours(module, types=True))
    assert {(module, other) for other in named} <= ONLY_FOR_TYPES


def test_no_module_imports_itself_by_a_detour() -> None:
    left = {module: ours(module) for module in MODULES}
    while free := {module for module, needed in left.items() if not needed & set(left)}:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("module", sorted(LAYERS[0] | LAYERS[1]))
def test_the_lower_layers_know_nothing_of_frameworks_and_transports(module: str) -> None:
    assert foreign(module) & KEPT_OUT_OF_THE_LOWER_LAYERS == set()


@pytest.mark.parametrize("package", RESERVED)
def test_a_reserved_package_is_imported_only_where_it_belongs(package: str) -> None:
    importers = {module for module in MODULES if package in foreign(module)}
    assert importers == RESERVED[package]


def test_the_settings_for_gunicorn_need_little() -> None:
    needed = {"config", "errors", "peers", "peers.run_dir", "rotation", "scopes"}
    assert ours("gunicorn_config") <= needed | {"gunicorn_worker", "wire"}


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "simulated").rglob("*.py")), ids=lambda p: p.stem
)
def test_the_simulated_deepseek_stands_alone(path: Path) -> None:
    """Its relative imports stay within it, and it names no other module of the package."""
    tree = tree_of(path)
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {node.level for node in relative} <= {1}
    assert not [name for name in absolute_imports(tree) if name.split(".")[0] == "chatproxy"]


def absolute_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def imported_by(module: str) -> set[str]:
    """All that is imported with a module, in a fresh interpreter."""
    code = f"import {module}, sys; print(*sys.modules)"
    environment = {**os.environ, "DEEPSEEK_BASE_URL": "http://127.0.0.1:1"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["chatproxy", "chatproxy.cli", "chatproxy.gunicorn_config"])
def test_what_is_imported_before_gevent_patches_leaves_requests_alone(module: str) -> None:
    assert imported_by(module) & {"requests", "urllib3", "gevent"} == set()


def test_the_settings_for_gunicorn_leave_ssl_alone() -> None:
    assert "ssl" not in imported_by("chatproxy.gunicorn_config")


def test_the_public_names_are_these() -> None:
    assert chatproxy.__all__ == [
        "ChatProxy",
        "ChatProxyError",
        "ConfigError",
        "Refusal",
        "__version__",
        "create_app",
        "stream_ended",
        "stream_started",
    ]


@pytest.mark.parametrize("name", chatproxy.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(chatproxy, name) is not None


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = chatproxy.Nothing
