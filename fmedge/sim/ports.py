"""What the world asks of engines in virtual time; `engine.py` and `bank.py` say what each of these
is and does. The rule: no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fmedge.sched.steps import StepRates
from fmedge.sim.workload import Call

Sample = tuple[int, int, float, float, float]
"""A step: (P, D, K, A, seconds), as in `protocol.Step`."""


class Engine(Protocol):
    """One replica's engine (`sim.engine.Engine` says what each of these is)."""

    @property
    def next_s(self) -> float: ...
    @property
    def stepped_s(self) -> float: ...
    @property
    def busy_s(self) -> float: ...
    @property
    def rates(self) -> StepRates: ...
    def submit(
        self,
        now_s: float,
        request_id: int,
        num_tokens: int,
        num_left: int,
        *,
        num_emitted: int = 0,
        priority: int = 0,
        prompt: bytes = b"",
        cache_key: str = "",
        is_stopped: bool = False,
    ) -> None: ...
    def cancel(self, now_s: float, request_id: int) -> None: ...
    def advance(self, now_s: float) -> None: ...
    def ended(self) -> Sequence[tuple[int, float, bool]]: ...
    def tokens(self) -> Sequence[tuple[int, int]]: ...
    def prefilled(self) -> Sequence[tuple[int, int]]: ...
    def samples(self) -> Sequence[Sample]: ...
    def num_cached(self, request_id: int) -> int: ...
    def timings(self, request_id: int) -> tuple[float, float]: ...
    def num_emitted(self, request_id: int) -> int: ...


class Progress(Protocol):
    """What is new of one engine (`sim.bank.Progress`)."""

    @property
    def index(self) -> int: ...
    @property
    def stepped_s(self) -> float: ...
    @property
    def rates(self) -> tuple[float, float]: ...
    @property
    def tokens(self) -> Sequence[tuple[int, int]]: ...
    @property
    def prefilled(self) -> Sequence[tuple[int, int]]: ...
    @property
    def samples(self) -> Sequence[Sample]: ...


class Bank(Protocol):
    """All engines (`sim.bank.Bank`)."""

    @property
    def engines(self) -> Sequence[Engine]: ...
    def advance(self, now_s: float) -> None: ...
    def progress(self) -> Sequence[Progress]: ...


Prompts = Callable[[Call, int], bytes]
"""The packed prompt of a call by its place in the workload; b"" shares nothing."""
