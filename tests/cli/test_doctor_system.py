"""What `fmedge doctor` says of models, the clock, versions and the service."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fmedge.cli import main
from fmedge.cli.checks import system
from fmedge.cli.checks.models import check_models, largest_bytes
from fmedge.cli.checks.native import Build
from fmedge.config.surroundings import Surroundings, take_unit
from tests.cli.findings import configured, only, said
from tests.synthetic import cached


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def test_models_that_are_here(hub: Path, tmp_path: Path) -> None:
    sound, torn = cached("tiny"), tmp_path / "torn.gguf"
    data = sound.read_bytes()
    torn.write_bytes(data[: len(data) - 1000])
    config = configured(model=f"{sound},{torn}")
    assert largest_bytes(config) == len(data)
    first, second, cache = said(check_models(config, Build()))
    assert (first[1], "whole by its header" in first[2]) == ("ok", True)
    assert (second[1], "fetch the file again" in second[2]) == ("error", True)
    assert (cache[0], cache[1]) == ("model cache", "ok")
    unknown = said(check_models(config, Build(problem="no llama.cpp")))
    assert [status for _, status, _ in unknown] == ["ok", "ok", "ok"]


def test_models_that_are_not_here(hub: Path) -> None:
    blobs = hub / "models--org--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x.incomplete").write_bytes(b"\0" * 3000)
    config = configured(model="hf:org/a:Q4_K_M,./gone.gguf")
    first, second, *rest = said(check_models(config, Build()))
    assert first[1] == "warning"
    assert "a start fetches it -> fmedge pull hf:org/a:Q4_K_M" in first[2]
    assert second[1] == "error"
    assert "1 download(s) broke off, 3.0 kB" in rest[-1][2]


# --- system ---


def test_the_clock(tmp_path: Path) -> None:
    (tmp_path / "learned").touch()
    os.utime(tmp_path / "learned", (1000.0, 1000.0))

    def check(now_s: float, *, is_set: bool | None = True) -> tuple[str, str]:
        return only(system.check_clock(tmp_path, now_s, is_set=is_set, built_s=900.0))

    assert check(1001.0) == ("ok", "1970-01-01 00:16:41 UTC, synchronised -> ")
    assert check(1001.0, is_set=None)[0] == "ok"
    assert check(1001.0, is_set=False)[0] == "warning"
    assert "it jumped" in check(930.0)[1]
    assert check(900.0 - 2 * 86_400)[0] == "error"
    assert system.is_synchronised() in (True, False, None)


def test_locales() -> None:
    around = Surroundings(locale="LC_ALL=C")
    assert only(system.check_locale(around, files="utf-8", output="UTF-8"))[0] == "ok"
    status, text = only(system.check_locale(around, files="utf-8", output="iso8859-1"))
    assert (status, "LC_ALL=C: file names are utf-8" in text) == ("warning", True)


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(system.check_versions())[0] == "ok"
    asked = ["numpy<1", "no-such-package>=2", 'nothing>1; extra == "dev"', "msgspec"]
    monkeypatch.setattr(system, "requires", lambda _: asked)
    wrong = said(system.check_versions(("x",)))
    assert [status for _, status, _ in wrong] == ["error", "error"]
    assert "x needs numpy<1, but " in wrong[0][2]
    assert "x needs no-such-package>=2, which is not installed" in wrong[1][2]
    monkeypatch.undo()
    assert "all in one" in only(system.check_versions(("no-such-package",)))[1]


UNIT = "Id={}\nLoadState={}\nActiveState={}\nSubState={}\nResult=exit-code\nUnitFileState=enabled\n"


@pytest.mark.parametrize(
    ("load", "active", "sub", "status", "words"),
    [
        ("loaded", "active", "running", "ok", "fmedge.service is active (running), enabled"),
        ("loaded", "inactive", "dead", "ok", "fmedge.service is inactive (dead), enabled"),
        ("loaded", "failed", "failed", "error", "exit-code -> journalctl -u fmedge.service -n 50"),
        ("loaded", "activating", "auto-restart", "error", "it ends again and again"),
        ("masked", "inactive", "dead", "error", "systemctl unmask fmedge.service"),
        ("not-found", "inactive", "dead", "ok", "no unit of fmedge here"),
    ],
)
def test_units(load: str, active: str, sub: str, status: str, words: str) -> None:
    shown = UNIT.format("fmedge.service", load, active, sub)
    shown += "\n" + UNIT.format("fmedge.socket", "not-found", "inactive", "dead")
    found = only(system.of_units(shown))
    assert found[0] == status
    assert words in found[1]


def test_the_environment_of_a_service(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text('# a comment\n\nFMEDGE_PORT=81\nFMEDGE_HOST = "::1"\nno assignment\n')
    env = {"HOME": "/root", "PATH": "/bin"}
    take_unit(
        'LoadState=loaded\nEnvironment=HOME=/var/lib/fmedge "A=b c"\n'
        f"EnvironmentFiles={file} (ignore_errors=yes)\nEnvironmentFiles=/no/where\n",
        env,
    )
    assert env == {"HOME": "/var/lib/fmedge", "PATH": "/bin", "A": "b c", "FMEDGE_PORT": "81",
                   "FMEDGE_HOST": "::1"}  # fmt: skip


SYSTEMCTL = """\
#!/bin/sh
echo LoadState={}
echo Environment=XDG_STATE_HOME={} HF_HOME={}/hf FMEDGE_PORT=0
"""


def test_doctor_looks_as_the_service_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a systemctl that says what it would where the service is installed."""
    command = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("XDG_STATE_HOME", "HF_HOME", "FMEDGE_PORT", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(name, "")  # and as it was, afterwards
    config = tmp_path / "fmedge.toml"
    config.write_text("[[model]]\nmodel = 'embedded'\n")
    command.write_text(SYSTEMCTL.format("not-found", tmp_path, tmp_path))
    command.chmod(0o755)
    assert main(["doctor", "--service"]) == 2
    assert "there is no fmedge.service; leave the flag out" in capsys.readouterr().err
    command.write_text(SYSTEMCTL.format("loaded", tmp_path, tmp_path))
    assert main(["doctor", "--service", "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    texts = {finding["check"]: finding["found"] for finding in found}
    assert texts["config"] == f"{config}: 1 model(s)"
    assert texts["state"] == f"{tmp_path}/fmedge is made at the first start"
    assert texts["port"] == "any that is free"


def test_a_machine_without_systemd(tmp_path: Path) -> None:
    assert only(system.check_service(1.0, tmp_path))[0] == "ok"
