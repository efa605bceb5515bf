"""What is gathered: this machine's devices and servers', cached, and what goes wrong with them."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from fmedge.config.rpc import RpcConfig
from fmedge.errors import ConfigError, DeviceError
from fmedge.replica.probe import Prober
from fmedge.replica.probe_child import Answer
from fmedge.replica.speed import Speed
from fmedge.sched.provision import catalogue
from fmedge.sched.provision.device import TypeSpeed
from fmedge.server import devices as module
from fmedge.server.devices import Survey, gather, survey
from fmedge.types import DeviceInfo
from tests.device_servers import device_servers

Look = Callable[..., Awaitable[Survey]]

GIB = 1 << 30
MIB = 1 << 20


def info(name: str, kind: str = "gpu", **values: object) -> DeviceInfo:
    given = {
        "description": "NVIDIA GeForce RTX 4090", "backend": "CUDA", "memory_total": 24 * GIB,
        "memory_free": 20 * GIB, **values,
    }  # fmt: skip
    return DeviceInfo(name=name, kind=kind, **given)  # type: ignore[arg-type]


CPU = info("CPU", "cpu", description="Some CPU", backend="CPU", memory_total=8 * GIB,
           memory_free=6 * GIB)  # fmt: skip


def speed(bandwidth: float = 900.0, tflops: float = 100.0, **values: float) -> Speed:
    types = (TypeSpeed(quant="f16", bandwidth_gb_s=bandwidth, tflop_s=tflops),)
    return Speed(types=types, **values)  # type: ignore[arg-type]


@dataclass
class Machine:
    """What fake probers see: `prober` is what survey() takes."""

    infos: tuple[DeviceInfo, ...] = (CPU,)
    speeds: dict[str, Speed] = field(default_factory=dict)
    context_bytes: int = 0
    build: str = "b1"
    broken: str = ""
    measured: list[str] = field(default_factory=list)
    num_open: int = 0

    def prober(self, endpoint: str) -> Prober:
        return cast(Prober, FakeProber(self))


class FakeProber:
    """Free memory falls with each process that has the devices open."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def __aenter__(self) -> FakeProber:
        self._machine.num_open += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._machine.num_open -= 1

    async def devices(self) -> Answer:
        machine = self._machine
        if machine.broken == "devices":
            raise DeviceError("the driver hangs")
        taken = machine.num_open * machine.context_bytes
        seen = [
            info(i.name, i.kind, description=i.description, backend=i.backend,
                 memory_total=i.memory_total, memory_free=i.memory_free - taken,
                 device_id=i.device_id)
            if i.kind != "cpu" else i
            for i in machine.infos
        ]  # fmt: skip
        return Answer(devices=tuple(seen), build=machine.build, resident_bytes=30 * MIB)

    async def measure(self, device: str, *, threads: int, budget_s: float) -> Speed:
        if self._machine.broken == device:
            raise DeviceError("it burns")
        self._machine.measured.append(device)
        return self._machine.speeds.get(device, speed())


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(module, "HOST_BUDGET_S", 0.2)
    monkeypatch.setattr(module, "BUDGET_S", 0.2)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    async def look(machine: Machine, **values: object) -> Survey:
        given = {"folder": tmp_path, "prober": machine.prober, **values}
        return await survey(**given)  # type: ignore[arg-type]

    return look


async def test_measured_once(look: Look, tmp_path: Path) -> None:
    machine = Machine(
        infos=(info("CUDA0"), CPU),
        speeds={"CUDA0": speed(link_gb_s=20.0, link_s=1e-5, used_bytes=7 * MIB)},
        context_bytes=300 * MIB,
    )
    first = await look(machine)
    gpu, cpu = (report.device for report in first.devices)
    assert machine.measured == ["CUDA0", "CPU"]
    assert (gpu.name, gpu.type, gpu.source, gpu.kind) == (
        "CUDA0", "gpu", "measured", "NVIDIA GeForce RTX 4090",
    )  # fmt: skip
    assert (gpu.bandwidth_gb_s, gpu.tflop_s, gpu.link_gb_s, gpu.link_s) == (900, 100, 20, 1e-5)
    assert gpu.memory_bytes == 20 * GIB  # what the asking process took is not counted
    assert gpu.backend_bytes == 307 * MIB
    assert (cpu.name, cpu.type, cpu.memory_bytes, cpu.backend_bytes) == (
        "CPU", "cpu", cpu.memory_bytes, 30 * MIB,
    )  # fmt: skip
    assert cpu.memory_bytes <= 6 * GIB
    assert first.devices[1].host is not None

    again = await look(machine)
    assert machine.measured == ["CUDA0", "CPU"]
    assert again.devices[0] == first.devices[0]
    assert (tmp_path / "devices.json").stat().st_mode & 0o777 == 0o600

    await look(machine, refresh=True)
    assert machine.measured == ["CUDA0", "CPU"] * 2
    assert machine.num_open == 0


@pytest.mark.parametrize("change", ["build", "threads", "memory"])
async def test_what_a_measurement_depends_on(look: Look, change: str) -> None:
    machine = Machine(infos=(info("CUDA0"), CPU))
    await look(machine)
    machine.measured.clear()
    if change == "build":
        machine.build = "b2"
    elif change == "memory":
        machine.infos = (info("CUDA0", memory_total=48 * GIB), CPU)
    await look(machine, **({"threads": 77} if change == "threads" else {}))
    expected = {"build": ["CUDA0", "CPU"], "threads": ["CPU"], "memory": ["CUDA0"]}
    assert machine.measured == expected[change]


async def test_measured_again_where_others_disturbed(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    now_s = [1e9]
    monkeypatch.setattr(module.time, "time", lambda: now_s[0])
    machine = Machine(speeds={"CPU": speed(10, 3)})
    await look(machine)
    await look(machine)
    assert machine.measured == ["CPU"]
    now_s[0] += module.AGAIN_S + 1
    await look(machine)
    assert machine.measured == ["CPU"]  # they still do
    monkeypatch.setattr(module.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    machine.speeds = {"CPU": speed(30, 1)}
    await look(machine, is_serving=True)
    assert machine.measured == ["CPU"]
    found = await look(machine)
    assert machine.measured == ["CPU"] * 2
    assert (found.devices[0].device.bandwidth_gb_s, found.devices[0].device.tflop_s) == (30, 3)
    now_s[0] += 10 * module.AGAIN_S
    await look(machine)
    assert machine.measured == ["CPU"] * 2


async def test_a_device_that_cannot_be_measured(look: Look) -> None:
    machine = Machine(infos=(info("CUDA0"), CPU), broken="CUDA0")
    found = await look(machine)
    gpu = found.devices[0].device
    card = catalogue.find("RTX 4090")
    assert card is not None
    assert (gpu.source, gpu.bandwidth_gb_s) == ("catalogue", card.bandwidth_gb_s)
    assert gpu.backend_bytes > 0
    assert found.problems == ("CUDA0 could not be measured: it burns",)
    machine.infos = (info("CUDA0", description="Wonder 9"), CPU)
    assert (await look(machine)).devices[0].device.source == "guess"


async def test_no_devices_at_all(look: Look) -> None:
    with pytest.raises(DeviceError, match="the driver hangs"):
        await look(Machine(broken="devices"))


async def test_helpers_and_doubles_are_left_out(look: Look) -> None:
    machine = Machine(
        infos=(
            info("CUDA0", device_id="0000:01:00.0"),
            info("Vulkan0", backend="Vulkan", device_id="0000:01:00.0"),
            info("Vulkan1", "igpu", backend="Vulkan", device_id="0000:00:02.0"),
            info("BLAS", "accel"),
            info("CUDA1"),
            info("CUDA2"),
            CPU,
        )
    )
    found = await look(machine)
    names = [(report.device.name, report.device.type) for report in found.devices]
    assert names == [
        ("CUDA0", "gpu"), ("Vulkan1", "igpu"), ("CUDA1", "gpu"), ("CUDA2", "gpu"), ("CPU", "cpu"),
    ]  # fmt: skip


async def test_excluded(look: Look) -> None:
    machine = Machine(infos=(info("CUDA0"), info("CUDA1"), CPU))
    found = await look(machine, exclude=["CUDA1"])
    assert [report.device.name for report in found.devices] == ["CUDA0", "CPU"]
    assert "CUDA1" not in machine.measured
    with pytest.raises(ConfigError, match="CUDA7: there is no such device; did you mean"):
        await look(machine, exclude=["CUDA7"])
    with pytest.raises(ConfigError, match="x: there is no such device; there are CUDA0, CUDA1"):
        await look(machine, exclude=["x"])


async def test_a_file_stands_for_all(tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    file.write_text("[[device]]\nname='a'\nkind='RTX 4090'\n[[device]]\nname='b'\nkind='T4'\n")
    found = await survey(str(file), folder=None)
    assert [report.device.name for report in found.devices] == ["a", "b"]
    assert found.devices[0].memory_total == found.devices[0].memory_free == 24 * GIB
    (left,) = await gather(str(file), folder=None, exclude=["a"])
    assert left.name == "b"
    with pytest.raises(ConfigError, match="c: there is no such device"):
        await gather(str(file), folder=None, exclude=["c"])


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version": 1, "devices": {"x": 3}}', b"\xff" * 1000,
     b'{"version": 99, "devices": {}}'],
)  # fmt: skip
async def test_a_cache_that_is_none(look: Look, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "devices.json").write_bytes(content)
    machine = Machine()
    await look(machine)
    assert machine.measured == ["CPU"]
    await look(machine)
    assert machine.measured == ["CPU"]


async def test_a_cached_figure_without_sense(look: Look, tmp_path: Path) -> None:
    machine = Machine()
    await look(machine)
    path = tmp_path / "devices.json"
    file = json.loads(path.read_text())
    for entry in file["devices"].values():
        entry["speed"]["types"][0]["bandwidth_gb_s"] = 0
    path.write_text(json.dumps(file))
    await look(machine)
    assert machine.measured == ["CPU"] * 2


async def test_no_place_for_the_cache(
    look: Look, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        found = await look(Machine(), folder=tmp_path / "file" / "state")
    assert found.devices[0].device.source == "measured"
    assert "cannot be used for state: Not a directory" in caplog.text
    assert (await look(Machine(), folder=None)).devices


async def test_device_servers(look: Look, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    with device_servers((1, 0.25)) as servers:
        configured = [
            RpcConfig(where="a", endpoint=servers[0].endpoint, name="box", reserve_gib=0.125),
            RpcConfig(where="b", endpoint="127.0.0.1:1", name="gone"),
        ]

        def prober(endpoint: str) -> Prober:
            return Prober(endpoint) if endpoint else machine.prober(endpoint)

        found = await look(machine, servers=configured, prober=prober)
        box = found.devices[1].device
        assert (box.name, box.type, box.endpoint) == ("box", "rpc", servers[0].endpoint)
        assert (box.memory_bytes, box.reserve_bytes) == (GIB // 4, GIB // 8)
        assert box.source == "measured"
        assert 0 < box.link_gb_s < 1000
        assert len(found.problems) == 1
        assert "127.0.0.1:1 cannot be reached" in found.problems[0]
        servers[0].kill()
        with caplog.at_level(logging.WARNING):
            left = await gather("", configured[:1], folder=tmp_path)
    assert [device.name for device in left] == ["CPU"]
    assert f"{configured[0].endpoint} cannot be reached" in caplog.text


async def test_a_server_may_not_be_called_like_a_device(look: Look) -> None:
    server = RpcConfig(where="F: [[rpc]] number 1", endpoint="127.0.0.1:1", name="CPU")
    with pytest.raises(ConfigError, match=r"F: \[\[rpc\]\] number 1: another device is called CPU"):
        await look(Machine(), servers=[server])
    found = await look(
        Machine(), servers=[RpcConfig(where="", endpoint="127.0.0.1:1")],
        exclude=["127.0.0.1:1/3"],
    )  # fmt: skip
    assert len(found.problems) == 1


async def test_where_there_is_no_time_to_measure_what_is_known_counts_and_else_a_guess(
    look: Look,
) -> None:
    machine = Machine(infos=(CPU, info("CUDA0")), context_bytes=300 * MIB)
    card = catalogue.find("NVIDIA GeForce RTX 4090")
    assert card is not None
    host, gpu = (report.device for report in (await look(machine, may_measure=False)).devices)
    assert (host.source, gpu.source) == ("guess", "catalogue")
    assert gpu.bandwidth_gb_s == card.bandwidth_gb_s
    assert machine.measured == []
    await look(machine)
    assert machine.measured == ["CPU", "CUDA0"]
    found = await look(machine, may_measure=False)
    assert {report.device.source for report in found.devices} == {"measured"}
    assert len(machine.measured) == 2
