"""fmedge under a service manager, which is played here: what it says and when, sockets that outlive
it, a watchdog that is fed only while workers live, and nothing secret in the journal."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.manager import DEADLINE_S, WATCHDOG_S, Manager

SHORT = {"model": "t", "prompt": "x", "max_tokens": 1}
LONG = {"model": "t", "prompt": "x", "max_tokens": 1500, "stream": True, "ignore_eos": True}


@pytest.fixture
def args(tiny_model: Path) -> list[str]:
    return ["--model", str(tiny_model), "--alias", "t", "--threads", "1", "--slots", "8"]


@pytest.fixture
def unix_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is too long for a socket
        yield Path(folder) / "fmedge.sock"


@pytest.fixture
def manager(tmp_path: Path, unix_path: Path) -> Iterator[Manager]:
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(unix_path))
    unix.listen(64)
    tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
    with closing(Manager(tmp_path, {"http": tcp, "local": unix})) as made:
        yield made


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(str(self._path))


def over_tcp(manager: Manager) -> http.client.HTTPConnection:
    port = manager.sockets["http"].getsockname()[1]
    return http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)


def complete(connection: http.client.HTTPConnection, *, model: str = "t", key: str = "none") -> int:
    """The status of the answer to a small request, over a connection of its own."""
    body, headers = {**SHORT, "model": model}, {"Authorization": f"Bearer {key}"}
    with closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response = connection.getresponse()
        response.read()
        return response.status


class Stream:
    """A long streamed answer, of which the first line has come."""

    def __init__(self, manager: Manager) -> None:
        self._connection = over_tcp(manager)
        self._connection.request("POST", "/v1/completions", json.dumps(LONG))
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        assert self._response.readline()

    def rest(self) -> bytes:
        with closing(self._connection):
            return self._response.read()


def is_whole(rest: bytes) -> bool:
    return b"[DONE]" in rest and b'"finish_reason":"length"' in rest


def test_from_start_to_stop_and_again_without_refusing_anybody(
    manager: Manager, unix_path: Path, args: list[str]
) -> None:
    answers: list[int] = []
    is_enough = threading.Event()

    def ask_on() -> None:
        while not is_enough.is_set():
            answers.append(complete(over_tcp(manager)))

    with ThreadPoolExecutor(4) as pool:
        early = pool.submit(complete, UnixConnection(unix_path))  # before there is a service
        with manager.service(args) as service:
            ready = manager.until("READY=1")
            assert early.result(DEADLINE_S) == 200
            before = manager.lines()[:ready]
            assert before[0].startswith("STATUS=")
            assert any(line.startswith("STATUS=loading") for line in before)
            assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
            manager.until("STATUS=serving", ready)
            asking = pool.submit(ask_on)
            stream = Stream(manager)
            service.signal(signal.SIGTERM)
            stopping = manager.until("STOPPING=1", ready)
            assert manager.until("EXTEND_TIMEOUT_USEC=", stopping) == stopping + 1
            assert is_whole(stream.rest())
            assert service.wait() == 0
            assert "READY=1" not in manager.lines(ready + 1)
            manager.until("WATCHDOG=1")
        assert unix_path.exists()
        first_num = manager.num_heard
        late = pool.submit(complete, UnixConnection(unix_path))
        with manager.service(args) as service:
            manager.until("READY=1", first_num)
            assert late.result(DEADLINE_S) == 200
            is_enough.set()
            asking.result(DEADLINE_S)
            service.signal(signal.SIGTERM)
            assert service.wait() == 0
    assert answers
    assert set(answers) == {200}
    assert "Traceback" not in service.text


def test_a_frozen_worker_is_not_vouched_for(manager: Manager, args: list[str]) -> None:
    with manager.service(args) as service:
        ready = manager.until("READY=1")
        manager.until("WATCHDOG=1", ready)
        (worker,) = service.workers()
        worker.suspend()

        def is_starved() -> bool:
            is_said = any("is silent" in line for line in manager.lines(ready))
            return is_said and time.monotonic() - manager.last_fed_s() > 2 * WATCHDOG_S

        manager.until_true(is_starved)
        worker.resume()
        manager.until("WATCHDOG=1", manager.num_heard)
        assert [w.pid for w in service.workers()] == [worker.pid]
        assert complete(over_tcp(manager)) == 200


def test_a_reload_under_load_drops_no_stream(
    manager: Manager, tiny_model: Path, tmp_path: Path
) -> None:
    config = tmp_path / "fmedge.toml"
    text = f"[[model]]\nmodel = '{tiny_model}'\nname = 't'\nthreads = 1\nslots = 4\n"
    config.write_text(text)
    with manager.service(["--config", str(config)]) as service, ThreadPoolExecutor(4) as pool:
        ready = manager.until("READY=1")
        (worker,) = service.workers()
        streams = [Stream(manager) for _ in range(4)]
        rests = [pool.submit(stream.rest) for stream in streams]
        config.write_text(f"{text}aliases = ['u']\n")
        service.signal(signal.SIGHUP)
        reloading = manager.until("RELOADING=1", ready)
        assert manager.until("MONOTONIC_USEC=", reloading) == reloading + 1
        again = manager.until("READY=1", reloading)
        assert all(is_whole(rest.result(DEADLINE_S)) for rest in rests)
        assert complete(over_tcp(manager), model="u") == 200
        assert [w.pid for w in service.workers()] == [worker.pid]
        config.write_text("[[model]\n")
        service.signal(signal.SIGHUP)
        refused = manager.until("RELOADING=1", again + 1)
        manager.until("READY=1", refused)
        manager.until_true(lambda: any("not read anew" in line for line in manager.lines(refused)))
        assert complete(over_tcp(manager), model="u") == 200
        service.signal(signal.SIGTERM)
        manager.until("STOPPING=1", refused)
        assert service.wait() == 0


def test_sockets_that_cannot_be_used_end_the_start(tmp_path: Path, args: list[str]) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    with closing(Manager(tmp_path, {"http": datagrams})) as manager:
        with manager.service(args) as service:
            assert service.wait() == 1
        assert "fmedge: error: socket 'http'" in service.text
        failed = manager.until("STATUS=socket 'http'")
        assert "use ListenStream=" in manager.lines()[failed]


def test_nothing_secret_is_logged(
    manager: Manager, args: list[str], tmp_path: Path, unix_path: Path
) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "keys").write_text("alice sesame-key-1\nsesame-key-2\n")
    (folder / "keys").chmod(0o640)  # as the service manager leaves them
    config = tmp_path / "fmedge.toml"
    config.write_text('[server]\napi_key_file = "${CREDENTIALS_DIRECTORY}/keys"\n')
    args = [*args, "--config", str(config), "--log-level", "debug", "--log-format", "journal"]
    with manager.service(args, {"CREDENTIALS_DIRECTORY": str(folder)}) as service:
        manager.until("READY=1")
        for key, status in (
            ("sesame-key-1", 200), ("sesame-key-2", 200), ("sesame-key-3", 401),
        ):  # fmt: skip
            assert complete(over_tcp(manager), key=key) == status
        secret = "sesame-prompt"
        bodies: list[object] = [
            {**SHORT, "prompt": secret},
            {**SHORT, "prompt": [secret]},
            {**SHORT, "prompt": {"text": secret}},
            {**SHORT, secret: 1},
            {"model": "t", "messages": [{"role": "user", "content": secret}], "max_tokens": 1},
            {"model": "t", "messages": [{"role": secret, "content": "x"}]},
            {"model": secret, "prompt": secret},
        ]
        raw = [json.dumps(body) for body in bodies] + [f'{{"prompt": "{secret}', secret]
        for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize"):
            for body in raw:
                with closing(over_tcp(manager)) as connection:
                    key = {"Authorization": "Bearer sesame-key-1"}
                    connection.request("POST", path, body, key)
                    assert connection.getresponse().read()
        with closing(UnixConnection(unix_path)) as connection:
            connection.connect()
            connection.sock.sendall(
                b"GET /\x01sesame-path HTTP/1.1\r\nAuthorization: sesame\r\n\r\n"
            )
            assert connection.sock.recv(1 << 16)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    log = service.text
    assert "sent what is not valid HTTP" in log  # it does say what goes on
    assert all(line[0] == "<" or line.startswith("fmedge: ") for line in log.splitlines())
    assert "other users may read" not in log
    assert "sesame" not in log
    assert "sesame" not in str(manager.lines())
