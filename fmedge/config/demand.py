"""The demand file of `fmedge plan`: [[demand]] blocks, and the [sla.NAME] classes that they name.

The rule: as strict as the configuration; a figure that cannot be meant is refused with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from fmedge.config.blocks import blocks, own_classes, read_sections
from fmedge.config.promises import SlaConfig
from fmedge.config.values import convert, finite, known_class, unknown
from fmedge.errors import ConfigError

MAX_TOKENS = 1 << 24
Rate = Annotated[float, Meta(gt=0, le=100_000)]
Tokens = Annotated[float, Meta(gt=0, le=MAX_TOKENS)]
Text = Annotated[str, Meta(min_length=1)]

_KEYS = ("model", "rate_per_s", "prompt_tokens", "output_tokens", "sla")
_QUANTILES = ("p50", "p95")


class Quantiles(Struct, frozen=True):
    """Tokens that half, and 95 %, of the requests stay within."""

    p50: float
    p95: float


class DemandConfig(Struct, frozen=True, kw_only=True):
    """One [[demand]]: requests to a served model, by its name or alias. sla: their class, None for
    best effort. where: the place of the block, for messages."""

    where: str
    model: str
    rate_per_s: float
    prompt_tokens: Quantiles
    output_tokens: Quantiles
    sla: str = ""
    sla_class: SlaConfig | None = None


def load_demand(
    file: str | Path, known_classes: Mapping[str, SlaConfig] | None = None
) -> tuple[DemandConfig, ...]:
    """The blocks of a file. known_classes: the configuration's; those of the file come before
    them. ConfigError with file and place."""
    path = Path(file).expanduser()
    table = read_sections(path, "demand file", ("demand", "sla"))
    sla = {**(known_classes or {}), **own_classes(table, path)}
    found = demand_of(table, path, sla)
    if not found:
        raise ConfigError(f"{path}: no [[demand]] block: write one for each stream of requests")
    return found


def demand_of(
    table: Mapping[str, Any], path: Path, sla: Mapping[str, SlaConfig]
) -> tuple[DemandConfig, ...]:
    """The [[demand]] blocks of a file's top table, if there are any; sla: the classes that they
    may name."""
    return tuple(
        _block(block, f"{path}: [[demand]] number {number}", sla)
        for number, block in enumerate(blocks(table, "demand", path), 1)
    )


def _block(block: Mapping[str, Any], where: str, sla: Mapping[str, SlaConfig]) -> DemandConfig:
    for key in block:
        if key not in _KEYS:
            raise unknown(where, key, list(_KEYS), {})
    for key in _KEYS[:-1]:
        if key not in block:
            raise ConfigError(f"{where}: needs {key}{_EXAMPLES[key]}")
    name = convert(block.get("sla", ""), str, f"{where}: sla")
    return DemandConfig(
        where=where,
        model=convert(block["model"], Text, f"{where}: model"),
        rate_per_s=finite(block["rate_per_s"], Rate, f"{where}: rate_per_s"),
        prompt_tokens=quantiles(block["prompt_tokens"], f"{where}: prompt_tokens"),
        output_tokens=quantiles(block["output_tokens"], f"{where}: output_tokens"),
        sla=name,
        sla_class=known_class(name, sla, f"{where}: sla") if name else None,
    )


_EXAMPLES = {
    "model": ' = "NAME"',
    "rate_per_s": " = requests a second",
    "prompt_tokens": " = { p50 = 800, p95 = 4000 }",
    "output_tokens": " = { p50 = 150, p95 = 600 }",
}


def quantiles(table: Any, where: str) -> Quantiles:
    """A table of p50 and p95, in tokens. ConfigError with its place."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected {{ p50 = TOKENS, p95 = TOKENS }}, got {table!r}")
    for key in table:
        if key not in _QUANTILES:
            raise ConfigError(f"{where}: unknown key {key!r}; known are {', '.join(_QUANTILES)}")
    for key in _QUANTILES:
        if key not in table:
            raise ConfigError(f"{where}: needs {key} too")
    p50, p95 = (finite(table[key], Tokens, f"{where} {key}") for key in _QUANTILES)
    if p95 < p50:
        raise ConfigError(f"{where}: p95 = {p95:g} is less than p50 = {p50:g}")
    return Quantiles(p50, p95)
