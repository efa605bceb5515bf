"""`fmedge doctor`: looks at all that a server needs here, and says what to do about what is wrong.

Exit code 1 where something keeps fmedge from serving, 0 otherwise. Nothing is changed, nothing is
sent to another machine, and it ends within seconds, whatever hangs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fmedge.children import is_binary
from fmedge.cli.options import add_config_file, add_models, add_settings, read_config
from fmedge.config import Config, load_config, state_dir, unknown_variables
from fmedge.config.surroundings import look_as_service, surroundings, take_unit
from fmedge.errors import ConfigError, NativeError

if TYPE_CHECKING:
    from fmedge.cli.checks.examine import Check
    from fmedge.cli.checks.finding import Finding
    from fmedge.cli.checks.native import Build

SERVICE_CONFIG = "/etc/fmedge/fmedge.toml"
TIMEOUT_S = 4.5
_BUILD_TIMEOUT_S = 3.8
_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--service", action="store_true",
        help=f"look as the system's fmedge.service does: its environment, and {SERVICE_CONFIG}",
    )  # fmt: skip
    add_config_file(parser)
    add_models(parser)
    add_settings(parser, "server", "defaults")


def run(args: argparse.Namespace) -> int:
    from fmedge.cli.checks.examine import examine

    logging.getLogger("fmedge").addHandler(logging.NullHandler())  # findings say it
    output = sys.stdout.encoding or ""
    if args.service:
        from fmedge.cli.checks.system import unit_shown

        take_unit(unit_shown(TIMEOUT_S / 3))
        args.config = args.config or SERVICE_CONFIG
    config, problem = _read(args)
    findings = examine(_checks(config, problem, output), TIMEOUT_S)
    if args.json:
        import msgspec

        print(msgspec.json.encode(as_json(findings)).decode())
    else:
        for line in lines(findings):
            print(line)
    return int(any(finding.status == "error" for finding in findings))


def _read(args: argparse.Namespace) -> tuple[Config, str]:
    """The configuration, or the defaults with what is wrong with it."""
    look_as_service()
    try:
        return read_config(args, "server", "defaults"), ""
    except ConfigError as error:
        return load_config(environ={}), str(error)


def _checks(config: Config, problem: str, output: str) -> dict[str, Check]:
    from fmedge._native.cpu import features, identify
    from fmedge.cli.checks import cpu, files, gpus, memory, models, network, system
    from fmedge.cli.checks.native import ask_build
    from fmedge.config.places import kernel_folders

    around = surroundings()
    is_bundled = is_binary()
    asked: Future[Build] = Future()

    def build() -> Build:
        return asked.result(TIMEOUT_S)

    def check_cpu() -> list[Finding]:
        there: dict[str, bool] = {}
        try:
            asked.set_result(ask_build(_BUILD_TIMEOUT_S))
        except BaseException as error:
            asked.set_exception(error)
            raise
        name, _ = identify()
        with contextlib.suppress(NativeError):  # which the build's child says too
            there = features()
        return list(cpu.check_cpu(name, there, build(), is_bundled=is_bundled))

    folder = state_dir(config.server.state_dir)
    package = Path(__file__).parents[1] / "sched"
    return {
        "config": partial(files.check_config_file, config, problem, unknown_variables()),
        "cpu": check_cpu,
        "gpu": lambda: gpus.check_gpus(build(), is_bundled=is_bundled),
        "memory": lambda: memory.check_memory(config, models.largest_bytes(config)),
        "limits": lambda: memory.check_limits(config, models.largest_bytes(config)),
        "models": lambda: models.check_models(config, build()),
        "port": partial(network.check_address, config),
        "keys": partial(files.check_keys, config),
        "state": partial(files.check_state, config),
        "kernels": lambda: [] if is_bundled else files.check_kernels(kernel_folders(package)),
        "proxy": partial(network.check_proxies, config, around),
        "clock": lambda: system.check_clock(folder, time.time(), is_set=system.is_synchronised()),
        "locale": partial(
            system.check_locale, around, files=sys.getfilesystemencoding(), output=output
        ),
        "versions": system.check_versions,
        "service": partial(system.check_service, TIMEOUT_S / 3),
    }


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """ok: whether nothing keeps fmedge from serving."""
    return {"ok": all(f.status != "error" for f in findings), "findings": findings}


def lines(findings: Sequence[Finding]) -> list[str]:
    """For people: a line for each finding, what to do below it, and the count."""
    width = max(len(finding.check) for finding in findings)
    shown = []
    for finding in findings:
        shown.append(f"{_MARKS[finding.status]}  {finding.check:{width}}  {finding.found}")
        if finding.advice:
            shown.append(f"{'':{width + 11}}-> {finding.advice}")
    errors, warnings = (
        sum(finding.status == status for finding in findings) for status in ("error", "warning")
    )
    return [*shown, "", f"{errors} error(s), {warnings} warning(s)"]
