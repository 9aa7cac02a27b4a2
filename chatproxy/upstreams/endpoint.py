"""The endpoint of an upstream: what its requests look like, and what must not leave here.

No text of an upstream's, or of a proxy's before it, leaves without their keys masked
(``without_secrets``).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from urllib.parse import urlencode, urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.connection import port_by_scheme
from urllib3.util import parse_url

from ..answers.question import Question
from ..answers.upstream import BillingStops, Upstream, UsageStats
from ..masking import one_line
from . import known, stream_options
from .connections import Connections


class Endpoint:
    """One upstream, ready to be asked. It does not refer to the ``Upstream`` that it is made of.

    :param connections: those of the application.
    :raises ConfigError: see ``Connections.way_to``.
    """

    def __init__(self, upstream: Upstream, connections: Connections) -> None:
        self.name = upstream.name
        self.billing_stops = known.billing_stops(upstream.host)
        if upstream.billing_stops is not None:
            self.billing_stops = BillingStops.YES if upstream.billing_stops else BillingStops.NO
        #: When it tells how many tokens an answer has taken.
        self.usage = UsageStats(upstream.usage)
        self._connections = connections
        self._base_url = upstream.base_url
        self._host = upstream.host
        self._query = f"?{urlencode(upstream.query)}" if upstream.query else ""
        self._model = upstream.model
        self._limit = upstream.limit
        self._secrets = upstream.secrets
        url = f"{upstream.base_url}/chat/completions{self._query}"
        #: The path of its requests, for operators.
        self.path = urlsplit(url).path
        self._way = connections.way_to(url)
        headers = {
            "Host": _host_of(url),
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            # A compressed stream arrives in lumps.
            "Accept-Encoding": "identity",
            "User-Agent": "chatproxy",
        }
        # Later ones replace earlier ones, whatever their case.
        fields = CaseInsensitiveDict({**headers, **upstream.credentials})
        self._template = requests.Request("POST", url, headers=dict(fields)).prepare()

    def body_of(self, question: Question) -> bytes:
        """What is sent to ask this question here."""
        options = stream_options.to_send(question.stream_options, self.usage)
        return question.body_for(self._model, options)

    def model_for(self, model: str) -> str:
        """What is called so by clients, as this upstream calls it."""
        return self._model or model

    def limit_for(self, model: str) -> tuple[Hashable, int] | None:
        """What calls for this model count for, and how many of them may run at once.

        :returns: None if there is no limit.
        """
        named = self._model or model
        most = self._limit or known.limit(self._host, named)
        return None if most is None else ((self._base_url, self._secrets, named), most)

    def prepare(
        self, body: bytes, headers: Mapping[str, str] | None = None
    ) -> requests.PreparedRequest:
        """The request for one answer: a copy of a prepared one, as preparing takes longer.

        :param headers: those that this request alone has.
        """
        request = requests.PreparedRequest()
        request.method, request.url = self._template.method, self._template.url
        request.headers = self._template.headers.copy()
        request.headers["Content-Length"] = str(len(body))
        if headers:
            request.headers.update(headers)
        request.body = body
        return request

    def prepare_get(self, path: str) -> requests.PreparedRequest:
        """The request for a document of the upstream.

        :param path: below the base URL.
        """
        request = self.prepare(b"")
        request.method, request.body = "GET", None
        request.url = f"{self._base_url}{path}{self._query}"
        request.headers["Accept"] = "application/json"
        for name in ("Content-Type", "Content-Length"):
            del request.headers[name]
        return request

    def send(self, request: requests.PreparedRequest) -> requests.Response:
        """Send it, and return as soon as the headers of an answer have come."""
        return self._connections.send(request, self._way)

    def without_secrets(self, text: str) -> str:
        """One printable line of this text, without what the upstream or its proxy may repeat."""
        return one_line(text, (*self._secrets, *self._way.secrets))


def _host_of(url: str) -> str:
    """The field ``Host`` (RFC 9110, section 7.2); with the port if it is not the scheme's own."""
    parts = parse_url(url)
    has_usual_port = parts.port == port_by_scheme.get(parts.scheme or "")
    return str(parts.host if has_usual_port else parts.netloc)
