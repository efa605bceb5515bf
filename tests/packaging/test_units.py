"""The units agree with the code and with each other; systemd's own tools have nothing to say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fmedge.cli import EXIT_NO_PLAN, EXIT_USAGE
from fmedge.replica.process import WatchSettings
from fmedge.server.service import SILENT_S, STALL_S

UNITS = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
TIMEOUT_S = 120

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


def setting(unit: Path, key: str) -> str:
    """The one value of a key."""
    (value,) = re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)
    return value


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(folder / "check.sh")], capture_output=True, text=True, timeout=TIMEOUT_S
    )


@pytest.mark.parametrize("name", ["fmedge.service", "user/fmedge.service"])
def test_times_and_codes_are_those_of_the_code(name: str) -> None:
    unit = UNITS / name
    # fmedge mends a hung worker itself, with time to spare, before the watchdog acts
    watch = WatchSettings()
    mended_s = watch.heartbeat_timeout_s + watch.check_interval_s
    assert SILENT_S < mended_s < float(setting(unit, "WatchdogSec")) / 2
    assert float(setting(unit, "TimeoutStartSec")) == STALL_S
    codes = {int(code) for code in setting(unit, "RestartPreventExitStatus").split()}
    assert codes == {EXIT_USAGE, EXIT_NO_PLAN}


@needs_systemd
def test_systemd_has_nothing_to_say() -> None:
    done = check(UNITS)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(r"^units: verified; .* (\d\.\d)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 2.0


@needs_systemd
@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("fmedge.service", r"WatchdogSec", "WachdogSec", "Unknown key 'WachdogSec'"),
        ("user/fmedge.socket", r"ListenStream=.*", "", "has no Listen setting"),
        ("fmedge.service", r"CapabilityBoundingSet=|ProtectSystem=.*|PrivateUsers=.*|"
         r"SystemCallFilter=.*", "", "exposed more than 2.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(tmp_path: Path, name: str, old: str, new: str, words: str) -> None:
    folder = tmp_path / "systemd"
    shutil.copytree(UNITS, folder)
    unit = folder / name
    unit.write_text(re.sub(rf"^(?:{old})", new, unit.read_text(), flags=re.MULTILINE))
    done = check(folder)
    assert done.returncode == 1
    assert words in done.stderr
