"""A workload from what somebody named: a trace, a recorded log, a workload file, or one line that
says what to draw.

The rule: the same words give the same workload, whoever asks; a file is what its content is,
whatever its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf, isfinite
from os.path import expanduser
from pathlib import Path

from msgspec.structs import replace

from fmedge.config.drawn import Sender
from fmedge.config.workload_spec import EXAMPLE, is_spec, parse_spec
from fmedge.config.workloads import StreamConfig, TraceConfig, load_workload_file
from fmedge.errors import ConfigError
from fmedge.sim import traces
from fmedge.sim.lines import lines
from fmedge.sim.parts import (
    MAX_CALLS,
    Part,
    Task,
    flattened,
    merged,
    select,
    shifted,
    too_many,
    until,
)
from fmedge.sim.prompts import prompt_tokens
from fmedge.sim.recorded import is_recorded, recorded
from fmedge.sim.synthetic import stream_part
from fmedge.sim.tasks import task_part
from fmedge.sim.workload import Call, Workload
from fmedge.types import BEST_EFFORT, Promise

__all__ = ["at_rate", "load_workload", "prompt_tokens", "rate_of"]


def load_workload(
    text: str,
    *,
    rate: float | None = None,
    requests: int | None = None,
    skip: int = 0,
    seed: int = 0,
    classes: Mapping[str, Promise] | None = None,
    longest: int | None = None,
    scale: float = 1.0,
) -> Workload:
    """text: a file (Azure LLM trace, Mooncake trace, log of `fmedge serve --record`, workload
    file), or a line such as "poisson:rate=5,duration=60,prompt=512/2048,output=128/512".

    requests: so many calls (None: all) after the first skip; tasks stay whole, so there may be a
    few more. scale: times as many tokens, of prompts by whole tokens a block where they share
    blocks. longest: most tokens of prompt and output together; outputs are cut to half of it, then
    prompts, from their ends. rate: calls a second, to which all arrivals are stretched; tool time
    stays as it is. classes: promises by the names that text may use. The first call arrives at 0.
    ConfigError with file, line and column.
    """
    _check(rate, requests, skip, seed, longest, scale)
    parts, name = _parts(text, seed, classes or {})
    part = merged(parts)
    if requests is None and part.num_expected == inf:
        raise ConfigError(f"{name}: has no end: give a duration, or a number of requests")
    if requests is None and part.num_expected > MAX_CALLS:
        raise too_many(name)
    tasks = select(part.tasks, skip, requests, name)
    block_tokens = max(1, round(part.block_tokens * scale)) if part.block_tokens else 0
    first_s = tasks[0][0].at_s
    calls = flattened(
        list(_fitted(tasks, first_s, part.block_tokens, block_tokens, longest, scale))
    )
    workload = Workload(
        source=_source(text, rate, requests, skip, seed, longest, scale),
        calls=calls,
        workflows=part.workflows,
        block_tokens=block_tokens,
    )
    return workload if rate is None else at_rate(workload, rate)


def at_rate(workload: Workload, per_s: float) -> Workload:
    """The same calls, their arrivals stretched to this mean rate of all calls; tool time stays.
    ConfigError where all arrive at once."""
    first_s, factor = workload.calls[0].at_s, rate_of(workload) / per_s
    calls = tuple(
        call if call.after else replace(call, at_s=(call.at_s - first_s) * factor)
        for call in workload.calls
    )
    return replace(workload, calls=calls)


def rate_of(workload: Workload) -> float:
    """Calls a second on average, those that wait for others counted in. ConfigError where all
    arrive at once."""
    arrivals_s = [call.at_s for call in workload.calls if not call.after]
    span_s = arrivals_s[-1] - arrivals_s[0]
    if span_s <= 0:
        raise ConfigError(
            f"{workload.source}: all requests arrive at once: there is no rate to stretch them to"
        )
    return len(workload.calls) / span_s


def _parts(text: str, seed: int, classes: Mapping[str, Promise]) -> tuple[list[Part], str]:
    """What to take tasks from, and what to call it in messages."""
    path = Path(expanduser(text))
    if not _is_file(path) and is_spec(text):
        stream = parse_spec(text, classes)
        return [stream_part(stream, seed, 0)], stream.where
    kind = _kind(path)
    if kind != "toml":
        return [_recording(path, kind)], str(path)
    config = load_workload_file(path, classes)
    parts = [
        stream_part(stream, seed, number)
        if isinstance(stream, StreamConfig)
        else _trace_part(stream)
        for number, stream in enumerate(config.streams)
    ]
    parts += [task_part(task, seed, 1000 + number) for number, task in enumerate(config.tasks)]
    return parts, str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than names can be
        return False


def _kind(path: Path) -> str:
    """toml, azure, mooncake or recorded, by the first line that says something."""
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; expected a workload's file")
        is_file = path.is_file()
    except OSError:
        is_file = False
    if not is_file:
        raise ConfigError(
            f"{str(path)[:200]}: there is no such file, and it is no line such as {EXAMPLE}"
        )
    first = next((line for _, line in lines(path)), b"").strip()
    if not first:
        raise ConfigError(f"{path}: is empty")
    if first.startswith(b"{"):
        return "recorded" if is_recorded(first) else "mooncake"
    if path.suffix == ".toml" or first.startswith((b"[", b"#")) or b"=" in first:
        return "toml"
    return "azure"


def _recording(path: Path, kind: str) -> Part:
    return {"azure": traces.azure, "mooncake": traces.mooncake, "recorded": recorded}[kind](path)


def _trace_part(config: TraceConfig) -> Part:
    path = Path(config.trace)
    kind = _kind(path)
    if kind == "toml":
        raise ConfigError(f"{config.where}: trace: {path} is a workload file, not a trace")
    part = _recording(path, kind)
    taken = select(part.tasks, config.skip, config.requests, str(path))
    if config.sender is not None:
        taken = [[_sent(call, config.sender) for call in task] for task in taken]
    first_s = taken[0][0].at_s
    factor = 1.0
    if config.rate_per_s is not None:
        span_s = max(task[0].at_s for task in taken) - first_s
        if span_s <= 0:
            raise ConfigError(f"{config.where}: all requests arrive at once: drop rate_per_s")
        factor = sum(map(len, taken)) / config.rate_per_s / span_s
    moved = shifted(taken, lambda at_s: config.start_s + (at_s - first_s) * factor)
    return replace(part, tasks=until(moved, config.start_s + config.duration_s))


def _sent(call: Call, sender: Sender) -> Call:
    """By another; what it does not say stays as it was recorded."""
    return replace(
        call,
        model=sender.model or call.model,
        api_key=sender.api_key or call.api_key,
        priority=sender.priority or call.priority,
        promise=call.promise if sender.promise == BEST_EFFORT else sender.promise,
    )


def _fitted(
    tasks: list[Task], first_s: float, old_block: int, block: int, longest: int | None, scale: float
) -> Iterator[Task]:
    prompt_scale = block / old_block if old_block else scale
    for task in tasks:
        fitted = []
        for call in task:
            if scale != 1:
                call = _scaled(call, prompt_scale, scale)
            if longest is not None and call.num_prompt + call.num_output > longest:
                call = _cut(call, longest, block)
            if first_s and not call.after:
                call = replace(call, at_s=call.at_s - first_s)
            fitted.append(call)
        yield fitted


def _scaled(call: Call, of_prompt: float, of_output: float) -> Call:
    return replace(
        call,
        num_prompt=max(1, round(call.num_prompt * of_prompt)),
        num_output=max(1, round(call.num_output * of_output)),
        max_tokens=call.max_tokens and max(1, round(call.max_tokens * of_output)),
    )


def _cut(call: Call, longest: int, block_tokens: int) -> Call:
    num_output = min(call.num_output, longest // 2)
    num_prompt = min(call.num_prompt, longest - num_output)
    blocks = call.blocks
    if blocks:
        blocks = blocks[: -(-num_prompt // block_tokens)]
    return replace(
        call,
        num_prompt=num_prompt,
        num_output=num_output,
        max_tokens=min(call.max_tokens, longest - num_prompt),
        blocks=blocks,
    )


def _check(
    rate: float | None, requests: int | None, skip: int, seed: int, longest: int | None,
    scale: float,
) -> None:  # fmt: skip
    for name, value in (("rate", rate), ("scale", scale)):
        if value is not None and not (value > 0 and isfinite(value)):
            raise ConfigError(f"{name}: expected a number greater than 0, got {value}")
    for name, number, least in (
        ("requests", requests, 1), ("skip", skip, 0), ("seed", seed, 0), ("longest", longest, 2),
    ):  # fmt: skip
        if number is not None and number < least:
            raise ConfigError(f"{name}: expected {least} or more, got {number}")


def _source(
    text: str, rate: float | None, requests: int | None, skip: int, seed: int,
    longest: int | None, scale: float,
) -> str:  # fmt: skip
    given = {
        "rate": rate,
        "requests": requests,
        "skip": skip or None,
        "seed": seed or None,
        "longest": longest,
        "scale": None if scale == 1 else scale,
    }
    words = [f"{key}={value}" for key, value in given.items() if value is not None]
    return " ".join((text, *words))
