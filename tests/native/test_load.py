"""Loading an engine: what it reports, what it refuses, and with which words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmedge._native.devices import list_devices
from fmedge._native.engine import Engine
from fmedge._native.logs import LogCursor
from fmedge._native.params import EngineParams
from fmedge.errors import ModelLoadError, NativeError, OutOfMemoryError
from fmedge.types import EngineSettings
from tests.native.conftest import LoadEngine


def test_info_says_what_was_loaded(load_engine: LoadEngine, tiny_path: Path) -> None:
    info = load_engine(slots=3, ctx_size=300).info
    assert (info.ctx_size, info.slots, info.threads) == (300, 3, 1)
    assert info.kv_tokens == 3 * 512  # llama.cpp rounds a stream up to 256 cells
    assert (info.num_vocab, info.num_embd, info.num_layers) == (512, 64, 2)
    assert info.ctx_train == 2048
    assert info.has_decoder
    assert not info.has_encoder
    assert not info.is_recurrent
    assert info.can_shift
    assert 0 < info.model_bytes < tiny_path.stat().st_size
    assert info.load_s > 0


def test_a_sound_model_loads_without_a_warning(load_engine: LoadEngine) -> None:
    cursor = LogCursor()
    load_engine(ctx_size=2048)
    assert not cursor.problems()


def test_memory_is_what_the_settings_imply(load_engine: LoadEngine) -> None:
    small, large = load_engine(slots=1, ctx_size=256), load_engine(slots=4, ctx_size=1024)
    (before,), (after,) = small.info.memory, large.info.memory
    assert before.device == after.device == "CPU"
    assert before.weights == after.weights == small.info.model_bytes
    # 2 layers x K and V x 2 KV heads of 16 x f16
    assert before.context == 256 * 2 * 2 * 32 * 2
    assert after.context == 16 * before.context
    assert after.compute > 0


def test_a_context_size_of_zero_is_the_models(load_engine: LoadEngine) -> None:
    assert load_engine(ctx_size=0, slots=1).info.ctx_size == 2048


def test_the_library_of_llama_cpp_python_is_loaded_without_importing_it() -> None:
    code = (
        "import sys, fmedge._native.engine; assert 'llama_cpp' not in sys.modules;"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libllama' in line})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (library,) = run.stdout.split()
    assert "llama_cpp/lib/" in library


def test_progress_is_reported_and_rises(load_engine: LoadEngine, tiny_path: Path) -> None:
    fractions: list[float] = []

    def on_progress(fraction: float) -> bool:
        fractions.append(fraction)
        return True

    settings = EngineSettings(model_path=str(tiny_path), slots=1, ctx_size=256, threads=1)
    Engine.load(settings, on_progress).close()
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_progress_can_cancel_a_load(tiny_path: Path) -> None:
    settings = EngineSettings(model_path=str(tiny_path), threads=1)
    with pytest.raises(ModelLoadError, match="cancelled"):
        Engine.load(settings, lambda fraction: fraction < 0.5)


def test_an_error_in_the_progress_callback_reaches_the_caller(tiny_path: Path) -> None:
    settings = EngineSettings(model_path=str(tiny_path), threads=1)

    def on_progress(fraction: float) -> bool:
        raise LookupError("ouch")

    with pytest.raises(LookupError, match="ouch"):
        Engine.load(settings, on_progress)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slots": 0}, "slots must lie between 1 and 256"),
        ({"slots": 257}, "slots must lie between 1 and 256"),
        ({"slots": 241, "kv_unified": True}, "slots must lie between 1 and 240"),
        ({"batch_size": 3}, "batch_size must be at least 4"),
        ({"ctx_size": -1}, "must be positive"),
        ({"devices": ("CUDA7",)}, "no device named CUDA7"),
        ({"devices": ("CPU",)}, "cannot be named"),
        ({"tensor_overrides": (("exps", "CUDA7"),)}, "no buffer type named CUDA7"),
        ({"type_k": "q2_k"}, "q2_k is not a KV cache type"),
        ({"type_v": "nonsense"}, "nonsense is not a KV cache type"),
        ({"tensor_split": (1.0,) * 1000}, "1000 shares"),
        ({"kv_unified": True, "kv_tokens": 100}, "pool of 100 tokens"),
        ({"split_mode": "diagonal"}, "split_mode is 'diagonal'"),
        ({"flash_attn": "maybe"}, "flash_attn is 'maybe'"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"slots": 256, "ctx_size": 1 << 24}, "more than llama.cpp can address"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    load_engine: LoadEngine, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(NativeError, match=words):
        load_engine(**settings)


def test_settings_that_llama_cpp_refuses_carry_its_reason(load_engine: LoadEngine) -> None:
    with pytest.raises(ModelLoadError, match="quantized V cache requires flash_attn"):
        load_engine(type_v="q8_0", flash_attn="off")
    with pytest.raises(ModelLoadError, match="regular expression"):
        load_engine(tensor_overrides=(("(unbalanced", "CPU"),))


def test_a_valid_override_and_no_devices_load(load_engine: LoadEngine) -> None:
    engine = load_engine(
        devices=(), tensor_overrides=((r"blk\.0\.ffn", "CPU"),), mmap=False, tensor_split=(1.0,)
    )
    assert engine.info.memory[0].device == "CPU"


def test_a_missing_or_broken_file_is_refused(load_engine: LoadEngine, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such model file"):
        load_engine(model_path=str(tmp_path / "none.gguf"))
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(os.urandom(4096))
    with pytest.raises(ModelLoadError, match=r"garbage\.gguf: .*\n.*magic"):
        load_engine(model_path=str(garbage))


@pytest.mark.parametrize("ctx_size", [1 << 20, 1 << 28])
def test_a_context_beyond_memory_is_refused_before_it_is_allocated(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, ctx_size: int
) -> None:
    monkeypatch.setattr("fmedge._native.params.host_bytes_free", lambda: 256 << 20)
    settings = EngineSettings(model_path=str(tiny_path), slots=2, ctx_size=ctx_size, threads=1)
    with pytest.raises(OutOfMemoryError, match=f"context of {ctx_size} tokens for each of 2"):
        Engine.load(settings)


def test_a_context_within_memory_is_not_refused(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Little enough that the exact sizes are asked for, and enough for them.
    monkeypatch.setattr("fmedge._native.params.host_bytes_free", lambda: 24 << 20)
    settings = EngineSettings(model_path=str(tiny_path), slots=2, ctx_size=8192, threads=1)
    with Engine.load(settings) as engine:
        assert engine.info.memory[0].context == 2 * 8192 * 256


def test_default_threads_are_used(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmedge._native.params.default_threads", lambda: 7)
    assert EngineParams(EngineSettings(model_path=str(tiny_path)), None).struct.threads == 7


def test_the_cpu_is_a_device() -> None:
    devices = list_devices()
    (cpu,) = [device for device in devices if device.kind == "cpu"]
    assert cpu.name == "CPU"
    assert 0 < cpu.memory_free < cpu.memory_total
    assert all(device.name for device in devices)
