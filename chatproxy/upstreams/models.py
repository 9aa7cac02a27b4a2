"""The models that clients can ask for: the list of DeepSeek's, and those of the file of upstreams.

``GET {base_url}/models`` (https://api-docs.deepseek.com/api/list-models), with the key, through the
same pool as the questions, at most once a minute. Rules:

* A thread asks, one at a time, and no request waits for it: everybody has the older list meanwhile.
  Only the first list may be awaited, outside of a request.
* A list that can't be had, takes too long or is too large (``documents``) leaves the older one in
  force. If there has never been one, the configured model is all.
* A model of the file is listed as ours, whatever DeepSeek says of it. If the file refuses all
  others, nobody is asked.
* Each model is kept as the JSON text that came.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import msgspec

from ..answers.foreign_json import decoded
from ..errors import Aborted, UpstreamError
from .attempt import TRANSPORT_ERRORS
from .chat_completions import ChatCompletions
from .documents import SECONDS, document
from .routes import Routes

#: For how long a list is in force, and for how long none is asked for if it could not be had.
_FRESH_SECONDS = 60.0

#: The JSON of each model, by its id.
Models = dict[str, bytes]


class _Model(msgspec.Struct, gc=False):
    id: str


class _List(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]


_MODEL = msgspec.json.Decoder(_Model)
_LIST = msgspec.json.Decoder(_List)


class ModelList:
    """The models of one application. Safe to use from any thread.

    :param configured: the model to tell of if DeepSeek has no list.
    :param timer: gives seconds.
    """

    def __init__(
        self,
        upstreams: ChatCompletions,
        configured: str,
        routes: Routes | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        routes = routes or Routes({})
        self._upstreams = upstreams
        self._asks = routes.needs_key and not routes.refuses_others
        self._timer = timer
        self._ours = {name: _entry(name, those[0].name) for name, those in routes.models.items()}
        self._configured = {} if routes.refuses_others else {configured: _entry(configured)}
        self._lock = threading.Lock()
        self._models: Models = {}
        self._expires = -1.0
        #: Set when the request that runs has ended; None if none runs.
        self._asking: threading.Event | None = None

    def get(self) -> Models | None:
        """All models that are known; None if the first list is still to come.

        Asks for the list if it is old, or if there is none, and does not wait for it.
        """
        with self._lock:
            asks = self._asks and self._asking is None and self._timer() >= self._expires
            if asks:
                self._asking = threading.Event()
        if asks:
            self._begin_to_ask()
        return self._known() if self._expires >= 0 or not self._asks else None

    def wait(self) -> Models:
        """All models; waits for the first list if it is still to come."""
        models, asking = self.get(), self._asking
        if models is None and asking is not None:
            asking.wait(SECONDS)
        return models or self._known()

    def _known(self) -> Models:
        return {**(self._models or self._configured), **self._ours}

    def _begin_to_ask(self) -> None:
        try:
            threading.Thread(target=self._ask, name="chatproxy-models", daemon=True).start()
        except RuntimeError:  # there is no thread
            self._end({})

    def _ask(self) -> None:
        found: Models = {}
        try:
            found = _models_in(document(self._upstreams.configured, "/models"))
        except (*TRANSPORT_ERRORS, Aborted, UpstreamError):
            pass  # the older list stays
        finally:
            self._end(found)

    def _end(self, found: Models) -> None:
        with self._lock:
            self._models = found or self._models
            self._expires = self._timer() + _FRESH_SECONDS
            asked, self._asking = self._asking, None
        if asked is not None:
            asked.set()


def _entry(model: str, owner: str = "chatproxy") -> bytes:
    entry = {"id": model, "object": "model", "created": 0, "owned_by": owner}
    return json.dumps(entry).encode("ascii")


def _models_in(document: bytes) -> Models:
    """The models of a list; none if it is no list."""
    listed = decoded(_LIST.decode, document)
    texts = [] if listed is None else map(bytes, listed.data)
    models = {text: decoded(_MODEL.decode, text) for text in texts}
    return {model.id: text for text, model in models.items() if model is not None}
