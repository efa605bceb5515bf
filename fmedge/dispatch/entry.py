"""What dispatch knows of one replica: the process, its profile as its steps correct it, and the
figures of its last step."""

from __future__ import annotations

import logging

from fmedge.dispatch.observe import RECTIFIED
from fmedge.metrics import Metrics
from fmedge.replica.interface import Replica
from fmedge.replica.protocol import Step
from fmedge.sched.events import StepFacts
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.live import LiveModel
from fmedge.sched.profile import StepProfile
from fmedge.sched.steps import StepLimits
from fmedge.types import EngineInfo

PRIOR_STEPS = 5.0
"""What a profile that was not measured on this machine is worth, in steps that were."""

log = logging.getLogger(__name__)


class ReplicaEntry:
    """One replica. `profile` is None until it is known; it outlives the worker's restarts."""

    def __init__(self, replica: Replica, metrics: Metrics) -> None:
        self.replica = replica
        self.info: EngineInfo | None = None
        self.last_step: Step | None = None
        self.is_serving = False
        self.is_gone = False
        self.is_retiring = False
        self.profile: StepProfile | None = None
        self.live: LiveModel | None = None
        self.generated_tokens = metrics.generated_tokens.labels(replica.model)
        self.preemptions = metrics.preemptions.labels(replica.model, replica.name)
        for why in ("crashed", "hung"):  # counted from 0 on
            metrics.worker_restarts.labels(replica.model, replica.name, why)
        for what in RECTIFIED:
            metrics.rectified.labels(replica.model, what)
        self._drifts = metrics.step_drifts.labels(replica.model, replica.name)
        self._ratios = metrics.step_drift_ratio

    def set_profile(self, profile: StepProfile) -> None:
        """Estimates use it from the next `on_replica_ready` on."""
        self.profile = profile
        is_prior = profile.source == "prior"
        self.live = (
            LiveModel(profile.model, prior_steps=PRIOR_STEPS)
            if is_prior
            else LiveModel(profile.model)
        )

    def facts(self) -> ReplicaFacts:
        """What the estimates must know of the loaded engine."""
        info = self.info
        assert info is not None
        return ReplicaFacts(
            slots=info.slots,
            ctx_size=info.ctx_size,
            limits=StepLimits(max_tokens=info.batch_size),
            kv_unified=info.kv_unified,
            kv_tokens=info.kv_tokens,
        )

    def learn(self, step: Step) -> None:
        """Correct the profile by a step; a lasting change is logged and counted."""
        if self.live is None:
            return
        drift = self.live.observe(
            step.num_prefill_tokens,
            step.num_decode_seqs,
            step.num_kv_tokens,
            step.prefill_attention,
            step.period_s,
        )
        if drift is not None:
            self._drifts.inc()
            log.log(
                logging.WARNING if drift.ratio > 1 else logging.INFO,
                "replica %s: %s steps take %.2f ms where they took %.2f ms (%.2fx), for %.1f s by "
                "now; estimates follow%s",
                self.replica.name, drift.kind, drift.after_ms, drift.before_ms, drift.ratio,
                drift.since_s,
                ". Another load on the machine, or heat?" if drift.ratio > 1 else "",
            )  # fmt: skip

    def set_gauges(self) -> None:
        """How far step times are from the profile now."""
        if self.live is None:
            return
        state = self.live.state()
        labels = (self.replica.model, self.replica.name)
        self._ratios.labels(*labels, "prefill").set(state.scale_prefill)
        self._ratios.labels(*labels, "decode").set(state.scale_decode)


NO_FACTS = StepFacts()


def step_facts(step: Step, prefilled: tuple[tuple[int, int], ...]) -> StepFacts:
    """A step in the scheduler's terms; `prefilled` by request id."""
    prefill_s, decode_s = step.rates
    if not prefilled and not decode_s and not prefill_s:
        return NO_FACTS
    return StepFacts(prefilled, prefill_s, decode_s)
