"""`fmedge devices`, as a process and as text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fmedge.cli.devices import as_json, show
from fmedge.sched.provision.device import Device, TypeSpeed
from fmedge.server.device_figures import DeviceReport
from fmedge.server.devices import Survey
from fmedge.server.host import HostFacts, NumaNode

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: this machine is measured once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def fmedge(state: Path) -> Command:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_STATE_HOME": str(state)}
        return subprocess.run(
            [sys.executable, "-m", "fmedge", "devices", *args], capture_output=True, text=True,
            cwd=ROOT, env=env, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    return run


GPU = DeviceReport(
    device=Device(
        name="CUDA0", type="gpu", kind="RTX 4090", backend="CUDA", memory_bytes=20 * GIB,
        bandwidth_gb_s=943.21234, tflop_s=150.5, link_gb_s=24.0, link_s=1e-5, source="measured",
        speeds=(TypeSpeed(quant="q8_0", bandwidth_gb_s=943.21234, tflop_s=150.5),),
    ),
    memory_total=24 * GIB, memory_free=20 * GIB, measured_s=1e9,
)  # fmt: skip
CPU = DeviceReport(
    device=Device(name="CPU", type="cpu", memory_bytes=30 * GIB, bandwidth_gb_s=80.0, tflop_s=1.0,
                  kind="Some CPU", num_cores=8),
    memory_total=32 * GIB, memory_free=30 * GIB,
    host=HostFacts(
        num_cpus=16, num_cores=8, num_cpus_there=32, cpu_quota=4.0, num_threads=4,
        memory_total=32 * GIB, memory_free=30 * GIB, memory_limit=32 * GIB,
        nodes=(
            NumaNode(number=0, num_cpus=16, num_cores=8, memory_total=16 * GIB,
                     memory_free=15 * GIB),
            NumaNode(number=1, num_cpus=0, num_cores=0, memory_total=16 * GIB,
                     memory_free=15 * GIB, has_memory=False),
        ),
    ),
)  # fmt: skip


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    show(Survey(devices=(GPU, CPU)), now_s=1e9 + 7200)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "NAME", "TYPE", "KIND", "MEMORY", "FREE", "BANDWIDTH", "COMPUTE", "LINK", "FIGURES",
    ]  # fmt: skip
    assert lines[1].split("  ")[-1] == "measured 2 h 0 min ago"
    assert "24.0 GiB" in lines[1]
    assert "943.2 GB/s" in lines[1]
    assert "guessed" in lines[2]
    assert lines[4:] == [
        "CPU: 8 cores (16 CPUs of 32 allowed), models take 4 threads; the cgroup allows 4 CPUs' "
        "time and 32.0 GiB",
        "  NUMA node 0: 8 cores, 15.0 of 16.0 GiB free",
        "  NUMA node 1: 0 cores, 15.0 of 16.0 GiB free, not ours to take",
    ]


def test_json_has_every_figure() -> None:
    data = json.loads(msgspec.json.encode(as_json(Survey(devices=(GPU, CPU), problems=("p",)))))
    gpu, cpu = data["devices"]
    assert data["problems"] == ["p"]
    assert gpu == {
        "name": "CUDA0", "type": "gpu", "kind": "RTX 4090", "backend": "CUDA", "endpoint": "",
        "memory_total_bytes": 24 * GIB, "memory_free_bytes": 20 * GIB, "reserve_bytes": 0,
        "backend_bytes": 0, "bandwidth_gb_s": 943.2, "fp16_tflop_s": 150.5, "link_gb_s": 24.0,
        "link_us": 10.0, "source": "measured", "measured_s": 1e9,
        "speeds": {"q8_0": {"bandwidth_gb_s": 943.2, "tflop_s": 150.5}},
    }  # fmt: skip
    assert (cpu["link_gb_s"], cpu["cores"], cpu["measured_s"]) == (None, 8, None)
    assert [node["number"] for node in cpu["host"]["nodes"]] == [0, 1]


def test_this_machine_as_a_process(fmedge: Command, state: Path) -> None:
    first = fmedge("--json")
    assert (first.returncode, first.stderr) == (0, "")
    cpu = next(d for d in json.loads(first.stdout)["devices"] if d["type"] == "cpu")
    assert cpu["source"] == "measured"
    assert cpu["bandwidth_gb_s"] > 0
    assert 0 < cpu["memory_free_bytes"] <= cpu["memory_total_bytes"]
    assert (state / "fmedge" / "devices.json").exists()
    again = json.loads(fmedge("--json").stdout)
    assert next(d for d in again["devices"] if d["type"] == "cpu")["speeds"] == cpu["speeds"]
    shown = fmedge()
    assert shown.stdout.splitlines()[1].split()[:2] == ["CPU", "cpu"]


def test_a_device_file(fmedge: Command, tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    file.write_text("[[device]]\nname = 'gpu0'\nkind = 'RTX 4090'\n")
    done = fmedge("--devices", str(file))
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:4] == ["gpu0", "gpu", "RTX", "4090"]
    file.write_text("[[device]]\nname = 'gpu0'\nkind = 'RTX 4091'\n")
    done = fmedge("--devices", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fmedge: error: {file}: [[device]] number 1 (gpu0): kind: no")
    assert done.stderr.count("\n") == 1


def test_a_server_that_is_down_is_a_warning(fmedge: Command, tmp_path: Path) -> None:
    config = tmp_path / "fmedge.toml"
    config.write_text("[[rpc]]\nendpoint = '127.0.0.1:1'\n")
    done = fmedge("--config", str(config), "--json")
    assert done.returncode == 0
    assert done.stderr.startswith("fmedge: warning: the device server at 127.0.0.1:1")
    data = json.loads(done.stdout)
    assert [d["name"] for d in data["devices"]] == ["CPU"]
    assert len(data["problems"]) == 1
