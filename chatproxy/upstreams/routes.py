"""Routes: which upstreams answer which model, as a file of the operator's says (TOML).

    others = "refuse"                        # or "DeepSeek", the default

    [upstreams.azure-eu]                     # the name that clients and operators are told
    base_url = "https://example.openai.azure.com/openai/deployments/gpt-large"
    api_key_env = "AZURE_KEY"
    api_key_header = "api-key"
    query = { api-version = "2024-10-21" }

    [upstreams.ollama]
    base_url = "http://127.0.0.1:11434/v1"

    [models]                                 # in this order, until one answers
    gpt-large = ["azure-eu", { upstream = "ollama", model = "gpt-oss:20b" }]

The upstream of the settings is called ``DeepSeek``. The file is read at the start, before anything
of ``requests`` may be imported; a mistake in it stops the start with one sentence that names the
place, and has no value of it. A model is looked up in this table and used for nothing else: what a
client writes is never a part of an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import toml_files
from ..answers.upstream import CONFIGURED, Upstream
from ..config import Settings
from ..errors import Refusal
from ..toml_files import Mistake

#: What an upstream's table may have.
_FIELDS = frozenset(
    {
        *("api_key", "api_key_env", "api_key_header", "base_url", "billing_stops", "headers"),
        *("limit", "model", "query", "usage"),
    }
)


@dataclass(frozen=True)
class Routes:
    """The table.

    :ivar models: the upstreams of each model that the file names.
    :ivar refuses_others: whether any other model is refused; if not, it is DeepSeek's business.
    :ivar needs_key: whether DeepSeek may be asked.
    """

    models: Mapping[str, tuple[Upstream, ...]]
    refuses_others: bool = False
    needs_key: bool = True

    @classmethod
    def load(cls, settings: Settings, environ: Mapping[str, str]) -> Routes:
        """Read the file that the settings name, if they do.

        :param environ: has what an ``api_key_env`` names.
        :raises ConfigError: if it can't be read or used.
        """
        if not settings.upstreams:
            return cls({})
        read = _Reader(settings, environ).read
        return toml_files.load("CHATPROXY_UPSTREAMS", settings.upstreams, read)

    def all(self) -> list[Upstream]:
        """Each upstream of a model."""
        return [upstream for upstreams in self.models.values() for upstream in upstreams]

    def upstreams_of(self, model: str) -> tuple[Upstream, ...]:
        """The upstreams for a model, in their order; none for that of the settings.

        :raises Refusal: if nobody answers it.
        """
        found = self.models.get(model, ())
        if not found and self.refuses_others:
            raise Refusal("There is no model of this name.", status=404, code="model_not_found")
        return found


class _Reader:
    """Reads a document; raises ``Mistake``."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._uses_configured = False
        self._upstreams: dict[str, Upstream] = {}

    def read(self, document: dict[str, Any]) -> Routes:
        _check_names("the file", document, {"others", "upstreams", "models"})
        others = document.get("others", CONFIGURED)
        if others not in (CONFIGURED, "refuse"):
            raise Mistake(f"others must be '{CONFIGURED}' or 'refuse'")
        for name, table in toml_files.table("[upstreams]", document.get("upstreams", {})).items():
            self._upstreams[name] = toml_files.at(
                f"[upstreams.{name}]", self._upstream, name, table
            )
        listed = toml_files.table("[models]", document.get("models", {}))
        models = {
            name: toml_files.at(f"[models] {name}", self._route, entries)
            for name, entries in listed.items()
        }
        if not models:
            raise Mistake("[models] must name at least one model")
        default = self._settings.model
        if others == "refuse" and default not in models:
            raise Mistake(f"[models] must have {default}, which is CHATPROXY_MODEL")
        return Routes(models, others == "refuse", others == CONFIGURED or self._uses_configured)

    def _upstream(self, name: str, table: object) -> Upstream:
        if name == CONFIGURED:
            raise Mistake("is the upstream of the settings; choose another name")
        fields = toml_files.table("it", table).copy()
        _check_names("it", fields, _FIELDS)
        variable = fields.pop("api_key_env", None)
        if variable is not None:
            if "api_key" in fields:
                raise Mistake("must have api_key or api_key_env, not both")
            fields["api_key"] = self._environ.get(str(variable), "").strip()
            if not fields["api_key"]:
                raise Mistake("api_key_env must be the name of a variable that is set, not the key")
        for field in ("headers", "query"):
            toml_files.table(field, fields.get(field, {}))
        if "base_url" not in fields:
            raise Mistake("must have a base_url")
        upstream = Upstream(name=name, **fields)
        if not (upstream.is_local or upstream.headers or "api_key" in fields):
            raise Mistake('must have an api_key or api_key_env; api_key = "" for none')
        return upstream

    def _route(self, entries: object) -> tuple[Upstream, ...]:
        listed = entries if isinstance(entries, list) else [entries]
        most = self._settings.tries
        if not 0 < len(listed) <= most:
            raise Mistake(f"must have 1 to {most} upstreams, as CHATPROXY_TRIES is {most}")
        return tuple(map(self._target, listed))

    def _target(self, entry: object) -> Upstream:
        table = {"upstream": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict):
            raise Mistake("must be names of [upstreams], or tables with upstream and model")
        _check_names("an entry", table, {"upstream", "model"})
        name, model = table.get("upstream"), table.get("model", "")
        if name == CONFIGURED:
            self._uses_configured = True
            upstream = Upstream(self._settings.base_url, self._settings.api_key, name=CONFIGURED)
        elif isinstance(name, str) and name in self._upstreams:
            upstream = self._upstreams[name]
        else:
            raise Mistake(f"{name!r} is none of [upstreams]")
        return replace(upstream, model=model) if model else upstream


def _check_names(place: str, table: Mapping[str, object], known: frozenset[str] | set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        allowed = ", ".join(sorted(known))
        raise Mistake(f"{place} must not have {unknown[0]!r}; it may have {allowed}")
