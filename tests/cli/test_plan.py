"""`fmedge plan` on sparse files of real models' sizes and devices that are only described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli import main
from fmedge.cli.plan_report import holds, plan_json, show
from fmedge.sched.provision.plan import (
    DeviceUse,
    MemoryUse,
    Placed,
    Plan,
    PlannedReplica,
    Predicted,
    Range,
    Rejected,
    ReplicaUse,
)
from fmedge.types import EngineSettings
from tests.synthetic import ModelSpec, write_sparse

GIB = 1 << 30

TWO_CARDS = """
[[device]]
name = "gpu0"
kind = "RTX 4090"
memory_gib = 24
[[device]]
name = "gpu1"
kind = "RTX 3060"
memory_gib = 12
[[device]]
name = "CPU"
type = "cpu"
memory_gib = 32
bandwidth_gb_s = 60
fp16_tflop_s = 1.5
"""

DEMAND = """
[sla.interactive]
ttft_ms = 2000
[[demand]]
model = "chat"
rate_per_s = 0.5
prompt_tokens = { p50 = 200, p95 = 800 }
output_tokens = { p50 = 50, p95 = 200 }
sla = "interactive"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plan")
    (made / "devices.toml").write_text(TWO_CARDS)
    (made / "demand.toml").write_text(DEMAND)
    sizes: dict[str, Any] = {
        "vocab_size": 32000, "n_embd": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8,
        "n_ff": 14336, "ctx": 32768,
    }  # fmt: skip
    for quant in ("q4_0", "q8_0"):
        write_sparse(made / f"8b-{quant}.gguf", ModelSpec(quant=quant, **sizes))
    return made


def _plan(folder: Path, *flags: str) -> int:
    return main(
        ["plan", "--model", f"chat={folder}/8b-q8_0.gguf", "--devices",
         f"{folder}/devices.toml", *flags]
    )  # fmt: skip


def test_json_has_the_documented_fields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demand = ("--demand", str(folder / "demand.toml"))
    assert _plan(folder, "--quantisation", f"{folder}/8b-q4_0.gguf", "--json", *demand) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["objective"] > 0
    assert told["solve_ms"] > 0
    (replica,) = told["replicas"]
    assert replica["model"] == "chat"
    assert replica["file"].endswith("8b-q8_0.gguf")
    assert set(replica["placement"][0]) == {
        "device", "first_layer", "last_layer", "tensors", "bytes",
    }  # fmt: skip
    assert {"ctx_size", "slots", "batch", "kv_type"} <= set(replica)
    assert set(replica["predicted"]) >= {
        "ttft_ms", "tpot_ms", "prefill_tok_s", "decode_tok_s", "attainment",
    }  # fmt: skip
    assert replica["predicted"]["attainment"] == 1.0
    names = [device["name"] for device in told["devices"]]
    assert names == ["gpu0", "gpu1", "CPU"]
    for device in told["devices"]:
        parts = ("weights", "context", "compute", "backend")
        held = sum(use[part] for use in device["breakdown"] for part in parts)
        assert held == device["used_bytes"] <= device["capacity_bytes"]
    assert {"what", "why"} == set(told["rejected"][0])


def test_the_table_says_who_holds_what_and_why_not_otherwise(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _plan(folder, "--explain", "--slots", "4") == 0
    text = capsys.readouterr().out
    assert "layers 0-31, head" in text
    assert "gpu1: left out: with it decode falls from" in text
    assert "unused, " in text
    assert "█" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_nothing_fits_exit_code_3_and_what_would_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--ctx-size", "32768", "--slots", "64", "--type-k", "f16", "--type-v", "f16")
    assert _plan(folder, *flags, "--exclude", "CPU", "--json") == 3
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["changes"]
    first = shown.err.splitlines()[0]
    assert first.startswith("fmedge: error: no plan: chat needs at least ")
    assert told["changes"][0] in first


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--exclude", "gpu9"), 2, "gpu9"),
        (("--demand", "/none.toml"), 2, "cannot read the demand file"),
        (("--split-mode", "row"), 2, "split_mode row cannot be planned"),
        (("--model", "/none.gguf"), 1, "no file /none.gguf"),
    ],
)
def test_wrong_input_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int,
    message: str,
) -> None:  # fmt: skip
    assert _plan(folder, *flags) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1


def test_a_cluster_file_is_planned_with_its_own_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(
        f"""{TWO_CARDS}
        [[model]]
        name = "mine"
        layers = 8
        embedding = 1024
        feed_forward = 2048
        heads = 8
        kv_heads = 2
        slots = 4
        replicas = 2
        """
    )
    assert main(["plan", "--cluster", str(file), "--json"]) == 0
    replicas = json.loads(capsys.readouterr().out)["replicas"]
    assert [(r["name"], r["slots"]) for r in replicas] == [("mine/0", 4), ("mine/1", 4)]
    assert main(["plan", "--cluster", str(file), "--no-mmap"]) == 2
    assert "--mmap and --cluster" in capsys.readouterr().err


def test_a_demand_for_a_model_that_is_not_planned(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "demand.toml"
    file.write_text(DEMAND.replace('"chat"', '"chta"'))
    assert _plan(folder, "--demand", str(file)) == 2
    assert "did you mean 'chat'?" in capsys.readouterr().err


def test_gpu_layers_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--gpu-layers", "10", "--tensor-split", "3,1", "--slots", "1", "--json")
    assert _plan(folder, *flags) == 0
    (replica,) = json.loads(capsys.readouterr().out)["replicas"]
    held = {p["device"]: (p["first_layer"], p["last_layer"]) for p in replica["placement"]
            if p["tensors"] == "all"}  # fmt: skip
    assert held == {"CPU": (0, 22), "gpu0": (23, 30), "gpu1": (31, 32)}


def _made() -> Plan:
    replica = PlannedReplica(
        model="moe",
        name="moe/0",
        file="/models/moe.gguf",
        placement=(
            Placed(device="CPU", first_layer=0, last_layer=0, tensors="input", bytes=GIB),
            Placed(device="CPU", first_layer=1, last_layer=4, tensors="experts", bytes=4 * GIB),
            Placed(device="gpu0", first_layer=0, last_layer=4, tensors="dense", bytes=GIB),
            Placed(device="gpu0", first_layer=5, last_layer=8, tensors="all", bytes=3 * GIB),
        ),
        ctx_size=8192,
        slots=2,
        batch=2048,
        kv_type="f16",
        predicted=Predicted(
            ttft_ms=210.0, tpot_ms=20.0, prefill_tok_s=2400.0, decode_tok_s=50.0,
            total_decode_tok_s=90.0, attainment=0.8975,
        ),
        ranges=(Range(device="gpu0", first_layer=0, last_layer=8, num_host_experts=4),),
        engine=EngineSettings(model_path="/models/moe.gguf"),
    )  # fmt: skip
    memory = MemoryUse(device="gpu0", weights=4 * GIB, context=2 * GIB, compute=GIB, backend=GIB)
    host = MemoryUse(device="CPU", weights=5 * GIB)
    return Plan(
        objective=1.0,
        solve_ms=12.0,
        replicas=(replica,),
        devices=(
            DeviceUse(
                name="gpu0", capacity_bytes=16 * GIB, used_bytes=8 * GIB,
                breakdown=(ReplicaUse(replica="moe/0", memory=memory),),
            ),
            DeviceUse(
                name="CPU", capacity_bytes=64 * GIB, used_bytes=5 * GIB,
                breakdown=(ReplicaUse(replica="moe/0", memory=host),),
            ),
        ),
        rejected=tuple(Rejected(what=f"thing {i}", why="no") for i in range(6)),
        warnings=("beware",),
    )  # fmt: skip


def test_what_a_device_holds_in_words() -> None:
    (replica,) = _made().replicas
    assert holds(replica, "CPU") == "embedding, experts of layers 1-4"
    assert holds(replica, "gpu0") == "layers 0-4 without experts, layers 5-7, head"


def test_bars_show_shares_of_the_devices_memory(capsys: pytest.CaptureFixture[str]) -> None:
    show(_made(), ())
    text = capsys.readouterr().out
    bar = next(line for line in text.splitlines() if line.startswith("gpu0"))
    assert bar.count("█") == 10
    assert bar.count("▓") == 5
    assert bar.count("▒") == 5
    assert bar.count("·") == 20
    assert "8.0 GiB of 16.0 GiB, 8.0 GiB free" in bar
    assert "89.7 %" in text
    assert "thing 3" in text
    assert "thing 4" not in text
    assert "2 more with --explain" in text
    assert "warning: beware" in text


def test_json_of_a_plan_is_plain() -> None:
    told = plan_json(_made())
    assert json.loads(json.dumps(told)) == told
    assert told["replicas"][0]["placement"][1]["tensors"] == "experts"
