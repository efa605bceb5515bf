"""Texts and file names beyond ASCII where the locale or the terminal is not UTF-8."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli.chat import Chat, check_text
from fmedge.errors import ConfigError, ModelFileError
from fmedge.models.registry import Registry
from tests.cli.fake_openai import FakeServer
from tests.cli.test_run import echo

ROOT = Path(__file__).resolve().parents[2]
ASKED = "Grüße aus Köln: 10 €"
LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "none": {"LC_ALL": "", "LANG": "", "LC_CTYPE": "", "PYTHONCOERCECLOCALE": "0"},
}


def environment(**said: str) -> dict[str, str]:
    others = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    return {**others, "PYTHONPATH": str(ROOT), "FMEDGE_PORT": "0", **said}


async def fmedge(*args: str, env: dict[str, str], stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fmedge", *args, env=env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(stdin), 90)
    assert process.returncode is not None
    return process.returncode, out, errors


@pytest.mark.parametrize("name", LOCALES)
async def test_what_is_asked_and_answered(name: str) -> None:
    env = environment(**LOCALES[name])
    async with FakeServer(echo).running() as server:
        url = ["--url", server.url]
        piped = await fmedge("run", *url, "--model", "m", env=env, stdin=ASKED.encode())
        given = await fmedge("run", *url, "m", ASKED, "--system", "höflich", env=env)
        messages = server.asked[-1][1]["messages"]
    assert piped == (0, f"1:{ASKED}\n".encode(), b"")
    assert given == (0, f"2:{ASKED}\n".encode(), b"")
    assert [message["content"] for message in messages] == ["höflich", ASKED]


async def test_a_terminal_that_lacks_characters_shows_their_numbers() -> None:
    env = environment(LC_ALL="C.UTF-8", PYTHONIOENCODING="latin-1")
    async with FakeServer(echo).running() as server:
        done = await fmedge("run", "--url", server.url, "m", ASKED, env=env)
    assert done == (0, "1:Grüße aus Köln: 10 ".encode("latin-1") + b"\\u20ac\n", b"")


@pytest.mark.parametrize("name", ["C", "ascii"])
async def test_a_file_of_the_configuration(name: str, tmp_path: Path) -> None:
    """Named in UTF-8, whatever the locale, and opened by a worker."""
    (tmp_path / "grün.gguf").symlink_to(ROOT / "fmedge/models/embedded.gguf")
    config = tmp_path / "größe.toml"
    config.write_text("[[model]]\nmodel = './grün.gguf'\nname = 'grün'\n", encoding="utf-8")
    command = ["run", "--config", str(config), "--max-tokens", "2", "--threads", "1", "hi there"]
    env = environment(**LOCALES[name], XDG_STATE_HOME=str(tmp_path / "zustand-ä"))
    code, out, errors = await fmedge(*command, env=env)
    assert (code, errors) == (0, b"")
    assert out.strip()
    shown = await fmedge("config", "check", str(config), env=env)
    assert shown[0] == 0
    assert "model  grün  from" in shown[1].decode()


@pytest.mark.parametrize("args", [["--help"], ["serve", "--help"], ["list"], ["version"]])
async def test_help_and_lists(args: list[str], tmp_path: Path) -> None:
    env = environment(**LOCALES["ascii"], HF_HOME=str(tmp_path))
    code, out, errors = await fmedge(*args, env=env)
    assert code == 0, errors
    assert out


async def test_what_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    env = environment(LC_ALL="C.UTF-8")
    async with FakeServer(echo).running() as server:
        url = ["--url", server.url, "--model", "m"]
        piped = await fmedge("run", *url, env=env, stdin=b"h\xff")
        given = await fmedge("run", *url, "h\udcff", env=env)
        assert not [path for path, *_ in server.asked if "chat" in path]
    assert piped == (2, b"", b"fmedge: error: standard input is not UTF-8 text (character 2)\n")
    assert given == (2, b"", b"fmedge: error: the prompt is not UTF-8 text (character 2)\n")
    file = tmp_path / "m\udcff.gguf"
    file.write_bytes(b"")
    with pytest.raises(ModelFileError, match="the name is not UTF-8 text: rename"):
        Registry().resolve(str(file))


def test_a_line_of_a_conversation_that_is_no_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(_: str) -> str:
        given: Any = lines.pop(0)
        if isinstance(given, Exception):
            raise given
        return str(given)

    lines = ["h\udcff", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "hi", EOFError()]
    monkeypatch.setattr("builtins.input", typed)
    from fmedge.cli.api import Api

    chat = Chat(Api("http://127.0.0.1:1"), {}, "", verbose=False)
    assert list(chat._inputs()) == ["hi"]
    assert capsys.readouterr().err == "That is not UTF-8 text: it was not sent.\n" * 2
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        check_text("\udcff", "it")
