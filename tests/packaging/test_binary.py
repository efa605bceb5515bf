"""The single binary in a root that has the C library and nothing else: it needs no Python."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fmedge import __version__
from tests.packaging.bare import BareRoot
from tests.packaging.test_launcher import BUILD, wait_for

MAX_BYTES = 200_000_000
QUESTION = "What is the capital of France?"
ANSWER = "Paris"
TIMEOUT_S = 240.0

pytestmark = [
    pytest.mark.xdist_group("binary"),
    pytest.mark.usefixtures("has_namespaces"),
    pytest.mark.timeout(1800),  # it is built first
]


class Binary(NamedTuple):
    root: BareRoot
    home: Path
    file: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {"HOME": "/home"}
        return self.root.run("/bin/fmedge", *arguments, env=env, timeout_s=TIMEOUT_S)


@pytest.fixture(scope="module")
def binary(binary_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Binary:
    root = BareRoot(tmp_path_factory.mktemp("root"))
    target = root.path / "bin" / "fmedge"
    # Packing as for a release takes minutes; what comes out is unpacked by the same code.
    command = [sys.executable, BUILD, "--only", "file", "--level", "1"]
    command += ["--folder", binary_folder, "--target", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return Binary(root, root.path / "home", target)


def test_it_is_small_enough_even_when_packed_quickly(binary: Binary) -> None:
    assert binary.file.stat().st_size <= MAX_BYTES


def test_it_needs_nothing_but_the_c_library(binary: Binary) -> None:
    linked = subprocess.run(["readelf", "-d", binary.file], capture_output=True, text=True)
    assert "NEEDED" not in linked.stdout
    assert not list(binary.root.path.rglob("*python*"))
    done = binary.run("version", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["fmedge"] == __version__
    assert facts["devices"].startswith("CPU")
    assert "not installed" not in done.stdout


def test_it_answers_a_question(binary: Binary) -> None:
    done = binary.run("run", QUESTION)
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout


def test_it_brings_its_compiled_kernels_along(binary: Binary) -> None:
    binary.run("run", QUESTION)
    (version,) = (binary.home / ".cache" / "fmedge" / "binary").glob("[0-9a-f]*")
    assert len(list(version.rglob("*.nbc"))) >= 10
    # Were they compiled now, they would be new in the folder, and it unpacked anew for that.
    assert "unpacked anew" not in binary.run("version").stderr
    elsewhere = [path for path in binary.home.rglob("*.nb*") if version not in path.parents]
    assert elsewhere == []


def test_it_sees_this_machine(binary: Binary) -> None:
    done = binary.run("devices", "--json")
    assert done.returncode == 0, done.stderr
    assert "CPU" in done.stdout


class Served(NamedTuple):
    process: subprocess.Popen[str]
    url: str


@pytest.fixture
def served(binary: Binary) -> Iterator[Served]:
    log = binary.home / "serve.log"
    command = binary.root.command("/bin/fmedge", "serve", "--port", "0")
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={"HOME": "/home", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
    try:
        pattern = re.compile(r"http://127\.0\.0\.1:\d+")
        wait_for(lambda: pattern.search(log.read_text()) or process.poll() is not None, TIMEOUT_S)
        found = pattern.search(log.read_text())
        assert found, log.read_text()
        yield Served(process, found[0])
    finally:
        process.kill()
        process.wait(timeout=30)


def ask(url: str) -> str:
    body = {"model": "embedded", "messages": [{"role": "user", "content": QUESTION}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
    return answer


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def test_it_serves_with_workers_of_its_own(binary: Binary, served: Served) -> None:
    assert ANSWER in ask(served.url)
    (version,) = (binary.home / ".cache" / "fmedge" / "binary").glob("[0-9a-f]*")
    server, *others = [
        pid for pid in descendants(served.process.pid)
        if (Path(f"/proc/{pid}/exe").readlink().name == "fmedge")
    ]  # fmt: skip
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in others]
    assert any(b"fmedge.replica.worker" in command for command in commands)
    # The folder is held for as long as it runs, and workers run from it too.
    assert {Path(f"/proc/{pid}/exe").stat().st_ino for pid in (server, *others)} == {
        (version / "fmedge").stat().st_ino
    }


def test_a_killed_worker_is_started_again(binary: Binary, served: Served) -> None:
    def worker() -> int | None:
        for pid in descendants(served.process.pid):
            if b"fmedge.replica.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    first = worker()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert ANSWER in ask(served.url)
    assert worker() not in (None, first)
