"""A profile for people: what was measured, how well the model fits it, and its curves."""

from __future__ import annotations

from fmedge.cli.drawing import bars
from fmedge.cli.table import duration, print_table, size
from fmedge.sched.profile import StepProfile
from fmedge.sched.steptime import Curve, StepModel
from fmedge.server.profiling import ReplicaProfile

SHALLOW_TOKENS = 16
MAX_ROWS = 12


def show(found: ReplicaProfile) -> None:
    """Prints it."""
    profile = found.profile
    hardware = profile.key.hardware
    machine = "; ".join((f"{hardware.cpu}, {hardware.num_cores} cores", *hardware.devices))
    print(f"{found.replica}  ({machine}; {profile.key.build})")
    memory = sum(row.weights + row.context + row.compute for row in profile.memory)
    print(
        f"loaded in {duration(1e3 * profile.load_s)}, {size(memory)}; {profile.num_samples} steps "
        f"measured in {duration(1e3 * profile.measured_s)}"
        + ("" if profile.is_complete else "; requests ended it early")
    )
    _show_errors(profile)
    print(f"\nA step that decodes, by sequences of {SHALLOW_TOKENS} tokens each:")
    print("\n".join(decode_bars(profile.model)))
    print("\nA step that prefills, by tokens:")
    print("\n".join(prefill_bars(profile.model)))
    kv_ms, attention_ms = 1e6 * profile.model.kv_s, 1e3 * attention_s(profile.model)
    print(
        f"\nBeside it: {kv_ms:.3g} ms for each 1,000 tokens of KV that decoding reads, "
        f"{attention_ms:.3g} ms for 512 tokens of prefill after each 1,000.\n"
    )


def _show_errors(profile: StepProfile) -> None:
    fitted = profile.fitted
    if fitted is None:
        print("The model is a prior: nothing was measured.")
        return
    print("\nErrors on steps that the fit had not seen (cross-validated):")
    rows = [
        [region.region, str(region.num_samples), _percent(region.median_error),
         _percent(region.p90_error)]
        for region in fitted.regions
    ]  # fmt: skip
    rows.append(
        ["all", str(fitted.num_samples), _percent(fitted.median_error), _percent(fitted.p90_error)]
    )
    print_table(["STEPS", "NUMBER", "MEDIAN", "P90"], rows)
    print(f"Equal steps differ by {_percent(fitted.noise)}: no model can do better.")


def decode_bars(model: StepModel) -> list[str]:
    """Time of a step over the number of sequences that decode, a line for each knot."""
    rows = []
    for num in _knots(model.decode, model.tokens, default=(1, 2, 4, 8)):
        step_s = model.step_s(0, num, num * SHALLOW_TOKENS)
        rows.append((f"{num:g}", step_s, f"{duration(1e3 * step_s)}, {num / step_s:.0f} tokens/s"))
    return bars(rows)


def prefill_bars(model: StepModel) -> list[str]:
    """Time of a step over the number of prompt tokens in it, a line for each knot."""
    rows = []
    for num in _knots(model.prefill, model.tokens, default=(1, 16, 64, 256, 512)):
        step_s = model.step_s(num, 0, 0, num * num / 2)
        rows.append((f"{num:g}", step_s, f"{duration(1e3 * step_s)}, {num / step_s:.0f} tokens/s"))
    return bars(rows)


def attention_s(model: StepModel) -> float:
    """What 1,000 tokens more of past cost 512 tokens of prefill."""
    return model.step_s(512, 0, 0, 512 * 1000) - model.step_s(512, 0)


def _knots(curve: Curve, shared: Curve, default: tuple[int, ...]) -> list[float]:
    """Where the curve bends, at most MAX_ROWS of it; of a curve that is 0, the default's."""
    knots = [knot for knot in curve.knots if knot >= 1]
    if curve.is_zero or not knots:
        knots = [*map(float, default)]
    if len(knots) > MAX_ROWS:
        step = (len(knots) - 1) / (MAX_ROWS - 1)
        knots = [knots[round(i * step)] for i in range(MAX_ROWS)]
    return knots


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
