"""Small models that the project writes, and engines that are closed after their test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fmedge._native.binding  # noqa: F401 - loads what the extension needs
from fmedge._native import _fm
from fmedge._native.engine import Engine
from fmedge.types import EngineSettings
from tests import synthetic

# sanitize.sh: a run that quietly took the plain extension would prove nothing.
_SANITIZED_FOLDER = os.environ.get("FMEDGE_SANITIZED_FOLDER")
if _SANITIZED_FOLDER is not None and not _fm.__file__.startswith(_SANITIZED_FOLDER):
    raise RuntimeError(f"{_fm.__file__} is not the sanitised extension")

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
