"""Whether interrupted streams of a real engine went on as they would have without it.

llama.cpp multiplies one row with other kernels than several, so what a stream computes alone or
beside others, or prefills instead of decoding, differs in the last bits; where the two best tokens
nearly tie, the stream may then take the other one. That happens to one of many streams; a token
lost or repeated shows in each that was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

_SEEN = 8
"""Tokens by which a shift is known."""


def assert_same(streams: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> None:
    """All equal but for a quarter of them, at least one, whose difference is no lost or repeated
    token."""
    assert [len(stream) for stream in streams] == [len(other) for other in others]
    pairs = [(a, b) for a, b in zip(streams, others, strict=True) if list(a) != list(b)]
    assert len(pairs) <= max(1, len(streams) // 4), f"{len(pairs)} of {len(streams)} differ"
    for a, b in pairs:
        i = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        assert i > 0
        rest = len(a) - i - _SEEN - 1
        if rest >= 0:
            assert list(a[i : i + _SEEN]) != list(b[i + 1 : i + 1 + _SEEN]), "a token was lost"
            assert list(b[i : i + _SEEN]) != list(a[i + 1 : i + 1 + _SEEN]), "one was repeated"
