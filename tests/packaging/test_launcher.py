"""The launcher of the single binary: what it unpacks, what it trusts, what it leaves behind.

A small program stands for fmedge; the root that it runs in has no parent that others may write.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.packaging.bare import BareRoot

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "packaging" / "binary" / "build.py"
NUM_FILES = 100
FILE_BYTES = 1 << 20
DEADLINE_S = 60.0

# Says who and where it is; "wait" ends with its input, a number is its exit status.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    printf("%s %s\\n", VERSION, argc > 1 ? argv[1] : "");
    fflush(stdout);
    if (argc > 1 && strcmp(argv[1], "wait") == 0) while (getchar() != EOF) {}
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""

pytestmark = [
    pytest.mark.xdist_group("launcher"),
    pytest.mark.usefixtures("has_namespaces"),
    pytest.mark.timeout(300),
]


class Packed(NamedTuple):
    """Two versions, inside the root."""

    root: BareRoot
    old: Path
    new: Path


def make_version(folder: Path, version: str) -> Path:
    inside = folder / version
    (inside / "_internal" / "deep").mkdir(parents=True)
    (inside / "_internal" / "empty").mkdir()
    (inside / "_internal" / "text").write_text(version)
    (inside / "_internal" / "link").symlink_to("text")
    for number in range(NUM_FILES):
        (inside / "_internal" / "deep" / f"{number}.bin").write_bytes(bytes(FILE_BYTES))
    source = folder / f"{version}.c"
    source.write_text(PROGRAM)
    compiling = ["cc", "-static", "-O1", f'-DVERSION="{version}"', "-o", inside / "fmedge", source]
    subprocess.run(compiling, check=True)
    target = folder / f"packed-{version}"
    command = [sys.executable, BUILD, "--only", "file", "--level", "1"]
    subprocess.run([*command, "--folder", inside, "--target", target], check=True, timeout=120)
    return target


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    pytest.importorskip("zstandard", reason="zstandard is not installed (the extra `ship`)")
    if not list(Path("/usr").glob("lib*/**/libzstd.a")):
        pytest.skip("libzstd is not there to link with (Debian: libzstd-dev)")
    root = BareRoot(tmp_path_factory.mktemp("root"))
    folder = tmp_path_factory.mktemp("versions")
    versions = [shutil.copy(make_version(folder, v), root.path / "bin" / v) for v in ("old", "new")]
    return Packed(root, *map(Path, versions))


class Home:
    """One user's home in the root, fresh for each test."""

    def __init__(self, packed: Packed, name: str) -> None:
        self.root = packed.root
        self.inside = f"/home/{name}"
        self.path = packed.root.path / "home" / name
        self.path.mkdir()
        self.env = {"HOME": self.inside}

    @property
    def place(self) -> Path:
        return self.path / ".cache" / "fmedge" / "binary"

    def versions(self) -> list[Path]:
        return [path for path in sorted(self.place.glob("*")) if not path.name.startswith(".")]

    def leftovers(self) -> list[str]:
        return [p.name for p in self.place.iterdir() if p.name.startswith((".new", ".old"))]

    def run(self, *arguments: str, version: str = "old") -> subprocess.CompletedProcess[str]:
        return self.root.run(f"/bin/{version}", *arguments, env=self.env)


@pytest.fixture
def home(packed: Packed, request: pytest.FixtureRequest) -> Home:
    return Home(packed, f"{abs(hash(request.node.name)):x}")


def wait_for(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def assert_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("fmedge: error: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


@pytest.mark.skipif(
    shutil.which("qemu-x86_64") is None, reason="qemu-x86_64 (Debian: qemu-user) is not installed"
)
def test_a_processor_that_is_too_old_is_told_so(home: Home) -> None:
    file = home.root.path / "bin" / "old"
    command = ["qemu-x86_64", "-cpu", "core2duo", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert_error(done, "too old", "SSE4.2")


def test_it_unpacks_once_and_runs_what_it_unpacked(home: Home) -> None:
    first = home.run("7")
    assert (first.returncode, first.stdout, first.stderr) == (7, "old 7\n", "")
    (version,) = home.versions()
    before = {path: path.lstat().st_ino for path in version.rglob("*")}
    assert len(before) == NUM_FILES + 6
    assert (version / "_internal" / "link").readlink() == Path("text")
    assert home.run("0").stdout == "old 0\n"
    assert {path: path.lstat().st_ino for path in version.rglob("*")} == before
    assert home.leftovers() == []


def change(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("bad")  # as long as it was


TAMPERINGS: dict[str, Callable[[Path], object]] = {
    "content": lambda version: change(version / "_internal" / "text"),
    "cut": lambda version: os.truncate(version / "_internal" / "deep" / "3.bin", 5),
    "missing": lambda version: (version / "_internal" / "deep" / "3.bin").unlink(),
    "added": lambda version: (version / "_internal" / "numpy.py").touch(),
    "no longer executable": lambda version: (version / "fmedge").chmod(0o444),
    "writable for others": lambda version: (version / "_internal" / "deep").chmod(0o777),
    "another link": lambda version: relink(version / "_internal" / "link", "deep"),
    "a link in a file's place": lambda version: relink(version / "_internal" / "text", "/etc"),
    "no folder": lambda version: (shutil.rmtree(version), version.write_text("")),
}


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_changed_is_unpacked_anew(home: Home, tampering: str) -> None:
    home.run()
    (version,) = home.versions()
    TAMPERINGS[tampering](version)
    done = home.run("0")
    assert (done.returncode, done.stdout) == (0, "old 0\n")
    assert ("unpacked anew" in done.stderr) == (tampering != "no folder")
    assert home.versions() == [version]
    assert (version / "_internal" / "text").read_text() == "old"
    assert not (version / "_internal" / "numpy.py").exists()
    assert home.run("0").stderr == ""
    assert home.leftovers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_is_unpacked_anew(home: Home) -> None:
    home.run()
    (version,) = home.versions()
    os.chown(version / "_internal" / "text", 1234, 1234)
    assert "belongs to another user" in home.run("0").stderr
    assert (version / "_internal" / "text").stat().st_uid == 0


def test_a_place_that_others_may_write_is_refused(home: Home) -> None:
    home.run()
    for folder in (home.place, home.path / ".cache", home.path):
        before = folder.stat().st_mode
        folder.chmod(0o777)
        assert_error(home.run(), "may be written by others", "0777", "XDG_CACHE_HOME")
        folder.chmod(before)
    done = home.root.run("/bin/old", env={"HOME": "/tmp/mine"})
    assert_error(done, "/tmp may be written by others")
    assert home.run("0").stdout == "old 0\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_place_of_another_user_is_refused(home: Home) -> None:
    os.chown(home.path, 1234, 1234)
    assert_error(home.run(), "belongs to user 1234")


def test_other_versions_are_removed_when_they_no_longer_run(home: Home) -> None:
    running = home.root.start("/bin/old", "wait", env=home.env)
    assert running.stdout is not None
    assert running.stdout.readline() == "old wait\n"
    (old,) = home.versions()
    assert home.run("0", version="new").stdout == "new 0\n"
    assert old in home.versions()
    running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 0
    home.run(version="new")
    assert old not in home.versions()
    assert len(home.versions()) == 1
    assert home.leftovers() == []


@pytest.mark.parametrize("num_files", [0, 1, NUM_FILES // 2, NUM_FILES])
def test_sigkill_while_unpacking_leaves_nothing_that_is_run(home: Home, num_files: int) -> None:
    starting = home.root.start("/bin/old", "wait", env=home.env)

    def progress() -> bool:
        return bool(home.versions()) or any(
            len(list((new / "_internal" / "deep").glob("*"))) >= num_files
            for new in home.place.glob(".new-*")
        )

    wait_for(progress)
    starting.send_signal(signal.SIGKILL)
    starting.communicate(timeout=DEADLINE_S)
    if num_files < NUM_FILES // 2:
        assert home.versions() == []
        assert home.leftovers() != []
    done = home.run("0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "old 0\n", "")
    assert home.leftovers() == []
    assert len(home.versions()) == 1


def test_several_at_once_unpack_one_folder(home: Home) -> None:
    starting = [home.root.start("/bin/old", str(n), env=home.env) for n in range(4)]
    answers = {s.communicate(timeout=DEADLINE_S)[0] for s in starting}
    assert answers == {f"old {n}\n" for n in range(4)}
    assert len(home.versions()) == 1
    assert home.leftovers() == []


def test_a_full_disk_says_so_and_is_left_empty(home: Home) -> None:
    done = home.root.run(
        "/bin/old", env={"HOME": "/small"},
        mounts='mount -t tmpfs -o size=20m,mode=700 tmpfs "$ROOT/small"',
        after='find "$ROOT/small/.cache/fmedge/binary" -mindepth 1 -not -name .lock >&2',
    )  # fmt: skip
    assert_error(done, "No space left on device", "MB", "XDG_CACHE_HOME")


def test_a_place_that_cannot_be_written_says_so(home: Home) -> None:
    done = home.root.run(
        "/bin/old", env={"HOME": "/small"}, mounts='mount -t tmpfs -o ro tmpfs "$ROOT/small"'
    )
    assert_error(done, "Read-only file system", "XDG_CACHE_HOME")
    assert_error(home.root.run("/bin/old", env={}), "neither HOME nor XDG_CACHE_HOME")


def test_what_is_unpacked_runs_from_where_nothing_can_be_written(home: Home) -> None:
    home.run()
    inside = f'"$ROOT{home.inside}"'
    done = home.root.run(
        "/bin/old", "0", env=home.env,
        mounts=f"mount --bind {inside} {inside}; mount -o remount,ro,bind {inside}",
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("old 0\n", "")


def test_a_place_where_nothing_may_be_run_says_so(home: Home) -> None:
    done = home.root.run(
        "/bin/old", env={"HOME": "/small"},
        mounts='mount -t tmpfs -o noexec,mode=700 tmpfs "$ROOT/small"',
    )  # fmt: skip
    assert_error(done, "Permission denied", "noexec", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({"XDG_CACHE_HOME": "/home/x/a"}, "x/a/fmedge/binary"),
        ({"XDG_CACHE_HOME": "a", "HOME": "/home/x/b"}, "x/b/.cache/fmedge/binary"),
        ({"CACHE_DIRECTORY": "/home/x/c:/d", "XDG_CACHE_HOME": "/home/x/a"}, "x/c/binary"),
    ],
)
def test_the_place_is_where_the_specifications_say(
    packed: Packed, env: dict[str, str], place: str
) -> None:
    assert packed.root.run("/bin/old", "0", env=env).stdout == "old 0\n"
    assert (packed.root.path / "home" / place).is_dir()
    shutil.rmtree(packed.root.path / "home" / "x")


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_says_so(home: Home, damage: str) -> None:
    data = bytearray((home.root.path / "bin" / "old").read_bytes())
    if damage == "cut":
        data = data[:-1000]
    else:
        data[-2000] ^= 1  # in the compressed contents, of which the trailer is the end
    bad = home.root.path / "bin" / f"bad-{damage}"
    bad.write_bytes(data)
    bad.chmod(0o755)
    assert_error(home.run(version=bad.name), "damaged or incomplete")
    if home.place.exists():
        assert home.versions() == home.leftovers() == []
