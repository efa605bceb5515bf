"""What a load test's outcomes amount to: rates and percentiles, as numbers and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from fmedge.cli.bench_connection import Outcome


class Distribution(Struct, frozen=True, kw_only=True):
    """Of one measure, in milliseconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Report(Struct, frozen=True, kw_only=True):
    """One run. TTFT: arrival to first text. TPOT: (last text - first) / (output tokens - 1).
    inter_token: between one piece of text and the next. e2e: arrival to the end of the stream.
    Rates count successful requests over the whole run; a measure without values is None."""

    num_requests: int
    num_ok: int
    errors: dict[str, int]
    error_examples: dict[str, str]
    duration_s: float
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_ms: Distribution | None
    tpot_ms: Distribution | None
    inter_token_ms: Distribution | None
    e2e_ms: Distribution | None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear interpolation between the closest ranks of sorted, non-empty values."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def distribution(values_s: Iterable[float]) -> Distribution | None:
    """Seconds in, milliseconds out; None for no values."""
    ordered = sorted(value * 1000 for value in values_s)
    if not ordered:
        return None
    return Distribution(
        mean=sum(ordered) / len(ordered),
        p50=percentile(ordered, 50),
        p90=percentile(ordered, 90),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        max=ordered[-1],
    )


def report(outcomes: Sequence[Outcome]) -> Report:
    """Sums up one run."""
    good = [o for o in outcomes if not o.error]
    failed = [o for o in outcomes if o.error]
    first_s = min((o.arrival_s for o in outcomes), default=0.0)
    duration_s = max((o.end_s for o in outcomes), default=0.0) - first_s
    num_prompt = sum(o.num_prompt_tokens for o in good)
    num_output = sum(o.num_output_tokens or len(o.times_s) for o in good)
    per_s = 1 / duration_s if duration_s > 0 else 0.0
    return Report(
        num_requests=len(outcomes),
        num_ok=len(good),
        errors=dict(Counter(o.error for o in failed).most_common()),
        error_examples={o.error: o.detail for o in reversed(failed)},
        duration_s=duration_s,
        num_prompt_tokens=num_prompt,
        num_cached_tokens=sum(o.num_cached_tokens for o in good),
        num_output_tokens=num_output,
        requests_per_s=len(good) * per_s,
        output_tokens_per_s=num_output * per_s,
        total_tokens_per_s=(num_prompt + num_output) * per_s,
        ttft_ms=distribution(o.times_s[0] - o.arrival_s for o in good if o.times_s),
        tpot_ms=distribution(
            (o.times_s[-1] - o.times_s[0]) / ((o.num_output_tokens or len(o.times_s)) - 1)
            for o in good
            if len(o.times_s) > 1 and (o.num_output_tokens or len(o.times_s)) > 1
        ),
        inter_token_ms=distribution(
            later - earlier
            for o in good
            for earlier, later in zip(o.times_s, o.times_s[1:], strict=False)
        ),
        e2e_ms=distribution(o.end_s - o.arrival_s for o in good),
    )


def table(result: Report) -> str:
    """For people."""
    cached = f" ({result.num_cached_tokens} cached)" if result.num_cached_tokens else ""
    lines = [
        f"requests       {result.num_ok} of {result.num_requests} ok in {result.duration_s:.2f} s"
        f" ({result.requests_per_s:.2f}/s)",
        f"prompt tokens  {result.num_prompt_tokens}{cached}",
        f"output tokens  {result.num_output_tokens} ({result.output_tokens_per_s:.1f}/s; with the "
        f"prompts {result.total_tokens_per_s:.1f}/s)",
    ]
    lines += [
        f"failed         {count} x {kind}: {result.error_examples[kind]}"
        for kind, count in result.errors.items()
    ]
    if result.num_ok:
        lines += ["", f"{'ms':12}" + "".join(f"{n:>10}" for n in Distribution.__struct_fields__)]
    measures = {
        "TTFT": result.ttft_ms,
        "TPOT": result.tpot_ms,
        "inter-token": result.inter_token_ms,
        "end to end": result.e2e_ms,
    }
    for name, measure in measures.items():
        if measure is not None:
            values = (getattr(measure, field) for field in Distribution.__struct_fields__)
            lines.append(f"{name:12}" + "".join(f"{value:10.2f}" for value in values))
    return "\n".join(lines)
