"""Whom and what a workload's calls mean: the model of those that name none, and their workflows.

The rule: what the cluster cannot serve is said before anything is played.
"""

from __future__ import annotations

from collections.abc import Sequence

from fmedge.errors import ConfigError
from fmedge.sim.workload import Workload
from fmedge.types import WorkflowSettings


def only_model(workload: Workload, models: Sequence[str]) -> str:
    """Whom a call means that names no model. ConfigError for one that means nobody."""
    for call in workload.calls:
        if call.model and call.model not in models:
            raise ConfigError(
                f"the workload asks for the model {call.model!r}, which the cluster does not "
                f"serve; it serves {', '.join(models)}"
            )
        if not call.model and len(models) > 1:
            raise ConfigError(
                "the workload names no model, and the cluster serves several: " + ", ".join(models)
            )
    return models[0]


def workflows_of(workload: Workload) -> dict[str, WorkflowSettings]:
    """Those that calls belong to; without a promise where the workload has none for them."""
    names = dict.fromkeys(call.workflow for call in workload.calls if call.workflow)
    return {name: workload.workflows.get(name, WorkflowSettings(name=name)) for name in names}
