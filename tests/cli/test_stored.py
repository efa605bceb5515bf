"""`fmedge pull`, `list` and `rm` as processes, against a hub on this machine."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmedge.cli import rm
from fmedge.cli.pull import ProgressBar
from fmedge.cli.table import print_table, size
from fmedge.models.embedded import PATH
from fmedge.models.pull import PullProgress
from tests.models.hub import FakeHub
from tests.synthetic import cached

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub("org/tiny", {"tiny-Q8_0.gguf": cached("tiny").read_bytes()}) as server:
        yield server


@pytest.fixture
def fmedge(hub: FakeHub, tmp_path: Path) -> Command:
    def run(*args: str, **extra: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), **extra}
        return subprocess.run(
            [sys.executable, "-m", "fmedge", *args], capture_output=True, text=True, cwd=ROOT,
            env=env, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    return run


def test_pull_list_rm(fmedge: Command) -> None:
    assert "No model in" in fmedge("list").stderr
    pulled = fmedge("pull", "hf:org/tiny", "--json")
    assert (pulled.returncode, pulled.stderr) == (0, "")
    path = Path(json.loads(pulled.stdout)["path"])
    assert path.read_bytes() == cached("tiny").read_bytes()
    own, model = json.loads(fmedge("list", "--json").stdout)
    assert (own["name"], own["is_built_in"], model["is_built_in"]) == ("embedded", True, False)
    assert (model["name"], model["architecture"], model["quant"]) == ("org/tiny:Q8_0", "llama",
                                                                      "Q8_0")  # fmt: skip
    assert "org/tiny:Q8_0  llama" in fmedge("list").stdout
    refused = fmedge("rm", "org/tiny:Q8_0", "org/typo")
    assert refused.returncode == 1
    assert "'org/typo'" in refused.stderr
    assert path.exists()
    assert "freed" in fmedge("rm", "hf:org/tiny:Q8_0").stderr
    assert not path.exists()
    assert [left["name"] for left in json.loads(fmedge("list", "--json").stdout)] == ["embedded"]


def test_the_embedded_model_is_there_and_stays(fmedge: Command) -> None:
    assert [line.split()[0] for line in fmedge("list").stdout.splitlines()] == ["NAME", "embedded"]
    assert "built in" in fmedge("list").stdout
    pulled = fmedge("pull", "embedded", "--json", HF_HUB_OFFLINE="1")
    assert json.loads(pulled.stdout)["path"] == str(PATH)
    assert "nothing to fetch" in pulled.stderr
    refused = fmedge("rm", "-y", "embedded", "org/none")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "cannot be removed" in refused.stderr
    assert PATH.is_file()


def test_run_fetches_what_is_missing(fmedge: Command) -> None:
    args = ["hf:org/tiny", "hi", "--max-tokens", "2", "--threads", "1"]
    offline = fmedge("run", *args, HF_HUB_OFFLINE="1", FMEDGE_PORT="0")
    assert offline.returncode == 1
    assert "Offline mode" in offline.stderr
    done = fmedge("run", *args, FMEDGE_PORT="0")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "fmedge: pulling hf:org/tiny\n"
    again = fmedge("run", *args, HF_HUB_OFFLINE="1", FMEDGE_PORT="0")
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize(
    ("spec", "words"),
    [("nothub", "hf:ORG/REPO"), ("hf:org/none", "org/none"), ("hf:org/tiny:Q2_K", "Q2_K")],
)
def test_pulling_what_is_not_there(fmedge: Command, spec: str, words: str) -> None:
    done = fmedge("pull", spec)
    assert done.returncode == 1
    assert done.stderr.startswith("fmedge: error: ")
    assert words in done.stderr
    assert done.stdout == ""


def test_progress_line() -> None:
    bar = ProgressBar()
    half = PullProgress("m.gguf", 500_000_000, 1_000_000_000)
    line = bar.line(half, 5.0)
    assert line == f"[{'#' * 15}{'.' * 15}]  50%  500.0 MB of 1.0 GB  100.0 MB/s  0:05 left"
    verifying = PullProgress("m.gguf", 10, 10, is_verifying=True)
    assert bar.line(verifying, 1.0).endswith("10 B of 10 B  verifying m.gguf")
    assert "100%" in bar.line(PullProgress("m", 0, 0), 0.0)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4_440_000_000, "4.4 GB"), (2e15, "2000.0 TB")],
)
def test_sizes(num_bytes: float, text: str) -> None:
    assert size(num_bytes) == text


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["A", "LONG"], [["xxx", "y"], ["z", ""]])
    assert capsys.readouterr().out == "A    LONG\nxxx  y\nz\n"


@pytest.mark.parametrize(("answer", "is_yes"), [("y\n", True), ("YES\n", True), ("\n", False)])
def test_rm_asks(answer: str, is_yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert rm._confirmed("m", 10) is is_yes
