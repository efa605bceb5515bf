"""What requests that are drawn have in common: when they come, how large they are, who sends them
on what terms.

The rule: a key that means nothing beside the others is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct

from fmedge.config.demand import MAX_TOKENS, Quantiles, Rate, Tokens, quantiles
from fmedge.config.values import finite, known_class
from fmedge.errors import ConfigError
from fmedge.types import BEST_EFFORT, Promise

Process = Literal["poisson", "gamma", "uniform", "bursts", "diurnal"]
PROCESSES: tuple[Process, ...] = get_args(Process)

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Period = Annotated[float, Meta(gt=0, le=1e9)]
Size = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
Text = Annotated[str, Meta(min_length=1)]

SENDER_KEYS: dict[str, Any] = {
    "model": Text,
    "api_key": Text,
    "priority": Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)],
    "sla": Text,
}
ARRIVAL_KEYS: dict[str, Any] = {
    "arrivals": Process,
    "rate_per_s": Rate,
    "start_s": Seconds,
    "duration_s": Period,
    "cv": Annotated[float, Meta(gt=0, le=100)],
    "burst_rate_per_s": Rate,
    "on_s": Period,
    "off_s": Period,
    "period_s": Period,
    "amplitude": Annotated[float, Meta(ge=0, le=1)],
}
MEANT = {
    "rate": "rate_per_s", "qps": "rate_per_s", "process": "arrivals", "arrival": "arrivals",
    "duration": "duration_s", "start": "start_s", "period": "period_s", "key": "api_key",
    "prompt": "prompt_tokens", "output": "output_tokens", "think": "think_s", "tool": "tool_s",
    "class": "sla", "file": "trace", "num_requests": "requests",
}  # fmt: skip
"""What others, or the inline form, call our keys."""

_OF_PROCESS: dict[Process, tuple[str, ...]] = {
    "gamma": ("cv",),
    "bursts": ("burst_rate_per_s", "on_s", "off_s"),
    "diurnal": ("period_s", "amplitude"),
}
_OPTIONAL = ("amplitude",)


class Arrivals(Struct, frozen=True, kw_only=True):
    """A process of arrivals from start_s on, for duration_s seconds.

    rate_per_s: on average; of bursts, between them. gamma: independent gaps whose deviation is cv
    times their mean. uniform: equal gaps. bursts: off_s seconds at rate_per_s, then on_s seconds at
    burst_rate_per_s, and so on. diurnal: the rate goes as 1 - amplitude * cos(2 pi t / period_s).
    But for gamma and uniform, arrivals are independent of each other (Poisson).
    """

    process: Process = "poisson"
    rate_per_s: float = 1.0
    start_s: float = 0.0
    duration_s: float = inf
    cv: float = 1.0
    burst_rate_per_s: float = 0.0
    on_s: float = 0.0
    off_s: float = 0.0
    period_s: float = 86_400.0
    amplitude: float = 0.5

    @property
    def num_expected(self) -> float:
        """Arrivals in all; inf without an end."""
        mean_per_s = self.rate_per_s
        if self.process == "bursts":
            num_a_cycle = self.rate_per_s * self.off_s + self.burst_rate_per_s * self.on_s
            mean_per_s = num_a_cycle / (self.off_s + self.on_s)
        return mean_per_s * self.duration_s


class Sender(Struct, frozen=True, kw_only=True):
    """Who asks for what, on what terms."""

    model: str = ""
    api_key: str = ""
    priority: int = 0
    promise: Promise = BEST_EFFORT


def arrivals(values: Mapping[str, Any], where: str) -> Arrivals:
    """Of a block's typed values, of which others are left alone."""
    process: Process = values.get("arrivals", "poisson")
    if "rate_per_s" not in values:
        raise ConfigError(f"{where}: needs rate_per_s = arrivals a second")
    of_process = _OF_PROCESS.get(process, ())
    for owner, keys in _OF_PROCESS.items():
        for key in keys:
            if key in values and key not in of_process:
                raise ConfigError(
                    f'{where}: {key} is of arrivals = "{owner}", these are "{process}"'
                )
    for key in of_process:
        if key not in values and key not in _OPTIONAL:
            raise ConfigError(f'{where}: arrivals = "{process}" needs {key} too')
    named = {key: values[key] for key in ARRIVAL_KEYS if key in values and key != "arrivals"}
    return Arrivals(process=process, **named)


def spread(value: Any, where: str, unit: str = "TOKENS") -> Quantiles:
    """A table of p50 and p95, or a number that is both. ConfigError with its place."""
    if isinstance(value, dict):
        return quantiles(value, where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(
            f"{where}: expected {unit}, or {{ p50 = {unit}, p95 = {unit} }}, got {value!r}"
        )
    number = finite(value, Tokens, where)
    return Quantiles(number, number)


def sender(values: Mapping[str, Any], where: str, promises: Mapping[str, Promise]) -> Sender:
    """Of a block's typed values; `sla` names one of the classes `promises`."""
    return Sender(
        model=values.get("model", ""),
        api_key=values.get("api_key", ""),
        priority=values.get("priority", 0),
        promise=known_class(values["sla"], promises, f"{where}: sla") if "sla" in values
        else BEST_EFFORT,
    )  # fmt: skip
