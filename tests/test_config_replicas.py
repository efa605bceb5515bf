"""[[replica]]: replicas of one model that differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fmedge.config import Config, load_config
from fmedge.errors import ConfigError

MODEL = "[[model]]\nmodel = 'm.gguf'\nname = 'chat'\naliases = ['gpt']\nthreads = 3\n"
REPLICA = "[[replica]]\nmodel = 'chat'\n"


def load(folder: Path, text: str, **fields: object) -> Config:
    file = folder / "fmedge.toml"
    file.write_text(text)
    return load_config(str(file), **{"environ": {}, **fields})  # type: ignore[arg-type]


def test_a_replica_differs_in_what_it_says(tmp_path: Path) -> None:
    text = (
        "[defaults]\nslots = 7\nmmap = false\n" + MODEL + REPLICA + "name = 'fast'\nthreads = 8\n"
        "[[replica]]\nmodel = 'gpt'\nfile = 'hf:a/b:Q8_0'\nctx_size = 64\ndevices = []\n"
    )
    loaded = load(tmp_path, text)
    fast, other = loaded.replicas
    (model,) = loaded.models
    assert (fast.name, fast.model, fast.file) == ("fast", "chat", "")
    assert (other.name, other.model, other.file) == ("", "gpt", "hf:a/b:Q8_0")
    engine = fast.engine_of(model)
    assert (engine.threads, engine.slots, engine.mmap) == (8, 7, False)
    engine = other.engine_of(model)
    assert (engine.threads, engine.ctx_size, engine.devices) == (3, 64, ())


def test_flags_and_environment_win_over_replica_blocks(tmp_path: Path) -> None:
    text = MODEL + REPLICA + "threads = 1\nslots = 2\n"
    loaded = load(tmp_path, text, flags={"threads": "5"}, environ={"FMEDGE_SLOTS": "6"})
    engine = loaded.replicas[0].engine_of(loaded.models[0])
    assert (engine.threads, engine.slots) == (5, 6)


def test_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "q8.gguf").touch()
    (replica,) = load(tmp_path, MODEL + REPLICA + "file = 'q8.gguf'\n").replicas
    assert replica.file == str(tmp_path / "q8.gguf")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MODEL + "[[replica]]\nname = 'x'\n", ["number 1", "needs model"]),
        (MODEL + "[[replica]]\nmodel = 5\n", ["number 1: model", "expected str"]),
        (MODEL + "[[replica]]\nmodel = ''\n", ["number 1: model", "length >= 1"]),
        (MODEL + "[[replica]]\nmodel = 'caht'\n", ["number 1: model: no model is called 'caht'",
                                                  "did you mean 'chat'"]),
        (REPLICA, ["no model is called 'chat'", "[[model]]"]),
        (MODEL + REPLICA + "name = 'a'\n" + REPLICA + "name = 'a'\n",
         ["[[replica]] number 2: name", "'a' is the name of [[replica]] number 1 too"]),
        (MODEL + REPLICA + "name = 'a b'\n", ["number 1: name", "is no name"]),
        (MODEL + REPLICA + "name = ''\n", ["number 1: name", "length >= 1"]),
        (MODEL + REPLICA + "file = ''\n", ["number 1: file", "length >= 1"]),
        (MODEL + REPLICA + "thread = 1\n", ["'thread'", "did you mean 'threads'"]),
        (MODEL + REPLICA + "threads = -1\n", ["number 1: threads", ">= 0"]),
        (MODEL + REPLICA + "slots = nan\n", ["number 1: slots", "expected int"]),
        (MODEL + REPLICA + "port = 1\n", ["'port'", "belongs to [server]"]),
        (MODEL + REPLICA + "replicas = 2\n", ["number 1: replicas", "[[model]]"]),
        (MODEL + REPLICA + "aliases = ['x']\n", ["number 1: aliases", "[[model]]"]),
        (MODEL + "replicas = 2\n" + REPLICA, ["number 1", "replicas = 2", "leave replicas at 1"]),
        (MODEL + REPLICA + "batch_size = 8\n", ["number 1", "ubatch_size 512", "batch_size 8"]),
        (MODEL + REPLICA + "kv_tokens = 8\n", ["number 1", "kv_tokens", "kv_unified"]),
        (MODEL + REPLICA + "pooling = 'cls'\n", ["number 1", "pooling 'cls'", "compare"]),
        ("[replica]\nmodel = 'chat'\n" + MODEL, ["[[replica]]"]),
        ("replica = ['chat']\n" + MODEL, ["[[replica]]"]),
        (MODEL + "[[replicas]]\nmodel = 'chat'\n", ["'replicas'"]),
    ],
)  # fmt: skip
def test_wrong_blocks_are_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/fmedge.toml: "), message
    assert all(word in message for word in words), message


def test_a_flag_for_replicas_contradicts_the_blocks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chat has replicas = 3"):
        load(tmp_path, MODEL + REPLICA, flags={"replicas": "3"})


def test_replicas_of_models_that_are_not_served_this_time(tmp_path: Path) -> None:
    loaded = load(tmp_path, MODEL + REPLICA, models=[{"model": "other.gguf"}])
    assert [m.model for m in loaded.models] == ["other.gguf"]
    loaded = load(tmp_path, MODEL + REPLICA + "threads = 9\n", models=[{"model": "chat"}])
    assert loaded.replicas[0].engine_of(loaded.models[0]).threads == 9


def test_the_examples_blocks_are_valid_without_their_comment_signs(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent / "packaging" / "fmedge.example.toml"
    text = re.sub(r"^# ?(?=\[\[|[a-z_]+ = )", "", example.read_text(), flags=re.MULTILINE)
    loaded = load(tmp_path, text)
    fast, frugal = loaded.replicas
    assert (fast.name, frugal.name, frugal.engine["gpu_layers"]) == ("fast", "frugal", 0)
    assert [model.name for model in loaded.models] == ["qwen3-4b", "embed"]
