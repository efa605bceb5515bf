"""How much of a device a plan must leave free, learned from what loads did.

The rule: memory that was once found missing is not planned with again: an allocation that failed,
or more in use than was predicted, raises a device's reserve; nothing lowers it but a load that had
been refused before and now fits, step by step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct, structs

from fmedge.sched.provision.apply import index_at_server, name_in_worker
from fmedge.sched.provision.device import HOST, Device

FIRST_BYTES = 128 << 20
FIRST_SHARE = 0.02
MOST_SHARE = 0.5
NUM_CALM_LOADS = 8
VERSION = 1

_MOST_DEVICES = 1024

_RPC_BUFFER = re.compile(r"\bRPC(\d+)\[([^\]\s]+)\]")
_BUFFER = re.compile(
    r"allocat\w* (?:(?P<before>[A-Za-z]+\d*)(?:_Host|_Split)? buffer|buffer .*?on device "
    r"(?P<after>[A-Za-z]+\d*))",
)


class Margin(Struct, frozen=True, kw_only=True):
    """Of one device, bytes. failed: for allocations that failed, whose number is num_failures;
    excess: the most that a load took beyond its prediction. num_calm: loads since that were as
    predicted."""

    failed: int = 0
    excess: int = 0
    num_failures: int = 0
    num_calm: int = 0

    @property
    def total(self) -> int:
        return self.failed + self.excess


class _Stored(Struct, frozen=True):
    version: int
    margins: dict[str, Margin]


class Margins:
    """By device key (`key_of`). Values in, values out; the owner keeps to_bytes()."""

    def __init__(self, margins: Mapping[str, Margin] | None = None) -> None:
        self._margins = dict(margins or {})

    def of(self, device: Device) -> Margin:
        return self._margins.get(key_of(device), Margin())

    def applied(self, device: Device) -> Device:
        """The device with its reserve raised by what was learned."""
        extra = self.of(device).total
        if not extra:
            return device
        return structs.replace(device, reserve_bytes=device.reserve_bytes + extra)

    def on_failure(self, device: Device) -> Margin:
        """An allocation there failed: its margin doubles, from 2 % of the device or 128 MiB."""
        margin = self.of(device)
        first = min(FIRST_BYTES, int(device.memory_bytes * MOST_SHARE))
        first = max(first, int(device.memory_bytes * FIRST_SHARE))
        most = int(device.memory_bytes * MOST_SHARE)
        return self._keep(
            device,
            structs.replace(
                margin,
                failed=min(most, max(first, 2 * margin.failed)),
                num_failures=margin.num_failures + 1,
                num_calm=0,
            ),
        )

    def on_loaded(self, device: Device, excess: int) -> Margin:
        """A load took `excess` bytes more than predicted there (not positive: it kept within)."""
        margin = self.of(device)
        if excess > 0:
            most = int(device.memory_bytes * MOST_SHARE)
            excess = min(most, max(margin.excess, excess))
            return self._keep(device, structs.replace(margin, excess=excess, num_calm=0))
        if not margin.failed:
            return margin
        # What took the memory (another program, say) may be gone: approach it again slowly.
        num_calm = margin.num_calm + 1
        failed = margin.failed
        if num_calm >= NUM_CALM_LOADS:
            num_calm, failed = 0, failed // 2 if failed > FIRST_BYTES // 4 else 0
        return self._keep(device, structs.replace(margin, failed=failed, num_calm=num_calm))

    def _keep(self, device: Device, margin: Margin) -> Margin:
        key = key_of(device)
        if margin.total or margin.num_failures:
            if key in self._margins or len(self._margins) < _MOST_DEVICES:
                self._margins[key] = margin
        else:
            self._margins.pop(key, None)
        return margin

    def to_bytes(self) -> bytes:
        return msgspec.json.encode(_Stored(VERSION, self._margins))

    @classmethod
    def from_bytes(cls, data: bytes) -> Margins:
        """Those of to_bytes(); none where it is not that."""
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return cls()
        sound = {
            key: margin
            for key, margin in stored.margins.items()
            if min(margin.failed, margin.excess, margin.num_failures, margin.num_calm) >= 0
        }
        return cls(sound) if stored.version == VERSION else cls()


def key_of(device: Device) -> str:
    """What stays of it when a [[rpc]] gets another name: a server's address."""
    return f"{device.type} {name_in_worker(device)}"


def failed_device(message: str, devices: Mapping[str, Device]) -> str | None:
    """The device that a failed load's message complains of, by the plan's name; None where it names
    none. llama.cpp names a buffer of a server by the device's number there and its endpoint."""
    match = _RPC_BUFFER.search(message)
    if match is not None:
        number, endpoint = int(match[1]), match[2]
        named = (d.name for d in devices.values() if d.endpoint == endpoint)
        return next((n for n in named if index_at_server(devices[n]) == number), None)
    for match in _BUFFER.finditer(message):
        name = match["before"] or match["after"]
        if name in devices:
            return name
    host = next((d.name for d in devices.values() if d.is_host), None)
    return host if "on the host" in message or f"{HOST} buffer" in message else None
