"""The bodies that `fmedge bench` sends: seeded, so that two runs send the same."""

from __future__ import annotations

import random
from typing import Any, Literal

from msgspec import Struct

_VOCABULARY = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line "
    "end member law car city community name president team minute idea kid body information back "
    "parent face others level office door health person art war history party result change "
    "morning reason research girl guy moment air teacher force education"
)
WORDS = tuple(_VOCABULARY.split())


class Workload(Struct, frozen=True, kw_only=True):
    """What each request is. Sizes in tokens; `shared_prefix_tokens` of the prompt are the same in
    all requests. style "tokens" sends random token ids of [token_low, token_high), exact on every
    tokenizer but understood by /v1/completions alone; "text" sends words, `words_per_token` x
    (size - overhead_tokens) of them."""

    model: str
    num_requests: int = 32
    prompt_tokens: int = 128
    output_tokens: int = 64
    shared_prefix_tokens: int = 0
    endpoint: Literal["chat", "completions"] = "completions"
    style: Literal["tokens", "text"] = "text"
    token_low: int = 1000
    token_high: int = 30000
    words_per_token: float = 1.0
    overhead_tokens: float = 0.0
    temperature: float | None = None
    ignore_eos: bool = False
    seed: int = 0
    extra: dict[str, Any] = {}

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.endpoint == "chat" else "/v1/completions"


def bodies(workload: Workload) -> list[dict[str, Any]]:
    """One JSON body for each request."""
    chance = random.Random(workload.seed)  # noqa: S311 (a workload, not a secret)
    num_shared = min(workload.shared_prefix_tokens, workload.prompt_tokens)
    shared = _piece(workload, chance, num_shared, workload.overhead_tokens)
    rest_overhead = 0.0 if num_shared else workload.overhead_tokens
    made = []
    for _ in range(workload.num_requests):
        own = _piece(workload, chance, workload.prompt_tokens - num_shared, rest_overhead)
        made.append(_body(workload, [*shared, *own]))
    return made


def _piece(
    workload: Workload, chance: random.Random, num_tokens: int, overhead: float
) -> list[Any]:
    if workload.style == "tokens":
        low, high = workload.token_low, workload.token_high
        return [chance.randrange(low, high) for _ in range(num_tokens)]
    num_words = max(0, round((num_tokens - overhead) * workload.words_per_token))
    return chance.choices(WORDS, k=num_words)


def _body(workload: Workload, prompt: list[Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": workload.model,
        "max_tokens": workload.output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    content = prompt if workload.style == "tokens" else " ".join(prompt)
    if workload.endpoint == "chat":
        body["messages"] = [{"role": "user", "content": content}]
    else:
        body["prompt"] = content
    if workload.temperature is not None:
        body["temperature"] = workload.temperature
    if workload.ignore_eos:
        body["ignore_eos"] = True
    return body | workload.extra
