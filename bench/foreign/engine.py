"""What another engine allows itself in a step.

The rule: every limit is stated, in a file or as a flag; what the profile was measured under is the
default for the limits that it names.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from bench.foreign.profile import ProfileError, read_meta


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A paged engine that mixes prefill and decode in a step, first come, first served.

    num_layers: of the served model (the profile has one layer's times). kv_tokens: KV cache in all;
    block_tokens: of one block; unusable_blocks: those that the engine keeps for itself. step_tokens
    and max_sequences bound one step. reserve_prompt: a request is admitted when blocks for all its
    tokens are free, else when those of its first chunk are. schedule_ahead: a step is planned when
    the one before it starts, not when it has ended. prefix_caching: a preempted request finds
    those of its blocks again that nobody took meanwhile.
    """

    num_layers: int
    kv_tokens: int
    block_tokens: int = 16
    unusable_blocks: int = 1
    step_tokens: int = 2048
    max_sequences: int = 256
    reserve_prompt: bool = True
    schedule_ahead: bool = True
    prefix_caching: bool = True

    def __post_init__(self) -> None:
        for name in ("num_layers", "kv_tokens", "block_tokens", "step_tokens", "max_sequences"):
            if getattr(self, name) < 1:
                raise ProfileError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.num_blocks < 1:
            raise ProfileError(f"{self.kv_tokens} KV tokens leave no block of {self.block_tokens}")

    @property
    def num_blocks(self) -> int:
        """Blocks that requests can hold."""
        return self.kv_tokens // self.block_tokens - self.unusable_blocks

    def blocks_of(self, num_tokens: int) -> int:
        return math.ceil(num_tokens / self.block_tokens)


PROFILED = {
    "max_num_batched_tokens": "step_tokens",
    "max_num_seqs": "max_sequences",
    "block_size": "block_tokens",
}
"""Of meta.yaml's engine_effective."""


def read_limits(path: Path, folder: Path, given: dict[str, Any] | None = None) -> EngineLimits:
    """The limits of the engine whose files lie in `folder`: `given` before those of the TOML file
    at `path` (it may be absent) before those in meta.yaml. ProfileError says what is missing.
    """
    values: dict[str, Any] = {}
    effective = read_meta(folder).get("engine_effective") or {}
    values |= {ours: effective[name] for name, ours in PROFILED.items() if name in effective}
    try:
        if path.exists():
            values |= msgspec.toml.decode(path.read_bytes(), type=dict[str, Any])
        values |= given or {}
        return msgspec.convert(values, EngineLimits)
    except ProfileError:
        raise
    except msgspec.ValidationError as error:
        # __post_init__'s own errors arrive wrapped; their text is what matters
        raise ProfileError(f"engine limits of {folder.name} ({path} or flags): {error}") from None
    except (msgspec.DecodeError, OSError) as error:
        raise ProfileError(f"{path}: {error}") from None
