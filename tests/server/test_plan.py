"""What is to be served, from a configuration: models, their replicas, and what is said of wrong
ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmedge.config import Config, load_config
from fmedge.errors import ConfigError, FmedgeError, ModelFileError, ModelNotFoundError
from fmedge.server.plan import ModelPlan, longest_request, plan_models
from fmedge.types import EngineInfo
from tests.synthetic import cached


@pytest.fixture(scope="module")
def tiny() -> Path:
    return cached("tiny")


@pytest.fixture(scope="module")
def tiny_q8() -> Path:
    return cached("tiny", quant="q8_0")


def plans(folder: Path, text: str, **fields: object) -> list[ModelPlan]:
    file = folder / "fmedge.toml"
    file.write_text(text)
    config: Config = load_config(str(file), **{"environ": {}, **fields})  # type: ignore[arg-type]
    return plan_models(config.models, config.replicas, is_narrowed=config.is_narrowed)


def info(ctx_size: int) -> EngineInfo:
    return EngineInfo(
        ctx_size=ctx_size, slots=1, batch_size=1, ubatch_size=1, num_vocab=1, num_embd=1,
        num_layers=1, num_params=1, model_bytes=1, ctx_train=1, threads=1, kv_unified=False,
        kv_tokens=1, pooling="", has_encoder=False, has_decoder=True, is_recurrent=False,
        can_shift=False, description="", memory=(),
    )  # fmt: skip


def test_equal_replicas(tmp_path: Path, tiny: Path) -> None:
    text = f"[[model]]\nmodel = '{tiny}'\nname = 'chat'\nreplicas = 2\nthreads = 1\n"
    (plan,) = plans(tmp_path, text)
    assert [replica.name for replica in plan.replicas] == ["chat/0", "chat/1"]
    assert {replica.engine.model_path for replica in plan.replicas} == {str(tiny)}
    assert plan.engine == plan.replicas[0].engine


def test_replicas_that_differ(tmp_path: Path, tiny: Path, tiny_q8: Path) -> None:
    text = (
        f"[[model]]\nmodel = '{tiny}'\nname = 'chat'\naliases = ['gpt']\nslots = 8\n"
        "[[replica]]\nmodel = 'gpt'\nname = 'fast'\nthreads = 2\n"
        f"[[replica]]\nmodel = 'chat'\nfile = '{tiny_q8}'\nthreads = 1\nslots = 2\n"
    )
    (plan,) = plans(tmp_path, text)
    fast, slow = plan.replicas
    assert (fast.name, slow.name) == ("fast", "chat/1")
    assert (fast.engine.model_path, slow.engine.model_path) == (str(tiny), str(tiny_q8))
    assert (fast.metadata.quant, slow.metadata.quant) == ("F16", "Q8_0")
    assert (fast.engine.threads, fast.engine.slots) == (2, 8)
    assert (slow.engine.threads, slow.engine.slots) == (1, 2)


def test_a_model_is_known_by_its_files_name_too(tmp_path: Path, tiny: Path) -> None:
    text = f"[[model]]\nmodel = '{tiny}'\n[[replica]]\nmodel = '{tiny.stem}'\nthreads = 1\n"
    (plan,) = plans(tmp_path, text)
    assert plan.replicas[0].engine.threads == 1
    (plan,) = plans(tmp_path, text.replace(f"'{tiny.stem}'", f"'{tiny}'"))
    assert plan.replicas[0].engine.threads == 1


def test_blocks_of_models_that_are_not_served_this_time(
    tmp_path: Path, tiny: Path, tiny_q8: Path
) -> None:
    text = f"[[model]]\nmodel = '{tiny}'\nname = 'chat'\n[[replica]]\nmodel = 'chat'\nthreads = 7\n"
    (plan,) = plans(tmp_path, text, models=[{"model": str(tiny_q8)}])
    assert [replica.engine.threads for replica in plan.replicas] == [0]
    (plan,) = plans(tmp_path, text, models=[{"model": "chat"}])
    assert [replica.engine.threads for replica in plan.replicas] == [7]


@pytest.mark.parametrize(
    ("blocks", "kind", "words"),
    [
        ("[[replica]]\nmodel = 'chta'\n", ConfigError,
         ["[[replica]] number 1: model", "no model is called 'chta'"]),
        ("[[replica]]\nmodel = 'chat'\nfile = './nowhere.gguf'\n", ModelNotFoundError,
         ["[[replica]] number 1: file", "There is no file ./nowhere.gguf"]),
        ("[[replica]]\nmodel = 'chat'\nfile = 'hf:no/such'\n", ModelNotFoundError,
         ["[[replica]] number 1: file", "fmedge pull hf:no/such"]),
        ("[[replica]]\nmodel = 'chat'\nfile = 'fmedge.toml'\n", ModelFileError,
         ["[[replica]] number 1: file", "not a GGUF"]),
        ("[[replica]]\nmodel = 'chat'\n[[replica]]\nmodel = 'chat'\nfile = 'VOCAB'\n",
         ModelFileError, ["[[replica]] number 2: file", "600 tokens, not 512"]),
        ("[[replica]]\nmodel = 'chat'\nfile = 'DEEP'\n", ModelFileError,
         ["[[replica]] number 1: file", "another model", "number of layers is 3, not 2"]),
        ("[[model]]\nmodel = 'DEEP'\nname = 'b'\n[[replica]]\nmodel = 'chat'\nname = 'chat-0'\n"
         "[[replica]]\nmodel = 'b'\nname = 'chat-0'\n", ConfigError,
         ["number 2: name", "'chat-0' is the name of [[replica]] number 1 too"]),
    ],
)  # fmt: skip
def test_wrong_replicas_are_explained(
    tmp_path: Path, tiny: Path, blocks: str, kind: type[FmedgeError], words: list[str]
) -> None:
    blocks = blocks.replace("VOCAB", str(cached("tiny", vocab_size=600)))
    blocks = blocks.replace("DEEP", str(cached("tiny", n_layers=3)))
    with pytest.raises(kind) as caught:
        plans(tmp_path, f"[[model]]\nmodel = '{tiny}'\nname = 'chat'\n{blocks}")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/fmedge.toml: [[replica]] number "), message
    assert all(word in message for word in words), message


def test_a_block_of_no_model_where_names_come_from_files(tmp_path: Path, tiny: Path) -> None:
    text = f"[[model]]\nmodel = '{tiny}'\n[[replica]]\nmodel = 'chat'\n"
    with pytest.raises(ConfigError, match=r"number 1: model: no model is called 'chat'; there are"):
        plans(tmp_path, text)


def test_what_is_served_is_what_every_replica_can_take(
    tmp_path: Path, tiny: Path, tiny_q8: Path
) -> None:
    text = (
        f"[[model]]\nmodel = '{tiny}'\nname = 'chat'\n"
        "[[replica]]\nmodel = 'chat'\nname = 'a'\nctx_size = 256\n"
        f"[[replica]]\nmodel = 'chat'\nname = 'b'\nfile = '{tiny_q8}'\n"
        "[[replica]]\nmodel = 'chat'\nname = 'c'\n"
    )
    (plan,) = plans(tmp_path, text)
    engines = {replica.name: replica.engine for replica in plan.replicas}
    for loaded, ctx_size in (
        ({"b": info(512)}, 256),  # what has yet to load counts
        ({"a": info(256), "b": info(128)}, 128),
        ({"c": info(2048), "a": info(1024)}, 1024),
    ):
        assert longest_request(engines, loaded) == ctx_size
