"""What `fmedge doctor` says of processors, GPUs, memory and limits that are made up here."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli.checks.cpu import check_cpu
from fmedge.cli.checks.finding import Finding
from fmedge.cli.checks.gpus import check_gpus
from fmedge.cli.checks.memory import check_limits, check_memory
from fmedge.cli.checks.native import Build
from fmedge.config import Config, load_config
from fmedge.types import DeviceInfo

GIB = 1 << 30
CPU = Build(backends=frozenset({"cpu"}), version="ggml 1", words={"CPU": {"AVX2": "1", "FMA": "0"}})
CUDA = Build(backends=frozenset({"cpu", "cuda"}))
NVIDIA, AMD, INTEL = "0x10de", "0x1002", "0x8086"
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def device(name: str, backend: str) -> DeviceInfo:
    return DeviceInfo(name=name, description="some card", kind="gpu", backend=backend,
                      memory_total=24 * GIB, memory_free=20 * GIB, device_id="")  # fmt: skip


def said(findings: Any) -> dict[str, tuple[str, str]]:
    """By check: status, and text with advice."""
    return {f.check: (f.status, f"{f.found} -> {f.advice}") for f in findings}


# --- processor ---


def test_a_build_that_leaves_the_processor_idle() -> None:
    there = {"AVX2": True, "FMA": True, "AVX512": False}
    found = said(check_cpu("Some CPU", there, CPU, is_bundled=False))
    assert found["cpu"] == ("ok", "Some CPU: AVX2, FMA -> ")
    status, text = found["llama.cpp"]
    assert status == "warning"
    assert "compiled without FMA, which" in text
    assert 'CMAKE_ARGS="-DGGML_RPC=ON" pip install' in text
    bundled = said(check_cpu("Some CPU", there, CPU, is_bundled=True))
    assert bundled["llama.cpp"][0] == "ok"


def test_the_kernel_in_use_is_named() -> None:
    build = Build(version="ggml 1", kernel="avx2", words={"CPU": {"AVX2": "1"}})
    found = said(check_cpu("x", {"AVX2": True}, build, is_bundled=False))
    assert found["llama.cpp"] == ("ok", "ggml 1, uses AVX2; Q8_0 products: fmedge's avx2 -> ")


@pytest.mark.parametrize(
    ("build", "status", "advice"),
    [
        (Build(problem="compiled for 0.1. Run: pip install x"), "error", "run what it says"),
        (Build(problem="died of SIGILL: "), "error", "--no-binary llama-cpp-python"),
        (Build(problem="libcuda.so.1: cannot open"), "error", "install it anew: CMAKE_ARGS"),
        (Build(problem="gave no answer", is_late=True), "warning", "fmedge devices"),
    ],
)
def test_a_build_that_does_not_load(build: Build, status: str, advice: str) -> None:
    found = said(check_cpu("x", {}, build, is_bundled=False))
    assert found["llama.cpp"][0] == status
    assert advice in found["llama.cpp"][1]


# --- GPUs ---


def card(root: Path, vendor: str, *, driver: str = "", kind: str = "0x030000") -> Path:
    folder = root / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")
    (folder / "device").write_text("0x2684\n")
    if driver:
        (root / "drivers" / driver).mkdir(parents=True)
        (folder / "driver").symlink_to(root / "drivers" / driver)
    return folder


def nodes(root: Path, *names: str) -> None:
    for name in names:
        file = root / "dev" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def gpus(root: Path, build: Build, *, is_bundled: bool = False) -> dict[str, tuple[str, str]]:
    return said(check_gpus(build, is_bundled=is_bundled, root=root))


def test_no_gpu(tmp_path: Path) -> None:
    assert gpus(tmp_path, CPU)["gpu"][0] == "ok"
    card(tmp_path, "0x1af4")  # a virtual machine's screen
    assert gpus(tmp_path, CPU)["gpu"][0] == "ok"
    status, text = gpus(tmp_path, CUDA)["gpu"]
    assert status == "warning"
    assert "built for cuda, but no GPU is here" in text
    assert "--gpus all" in text


def test_windows_hands_in_a_gpu(tmp_path: Path) -> None:
    nodes(tmp_path, "dxg")
    assert "-DGGML_CUDA=ON" in gpus(tmp_path, CPU)["gpu"][1]
    assert "does not find" in gpus(tmp_path, CUDA)["gpu"][1]
    found = gpus(tmp_path, Build(backends=CUDA.backends, devices=(device("CUDA0", "CUDA"),)))
    assert found == {"gpu": ("ok", "CUDA0: some card, 24.0 GiB, by CUDA -> ")}


@pytest.mark.parametrize(
    ("vendor", "driver", "words"),
    [
        (NVIDIA, "", "1 NVIDIA GPU (0x2684 at 0000:01:00.0), without a driver -> install NVIDIA"),
        (NVIDIA, "nouveau", "held by the driver nouveau, which cannot compute"),
        (AMD, "radeon", "held by the driver radeon, which cannot compute -> load the kernel's"),
        (INTEL, "", "without a driver -> load the kernel's driver: modprobe xe"),
    ],
)
def test_a_driver_that_cannot_compute(vendor: str, driver: str, words: str, tmp_path: Path) -> None:
    card(tmp_path, vendor, driver=driver)
    ((status, text),) = gpus(tmp_path, CPU).values()
    assert status == "warning"
    assert words in text


def test_a_card_of_a_virtual_machine(tmp_path: Path) -> None:
    card(tmp_path, NVIDIA, driver="vfio-pci")
    assert gpus(tmp_path, CPU)["gpu NVIDIA"][0] == "ok"


@pytest.mark.parametrize(
    ("vendor", "driver", "kind", "wanted", "option"),
    [
        (NVIDIA, "nvidia", "0x030200", "CUDA", "-DGGML_CUDA=ON"),
        (AMD, "amdgpu", "0x120000", "HIP", "-DGGML_HIP=ON"),
        (INTEL, "i915", "0x038000", "VULKAN", "-DGGML_VULKAN=ON"),
    ],
)
def test_a_build_without_the_backend(
    vendor: str, driver: str, kind: str, wanted: str, option: str, tmp_path: Path
) -> None:
    card(tmp_path, vendor, driver=driver, kind=kind)
    ((status, text),) = gpus(tmp_path, CPU).values()
    assert status == "warning"
    assert f"but llama.cpp was built without {wanted} -> CMAKE_ARGS=" in text
    assert option in text
    ((_, text),) = gpus(tmp_path, CPU, is_bundled=True).values()
    assert "install fmedge with pip" in text


def test_an_nvidia_card_from_driver_to_use(tmp_path: Path) -> None:
    folder = card(tmp_path, NVIDIA, driver="nvidia")
    told = tmp_path / "proc/driver/nvidia/gpus" / folder.name
    told.mkdir(parents=True)
    (told / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   	 17\n")
    version = tmp_path / "sys/module/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("550.54.15\n")
    text = "1 NVIDIA GPU (NVIDIA H200), driver nvidia 550.54.15"
    status, found = gpus(tmp_path, CUDA)["gpu NVIDIA"]
    assert status == "error"
    assert f"{text}: there is no /dev/nvidia[0-9]*" in found
    nodes(tmp_path, "nvidia0", "nvidiactl", "nvidia-uvm")
    status, found = gpus(tmp_path, CUDA)["gpu NVIDIA"]
    assert status == "error"
    assert "finds no device" in found
    late = Build(backends=CUDA.backends, problem="gave no answer", is_late=True)
    assert gpus(tmp_path, late)["gpu NVIDIA"][0] == "ok"  # nothing is known against it
    used = Build(backends=CUDA.backends, devices=(device("CUDA0", "CUDA"),))
    assert gpus(tmp_path, used)["gpu NVIDIA"] == ("ok", f"{text}, used through cuda -> ")


def test_an_amd_card(tmp_path: Path) -> None:
    card(tmp_path, AMD, driver="amdgpu")
    hip = Build(backends=frozenset({"hip"}), devices=(device("ROCm0", "ROCm"),))
    vulkan = Build(backends=frozenset({"vulkan"}), devices=(device("Vulkan0", "Vulkan"),))
    nodes(tmp_path, "dri/renderD128")
    assert "there is no /dev/kfd" in gpus(tmp_path, hip)["gpu AMD"][1]
    assert gpus(tmp_path, vulkan)["gpu AMD"][0] == "ok"
    nodes(tmp_path, "kfd")
    assert gpus(tmp_path, hip)["gpu AMD"][0] == "ok"


def test_a_device_file_that_is_not_for_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(tmp_path, AMD, driver="amdgpu")
    nodes(tmp_path, "kfd", "dri/renderD128")
    monkeypatch.setattr("os.access", lambda path, mode: "renderD" not in str(path))
    status, text = gpus(tmp_path, Build(backends=frozenset({"hip"})))["gpu AMD"]
    assert status == "error"
    assert "/dev/dri/renderD128 cannot be opened by this user -> add the user to the group" in text


# --- memory and limits ---


def meminfo(root: Path, **kib: int) -> Path:
    (root / "proc/sys/vm").mkdir(parents=True, exist_ok=True)
    figures = {"MemTotal": 8 << 20, "MemAvailable": 4 << 20} | kib
    lines = [f"{name}: {value} kB" for name, value in figures.items()]
    (root / "proc/meminfo").write_text("\n".join(lines).replace("Free: 3000 kB", "Free: 3000"))
    return root


@pytest.mark.parametrize(
    ("model_gib", "status", "words"),
    [
        (3, "ok", "4.0 of 8.0 GiB free"),
        (5, "warning", "stop what takes the memory"),
        (9, "warning", "unless most of it fits GPUs"),
    ],
)
def test_memory_for_the_largest_model(
    model_gib: int, status: str, words: str, tmp_path: Path
) -> None:
    found = said(check_memory(Config(), model_gib * GIB, meminfo(tmp_path)))
    assert found["memory"][0] == status
    assert words in found["memory"][1]


def test_a_container_with_a_limit(tmp_path: Path) -> None:
    meminfo(tmp_path)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(str(2 * GIB))
    (tmp_path / "sys/fs/cgroup/memory.current").write_text(str(GIB))
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    found = said(check_memory(Config(), 0, tmp_path))
    assert found["threads"][0] == "warning"
    assert "the cgroup grants 0.5 CPUs' time" in found["threads"][1]
    assert "1.0 of 2.0 GiB free; the cgroup allows 2.0 of 8.0 GiB" in found["memory"][1]


def test_swap_huge_pages_and_overcommit(tmp_path: Path) -> None:
    figures = {"SwapTotal": 1 << 20, "SwapFree": 1 << 18, "HugePages_Free": 3000,
               "Hugepagesize": 2048}  # fmt: skip
    meminfo(tmp_path, **figures)
    (tmp_path / "proc/sys/vm/overcommit_memory").write_text("2\n")
    found = list(check_memory(Config(), 0, tmp_path))
    assert said(found)["swap"][0] == "warning"
    texts = [finding.found for finding in found]
    assert any("5.9 GiB are reserved for huge pages" in text for text in texts)
    assert any("vm.overcommit_memory is 2" in text for text in texts)
    calm = said(check_memory(Config(), 0, meminfo(tmp_path, SwapTotal=1 << 20, SwapFree=1 << 20)))
    assert calm["swap"] == ("ok", "0.0 of 1.0 GiB in use -> ")


def limited(config: Config, model_bytes: int = 0, **own: Any) -> list[Finding]:
    limits = {
        resource.RLIMIT_NOFILE: own.get("files", UNLIMITED),
        resource.RLIMIT_MEMLOCK: own.get("locked", UNLIMITED),
        resource.RLIMIT_AS: own.get("space", UNLIMITED),
    }
    shared = own.get("shared", GIB)
    return list(check_limits(config, model_bytes, limits=limits, shared_bytes=shared))


def test_limits() -> None:
    config = load_config(environ={})
    assert said(limited(config)).keys() == {"open files"}
    assert said(limited(config, files=(1024, 1 << 20)))["open files"][0] == "ok"
    status, text = said(limited(config, files=(1024, 4096)))["open files"]
    assert status == "warning"
    assert "LimitNOFILE=8448" in text
    assert said(limited(config, space=(GIB, GIB)))["address space"][0] == "warning"
    status, text = said(limited(config, shared=64 << 20))["shared memory"]
    assert status == "warning"
    assert "64 MiB free in /dev/shm, for kv_store_mib = 256 a replica" in text
    on_disk = load_config(environ={"FMEDGE_KV_DISK_MIB": "100"})
    assert "shared memory" not in said(limited(on_disk, shared=0))


def test_memory_that_is_to_be_locked() -> None:
    config = load_config(environ={"FMEDGE_MLOCK": "true"})
    status, text = said(limited(config, GIB, locked=(0, 8 << 20)))["locked memory"]
    assert status == "error"
    assert "at most 8 MiB may be locked, and the largest model has 1024 MiB" in text
    assert said(limited(config, GIB))["locked memory"][0] == "ok"


def test_this_machines_own_figures() -> None:
    free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
    found = said(check_limits(load_config(environ={"FMEDGE_KV_STORE_MIB": str(1 << 20)}), 0))
    assert found["open files"]
    assert ("shared memory" in found) is (0 < free < 1 << 40)
    assert said(check_memory(Config(), 0))["memory"][1].count("GiB") >= 1
