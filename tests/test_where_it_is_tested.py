"""Where each module is tested: in the file of its own name, or in one that is named here."""

from __future__ import annotations

from pathlib import Path

from .support.servers import ROOT

TESTS = ROOT / "tests"

#: The files that test the modules, or the packages, that have none of their own name.
ELSEWHERE = {
    "__main__": "cli",
    "accounting.accountant": "accounting",
    "accounting.budget": "budgets",
    "accounting.counter": "token_counter",
    "accounting.deepseek": "token_counter",
    "accounting.grant": "budgets",
    "accounting.tokenizers": "token_counter",
    "answers.calls": "run runs",
    "answers.coroutines": "readiness",
    "answers.cursor": "direct_write event_stream",
    "answers.log": "answer_log",
    "answers.producer": "endings extension",
    "answers.question": "chat_request adding_an_upstream",
    "answers.trace": "tracing",
    "answers.reservation": "accounts budgets",
    "answers.upstream": "upstreams",
    "answers.usage": "accounting",
    "answers.watchdog": "clock",
    "app": "cli hosts tokens",
    "cli.gunicorn_server": "cli hosts",
    "cli.operators": "cli scopes",
    "cli.servers": "cli hosts",
    "cli.prove": "reconcile",
    "cli.sessions": "cli scopes",
    "cluster.early_stops": "session_table",
    "cluster.local.accounts": "accounts",
    "cluster.local.directories": "run_dir",
    "cluster.local.messages": "control_socket local_peers",
    "cluster.local.peers": "local_peers",
    "cluster.redis.accounts": "accounts",
    "cluster.redis": "peers_redis",
    "cluster.retention": "session_table",
    "cluster.rpc": "registry",
    "gunicorn_config": "gunicorn_worker run_dir_lost",
    "observability.call_trace": "tracing",
    "observability.counters_by_name": "metrics",
    "observability.families": "metrics",
    "observability.instruments": "tracing otlp",
    "observability.shared_counters": "metrics",
    "protocols.base": "adding_a_protocol",
    "protocols.chunk_texts": "ai_sdk",
    "protocols.growing_json": "completion",
    "protocols.native": "extension adding_a_protocol",
    "protocols.surrogates": "chat_request ui_messages",
    "record_keeping": "records conversations budgets",
    "records": "records",
    "records.migrations": "records",
    "records.migrations.versions": "records",
    "runs": "run runs",
    "server.capabilities": "servers",
    "server.event_loop": "readiness",
    "server.exposure": "hosts",
    "server.gunicorn.logger": "otlp",
    "server.gunicorn": "gunicorn_worker",
    "server.stalled_clients": "stalls",
    "service": "extension registry",
    "simulated": "simulated",
    "sockets": "stalls readiness",
    "testing": "testing",
    "toml_files": "prices upstreams",
    "values": "config",
    "upstreams.attempt": "upstream pool",
    "upstreams.balance": "reconcile",
    "upstreams.base": "adding_an_upstream",
    "upstreams.chat_completions": "upstream pool",
    "upstreams.chunks": "chunks endings",
    "upstreams.documents": "models",
    "upstreams.endpoint": "upstream upstreams",
    "upstreams.known": "upstreams",
    "upstreams.limits": "call_limits",
    "upstreams.http_session": "runs",
    "upstreams.stream_options": "openai_routes accounting",
    "upstreams.refusals": "upstream",
    "upstreams.tries": "fallback upstream",
    "upstreams.transport.connection": "pool",
    "upstreams.transport.idle": "connections",
    "upstreams.transport.content_coding": "response",
    "web.ai_sdk": "ai_sdk_routes",
    "web.native": "extension direct_write",
    "web.openai": "openai_routes",
    "web.state": "extension",
    "web.streaming": "extension direct_write adding_a_protocol",
}


def modules() -> dict[str, Path]:
    found = {
        ".".join(path.relative_to(ROOT / "chatproxy").with_suffix("").parts): path
        for path in (ROOT / "chatproxy").rglob("*.py")
        if path.name != "__init__.py" and "client" not in path.relative_to(ROOT).parts
    }
    return dict(sorted(found.items()))


def test_a_module_has_tests_of_its_name_or_of_those_that_are_named_here() -> None:
    missing = []
    for module in modules():
        package, _, name = module.rpartition(".")
        names = (ELSEWHERE.get(module) or ELSEWHERE.get(package) or name).split()
        missing += [(module, each) for each in names if not (TESTS / f"test_{each}.py").exists()]
    assert missing == []


def test_none_is_named_here_that_is_not_there() -> None:
    packages = {module.rpartition(".")[0] for module in modules()}
    assert ELSEWHERE.keys() <= modules().keys() | packages
