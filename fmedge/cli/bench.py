"""`fmedge bench`: load on an OpenAI-compatible URL, measured from the client's side."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from time import perf_counter
from typing import Any

import msgspec

from fmedge.cli.bench_client import Client, Load, Target, run_load
from fmedge.cli.bench_connection import Outcome
from fmedge.cli.bench_prompts import Workload, bodies
from fmedge.cli.bench_report import Report, report, table
from fmedge.cli.options import add_settings, read_config
from fmedge.errors import ConfigError, FmedgeError

PROGRESS_EVERY_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    count, size = _at_least(1), _at_least(0)
    parser.add_argument("--model", help="model to ask for [the server's first]")
    parser.add_argument("--requests", type=count, default=32, metavar="N", help="how many [32]")
    parser.add_argument(
        "--concurrency", type=size, metavar="N",
        help="requests in flight [8]; with --rate a ceiling [none]",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float, default=0.0, metavar="R",
        help="open loop: Poisson arrivals at R requests/s, instead of one after another",
    )  # fmt: skip
    parser.add_argument("--prompt-tokens", type=count, default=128, metavar="N", help="[128]")
    parser.add_argument("--output-tokens", type=count, default=64, metavar="N", help="[64]")
    parser.add_argument(
        "--shared-prefix-tokens", type=size, default=0, metavar="N",
        help="leading prompt tokens that all requests have in common [0]",
    )  # fmt: skip
    parser.add_argument("--endpoint", choices=["completions", "chat"], default="completions")
    parser.add_argument(
        "--prompt-style", choices=["text", "tokens"], default="text",
        help="text: words, sized by asking the server; tokens: random ids, exact [text]",
    )  # fmt: skip
    parser.add_argument(
        "--token-range", type=_range, default=(1000, 30000), metavar="LOW:HIGH",
        help="ids that --prompt-style tokens draws from [1000:30000]",
    )  # fmt: skip
    parser.add_argument("--temperature", type=float, metavar="T", help="[the server's]")
    parser.add_argument("--ignore-eos", action="store_true", help="always all output tokens")
    parser.add_argument("--extra", type=_object, default={}, metavar="JSON", help="more fields")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of prompts, arrivals [0]")
    parser.add_argument("--warmup", type=size, default=1, metavar="N", help="unmeasured first [1]")
    parser.add_argument("--timeout-s", type=float, default=600.0, metavar="S", help="each [600]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings(parser, "client")


def run(args: argparse.Namespace) -> int:
    import uvloop

    client = read_config(args, "client").client
    if not client.url:
        raise ConfigError("which server? give --url http://HOST:PORT or set FMEDGE_URL")
    if args.prompt_style == "tokens" and args.endpoint == "chat":
        raise ConfigError("--prompt-style tokens needs --endpoint completions")
    workload = Workload(
        model=args.model or "",
        num_requests=args.requests,
        prompt_tokens=args.prompt_tokens,
        output_tokens=args.output_tokens,
        shared_prefix_tokens=args.shared_prefix_tokens,
        endpoint=args.endpoint,
        style=args.prompt_style,
        token_low=args.token_range[0],
        token_high=args.token_range[1],
        temperature=args.temperature,
        ignore_eos=args.ignore_eos,
        seed=args.seed,
        extra=args.extra,
    )
    concurrency = args.concurrency
    if concurrency is None:
        concurrency = 0 if args.rate > 0 else 8
    load = Load(concurrency=concurrency, rate=args.rate, seed=args.seed, timeout_s=args.timeout_s)
    result = uvloop.run(
        measure(Target.parse(client.url, client.api_key), workload, load, num_warmup=args.warmup,
                progress=Progress(args.requests) if sys.stderr.isatty() else None)
    )  # fmt: skip
    print(msgspec.json.encode(result).decode() if args.json else table(result))
    return 0 if result.num_ok == result.num_requests else 1


async def measure(
    target: Target,
    workload: Workload,
    load: Load,
    *,
    num_warmup: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Sizes the prompts, warms up, sends the load, sums it up."""
    client = Client(target)
    try:
        if not workload.model:
            workload = msgspec.structs.replace(workload, model=await _first_model(client))
        if workload.style == "text":
            workload = await _calibrated(client, workload, load.timeout_s)
        if num_warmup:
            warmup = msgspec.structs.replace(
                workload, num_requests=num_warmup, seed=workload.seed + 1
            )
            requests = [client.request(workload.path, body) for body in bodies(warmup)]
            await run_load(client, requests, Load(concurrency=1, timeout_s=load.timeout_s))
        requests = [client.request(workload.path, body) for body in bodies(workload)]
        if progress is None:
            return report(await run_load(client, requests, load))
        shower = asyncio.create_task(progress.show())
        try:
            return report(await run_load(client, requests, load, progress.on_outcome))
        finally:
            shower.cancel()
            progress.clear()
    finally:
        client.close()


async def _first_model(client: Client) -> str:
    try:
        outcome, body = await client.get("/v1/models")
    except (OSError, TimeoutError) as error:
        raise FmedgeError(f"the server does not answer: {error or 'timed out'}") from error
    try:
        return str(json.loads(body)["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise FmedgeError(
            f"/v1/models did not name a model (HTTP {outcome.status}): give --model"
        ) from error


async def _calibrated(client: Client, workload: Workload, timeout_s: float) -> Workload:
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


class Progress:
    """One line on the terminal while the load runs."""

    def __init__(self, num_requests: int) -> None:
        self._num_requests = num_requests
        self._num_done = 0
        self._num_failed = 0
        self._num_tokens = 0
        self._started_s = perf_counter()

    def on_outcome(self, outcome: Outcome) -> None:
        self._num_done += 1
        self._num_failed += bool(outcome.error)
        self._num_tokens += outcome.num_output_tokens or len(outcome.times_s)

    async def show(self) -> None:
        self._started_s = perf_counter()
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            elapsed_s = perf_counter() - self._started_s
            failed = f", {self._num_failed} failed" if self._num_failed else ""
            sys.stderr.write(
                f"\r\x1b[K{self._num_done}/{self._num_requests} requests{failed}, "
                f"{self._num_tokens / elapsed_s:.0f} tokens/s, {elapsed_s:.0f} s"
            )
            sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _at_least(least: int) -> Any:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return whole_number


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    if not low.isdigit() or not high.isdigit() or int(low) >= int(high):
        raise argparse.ArgumentTypeError("expected LOW:HIGH with LOW < HIGH")
    return int(low), int(high)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return value
