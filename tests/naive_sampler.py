"""The sampler as a slow NumPy oracle: every rule written out over the whole vocabulary.

The rule: float64 and sorting throughout, nothing shared with the C that it checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmedge.types import SamplingParams

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def edited_logits(
    logits: NDArray[np.float32],
    params: SamplingParams,
    history: Sequence[int] = (),
    banned: Sequence[int] = (),
    allowed: NDArray[np.bool_] | None = None,
) -> Floats:
    """Logits after penalties, bias, bans and mask; NaN is -inf, +inf the largest float."""
    out = logits.astype(np.float64)
    last_n = len(history) if params.penalty_last_n < 0 else params.penalty_last_n
    window = list(history)[len(history) - min(last_n, len(history)) :]
    for token, count in Counter(window).items():
        logit = out[token]
        logit = logit * params.repeat_penalty if logit <= 0 else logit / params.repeat_penalty
        out[token] = logit - count * params.frequency_penalty - params.presence_penalty
    for token, bias in params.logit_bias:
        out[token] += bias
    out[list(banned)] = -np.inf
    if allowed is not None:
        out[~allowed] = -np.inf
    out[np.isnan(out)] = -np.inf
    return np.minimum(out, float(np.finfo(np.float32).max))


def ranking(logits: Floats) -> Ints:
    """Drawable tokens, best first, the lower id first among equals."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    return order[np.isfinite(logits[order])].astype(np.int64)


def softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def kept_tokens(logits: Floats, params: SamplingParams) -> Ints:
    """What top_k, top_p and min_p leave, best first."""
    kept = ranking(logits)
    if params.temperature == 0:
        return kept[:1]
    if params.top_k > 0:
        kept = kept[: params.top_k]
    if params.top_p < 1:
        reached = np.cumsum(softmax(logits[kept])) >= params.top_p
        kept = kept[: int(np.argmax(reached)) + 1 if reached.any() else len(kept)]
    if params.min_p > 0:
        kept = kept[logits[kept] >= logits[kept[0]] + np.log(params.min_p)]
    return kept


def distribution(logits: Floats, params: SamplingParams) -> Floats:
    """Probability of each token of the vocabulary."""
    out = np.zeros(len(logits))
    kept = kept_tokens(logits, params)
    temperature = params.temperature if params.temperature > 0 else 1.0
    out[kept] = softmax(logits[kept] / temperature)
    return out


def logprobs(logits: NDArray[np.float32]) -> Floats:
    """The model's own: before anything is done to the logits."""
    clean = edited_logits(logits, SamplingParams())
    top = clean.max()
    return np.asarray(clean - top - np.log(np.exp(clean - top).sum()))


def philox(seed: int, counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 of Salmon et al. 2011."""
    key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    c = list(counter)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (b >> 32) ^ c[1] ^ key[0],
            b & 0xFFFFFFFF,
            (a >> 32) ^ c[3] ^ key[1],
            a & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c[0], c[1], c[2], c[3]


def uniform(seed: int, index: int) -> float:
    """The first random number of an output index, in [0, 1)."""
    a, b, _, _ = philox(seed, (index & 0xFFFFFFFF, index >> 32, 0, 0))
    return float((a >> 5) << 26 | b >> 6) * 2.0**-53


def draw_small(logits: Floats, params: SamplingParams, index: int) -> tuple[int, float]:
    """The very token drawn where top_k holds few: the running sum goes from the worst kept token
    up. Second: how near the random number came to choosing a neighbour instead."""
    kept = kept_tokens(logits, params)[::-1]
    edges = np.cumsum(softmax(logits[kept] / params.temperature))
    u = uniform(params.seed, index)
    at = int(np.searchsorted(edges, u, side="right"))
    return int(kept[min(at, len(kept) - 1)]), float(np.abs(edges - u).min())
