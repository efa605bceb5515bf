"""The real `openai` client of Node, unchanged, over every endpoint."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.server import Server

HERE = Path(__file__).parent / "node"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fmedge-tests" / "node"
NPM = shutil.which("npm")
NODE = shutil.which("node")


@pytest.fixture(scope="session")
def suite() -> Path:
    """A folder with the suite and its client, installed once for all test processes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json", "suite.mjs"):
            shutil.copy(HERE / name, CACHE / name)
        command = [str(NPM), "install", "--no-audit", "--no-fund", "--prefer-offline"]
        subprocess.run(command, cwd=CACHE, check=True, timeout=100, capture_output=True)
    return CACHE / "suite.mjs"


@pytest.mark.skipif(NPM is None or NODE is None, reason="needs node and npm")
def test_the_node_client_passes_its_suite(server: Server, suite: Path):
    done = subprocess.run(
        [str(NODE), str(suite), f"{server.url}/v1"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 8
