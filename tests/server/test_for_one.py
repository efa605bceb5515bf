"""What a server for one command does without."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from fmedge.config import Config, load_config
from fmedge.server.for_one import SMALL_BYTES, for_one
from fmedge.server.plan import plan_models
from tests.synthetic import cached


def made(folder: Path, text: str = "", file_bytes: int = 0) -> Config:
    file = folder / "fmedge.toml"
    file.write_text(f"[[model]]\nmodel = '{cached('tiny')}'\n{text}")
    config = load_config(str(file), environ={})
    plans = plan_models(config.models, config.replicas)
    if file_bytes:
        plans = [replace(p, metadata=replace(p.metadata, file_bytes=file_bytes)) for p in plans]
    return for_one(config, plans)


def test_one_conversation_has_it_all_and_nothing_is_estimated(tmp_path: Path) -> None:
    config = made(tmp_path)
    (model,) = config.models
    assert config.server.policy == "least_outstanding"
    assert (model.engine.slots, model.engine.threads) == (1, 1)
    assert {"slots", "threads"} <= model.given


@pytest.mark.parametrize(("file_bytes", "threads"), [(SMALL_BYTES, 1), (SMALL_BYTES + 1, 0)])
def test_only_a_small_model_takes_one_thread(tmp_path: Path, file_bytes: int, threads: int) -> None:
    (model,) = made(tmp_path, file_bytes=file_bytes).models
    assert model.engine.threads == threads
    assert ("threads" in model.given) == bool(threads)


def test_what_somebody_set_stays(tmp_path: Path) -> None:
    (model,) = made(tmp_path, "slots = 3\nthreads = 2\n").models
    assert (model.engine.slots, model.engine.threads) == (3, 2)
