"""`fmedge profile`: how long a model's engine steps take here, measured, and how well that fits."""

from __future__ import annotations

import argparse
import asyncio
import sys
from time import monotonic
from typing import TYPE_CHECKING

from fmedge.cli.options import add_config_file, add_settings, read_config
from fmedge.config import Config

if TYPE_CHECKING:
    from fmedge.replica.protocol import Step
    from fmedge.server.profiling import ReplicaProfile

DEFAULT_SECONDS = 10.0
REFRESH_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="*", metavar="MODEL",
        help="NAME, PATH or hf:ORG/REPO[:QUANT|/FILE]; without one, those of the configuration, "
        "else embedded, or all that the server at --url serves",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=_seconds, default=DEFAULT_SECONDS, metavar="S",
        help=f"for each replica at most [{DEFAULT_SECONDS:g}]",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE.png", help="draw the curves (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config_file(parser)
    add_settings(parser, "client", "defaults")


def run(args: argparse.Namespace) -> int:
    if args.plot:
        from fmedge.cli.profile_plot import check_plot

        check_plot(args.plot)
    wanted = args.models
    args.models = [{"model": name, "aliases": []} for name in wanted]  # as --model would
    config = read_config(args, "client", "defaults")
    if config.client.url:
        from fmedge.cli.profile_served import profile_served

        found = profile_served(config, wanted, args.seconds)
    else:
        found = _profile_here(config, args.seconds)
    if args.plot:
        from fmedge.cli.profile_plot import plot

        plot(found, args.plot)
    if args.json:
        import msgspec

        from fmedge.server.profiling import ProfileList

        print(msgspec.json.encode(ProfileList(profiles=found)).decode())
    else:
        from fmedge.cli.profile_report import show

        for profile in found:
            show(profile)
    return 0


def _profile_here(config: Config, seconds: float) -> list[ReplicaProfile]:
    """In workers started for it, one after another; equal replicas once."""
    from fmedge.cli.pull import fetch_missing
    from fmedge.config import state_dir

    fetch_missing(model.model for model in config.models)
    from fmedge.server.plan import plan_models
    from fmedge.server.profiles import Profiler, ProfileStore
    from fmedge.server.profiling import profile_fresh

    plans = plan_models(config.models, config.replicas, is_narrowed=config.is_narrowed)

    async def profile_all() -> list[ReplicaProfile]:
        profiler = Profiler(ProfileStore(state_dir(config.server.state_dir)))
        found = []
        seen = []
        for plan in plans:
            for replica in plan.replicas:
                if replica.engine in seen:
                    continue
                seen.append(replica.engine)
                progress = Progress(replica.name, seconds)
                try:
                    profile = await profile_fresh(
                        replica,
                        plan.name,
                        profiler,
                        budget_s=seconds,
                        on_load=progress.on_load,
                        on_step=progress.on_step,
                    )
                    found.append(profile)
                finally:
                    progress.clear()
        return found

    return asyncio.run(profile_all())


class Progress:
    """One line on the terminal while a replica loads and is measured."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._is_shown = sys.stderr.isatty()
        self._start_s = 0.0
        self._shown_s = 0.0
        self._num_steps = 0

    def on_load(self, fraction: float) -> None:
        self._show(f"loading {fraction:.0%}")

    def on_step(self, _: Step) -> None:
        now_s = monotonic()
        self._start_s = self._start_s or now_s
        self._num_steps += 1
        if now_s - self._shown_s >= REFRESH_S:
            self._shown_s = now_s
            elapsed_s = now_s - self._start_s
            self._show(f"{self._num_steps} steps, {elapsed_s:.1f} of at most {self._seconds:g} s")

    def _show(self, text: str) -> None:
        if self._is_shown:
            sys.stderr.write(f"\r\x1b[K{self._name}: {text}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 120:
        raise argparse.ArgumentTypeError("must be above 0 and at most 120")
    return value
