"""`fmedge bench --workload`: plays a workload to a server, and keeps what came of it."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import time_ns
from typing import Any

import msgspec

from fmedge.cli import EXIT_FAILED, EXIT_INTERRUPTED
from fmedge.cli.bench_calls import Manner, Requests
from fmedge.cli.bench_client import Client, Load, Target, run_load
from fmedge.cli.bench_live import Standing, shown
from fmedge.cli.bench_peer import Peer, ask_peer, calibrated
from fmedge.cli.bench_player import Played, Player
from fmedge.cli.bench_prompts import Workload as Uniform
from fmedge.cli.bench_table import run_text
from fmedge.cli.workload_options import command_options, read_workload
from fmedge.errors import ConfigError
from fmedge.sim.outcome import INTERRUPTED
from fmedge.sim.run import Run, make_run, now_text
from fmedge.sim.run_file import run_json, write_run
from fmedge.sim.workload import Call, Workload

LATE_S = 0.02
"""A request that was sent so long after it was due is told of: the load is not what was asked."""


def run(args: argparse.Namespace, target: Target, url: str) -> int:
    """The verb with a workload. Exit 1: a call failed, or the server went away."""
    import uvloop

    from fmedge.cli.bench_publish import check_report, write_report

    if args.report:
        check_report(args.report, "--report")
    if args.out and not Path(args.out).absolute().parent.is_dir():
        raise ConfigError(f"--out {args.out}: there is no such folder")
    if args.prompt_seed is None:
        args.prompt_seed = time_ns() & 0x7FFFFFFF
    if args.prompt_style == "tokens" and args.endpoint == "chat":
        raise ConfigError("--prompt-style tokens needs --endpoint completions")
    workload = read_workload(args)
    _more_files(len(workload.calls))
    result = uvloop.run(play(args, target, workload, url))
    print(run_json(result).decode() if args.json else run_text(result), flush=True)
    if args.out:
        write_run(result, args.out)
    if args.report:
        write_report([result], args.report)
    if result.ended:
        sys.stderr.write(f"fmedge: error: {result.ended}; what was measured until then is kept\n")
        return EXIT_INTERRUPTED if result.ended == INTERRUPTED else EXIT_FAILED
    return EXIT_FAILED if {"failed", "timeout"} & result.summary.counts.keys() else 0


async def play(args: argparse.Namespace, target: Target, workload: Workload, url: str) -> Run:
    """Asks the server what it is, warms up, plays."""
    client = Client(target)
    try:
        peer = await ask_peer(
            client,
            args.model or "",
            classes=sorted({c.promise.sla_class for c in workload.calls} - {""}),
            workflows=sorted({c.workflow for c in workload.calls} - {""}),
        )
        _check_lengths(workload, peer)
        manner = await _manner(args, client, peer)
        _tell_unknown(workload, peer, manner)
        started_at = now_text()
        requests = Requests(client, workload, peer, manner, run_id=started_at)
        if args.warmup and workload.calls:
            warm = [client.request(manner.path, _warm_body(peer, manner))] * args.warmup
            await run_load(client, warm, Load(concurrency=1, timeout_s=args.timeout_s))
        standing = Standing(len(workload.calls))
        played = await _played(args, client, workload, requests, standing)
    finally:
        client.close()
    notes = _notes(played)
    for note in notes:
        sys.stderr.write(f"fmedge: note: {note}\n")
    return make_run(
        workload,
        played.rows,
        kind="measured",
        label=args.label,
        options=command_options(args) | {"peer": msgspec.to_builtins(peer)},
        target=url,
        cluster=args.cluster,
        seed=args.seed,
        paths=[path for path in (args.workload, args.cluster) if path],
        started_at=started_at,
        window=(args.warmup_s, inf) if args.warmup_s > 0 else None,
        ended=played.ended,
        notes=notes,
    )


async def _played(
    args: argparse.Namespace,
    client: Client,
    workload: Workload,
    make: Callable[[int, float], bytes],
    standing: Standing,
) -> Played:
    player = Player(
        client,
        workload,
        make,
        timeout_s=args.timeout_s,
        concurrency=args.concurrency or 0,
        on_row=standing.on_row,
    )
    async with shown(standing.line):
        return await player.play()


async def _manner(args: argparse.Namespace, client: Client, peer: Peer) -> Manner:
    low, high = args.token_range
    if peer.num_vocab:
        high = min(high, peer.num_vocab)
        low = min(low, high // 2)
    manner = Manner(
        endpoint=args.endpoint,
        style=args.prompt_style or ("text" if args.endpoint == "chat" else "tokens"),
        lengths=args.lengths or "forced",
        token_low=low,
        token_high=high,
        temperature=args.temperature,
        with_promises=args.promises == "yes" or (args.promises == "auto" and peer.is_fmedge),
        headers=tuple(args.headers),
        extra=args.extra,
        seed=args.prompt_seed,
    )
    if manner.style == "tokens":
        return manner
    words = await calibrated(
        client, Uniform(model=peer.model, endpoint=args.endpoint, seed=args.seed), args.timeout_s
    )
    return msgspec.structs.replace(
        manner, words_per_token=words.words_per_token, overhead_tokens=words.overhead_tokens
    )


def _warm_body(peer: Peer, manner: Manner) -> dict[str, Any]:
    body: dict[str, Any] = {"model": peer.model, "max_tokens": 2, "stream": True}
    if manner.endpoint == "chat":
        return body | {"messages": [{"role": "user", "content": "time year"}]}
    return body | {"prompt": [manner.token_low] * 8 if manner.style == "tokens" else "time year"}


def _check_lengths(workload: Workload, peer: Peer) -> None:
    """Before anything is sent: what no answer could be given to."""
    if not peer.ctx_size:
        return
    too_long = [c for c in workload.calls if c.num_prompt + c.num_output > peer.ctx_size]
    if too_long:
        call: Call = max(too_long, key=lambda c: c.num_prompt + c.num_output)
        raise ConfigError(
            f"{len(too_long)} of {len(workload.calls)} calls are longer than the server's context "
            f"of {peer.ctx_size} tokens, the longest with {call.num_prompt} + {call.num_output}: "
            f"give --longest {peer.ctx_size} to cut them, or --scale"
        )


def _tell_unknown(workload: Workload, peer: Peer, manner: Manner) -> None:
    """Names that a fmedge was not configured with: what is measured is the same, what it does for
    it is less."""
    if not manner.with_promises:
        return
    classes = {c.promise.sla_class for c in workload.calls} - {""} - peer.classes
    for name in sorted(classes):
        sys.stderr.write(
            f"fmedge: note: the server has no [sla.{name}]: its limits are sent with each call, "
            "its weight, target and on_miss are not\n"
        )
    for name in sorted({c.workflow for c in workload.calls} - {""} - peer.workflows):
        sys.stderr.write(
            f"fmedge: note: the server has no [workflows.{name}]: its calls are sent as single "
            "ones\n"
        )


def _notes(played: Played) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    notes = [f"{count} x {kind}: {played.examples[kind]}" for kind, count in played.errors.items()]
    late = [value for value in played.late_s if value > LATE_S]
    if late:
        notes.append(
            f"{len(late)} of {len(played.late_s)} requests were sent more than {LATE_S * 1e3:.0f} "
            f"ms late, at most {max(late) * 1e3:.0f} ms: times count from when they were due"
        )
    return tuple(notes)


def _more_files(num_calls: int) -> None:
    """An open loop opens as many connections as the server lets pile up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_calls + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
