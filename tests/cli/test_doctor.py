"""`fmedge doctor` as a whole: bounded in time, changes nothing, says what to do, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from fmedge.cli.checks import native
from fmedge.cli.checks.examine import examine
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.cli.doctor import as_json, lines
from fmedge.replica.probe import Prober
from tests.native.test_cpu import OLD

ROOT = Path(__file__).resolve().parents[2]
Doctor = Callable[..., tuple[int, dict[str, list[dict[str, Any]]]]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Runs it; its exit code and its findings by what was looked at."""

    def run(*args: str, **env: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        named = {"XDG_STATE_HOME": str(tmp_path / "state"), "HF_HOME": str(tmp_path / "hf"),
                 "FMEDGE_PORT": "0", "PYTHONPATH": str(ROOT), **env}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "fmedge", "doctor", "--json", *args], capture_output=True,
            text=True, cwd=tmp_path, env={**os.environ, **named}, timeout=90,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        said = json.loads(done.stdout)
        assert said["ok"] is (done.returncode == 0)
        by_check: dict[str, list[dict[str, Any]]] = {}
        for finding in said["findings"]:
            assert finding["advice"] or finding["status"] == "ok"
            by_check.setdefault(finding["check"], []).append(finding)
        return done.returncode, by_check

    return run


def test_this_machine(doctor: Doctor, tmp_path: Path) -> None:
    code, found = doctor()
    assert code == 0, found
    wanted = {
        "config", "cpu", "llama.cpp", "memory", "swap", "open files", "model", "model cache",
        "port", "state", "kernels", "proxy", "clock", "locale", "versions", "service",
    }  # fmt: skip
    assert wanted <= set(found)
    assert "embedded" in found["model"][0]["found"]
    assert list(tmp_path.iterdir()) == []  # it looked, and made nothing


def test_a_broken_configuration_is_an_error_among_the_others(
    doctor: Doctor, tmp_path: Path
) -> None:
    config = tmp_path / "fmedge.toml"
    config.write_text("[server]\nprot = 1\n")
    code, found = doctor("--config", str(config), FMEDGE_SLOT="1")
    assert code == 1
    broken, stranger = found["config"]
    assert (broken["status"], stranger["status"]) == ("error", "warning")
    assert "port" in broken["found"]
    assert "FMEDGE_SLOTS" in stranger["found"]
    assert found["memory"]


def test_what_serve_would_be_given(doctor: Doctor, tmp_path: Path) -> None:
    code, found = doctor("--model", "./gone.gguf", "--host", "0.0.0.0", "--mlock")
    assert code == 1
    assert found["model"][0]["found"] == "There is no file ./gone.gguf."
    assert "anyone who reaches 0.0.0.0" in found["access"][0]["found"]
    assert found["locked memory"]


def test_a_service_has_its_secrets_from_systemd(doctor: Doctor, tmp_path: Path) -> None:
    config = tmp_path / "fmedge.toml"
    config.write_text('[server]\napi_key_file = "${CREDENTIALS_DIRECTORY}/keys"\n')
    code, found = doctor("--config", str(config))
    assert code == 0
    assert found["keys"][0]["found"] == "keys: handed over by systemd when the service starts"


def test_a_processor_that_the_build_is_not_for(doctor: Doctor, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(OLD)
    code, found = doctor(PYTHONPATH=f"{hook}:{ROOT}")
    (build,) = found["llama.cpp"]
    assert build["status"] != "ok"
    if "no answer within" not in build["found"]:  # a very busy machine
        assert code == 1
        assert "compiled to use SSSE3, AVX2" in build["found"]
    assert found["memory"][0]["found"]


def test_a_check_that_hangs_or_fails_costs_its_own_answer() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        never.wait()
        yield ok("a", "too late")

    def fails() -> Iterator[Finding]:
        yield ok("b", "lost, as it is not all")
        raise PermissionError(13, "Permission denied", "/secret")

    began_s = monotonic()
    checks = {"a": hangs, "b": fails, "c": lambda: [ok("c", "fine"), ok("c2", "fine too")]}
    try:
        findings = examine(checks, 0.2)
    finally:
        never.set()
    assert monotonic() - began_s < 5
    assert [(f.check, f.status) for f in findings] == [
        ("a", "warning"), ("b", "warning"), ("c", "ok"), ("c2", "ok"),
    ]  # fmt: skip
    assert findings[0].found == "no answer within 0.2 s"
    assert findings[1].found == "could not be looked at: /secret: Permission denied"


def test_lines_for_people() -> None:
    findings = [ok("a", "x"), warning("bcd", "y", "do z"), error("e", "v", "do w")]
    assert lines(findings) == [
        "ok       a    x",
        "WARNING  bcd  y",
        "              -> do z",
        "ERROR    e    v",
        "              -> do w",
        "",
        "1 error(s), 1 warning(s)",
    ]
    assert as_json(findings[:2])["ok"] is True
    assert as_json(findings)["ok"] is False


@pytest.mark.parametrize(
    ("script", "said", "is_late"),
    [
        ("import os; os.kill(os.getpid(), 11)", "died of SIGSEGV", False),
        ("import sys; sys.stdin.read()", "gave no answer within", True),
    ],
)
def test_a_build_that_crashes_or_hangs(
    script: str, said: str, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prober() -> Prober:
        return Prober(command=(sys.executable, "-c", script))

    monkeypatch.setattr("fmedge.replica.probe.Prober", prober)
    build = native.ask_build(1.0 if is_late else 60.0)
    assert said in build.problem
    assert build.is_late is is_late
    assert "cpu" in build.backends  # found without loading anything


def test_llama_cpps_own_words() -> None:
    system = "CPU : SSE3 = 1 | AVX2 = 0 | REPACK = 1 | CUDA : ARCHS = 890 | USE_GRAPHS = 1 | "
    assert native.parse_words(system) == {
        "CPU": {"SSE3": "1", "AVX2": "0", "REPACK": "1"},
        "CUDA": {"ARCHS": "890", "USE_GRAPHS": "1"},
    }
    assert native.parse_words("") == {}


def test_backends_by_their_files(tmp_path: Path) -> None:
    for name in ("base", "cpu-haswell", "cpu-x64", "cuda", "rpc"):
        (tmp_path / f"libggml-{name}.so").touch()
    (tmp_path / "libggml-vulkan.so.0").touch()
    assert native.backends_of(tmp_path) == {"cpu", "cuda", "rpc"}
    assert native.backends_of(None) == frozenset()
