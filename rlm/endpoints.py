"""Where models are reached, and what is known of each place: address, key, models, window, prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """One OpenAI-compatible place to send requests to. Prices are dollars a million tokens; None: look them up."""

    name: str
    base_url: str
    api_key: str = field(default="", repr=False)
    root_model: str = ""
    child_model: str = ""  # "" means the root model
    models: tuple[str, ...] = ()  # those that llm_query(model=) may name; () means any
    dialect: str = "async"  # or "paper"
    window: int = 128_000  # tokens, of the smallest model used here
    max_concurrency: int = 128  # requests under way at once, all runs of a worker together
    requests_per_minute: int | None = None
    provider: str = ""  # the provider's id in genai-prices; "" means: guess from the address
    input_price: float | None = None
    cached_price: float | None = None
    output_price: float | None = None
    sampling: dict[str, Any] = field(default_factory=dict)  # temperature, top_p, reasoning_effort …
    tokens_field: str = ""  # "max_tokens", "max_completion_tokens" or "": find out
    attempts: int = 5  # of one request, the first included
    stall_seconds: float = 60.0  # a stream that is silent so long, once begun, is cut
    offline: bool = False
