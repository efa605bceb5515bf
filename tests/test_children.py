"""How processes of ours are started, from an interpreter and in the single binary."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fmedge import children

ROOT = Path(__file__).parent.parent

# As the binary's entry does it; "frozen" is how PyInstaller marks a binary.
BINARY = """
import sys
sys.frozen = True
from fmedge import children
assert sys.argv[1] == children.VERB
children.run_module(sys.argv[2:])
"""


def run_in_binary(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", BINARY, children.VERB, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=children.environment()
    )


def test_nothing_else_knows_how_we_are_started():
    knowing = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "fmedge").rglob("*.py")
        if "sys.executable" in path.read_text()
    ]
    # __main__ becomes itself again, with another encoding.
    assert sorted(knowing) == ["fmedge/__main__.py", "fmedge/children.py"]


@pytest.mark.parametrize("module", children.MODULES)
def test_each_module_is_there(module: str):
    assert (ROOT / Path(*module.split(".")).with_suffix(".py")).is_file()
    assert children.module_command(module, "7") == [sys.executable, "-P", "-m", module, "7"]


def test_in_the_binary_we_are_our_own_interpreter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    assert children.module_command(children.WORKER, "7") == [
        sys.executable, children.VERB, children.WORKER, "7"
    ]  # fmt: skip
    assert children.fmedge_command("serve", "--help") == [sys.executable, "serve", "--help"]
    assert children.environment()["PYTHONPATH"] == "somewhere"


def test_the_binary_runs_a_module_as_main():
    done = run_in_binary(children.WORKER, "no", "numbers")
    assert done.returncode == 2
    assert done.stderr == "fmedge.replica.worker is started by fmedge itself, not by hand.\n"


@pytest.mark.parametrize("arguments", [(), ("fmedge.cli.serve",), ("os",)])
def test_the_binary_runs_no_other_module(arguments: tuple[str, ...]):
    done = run_in_binary(*arguments)
    assert (done.returncode, done.stdout) == (children.EXIT_USAGE, "")
    assert done.stderr == f"fmedge: error: {children.VERB} is for fmedge itself, not for people\n"


@pytest.mark.parametrize("before", [None, "/theirs"])
def test_the_binary_hands_none_of_its_environment_on(
    monkeypatch: pytest.MonkeyPatch, before: str | None
):
    if before is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", before)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/inside")
    monkeypatch.setenv("_PYI_ARCHIVE_FILE", "/inside/fmedge")
    runpy.run_path(str(ROOT / "packaging" / "binary" / "entry.py"))["_give_back_environment"]()
    assert os.environ.get("LD_LIBRARY_PATH") == before
    assert not {"LD_LIBRARY_PATH_ORIG", "_PYI_ARCHIVE_FILE"} & set(os.environ)
