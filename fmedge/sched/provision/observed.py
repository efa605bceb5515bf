"""What models were asked for lately, from the decisions that the scheduler kept: the demand that
the next plan is made for, and how promises fared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, inf

from msgspec import Struct

from fmedge.sched.decision import Decision
from fmedge.sched.provision.replan import ModelSignal


class Observed(Struct, frozen=True, kw_only=True):
    """One model's requests in a window of time. Tokens are quantiles over them: output of those
    that finished, 0 where none did. sla_class: the one that most of them were in."""

    model: str
    num_requests: int
    rate_per_s: float
    prompt_p50: int
    prompt_p95: int
    output_p50: int
    output_p95: int
    sla_class: str = ""
    num_judged: int = 0
    num_missed: int = 0

    def signal(self, target: float) -> ModelSignal:
        return ModelSignal(
            model=self.model,
            rate_per_s=self.rate_per_s,
            num_requests=self.num_requests,
            num_judged=self.num_judged,
            num_missed=self.num_missed,
            target=target,
        )


def observe(
    decisions: Iterable[Decision], now_s: float, window_s: float, since_s: float = -inf
) -> dict[str, Observed]:
    """By model, of the requests that arrived in the last window_s seconds, and after since_s (when
    this began to be watched, or the plan in force was). A refused promise is a broken one."""
    start_s = max(now_s - window_s, since_s)
    recent: dict[str, list[Decision]] = {}
    for decision in decisions:
        if start_s < decision.arrived_s <= now_s:
            recent.setdefault(decision.model, []).append(decision)
    seen_s = max(1.0, now_s - start_s)
    return {model: _of_model(model, own, seen_s) for model, own in recent.items()}


def _of_model(model: str, decisions: list[Decision], seen_s: float) -> Observed:
    prompts = sorted(d.num_prompt_tokens for d in decisions)
    outputs = sorted(d.num_output_tokens for d in decisions if d.num_output_tokens > 0)
    classes = [d.sla_class for d in decisions]
    promised = [d for d in decisions if min(d.ttft_limit_s, d.tpot_limit_s, d.e2e_limit_s) < inf]
    refused = sum(d.action == "refuse" for d in promised)
    return Observed(
        model=model,
        num_requests=len(decisions),
        rate_per_s=len(decisions) / seen_s,
        prompt_p50=_quantile(prompts, 0.5),
        prompt_p95=_quantile(prompts, 0.95),
        output_p50=_quantile(outputs, 0.5),
        output_p95=_quantile(outputs, 0.95),
        sla_class=max(sorted(set(classes)), key=classes.count),
        num_judged=refused + sum(d.held is not None for d in promised),
        num_missed=refused + sum(d.held is False for d in promised),
    )


def _quantile(ordered: list[int], share: float) -> int:
    """The least value that so large a share does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0


def rates(observed: Mapping[str, Observed]) -> dict[str, float]:
    """Requests per second by model."""
    return {model: own.rate_per_s for model, own in observed.items()}
