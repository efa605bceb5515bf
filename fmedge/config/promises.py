"""What is promised: service classes, [sla.NAME], and workflows, [workflows.NAME].

The rule: a promise that cannot be meant is refused here, so that nobody further in asks again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import inf
from typing import Annotated, Literal

from msgspec import Meta, Struct

from fmedge.config.values import nearest
from fmedge.errors import ConfigError
from fmedge.types import Promise, WorkflowSettings

MAX_NAME_LENGTH = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Milliseconds = Annotated[float, Meta(gt=0, le=86_400_000)]
Target = Annotated[float, Meta(gt=0, lt=1)]
Weight = Annotated[float, Meta(gt=0, le=1_000_000)]
Words = tuple[Annotated[str, Meta(min_length=1)], ...]
OnMiss = Literal["best_effort", "refuse"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]

_TARGET = "probability with which the promise shall hold"
_ON_MISS = "what becomes of a request whose promise cannot be kept; refuse answers 429"
_WEIGHT = "worth of a kept promise beside other classes'"


class SlaConfig(Struct, frozen=True, kw_only=True):
    """A class of service: section [sla.NAME]. None promises nothing."""

    ttft_ms: Annotated[
        Milliseconds | None, Meta(description="promised time to the first token")
    ] = None
    tpot_ms: Annotated[
        Milliseconds | None, Meta(description="promised time for each further token, on average")
    ] = None
    e2e_ms: Annotated[Milliseconds | None, Meta(description="promised time to the last token")] = (
        None
    )
    target: Annotated[Target, Meta(description=_TARGET)] = 0.9
    on_miss: Annotated[OnMiss, Meta(description=_ON_MISS)] = "best_effort"
    weight: Annotated[Weight, Meta(description=_WEIGHT)] = 1.0
    keys: Annotated[
        Words, Meta(description="names, in the API key file, of the keys that get this class")
    ] = ()
    models: Annotated[
        Words, Meta(description="names or aliases of the models that get this class")
    ] = ()
    service_tiers: Annotated[
        tuple[ServiceTier, ...], Meta(description="values of service_tier that get this class")
    ] = ()

    def promise(self, name: str) -> Promise:
        """In seconds, as the scheduler wants it."""
        return Promise(
            sla_class=name,
            ttft_s=_seconds(self.ttft_ms),
            tpot_s=_seconds(self.tpot_ms),
            e2e_s=_seconds(self.e2e_ms),
            target=self.target,
            on_miss=self.on_miss,
            weight=self.weight,
        )


class WorkflowConfig(Struct, frozen=True, kw_only=True):
    """A kind of task that takes several calls: section [workflows.NAME]. Without e2e_ms it is
    learned and reported on, and promises nothing."""

    e2e_ms: Annotated[
        Milliseconds | None,
        Meta(description="promised time from an instance's first call to the end of its last"),
    ] = None
    target: Annotated[Target, Meta(description=_TARGET)] = 0.9
    on_miss: Annotated[OnMiss, Meta(description=_ON_MISS)] = "best_effort"
    weight: Annotated[Weight, Meta(description=_WEIGHT)] = 1.0
    idle_s: Annotated[
        float,
        Meta(gt=0, le=604_800, description="an instance without a call for so long is over"),
    ] = 300.0

    def settings(self, name: str) -> WorkflowSettings:
        """In seconds, as the scheduler wants it."""
        return WorkflowSettings(
            name=name,
            e2e_s=_seconds(self.e2e_ms),
            target=self.target,
            on_miss=self.on_miss,
            weight=self.weight,
            idle_s=self.idle_s,
        )


def _seconds(milliseconds: float | None) -> float:
    return inf if milliseconds is None else milliseconds / 1e3


def check_name(name: str, where: str) -> None:
    """Names of classes, workflows and replicas travel in headers and metrics."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        shown = name if len(name) <= MAX_NAME_LENGTH else name[:MAX_NAME_LENGTH] + "..."
        raise ConfigError(
            f"{where}: {shown!r} is no name: at most {MAX_NAME_LENGTH} of the characters "
            "A-Z a-z 0-9 _ . -, the first a letter or digit"
        )


def check_class(sla: SlaConfig, where: str) -> None:
    """ConfigError for a class that promises nothing, or what cannot all be kept or meant."""
    ttft_ms, tpot_ms, e2e_ms = sla.ttft_ms, sla.tpot_ms, sla.e2e_ms
    if ttft_ms is None and e2e_ms is None:
        if tpot_ms is None:
            raise ConfigError(
                f"{where}: promises nothing: set ttft_ms or e2e_ms (and tpot_ms, if you like)"
            )
        raise ConfigError(
            f"{where}: tpot_ms alone leaves open when the first token comes: set ttft_ms or "
            "e2e_ms too"
        )
    if e2e_ms is None:
        return
    for key, value in (("ttft_ms", ttft_ms), ("tpot_ms", tpot_ms)):
        if value is not None and value > e2e_ms:
            raise ConfigError(
                f"{where}: {key} = {value:g} is more than e2e_ms = {e2e_ms:g}, which is the whole "
                f"request's: lower {key} or raise e2e_ms"
            )


def check_workflow(workflow: WorkflowConfig, given: Iterable[str], where: str) -> None:
    """given: the keys that the file sets."""
    idle = [key for key in ("target", "on_miss", "weight") if key in given]
    if workflow.e2e_ms is None and idle:
        raise ConfigError(
            f"{where}: {', '.join(idle)} without e2e_ms: there is no promise that it could be "
            "about; set e2e_ms"
        )


def check_choice(classes: Mapping[str, SlaConfig], default: str, file: str, where: str) -> None:
    """No key, model or tier in two classes; `default`, set at `where`, is one of them."""
    for what in ("keys", "models", "service_tiers"):
        owners: dict[str, str] = {}
        for name, sla in classes.items():
            for word in dict.fromkeys(getattr(sla, what)):
                if word in owners:
                    raise ConfigError(
                        f"{file}: [sla.{name}] {what}: {word!r} is in [sla.{owners[word]}] too: "
                        "name it in one of them"
                    )
                owners[word] = name
    if default and default not in classes:
        hint = nearest(default, classes) or (
            f"; there are {', '.join(classes)}" if classes else "; write an [sla.NAME] section"
        )
        raise ConfigError(f"{where}: there is no class {default!r}{hint}")
