"""The model that is part of fmedge: what `run` takes for a model and what for a question, and that
whoever gets its answers is told what it is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli import main
from fmedge.cli.run_model import choose, file_of
from fmedge.config import Config, load_config
from fmedge.errors import ModelNotFoundError
from fmedge.models import embedded
from fmedge.models.embedded import demonstration
from tests.cli.fake_openai import FakeServer, document
from tests.cli.test_run import Terminal, echo
from tests.e2e.server import serve

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the capital of France?"


def configured(*models: dict[str, Any]) -> Config:
    return load_config(models=[{"aliases": [], **model} for model in models], environ={})


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("named", "words", "model", "asked"),
    [
        (None, [], "embedded", []),
        (None, [QUESTION], "embedded", [QUESTION]),
        (None, ["What is", "this"], "embedded", ["What is", "this"]),
        (None, ["how do I load ./model.gguf"], "embedded", ["how do I load ./model.gguf"]),
        (None, [""], "embedded", [""]),
        (None, ["embedded"], "embedded", []),
        (None, ["embedded", "a b"], "embedded", ["a b"]),
        (None, ["hf:org/repo", "hi"], "hf:org/repo", ["hi"]),
        (None, ["here.gguf", "hi"], "here.gguf", ["hi"]),
        (None, ["with space.gguf", "hi"], "with space.gguf", ["hi"]),
        (None, ["two words", "hi"], "two words", ["hi"]),  # a server calls a model so
        ("embedded", ["hf:org/repo", "hi"], "embedded", ["hf:org/repo", "hi"]),
        ("here.gguf", [], "here.gguf", []),
    ],
)
def test_what_is_a_model_and_what_a_question(
    named: str | None, words: list[str], model: str, asked: list[str], tmp_path: Path
) -> None:
    for file in ("here.gguf", "with space.gguf", "embedded"):
        (tmp_path / file).touch()
    assert choose(named, words, configured(), ["two words"]) == (model, asked)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["lama", "hi there"], "fmedge run --model embedded lama 'hi there'"),
        (["What", "is", "it?"], "fmedge run --model embedded What is 'it?'"),
        (["Hello"], "fmedge run --model embedded Hello"),
        (["-5"], "fmedge run --model embedded -5"),
    ],
)
def test_a_word_that_names_nothing_is_no_question(words: list[str], command: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        choose(None, words, configured(), [])
    assert str(caught.value).endswith(f"To ask embedded that: {command}")
    assert f'No model is called "{words[0]}"' in str(caught.value)


@pytest.mark.parametrize("word", ["./gone.gguf", "./my gone.gguf", "/gone.gguf"])
def test_a_path_to_nothing_is_no_question_either(word: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no file \S*/.*gone\.gguf\.$"):
        choose(None, [word, "hi"], configured(), [])


def test_a_near_name_is_offered() -> None:
    with pytest.raises(ModelNotFoundError, match='Did you mean "embedded"'):
        choose(None, ["embeded", "hi"], configured(), [])


def test_the_first_configured_model_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    config = configured({"model": "a.gguf", "name": "chat"}, {"model": "hf:org/b"})
    assert choose(None, [QUESTION], config, []) == ("chat", [QUESTION])
    assert choose(None, ["hf:org/b", "x"], config, []) == ("hf:org/b", ["x"])
    assert file_of("chat", config) == "a.gguf"
    by_alias = configured({"model": "hf:org/b", "aliases": ["b"]})
    assert choose(None, [], by_alias, ["c", "b"]) == ("b", [])
    assert choose(None, [], by_alias, ["c"]) == ("hf:org/b", [])


def test_a_named_server_is_asked_for_its_first_model() -> None:
    url = "http://host:1"
    assert choose(None, [QUESTION], configured(), ["m", "n"], url=url) == ("m", [QUESTION])
    with pytest.raises(ModelNotFoundError, match=r"serves m, n\. To ask m that: .*--model m x y"):
        choose(None, ["x", "y"], configured(), ["m", "n"], url=url)
    with pytest.raises(ModelNotFoundError, match="does not serve 'embedded'"):
        choose("embedded", [], configured(), ["m"], url=url)


def serves_embedded(path: str, body: dict[str, Any]) -> list[bytes]:
    if path == "/v1/models":
        models = [{"id": "m"}, {"id": "embedded"}, {"id": "chat", "root": "embedded"}]
        return [document(200, {"data": models})]
    return echo(path, body)


@pytest.mark.parametrize("name", ["embedded", "chat"])
async def test_a_running_server_answers_and_the_user_is_told_what(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    async with FakeServer(serves_embedded).running() as server:
        monkeypatch.setenv("FMEDGE_PORT", server.url.rpartition(":")[2])
        words = ["what is"] if name == "embedded" else [name, "what is"]
        assert await asyncio.to_thread(main, ["run", *words]) == 0
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("1:what is\n", demonstration(name, "fmedge run"))
        assert server.asked[-1][1]["model"] == name
        assert await asyncio.to_thread(main, ["run", "--model", "m", "what is"]) == 0
        assert capsys.readouterr().err == ""
        monkeypatch.setenv("FMEDGE_LOG_LEVEL", "warning")
        assert await asyncio.to_thread(main, ["run", *words]) == 0
        assert capsys.readouterr().err == ""


def test_an_installation_without_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded, "PATH", tmp_path / "none.gguf")
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setenv("FMEDGE_PORT", "0")
    assert main(["run", QUESTION]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fmedge: error: the embedded model is missing")
    assert "--model hf:ORG/REPO" in error
    assert error.count("\n") == 1
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_run_without_a_model() -> None:
    command = [sys.executable, "-m", "fmedge", "run", "--max-tokens", "3", "--threads", "1"]
    env = {**os.environ, "FMEDGE_PORT": "0"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env=env,
                          input=QUESTION)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, demonstration("embedded", "fmedge run"))
    assert done.stdout.endswith("\n")


def test_serve_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "embedded").write_text("no model: a file that happens to be here")
    quick = ["--threads", "1", "--placement", "manual", "--profile", "prior"]
    with serve(tmp_path, ["--alias", "demo", "--model", "embedded", *quick]) as server:
        with urllib.request.urlopen(f"{server.url}/v1/models") as answer:
            cards = json.load(answer)["data"]
        assert [card["id"] for card in cards] == ["embedded", "demo"]
        assert {card["root"] for card in cards} == {"embedded"}
    with serve(tmp_path, quick, env={"FMEDGE_LOG_FORMAT": "json"}) as server:
        with urllib.request.urlopen(f"{server.url}/v1/models/embedded") as answer:
            assert json.load(answer)["meta"]["size"] == embedded.PATH.stat().st_size
        banner = demonstration("embedded", "fmedge serve --model")
        assert server.text().partition(server.url)[2].startswith(f" with embedded\n{banner}")
