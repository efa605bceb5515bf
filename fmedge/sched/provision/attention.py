"""What each layer keeps of the tokens it has seen, from a GGUF's keys as llama.cpp reads them.

The rule: for an architecture in `_KNOWN` the widths are those that llama.cpp allocates; for any
other they are an upper bound. Checked against the pinned llama.cpp: hparams, and the cache that
each architecture gets (attention, sliding window, latent, indexer, recurrent, or several).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any

from msgspec import Struct


class LayerCache(Struct, frozen=True, kw_only=True):
    """k_width, v_width: elements of K and V for each token; window: 0 for all tokens; state_bytes:
    of a recurrent state for each sequence; query_width: query heads x head size; head_width: what
    divides the heads of K and of V, whose rows are quantised head by head."""

    k_width: int = 0
    v_width: int = 0
    head_width: int = 0
    window: int = 0
    state_bytes: int = 0
    query_width: int = 0


class _Swa(Struct, frozen=True):
    """every: one layer of so many is dense, the first of them or the last; window: when the header
    names none; fixed: what counts instead of any figure above 0."""

    every: int
    is_dense_first: bool = False
    window: int = 0
    fixed: int = 0


_SWA = {
    "afmoe": _Swa(4),
    "cohere2": _Swa(4),
    "cohere2moe": _Swa(4, True),
    "exaone-moe": _Swa(4, window=128),
    "exaone4": _Swa(4, window=4096),
    "gemma2": _Swa(2, window=4096),
    "gemma3": _Swa(6),
    "gemma3n": _Swa(5),
    "gpt-oss": _Swa(2),
    "laguna": _Swa(4, True),
    "llama4": _Swa(4, window=8192, fixed=8192),
    "mellum": _Swa(4),
    "muse-glimmer": _Swa(4),
    "olmo2": _Swa(4),
    "plamo3": _Swa(8),
    "smallthinker": _Swa(4, True, fixed=4096),
}
_SWA_BY_ARRAY = ("dots3note", "gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35")

_NO_CACHE = (
    "bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada",
    "llada-moe", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1", "t5encoder",
)  # fmt: skip
_RECURRENT = ("arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7")
_RECURRENT_WITHOUT_HEADS = (
    "bailingmoe3", "glm5-next", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2",
    "lfm2moe", "plamo2",
)  # fmt: skip
_RECURRENT_BY_INTERVAL = {
    "minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4, "qwen4exp": 4,
}  # fmt: skip
_MLA = (
    "bailingmoe3", "deepseek2", "deepseek32", "dots3note", "glm-dsa", "glm5-next", "hy_v4",
    "kimi-k3", "kimi-linear", "mistral4",
)  # fmt: skip
_SKIPS_NEXTN = (
    "bailingmoe2", "bailingmoe3", "cohere2moe", "deepseek2", "deepseek32", "deepseek4",
    "dots3note", "exaone-moe", "exaone4", "glm-dsa", "glm4", "glm4moe", "glm5-next", "hy_v3",
    "mimo2", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next", "step35",
)  # fmt: skip
_PLAIN = (
    "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom",
    "chameleon", "chatglm", "codeshell", "cogvlm", "command-r", "dbrx", "deci", "deepseek",
    "deepseek2-ocr", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "falcon", "gemma", "glm4",
    "glm4moe", "gpt2", "gptj", "gptneox", "granite", "granitemoe", "grok", "grovemoe",
    "hunyuan-dense", "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2", "jais", "jais2", "llama",
    "llama-embed", "maincoder", "minicpm", "minicpm3", "minimax-m2", "mistral3", "mpt", "nemotron",
    "olmo", "olmoe", "openelm", "orion", "paddleocr", "pangu-embedded", "phi2", "phi3", "phimoe",
    "plamo", "plm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl",
    "qwen3vlmoe", "refact", "seed_oss", "smollm3", "stablelm", "starcoder", "starcoder2", "xverse",
)  # fmt: skip
_KNOWN = frozenset(
    (*_SWA, *_SWA_BY_ARRAY, *_NO_CACHE, *_RECURRENT, *_RECURRENT_WITHOUT_HEADS, *_PLAIN, *_MLA,
     *_RECURRENT_BY_INTERVAL, "falcon-h1", "minimax-m3", "nemotron_h", "nemotron_h_moe")
) - {"qwen4exp"}  # fmt: skip
_GEMMA3N_LAYERS_WITH_KV = 20
_STATE_TYPE_BYTES = 4


class Keys:
    """A GGUF's keys of its architecture; what a hostile header holds instead of a sensible number
    counts as absent."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.architecture = str(metadata.get("general.architecture", ""))
        self._metadata = metadata

    def number(self, key: str, default: int = 0) -> int:
        return _number(self._metadata.get(f"{self.architecture}.{key}"), default)

    def has(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self._metadata

    def array(self, key: str, count: int, default: int = 0) -> list[int]:
        """One value for each of `count` layers, whether the header holds an array or one number."""
        value = self._metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, list | tuple):
            found = [_number(item, default) for item in value[:count]]
            return found + [default] * (count - len(found))
        return [_number(value, default)] * count

    def is_array(self, key: str) -> bool:
        return isinstance(self._metadata.get(f"{self.architecture}.{key}"), list | tuple)


def _number(value: Any, default: int) -> int:
    """Flags count as 0 and 1; none of llama.cpp's sizes is negative or above 2^32."""
    return int(value) if isinstance(value, int) and 0 <= value < 1 << 32 else default


def is_known(architecture: str) -> bool:
    """Whether layer_caches is exact for it."""
    return architecture in _KNOWN


def num_skipped(keys: Keys) -> int:
    """Last layers that llama.cpp does not load: heads that predict several tokens ahead."""
    return keys.number("nextn_predict_layers") if keys.architecture in _SKIPS_NEXTN else 0


def layer_caches(keys: Keys, num_layers: int) -> tuple[LayerCache, ...]:
    """What llama.cpp allocates for each layer's context."""
    architecture = keys.architecture
    heads = keys.array("attention.head_count", num_layers)
    heads_kv = keys.array("attention.head_count_kv", num_layers)
    if not keys.has("attention.head_count_kv"):
        heads_kv = heads
    head = keys.number("embedding_length") // heads[0] if heads and heads[0] else 0
    k_head, v_head = (keys.number(f"attention.{kind}_length", head) for kind in ("key", "value"))
    is_swa, window = _windows(keys, num_layers)
    is_recurrent = _recurrent(keys, heads_kv, num_layers)
    state_bytes = _STATE_TYPE_BYTES * sum(_state_widths(keys, heads, k_head))
    caches = []
    for layer in range(num_layers):
        k, v = k_head, v_head
        if is_swa[layer]:
            k = keys.number("attention.key_length_swa", k)
            v = keys.number("attention.value_length_swa", v)
        is_attending = _attends(keys, layer, num_layers, is_recurrent[layer])
        k_width, v_width = heads_kv[layer] * k, heads_kv[layer] * v
        if _is_latent(keys):
            v_width = 0
        if is_attending:
            k_width += _indexer_k(keys, layer, num_layers)
            v_width += _indexer_v(keys, layer, v)
        has_cache = is_attending and architecture not in (*_NO_CACHE, *_RECURRENT)
        caches.append(
            LayerCache(
                k_width=k_width if has_cache else 0,
                v_width=v_width if has_cache else 0,
                head_width=gcd(k, v) if has_cache else 0,
                window=window if has_cache and is_swa[layer] else 0,
                state_bytes=state_bytes if is_recurrent[layer] else 0,
                query_width=heads[layer] * k if heads_kv[layer] else 0,
            )
        )
    return tuple(caches)


def _windows(keys: Keys, num_layers: int) -> tuple[list[bool], int]:
    """Which layers slide, and over how many tokens."""
    dense = [False] * num_layers
    architecture = keys.architecture
    num_trunk = num_layers - keys.number("nextn_predict_layers")
    swa = _SWA.get(architecture)
    window = keys.number("attention.sliding_window")
    if architecture == "lfm2" and window:
        return [True] * num_layers, window
    if architecture in _SWA_BY_ARRAY:
        flags = keys.array("attention.sliding_window_pattern", num_layers)
        return ([bool(flag) for flag in flags], window) if window else (dense, 0)
    if swa is None or (architecture == "exaone4" and num_trunk != 64):
        return dense, 0
    if not keys.has("attention.sliding_window"):
        window = swa.window
    elif window and swa.fixed:
        window = swa.fixed
    if window == 0:
        return dense, 0
    if keys.is_array("attention.sliding_window_pattern"):
        flags = keys.array("attention.sliding_window_pattern", num_layers)
        return [bool(flag) for flag in flags], window
    every = keys.number("attention.sliding_window_pattern", swa.every)

    def slides(layer: int) -> bool:
        if layer >= num_trunk:
            return False
        if every == 0:
            return True
        return layer % every != (0 if swa.is_dense_first else every - 1)

    return [slides(layer) for layer in range(num_layers)], window


def _recurrent(keys: Keys, heads_kv: list[int], num_layers: int) -> list[bool]:
    architecture = keys.architecture
    num_trunk = num_layers - keys.number("nextn_predict_layers")
    if architecture in _RECURRENT or architecture == "falcon-h1":
        return [layer < num_trunk for layer in range(num_layers)]
    if architecture in _RECURRENT_WITHOUT_HEADS:
        return [layer < num_trunk and heads_kv[layer] == 0 for layer in range(num_layers)]
    if architecture in ("nemotron_h", "nemotron_h_moe"):
        ff = keys.array("feed_forward_length", num_layers)
        return [
            layer < num_trunk and heads_kv[layer] == 0 and ff[layer] == 0
            for layer in range(num_layers)
        ]
    if architecture in _RECURRENT_BY_INTERVAL:
        if keys.has("attention.recurrent_layers"):
            flags = keys.array("attention.recurrent_layers", num_layers)
            return [bool(flag) and layer < num_trunk for layer, flag in enumerate(flags)]
        every = keys.number("full_attention_interval", _RECURRENT_BY_INTERVAL[architecture])
        return [
            layer < num_trunk and (layer + 1) % max(1, every) != 0 for layer in range(num_layers)
        ]
    # Of an unknown one, every layer may keep the state that its keys describe.
    return [architecture not in _KNOWN] * num_layers


def _attends(keys: Keys, layer: int, num_layers: int, is_recurrent: bool) -> bool:
    """Whether the layer has K and V of its own."""
    architecture = keys.architecture
    if architecture not in _KNOWN:
        return True
    if architecture == "gemma3n":
        return layer < _GEMMA3N_LAYERS_WITH_KV
    if architecture == "gemma4":
        return layer < num_layers - keys.number("attention.shared_kv_layers")
    num_trunk = num_layers - keys.number("nextn_predict_layers")
    if 0 < num_trunk <= layer:
        return False
    if architecture in ("nemotron_h", "nemotron_h_moe"):
        ff = keys.array("feed_forward_length", num_layers)
        return not is_recurrent and ff[layer] == 0
    return not is_recurrent or architecture == "falcon-h1"


def _is_latent(keys: Keys) -> bool:
    """MLA: only K is kept, of which V is a part."""
    return keys.architecture in _MLA and bool(
        keys.number("attention.key_length_mla") and keys.number("attention.value_length_mla")
    )


def _indexer_k(keys: Keys, layer: int, num_layers: int) -> int:
    """Width of the keys by which a sparse attention finds the tokens that it reads."""
    width = keys.number("attention.indexer.key_length")
    architecture = keys.architecture
    if width == 0 or architecture == "deepseek32" or architecture not in _KNOWN:
        return width
    if architecture == "minimax-m3":
        return width if layer >= keys.number("leading_dense_block_count") else 0
    if architecture == "hy_v4" and keys.number("attention.indexer.top_k") == 0:
        return 0
    if architecture not in ("dots3note", "glm-dsa", "glm5-next", "hy_v4"):
        return 0
    # Without the list, llama.cpp has one of its own: bounded by all.
    is_full = not keys.has("attention.indexer.types") or bool(
        keys.array("attention.indexer.types", num_layers)[layer]
    )
    return width * (3 if architecture == "glm5-next" else 1) if is_full else 0


def _indexer_v(keys: Keys, layer: int, v_head: int) -> int:
    """llama.cpp gives MiniMax's indexer a V too, which nothing reads."""
    if keys.architecture != "minimax-m3" or layer < keys.number("leading_dense_block_count"):
        return 0
    return v_head


def _state_widths(keys: Keys, heads: list[int], k_head: int) -> tuple[int, int]:
    """Elements of a recurrent layer's two states: what shifts (token shift, convolution) and what
    accumulates."""
    embd, num_heads = keys.number("embedding_length"), heads[0] if heads else 0
    wkv = keys.number("wkv.head_size")
    if wkv:
        shift = keys.number("token_shift_count", 2)
        return shift * embd, embd * wkv
    inner, size = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    if keys.has("shortconv.l_cache"):
        return embd * max(0, keys.number("shortconv.l_cache") - 1), size * inner
    kernel = keys.number("ssm.conv_kernel")
    kda = keys.number("kda.head_dim")
    if kda:
        return 3 * (kernel - 1 if kernel else 3) * num_heads * kda, kda * kda * num_heads
    # Mamba's first version has no groups: llama.cpp then reads none.
    groups = 0 if keys.architecture == "mamba" else keys.number("ssm.group_count")
    shifts = max(0, kernel - 1) * (inner + 2 * groups * size)
    if keys.architecture == "minimax-01":
        return shifts, k_head * k_head * num_heads
    return shifts, size * inner
