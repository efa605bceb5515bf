"""A replica that costs nothing: what is left is the cost of the server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any


class FreeEmulator:
    """Gives as many tokens as asked for, one at a time, each as soon as the last is taken."""

    def __init__(self, spec: Any, vocab: Any) -> None:
        pass

    async def generate(
        self, tokens: bytes, max_tokens: int, seed: int, *, chunk_s: float = 0.0
    ) -> AsyncGenerator[list[int], None]:
        for token in range(max_tokens):
            yield [token]
            await asyncio.sleep(0)
