"""What the routes work with: the parts of one application, ``app.extensions["chatproxy"]``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app

from ..answers.coroutines import A_TURN
from ..answers.question import RUN, Question
from ..answers.upstream import Upstream, listed
from ..budgeted_caller import BudgetedCaller
from ..cluster.registry import Registry
from ..config import Settings
from ..errors import Refusal, Unauthorized
from ..observability.metrics import Metrics
from ..protocols import chat_request
from ..protocols.chat_request import Payload
from ..server.arrivals import BodyTimer
from ..server.capabilities import ServerCapabilities
from ..server.disconnect import DisconnectWatcher
from ..service import AnswerService
from ..upstreams.base import Caller
from ..upstreams.models import ModelList
from ..upstreams.routes import Routes

if TYPE_CHECKING:
    from ..records.conversations import Conversations
    from ..records.writer import Records

Owner = Callable[[], "str | None"]
#: An application's preparer: it gets the payload, and the context.
Prepare = Callable[[Payload, dict[str, Any]], "Payload | None"]
Choose = Callable[["dict[str, Any]"], "Upstream | Sequence[Upstream] | None"]


@dataclass(frozen=True, eq=False)
class State:
    """The parts of one application in this process.

    :ivar scope: what the application is called among those that share what it shares.
    :ivar tracing: what traces the answers, kept here; None if nothing does.
    :ivar records: None if there are none.
    :ivar runs: the names of the application's runs.
    :ivar conversations: those that are kept for their owners; None if none are.
    :ivar attend: sees that other workers can ask this one, and that signals reach it.
    """

    app: Flask
    settings: Settings
    scope: str
    registry: Registry
    service: AnswerService
    upstream: Caller
    budgets: BudgetedCaller
    routes: Routes
    models: ModelList
    metrics: Metrics
    tracing: object
    records: Records | None
    server: ServerCapabilities
    bodies: BodyTimer
    watcher: DisconnectWatcher
    attend: Callable[[], None]
    owner: Owner | None
    preparers: list[Prepare]
    choosers: list[Choose]
    runs: Collection[str]
    conversations: Conversations | None

    def establish_owner(self) -> str:
        """Who makes the present request; "" if there are no owners.

        :raises Unauthorized: if there should be one and is none.
        """
        if self.owner is None:
            return ""
        owner = self.owner()
        if not owner:
            raise Unauthorized("You must be logged in to make this request.")
        return str(owner)

    def key_of(self, owner: str) -> str:
        """What stands for an owner in the browsers that keep copies.

        A digest without a secret: it does not show the owner's name, but whoever guesses the name,
        and knows that of the application, can compute it. It opens nothing.
        """
        name = json.dumps(["conversations", self.scope, owner])
        return hashlib.sha256(name.encode()).hexdigest()[:32]

    def prepare(self, payload: Payload) -> Question:
        """The question for the upstream, after the application has had its say.

        :raises Refusal: if the payload can't be used.
        """
        chat_request.check(payload)
        run = self._run_called(chat_request.model_of(payload))
        context: dict[str, Any] = {}
        if self.preparers:
            give_way()
            preparers = [partial(_prepare, preparer, context) for preparer in self.preparers]
            payload = chat_request.change(payload, preparers)
            give_way()
        model = chat_request.model_of(payload)  # a preparer may have chosen another
        run = run or self._run_called(model)
        # The code of a run decodes it, too, and a number that is too large is the client's fault.
        chosen: tuple[Upstream, ...] = ()
        if self.choosers or run:
            chosen = self._chosen_for(chat_request.decoded(payload))
            give_way()
        if run:
            body = chat_request.complete_for_run(payload)
            return Question(body, model=RUN + run, upstreams=chosen, run=run, context=context)
        body = chat_request.complete(payload, self.settings.model)
        model = model or self.settings.model
        upstreams = chosen or self.routes.upstreams_of(model)
        return Question(
            body,
            chat_request.choices_of(payload),
            model,
            upstreams,
            context=context,
            stream_options=chat_request.stream_options_of(payload),
            max_tokens=chat_request.max_tokens_of(payload),
        )

    def _chosen_for(self, fields: dict[str, Any]) -> tuple[Upstream, ...]:
        """The upstreams that the application chooses; none if it leaves that to the routes."""
        chosen = (listed(choose(fields)) for choose in self.choosers)
        return next(filter(None, chosen), ())

    def _run_called(self, model: str) -> str:
        """The name of the run that is asked for as this model; "" if none is."""
        if not model.startswith(RUN):
            return ""
        name = model.removeprefix(RUN)
        if name not in self.runs:
            raise Refusal("There is no run of this name.", status=404, code="model_not_found")
        return name


def give_way() -> None:
    """Let others have a turn, since each step takes some milliseconds for the largest questions."""
    time.sleep(A_TURN)


def _prepare(preparer: Prepare, context: dict[str, Any], payload: Payload) -> Payload | None:
    return preparer(payload, context)


def current_state() -> State:
    """The state of the present application."""
    state: State = current_app.extensions["chatproxy"]
    return state
