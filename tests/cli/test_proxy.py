"""An environment with a proxy: nothing of ours for a server is sent to it, whatever NO_PROXY says.

The proxy here is real: it listens, and would answer.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.cli.fake_openai import FakeServer, document
from tests.cli.test_run import echo
from tests.e2e.server import serve
from tests.synthetic import cached

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--threads", "1", "--placement", "manual", "--profile", "prior"]


@pytest.fixture
async def proxy() -> AsyncIterator[FakeServer]:
    server = FakeServer(lambda *_: [document(502, {"error": {"message": "from the proxy"}})])
    async with server.running():
        yield server


def environment(proxy: FakeServer) -> dict[str, str]:
    names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    others = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}
    return {**others, **dict.fromkeys(names, proxy.url), "PYTHONPATH": str(ROOT)}


async def fmedge(*args: str, env: dict[str, str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fmedge", *args, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_the_proxy_would_answer(proxy: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' clients do go to it: the tests below could fail."""
    for name, value in environment(proxy).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with openai.AsyncOpenAI(
        base_url="http://127.0.0.1:1/v1", api_key="x", max_retries=0
    ) as client:
        with pytest.raises(openai.InternalServerError, match="from the proxy"):
            await client.models.list()


def fake(path: str, body: dict[str, Any]) -> list[bytes]:
    """A chat; everything else is refused."""
    if path in ("/v1/models", "/v1/chat/completions"):
        return echo(path, body)
    return [document(404, {"error": {"message": "no"}})]


async def test_commands_that_ask_a_server(proxy: FakeServer) -> None:
    env = environment(proxy)
    async with FakeServer(fake).running() as server:
        answered = await fmedge("run", "--url", server.url, "m", "hi", env=env)
        tried = ["--requests", "1", "--warmup", "0", "--prompt-style", "tokens", "--model", "m"]
        for command in (["ps"], ["why"], ["load", "m"], ["workflows"], ["bench", *tried]):
            await fmedge(*command, "--url", server.url, env=env)
        paths = {path.partition("?")[0] for path, *_ in server.asked}
    assert answered == (0, "1:hi\n", "")
    assert {"/v1/chat/completions", "/v1/completions", "/admin/status"} <= paths
    assert proxy.num_connections == 0


async def test_a_server_of_ours(proxy: FakeServer, tmp_path: Path) -> None:
    """It starts, loads, answers `run` and `doctor`, and stops without a word to the proxy."""
    env = {**environment(proxy), "XDG_STATE_HOME": str(tmp_path)}
    model = cached("tiny")

    def started() -> tuple[str, list[int]]:
        with serve(tmp_path, ["--model", str(model), "--alias", "m", *QUICK], env=env) as server:
            words = ["--url", server.url, "m", "hi", "--max-tokens", "2"]
            done = subprocess.run(
                [sys.executable, "-m", "fmedge", "run", *words], env=env, timeout=90,
                capture_output=True, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            return server.text(), [done.returncode]

    text, codes = await asyncio.to_thread(started)
    assert "ready at" in text
    assert codes == [0]
    assert proxy.num_connections == 0
