"""Figures in sentences."""

from __future__ import annotations

GIB = 1 << 30


def gib(num_bytes: float) -> str:
    """Such as "15.2 GiB" or "310 MiB"."""
    if num_bytes >= 99.95 * GIB:
        return f"{num_bytes / GIB:.0f} GiB"
    if num_bytes >= 0.0995 * GIB:
        return f"{num_bytes / GIB:.1f} GiB"
    return f"{num_bytes / (1 << 20):.0f} MiB"


def rate(per_s: float) -> str:
    """Such as "92" or "7.1"."""
    return f"{per_s:.0f}" if per_s >= 19.95 else f"{per_s:.1f}"


def percent(share: float) -> str:
    """Such as "91 %" or "89.8 %": never rounded up to what it is not."""
    text = f"{int(share * 1000) / 10:.1f}".removesuffix(".0")
    return f"{text} %"


def seconds(duration_s: float) -> str:
    """Such as "180 ms" or "2.3 s"."""
    if duration_s < 0.9995:
        return f"{duration_s * 1e3:.0f} ms"
    return f"{duration_s:.1f} s"
