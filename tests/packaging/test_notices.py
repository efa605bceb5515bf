"""The licences that go with a binary: of everything that fmedge needs, or no notices at all."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "packaging" / "notices.py"


def made(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_each_dependency_is_quoted_with_those_that_it_brings(tmp_path: Path) -> None:
    file = tmp_path / "notices"
    assert made(file).returncode == 0
    text = file.read_text()
    for name in ("aiohttp", "llama_cpp_python", "numba", "scipy"):  # what fmedge names
        assert f"\n{name} {distribution(name).version}\n" in text
    for name in ("llvmlite", "MarkupSafe", "yarl"):  # what these need
        assert f"\n{distribution(name).name} {distribution(name).version}\n" in text
    for name in ("pytest", "matplotlib", "hypothesis"):  # a developer's
        assert f"\n{name} " not in text
    licence = next(f for f in distribution("numba").files or () if f.name == "LICENSE")
    assert Path(str(licence.locate())).read_text().strip() in text
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in text


def test_a_library_of_the_system_brings_its_packages_licence(tmp_path: Path) -> None:
    copyright_ = Path("/usr/share/doc/libstdc++6/copyright")
    if not copyright_.is_file():
        pytest.skip("this is no Debian with a C++ library")
    folder = tmp_path / "fmedge"
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal" / "libstdc++.so.6").touch()
    assert made(tmp_path / "notices", folder).returncode == 0
    text = (tmp_path / "notices").read_text()
    assert text.rstrip().endswith(copyright_.read_text().rstrip())
    assert "\nlibstdc++.so.6\n" in text


def test_what_has_no_licence_is_an_error(tmp_path: Path) -> None:
    """A distribution beside the others that fmedge would need."""
    for name, requires in (("fmedge", "nobodys"), ("nobodys", "")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        line = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{line}")
        (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    code = (
        f"import sys, runpy; sys.path[:0] = [{str(tmp_path)!r}]; sys.argv = ['x', 'notices'];"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (
        1, "notices: error: nobodys 1.0 has no licence among its files\n"
    )  # fmt: skip
    assert not (tmp_path / "notices").exists()
