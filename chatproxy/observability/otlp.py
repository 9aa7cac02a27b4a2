"""OTLP: sends the spans and metrics of the standalone server to a collector, over HTTP.

An application of one's own sets OpenTelemetry up as it likes; this is for a server that has nobody
else to do so. The environment says where to (``OTEL_EXPORTER_OTLP_ENDPOINT``, by default
http://localhost:4318) and all else: https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
Rules:

* A tracer provider that is there already is left alone.
* Threads (greenlets under gevent) begin with the first request, in the process that serves it, as
  they don't outlive a fork. Each process is an instance of the service, with an id of its own.
* What an answer does is put a span into a bounded queue. It never waits for the collector.
* A batch is small: under gevent nobody else has a turn while it is encoded.
* At exit, after the last answer has ended, what is left is sent within ``SECONDS_TO_FLUSH``.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import uuid

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .. import __version__

logger = logging.getLogger("chatproxy")

#: Seconds that a process gives the collector at its end.
SECONDS_TO_FLUSH = 3.0
#: The most spans of a batch, if ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` says nothing.
_MOST_IN_A_BATCH = 32


class Exporter:
    """Sends what this process has to tell. Make it before whatever ends answers at exit."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._lock = threading.Lock()
        self._providers: list[TracerProvider | MeterProvider] = []
        self._told = threading.Event()
        #: Is there from the beginning: at exit no thread can be started any more.
        self._closer: threading.Thread | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Begin, once in each process."""
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                return
            try:
                self._begin()
            except Exception as error:  # no answer fails because it can't be traced
                logger.warning("OpenTelemetry could not be set up: %s", error)

    def close(self) -> None:
        """Send what is left, within a bound."""
        if self._closer is not None and self._process == os.getpid():
            self._told.set()
            self._closer.join(SECONDS_TO_FLUSH)

    def _begin(self) -> None:
        resource = _resource()
        if _wants("traces"):
            tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
            tracers.add_span_processor(_batches())
            trace.set_tracer_provider(tracers)
            self._providers.append(tracers)
        if _wants("metrics"):
            reader = PeriodicExportingMetricReader(OTLPMetricExporter())
            meters = MeterProvider([reader], resource, shutdown_on_exit=False)
            metrics.set_meter_provider(meters)
            self._providers.append(meters)
        self._closer = threading.Thread(target=self._close_all, name="chatproxy-otlp", daemon=True)
        self._closer.start()

    def _close_all(self) -> None:
        self._told.wait()
        for provider in self._providers:
            provider.shutdown()


def _wants(signal: str) -> bool:
    """Whether the environment wants these to be sent."""
    return os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() != "none"


def _batches() -> BatchSpanProcessor:
    chosen = os.environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    return BatchSpanProcessor(
        OTLPSpanExporter(), max_export_batch_size=None if chosen else _MOST_IN_A_BATCH
    )


def _resource() -> Resource:
    """What this process is. What the environment says of it goes before."""
    given = Resource.create()
    own = {
        "service.name": "chatproxy",
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid4()),  # older SDKs give none
    }
    known = set(given.attributes)
    if str(given.attributes["service.name"]).startswith("unknown_service"):
        known.remove("service.name")
    return given.merge(Resource({name: own[name] for name in own.keys() - known}))
