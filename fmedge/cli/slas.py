"""`--sla`: promises for the calls of a workload that has none, for verbs that play workloads."""

from __future__ import annotations

import argparse
from math import inf

import msgspec
from msgspec import Struct

from fmedge.config.promises import SlaConfig, check_class, check_name
from fmedge.errors import ConfigError
from fmedge.sim.outcome import has_promise
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise

_GOLDEN = 0.6180339887498949
_FIELDS = ("ttft_ms", "tpot_ms", "e2e_ms", "target", "on_miss", "weight")


class Slas(Struct, frozen=True, kw_only=True):
    """classes: by name, "" the one that was given without. shares: of the calls that have no
    promise, by name."""

    classes: dict[str, Promise] = {}
    shares: dict[str, float] = {}

    def applied(self, workload: Workload) -> Workload:
        """With promises for calls that have none, of their own or their workflow's. Which call gets
        which follows from its place alone: classes alternate as evenly as their shares allow."""
        if not self.classes:
            return workload
        calls = tuple(
            call
            if has_promise(call) or _is_of_task(call, workload)
            else msgspec.structs.replace(call, promise=self._of(place))
            for place, call in enumerate(workload.calls)
        )
        return msgspec.structs.replace(workload, calls=calls)

    def _of(self, place: int) -> Promise:
        left = (place * _GOLDEN) % 1.0
        for name, share in self.shares.items():
            left -= share
            if left < 0:
                return self.classes[name]
        return Promise()


def _is_of_task(call: Call, workload: Workload) -> bool:
    settings = workload.workflows.get(call.workflow)
    return settings is not None and settings.e2e_s < inf


def add_slas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sla", action="append", default=[], metavar="[NAME:]KEY=VALUE,...",
        help="ttft_ms=N,tpot_ms=N,e2e_ms=N,share=X: promise of the calls that have none in the "
        "workload; repeat for more classes, each for its share of them [what the others leave]",
    )  # fmt: skip


def read_slas(texts: list[str]) -> Slas:
    """ConfigError for what is no promise."""
    classes: dict[str, Promise] = {}
    shares: dict[str, float | None] = {}
    for text in texts:
        where = f"--sla {text}"
        name, colon, rest = text.rpartition(":")
        if colon:
            check_name(name, where)
        if name in classes:
            raise ConfigError(f"{where}: the class {name!r} is given twice")
        fields, share = _fields(rest, where)
        try:
            sla = msgspec.convert(fields, SlaConfig, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {error}") from error
        check_class(sla, where)
        classes[name], shares[name] = sla.promise(name), share
    given = sum(share for share in shares.values() if share is not None)
    if given > 1 + 1e-9:
        raise ConfigError(f"--sla: the shares add up to {given:g}, more than 1")
    num_open = sum(share is None for share in shares.values())
    each = (1 - given) / num_open if num_open else 0.0
    return Slas(
        classes=classes,
        shares={name: each if share is None else share for name, share in shares.items()},
    )


def _fields(text: str, where: str) -> tuple[dict[str, str], float | None]:
    fields: dict[str, str] = {}
    share: float | None = None
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in (*_FIELDS, "share") or key in fields:
            raise ConfigError(f"{where}: expected KEY=VALUE, KEY one of {', '.join(_FIELDS)} or "
                              f"share, each once; found {part.strip()!r}")  # fmt: skip
        if key != "share":
            fields[key] = value
            continue
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise ConfigError(f"{where}: share must be more than 0 and at most 1")
    return fields, share
