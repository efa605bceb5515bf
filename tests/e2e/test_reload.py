"""SIGHUP to a real server: models come, change and go under streams; what is wrong is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server.test_access import make_certificate
from tests.server.test_emulation import TEXT as CLUSTER
from tests.server.test_lifecycle import ROOT, Serve, serve
from tests.synthetic import cached

DEADLINE_S = 90.0
TINY = cached("tiny")
LONG = cached("tiny", ctx=65536)
OTHER = cached("tiny", vocab_size=600)
MANY = 30_000
"""Tokens of a stream that outlasts everything here: it is left before its end."""

FEW = 200


def until(is_so: Callable[[], bool], server: Serve) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s, server.text
        assert server.process.poll() is None, server.text
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.02)


class Reloading:
    """A server, and the file that it is configured by."""

    def __init__(self, server: Serve, file: Path) -> None:
        self.server, self.file = server, file
        self.port = server.wait_ready()

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def outcomes(self) -> list[str]:
        said = re.compile(r"the configuration (was read anew: .*|is not taken.*)")
        return [found[1] for line in list(self.server.lines) if (found := said.search(line))]

    def reload(self, text: str | None = None) -> str:
        """Its outcome."""
        if text is not None:
            self.write(text)
        num_before = len(self.outcomes())
        self.server.process.send_signal(signal.SIGHUP)
        until(lambda: len(self.outcomes()) > num_before, self.server)
        return self.outcomes()[-1]

    def until_said(self, text: str) -> None:
        until(lambda: text in self.server.text, self.server)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body and json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def complete(self, model: str, **headers: str) -> tuple[int, Any]:
        body = {"model": model, "prompt": "x", "max_tokens": 5, "ignore_eos": True}
        return self.ask("POST", "/v1/completions", body, **headers)

    def models(self) -> dict[str, str]:
        return {card["id"]: card["status"] for card in self.ask("GET", "/v1/models")[1]["data"]}

    def pids(self) -> dict[str, int]:
        """Of replicas that serve, by name."""
        models = self.ask("GET", "/admin/status")[1]["load"]["models"]
        statuses = [load["status"] for model in models for load in model["replicas"]]
        return {s["name"]: s["pid"] for s in statuses if s["state"] == "ready"}

    def metric(self, name: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return float(next(x for x in text.splitlines() if x.startswith(name)).split()[-1])


class Stream:
    """A streamed completion, read by a thread of its own."""

    def __init__(self, port: int, model: str, max_tokens: int = MANY) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        body = {
            "model": model, "prompt": "x", "max_tokens": max_tokens, "stream": True,
            "ignore_eos": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        self._connection.request("POST", "/v1/completions", json.dumps(body))
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            with contextlib.closing(self._connection):
                error = json.loads(self._response.read())["error"]
            raise RefusedError(self._response.status, error["code"])
        self.data = bytearray(self._response.readline())
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(http.client.IncompleteRead, OSError):
            while chunk := self._response.read1(1 << 16):
                self.data += chunk

    @property
    def is_running(self) -> bool:
        return b"[DONE]" not in self.data and self._thread.is_alive()

    def goes_on(self) -> bool:
        """Whether more of it comes."""
        num_before, deadline_s = len(self.data), time.monotonic() + DEADLINE_S
        while len(self.data) == num_before and self.is_running and time.monotonic() < deadline_s:
            self._thread.join(0.02)
        return len(self.data) > num_before and self.is_running

    def finish(self) -> str:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self._connection.close()
        return self.data.decode()

    def leave(self) -> None:
        assert self._connection.sock is not None
        self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.finish()


class Load:
    """Streams of one model, one after the other, until it is refused or enough."""

    def __init__(self, port: int, model: str) -> None:
        self._port, self._model = port, model
        self.whole = self.broken = 0
        self.refused: tuple[int, str] | None = None
        self._is_enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_enough.is_set():
            try:
                text = Stream(self._port, self._model, FEW).finish()
            except RefusedError as error:
                self.refused = error.status, error.code
                return
            is_whole = f'"completion_tokens":{FEW}' in text and text.rstrip().endswith("[DONE]")
            self.whole += is_whole
            self.broken += not is_whole

    def end(self) -> None:
        self._is_enough.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        assert self.whole
        assert not self.broken


class RefusedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


def block(name: str, path: Path = TINY, more: str = "slots = 2\nctx_size = 512") -> str:
    return f'[[model]]\nmodel = "{path}"\nname = "{name}"\nthreads = 1\n{more}\n'


def long() -> str:
    return block("long", LONG, "slots = 2\nctx_size = 40000")


def head(more: str = "", placement: str = "auto") -> str:
    return f'[server]\nprofile = "prior"\nplacement = "{placement}"\n{more}\n'


@contextlib.contextmanager
def reloading(
    folder: Path, text: str, *args: str, env: dict[str, str] | None = None
) -> Iterator[Reloading]:
    file = folder / "fmedge.toml"
    file.write_text(text)
    with serve("--config", str(file), "--port", "0", *args, env=env) as server:
        made = Reloading(server, file)
        yield made
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in server.text
        assert "was destroyed" not in server.text


@pytest.mark.parametrize("placement", ["auto", "once", "manual"])
def test_no_stream_is_dropped_while_models_come_change_and_go(
    tmp_path: Path, placement: str
) -> None:
    top = head(placement=placement)
    with reloading(tmp_path, top + block("kept") + block("gone")) as made:
        until(lambda: len(made.pids()) == 2, made.server)
        before = made.pids()
        kept = [Load(made.port, "kept") for _ in range(3)]
        gone = [Load(made.port, "gone") for _ in range(2)]
        until(lambda: all(load.whole for load in (*kept, *gone)), made.server)
        changed = block("kept", more='slots = 3\nctx_size = 512\naliases = ["k"]')
        said = made.reload(top + changed + block("new"))
        assert said == "was read anew: new added; gone removed; kept loaded anew"
        assert made.models().keys() == {"kept", "k", "new"}
        assert made.complete("new")[0] == 200
        made.until_said("gone has left")
        until(lambda: made.pids().keys() == {"kept/1", "new/0"}, made.server)
        until(lambda: not any(map(psutil.pid_exists, before.values())), made.server)
        assert made.complete("k")[0] == 200
        for load in (*kept, *gone):
            load.end()
        assert {load.refused for load in kept} == {None}
        assert {load.refused for load in gone} == {(404, "model_not_found")}
        assert made.metric('fmedge_config_reloads_total{outcome="applied"}') == 1
        assert made.metric("fmedge_config_last_success_timestamp_seconds") > 0


def test_a_removed_model_finishes_what_runs_for_as_long_as_it_may(tmp_path: Path) -> None:
    small = block("small")
    with reloading(tmp_path, head() + long() + small) as made:
        stream = Stream(made.port, "long")
        assert made.reload(head() + small) == "was read anew: long removed"
        assert made.complete("long")[0] == 404
        assert made.models().keys() == {"small"}
        assert stream.goes_on()
        # It comes again while it leaves: who asks is to come again.
        assert made.reload(head() + small + long()) == "was read anew: long added"
        status, body = made.complete("long")
        assert (status, body["error"]["code"]) == (503, "loading")
        assert stream.goes_on()
        stream.leave()
        made.until_said("long has left")
        until(lambda: made.complete("long")[0] == 200, made.server)
        stream = Stream(made.port, "long")
        said = made.reload(head("drain_timeout_s = 0.2") + small)
        assert said == "was read anew: long removed; drain_timeout_s changed"
        assert '"code":"model_removed"' in stream.finish()


@pytest.mark.parametrize("placement", ["auto", "manual"])
def test_another_model_takes_a_name_when_what_runs_has_finished(
    tmp_path: Path, placement: str
) -> None:
    top = head(placement=placement)
    with reloading(tmp_path, top + long()) as made:
        stream = Stream(made.port, "long")
        (pid,) = made.pids().values()
        said = made.reload(top + block("long", OTHER))
        assert said == "was read anew: long replaced by another of its name"
        status, body = made.complete("long")
        assert (status, body["error"]["code"]) == (503, "loading")
        assert stream.goes_on()
        stream.leave()
        until(lambda: made.complete("long")[0] == 200, made.server)
        assert not psutil.pid_exists(pid)
        (card,) = made.ask("GET", "/v1/models")[1]["data"]
        assert card["meta"]["n_vocab"] == 600


@pytest.mark.parametrize("placement", ["auto", "manual"])
def test_reloads_that_overtake_what_they_began(tmp_path: Path, placement: str) -> None:
    """Replicas still load and models still leave when the next one comes."""
    top = head(placement=placement)
    a2, a3 = block("a"), block("a", more="slots = 3\nctx_size = 512")
    b, other, c = block("b"), block("b", OTHER), block("c")
    with reloading(tmp_path, top + a2 + b) as made:
        load = Load(made.port, "a")
        for text in (a3 + c, a2 + b, a3 + other, a2 + b, a2 + c, a3 + other):
            assert made.reload(top + text).startswith("was read anew: ")
        until(lambda: made.complete("b")[0] == 200, made.server)
        until(lambda: sorted(name[0] for name in made.pids()) == ["a", "b"], made.server)
        load.end()
        assert load.refused is None
        models = made.ask("GET", "/admin/status")[1]["load"]["models"]
        assert sorted(model["name"] for model in models) == ["a", "b"]


def test_what_is_wrong_is_refused_as_a_whole(tmp_path: Path) -> None:
    good = head() + block("a")
    keys, cut = tmp_path / "keys", tmp_path / "cut.gguf"
    keys.write_text("# none\n")
    cut.write_bytes(TINY.read_bytes()[:5000])
    wrong = {
        "[server": "not valid TOML",
        head("hots = 1") + block("b"): "unknown key 'hots'; did you mean 'host'?",
        good + block("b", tmp_path / "no.gguf"): "There is no file",
        good + block("b", cut): "cut.gguf",
        good + block("b", Path("hf:no/such")): "fmedge pull hf:no/such",
        good + block("b", more="slots = 256\nctx_size = 16000000"): "no plan",
        good + block("a"): "two models are called 'a'",
        head(f'api_key_file = "{keys}"') + block("a"): "holds no API key",
        head('default_sla = "fast"') + block("a"): "there is no class 'fast'",
        head('demand_file = "/no/such"') + block("a"): "/no/such",
    }
    with reloading(tmp_path, good) as made:
        pids = made.pids()
        for number, (text, words) in enumerate(wrong.items(), 1):
            said = made.reload(text)
            assert said.startswith("is not taken, and the old one stays in force: ")
            assert words in said
            assert made.metric('fmedge_config_reloads_total{outcome="refused"}') == number
        made.file.unlink()
        assert "fmedge.toml" in made.reload()
        assert made.models() == {"a": "ready"}
        assert made.complete("a")[0] == 200
        assert made.pids() == pids
        assert made.reload(good) == "was read anew: nothing changed"
        assert made.pids() == pids


def test_by_hand_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    top = head(placement="manual")
    with reloading(tmp_path, top + block("a")) as made:
        pids = made.pids()
        wrong = top + block("a", more="slots = 5") + block("b", more='devices = ["CUDA7"]')
        said = made.reload(wrong)
        assert said.startswith("is not taken, and the old one stays in force: Replica b/0")
        assert made.models() == {"a": "ready"}
        assert made.complete("a")[0] == 200
        assert made.pids() == pids
        status = made.ask("GET", "/admin/status")[1]
        assert [model["name"] for model in status["load"]["models"]] == ["a"]


def test_keys_promises_and_limits(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice one\n")
    keys.chmod(0o600)
    top = head(f'api_key_file = "{keys}"\nmax_body_mib = 3\nkv_store_mib = 9')
    with reloading(tmp_path, top + block("a")) as made:
        pid = made.server.process.pid
        connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=DEADLINE_S)

        def status(key: str, path: str = "/v1/models") -> int:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            response = connection.getresponse()
            response.read()
            return response.status

        with contextlib.closing(connection):
            assert (status("one"), status("two")) == (200, 401)
            keys.write_text("alice two\n")
            assert made.reload() == "was read anew: API keys changed"
            assert (status("one"), status("two")) == (401, 200)
            more = "[sla.fast]\nttft_ms = 60000\n[workflows.w]\ne2e_ms = 60000\n"
            other = top.replace("= 9", "= 8").replace("= 3", "= 4") + 'log_level = "debug"\n'
            said = made.reload(other + more + block("a"))
            assert said == "was read anew: log_level, [sla], [workflows] changed"
            made.until_said("max_body_mib, kv_store_mib: changes when the server is started again")
            headers = {"Authorization": "Bearer two", "x-fmedge-sla": "fast",
                       "x-fmedge-workflow": "w", "x-fmedge-workflow-id": "1"}  # fmt: skip
            assert made.complete("a", **headers)[0] == 200
            assert made.reload(head() + block("a")).endswith("API keys changed")
            assert status("", "/openapi.json") == 200
        assert made.server.process.pid == pid


def test_a_certificate_is_renewed(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    top = head(f'tls_cert = "{cert}"\ntls_key = "{key}"')

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", made.port), timeout=DEADLINE_S)

    with reloading(tmp_path, top + block("a")) as made:
        old = Path(cert).read_text()
        assert served().strip() in old
        make_certificate(tmp_path)
        assert Path(cert).read_text() != old
        assert served().strip() in old
        assert made.reload() == "was read anew: TLS certificate changed"
        assert served().strip() in Path(cert).read_text()
        Path(key).write_text("no key")
        assert "are no certificate with its key" in made.reload()
        assert served().strip() in Path(cert).read_text()
        make_certificate(tmp_path)
        assert made.reload(head() + block("a")) == "was read anew: TLS certificate changed"
        made.until_said("tls_cert, tls_key: changes when the server is started again")


def test_signals_come_when_they_come(tmp_path: Path) -> None:
    file = tmp_path / "fmedge.toml"
    file.write_text(head() + block("a"))
    with serve("--config", str(file), "--port", "0") as server:
        caught = Path(f"/proc/{server.process.pid}/status")
        bit = 1 << (signal.SIGHUP - 1)

        def is_caught() -> bool:
            found = re.search(r"SigCgt:\s+(\w+)", caught.read_text())
            return found is not None and bool(int(found[1], 16) & bit)

        until(is_caught, server)
        file.write_text(head() + block("a") + block("b"))
        for _ in range(3):  # while it starts
            server.process.send_signal(signal.SIGHUP)
        made = Reloading(server, file)
        until(lambda: bool(made.outcomes()), server)
        until(lambda: made.models().keys() == {"a", "b"}, server)
        made.write(head() + block("c"))
        server.process.send_signal(signal.SIGHUP)
        made.until_said("reading the configuration anew")
        made.write(head() + block("d"))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: made.models().keys() == {"d"}, server)
        made.write(head() + block("e"))
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "Traceback" not in server.text
    assert "was destroyed" not in server.text


def test_an_emulated_server_keeps_its_configuration(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(CLUSTER)
    with serve("--emulate", str(cluster), "--port", "0") as server:
        made = Reloading(server, cluster)
        assert "an emulated server keeps its configuration" in made.reload()
        assert made.models().keys() == {"chat"}
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize("is_nohup", [False, True])
def test_a_terminal_that_closes_ends_the_server(tmp_path: Path, is_nohup: bool) -> None:
    file, log = tmp_path / "fmedge.toml", tmp_path / "log"
    file.write_text(head() + block("a"))
    command = [sys.executable, "-m", "fmedge", "serve", "--config", str(file), "--port", "0"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
        os.chdir(ROOT)
        if is_nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(command[0], command)
    process = psutil.Process(pid)
    deadline_s = time.monotonic() + DEADLINE_S

    def until_said(words: str, times: int = 1, again: Callable[[], object] = bool) -> None:
        while (log.read_text() if log.exists() else "").count(words) < times:
            assert time.monotonic() < deadline_s, log.read_text()
            again()
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(0.05)

    try:
        until_said("fmedge: ready")
        os.kill(pid, signal.SIGHUP)  # the terminal is there: somebody asks for a reload
        until_said("was read anew")
        os.close(terminal)
        if is_nohup:
            while Path(f"/proc/{pid}/stat").read_text().split()[6] != "0":  # it has a terminal
                assert time.monotonic() < deadline_s
            # One that comes with the terminal's own is taken for it.
            until_said("was read anew", 2, again=lambda: os.kill(pid, signal.SIGHUP))
            os.kill(pid, signal.SIGTERM)
        status = process.wait(DEADLINE_S)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert status == 0
    assert ("the terminal was closed: finishing what runs" in log.read_text()) is not is_nohup
