"""How much slower or faster devices are than their figures say, learned from loaded replicas.

The rule: when a replica's steps have been measured, what they take is compared with what was
predicted for its placement, and the devices that hold it share the difference alike. Corrections
are bounded, averaged, and coarse, so that noise neither adds up nor changes plans from start to
start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, log

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fmedge.sched.provision.device import Device
from fmedge.sched.provision.margins import key_of

LEAST_STEP_S = 0.001
"""Shorter steps say more of launching than of a device's memory or cores."""

WEIGHT = 0.5
"""Of the latest measurement."""

MOST = 2.0
STEP = 0.05
VERSION = 1

_MOST_DEVICES = 1024


class Correction(Struct, frozen=True, kw_only=True):
    """Measured time / time by the device's own figures, of decoding and of prefill."""

    decode: float = 1.0
    prefill: float = 1.0


class _Stored(Struct, frozen=True):
    version: int
    corrections: dict[str, Correction]


class Corrections:
    """By device key (`margins.key_of`). Values in, values out; the owner keeps to_bytes()."""

    def __init__(self, corrections: Mapping[str, Correction] | None = None) -> None:
        self._corrections = dict(corrections or {})

    def of(self, device: Device) -> Correction:
        return self._corrections.get(key_of(device), Correction())

    def applied(self, device: Device) -> Device:
        """The device at the speed that it has shown."""
        found = self.of(device)
        decode, prefill = _coarse(found.decode), _coarse(found.prefill)
        if decode == prefill == 1:
            return device
        return replace(
            device,
            bandwidth_gb_s=device.bandwidth_gb_s / decode,
            tflop_s=device.tflop_s / prefill,
            attention_gmac_s=device.attention_gmac_s / decode,
            kv_gb_s=device.kv_gb_s / decode,
            op_s=device.op_s * decode,
            speeds=tuple(
                replace(
                    speed,
                    bandwidth_gb_s=speed.bandwidth_gb_s / decode,
                    tflop_s=speed.tflop_s / prefill,
                )
                for speed in device.speeds
            ),
        )

    def on_measured(
        self, devices: Iterable[Device], decode: tuple[float, float], prefill: tuple[float, float]
    ) -> None:
        """A replica on these devices was measured. decode, prefill: seconds of a step as predicted
        with the corrections there are (`applied`), and as measured."""
        for device in devices:
            old = self.of(device)
            new = Correction(
                decode=_moved(old.decode, *decode), prefill=_moved(old.prefill, *prefill)
            )
            key = key_of(device)
            if new != Correction() and (
                key in self._corrections or len(self._corrections) < _MOST_DEVICES
            ):
                self._corrections[key] = new

    def to_bytes(self) -> bytes:
        return msgspec.json.encode(_Stored(VERSION, self._corrections))

    @classmethod
    def from_bytes(cls, data: bytes) -> Corrections:
        """Those of to_bytes(); none where it is not that."""
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return cls()
        sound = {
            key: found
            for key, found in stored.corrections.items()
            if all(1 / MOST <= value <= MOST for value in (found.decode, found.prefill))
        }
        return cls(sound) if stored.version == VERSION else cls()


def _moved(factor: float, predicted_s: float, measured_s: float) -> float:
    """Towards factor * measured / predicted, which would have been right."""
    if predicted_s < LEAST_STEP_S or not measured_s > 0:
        return factor
    moved = factor * exp(WEIGHT * log(measured_s / predicted_s))
    return min(MOST, max(1 / MOST, moved))


def _coarse(factor: float) -> float:
    return round(factor / STEP) * STEP
