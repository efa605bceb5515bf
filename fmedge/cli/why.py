"""`fmedge why REQUEST_ID`: the numbers behind one decision, and how right they were."""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.parse import quote

from fmedge.cli.api import Api
from fmedge.cli.options import add_config_file, add_settings, read_config
from fmedge.cli.ps import server_url
from fmedge.cli.table import duration, print_table

Json = dict[str, Any]

_ACTIONS = {
    "assign": "sent to {replica} at once",
    "queue": "waits at the front for {replica}",
    "best_effort": "served as best effort, on {replica}: the promise was not expected to hold",
    "refuse": "refused{retry}",
}
_COLUMNS = (
    ("L_EST", "l_est_ms"), ("L_Q", "l_q_ms"), ("L_X", "l_x_ms"), ("L_R", "l_r_ms"),
    ("TTFT", "ttft_ms"), ("P90", "ttft_p90_ms"), ("TPOT", "tpot_ms"), ("E2E", "e2e_ms"),
    ("P90", "e2e_p90_ms"),
)  # fmt: skip
_LATEST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "request_id", nargs="?", metavar="REQUEST_ID",
        help="as in the response header x-fmedge-request-id; without it, the latest requests",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the server's JSON")
    add_config_file(parser)
    add_settings(parser, "client")


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "client")
    api = Api(server_url(config), config.client.api_key)
    query = f"limit={_LATEST}"
    if args.request_id is not None:
        query = f"request_id={quote(args.request_id.strip(), safe='')}"
    decisions: list[Json] = api.fetch(f"/admin/decisions?{query}", "decisions")
    if args.json:
        print(json.dumps(decisions if args.request_id is None else decisions[0]))
    elif args.request_id is None:
        _show_latest(decisions)
    else:
        _show(decisions[0])
    return 0


def _show_latest(decisions: list[Json]) -> None:
    rows = []
    for decision in decisions:
        verdict, observed = decision["decision"], decision["observed"]
        estimate = _chosen(decision)
        rows.append(
            [
                str(decision["request_id"]), duration(decision["age_s"] * 1e3),
                decision["model"], decision["promise"]["class"] or "-", verdict["action"],
                verdict["replica"] or "-",
                duration(estimate.get("ttft_ms")), duration(observed["ttft_ms"]),
                duration(estimate.get("e2e_ms")), duration(observed["e2e_ms"]),
                _held(decision),
            ]
        )  # fmt: skip
    print_table(
        ["REQUEST", "AGE", "MODEL", "CLASS", "DECISION", "REPLICA", "TTFT EST", "TTFT", "E2E EST",
         "E2E", "HELD"],
        rows,
    )  # fmt: skip


def _show(decision: Json) -> None:
    _show_request(decision)
    if decision["estimates"]:
        print()
        _show_estimates(decision)
    if decision["events"]:
        print("\nwhat happened")
        width = max(len(duration(event["at_ms"])) for event in decision["events"])
        for event in decision["events"]:
            line = f"  +{duration(event['at_ms']).rjust(width)}  {_words(event['what'])}"
            print(f"{line}  {event['detail']}".rstrip())
    if decision["decision"]["action"] != "refuse":
        print()
        _show_observed(decision)


def _show_request(decision: Json) -> None:
    verdict, expected = decision["decision"], decision["output_tokens"]
    sender = f", key {decision['api_key']}" if decision["api_key"] else ""
    print(
        f"request {decision['request_id']}: {decision['model']}{sender}, "
        f"came {duration(decision['age_s'] * 1e3)} ago"
    )
    lines = [("promised", _promise(decision["promise"]))]
    if decision["workflow"]:
        stage = f", stage {decision['stage']}" if decision["stage"] else ""
        lines.append(("workflow", f"{decision['workflow']}, run {decision['instance']}{stage}"))
    lines.append(("prompt", f"{decision['prompt_tokens']} tokens"))
    if decision["max_tokens"]:
        lines.append(
            (
                "output",
                f"{expected['p50']} tokens expected (90 % of such requests: at most "
                f"{expected['p90']}), limit {decision['max_tokens']}",
            )
        )
    template = _ACTIONS.get(verdict["action"], verdict["action"])
    retry_s = verdict["retry_after_s"]
    decided = template.format(
        replica=verdict["replica"] or "any replica",
        retry=f", try again in {duration(retry_s * 1e3)}" if retry_s else "",
    )
    lines.append(("decided", decided))
    if verdict["reason"]:
        lines.append(("why", verdict["reason"]))
    for name, text in lines:
        print(f"  {name:9} {text}")


def _promise(promise: Json) -> str:
    limits = [
        f"{name} within {duration(promise[key])}"
        for key, name in (
            ("ttft_ms", "first token"), ("tpot_ms", "each further token"), ("e2e_ms", "the end"),
        )
        if promise[key] is not None
    ]  # fmt: skip
    text = ", ".join(limits) or "nothing (best effort)"
    return f"{text} (class {promise['class']})" if promise["class"] else text


def _show_estimates(decision: Json) -> None:
    print("estimates (medians; * is the chosen one)")
    replica, has_promise = decision["decision"]["replica"], _has_promise(decision)
    print_table(
        ["  REPLICA", "CACHED", *(name for name, _ in _COLUMNS), "HOLDS", "HARM"],
        [
            [
                f"{'*' if estimate['replica'] == replica else ' '} {estimate['replica']}",
                str(estimate["cached_tokens"]),
                *(duration(estimate[key]) for _, key in _COLUMNS),
                f"{estimate['p_hold']:.1%}" if has_promise else "-",
                f"{estimate['harm']:.2f}",
            ]
            for estimate in decision["estimates"]
        ],
    )


def _show_observed(decision: Json) -> None:
    estimate, observed = _chosen(decision), decision["observed"]
    rows = []
    for name, key, limit in (
        ("l_q", "l_q_ms", None), ("l_x", "l_x_ms", None),
        ("ttft", "ttft_ms", decision["promise"]["ttft_ms"]),
        ("end to end", "e2e_ms", decision["promise"]["e2e_ms"]),
    ):  # fmt: skip
        said, was = estimate.get(key), observed[key]
        rows.append([name, duration(limit), duration(said), duration(was), _error(said, was)])
    if all(observed[key] is None for key in ("l_q_ms", "l_x_ms", "ttft_ms", "e2e_ms")):
        print("nothing was observed" + ("" if decision["events"] else " yet"))
        return
    print_table(["", "PROMISED", "ESTIMATED", "OBSERVED", "ERROR"], rows)
    if observed["output_tokens"]:
        expected = decision["output_tokens"]["p50"]
        print(f"{observed['output_tokens']} tokens of output, {expected} were expected")
    if observed["held"] is not None:
        print(f"the promise {'held' if observed['held'] else 'was broken'}")


def _chosen(decision: Json) -> Json:
    """The estimate for the chosen replica; {} without one."""
    replica = decision["decision"]["replica"]
    return next((e for e in decision["estimates"] if e["replica"] == replica), {})


def _has_promise(decision: Json) -> bool:
    promise = decision["promise"]
    return any(promise[key] is not None for key in ("ttft_ms", "tpot_ms", "e2e_ms"))


def _held(decision: Json) -> str:
    held = decision["observed"]["held"]
    return "-" if held is None else "yes" if held else "no"


def _error(said: float | None, was: float | None) -> str:
    """How far the estimate was off, of what was observed."""
    if said is None or not was:
        return "-"
    return f"{(said - was) / was:+.1%}"


def _words(what: str) -> str:
    return what.replace("_", " ")
