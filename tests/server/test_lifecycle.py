"""`fmedge serve` as a process: ready line, signals, drain, lifeline, TLS and keys."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server.test_access import make_certificate
from tests.synthetic import cached

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


class Serve:
    """A running server; `lines` are its stderr so far."""

    def __init__(self, *args: str, env: dict[str, str] | None = None, fds: tuple[int, ...] = ()):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmedge", "serve", *args],
            stderr=subprocess.PIPE, text=True, cwd=ROOT, pass_fds=fds,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        )  # fmt: skip
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.lines.append(line)
                if line.startswith("fmedge: ready"):
                    self._ready.set()
        self._ready.set()

    def wait_ready(self) -> int:
        assert self._ready.wait(TIMEOUT_S)
        assert self.banner, self.text
        found = re.search(r":(\d+) with", self.banner)
        return int(found[1]) if found else 0

    @property
    def banner(self) -> str:
        """The line that says ready; others may follow it."""
        return next((line for line in self.lines if line.startswith("fmedge: ready at ")), "")

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code

    @property
    def text(self) -> str:
        return "".join(self.lines)


@contextlib.contextmanager
def serve(*args: str, **fields: Any) -> Iterator[Serve]:
    server = Serve(*args, **fields)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.wait()


@pytest.fixture(scope="module")
def tiny() -> list[str]:
    return ["--model", str(cached("tiny")), "--alias", "t", "--threads", "1"]


def get(port: int, path: str, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


@contextlib.contextmanager
def stream(port: int, max_tokens: int) -> Iterator[http.client.HTTPResponse]:
    """A streamed answer of which one line has come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    body = {
        "model": "t",
        "prompt": "x",
        "max_tokens": max_tokens,
        "stream": True,
        "ignore_eos": True,
    }
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body))
        with connection.getresponse() as response:
            assert response.status == 200
            assert response.readline()
            yield response


def test_serves_reports_and_drains(tiny: list[str]) -> None:
    with serve(*tiny, "--port", "0", "--replicas", "2", "--slots", "4") as server:
        port = server.wait_ready()
        assert "(t)" in server.banner
        assert get(port, "/health")[0] == 200
        status, body = get(port, "/admin/status")
        assert status == 200
        assert body["models"][0]["aliases"] == ["t"]
        replicas = body["load"]["models"][0]["replicas"]
        assert len(replicas) == 2
        deadline_s = time.monotonic() + TIMEOUT_S  # ready with the first that is; others follow
        while not all(replica["status"]["state"] == "ready" for replica in replicas):
            assert time.monotonic() < deadline_s
            replicas = get(port, "/admin/status")[1]["load"]["models"][0]["replicas"]
        pids = [replica["status"]["pid"] for replica in replicas]
        assert all(psutil.pid_exists(pid) for pid in pids)
        shown = subprocess.run(
            [sys.executable, "-m", "fmedge", "ps", "--url", f"http://127.0.0.1:{port}"],
            capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert shown.returncode == 0
        assert re.search(r"^tiny\S* +t +0 +ready +\d+ +0/4", shown.stdout, re.MULTILINE)
        with stream(port, 1500) as response:
            server.process.send_signal(signal.SIGTERM)
            rest = response.read()
        assert b"[DONE]" in rest
        assert b'"finish_reason":"length"' in rest
        assert server.wait() == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert "Traceback" not in server.text


def test_a_second_signal_stops_at_once(tiny: list[str]) -> None:
    slow = ["--model", str(cached("tiny", ctx=65536)), "--alias", "t", "--threads", "1",
            "--ctx-size", "60000"]  # fmt: skip
    with serve(*slow, "--port", "0", "--slots", "1") as server:
        port = server.wait_ready()
        with stream(port, 59000) as response:
            server.process.send_signal(signal.SIGINT)
            while get(port, "/health")[0] != 503:  # draining, and the port still answers
                pass
            server.process.send_signal(signal.SIGINT)
            assert server.wait() == 130
            with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
                assert b"[DONE]" not in response.read()
    assert "stopping at once" in server.text


def test_the_lifeline_says_ready_and_stops_the_server(tiny: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT_S)
    args = ["--unix-socket", str(folder / "s"), "--lifeline-fd", str(theirs.fileno())]
    with ours, theirs, serve(*tiny, *args, fds=(theirs.fileno(),)) as server:
        theirs.close()
        assert ours.recv(16) == b"ready"
        server.wait_ready()
        assert f"unix:{folder / 's'}" in server.banner
        ours.close()
        assert server.wait() == 0
    assert not folder.exists()


def test_told_to_stop_while_loading(tiny: list[str]) -> None:
    ours, theirs = socket.socketpair()
    args = ["--port", "0", "--lifeline-fd", str(theirs.fileno())]
    with theirs, serve(*tiny, *args, fds=(theirs.fileno(),)) as server:
        ours.close()
        assert server.wait() == 0
    assert "fmedge: ready" not in server.text
    assert "Traceback" not in server.text


def test_keys_and_tls(tiny: list[str], tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    keys = tmp_path / "keys"
    keys.write_text("sesame\n")
    keys.chmod(0o600)
    env = {"FMEDGE_API_KEY_FILE": str(keys), "FMEDGE_TLS_CERT": cert, "FMEDGE_TLS_KEY": key}
    with serve(*tiny, "--port", "0", env=env) as server:
        port = server.wait_ready()
        assert f"https://127.0.0.1:{port}" in server.banner
        context = ssl.create_default_context(cafile=cert)
        for headers, expected in (({}, 401), ({"Authorization": "Bearer sesame"}, 200)):
            connection = http.client.HTTPSConnection(
                "127.0.0.1", port, context=context, timeout=TIMEOUT_S
            )
            connection.request("GET", "/v1/models", headers=headers)
            assert connection.getresponse().status == expected
            connection.close()
        server.process.terminate()
        assert server.wait() == 0


def test_replicas_of_one_model_that_differ(tmp_path: Path) -> None:
    config, state = tmp_path / "fmedge.toml", tmp_path / "state"
    config.write_text(
        f"[[model]]\nmodel = '{cached('tiny')}'\nname = 't'\nthreads = 1\n"
        "[[replica]]\nmodel = 't'\nname = 'many'\nslots = 3\n"
        f"[[replica]]\nmodel = 't'\nfile = '{cached('tiny', quant='q8_0')}'\nslots = 1\n"
    )
    args = ["--config", str(config), "--state-dir", str(state), "--port", "0"]
    with serve(*args) as server:
        port = server.wait_ready()
        with stream(port, 8) as response:
            assert b"[DONE]" in response.read()
        _, body = get(port, "/admin/status")
        (model,) = body["models"]
        assert [r["quant"] for r in model["replicas"]] == ["F16", "Q8_0"]
        statuses = [r["status"] for r in body["load"]["models"][0]["replicas"]]
        assert [s["name"] for s in statuses] == ["many", "t/1"]
        server.process.terminate()
        assert server.wait() == 0
    assert state.stat().st_mode & 0o777 == 0o700
    assert "Traceback" not in server.text


def test_two_servers_share_a_state_folder(tiny: list[str], tmp_path: Path) -> None:
    args = [*tiny, "--state-dir", str(tmp_path / "state"), "--port", "0"]
    with serve(*args) as first:
        first.wait_ready()
        with serve(*args) as second:
            second.wait_ready()
            assert "another server" in second.text
            second.process.terminate()
            assert second.wait() == 0
        first.process.terminate()
        assert first.wait() == 0
    assert "another server" not in first.text


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("[sla.a]\nttft_ms = 0\n", 2, "[sla.a] ttft_ms"),
        ("[sla.a]\nttft_ms = 5\nmodels = ['tt']\n", 2, "no model is called 'tt'"),
        ("[[replica]]\nmodel = 't'\nfile = 'DEEP'\n", 1, "number of layers is 3, not 2"),
    ],
)
def test_configurations_that_cannot_start_say_why(
    tmp_path: Path, text: str, code: int, words: str
) -> None:
    config = tmp_path / "fmedge.toml"
    text = text.replace("DEEP", str(cached("tiny", n_layers=3)))
    config.write_text(f"[[model]]\nmodel = '{cached('tiny')}'\nname = 't'\n{text}")
    with serve("--config", str(config), "--port", "0") as server:
        assert server.wait() == code
    assert server.lines[-1].startswith(f"fmedge: error: {config}: ")
    assert words in server.lines[-1]
    assert "Traceback" not in server.text


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--model", "nowhere.gguf"], 1, "There is no file nowhere.gguf"),
        (["--model", "TINY", "--model", "TINY"], 2, "two models are called"),
        (["--model", "TINY", "--devices", "NOPE1"], 2, "NOPE1"),
        (["--model", "TINY", "--ctx-size", "9000000", "--slots", "200"], 3, "GiB"),
        (["--model", "LICENSE"], 1, "not a GGUF"),
        (["--model", "TINY", "--chat-template-file", "/nowhere"], 2, "chat template"),
        (["--model", "TINY", "--api-key-file", "/nowhere"], 2, "API key file"),
    ],
)
def test_what_cannot_start_says_why(args: list[str], code: int, words: str) -> None:
    named = [str(cached("tiny")) if arg == "TINY" else arg for arg in args]
    with serve(*named, "--port", "0") as server:
        assert server.wait() == code
    last = server.lines[-1]
    assert last.startswith("fmedge: error: ")
    assert words in last
    assert "Traceback" not in server.text


def test_json_logs(tiny: list[str]) -> None:
    with serve(*tiny, "--port", "0", "--log-format", "json") as server:
        server.wait_ready()
        server.process.terminate()
        assert server.wait() == 0
    logged = [json.loads(line) for line in server.lines if not line.startswith("fmedge: ")]
    assert any("SIGTERM" in entry["message"] for entry in logged)
    assert all(entry["level"] in ("debug", "info", "warning", "error") for entry in logged)
