"""Emulated clusters: what is planned of them, and `fmedge serve --emulate` as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli import EXIT_NO_PLAN
from fmedge.config import Config, ServerConfig
from fmedge.config.cluster import ClusterConfig, load_cluster
from fmedge.errors import ConfigError
from fmedge.sched.emulation import LENGTH_SEED
from fmedge.sched.provision import cost
from fmedge.sched.provision.plan import NoPlanError
from fmedge.server.emulation import config_of, devices_of, plan_cluster, plan_of
from tests.server.test_lifecycle import ROOT, TIMEOUT_S, serve

TEXT = """
[[device]]
name = "fast"
memory_gib = 2
bandwidth_gb_s = 40
fp16_tflop_s = 4
[[device]]
name = "slow"
memory_gib = 2
bandwidth_gb_s = 10
fp16_tflop_s = 1
[[device]]
name = "CPU"
memory_gib = 0.5
bandwidth_gb_s = 5
fp16_tflop_s = 0.1
[[model]]
name = "chat"
layers = 8
embedding = 1024
feed_forward = 3072
heads = 8
kv_heads = 2
vocab = 8192
quant = "Q8_0"
ctx_size = 2048
slots = 4
replicas = 2
[emulation]
sigma = 0.02
seed = 7
output_tokens = { p50 = 20, p95 = 40 }
"""

TOO_SMALL = TEXT.replace("memory_gib = 2", "memory_gib = 0.1").replace("0.5", "0.1")


def _cluster(folder: Path, text: str = TEXT) -> ClusterConfig:
    path = folder / "cluster.toml"
    path.write_text(text)
    return load_cluster(path)


async def test_each_replica_is_what_the_planner_says_on_the_devices_of_the_file(
    tmp_path: Path,
) -> None:
    cluster = _cluster(tmp_path)
    plan, specs = await plan_cluster(cluster)
    assert [[part.device for part in r.ranges] for r in plan.replicas] == [["fast"], ["slow"]]
    _, placements = await plan_of(cluster, config_of(cluster))
    devices = {device.name: device for device in devices_of(cluster)}
    for planned, spec in zip(plan.replicas, specs, strict=True):
        shape = placements.shape_of(planned)
        assert spec.steps == cost.step_model(shape, planned.engine, planned.ranges, devices)
        assert (spec.name, spec.model, spec.engine) == (planned.name, "chat", planned.engine)
        assert (spec.engine.slots, spec.engine.ctx_size, spec.num_ids) == (4, 2048, 4)
        # 16-bit keys and values of two heads of 128 in each layer, for each of 2048 tokens.
        assert spec.copy_bytes == 8 * 2048 * 2 * (2 * 128) * 2
        assert spec.noise.sigma == 0.02
        assert spec.output_tokens.p95 == 40
    assert specs[1].steps.step_s(0, 1) > 3 * specs[0].steps.step_s(0, 1)


async def test_the_same_file_gives_the_same_replicas_whatever_was_learned_here(
    tmp_path: Path,
) -> None:
    cluster = _cluster(tmp_path)
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "speeds").write_bytes(b"not to be read")
    (folder / "plan").write_bytes(b"nor this")
    elsewhere = Config(server=ServerConfig(state_dir=str(folder), kv_store_mib=4096))
    first = await plan_cluster(cluster)
    second = await plan_cluster(cluster, config_of(cluster, elsewhere))
    assert [spec.steps for spec in second[1]] == [spec.steps for spec in first[1]]
    assert [r.ranges for r in second[0].replicas] == [r.ranges for r in first[0].replicas]
    assert sorted(p.name for p in folder.iterdir()) == ["described", "plan", "speeds"]


async def test_a_cluster_that_cannot_hold_its_models_has_no_plan(tmp_path: Path) -> None:
    with pytest.raises(NoPlanError, match="chat"):
        await plan_cluster(_cluster(tmp_path, TOO_SMALL))
    # One at a time they would fit, but simulations know no turns.
    second = TEXT[TEXT.index("[[model]]") : TEXT.index("[emulation]")].replace("chat", "more")
    small = TEXT.replace("memory_gib = 2", "memory_gib = 0.9").replace("0.5", "0.1")
    await plan_cluster(_cluster(tmp_path, small))
    with pytest.raises(NoPlanError):
        await plan_cluster(_cluster(tmp_path, small + second))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory_gib = 2\nbandwidth_gb_s = 40", "kind = 'RTX 4091'", "near it: RTX 4090"),
        ("sigma = 0.02", "slowdown = { 'chat/9' = 2 }", "no replica is called 'chat/9'; there are"),
        ("slots = 4", "slots = 4\nkv_tokens = 9", "kv_tokens has no effect without kv_unified"),
        ('quant = "Q8_0"', 'quant = "Q8"', "number 1 (chat): quant: 'Q8' is not one of"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        await plan_cluster(_cluster(tmp_path, TEXT.replace(old, new)))
    assert said in str(raised.value)


def test_nobody_else_may_decide_where_layers_lie(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an emulated cluster is planned"):
        config_of(_cluster(tmp_path), Config(server=ServerConfig(placement="manual")))


# --- as a process ---


def _ask(port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """POST where there is a body."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    ) as connection:
        text = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        assert response.status == 200, answer
        return answer


def test_a_server_of_emulated_replicas_takes_their_time(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path)
    with serve("--emulate", cluster.path, "--port", "0") as server:
        port = server.wait_ready()
        assert "EMULATED: cluster.toml; answers mean nothing" in server.banner
        started_s = time.monotonic()
        answer = _ask(
            port, "/v1/completions",
            {"model": "chat", "prompt": "Hello", "max_tokens": 100, "seed": LENGTH_SEED + 30},
        )  # fmt: skip
        took_s = time.monotonic() - started_s
        assert answer["usage"]["completion_tokens"] == 30
        assert answer["choices"][0]["finish_reason"] == "stop"
        messages = [{"role": "user", "content": "Hello"}]
        chat = _ask(port, "/v1/chat/completions", {"model": "chat", "messages": messages})
        assert chat["usage"]["completion_tokens"] > 0
        status = _ask(port, "/admin/status")
        profiles = [r["status"]["info"] for r in status["load"]["models"][0]["replicas"]]
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert len(profiles) == 2
    assert {info["layer_devices"][0] for info in profiles} == {"fast", "slow"}
    assert server.text.count("step times measured") == 2
    # Weights alone, read once for each token at all the bandwidth that the fast device has.
    least_s = 30 * profiles[0]["model_bytes"] * 0.8 / 40e9
    assert took_s >= least_s
    assert "not as planned" not in server.text


def test_replicas_apart_are_servers_of_their_own(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "fmedge", "serve", "--emulate", cluster.path, "--apart", "--port",
         "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        answers = [
            _ask(
                line["port"], "/v1/completions",
                {"model": "chat", "prompt": [300] * 50, "max_tokens": 9, "seed": LENGTH_SEED + 5},
            )
            for line in lines
        ]  # fmt: skip
        replicas = [
            _ask(line["port"], "/admin/status")["load"]["models"][0]["replicas"] for line in lines
        ]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
    assert [line["replica"] for line in lines] == ["chat/0", "chat/1"]
    assert [[r["status"]["name"] for r in own] for own in replicas] == [["chat/0"], ["chat/1"]]
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [5, 5]
    assert "ready: 2 endpoints (EMULATED" in err
    assert process.returncode == 130


def test_a_cluster_without_a_plan_exits_as_plan_does(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path, TOO_SMALL)
    command = [sys.executable, "-m", "fmedge", "serve", "--emulate", cluster.path, "--port", "0"]
    both = [
        subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for arguments in ([], ["--apart"])
    ]
    for process in both:
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == EXIT_NO_PLAN
        assert err.splitlines()[-1].startswith("fmedge: error: ")
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--apart"], "--apart is for emulated replicas"),
        (["--emulate", "none.toml"], "none.toml: cannot read the cluster file"),
        (["--emulate", "c.toml", "--model", "a.gguf"], "--model and --emulate"),
        (["--emulate", "c.toml", "--slots", "3"], "--slots and --emulate"),
    ],
)
def test_what_does_not_go_together(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from fmedge.cli import main

    assert main(["serve", *arguments]) == 2
    assert said in capsys.readouterr().err
