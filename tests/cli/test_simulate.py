"""`fmedge simulate` on a small described cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fmedge.cli import main, simulate
from fmedge.sim.run_file import read_run

CLUSTER = """
[[device]]
name = "gpu0"
kind = "RTX 4090"
[[device]]
name = "gpu1"
kind = "RTX 3060"
memory_gib = 12
[[device]]
name = "CPU"
cores = 8
memory_gib = 1
bandwidth_gb_s = 40
fp16_tflop_s = 1
[[model]]
name = "chat"
layers = 8
embedding = 1024
feed_forward = 4096
heads = 16
kv_heads = 4
vocab = 32000
quant = "Q8_0"
ctx = 8192
ctx_size = 4096
slots = 4
replicas = 2
[emulation]
sigma = 0.05
seed = 1
"""
SPEC = "poisson:rate=20,duration=4,prompt=200/800,output=40/100"
SLA = "ttft_ms=500,e2e_ms=5000"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cluster.toml"
    path.write_text(CLUSTER)
    return path


def ask(cluster: Path, *words: str, workload: str = SPEC, sla: str = SLA) -> int:
    promised = ["--sla", sla] if sla else []
    return main(["simulate", "--cluster", str(cluster), "--workload", workload, *promised, *words])


def test_a_table_of_policies(cluster, capsys):
    policies = "fmedge,least_outstanding,oracle"
    assert ask(cluster, "--policy", policies, "--without", "queue,prefixes") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["policy", "kept", "goodput"]
    assert [row.split("  ")[0] for row in rows] == [
        "fmedge without queue, prefixes", "least_outstanding", "oracle",
    ]  # fmt: skip
    assert all("%" in row and "/s" in row for row in rows)


def test_a_run_is_kept_whole_and_comes_out_alike(cluster, capsys, tmp_path):
    out = tmp_path / "run.json"
    assert ask(cluster, "--json", "--out", str(out)) == 0
    said = json.loads(capsys.readouterr().out)
    kept = read_run(out)
    assert (kept.kind, kept.policy, kept.ended, said["policy"]) == (
        "simulated",
        "fmedge",
        "",
        "fmedge",
    )
    assert kept.cluster == str(cluster)
    assert [file.path for file in kept.files] == [str(cluster)]
    assert kept.summary.num_calls == len(kept.workload.calls) == len(kept.rows) > 50
    assert kept.summary.counts == {"ok": len(kept.rows)}
    assert set(kept.summary.utilisation) == {row.replica for row in kept.rows}
    assert ask(cluster, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == said["rows"]


def test_several_policies_are_kept_in_a_folder(cluster, capsys, tmp_path):
    out = tmp_path / "runs"
    assert ask(cluster, "--policy", "round_robin,oracle", "--json", "--out", str(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == ["oracle.json", "round_robin.json"]
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["round_robin", "oracle"]


def test_the_highest_rate_that_keeps_promises(cluster, capsys):
    assert ask(cluster, "--find-rate", "--json", "--policy", "least_outstanding,round_robin") == 0
    best, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert best["best"]["rate_per_s"] > other["best"]["rate_per_s"] > 0
    for found in (best, other):
        assert found["is_bounded"]
        assert found["best"]["attainment"] >= 0.95
        failed = [t["rate_per_s"] for t in found["trials"] if t["attainment"] < 0.95]
        assert found["best"]["rate_per_s"] < min(failed) <= 1.02 * found["best"]["rate_per_s"]
    assert ask(cluster, "--find-rate", "--policy", "round_robin") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("round_robin")


def test_ctrl_c_keeps_what_there_is(cluster, capsys, tmp_path, monkeypatch):
    def interrupt(line, now_s, rows):
        if len(rows) > 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulate._Line, "show", interrupt)
    monkeypatch.setattr("fmedge.sim.world.EVENTS_A_REPORT", 8)
    out = tmp_path / "run.json"
    assert ask(cluster, "--out", str(out)) == 130
    said = capsys.readouterr()
    assert "(part)" in said.out
    assert "kept" in said.err
    kept = read_run(out)
    assert kept.ended == "interrupted"
    assert kept.summary.counts["unsent"] > 0
    assert ask(cluster, "--find-rate") == 130


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "sjf"], "no policy 'sjf'; there are fmedge, "),
        (["--policy", "orakle"], "did you mean 'oracle'"),
        (["--policy", "fmedge,fmedge"], "each once"),
        (["--without", "lengts"], "did you mean 'lengths'"),
        (["--without", "queue", "--policy", "round_robin"], "from fmedge alone"),
        (["--find-rate", "--rate", "3"], "--find-rate tries rates of its own"),
        (["--rate", "0"], "must be more than 0"),
    ],
)
def test_wrong_usage_is_one_line(cluster, capsys, words, message):
    assert ask(cluster, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_is_missing_is_named(cluster, capsys):
    assert ask(cluster, "--find-rate", sla="") == 2
    assert "give --sla" in capsys.readouterr().err
    assert ask(Path("none.toml")) == 2
    assert "none.toml" in capsys.readouterr().err
    assert ask(cluster, workload="none.csv") == 2
    assert "none.csv" in capsys.readouterr().err
    assert main(["simulate", "--cluster", str(cluster)]) == 2
    assert "--workload" in capsys.readouterr().err


def test_a_cluster_that_cannot_hold_the_model_is_no_plan(cluster, capsys):
    large = CLUSTER.replace("layers = 8", "layers = 24").replace("= 1024", "= 16384")
    cluster.write_text(large.replace("forward = 4096", "forward = 65536"))
    assert ask(cluster, "--json") == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]
    assert "chat" in said.err


def test_prompts_beyond_the_context_are_told_of(cluster, capsys):
    assert ask(cluster, workload="poisson:rate=5,duration=4,prompt=3000/9000,output=40/100") == 0
    said = capsys.readouterr()
    assert "do not fit the context of 4096 tokens and fail; --longest 4096 cuts them" in said.err
