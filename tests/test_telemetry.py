"""Telemetry that is off: nothing of it is there."""

from __future__ import annotations

from typing import Any

import pytest

from chatproxy import ConfigError, create_app
from chatproxy.observability import telemetry

from .support.another import Another

#: Makes an answer that no upstream gives, and tells what of OpenTelemetry is there by then.
ANSWER = """
import logging, sys
from chatproxy import create_app, signals
logging.disable()
app = create_app({"DEEPSEEK_BASE_URL": "http://127.0.0.1:1", "CHATPROXY_TRIES": 1, **%r})
client = app.test_client()
asked = {"messages": [{"role": "user", "content": "Hello"}]}
client.post("/api/chat/stream", json=asked, headers={"X-Session-Id": "session_1"}).get_data()
inner = (signals.answer_begun, signals.call_begun, signals.producer_begun, signals.tool_begun)
print(any(name.startswith("opentelemetry") for name in sys.modules))
print(any(signal.receivers for signal in inner))
"""


def found_with(tmp_path: Any, **settings: str) -> list[str]:
    code = ANSWER % {"CHATPROXY_RUN_DIR": str(tmp_path), **settings}
    exporters = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    return Another(code, prepared="threads", **exporters).rest().split()


def test_nothing_is_imported_and_nobody_listens_unless_it_is_on(tmp_path: Any) -> None:
    assert found_with(tmp_path) == ["False", "False"]
    assert found_with(tmp_path, CHATPROXY_TELEMETRY="1") == ["True", "True"]


def test_without_opentelemetry_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def find(package: str) -> None:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(telemetry, "find_spec", find)
    config = {"DEEPSEEK_API_KEY": "sk", "CHATPROXY_RUN_DIR": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"pip install 'chatproxy\[telemetry\]'"):
        create_app({**config, "CHATPROXY_TELEMETRY": "1"})
