"""`fmedge workflows [NAME]`: how workflows keep their promise, stage by stage, and what would help.

Times are those of whole runs; a stage's share counts what an instance had to wait for.
"""

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

_TIMES = (
    ("L_Q", "l_q_ms"), ("P90", "l_q_p90_ms"), ("L_X", "l_x_ms"), ("P90", "l_x_p90_ms"),
    ("TOOLS", "tool_ms"), ("P90", "tool_p90_ms"), ("A RUN", "critical_ms"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one workflow, in detail")
    parser.add_argument("--json", action="store_true", help="print the server's JSON")
    add_config_file(parser)
    add_settings(parser, "client")


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "client")
    api = Api(server_url(config), config.client.api_key)
    query = "" if args.name is None else f"?name={quote(args.name, safe='')}"
    reports: list[Json] = api.fetch(f"/admin/workflows{query}", "workflows")
    if args.json:
        print(json.dumps(reports if args.name is None else reports[0]))
    elif not reports:
        print("no workflow is configured: the configuration has them as [workflows.NAME]")
    elif args.name is None and len(reports) > 1:
        _show_all(reports)
    else:
        for report in reports:
            _show(report)
    return 0


def _show_all(reports: list[Json]) -> None:
    print_table(
        ["WORKFLOW", "PROMISE", "TARGET", "KEPT", "RUNS", "MISSED", "OPEN", "E2E", "P90"],
        [
            [
                report["workflow"], duration(report["promise_ms"]), _percent(report["target"]),
                _percent(report["attainment"]), str(report["num_instances"]),
                str(report["num_missed"]), str(report["num_open"]), *_end_to_end(report),
            ]
            for report in reports
        ],
    )  # fmt: skip
    print("\nfmedge workflows NAME shows one of them by stage, and what would help most")


def _show(report: Json) -> None:
    promised = "nothing is promised"
    if report["promise_ms"] is not None:
        promised = (
            f"{duration(report['promise_ms'])} from the first call to the last, for "
            f"{_percent(report['target'])} of the runs"
        )
    print(f"{report['workflow']}: {promised}")
    print(
        f"  runs      {report['num_instances']} over, of which {report['num_missed']} missed "
        f"their promise; {report['num_open']} open"
    )
    if not report["num_recent"]:
        return
    median, p90 = _end_to_end(report)
    kept = ""
    if report["attainment"] is not None:
        kept = f", {_percent(report['attainment'])} kept their promise"
        if report["attainment"] < report["target"]:
            kept += " (below the target)"
    print(f"  recent    {report['num_recent']}: {median} (median), {p90} (p90){kept}")
    print()
    _show_stages(report)
    print()
    _show_advice(report)


def _show_stages(report: Json) -> None:
    of = "PROMISE" if report["promise_ms"] is not None else "WHOLE"
    print_table(
        ["STAGE", "CALLS", "PER RUN", "IN", "CACHED", "OUT", *(name for name, _ in _TIMES),
         f"OF {of}", "MISSES"],
        [
            [
                _stage(stage["stage"]), str(stage["num_calls"]),
                f"{stage['calls_per_instance']:.2f}",
                *(f"{stage[key]:.0f}" for key in ("prompt_tokens", "cached_tokens",
                                                  "output_tokens")),
                *(duration(stage[key]) for _, key in _TIMES),
                _percent(stage["share"]), str(stage["num_missed"]),
            ]
            for stage in report["stages"]
        ],
    )  # fmt: skip
    print(
        "IN, CACHED and OUT are tokens of a call (means); L_Q, L_X and TOOLS times of a call "
        "(medians);\nA RUN is what a run had to wait for the stage, its tools included (mean)"
    )


def _show_advice(report: Json) -> None:
    if not report["advice"]:
        print("nothing alone would make the recent runs much faster")
        return
    print("what would help most")
    for number, advice in enumerate(report["advice"], 1):
        saved = ""
        if advice["num_saved"]:
            saved = f", {advice['num_saved']} of {report['num_recent']} runs would be in time"
        print(
            f"  {number}. {_stage(advice['stage'])}: {advice['what']}\n"
            f"     {duration(advice['gain_ms'])} less a run{saved} ({advice['how']})"
        )


def _stage(name: str) -> str:
    return name or "(no stage)"


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.1%}"


def _end_to_end(report: Json) -> tuple[str, str]:
    if not report["num_recent"]:
        return "-", "-"
    return duration(report["e2e_ms"]), duration(report["e2e_p90_ms"])
