"""The record of how fast one replica steps, and what it holds for.

The rule: a profile is of one model file, placement, engine settings, library build and hardware. Of
any other it says nothing, and is never used for it.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

from fmedge.sched.fit import FitReport
from fmedge.sched.steptime import StepModel
from fmedge.types import DeviceMemory, EngineSettings

FORMAT = 1
"""Of the record; another number is another format."""

Source = Literal["measured", "stored", "prior"]


class Hardware(Struct, frozen=True, kw_only=True):
    """What a replica computes on. cpu_flags: a digest of the instruction sets. num_cores physical
    cores and num_cpus threads are those that this process may use, cpu_quota its cgroup's share in
    CPUs (None: unlimited). devices: all that ggml sees but the CPU, with their memory in MiB."""

    cpu: str
    cpu_flags: str
    num_cores: int
    num_cpus: int
    cpu_quota: float | None
    devices: tuple[str, ...]


class ProfileKey(Struct, frozen=True, kw_only=True):
    """What a profile holds for. file: a digest of the model file's size, time and header. engine:
    placement and settings, without the file's path. build: of llama.cpp and of fmedge."""

    file: str
    engine: EngineSettings
    build: str
    hardware: Hardware

    def digest(self) -> str:
        """32 hexadecimal digits, equal for equal keys alone."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:32]


class StepProfile(Struct, frozen=True, kw_only=True):
    """A replica's step model and where it is from: `fitted` of measured steps (measured now, or
    stored then), or else `prior`, reckoned from the hardware's figures.

    load_s, memory: of the load it was measured after. made_at_s: Unix time. measured_s: how long
    measuring took; is_complete: it came to its end.
    """

    key: ProfileKey
    source: Source
    made_at_s: float
    fitted: FitReport | None = None
    prior: StepModel | None = None
    load_s: float = 0.0
    memory: tuple[DeviceMemory, ...] = ()
    measured_s: float = 0.0
    is_complete: bool = False

    def __post_init__(self) -> None:
        if (self.fitted is None) == (self.prior is None):
            raise ValueError("a profile is either fitted or a prior")

    @property
    def model(self) -> StepModel:
        if self.fitted is not None:
            return self.fitted.model
        assert self.prior is not None
        return self.prior

    @property
    def num_samples(self) -> int:
        return 0 if self.fitted is None else self.fitted.num_samples


class _Record(Struct, frozen=True):
    format: int
    profile: StepProfile


class _AnyRecord(Struct, frozen=True):
    format: int


def to_bytes(profile: StepProfile) -> bytes:
    """The profile as readable JSON."""
    encoded = msgspec.json.encode(_Record(FORMAT, profile))
    return msgspec.json.format(encoded, indent=1) + b"\n"


def from_bytes(data: bytes, key: ProfileKey) -> StepProfile:
    """The profile of just this key. ValueError, with what is wrong, for anything else."""
    try:
        if (found := msgspec.json.decode(data, type=_AnyRecord).format) != FORMAT:
            raise ValueError(f"it has format {found}, not {FORMAT}")
        profile = msgspec.json.decode(data, type=_Record).profile
    except msgspec.DecodeError as error:
        raise ValueError(f"it is damaged: {error}") from error
    if profile.key != key:
        raise ValueError(f"it is of another {_first_difference(profile.key, key)}")
    return profile


def _first_difference(old: ProfileKey, new: ProfileKey) -> str:
    names = {"file": "model file", "engine": "configuration", "build": "build"}
    return next(
        (text for name, text in names.items() if getattr(old, name) != getattr(new, name)),
        "machine",
    )
