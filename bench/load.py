"""Load on one server as the rows send it, through the load generator of `fmedge bench`.

Both sides of every comparison get the same bytes from the same client. Except where a row says
otherwise, every request has a connection of its own: llama-server closes one after a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from bench.servers import Server
from fmedge.cli.bench_client import Client, Load, run_load
from fmedge.cli.bench_connection import Outcome
from fmedge.cli.bench_prompts import Workload, bodies

FIRST_TOKEN = 300  # random prompts use token ids from here: text, no byte or control tokens
LAST_TOKEN = 30_000
TEMPERATURE = 0.8


class LoadError(Exception):
    """A server did not answer as it was asked to, so there is nothing to measure."""


def requests(
    server: Server, count: int, prompt_tokens: int, output_tokens: int, seed: int, **fields: Any
) -> list[bytes]:
    """Streaming completions of random prompts, ready to send. `fields` are Workload's."""
    workload = Workload(
        model=server.model_name,
        num_requests=count,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        seed=seed,
        temperature=TEMPERATURE,
        ignore_eos=True,
        style="tokens",
        **{"token_low": FIRST_TOKEN, "token_high": LAST_TOKEN, **fields},
    )
    client = Client(server.target)
    return [
        client.request(workload.path, body | {"seed": number})
        for number, body in enumerate(bodies(workload))
    ]


async def closed_loop(
    server: Server, requests: Sequence[bytes], concurrency: int, output_tokens: int | None = None
) -> list[Outcome]:
    """`concurrency` clients, each sending its next request when the last has ended.

    output_tokens: every answer must have exactly that many, or the run is not worth a number.
    """
    client = Client(server.target, reuses=False)
    outcomes = await run_load(client, requests, Load(concurrency=concurrency, timeout_s=300.0))
    for outcome in outcomes:
        check(server, outcome, output_tokens)
    return outcomes


async def send(
    server: Server, client: Client, request: bytes, output_tokens: int | None = None
) -> Outcome:
    """One request over a kept connection."""
    outcome = Outcome(index=0, arrival_s=perf_counter())
    await client.exchange(request, outcome, timeout_s=30.0)
    check(server, outcome, output_tokens)
    return outcome


def check(server: Server, outcome: Outcome, output_tokens: int | None = None) -> None:
    """Raises LoadError for what failed, or has another number of tokens."""
    if outcome.error:
        raise LoadError(f"{server.name}: {outcome.error}: {outcome.detail}")
    if output_tokens is not None and outcome.num_output_tokens != output_tokens:
        raise LoadError(
            f"{server.name}: {outcome.num_output_tokens} tokens where {output_tokens} were asked"
        )
