"""A tokenizer as training learns it, from few conversations."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from training import tokenizer as vocabulary
from training.mix import Mix


@pytest.fixture(scope="session")
def learned() -> Tokenizer:
    mix, renderer = Mix(), vocabulary.Renderer()
    return vocabulary.learn(renderer.text(mix.training(seed)) for seed in range(2500))
