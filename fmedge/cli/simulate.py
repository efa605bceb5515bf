"""`fmedge simulate`: what a cluster would make of a workload, under one policy or several."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from fmedge.cli import EXIT_FAILED, EXIT_INTERRUPTED, say_error
from fmedge.cli.numbers import at_least, positive
from fmedge.cli.options import add_config_file, read_config
from fmedge.cli.workload_options import add_workload, command_options, read_workload
from fmedge.errors import ConfigError

if TYPE_CHECKING:
    from fmedge.sched.emulation import ReplicaSpec
    from fmedge.sim.outcome import Row
    from fmedge.sim.run import Run
    from fmedge.sim.search import Found, Trial
    from fmedge.sim.workload import Workload

EVERY_S = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", required=True, metavar="FILE", help="the devices, models and noise (TOML)"
    )
    parser.add_argument(
        "--policy", default="fmedge", metavar="P[,P...]",
        help="who decides: fmedge, one of the policies of `serve`, or oracle, which is fmedge "
        "with output lengths known [fmedge]",
    )  # fmt: skip
    parser.add_argument(
        "--without", default="", metavar="X[,X...]",
        help="what fmedge shall do without: queue, lengths, rectify, prefixes",
    )  # fmt: skip
    add_workload(parser)
    parser.add_argument("--rate", type=positive, metavar="R", help="stretch to R calls a second")
    parser.add_argument("--requests", type=at_least(1), metavar="N", help="only N calls [all]")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="of what is drawn [0]"
    )
    parser.add_argument(
        "--find-rate", action="store_true",
        help="find the highest rate at which 95 %% of the promises are kept, for each policy",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE",
        help="keep the whole run there, as JSON for `fmedge bench diff`; with several policies, "
        "a folder with a file for each",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each policy")
    add_config_file(parser)


def run(args: argparse.Namespace) -> int:
    from fmedge.sched.provision.plan import NoPlanError
    from fmedge.sim.policies import rules

    policies = _names(args.policy, "--policy")
    without = _names(args.without, "--without") if args.without else []
    for policy in policies:
        rules(policy)
    rules("fmedge", without)
    if without and "fmedge" not in policies:
        raise ConfigError("--without takes parts from fmedge alone: name it among --policy")
    if not args.workload:
        raise ConfigError("what shall be played? give --workload FILE or a specification")
    if args.find_rate and (args.out or args.rate):
        raise ConfigError("--find-rate tries rates of its own and keeps no run: neither --rate nor "
                          "--out goes with it")  # fmt: skip
    from fmedge.config.cluster import load_cluster
    from fmedge.server.emulation import specs_of

    cluster = load_cluster(args.cluster)
    workload = read_workload(args)
    try:
        _, specs = specs_of(cluster, read_config(args))
    except NoPlanError as error:
        from fmedge.cli.plan_report import refuse

        return refuse(error, is_json=args.json)
    _tell_of_too_long(workload, specs)
    command = _Command(args, specs, workload, frozenset(without))
    return command.find(policies) if args.find_rate else command.play(policies)


class _Command:
    """One cluster and one workload, for policies in turn."""

    def __init__(
        self,
        args: argparse.Namespace,
        specs: Sequence[ReplicaSpec],
        workload: Workload,
        without: frozenset[str],
    ) -> None:
        self._args = args
        self._specs = specs
        self._workload = workload
        self._without = without

    def play(self, policies: Sequence[str]) -> int:
        from fmedge.cli.table import print_table
        from fmedge.sim.outcome import INTERRUPTED
        from fmedge.sim.run_file import run_json, write_run

        runs: list[Run] = []
        out = Path(self._args.out) if self._args.out else None
        if out is not None and len(policies) > 1:
            out.mkdir(parents=True, exist_ok=True)
        for policy in policies:
            made = self._run(policy)
            runs.append(made)
            if out is not None:
                write_run(made, out / f"{policy}.json" if len(policies) > 1 else out)
            if self._args.json:
                print(run_json(made).decode(), flush=True)
            if made.ended:
                break
        if not self._args.json:
            print_table(HEADER, [_row(made) for made in runs])
        if runs[-1].ended == INTERRUPTED:
            sys.stderr.write("fmedge: interrupted; what was simulated until then is kept\n")
            return EXIT_INTERRUPTED
        if runs[-1].ended:
            say_error(runs[-1].ended)
            return EXIT_FAILED
        return 0

    def _run(self, policy: str) -> Run:
        from fmedge.sim.policies import rules
        from fmedge.sim.run import make_run
        from fmedge.sim.world import simulate

        without = self._without if policy == "fmedge" else frozenset()
        label = rules(policy, without).label
        with _Line(label, self._workload) as line:
            simulated = simulate(
                self._specs, self._workload, policy,
                without=without, seed=self._args.seed, progress=line.show,
            )  # fmt: skip
        args = self._args
        return make_run(
            self._workload,
            simulated.rows,
            kind="simulated",
            label=label,
            options=command_options(args),
            policy=policy,
            cluster=args.cluster,
            seed=args.seed,
            paths=[args.cluster, args.workload],
            busy_s=simulated.busy_s,
            ended=simulated.ended,
        )

    def find(self, policies: Sequence[str]) -> int:
        from fmedge.cli.table import print_table
        from fmedge.sim.load import rate_of
        from fmedge.sim.policies import rules
        from fmedge.sim.search import highest_rate

        first_per_s = rate_of(self._workload)
        rows: list[list[str]] = []
        is_interrupted = False
        for policy in policies:
            without = self._without if policy == "fmedge" else frozenset()
            label = rules(policy, without).label
            interrupted: list[bool] = []
            found = highest_rate(self._trial(policy, without, label, interrupted), first_per_s)
            is_interrupted = bool(interrupted)
            if self._args.json:
                print(json.dumps(_found_json(label, found, is_interrupted)), flush=True)
            rows.append(_found_row(label, found))
            if is_interrupted:
                break
        if not self._args.json:
            print_table(FOUND_HEADER, rows)
        if is_interrupted:
            sys.stderr.write("fmedge: interrupted; the last rate is what was known until then\n")
            return EXIT_INTERRUPTED
        return 0

    def _trial(
        self, policy: str, without: frozenset[str], label: str, interrupted: list[bool]
    ) -> Callable[[float], Trial | None]:
        from fmedge.sim.load import at_rate
        from fmedge.sim.outcome import INTERRUPTED
        from fmedge.sim.search import Misses, Trial
        from fmedge.sim.summary import summarise
        from fmedge.sim.world import simulate

        def trial(rate: float) -> Trial | None:
            workload = at_rate(self._workload, rate)
            misses = Misses(workload)
            if not misses.num_promises:
                raise ConfigError("nothing is promised in this workload, so no rate is too high: "
                                  "give --sla ttft_ms=...,e2e_ms=...")  # fmt: skip
            with _Line(f"{label} at {rate:.3g}/s", workload) as line:

                def both(now_s: float, rows: Sequence[Row]) -> bool:
                    line.show(now_s, rows)
                    return misses(now_s, rows)

                simulated = simulate(
                    self._specs, workload, policy, without=without, seed=self._args.seed,
                    progress=both,
                )  # fmt: skip
            if simulated.ended == INTERRUPTED:
                interrupted.append(True)
                return None
            if simulated.ended:
                kept = 1 - misses.num_missed / misses.num_promises
                return Trial(rate_per_s=rate, attainment=kept, goodput_per_s=0.0)
            summary = summarise(workload, simulated.rows)
            return Trial(
                rate_per_s=rate,
                attainment=summary.attainment or 0.0,
                goodput_per_s=summary.goodput_per_s,
            )

        return trial


class _Line:
    """How far a simulation has come, on a terminal."""

    def __init__(self, label: str, workload: Workload) -> None:
        from fmedge.cli.bench_live import Standing

        self._label = label
        self._calls = workload.calls
        self._standing = Standing(len(workload.calls))
        self._num_seen = 0
        self._begun_s = self._shown_s = perf_counter()
        self._is_shown = sys.stderr.isatty()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, now_s: float, rows: Sequence[Row]) -> None:
        if not self._is_shown or perf_counter() - self._shown_s < EVERY_S:
            return
        for row in rows[self._num_seen :]:
            self._standing.on_row(self._calls[row.call], row)
        self._num_seen = len(rows)
        self._shown_s = perf_counter()
        line = self._standing.line(self._shown_s - self._begun_s)
        sys.stderr.write(f"\r\x1b[K{self._label}: {line}")
        sys.stderr.flush()


HEADER = ("policy", "kept", "goodput", "TTFT p50", "p99", "end to end p50", "p99", "busy",
          "refused", "failed")  # fmt: skip
FOUND_HEADER = ("policy", "highest rate", "kept there", "goodput", "tried")


def _row(made: Run) -> list[str]:
    from fmedge.cli.bench_table import middle_and_tail
    from fmedge.cli.table import percent

    summary = made.summary
    used = summary.utilisation.values()
    counts = summary.counts
    lost = sum(counts.get(status, 0) for status in ("failed", "timeout", "unfinished"))
    return [
        made.label + (" (part)" if made.ended else ""),
        percent(summary.attainment),
        f"{summary.goodput_per_s:.3g}/s",
        *middle_and_tail(summary.latencies.ttft),
        *middle_and_tail(summary.latencies.e2e),
        f"{100 * sum(used) / len(used):.0f} %" if used else "-",
        str(counts.get("refused", 0)),
        str(lost),
    ]


def _found_row(label: str, found: Found) -> list[str]:
    from fmedge.cli.table import percent

    best, num_trials = found.best, str(len(found.trials))
    if best is None:
        return [label, "none", "-", "-", num_trials]
    bound = "" if found.is_bounded else "at least "
    return [
        label,
        f"{bound}{best.rate_per_s:.3g}/s",
        percent(best.attainment),
        f"{best.goodput_per_s:.3g}/s",
        num_trials,
    ]


def _found_json(label: str, found: Found, is_partial: bool) -> dict[str, object]:
    import msgspec

    return {"policy": label, **msgspec.to_builtins(found), "is_partial": is_partial}


def _tell_of_too_long(workload: Workload, specs: Sequence[ReplicaSpec]) -> None:
    ctx_size = min(spec.engine.ctx_size for spec in specs)
    num = sum(call.num_prompt >= ctx_size for call in workload.calls)
    if num:
        sys.stderr.write(
            f"fmedge: note: {num} of {len(workload.calls)} prompts do not fit the context of "
            f"{ctx_size} tokens and fail; --longest {ctx_size} cuts them\n"
        )


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise ConfigError(f"{option} {text}: names with commas between them, each once")
    return names
