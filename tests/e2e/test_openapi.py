"""schemathesis throws generated requests at the server: a 5xx or undocumented status fails."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.server import Server, serve


@pytest.fixture
def small_server(tiny_model: Path, tmp_path: Path):
    """Generated requests ask for all the context there is, many times over: give them little."""
    args = ["--model", str(tiny_model), "--alias", "tiny", "--threads", "1"]
    with serve(tmp_path, [*args, "--ctx-size", "96", "--slots", "8"]) as running:
        yield running


def test_schemathesis_finds_no_server_error(small_server: Server, tmp_path: Path):
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{small_server.url}/openapi.json",
        "--checks=not_a_server_error,status_code_conformance,content_type_conformance",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=10",
        "--request-timeout=30",
        "--seed=1",
        "--generation-database=none",
        "--no-color",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_every_documented_path_exists(server: Server):
    with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    assert {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/health",
        "/metrics",
    } <= set(document["paths"])
