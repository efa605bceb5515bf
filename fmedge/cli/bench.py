"""`fmedge bench`: load on an OpenAI-compatible URL, measured from the client's side.

The rule: requests that are all alike, sent as the options say, are here; a workload is played by
bench_replay. What came of runs is compared by `bench diff` and shown by `bench report`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec

from fmedge.cli import bench_options
from fmedge.cli.bench_client import Client, Load, Target, run_load
from fmedge.cli.bench_live import Progress, shown
from fmedge.cli.bench_peer import calibrated, first_model
from fmedge.cli.bench_prompts import Workload, bodies
from fmedge.cli.bench_report import Report, report, table
from fmedge.cli.numbers import at_least, not_negative, positive
from fmedge.cli.options import add_settings, read_config
from fmedge.cli.workload_options import add_workload
from fmedge.errors import ConfigError

VERBS = {
    "diff": ("bench_diff", "compare runs, and fail where the new ones are worse"),
    "report": ("bench_publish", "show runs as a page or a picture"),
}
_ONLY_ALIKE = ("prompt_tokens", "output_tokens", "shared_prefix_tokens", "ignore_eos")
_ONLY_PLAYED = ("lengths", "warmup_s", "headers", "label", "cluster", "out", "report", "sla",
                "skip", "longest", "prompt_seed")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    count, size = at_least(1), at_least(0)
    parser.add_argument("--model", help="model to ask for [the server's first]")
    parser.add_argument(
        "--requests", type=count, metavar="N", help="how many [32, or all of the workload]"
    )
    parser.add_argument(
        "--concurrency", type=size, metavar="N",
        help="requests in flight [8]; with --rate a ceiling [none]",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=not_negative, default=0.0, metavar="R",
        help="open loop: Poisson arrivals at R requests/s, instead of one after another; of a "
        "workload: its times are stretched to R",
    )  # fmt: skip
    parser.add_argument("--prompt-tokens", type=count, metavar="N", help="[128]")
    parser.add_argument("--output-tokens", type=count, metavar="N", help="[64]")
    parser.add_argument(
        "--shared-prefix-tokens", type=size, metavar="N",
        help="leading prompt tokens that all requests have in common [0]",
    )  # fmt: skip
    parser.add_argument("--endpoint", choices=["completions", "chat"], default="completions")
    parser.add_argument(
        "--prompt-style", choices=["text", "tokens"],
        help="text: words, sized by asking the server; tokens: random ids, exact [text; for "
        "a workload tokens, where the endpoint takes them]",
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
    parser.add_argument("--timeout-s", type=positive, default=600.0, metavar="S", help="each [600]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    group = parser.add_argument_group("a workload, instead of requests that are all alike")
    add_workload(group)
    bench_options.add_arguments(group)
    parser.epilog = "; ".join(f"fmedge bench {verb}: {text}" for verb, (_, text) in VERBS.items())
    add_settings(parser, "client")


def run(args: argparse.Namespace) -> int:
    import uvloop

    client = read_config(args, "client").client
    if not client.url:
        raise ConfigError("which server? give --url http://HOST:PORT or set FMEDGE_URL")
    target = Target.parse(client.url, client.api_key)
    if args.workload:
        _check_unused(args, _ONLY_ALIKE, "means nothing with --workload, which says it")
        from fmedge.cli import bench_replay

        return bench_replay.run(args, target, client.url)
    _check_unused(args, _ONLY_PLAYED, "needs --workload")
    if args.prompt_style == "tokens" and args.endpoint == "chat":
        raise ConfigError("--prompt-style tokens needs --endpoint completions")
    workload = Workload(
        model=args.model or "",
        num_requests=args.requests or 32,
        prompt_tokens=args.prompt_tokens or 128,
        output_tokens=args.output_tokens or 64,
        shared_prefix_tokens=args.shared_prefix_tokens or 0,
        endpoint=args.endpoint,
        style=args.prompt_style or "text",
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
    result = uvloop.run(measure(target, workload, load, num_warmup=args.warmup))
    print(msgspec.json.encode(result).decode() if args.json else table(result))
    return 0 if result.num_ok == result.num_requests else 1


async def measure(
    target: Target,
    workload: Workload,
    load: Load,
    *,
    num_warmup: int = 1,
) -> Report:
    """Sizes the prompts, warms up, sends the load, sums it up."""
    client = Client(target)
    try:
        if not workload.model:
            workload = msgspec.structs.replace(workload, model=await first_model(client))
        if workload.style == "text":
            workload = await calibrated(client, workload, load.timeout_s)
        if num_warmup:
            warmup = msgspec.structs.replace(
                workload, num_requests=num_warmup, seed=workload.seed + 1
            )
            requests = [client.request(workload.path, body) for body in bodies(warmup)]
            await run_load(client, requests, Load(concurrency=1, timeout_s=load.timeout_s))
        requests = [client.request(workload.path, body) for body in bodies(workload)]
        progress = Progress(workload.num_requests)
        async with shown(progress.line):
            return report(await run_load(client, requests, load, progress.on_outcome))
    finally:
        client.close()


def _check_unused(args: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(args, name):
            raise ConfigError(f"--{name.replace('_', '-')} {why}")


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
