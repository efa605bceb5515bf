"""`fmedge bench diff` and `bench report`: what they read, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fmedge.cli import main
from fmedge.sim.run_file import write_run
from tests.sim.test_compare import asked, served

FEW = ("--resamples", "150")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/ and new/ of two runs each that differ by chance, slow.json by 10 per cent."""
    made = tmp_path_factory.mktemp("runs")
    workload = asked(150)
    for side, seeds in (("base", (0, 1)), ("new", (2, 3))):
        (made / side).mkdir()
        for seed in seeds:
            write_run(served(workload, seed), made / side / f"{seed}.json")
    write_run(served(workload, 4, slower=1.1), made / "slow.json")
    return made


def test_chance_is_not_told_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "diff", str(folder / "base"), str(folder / "new"), *FEW])
    said = capsys.readouterr().out
    assert code == 0
    assert "base (2 runs) and new (2 runs), compared call by call" in said
    assert said.rstrip().endswith("no regression beyond 2 %")


def test_a_regression_is_exit_1_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = f"{folder / 'base' / '0.json'},{folder / 'base' / '1.json'}"
    args = ["bench", "diff", files, str(folder / "slow.json"), *FEW]
    assert main(args) == 1
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("TPOT p50"))
    assert row.endswith("WORSE")
    assert "WORSE by more than 2 %" in said
    assert main([*args, "--threshold", "20"]) == 0
    assert main([*args, "--metric", "attainment,goodput"]) == 0


def test_json_has_all_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [str(folder / "base"), str(folder / "slow.json"), "--metric", "tpot_mean", "--json"]
    assert main(["bench", "diff", *args, *FEW]) == 1
    read = json.loads(capsys.readouterr().out)
    assert read["is_worse"] is True
    (change,) = read["changes"]
    assert (change["metric"], change["verdict"]) == ("tpot_mean", "worse")
    assert 1.02 < change["low"] < change["ratio"] < change["high"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere.json"], "nowhere.json: no such file"),
        (["empty"], "no .json file"),
        (["broken.json"], "broken.json: no run"),
        (["slow.json", "--threshold", "-1"], "--threshold"),
        (["slow.json", "--metric", "speed"], "there are ttft_mean"),
        (["slow.json", "--confidence", "100"], "--confidence"),
        (["slow.json", "--resamples", "3"], "--resamples"),
    ],
)
def test_what_cannot_be_compared(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.json").write_bytes((folder / "slow.json").read_bytes())
    (tmp_path / "empty").mkdir()
    if args[0] == "broken.json":
        (tmp_path / "broken.json").write_text("[1, 2")
    new, *options = args
    assert main(["bench", "diff", str(folder / "slow.json"), new, *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_page_of_several_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = folder / "page.html"
    args = ["bench", "report", str(folder / "base"), str(folder / "slow.json")]
    assert main([*args, "--out", str(page)]) == 0
    text = page.read_text()
    assert text.count("<svg") == 1
    assert text.count("<h3>") == 3
    assert main([*args, "--out", str(folder / "page.doc")]) == 2
    assert ".html" in capsys.readouterr().err


def test_verbs_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "diff", "--help"]) == 0
    assert "usage: fmedge bench diff" in capsys.readouterr().out
    assert main(["bench", "--help"]) == 0
    assert "fmedge bench report:" in " ".join(capsys.readouterr().out.split())
