"""Device files: what they hold, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.config.devices import MAX_DEVICES, _device, load_devices
from fmedge.errors import ConfigError

FIGURES = "memory_gib = 24\nbandwidth_gb_s = 1008\nfp16_tflop_s = 165\n"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "devices.toml"
    file.write_text(text)
    return file


def test_figures_and_kinds(tmp_path: Path) -> None:
    text = f"""
        [[device]]
        name = "gpu0"
        kind = "RTX 4090"
        memory_gib = 24
        link_gb_s = 25
        reserve_gib = 0.5
        [[device]]
        name = "cpu"
        cores = 16
        {FIGURES}
        [[device]]
        name = "small"
        type = "igpu"
        backend = "Vulkan"
        {FIGURES}
        """
    gpu, cpu, small = load_devices(write(tmp_path, text))
    assert (gpu.name, gpu.kind, gpu.memory_gib, gpu.reserve_gib) == ("gpu0", "RTX 4090", 24.0, 0.5)
    assert (gpu.type, gpu.bandwidth_gb_s, gpu.fp16_tflop_s, gpu.link_gb_s) == (
        "gpu", None, None, 25.0,
    )  # fmt: skip
    assert (cpu.type, cpu.cores, cpu.bandwidth_gb_s) == ("cpu", 16, 1008.0)
    assert (small.type, small.backend) == ("igpu", "Vulkan")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "describes no device"),
        ("[[devices]]\nname = 'a'", "unknown key 'devices'; did you mean 'device'?"),
        ("[[rpc]]\nport = 1", "unknown key 'rpc': a device file holds"),
        ("[device]\nname = 'a'", r"write [[device]] for each"),
        ("[[device]]\nkind = 'x'", "number 1: needs name"),
        ("[[device]]\nname = 'a'", "(a): needs memory_gib, bandwidth_gb_s, fp16_tflop_s"),
        ("[[device]]\nname = 'a'\nmemory_gib = 8", "needs bandwidth_gb_s, fp16_tflop_s (or the"),
        ("[[device]]\nname = 'CPU'", "(CPU): needs memory_gib, bandwidth_gb_s, fp16_tflop_s"),
        (f"[[device]]\nname = 'a'\nmemory_gb = 1\n{FIGURES}", "did you mean 'memory_gib'?"),
        (f"[[device]]\nname = 'a'\nbandwith_gb_s = 1\n{FIGURES}", "mean 'bandwidth_gb_s'?"),
        (f"[[device]]\nname = 'a'\nqqq = 1\n{FIGURES}", "unknown key 'qqq'; known are name, type"),
        (f"[[device]]\nname = 'a b'\n{FIGURES}", "'a b' is no name"),
        (f"[[device]]\nname = 7\n{FIGURES}", "name: expected str, got int"),
        (f"[[device]]\nname = 'a'\ntype = 'tpu'\n{FIGURES}", "type: invalid enum value 'tpu'"),
        (f"[[device]]\nname = 'a'\nlink_gb_s = 0\n{FIGURES}", "link_gb_s: expected float > 0.0"),
        (f"[[device]]\nname = 'a'\nlink_gb_s = -1\n{FIGURES}", "(got -1)"),
        (f"[[device]]\nname = 'a'\nlink_gb_s = nan\n{FIGURES}", "(got nan)"),
        (f"[[device]]\nname = 'a'\nlink_gb_s = inf\n{FIGURES}", "(got inf)"),
        (f"[[device]]\nname = 'a'\nlink_gb_s = true\n{FIGURES}", "got bool"),
        (f"[[device]]\nname = 'a'\nlink_us = -1\n{FIGURES}", "link_us: expected float >= 0.0"),
        (f"[[device]]\nname = 'a'\nreserve_gib = 24\n{FIGURES}", "leaves nothing of memory_gib"),
        ("[[device]]\nname = 'a'\nkind = 'x'\nmemory_gib = 1e9", "expected float <= 65536.0"),
        ("[[device]]\nname = 'a'\nkind = 'x'\nfp16_tflop_s = 1e6", "<= 50000.0"),
        (
            f"[[device]]\nname = 'a'\n{FIGURES}[[device]]\nname = 'A'\n{FIGURES}",
            "number 2 (A): another device has that name",
        ),
        (
            f"[[device]]\nname = 'a'\ntype = 'cpu'\n{FIGURES}[[device]]\nname = 'CPU'\n{FIGURES}",
            "number 2 (CPU): a machine has one host",
        ),
        (f"[[device]]\nname = 'cpu'\ntype = 'gpu'\n{FIGURES}", "CPU is the host's name"),
        (f"[[device]]\nname = 'cpu'\nbackend = 'CUDA'\n{FIGURES}", "a cpu's is CPU, not CUDA"),
        (f"[[device]]\nname = 'g'\nbackend = 'CPU'\n{FIGURES}", "backend: CPU is for"),
        ("[[device]]\nname = 'g'\nname = 'h'", "not valid TOML"),
        ("device = 3", "write [[device]] for each"),
        ("[[device]]\nname = 'd'\nkind='x'\n" * (MAX_DEVICES + 1), "too many: at most 256"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_devices(file)
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"{file}: ")
    assert "\n" not in message


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the device file: No such file"):
        load_devices(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read the device file: Is a directory"):
        load_devices(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="describes no device"):
        load_devices(pipe)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_devices(binary)
    large = tmp_path / "large"
    large.write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigError, match="too large"):
        load_devices(large)


TOML_VALUES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(), st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["name", "kind", "memory_gib", "type", "x"]), TOML_VALUES))
def test_any_block_is_a_device_or_a_config_error(block: dict[str, object]) -> None:
    try:
        device = _device(block, 1, Path("f"))
    except ConfigError as error:
        message = str(error)
    else:
        message = device.where
        assert device.kind or device.memory_gib
    assert message.startswith("f: [[device]] number 1")
