"""llama.cpp's own sampler chain through ctypes, to compare ours with.

The rule: the `llama_cpp` package is never imported; its libllama is opened by path, once for the
process, by whoever comes first.
"""

from __future__ import annotations

import ctypes as c
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmedge.types import SamplingParams

_TOKEN = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class _Array(c.Structure):
    _fields_ = [
        ("data", c.c_void_p),
        ("size", c.c_size_t),
        ("selected", c.c_int64),
        ("sorted", c.c_bool),
    ]


class _ChainParams(c.Structure):
    _fields_ = [("no_perf", c.c_bool)]


def _open() -> Any:
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    for name in ("ggml-base", "ggml-cpu", "ggml-rpc", "ggml", "llama"):
        path = folder / f"lib{name}.so"
        if path.exists():
            library = c.CDLL(str(path), mode=c.RTLD_GLOBAL)
    pointer, i32, u32, f32, size = c.c_void_p, c.c_int32, c.c_uint32, c.c_float, c.c_size_t
    for name, result, arguments in (
        ("chain_init", pointer, [_ChainParams]),
        ("chain_add", None, [pointer, pointer]),
        ("init_penalties", pointer, [i32, i32, f32, f32, f32]),
        ("init_logit_bias", pointer, [i32, i32, pointer]),
        ("init_top_k", pointer, [i32]),
        ("init_top_p", pointer, [f32, size]),
        ("init_min_p", pointer, [f32, size]),
        ("init_temp_ext", pointer, [f32, f32, f32]),
        ("init_dist", pointer, [u32]),
        ("init_greedy", pointer, []),
        ("accept", None, [pointer, i32]),
        ("apply", None, [pointer, c.POINTER(_Array)]),
        ("free", None, [pointer]),
    ):
        function = getattr(library, "llama_sampler_" + name)
        function.restype, function.argtypes = result, arguments
    return library


class LlamaChain:
    """The samplers that llama-server chains by default, in its order, with these parameters.

    draws False leaves the last one, which draws, out: `candidates` then gives what it would draw
    from."""

    def __init__(self, params: SamplingParams, num_vocab: int, *, draws: bool = True) -> None:
        self._lib = lib = _open()
        self._num_vocab = num_vocab
        self._chain = lib.llama_sampler_chain_init(_ChainParams(True))
        self._ids = np.arange(num_vocab, dtype=np.int32)
        self._room = np.zeros(num_vocab, _TOKEN)
        self._array = _Array(self._room.ctypes.data, num_vocab, -1, False)
        bias = np.array(list(params.logit_bias), dtype=[("id", "<i4"), ("bias", "<f4")])
        parts = []
        if len(bias):
            parts.append(lib.llama_sampler_init_logit_bias(num_vocab, len(bias), bias.ctypes.data))
        parts += [
            lib.llama_sampler_init_penalties(
                num_vocab,
                params.penalty_last_n,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            ),
            lib.llama_sampler_init_top_k(params.top_k),
            lib.llama_sampler_init_top_p(params.top_p, 0),
            lib.llama_sampler_init_min_p(params.min_p, 0),
            lib.llama_sampler_init_temp_ext(params.temperature, 0.0, 1.0),
        ]
        if draws:
            parts.append(lib.llama_sampler_init_dist(params.seed & 0xFFFFFFFF))
        for part in parts:
            lib.llama_sampler_chain_add(self._chain, part)

    @property
    def address(self) -> int:
        return int(self._chain)

    @property
    def room_address(self) -> int:
        """Of room for one llama_token_data per token."""
        return int(self._room.ctypes.data)

    def close(self) -> None:
        self._lib.llama_sampler_free(self._chain)

    def _apply(self, logits: NDArray[np.float32]) -> None:
        self._room["id"] = self._ids
        self._room["logit"] = logits
        self._room["p"] = 0
        self._array.size, self._array.selected, self._array.sorted = self._num_vocab, -1, False
        self._lib.llama_sampler_apply(self._chain, c.byref(self._array))

    def sample(self, logits: NDArray[np.float32]) -> int:
        self._apply(logits)
        token = int(self._room["id"][self._array.selected])
        self.accept(token)
        return token

    def accept(self, token: int) -> None:
        self._lib.llama_sampler_accept(self._chain, token)

    def candidates(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int32], Any]:
        """Tokens left and their logits, over temperature."""
        self._apply(logits)
        left = self._room[: self._array.size]
        return left["id"].copy(), left["logit"].astype(np.float64)
