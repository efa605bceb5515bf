"""What a server under load is, asked before: its model, whether it is fmedge, what it knows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import msgspec
from msgspec import Struct

from fmedge.cli.bench_client import Client
from fmedge.cli.bench_connection import Outcome
from fmedge.cli.bench_prompts import Workload, bodies
from fmedge.errors import ConfigError, FmedgeError


class Peer(Struct, frozen=True, kw_only=True):
    """model: what to ask for. is_fmedge: it understands fmedge's headers. num_vocab, ctx_size: of
    the model, 0 where the server does not tell. classes, workflows: those that it has configured,
    of the ones that it was asked for."""

    model: str
    is_fmedge: bool = False
    num_vocab: int = 0
    ctx_size: int = 0
    classes: frozenset[str] = frozenset()
    workflows: frozenset[str] = frozenset()


class _Meta(Struct):
    n_ctx: int = 0
    n_vocab: int = 0


class _Card(Struct):
    id: str
    owned_by: str | None = None
    meta: _Meta | None = None
    aliases: list[str] = []


class _Cards(Struct):
    data: list[_Card]


async def first_model(client: Client) -> str:
    """The name of the server's first model."""
    return (await _cards(client))[0].id


async def ask_peer(
    client: Client, model: str, *, classes: Iterable[str], workflows: Iterable[str]
) -> Peer:
    """model: "" takes the first. Raises ConfigError for one that the server does not have."""
    try:
        cards = await _cards(client)
    except FmedgeError:
        if not model:
            raise
        # No list of models, as of a bare router: it may serve for all that.
        return Peer(model=model)
    named = [card for card in cards if not model or model in (card.id, *card.aliases)]
    if not named:
        names = ", ".join(card.id for card in cards[:8])
        raise ConfigError(f"--model {model}: the server has no such model; it has {names}")
    card = named[0]
    peer = Peer(
        model=model or card.id,
        is_fmedge=card.owned_by == "fmedge",
        num_vocab=card.meta.n_vocab if card.meta is not None else 0,
        ctx_size=card.meta.n_ctx if card.meta is not None else 0,
    )
    if not peer.is_fmedge:
        return peer
    known = {name for name in classes if await _knows(client, peer, [("x-fmedge-sla", name)])}
    flows = {
        name
        for name in workflows
        if await _knows(
            client, peer, [("x-fmedge-workflow", name), ("x-fmedge-workflow-id", "bench-asks")]
        )
    }
    return msgspec.structs.replace(peer, classes=frozenset(known), workflows=frozenset(flows))


async def _knows(client: Client, peer: Peer, headers: list[tuple[str, str]]) -> bool:
    """Whether an estimate with these headers is not refused for their sake."""
    body = {"model": peer.model, "prompt": [1], "max_tokens": 1}
    try:
        outcome, answer = await client.ask(client.request("/v1/estimate", body, headers))
    except (OSError, TimeoutError) as error:
        raise FmedgeError(f"the server does not answer: {error or 'timed out'}") from error
    return not (outcome.status == 400 and b'"unknown_' in answer)


async def _cards(client: Client) -> list[_Card]:
    try:
        outcome, body = await client.get("/v1/models")
    except (OSError, TimeoutError) as error:
        raise FmedgeError(f"the server does not answer: {error or 'timed out'}") from error
    try:
        cards = msgspec.json.decode(body, type=_Cards).data
    except msgspec.DecodeError:
        cards = []
    if not cards:
        said = f": {_message(body)}" if outcome.status != 200 else ""
        raise FmedgeError(
            f"/v1/models did not name a model (HTTP {outcome.status}{said}): give --model"
        )
    return cards


def _message(body: bytes) -> str:
    """What an error's body says, in short."""
    try:
        said: Any = json.loads(body)["error"]
        return str(said["message"] if isinstance(said, dict) else said)[:200]
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace")[:200].strip()


async def calibrated(client: Client, workload: Workload, timeout_s: float) -> Workload:
    """Learns how many tokens a word and an empty prompt cost, from two prompts' usage."""
    counts = []
    sizes = (32, 96)
    for size in sizes:
        probe = msgspec.structs.replace(
            workload, num_requests=1, prompt_tokens=size, shared_prefix_tokens=0, output_tokens=1,
            words_per_token=1.0, overhead_tokens=0.0, seed=workload.seed + 2,
        )  # fmt: skip
        outcome = Outcome(index=-1, arrival_s=perf_counter())
        request = client.request(workload.path, bodies(probe)[0])
        await client.exchange(request, outcome, timeout_s)
        if outcome.error:
            raise FmedgeError(f"the server refused a first request: {outcome.error}: "
                              f"{outcome.detail}")  # fmt: skip
        counts.append(outcome.num_prompt_tokens)
    tokens_per_word = (counts[1] - counts[0]) / (sizes[1] - sizes[0])
    if tokens_per_word <= 0:  # no usage in its answers: one word is taken as one token
        return workload
    return msgspec.structs.replace(
        workload,
        words_per_token=1 / tokens_per_word,
        overhead_tokens=max(0.0, counts[0] - sizes[0] * tokens_per_word),
    )
