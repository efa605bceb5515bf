"""The devices that plans may use: those of this machine, of device servers, or of a device file.

The rule: a device that cannot be opened or measured is named among the problems and does not keep
the others from being used. Speeds are measured once and cached; free memory is asked each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from fmedge import __version__
from fmedge.config.devices import load_devices
from fmedge.config.rpc import RpcConfig
from fmedge.config.values import nearest
from fmedge.errors import ConfigError, DeviceError
from fmedge.replica.probe import Prober
from fmedge.replica.rpc import RpcOffer, look_at
from fmedge.replica.speed import better
from fmedge.sched.provision.device import Device
from fmedge.server.described import described
from fmedge.server.device_cache import DeviceCache, Entry, fingerprint
from fmedge.server.device_figures import (
    DeviceReport,
    card_report,
    host_report,
    remote_report,
)
from fmedge.server.host import host_facts
from fmedge.types import DeviceInfo

HOST_BUDGET_S = 3.0
BUDGET_S = 2.0
"""How long one device is measured, at most."""

BUSY_SHARE = 0.5
AGAIN_S = 600.0
"""What was measured while other programs took more than this share of the processors is measured
again when they no longer do, after this time, and the better figures are kept."""


log = logging.getLogger(__name__)


class Survey(Struct, frozen=True, kw_only=True):
    """problems: what could not be reached or measured, a sentence each."""

    devices: tuple[DeviceReport, ...]
    problems: tuple[str, ...] = ()


async def gather(
    file: str = "",
    servers: Sequence[RpcConfig] = (),
    *,
    folder: Path | None,
    refresh: bool = False,
    exclude: Sequence[str] = (),
    threads: int = 0,
    is_serving: bool = False,
    may_measure: bool = True,
) -> tuple[Device, ...]:
    """`survey` without what only a person asks. Problems go to the log."""
    found = await survey(
        file,
        servers,
        folder=folder,
        refresh=refresh,
        exclude=exclude,
        threads=threads,
        is_serving=is_serving,
        may_measure=may_measure,
    )
    for problem in found.problems:
        log.warning("%s", problem)
    return tuple(report.device for report in found.devices)


async def survey(
    file: str = "",
    servers: Sequence[RpcConfig] = (),
    *,
    folder: Path | None,
    refresh: bool = False,
    exclude: Sequence[str] = (),
    threads: int = 0,
    is_serving: bool = False,
    may_measure: bool = True,
    prober: Callable[[str], Prober] = Prober,
) -> Survey:
    """Every device that plans may use.

    file: a device file, whose devices are the only ones; else this machine's, in ggml's order, and
    then those of `servers`, named as configured, else by endpoint, further ones of one server with
    "/1", "/2", ... behind it. folder: the state folder, where speeds are cached; None keeps none.
    refresh: measure again. exclude: names to leave out. threads: of the host; 0 as a model would
    take. is_serving: models run here now, so only what was never measured is. may_measure False:
    not even that, and figures are guessed where none are known. prober: makes one
    for an endpoint, "" for this machine.
    ConfigError for a wrong file or an unknown excluded name, DeviceError where not even this
    machine's devices can be asked.
    """
    if file:
        devices = described(load_devices(file))
        _check_excluded(exclude, [device.name for device in devices])
        reports = [_of_file(device) for device in devices if device.name not in exclude]
        return Survey(devices=tuple(reports))
    cache = DeviceCache(folder)
    look = _Look(
        cache, refresh, frozenset(exclude), threads, is_serving or not may_measure, may_measure,
        prober,
    )  # fmt: skip
    await look.at_this_machine()
    await look.at_servers(servers)
    look.save()
    _check_excluded(exclude, look.names)
    return Survey(devices=tuple(look.reports), problems=tuple(look.problems))


def _of_file(device: Device) -> DeviceReport:
    return DeviceReport(
        device=device, memory_total=device.memory_bytes, memory_free=device.memory_bytes
    )


def _check_excluded(exclude: Sequence[str], names: list[str]) -> None:
    for name in exclude:
        base, _, _ = name.rpartition("/")  # of a server that is down nobody knows how many it has
        if name not in names and base not in names:
            hint = nearest(name, names) or f"; there are {', '.join(names) or 'none'}"
            raise ConfigError(f"--exclude {name}: there is no such device{hint}")


class _Look:
    """One look at everything."""

    def __init__(
        self,
        cache: DeviceCache,
        refresh: bool,
        exclude: frozenset[str],
        threads: int,
        is_serving: bool,
        may_measure: bool,
        prober: Callable[[str], Prober],
    ) -> None:
        self.reports: list[DeviceReport] = []
        self.problems: list[str] = []
        self.names: list[str] = []
        self._cache = cache
        self._refresh = refresh
        self._exclude = exclude
        self._facts = host_facts()
        self._threads = threads or self._facts.num_threads
        self._is_serving = is_serving
        self._may_measure = may_measure
        self._prober = prober
        self._is_changed = False

    def save(self) -> None:
        if self._is_changed:
            self._cache.save()

    async def at_this_machine(self) -> None:
        async with self._prober("") as prober:
            answer = await prober.devices()
            infos = _distinct(answer.devices)
            self.names += [info.name for info in infos]
            infos = [info for info in infos if info.name not in self._exclude]
            keys = [self._key(info, answer.build) for info in infos]
            contexts = await self._contexts(infos, keys)
            for info, key in zip(infos, keys, strict=True):
                entry = await self._entry(prober, info, key, info.name, contexts.get(info.name, 0))
                if info.kind == "cpu":
                    resident_bytes = answer.resident_bytes
                    self.reports.append(host_report(info, entry, self._facts, resident_bytes))
                else:
                    self.reports.append(card_report(info, entry))

    async def at_servers(self, servers: Sequence[RpcConfig]) -> None:
        looks = (look_at(server.endpoint) for server in servers)
        offers = await asyncio.gather(*looks, return_exceptions=True)
        for server, offer in zip(servers, offers, strict=True):
            base = server.name or server.endpoint
            if base in self.names:
                raise ConfigError(f"{server.where}: another device is called {base}")
            self.names.append(base)
            if base in self._exclude:
                continue
            if isinstance(offer, DeviceError):
                self.problems.append(str(offer))
            elif isinstance(offer, BaseException):
                raise offer
            else:
                try:
                    await self._at_server(server, offer, base)
                except DeviceError as error:
                    self.problems.append(str(error))

    async def _at_server(self, server: RpcConfig, offer: RpcOffer, base: str) -> None:
        names = [
            base if number == 0 else f"{base}/{number}" for number in range(len(offer.devices))
        ]
        self.names += names[1:]
        async with self._prober(server.endpoint) as prober:
            answer = await prober.devices()
            for name, info in zip(names, answer.devices, strict=False):
                if name in self._exclude:
                    continue
                key = fingerprint(
                    ["rpc", server.endpoint, name, info.memory_total, answer.build, __version__]
                )
                entry = await self._entry(prober, info, key, name, 0)
                self.reports.append(remote_report(name, server, info, entry, offer))

    async def _contexts(self, infos: list[DeviceInfo], keys: list[str]) -> dict[str, int]:
        """What a process costs each new accelerator: what one sees to be free, less what a second
        sees while the first still has it open."""
        new = [
            info
            for info, key in zip(infos, keys, strict=True)
            if info.kind != "cpu" and (self._refresh or self._cache.get(key) is None)
        ]
        if not new or not self._may_measure:
            return {}
        try:
            async with self._prober("") as second:
                answer = await second.devices()
        except DeviceError as error:
            self.problems.append(str(error))
            return {}
        seen = {info.name: info.memory_free for info in answer.devices}
        return {
            info.name: max(0, info.memory_free - seen.get(info.name, info.memory_free))
            for info in new
        }

    async def _entry(
        self, prober: Prober, info: DeviceInfo, key: str, name: str, context: int
    ) -> Entry | None:
        """Measured now or before; None where it could not be."""
        known = None if self._refresh else self._cache.get(key)
        now_s = time.time()
        is_busy = os.getloadavg()[0] > BUSY_SHARE * self._facts.num_cpus
        if known is not None and (
            self._is_serving or is_busy or not known.is_busy or now_s < known.measured_s + AGAIN_S
        ):
            return known
        if not self._may_measure:
            return None
        budget_s = HOST_BUDGET_S if info.kind == "cpu" else BUDGET_S
        try:
            speed = await prober.measure(info.name, threads=self._threads, budget_s=budget_s)
        except DeviceError as error:
            self.problems.append(f"{name} could not be measured: {error}")
            return known
        if known is not None:
            speed, context = better(speed, known.speed), known.context_bytes
        entry = Entry(
            what=f"{name}: {info.description}",
            speed=speed,
            context_bytes=context,
            measured_s=now_s,
            is_busy=is_busy,
        )
        self._cache.put(key, entry)
        self._is_changed = True
        return entry

    def _key(self, info: DeviceInfo, build: str) -> str:
        own: list[str | int] = [info.name, info.description, info.backend, info.device_id]
        own += [info.memory_total >> 20, build, __version__]
        if info.kind == "cpu":
            return fingerprint([*own, self._threads, self._facts.num_cpus])
        return fingerprint([*own, _driver()])


def _distinct(infos: Sequence[DeviceInfo]) -> list[DeviceInfo]:
    """Without ggml's helpers of the CPU, and one of those that are the same card through two
    backends."""
    seen: set[str] = set()
    kept = []
    for info in infos:
        if info.kind not in ("cpu", "gpu", "igpu") or (info.device_id and info.device_id in seen):
            continue
        seen.add(info.device_id)
        kept.append(info)
    return kept


def _driver() -> str:
    """What GPU speeds depend on besides the library's build."""
    found = [os.uname().release]
    for path in ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version"):
        try:
            found.append(Path(path).read_text().strip())
        except OSError:
            continue
    return "\n".join(found)
