"""`fmedge ps`: what it says of servers that load, refuse, or are something else."""

from __future__ import annotations

import asyncio
import json

import pytest

from fmedge.cli import main
from fmedge.cli.ps import server_url
from fmedge.config import ClientConfig, Config, ServerConfig
from tests.cli.fake_openai import FakeServer, document

LOADING = {"status": "loading", "models": {"m": "loading"}, "load_fraction": {"m": 0.25}}


async def test_while_loading(capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeServer(lambda *_: [document(503, LOADING)]).running() as server:
        assert await asyncio.to_thread(main, ["ps", "--url", server.url]) == 0
        assert "m      loading 25%" in capsys.readouterr().out
        assert await asyncio.to_thread(main, ["ps", "--url", server.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == LOADING


@pytest.mark.parametrize(
    ("status", "words"), [(401, "FMEDGE_API_KEY"), (404, "no fmedge server"), (200, "no fmedge")]
)
async def test_servers_that_do_not_tell(
    status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeServer(lambda *_: [document(status, {"x": 1})]).running() as server:
        assert await asyncio.to_thread(main, ["ps", "--url", server.url]) == 1
    assert words in capsys.readouterr().err


def test_where_the_server_is() -> None:
    def of(**fields: object) -> str:
        return server_url(Config(server=ServerConfig(**fields)))  # type: ignore[arg-type]

    assert of() == "http://127.0.0.1:8080"
    assert of(host="0.0.0.0", port=1) == "http://127.0.0.1:1"
    assert of(host="::1", port=1) == "http://[::1]:1"
    assert of(tls_cert="c", tls_key="k") == "https://127.0.0.1:8080"
    assert of(unix_socket="/s") == "unix:/s"
    assert server_url(Config(client=ClientConfig(url="u"))) == "u"
