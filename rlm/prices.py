"""What tokens cost. An unknown price is None, never 0: then the token limits bind instead."""

from __future__ import annotations

import contextlib
from functools import lru_cache

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from rlm.endpoints import Endpoint
from rlm.events import Usage

# Models sold under these names cost their maker's price through any proxy; an open model's name on an unknown host
# says nothing of its price.
_MAKERS = ("openai", "anthropic", "google", "x-ai")


def price(endpoint: Endpoint, model: str, usage: Usage) -> float | None:
    """Return the dollars that ``usage`` costs on this endpoint, or None where nobody knows."""
    return _price(endpoint, model, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


def ceiling(endpoint: Endpoint, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Return the most that a request of this size can cost: nothing of it from the provider's cache."""
    return _price(endpoint, model, prompt_tokens, completion_tokens, 0)


def _price(endpoint: Endpoint, model: str, prompt: int, completion: int, cached: int) -> float | None:
    if endpoint.offline:
        return 0.0
    if endpoint.input_price is not None and endpoint.output_price is not None:
        cached_price = endpoint.input_price if endpoint.cached_price is None else endpoint.cached_price
        fresh = max(0, prompt - cached)
        return (fresh * endpoint.input_price + cached * cached_price + completion * endpoint.output_price) / 1e6
    return _listed(endpoint.provider, endpoint.base_url, model, prompt, completion, min(cached, prompt))


@lru_cache(maxsize=4096)
def _listed(provider: str, url: str, model: str, prompt: int, completion: int, cached: int) -> float | None:
    where = _place(provider, url, model)
    if where is None:
        return None
    usage = PricedUsage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached or None)
    try:
        return float(calc_price(usage, model_ref=model, provider_id=where).total_price)
    except (LookupError, ValueError):
        return None


@lru_cache(maxsize=256)
def _place(provider: str, url: str, model: str) -> str | None:
    """Return the id of the provider whose list holds this model, or None."""
    one = PricedUsage(input_tokens=1, output_tokens=1)
    if provider:
        return provider
    with contextlib.suppress(LookupError, ValueError):
        return str(calc_price(one, model_ref=model, provider_api_url=url).provider.id)
    with contextlib.suppress(LookupError, ValueError):
        found = str(calc_price(one, model_ref=model).provider.id)
        if found in _MAKERS:
            return found
    return None
