"""A stream of requests on one line: PROCESS:KEY=VALUE,..., as a flag takes it.

The rule: every key means what it means in a [[stream]] of a workload file, and is checked there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from fmedge.config.drawn import PROCESSES
from fmedge.config.promises import SlaConfig, check_class
from fmedge.config.values import convert, nearest, one_of
from fmedge.config.workloads import StreamConfig, stream
from fmedge.errors import ConfigError
from fmedge.types import Promise

EXAMPLE = "poisson:rate=5,duration=60,prompt=512/2048,output=128/512"

_SPEC = re.compile(r"([A-Za-z_]+):(.*)", re.DOTALL)
_SPREADS = {"prompt": "prompt_tokens", "output": "output_tokens", "turns": "turns",
            "think": "think_s"}  # fmt: skip
_NUMBERS = {
    "rate": "rate_per_s", "start": "start_s", "duration": "duration_s", "requests": "requests",
    "cv": "cv", "burst_rate": "burst_rate_per_s", "on": "on_s", "off": "off_s",
    "period": "period_s", "amplitude": "amplitude", "max_tokens": "max_tokens",
    "priority": "priority",
}  # fmt: skip
_PREFIX = {"prefix": "tokens", "prefix_share": "share", "prefixes": "number", "zipf": "zipf"}
_WORDS = {"model": "model", "key": "api_key", "sla": "sla"}
_LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms")
_KEYS = (*_SPREADS, *_NUMBERS, *_PREFIX, *_WORDS, *_LIMITS)


def is_spec(text: str) -> bool:
    """Whether it is meant as one; a path has no such beginning."""
    found = _SPEC.fullmatch(text)
    return found is not None and (
        found[1] in PROCESSES or ("=" in found[2] and "/" not in found[1])
    )


def parse_spec(text: str, promises: Mapping[str, Promise]) -> StreamConfig:
    """promises: the classes that `sla` may name. ConfigError with the key."""
    where = f"workload {text.partition(':')[0]!r}"
    found = _SPEC.fullmatch(text)
    if found is None or found[1] not in PROCESSES:
        name = text.partition(":")[0]
        raise ConfigError(
            f"workload: no process of arrivals is called {name!r}{one_of(name, PROCESSES)}"
        )
    block: dict[str, Any] = {"arrivals": found[1]}
    prefix: dict[str, Any] = {}
    limits: dict[str, float] = {}
    for key, value in _pairs(found[2], where):
        if key in _SPREADS:
            block[_SPREADS[key]] = _spread(value, f"{where}: {key}")
        elif key in _NUMBERS:
            block[_NUMBERS[key]] = _number(value, f"{where}: {key}")
        elif key in _PREFIX:
            prefix[_PREFIX[key]] = _number(value, f"{where}: {key}")
        elif key in _LIMITS:
            limits[key] = _number(value, f"{where}: {key}")
        else:
            block[_WORDS[key]] = value
    if prefix:
        block["prefix"] = prefix
    made = stream(block, where, promises)
    if not limits:
        return made
    if "sla" in block:
        raise ConfigError(f"{where}: sla beside {next(iter(limits))}: say one of them")
    promise = _promise(limits, where)
    return msgspec.structs.replace(
        made, sender=msgspec.structs.replace(made.sender, promise=promise)
    )


def _promise(limits: Mapping[str, float], where: str) -> Promise:
    sla: SlaConfig = convert(dict(limits), SlaConfig, where)
    check_class(sla, where)
    return sla.promise("")


def _pairs(text: str, where: str) -> list[tuple[str, str]]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, sep, value = (piece.strip() for piece in part.partition("="))
        if not sep or not value:
            raise ConfigError(f"{where}: expected KEY=VALUE,..., got {part!r}; such as {EXAMPLE}")
        if key not in _KEYS:
            hint = nearest(key, _KEYS) or f"; known are {', '.join(_KEYS)}"
            raise ConfigError(f"{where}: unknown key {key!r}{hint}")
        if key in pairs:
            raise ConfigError(f"{where}: {key} is said twice")
        pairs[key] = value
    return list(pairs.items())


def _spread(value: str, where: str) -> Any:
    """MEDIAN/95TH, or one number that is both."""
    p50, sep, p95 = value.partition("/")
    if not sep:
        return _number(value, where)
    return {"p50": _number(p50, where), "p95": _number(p95, where)}


def _number(value: str, where: str) -> Any:
    """An int where it is written as one."""
    try:
        return int(value) if value.lstrip("+-").isdecimal() else float(value)
    except ValueError:
        raise ConfigError(f"{where}: expected a number, got {value!r}") from None
