"""/admin/decisions and /admin/workflows: what was decided, and how workflows keep their promise.

As for everything but /health, a key is asked for where keys are configured; any key sees all.
"""

from __future__ import annotations

import re
import time

from aiohttp import web
from msgspec import Struct

from fmedge.errors import RequestError
from fmedge.http.context import context_of
from fmedge.http.decisions import DecisionList, decision_out
from fmedge.http.decode import listed, nearest
from fmedge.http.errors import NotFoundError, json_response
from fmedge.sched.workflow_report import WorkflowReport

DEFAULT_DECISIONS = 20
MAX_DECISIONS = 2000
# More than this many are put together in a thread: each has an estimate for every replica.
_QUICK_DECISIONS = 50
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


class WorkflowReports(Struct, frozen=True):
    """One report for each workflow."""

    workflows: list[WorkflowReport]


async def get_decisions(request: web.Request) -> web.Response:
    """GET /admin/decisions: the latest, or the one of `request_id`."""
    context = context_of(request)
    wanted = _number(request, "request_id", 0, 10**18)
    if wanted is not None:
        decision = context.dispatcher.decision(wanted)
        if decision is None:
            raise NotFoundError(
                f"Nothing is known of request {wanted}: it never came, or its decision is "
                f"forgotten (the latest {MAX_DECISIONS} are kept, until the server stops).",
                param="request_id",
            )
        return json_response(DecisionList([decision_out(decision, time.monotonic())]))
    limit = _number(request, "limit", 1, MAX_DECISIONS) or DEFAULT_DECISIONS
    decisions = context.dispatcher.decisions(limit)

    def work() -> DecisionList:
        now_s = time.monotonic()
        return DecisionList([decision_out(decision, now_s) for decision in decisions])

    return json_response(await context.prepare(work, in_thread=limit > _QUICK_DECISIONS))


async def get_workflows(request: web.Request) -> web.Response:
    """GET /admin/workflows: of all workflows, or of `name`."""
    context = context_of(request)
    name = request.query.get("name")
    known = context.settings.workflows
    if name is not None and name not in known:
        raise NotFoundError(
            f"No workflow `{name[:100]}` is configured here ([workflows.NAME])."
            + (nearest(name, known) or listed(known)),
            param="name",
        )
    return json_response(WorkflowReports(context.dispatcher.workflow_report(name)))


def _number(request: web.Request, name: str, low: int, high: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    number = int(text) if _WHOLE_NUMBER.fullmatch(text) else -1
    if not low <= number <= high:
        raise RequestError(
            f"`{name}` is {text[:40]!r}: it must be a whole number from {low} to {high}.",
            param=name,
            code="invalid_value",
        )
    return number
