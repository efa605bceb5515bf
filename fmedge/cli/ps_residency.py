"""The second part of `fmedge ps`: which models are in memory, on which devices, and why."""

from __future__ import annotations

from typing import Any

from fmedge.cli.table import duration, print_table, size

Json = dict[str, Any]


def show(models: list[Json]) -> None:
    """A line for each replica; of a model without a planned one, a line of its own."""
    rows = []
    for model in models:
        for number, replica in enumerate(model["replicas"] or [{}]):
            rows.append(_row(model, replica, is_first=number == 0))
    print_table(["MODEL", "STATE", "USED", "KEEPS", "LAYERS", "MEMORY", "WHY"], rows)


def show_provisioner(provisioner: Json) -> None:
    """When and why the plan in force was made, and what stands in the way of a better one."""
    age = duration(1e3 * provisioner["age_s"])
    print(f"planned {age} ago: {provisioner['why']}")
    gone = [name for name, is_there in provisioner["devices"].items() if not is_there]
    if gone:
        print(f"not there: {', '.join(gone)}")
    for text in (*provisioner["problems"], *provisioner["warnings"]):
        print(text)


def _row(model: Json, replica: Json, *, is_first: bool) -> list[str]:
    state, why = str((replica or model)["state"]), str((replica or model)["why"])
    if is_first and model["state"] in ("unloaded", "failed"):
        state, why = model["state"], model["error"] or model["why"]
        if model["state"] == "unloaded" and model["ready_in_s"] is not None:
            state += f" (~{duration(1e3 * model['ready_in_s'])})"
    elif state == "loading" and model["ready_in_s"]:
        state += f" ({duration(1e3 * model['ready_in_s'])} left)"
    memory = (f"{size(held)} {device}" for device, held in replica.get("bytes", {}).items())
    return [
        model["model"] if is_first else "",
        state,
        _used(model) if is_first else "",
        _keeps(model) if is_first else "",
        _layers(replica.get("placement", [])) or "-",
        ", ".join(memory) or "-",
        why,
    ]


def _used(model: Json) -> str:
    idle_s = model["idle_s"]
    if idle_s is None:
        return "never"
    return "now" if idle_s < 1 else f"{duration(1e3 * idle_s)} ago"


def _keeps(model: Json) -> str:
    if model["is_pinned"]:
        return "pinned"
    left_s = model["keep_alive_left_s"]
    return "-" if left_s is None else duration(1e3 * max(0.0, left_s))


def _layers(placement: list[Json]) -> str:
    """Such as "0-15 gpu0, 16-32 gpu1, 0-7 experts CPU"."""
    parts = []
    for placed in placement:
        if placed["tensors"] == "input":
            continue
        what = "" if placed["tensors"] in ("all", "dense") else f" {placed['tensors']}"
        first, last = placed["first_layer"], placed["last_layer"]
        layers = f"{first}" if first == last else f"{first}-{last}"
        parts.append(f"{layers}{what} {placed['device']}")
    return ", ".join(parts)
