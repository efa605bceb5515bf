"""What may decide in the simulator: the scheduler's policies, fmedge's with parts left out, and an
oracle that knows how long answers become.

The rule: what differs is what the core is told or does without; the world is the same for all.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from fmedge.config.values import one_of
from fmedge.errors import ConfigError
from fmedge.sched.core import ESTIMATING, Policy
from fmedge.sched.core import POLICIES as CORE_POLICIES
from fmedge.sched.events import ABLATIONS as CORE_ABLATIONS
from fmedge.sched.events import CoreSettings

ORACLE = "oracle"
POLICIES: tuple[str, ...] = (*CORE_POLICIES, ORACLE)

ABLATIONS: dict[str, str] = {
    "queue": "what replicas have to do already is in no estimate (l_q = 0)",
    "lengths": "output lengths are not predicted",
    "rectify": "what is at risk is not looked at again",
    "prefixes": "nothing is known of what replicas' KV holds",
}


class Rules(Struct, frozen=True, kw_only=True):
    """One policy. label: with what it does without. knows_lengths: true output lengths are told;
    predicts: else those that were learned are. estimates: it wants to know of all replicas when it
    decides."""

    label: str
    core: Policy
    without: frozenset[str] = frozenset()
    knows_lengths: bool = False

    @property
    def estimates(self) -> bool:
        return self.core in ESTIMATING

    @property
    def predicts(self) -> bool:
        return "lengths" not in self.without

    @property
    def sees_prefixes(self) -> bool:
        return "prefixes" not in self.without

    def settings(self, settings: CoreSettings | None, seed: int) -> CoreSettings:
        """The core's, with this policy's ablations."""
        given = settings or CoreSettings()
        return replace(given, seed=seed, without=given.without | (self.without & CORE_ABLATIONS))


def rules(policy: str, without: Collection[str] = ()) -> Rules:
    """ConfigError for an unknown policy or part, or one that the policy does not have."""
    if policy not in POLICIES:
        raise ConfigError(f"there is no policy {policy!r}{one_of(policy, POLICIES)}")
    for part in without:
        if part not in ABLATIONS:
            raise ConfigError(f"fmedge has no part {part!r} to do without{one_of(part, ABLATIONS)}")
    if without and policy != "fmedge":
        raise ConfigError(f"only fmedge can do without {', '.join(without)}; {policy} has no parts")
    left_out = frozenset(without)
    parts = ", ".join(part for part in ABLATIONS if part in left_out)
    return Rules(
        label=f"{policy} without {parts}" if parts else policy,
        core="fmedge" if policy == ORACLE else cast(Policy, policy),
        without=left_out,
        knows_lengths=policy == ORACLE,
    )
