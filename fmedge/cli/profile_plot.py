"""The curves of profiles as an image, by matplotlib where that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fmedge.errors import ConfigError

if TYPE_CHECKING:
    from fmedge.server.profiling import ReplicaProfile

FORMATS = ("png", "svg", "pdf")
DEPTHS = (16, 512, 4096)


def check_plot(path: str) -> None:
    """ConfigError, before anything is measured, for what would fail at the end."""
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'fmedge[plot]'")
    if Path(path).suffix.lower().removeprefix(".") not in FORMATS:
        raise ConfigError(f"--plot {path}: the file's name must end in .{', .'.join(FORMATS)}")
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no such folder")


def plot(found: list[ReplicaProfile], path: str) -> None:
    """Decoding on the left, prefill on the right; a colour for each replica."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    decode, prefill = figure.subplots(1, 2)
    for number, one in enumerate(found):
        model, settings = one.profile.model, one.profile.key.engine
        colour = f"C{number % 10}"
        nums = range(1, settings.slots + 1)
        depths = [d for d in DEPTHS if not settings.ctx_size or d < settings.ctx_size]
        for depth, style in zip(depths, ("-", "--", ":"), strict=False):
            label = f"{one.replica}, {depth} tokens of KV each"
            times = [1e3 * model.step_s(0, d, d * depth) for d in nums]
            decode.plot(nums, times, style, color=colour, label=label, marker=".")
        chunks = sorted({*(k for k in model.prefill.knots if k), *range(16, 513, 16)})
        times = [1e3 * model.step_s(p, 0, 0, p * p / 2) for p in chunks]
        prefill.plot(chunks, times, color=colour, label=one.replica)
    decode.set(xlabel="sequences that decode", ylabel="ms a step", title="Decoding")
    prefill.set(xlabel="prompt tokens in the step", ylabel="ms a step", title="Prefill")
    for axes in (decode, prefill):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
