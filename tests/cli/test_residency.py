"""`fmedge load`, `fmedge unload`, and what `fmedge ps` says of memory."""

from __future__ import annotations

import asyncio
import json

import pytest

from fmedge.cli import main
from tests.cli.fake_openai import FakeServer, document

PLACED = [
    {"device": "CPU", "first_layer": 0, "last_layer": 0, "tensors": "input", "bytes": 1},
    {"device": "gpu0", "first_layer": 0, "last_layer": 15, "tensors": "dense", "bytes": 1},
    {"device": "CPU", "first_layer": 0, "last_layer": 7, "tensors": "experts", "bytes": 1},
    {"device": "gpu1", "first_layer": 16, "last_layer": 16, "tensors": "all", "bytes": 1},
]
REPLICA = {
    "replica": "chat/0", "state": "loaded", "why": "it fits beside the others", "since_s": 3.0,
    "load_s": 2.0, "file": "f", "ctx_size": 1, "slots": 1, "kv_type": "f16",
    "bytes": {"gpu0": 2_000_000_000, "CPU": 1000}, "placement": PLACED,
}  # fmt: skip
MODEL = {
    "model": "chat", "state": "loaded", "why": "", "is_pinned": True, "idle_s": 75.0,
    "keep_alive_left_s": None, "rate_per_s": 0.1, "ready_in_s": 0.0, "error": "",
    "replicas": [REPLICA],
}  # fmt: skip
WAITING = "2 requests wait for it, the first for 1.0 s; 1.00 GiB on gpu0 more must become free"
UNLOADED = MODEL | {
    "model": "code", "state": "unloaded", "is_pinned": False, "idle_s": 0.1, "ready_in_s": 4.5,
    "why": WAITING, "replicas": [REPLICA | {"state": "unloaded", "why": "evicted"}],
}  # fmt: skip
FAILED = MODEL | {"model": "bad", "state": "failed", "error": "no such file", "replicas": []}
STATUS = {"models": [], "load": {"models": []}, "residency": [MODEL, UNLOADED, FAILED]}


async def test_ps_says_what_is_where_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeServer(lambda *_: [document(200, STATUS)]).running() as server:
        assert await asyncio.to_thread(main, ["ps", "--url", server.url]) == 0
    chat, code, bad = capsys.readouterr().out.splitlines()[-3:]
    assert "0-15 gpu0, 0-7 experts CPU, 16 gpu1" in chat
    assert "2.0 GB gpu0" in chat
    assert "1 min 15 s ago" in chat
    assert "pinned" in chat
    assert "it fits beside the others" in chat
    assert "unloaded (~4.50 s)" in code
    assert WAITING in code
    assert "failed" in bad
    assert "no such file" in bad


@pytest.mark.parametrize(
    ("verb", "words"), [("load", "chat is loaded: 2.0 GB on gpu0"), ("unload", "chat is loaded.")]
)
async def test_commands(verb: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeServer(lambda *_: [document(200, MODEL)]).running() as server:
        assert await asyncio.to_thread(main, [verb, "chat", "--url", server.url]) == 0
        assert words in capsys.readouterr().err
        assert await asyncio.to_thread(main, [verb, "chat", "--json", "--url", server.url]) == 0
        assert json.loads(capsys.readouterr().out) == MODEL
        assert server.asked[0][:2] == (f"/admin/models/{verb}", {"model": "chat"})


async def test_the_servers_words_are_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"error": {"message": "Model chat is pinned: it stays.", "code": "pinned"}}
    async with FakeServer(lambda *_: [document(409, error)]).running() as server:
        assert await asyncio.to_thread(main, ["unload", "chat", "--url", server.url]) == 1
    assert "fmedge: error: Model chat is pinned" in capsys.readouterr().err
