"""What is known of services, by their hosts: what stops the bill, how many calls may run at once.

Whoever knows better says so in the file of upstreams, or by ``chatproxy.Upstream``. Sources:
https://openrouter.ai/docs/api/reference/streaming for the bill, as of November 2026;
https://api-docs.deepseek.com/quick_start/rate_limit for DeepSeek's limits.
"""

from __future__ import annotations

from ..answers.upstream import BillingStops

#: Closing the connection ends the work, and the bill with it.
_STOPS = (
    *("api.deepseek.com", "api.openai.com", "openai.azure.com", "cognitiveservices.azure.com"),
    *("services.ai.azure.com", "api.anthropic.com", "api.fireworks.ai", "api.together.xyz"),
    *("api.together.ai", "api.deepinfra.com", "api.novita.ai", "api.cohere.com", "api.cohere.ai"),
    *("api.x.ai", "api.cloudflare.com", "gateway.ai.cloudflare.com"),
)
#: The answer is made, and billed, to its end.
_DOES_NOT = (
    *("amazonaws.com", "api.groq.com", "googleapis.com", "api.mistral.ai", "api.perplexity.ai"),
    *("api.minimax.io", "api.minimax.chat", "aliyuncs.com", "api.sambanova.ai"),
    *("api.studio.nebius.com", "api.studio.nebius.ai", "api.replicate.com"),
)
_DEEPSEEK = "api.deepseek.com"
#: The most calls of an account at once, by model.
_LIMITS = {"deepseek-flash": 2500, "deepseek-v4-pro": 500}


def billing_stops(host: str) -> BillingStops:
    """Whether a service bills nothing more once its connection is closed."""
    if _is_in(host, _STOPS):
        return BillingStops.YES
    return BillingStops.NO if _is_in(host, _DOES_NOT) else BillingStops.UNKNOWN


def limit(host: str, model: str) -> int | None:
    """The most calls that a service takes at once, of one account; None if that is not known."""
    return _LIMITS.get(model) if host == _DEEPSEEK else None


def _is_in(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == each or host.endswith(f".{each}") for each in domains)
