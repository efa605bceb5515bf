"""The sdist holds the whole source; the wheel made from it is all that somebody needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from fmedge import __version__

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_SDIST = (".ci/", ".gitignore")
ADDED = {"PKG-INFO", "setup.cfg"}
# What lies about in a folder where somebody works.
LEFT_BEHIND = [
    "bench/results/all.json",
    "build/lib/fmedge/gone.py",
    "dist/fmedge-0.0.1.tar.gz",
    "fmedge/__pycache__/types.cpython-311.pyc",
    "fmedge/_native/_fm.abi3.so",
    "fmedge/_native/_fm.c",
    "fmedge/sched/__pycache__/kernels-0123/estimate.run-1.py311.1.nbc",
    "fmedge/sched/__pycache__/kernels-0123/estimate.run-1.py311.nbi",
    "tests/e2e/node/node_modules/openai/index.js",
]

# One build for the tests of one process.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(600)]


def sources() -> list[str]:
    """What belongs to the repository, as it is now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("what belongs to the source is known in a git checkout alone")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def build(folder: Path, what: str) -> Path:
    """By the hook that pip and build call, in an environment that has what it requires."""
    code = f"import setuptools.build_meta as m; print(m.build_{what}('out'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "out" / done.stdout.splitlines()[-1]


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def names_in(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if member.isfile()]
    assert {name.partition("/")[0] for name in files} == {f"fmedge-{__version__}"}
    return {name.partition("/")[2] for name in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that the source stays as it is while it is built."""
    folder = tmp_path_factory.mktemp("source")
    for name in sources():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(source, tmp_path_factory.mktemp("dirty") / "fmedge")
    for name in LEFT_BEHIND:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return build(folder, "sdist")


@pytest.fixture(scope="module")
def tree(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(sdist, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    return build(tree, "wheel")


def test_the_sdist_is_the_whole_source(source: Path, sdist: Path) -> None:
    expected = {name for name in files_of(source) if not name.startswith(NOT_IN_SDIST)}
    found = {name for name in names_in(sdist) if not name.startswith("fmedge.egg-info/")}
    assert found - ADDED == expected


def test_an_sdist_of_the_sdist_is_the_same(sdist: Path, tmp_path: Path) -> None:
    again = build(unpacked(sdist, tmp_path), "sdist")
    assert names_in(again) == names_in(sdist)


def test_the_wheel_fits_every_python_of_this_kind_of_machine(wheel: Path) -> None:
    _, version, _, tags = parse_wheel_filename(wheel.name)
    assert str(version) == __version__
    ((interpreter, abi, platform),) = {(t.interpreter, t.abi, t.platform) for t in tags}
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert (f">={interpreter[2]}.{interpreter[3:]}", abi) == (oldest, "abi3")
    assert platform == f"linux_{os.uname().machine}"


def test_the_wheel_holds_the_package_and_nothing_else(source: Path, wheel: Path) -> None:
    info = f"fmedge-{__version__}.dist-info"
    python = {name for name in files_of(source) if re.match(r"fmedge/.*\.py$", name)}
    native = {f"fmedge/_native/{name}.abi3.so" for name in ("_fm", "_gemm", "_handover")}
    metadata = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
    expected = python | native | {"fmedge/models/embedded.gguf"}
    expected |= {f"{info}/{name}" for name in metadata | {"licenses/LICENSE"}}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == expected
        for name in [*python, "fmedge/models/embedded.gguf"]:
            assert archive.read(name) == (source / name).read_bytes(), name
        assert archive.read(f"{info}/licenses/LICENSE") == (source / "LICENSE").read_bytes()


def closure(names: set[str]) -> dict[str, Distribution]:
    """The distributions that these need, without extras."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        if wanted.name not in found:
            found[wanted.name] = distribution(wanted.name)
            waiting += map(Requirement, found[wanted.name].requires or ())
    return found


def linked(found: dict[str, Distribution], site: Path) -> None:
    """Each of them into another environment, as if it were installed there."""
    for each in found.values():
        for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(each.locate_file(top))))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fresh environment that has the wheel, and what it declares to need, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"fmedge-{__version__}.dist-info/METADATA").decode()
    declared = set(re.findall(r"^Requires-Dist: (.*)$", metadata, re.M))
    linked(closure({text for text in declared if "extra ==" not in text}), site)
    # pip takes what is there if the versions fit, and may fetch nothing
    install = ["--python", str(python), "install", "--no-index", "-q", str(wheel)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *install],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return python


def fmedge(python: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(python.parent / "fmedge"), *args]
    home = str(python.parent.parent)
    env = {"HOME": home, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip


def test_the_installed_wheel_answers(python: Path) -> None:
    done = fmedge(python, "run", "What is the capital of France?")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


def test_every_verb_is_there_without_extras(python: Path) -> None:
    done = fmedge(python, "completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert "device-server" in done.stdout


def test_what_needs_an_extra_says_which(python: Path) -> None:
    done = fmedge(python, "bench", "report", "--out", "a.png", "run.json")
    assert done.returncode == 2
    assert done.stderr.startswith("fmedge: error: ")
    assert "fmedge[plot]" in done.stderr
