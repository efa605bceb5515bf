"""Runs are read as they were written, and hold no secret."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import msgspec
import pytest

from fmedge.errors import ConfigError
from fmedge.sim.outcome import Row
from fmedge.sim.run import Run, digest, make_run
from fmedge.sim.run_file import parse_run, read_run, run_json, write_run
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise, WorkflowSettings

WORKLOAD = Workload(
    source="poisson:rate=5",
    block_tokens=16,
    calls=(
        Call(at_s=0.5, num_prompt=20, num_output=3, blocks=(1,), api_key="sesame",
             promise=Promise(sla_class="fast", ttft_s=1.0)),
        Call(at_s=1.0, num_prompt=7, num_output=4, after=(0,), workflow="w", instance="1"),
    ),
    workflows={"w": WorkflowSettings(name="w", e2e_s=5.0), "v": WorkflowSettings(name="v")},
)  # fmt: skip
ROWS = (
    Row(call=0, at_s=0.5, status="ok", ttft_s=0.25, e2e_s=1.5, num_tokens=3, replica="a"),
    Row(call=1, at_s=nan, status="unsent"),
)


def made(**fields: object) -> Run:
    return make_run(WORKLOAD, ROWS, kind="simulated", policy="fmedge", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [None, (0.0, inf), (0.25, 9.0)])
def test_read_as_written(tmp_path: Path, window: tuple[float, float] | None) -> None:
    run = made(window=window, busy_s={"a": 1.0}, options={"rate": 5}, ended="Ctrl-C")
    path = tmp_path / "run.json"
    write_run(run, path)
    again = read_run(path)
    assert repr(again) == repr(run)  # nan is not equal to itself
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_keys_and_blocks_are_not_kept_and_the_digest_knows_them() -> None:
    run = made()
    assert b"sesame" not in run_json(run)
    assert run.workload.calls[0].api_key
    assert run.workload.calls[0].blocks == ()
    assert run.asked == digest(WORKLOAD)
    other = msgspec.structs.replace(WORKLOAD.calls[0], blocks=(2,))
    assert digest(msgspec.structs.replace(WORKLOAD, calls=(other, WORKLOAD.calls[1]))) != run.asked
    promised = msgspec.structs.replace(WORKLOAD.calls[0], promise=Promise(ttft_s=9.0))
    same = msgspec.structs.replace(WORKLOAD, calls=(promised, WORKLOAD.calls[1]))
    assert digest(same) == run.asked


def test_small_files_are_kept_and_large_ones_named(tmp_path: Path) -> None:
    small, large = tmp_path / "cluster.toml", tmp_path / "trace.csv"
    small.write_text("[[device]]\n")
    large.write_bytes(b"x" * (300 << 10))
    run = made(paths=[small, large, tmp_path / "none"])
    assert [(file.path, file.text) for file in run.files] == [
        (str(small), "[[device]]\n"),
        (str(large), ""),
    ]
    assert len(run.files[1].sha256) == 64


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no run"),
        (b"[]", "no run"),
        (b'{"a": 1}', "no run of fmedge bench"),
        (b'{"format": 99}', "format 99"),
        (b'{"format": 1}', "missing required field"),
        (run_json(made()).replace(b'"ok"', b'"fine"'), "fine"),
        (run_json(made()).replace(b"20,3,0,0,", b"20,3,0,7,"), "no run"),
    ],
)
def test_what_is_no_run(content: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_run(content, "x.json")
    assert str(caught.value).startswith("x.json: ")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_run(made(), path)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
