"""What is built once for all tests of packages."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.bare import namespaces

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".cache" / "binary" / "fmedge"


@pytest.fixture(scope="session")
def binary_folder() -> Path:
    """The folder of the binary as it would be built now; takes minutes where anything that goes
    into it has changed."""
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed (the extra `ship`)")
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    with (BUILT.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [
            sys.executable, str(ROOT / "packaging" / "binary" / "build.py"), "--only", "folder",
            "--if-changed", "--folder", str(BUILT),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return BUILT


@pytest.fixture(scope="session")
def has_namespaces() -> None:
    if namespaces() is None:
        pytest.skip("neither root nor allowed to make user namespaces")
