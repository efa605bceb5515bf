"""A server whose state cannot be kept serves; one that is killed at any moment leaves state whole,
no process and nothing in the way of the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from fmedge.dispatch.forecast import LEARNED, Forecast
from tests.e2e.server import Server, launch
from tests.synthetic import cached

DEADLINE_S = 60.0
CTX_SIZE = 60000
IN_NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-ec")
KV_FOLDERS = Path("/dev/shm")


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*IN_NAMESPACE, "mount -t tmpfs none /mnt"], capture_output=True)
    return done.returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="no mounts of one's own (unshare) here")


# --- state that cannot be kept ---


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder that a server has left, with a socket's folder for short names."""
    folder = tmp_path_factory.mktemp("learned")
    with running(folder, folder / "state") as server:
        ask(folder, max_tokens=8)
        assert server.stop() == 0
    assert {"lengths", "plans"} <= set(os.listdir(folder / "state"))
    return folder / "state"


@needs_mounts
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("mount --bind {0} {0}; mount -o remount,bind,ro {0}", "Read-only file system"),
        (
            "mount -t tmpfs -o size=256k,mode=700 none {0}; cp -a {1}/. {0}; "
            "cat /dev/zero >{0}/filler 2>/dev/null || true",
            "No space left on device",
        ),
    ],
    ids=["read-only", "full"],
)
def test_where_nothing_can_be_written_it_serves_and_keeps_what_was(
    tmp_path: Path, learned: Path, mount: str, words: str
):
    state = tmp_path / "state"
    shutil.copytree(learned, state)
    script = mount.format(state, learned) + '; exec "$@"'
    with running(tmp_path, state, under=(*IN_NAMESPACE, script, "sh")) as server:
        inside = os.open(f"/proc/{server.process.pid}/root{state}", os.O_RDONLY | os.O_DIRECTORY)
        ask(tmp_path, max_tokens=8)
        assert server.stop() == 0
    try:
        assert whole_state(inside) >= {"lengths"}
        assert read(inside, "lengths") == (learned / "lengths").read_bytes()
        assert not [name for name in os.listdir(inside) if name.endswith(".new")]
    finally:
        os.close(inside)
    warnings = [line for line in server.text().splitlines() if " WARNING " in line]
    assert [w for w in warnings if f"{state}: cannot keep what is learned: {words}" in w]
    assert len([w for w in warnings if words in w]) <= 2  # each folder once: its profiles' too
    assert "Traceback" not in server.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_left_as_it_is(tmp_path: Path, learned: Path):
    state = tmp_path / "state"
    shutil.copytree(learned, state)
    for path in (state, *state.rglob("*")):
        os.chown(path, 12345, 12345)
    before = {path: path.stat() for path in state.rglob("*")}
    with running(tmp_path, state) as server:
        ask(tmp_path, max_tokens=8)
        assert server.stop() == 0
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*")} == {
        path: status.st_mtime_ns for path, status in before.items()
    }
    assert f"{state}: belongs to another user" in server.text()
    assert "Traceback" not in server.text()


# --- killed and told to stop, at any moment ---


@pytest.mark.timeout(400)
def test_killed_at_any_moment_it_leaves_state_whole_and_nothing_in_the_way(tmp_path: Path):
    state = tmp_path / "state"
    killed: list[int] = []
    for name, is_reached in start_phases(tmp_path, state):
        with starting(tmp_path, state) as server:
            wait(server, lambda reached=is_reached, at=server: reached(at), name)
            killed.append(kill_and_check(server, state, name))
    assert (tmp_path / "s").is_socket()  # left by the last; the next one takes it over
    with starting(tmp_path, state) as server:
        wait_ready(server)
        with open_stream(tmp_path):
            server.process.send_signal(signal.SIGTERM)
            wait(server, lambda: "SIGTERM" in server.text(), "draining")
            killed.append(kill_and_check(server, state, "draining"))
    with starting(tmp_path, state) as server:
        wait_ready(server)
        ask(tmp_path, max_tokens=8)
        changed_ns = state.stat().st_mtime_ns
        server.process.send_signal(signal.SIGTERM)
        wait(server, lambda: state.stat().st_mtime_ns != changed_ns, "saving")
        killed.append(kill_and_check(server, state, "saving"))
    with running(tmp_path, state) as server:
        ask(tmp_path, max_tokens=8)
        assert server.stop() == 0
    assert whole_state_of(state) >= {*LEARNED, "plans"}
    assert "cannot be used" not in server.text()
    assert not (tmp_path / "s").exists()
    left = [KV_FOLDERS / f"fmedge-kv-{os.getuid()}-{pid}" for pid in killed]
    assert not [folder for folder in left if folder.exists()]


@pytest.mark.timeout(400)
def test_told_to_stop_at_any_moment_of_its_start_it_ends_well(tmp_path: Path):
    state = tmp_path / "state"
    for name, is_reached in start_phases(tmp_path, state):
        with starting(tmp_path, state) as server:
            wait(server, lambda reached=is_reached, at=server: reached(at), name)
            family = descendants(server)
            assert server.stop(DEADLINE_S) == 0, f"{name}: {server.text()}"
        _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)
        assert not alive, name
        for word in ("Traceback", "was destroyed", "never retrieved"):
            assert word not in server.text(), f"{name}: {server.text()}"
        assert not (tmp_path / "s").exists(), name
        whole_state_of(state)


def test_two_servers_on_one_socket(tmp_path: Path):
    with running(tmp_path, tmp_path / "state"):
        second = launch(tmp_path, arguments(tmp_path, tmp_path / "other"))
        assert second.process.wait(DEADLINE_S) == 1
        assert second.text().splitlines()[-1] == (
            f"fmedge: error: {tmp_path / 's'} is in use by another server"
        )
        ask(tmp_path, max_tokens=8)


def start_phases(folder: Path, state: Path) -> Iterator[tuple[str, Callable[[Server], bool]]]:
    """Moments of a start, in their order, and how they are seen from outside."""
    yield "listening", lambda _: (folder / "s").is_socket()
    (state / "server.lock").unlink(missing_ok=True)
    yield "state is open", lambda _: (state / "server.lock").exists()
    yield "children are asked", lambda server: bool(descendants(server))
    shutil.rmtree(state / "plans", ignore_errors=True)
    yield "a plan is kept", lambda _: (state / "plans").is_dir()
    yield "loading", lambda server: ": loading " in server.text()
    yield "a worker lives", lambda server: bool(server.workers())
    yield "ready", lambda server: "fmedge: ready at" in server.text()


# --- helpers ---


def arguments(folder: Path, state: Path) -> list[str]:
    return [
        "--model", str(cached("tiny", ctx=65536)), "--alias", "tiny", "--slots", "1",
        "--threads", "1", "--ctx-size", str(CTX_SIZE), "--replicas", "1",
        "--state-dir", str(state), "--unix-socket", str(folder / "s"),
    ]  # fmt: skip


@contextlib.contextmanager
def starting(folder: Path, state: Path, under: tuple[str, ...] = ()) -> Iterator[Server]:
    server = launch(folder, arguments(folder, state), under=under)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(DEADLINE_S)


@contextlib.contextmanager
def running(folder: Path, state: Path, under: tuple[str, ...] = ()) -> Iterator[Server]:
    with starting(folder, state, under) as server:
        wait_ready(server)
        yield server


def wait_ready(server: Server) -> None:
    wait(server, lambda: "fmedge: ready at" in server.text(), "ready")


def wait(server: Server, is_so: Callable[[], bool], name: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert server.process.poll() is None, f"it ended before {name}:\n{server.text()}"
        assert time.monotonic() < deadline_s, f"no {name}:\n{server.text()}"


def descendants(server: Server) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(server.process.pid).children(recursive=True)
    return []


def kill_and_check(server: Server, state: Path, name: str) -> int:
    """SIGKILL, then: no process lives on, and what is kept is whole. The pid that was."""
    family = descendants(server)
    server.process.kill()
    server.process.wait(DEADLINE_S)
    _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)
    assert not alive, f"{name}: {alive}"
    whole_state_of(state)
    return server.process.pid


def whole_state_of(state: Path) -> set[str]:
    if not state.exists():
        return set()
    fd = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return whole_state(fd)
    finally:
        os.close(fd)


def whole_state(folder_fd: int) -> set[str]:
    """What there is under names of its own, each of which can be read."""
    names = {name for name in os.listdir(folder_fd) if not name.startswith(".")}
    for name in names & set(LEARNED):
        Forecast({}).restore(name, read(folder_fd, name))
    for name in names:
        if name.endswith(".json"):
            msgspec.json.decode(read(folder_fd, name))
        elif name in ("profiles", "plans"):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder_fd)
            try:
                whole_state(inner)
            finally:
                os.close(inner)
    return names


def read(folder_fd: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder_fd), "rb") as file:
        return file.read()


def request(folder: Path, max_tokens: int, *, is_stream: bool) -> socket.socket:
    body = msgspec.json.encode({
        "model": "tiny", "prompt": "x", "max_tokens": max_tokens, "stream": is_stream,
        "ignore_eos": True,
    })  # fmt: skip
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE_S)
    connection.connect(str(folder / "s"))
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def ask(folder: Path, max_tokens: int) -> None:
    with request(folder, max_tokens, is_stream=False) as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer


@contextlib.contextmanager
def open_stream(folder: Path) -> Iterator[None]:
    """An answer that takes long, of which the first token has come."""
    with request(folder, CTX_SIZE - 100, is_stream=True) as connection:
        received = b""
        while b"data: " not in received:
            piece = connection.recv(65536)
            assert piece, received
            received += piece
        yield
