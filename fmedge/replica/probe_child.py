"""The process that opens devices, for `probe.py`: a driver that hangs or aborts ends it alone.

Run as `python -m fmedge.replica.probe_child FD [ENDPOINT]`: questions come as JSON lines on stdin,
answers go to FD as such. It ends with its stdin, even in the midst of a measurement.
"""

from __future__ import annotations

import os
import sys

import msgspec
from msgspec import Struct

from fmedge.errors import FmedgeError
from fmedge.replica.errand import answer_questions
from fmedge.replica.speed import Speed, better, measure
from fmedge.types import DeviceInfo

# What a device's caches hold is not told; these are more than most do.
_GPU_CACHE_BYTES = 128 << 20
_REMOTE_CACHE_BYTES = 64 << 20
_HOST_CACHE_BYTES = 32 << 20  # where the C library does not know
_MAX_HOST_CACHE_BYTES = 128 << 20


class ListDevices(Struct, tag="list"):
    """All that is here, or the endpoint's."""


class MeasureDevice(Struct, tag="measure"):
    device: str
    threads: int
    budget_s: float


Question = ListDevices | MeasureDevice


class Answer(Struct, omit_defaults=True):
    """error: why there is nothing else. build, system: llama.cpp's own words. kernel: ours for
    matrix products, "" where they are llama.cpp's. resident_bytes: what this process takes of the
    host's memory, as one that runs a model does before it loads it."""

    devices: tuple[DeviceInfo, ...] = ()
    build: str = ""
    system: str = ""
    kernel: str = ""
    resident_bytes: int = 0
    speed: Speed | None = None
    error: str = ""


def answer(question: Question, names: tuple[str, ...]) -> Answer:
    """names: the endpoint's devices, () for this machine's."""
    from fmedge._native import gemm
    from fmedge._native.bandwidth import BandwidthProbe
    from fmedge._native.devices import list_devices
    from fmedge._native.version import llama_build, system_info

    devices = [d for d in list_devices() if not names or d.name in names]
    if isinstance(question, ListDevices):
        return Answer(
            devices=tuple(devices),
            build=llama_build(),
            system=system_info(),
            kernel=gemm.kernel(),
            resident_bytes=_resident_bytes(),
        )
    kind = next((d.kind for d in devices if d.name == question.device), None)
    if kind is None:
        return Answer(error=f"there is no device {question.device}")
    is_host = kind == "cpu" and not names
    cache_bytes = _REMOTE_CACHE_BYTES if names else _GPU_CACHE_BYTES

    def timed(threads: int, budget_s: float) -> Speed:
        with BandwidthProbe(question.device, threads) as probe:
            return measure(
                probe,
                is_host=is_host,
                cache_bytes=_host_cache_bytes() if is_host else cache_bytes,
                budget_s=budget_s,
                is_processor=kind == "cpu" or bool(names),
            )

    if not is_host or question.threads == 1:
        return Answer(speed=timed(question.threads, question.budget_s))
    # Where other programs run, several threads may never be left alone together; one has its own
    # clock.
    several = timed(question.threads, 0.5 * question.budget_s)
    return Answer(speed=better(several, timed(1, 0.5 * question.budget_s)))


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _host_cache_bytes() -> int:
    names = ("SC_LEVEL2_CACHE_SIZE", "SC_LEVEL3_CACHE_SIZE")
    sizes = [os.sysconf(name) for name in names if name in os.sysconf_names]
    return min(max(sizes, default=0) or _HOST_CACHE_BYTES, _MAX_HOST_CACHE_BYTES)


def main() -> None:
    names: tuple[str, ...] = ()

    def reply(line: bytes) -> bytes:
        nonlocal names
        question = msgspec.json.decode(line, type=Question)
        try:
            if len(sys.argv) > 2 and not names:
                from fmedge._native.rpc import add_servers

                names = add_servers(sys.argv[2:])
            made = answer(question, names)
        except FmedgeError as error:
            made = Answer(error=str(error))
        return msgspec.json.encode(made)

    answer_questions(int(sys.argv[1]), reply)


if __name__ == "__main__":
    main()
