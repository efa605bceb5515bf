"""What a request is promised and which call of which workflow it is: from body, headers, class.

Each limit is the body's, else a header's, else the class's. A header in our name that means
nothing here is an error, because a promise whose name has a typing error would not be kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from fmedge.errors import RequestError
from fmedge.http.auth import api_key_id
from fmedge.http.decode import listed, nearest
from fmedge.http.estimate_headers import DESCRIPTIONS as RESPONSE_HEADERS
from fmedge.http.schemas import MAX_MS, Sla
from fmedge.types import BEST_EFFORT, Promise, WorkflowCall

if TYPE_CHECKING:
    from aiohttp import web

    from fmedge.http.settings import HttpSettings

Limit = Literal["ttft_s", "tpot_s", "e2e_s"]

MAX_NAME_CHARS = 256

SLA = "x-fmedge-sla"
WORKFLOW = "x-fmedge-workflow"
INSTANCE = "x-fmedge-workflow-id"
STAGE = "x-fmedge-stage"
DEADLINE = "x-fmedge-deadline-ms"
LAST = "x-fmedge-workflow-last"
LIMITS: dict[str, Limit] = {
    "x-fmedge-slo-ttft-ms": "ttft_s",
    "x-fmedge-slo-tpot-ms": "tpot_s",
    "x-fmedge-slo-e2e-ms": "e2e_s",
    "x-llm-d-slo-ttft-ms": "ttft_s",
    "x-llm-d-slo-tpot-ms": "tpot_s",
}
_FIELDS: tuple[tuple[str, Limit], ...] = (
    ("ttft_ms", "ttft_s"), ("tpot_ms", "tpot_s"), ("e2e_ms", "e2e_s"),
)  # fmt: skip
DESCRIPTIONS = {
    "x-fmedge-slo-ttft-ms": "Until the first token, in milliseconds.",
    "x-fmedge-slo-tpot-ms": "For each token after the first, on average, in milliseconds.",
    "x-fmedge-slo-e2e-ms": "Until the last token, in milliseconds.",
    "x-llm-d-slo-ttft-ms": "llm-d's name of x-fmedge-slo-ttft-ms.",
    "x-llm-d-slo-tpot-ms": "llm-d's name of x-fmedge-slo-tpot-ms.",
    SLA: "An SLA class of the configuration, [sla.NAME].",
    WORKFLOW: "The workflow of the configuration, [workflows.NAME], that this is a call of.",
    INSTANCE: "The run of the workflow: the same for all of its calls.",
    STAGE: "The workflow's stage that this call is.",
    DEADLINE: "Time left for the whole run from now on, in milliseconds.",
    LAST: "1: the run ends with this call.",
}
HEADERS = tuple(DESCRIPTIONS)
_OURS = b"x-fmedge-"
_KNOWN = {name.encode(): name for name in HEADERS}
# What a response carries may come back from a client or a proxy that copies headers.
_IGNORED = frozenset(name.encode() for name in RESPONSE_HEADERS)
# How the names begin: nearly every request has none, and clients' libraries send many others.
_BEGINNINGS = frozenset(x + b"-" + c for x in (b"x", b"X") for c in (b"f", b"F", b"l", b"L"))
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


class Terms(NamedTuple):
    """On what terms a request is served."""

    promise: Promise = BEST_EFFORT
    workflow: WorkflowCall | None = None


class Promises:
    """Reads the terms of requests; one for each app."""

    def __init__(self, settings: HttpSettings) -> None:
        self._classes = settings.sla_classes
        self._workflows = settings.workflows
        self._of_tier = settings.class_of_tier
        self._of_key = settings.class_of_key
        self._of_model = settings.class_of_model
        self._default = settings.default_class

    def terms(
        self, request: web.Request, model: str, *, sla: Sla | None = None, tier: str | None = None
    ) -> Terms:
        """model: its own name; sla, tier: the body's. Raises RequestError that names the field or
        the header."""
        headers = sent_headers(request)
        if not headers and sla is None:
            return Terms(self._standing(request, model, tier))
        promise = self._promise(headers, sla) or self._standing(request, model, tier)
        return Terms(_with_limits(promise, headers, sla), self._call(headers))

    def _standing(self, request: web.Request, model: str, tier: str | None) -> Promise:
        """Of a request that names no class."""
        if not self._classes:
            return BEST_EFFORT
        name = (
            self._of_tier.get(tier or "")
            or self._of_key.get(api_key_id(request))
            or self._of_model.get(model)
            or self._default
        )
        return self._classes[name] if name else BEST_EFFORT

    def _promise(self, headers: Mapping[str, str], sla: Sla | None) -> Promise | None:
        """Of the class that the request names, if it names one."""
        name, param = None, "sla.class"
        if sla is not None:
            name = sla.sla_class
        if name is None:
            name, param = headers.get(SLA), SLA
        if name is None:
            return None
        promise = self._classes.get(name)
        if promise is None:
            raise RequestError(
                f"`{param}` names the class `{_shown(name)}`, which is not configured here."
                + (nearest(name, self._classes) or listed(self._classes)),
                param=param,
                code="unknown_sla_class",
            )
        return promise

    def _call(self, headers: Mapping[str, str]) -> WorkflowCall | None:
        workflow = headers.get(WORKFLOW)
        if workflow is None:
            for name in (INSTANCE, STAGE, DEADLINE, LAST):
                if name in headers:
                    raise RequestError(
                        f"`{name}` needs `{WORKFLOW}`, which names the workflow.",
                        param=WORKFLOW,
                        code="missing_required_parameter",
                    )
            return None
        if workflow not in self._workflows:
            raise RequestError(
                f"`{WORKFLOW}` names the workflow `{_shown(workflow)}`, which is not configured "
                "here ([workflows.NAME])."
                + (nearest(workflow, self._workflows) or listed(self._workflows)),
                param=WORKFLOW,
                code="unknown_workflow",
            )
        instance = headers.get(INSTANCE)
        if instance is None:
            raise RequestError(
                f"`{WORKFLOW}` needs `{INSTANCE}`: an id that all calls of one run of the workflow "
                "share.",
                param=INSTANCE,
                code="missing_required_parameter",
            )
        return WorkflowCall(
            workflow=workflow,
            instance=_checked(INSTANCE, instance),
            stage=_checked(STAGE, headers[STAGE]) if STAGE in headers else "",
            deadline_s=_seconds(DEADLINE, headers[DEADLINE]) if DEADLINE in headers else inf,
            is_last=_flag(LAST, headers[LAST]) if LAST in headers else False,
        )


def sent_headers(request: web.Request) -> dict[str, str]:
    """Those of HEADERS that the request has, names in lower case."""
    found: dict[str, str] = {}
    for raw_name, raw_value in request.raw_headers:
        if raw_name[:3] not in _BEGINNINGS:
            continue
        lower = raw_name.lower()
        name = _KNOWN.get(lower)
        if name is None:
            if lower.startswith(_OURS) and lower not in _IGNORED:
                raise _unknown_header(lower)
            continue
        value = raw_value.decode("utf-8", "surrogateescape").strip()
        if found.setdefault(name, value) != value:
            raise RequestError(
                f"The header `{name}` is sent twice, with different values.",
                param=name,
                code="invalid_value",
            )
    return found


def _with_limits(promise: Promise, headers: Mapping[str, str], sla: Sla | None) -> Promise:
    limits: dict[str, float] = {}
    names: dict[str, str] = {}
    if sla is not None:
        for field, limit in _FIELDS:
            milliseconds = getattr(sla, field)
            if milliseconds is not None:
                limits[limit], names[limit] = milliseconds / 1e3, f"sla.{field}"
    for header, limit in LIMITS.items():
        if header not in headers:
            continue
        seconds = _seconds(header, headers[header])
        if names.setdefault(limit, header) == header:
            limits[limit] = seconds
        elif names[limit] in LIMITS and limits[limit] != seconds:
            raise RequestError(
                f"`{names[limit]}` and `{header}` say the same thing: send one of them.",
                param=header,
                code="invalid_value",
            )
    if not limits:
        return promise
    ttft_s, e2e_s = limits.get("ttft_s", promise.ttft_s), limits.get("e2e_s", promise.e2e_s)
    if ttft_s > e2e_s and ttft_s < inf:
        of_class = f"of the class `{promise.sla_class}`"
        raise RequestError(
            f"The promises contradict each other: a first token within {ttft_s * 1e3:g} ms "
            f"(`{names.get('ttft_s', of_class)}`) comes after the end, promised within "
            f"{e2e_s * 1e3:g} ms (`{names.get('e2e_s', of_class)}`).",
            param=names.get("ttft_s", names.get("e2e_s")),
            code="invalid_value",
        )
    return msgspec.structs.replace(promise, **limits)


def _seconds(name: str, value: str) -> float:
    milliseconds = float(value) if _NUMBER.fullmatch(value) else 0.0
    if not 0 < milliseconds <= MAX_MS:
        raise RequestError(
            f"`{name}` is {_shown(value)!r}: it must be a number of milliseconds greater than 0 "
            f"and at most {MAX_MS:.0f}.",
            param=name,
            code="invalid_value",
        )
    return milliseconds / 1e3


def _checked(name: str, value: str) -> str:
    """An id or a stage, as printed in reports and logs."""
    if not value or len(value) > MAX_NAME_CHARS or not value.isprintable():
        wrong = "empty" if not value else "no printable UTF-8 text"
        if len(value) > MAX_NAME_CHARS:
            wrong = f"{len(value)} characters long"
        raise RequestError(
            f"`{name}` is {wrong}: it must have 1 to {MAX_NAME_CHARS} printable characters.",
            param=name,
            code="invalid_value",
        )
    return value


def _flag(name: str, value: str) -> bool:
    flag = _FLAGS.get(value.lower())
    if flag is None:
        raise RequestError(
            f"`{name}` is {_shown(value)!r}: it must be 1 or 0.", param=name, code="invalid_value"
        )
    return flag


def _unknown_header(lower: bytes) -> RequestError:
    name = lower.decode("ascii", "replace")
    hint = nearest(name, HEADERS) or listed(HEADERS)
    return RequestError(
        f"Unknown header `{_shown(name)}`.{hint}", param=_shown(name), code="unknown_parameter"
    )


def _shown(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "..."
