"""The Debian package of the real binary, installed where there is no Python, answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.packaging.debian_root import DebianRoot, build_package, why_not

pytestmark = [
    pytest.mark.xdist_group("binary"),
    pytest.mark.timeout(1800),  # it is built first
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


def test_the_installed_package_answers(binary_folder: Path, tmp_path: Path) -> None:
    package = build_package(binary_folder, tmp_path, "1", "none")
    root = DebianRoot(tmp_path / "debian")
    shutil.move(package, root.path("/root"))
    assert root.run("sh", "-c", "command -v python3", check=False).returncode != 0
    root.dpkg("--install", f"/root/{package.name}")
    done = root.run("fmedge", "run", "What is the capital of France?")
    assert "Paris" in done.stdout
    checked = root.run("fmedge", "config", "check", "/etc/fmedge/fmedge.toml")
    assert checked.stdout.endswith("OK, 1 model(s)\n")
