"""A collector: takes what OTLP sends over HTTP, and decodes it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

#: Requests by their paths.
_KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


def value_of(value: AnyValue) -> Any:
    """What an attribute says."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes_of(item: Any) -> dict[str, Any]:
    """The attributes of a span, of a point or of a resource."""
    return {each.key: value_of(each.value) for each in item.attributes}


class Collector:
    """Listens, and keeps what comes.

    :ivar requests: each path with its decoded body, in order.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        #: Not set: it accepts, and answers nothing.
        self.answers = threading.Event()
        self.answers.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spans(self) -> dict[str, dict[str, Any]]:
        """The attributes of each span that has come, by its name and the id of its session."""
        found = {}
        for resource in self._of("/v1/traces", "resource_spans"):
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = attributes_of(span)
                    assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
                    found[attributes.get("chatproxy.session.id", span.name)] = {
                        **attributes,
                        "name": span.name,
                        "trace": span.trace_id.hex(),
                        "status": span.status.code,
                    }
        return found

    def sums(self, name: str) -> dict[str, float]:
        """The latest value of a metric, of all its series, by the instance that has sent it."""
        found: dict[str, float] = {}
        for resource in self._of("/v1/metrics", "resource_metrics"):
            instance = attributes_of(resource.resource)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        points = metric.sum.data_points
                        found[instance] = sum(each.as_int or each.as_double for each in points)
        return found

    def resources(self) -> list[dict[str, Any]]:
        """What has sent spans."""
        return [attributes_of(each.resource) for each in self._of("/v1/traces", "resource_spans")]

    def _of(self, path: str, field: str) -> Iterator[Any]:
        for asked, body in list(self.requests):
            if asked == path:
                yield from getattr(body, field)

    def close(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = _KINDS[self.path]()
            body.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            collector.requests.append((self.path, body))
            collector.answers.wait()
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
