"""Small models that the project writes, and engines that are closed after their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmedge._native.engine import Engine
from fmedge.types import EngineSettings
from tests import synthetic

LoadEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    return synthetic.cached("tiny")


@pytest.fixture(scope="session")
def embedding_path() -> Path:
    return synthetic.cached("embedding")


@pytest.fixture
def load_engine(tiny_path: Path) -> Iterator[LoadEngine]:
    """load_engine(**settings): an engine on the tiny model, unless model_path says otherwise."""
    engines: list[Engine] = []

    def load(**settings: Any) -> Engine:
        fields: dict[str, Any] = {
            "model_path": str(tiny_path),
            "slots": 4,
            "ctx_size": 256,
            "batch_size": 256,
            "threads": 1,
            **settings,
        }
        engines.append(Engine.load(EngineSettings(**fields)))
        return engines[-1]

    yield load
    for engine in engines:
        engine.close()
