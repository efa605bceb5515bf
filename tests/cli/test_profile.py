"""`fmedge profile`: of a model that it starts, of a server's, and what it refuses at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fmedge.cli import main
from fmedge.cli.drawing import bar, bars
from fmedge.cli.profile_report import decode_bars, prefill_bars
from fmedge.sched.profile import StepProfile
from fmedge.sched.steptime import Curve, StepModel
from fmedge.server.profiles import profile_key
from fmedge.server.profiling import ProfileList, ReplicaProfile
from fmedge.types import EngineSettings
from tests.cli.fake_openai import FakeServer, document
from tests.synthetic import cached

MODEL = StepModel(
    base_s=0.001,
    prefill=Curve((0.0, 64.0, 512.0), (0.0, 0.01, 0.1)),
    decode=Curve((0.0, 1.0, 4.0), (0.0, 0.001, 0.002)),
)
STATUS = {"models": [{"name": "m", "aliases": ["a"]}, {"name": "n", "aliases": []}]}


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMEDGE_STATE_DIR", str(tmp_path / "state"))


def a_profile(name: str = "m/0") -> ReplicaProfile:
    key = profile_key(EngineSettings(model_path=str(cached("tiny")), slots=4))
    profile = StepProfile(key=key, source="prior", made_at_s=1.0, prior=MODEL)
    return ReplicaProfile(replica=name, model="m", profile=profile)


def test_a_model_is_started_measured_shown_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, image = str(cached("tiny")), tmp_path / "curves.png"
    args = ["profile", model, "--threads", "1", "--slots", "2", "--ctx-size", "256"]
    assert main([*args, "--seconds", "0.8", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=ProfileList).profiles
    assert len(found) == 1
    assert found[0].profile.key == profile_key(
        EngineSettings(model_path=model, threads=1, slots=2, ctx_size=256)
    )
    assert found[0].profile.num_samples >= 6
    assert found[0].profile.model.step_s(64, 0) > 0
    assert main([*args, "--seconds", "0.5", "--plot", str(image)]) == 0
    shown = capsys.readouterr().out
    for words in ("NUMBER", "decode, shallow", "█", "tokens/s", "1,000 tokens of KV"):
        assert words in shown
    assert image.read_bytes().startswith(b"\x89PNG")


async def test_a_server_is_asked_for_what_it_serves(capsys: pytest.CaptureFixture[str]) -> None:
    answer = msgspec.to_builtins(ProfileList(profiles=[a_profile()]))

    def script(path: str, body: dict[str, object]) -> list[bytes]:
        return [document(200, STATUS if path == "/admin/status" else answer)]

    async with FakeServer(script).running() as server:
        url = ["--url", server.url]
        assert await asyncio.to_thread(main, ["profile", "a", *url, "--seconds", "2"]) == 0
        assert "m/0" in capsys.readouterr().out
        assert server.asked[-1][:2] == ("/admin/profile", {"model": "a", "seconds": 2.0})
        assert await asyncio.to_thread(main, ["profile", *url, "--json"]) == 0
        assert [asked[1].get("model") for asked in server.asked[-2:]] == ["m", "n"]
        assert len(json.loads(capsys.readouterr().out)["profiles"]) == 2
        assert await asyncio.to_thread(main, ["profile", "zzz", *url]) == 1
        assert "does not serve 'zzz'; it serves m, n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, {"error": {"message": "Replica m/0 has work.", "code": "busy"}}, "has work"),
        (401, {}, "FMEDGE_API_KEY"),
        (200, {"profiles": [{"replica": 7}]}, "cannot read"),
        (404, "", "HTTP 404"),
    ],
)
async def test_a_server_that_does_not_measure(
    status: int, body: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(path: str, _: dict[str, object]) -> list[bytes]:
        return [document(200, STATUS) if path == "/admin/status" else document(status, body)]

    async with FakeServer(script).running() as server:
        assert await asyncio.to_thread(main, ["profile", "m", "--url", server.url]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["m.gguf", "--seconds", "0"], 2, "above 0"),
        (["m.gguf", "--seconds", "x"], 2, "--seconds"),
        (["m.gguf", "--plot", "curves.txt"], 2, "must end in .png"),
        (["m.gguf", "--plot", "/nowhere/at/all.png"], 2, "no such folder"),
        (["/nowhere/m.gguf"], 1, "/nowhere/m.gguf"),
        (["m", "--url", "http://127.0.0.1:1"], 1, "no server answers"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    args: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *args]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_plot_without_matplotlib_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fmedge.cli.profile_plot.find_spec", lambda _: None)
    assert main(["profile", "m.gguf", "--plot", "x.png"]) == 2
    assert "fmedge[plot]" in capsys.readouterr().err


def test_a_model_that_does_not_load_is_told_in_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(cached("tiny").read_bytes()[:5000])
    assert main(["profile", str(broken)]) == 1
    assert "broken.gguf" in capsys.readouterr().err


def test_help_loads_neither_numpy_nor_asyncio() -> None:
    code = (
        "import sys; from fmedge.cli import main; main(['profile', '--help']);"
        "print(sorted(m for m in sys.modules if m in ('numpy', 'scipy', 'numba', 'matplotlib')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.rstrip().endswith("[]")


def test_bars_are_as_long_as_their_share() -> None:
    assert bar(1.0, 4) == "████"
    assert bar(0.5, 4) == "██"
    assert bar(0.40625, 4) == "█▋"
    assert bar(1e-9, 4) == "▏"
    assert bar(0.0, 4) == ""
    assert bar(7.0, 4) == "████"
    assert bars([("1", 1.0, "a"), ("10", 2.0, "b")], 4) == [" 1 ██ a", "10 ████ b"]
    assert bars([]) == []
    assert bars([("1", 0.0, "a")]) == ["1  a"]


def test_the_drawing_shows_the_curve_where_it_bends() -> None:
    decode, prefill = decode_bars(MODEL), prefill_bars(MODEL)
    assert [line.split()[0] for line in decode] == ["1", "4"]
    assert "2.00 ms, 500 tokens/s" in decode[0]
    assert [line.split()[0] for line in prefill] == ["64", "512"]
    flat = StepModel(base_s=0.001)
    assert len(decode_bars(flat)) == 4
    many = StepModel(
        base_s=0.0,
        decode=Curve(tuple(map(float, range(16))), tuple(i / 1e3 for i in range(16))),
    )
    lines = decode_bars(many)
    assert len(lines) == 12
    assert lines[-1].split()[0] == "15"
