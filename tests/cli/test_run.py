"""`fmedge run`: one-shot answers, the conversation, and which server gives them."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli import main
from fmedge.cli.chat import Answer, Printer, speed
from fmedge.cli.private_server import PrivateServer
from fmedge.errors import FmedgeError
from tests.cli.fake_openai import FakeServer, document, event, whole_stream
from tests.synthetic import cached

ROOT = Path(__file__).resolve().parents[2]
DONE = b"data: [DONE]\n\n"


def delta(**fields: Any) -> bytes:
    return event({"choices": [{"delta": fields, "finish_reason": None}]})


def echo(path: str, body: dict[str, Any]) -> list[bytes]:
    """Serves "m": answers with how many messages it was given and the last of them."""
    if path == "/v1/models":
        return [document(200, {"data": [{"id": "m", "aliases": ["n"]}]})]
    messages = body["messages"]
    if "overflow" in messages[-1]["content"]:
        error = {"message": "too long", "code": "context_length_exceeded"}
        return [document(400, {"error": error})]
    text = f"{len(messages)}:{messages[-1]['content']}"
    return [whole_stream([delta(role="assistant", content=""), delta(reasoning_content="hm"),
                          delta(content=text[:1]), delta(content=text[1:]), DONE])]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def run(server: FakeServer, *args: str) -> int:
    return await asyncio.to_thread(main, ["run", "--url", server.url, *args])


async def test_one_shot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    async with FakeServer(echo).running() as server:
        assert await run(server, "m", "what", "is") == 0
        assert capsys.readouterr().out == "1:what is\n"
        args = ["--system", "s", "--temperature", "0", "--seed", "3", "--max-tokens", "9"]
        assert await run(server, "n", "q", *args) == 0
    assert capsys.readouterr().out == "2:q\n"
    body = server.asked[-1][1]
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("n", 0, 3, 9)
    assert body["messages"][0] == {"role": "system", "content": "s"}


async def test_piped_text_follows_the_argument(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeServer(echo).running() as server:
        monkeypatch.setattr(sys, "stdin", io.StringIO("piped"))
        assert await run(server, "m", "sum up:") == 0
        assert capsys.readouterr().out == "1:sum up:\n\npiped\n"
        monkeypatch.setattr(sys, "stdin", io.StringIO("  \n"))
        assert await run(server, "m") == 2
    assert "prompt is empty" in capsys.readouterr().err


async def test_errors_of_the_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    async with FakeServer(echo).running() as server:
        assert await run(server, "other", "x") == 1
        assert "does not serve 'other'; it serves m, n" in capsys.readouterr().err
        assert await run(server, "m", "overflow") == 1
        assert capsys.readouterr().err == "fmedge: error: too long\n"
    broken = [whole_stream([delta(content="ab")])]  # ends without [DONE]
    models = echo("/v1/models", {})
    async with FakeServer(lambda p, _: models if "models" in p else broken).running() as server:
        assert await run(server, "m", "x") == 1
    shown = capsys.readouterr()
    assert shown.out == "ab\n"
    assert "broke off" in shown.err
    assert await run(server, "m", "x") == 1
    assert "no server answers" in capsys.readouterr().err


async def test_conversation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = iter(["one", '"""two', "lines", '"""', "/frob", "/help", "overflow", "three", "/clear",
                  "four", "/system be kind", "five", "/exit", "never"])  # fmt: skip
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with FakeServer(echo).running() as server:
        assert await run(server, "m") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["1:one", "3:two", "lines", "5:three", "1:four", "2:five"]
    assert "/frob is not a command" in shown.err
    assert "/clear forgets the conversation" in shown.err
    conversation = [b["messages"] for p, b, _ in server.asked if "chat" in p]
    assert conversation[1][1] == {"role": "assistant", "content": "1:one"}
    assert (tmp_path / "fmedge" / "history").stat().st_mode & 0o777 == 0o600
    assert next(lines) == "never"


def test_end_of_input_and_interrupts_at_the_prompt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmedge.cli.api import Api
    from fmedge.cli.chat import Chat

    def type_nothing(_: str) -> str:
        raise inputs.pop(0)

    inputs: list[type[BaseException]] = [KeyboardInterrupt, KeyboardInterrupt, EOFError]
    monkeypatch.setattr("builtins.input", type_nothing)
    chat = Chat(Api("http://127.0.0.1:1"), {}, "", verbose=False)
    assert list(chat._inputs()) == []
    assert inputs == []


def test_a_terminal_is_not_at_the_models_mercy() -> None:
    terminal = Terminal()
    printer = Printer(terminal)
    printer.write("why", is_reasoning=True)
    printer.write("a\x1b[2Jb\tc\n")
    printer.end()
    assert terminal.getvalue() == "\x1b[2mwhy\x1b[0m\n\na\N{REPLACEMENT CHARACTER}[2Jb\tc\n"
    pipe = io.StringIO()
    Printer(pipe).write("a\x1b[2Jb")
    assert pipe.getvalue() == "a\x1b[2Jb"


def test_speed_line() -> None:
    answer = Answer()
    assert speed(answer) == ""
    answer.timings = {"prompt_n": 3, "prompt_per_second": 10, "predicted_n": 4,
                      "predicted_per_second": 2.5}  # fmt: skip
    assert speed(answer) == "prompt: 3 tokens at 10/s; answer: 4 tokens at 2.5/s\n"


def test_private_server_of_a_real_model() -> None:
    model = cached("tiny")
    command = [sys.executable, "-m", "fmedge", "run", str(model), "hi", "--max-tokens", "3",
               "--threads", "1"]  # fmt: skip
    # what is set for the big server must not lock the private one
    env = {**os.environ, "FMEDGE_PORT": "0", "FMEDGE_API_KEY_FILE": str(ROOT / "LICENSE")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env=env,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


def test_the_first_answer_waits_for_no_measurement_and_no_compiler(tmp_path: Path) -> None:
    """With nothing known of this machine; what would be measured or compiled is not there."""
    (tmp_path / "numba.py").write_text("raise ImportError('nobody needs it')\n")
    command = [sys.executable, "-m", "fmedge", "run", str(cached("tiny")), "hi",
               "--max-tokens", "3", "--threads", "1", "--ctx-size", "512"]  # fmt: skip
    state = tmp_path / "state"
    env = {**os.environ, "FMEDGE_PORT": "0", "PYTHONPATH": f"{tmp_path}:{ROOT}",
           "XDG_STATE_HOME": str(state)}  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60,
                              env=env, stdin=subprocess.DEVNULL)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        files = {file.name for file in (state / "fmedge").iterdir()}
        assert files == {"plans"}
    assert len(list((state / "fmedge" / "plans").glob("*.json"))) == 1


def test_private_server_says_why_it_could_not_start(tmp_path: Path) -> None:
    broken = tmp_path / "x.gguf"
    broken.write_bytes(b"GGUX" * 100)
    with pytest.raises(FmedgeError, match="not a GGUF"), PrivateServer(["--model", str(broken)]):
        pass
