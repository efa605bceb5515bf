"""`python -m bench.ray_serve --cluster FILE --setup NAME --port P`: Ray Serve with a cluster's
emulated replicas, until SIGTERM.

Prints JSON lines: "ready" with the URL, "replicas" whenever others are in use, "ended" with the
replica-seconds. Ray and its processes end with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from bench.ray_serve.server import why_absent
from bench.ray_serve.service import EMULATOR
from bench.ray_serve.setups import SETUPS, Scaling, Setup, environment
from bench.servers import free_port
from fmedge.errors import ConfigError, FmedgeError
from fmedge.sched.emulation import ReplicaSpec

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.serve.handle import DeploymentHandle

OBJECT_STORE_BYTES = 80 << 20  # the least that Ray takes is 75 MiB; nothing of size goes there
POLL_S = 0.5
POLL_TIMEOUT_S = 10.0

Say = Callable[..., None]


def main() -> int:
    options = _options()
    scaling = Scaling(
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        target_ongoing_requests=options.target_ongoing,
        upscale_delay_s=options.upscale_delay_s,
        downscale_delay_s=options.downscale_delay_s,
        load_s=options.load_s,
    )
    setup = SETUPS[options.setup]
    if reason := why_absent():
        print(f"ray_serve: {reason}", file=sys.stderr)
        return 1
    try:
        specs = _specs(options)
    except FmedgeError as error:
        print(f"ray_serve: {error}", file=sys.stderr)
        return 1
    say = _own_stdout()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    with contextlib.suppress(_Stopped):
        _run(setup, specs, scaling, options, say)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ray_serve",
        description="Ray Serve in front of a cluster's emulated replicas.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cluster", type=Path, help="a cluster file, as fmedge serve --emulate")
    source.add_argument("--specs", type=Path, help="replicas ready planned: a JSON array")
    parser.add_argument("--setup", choices=SETUPS, default="tuned")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--chunk-s", type=float, default=0.1, help="least seconds between chunks")
    parser.add_argument("--emulator", default=EMULATOR, help="module:class of another one")
    defaults = Scaling()
    parser.add_argument("--min-replicas", type=int, default=defaults.min_replicas)
    parser.add_argument("--max-replicas", type=int, default=0, help="0: the cluster's")
    parser.add_argument("--target-ongoing", type=float, default=0.0, help="0: by the slots")
    parser.add_argument("--upscale-delay-s", type=float, default=defaults.upscale_delay_s)
    parser.add_argument("--downscale-delay-s", type=float, default=defaults.downscale_delay_s)
    parser.add_argument("--load-s", type=float, default=0.0, help="a replica's time to load")
    return parser.parse_args()


def _specs(options: argparse.Namespace) -> tuple[ReplicaSpec, ...]:
    if options.specs is not None:
        try:
            specs = msgspec.json.decode(options.specs.read_bytes(), type=tuple[ReplicaSpec, ...])
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(f"{options.specs}: not a file of replicas: {error}") from error
        if not specs:
            raise ConfigError(f"{options.specs}: no replicas")
        return specs
    from fmedge.config.cluster import load_cluster
    from fmedge.server.emulation import specs_of

    return specs_of(load_cluster(options.cluster))[1]


def _run(
    setup: Setup,
    specs: tuple[ReplicaSpec, ...],
    scaling: Scaling,
    options: argparse.Namespace,
    say: Say,
) -> None:
    port = options.port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="fmedge-ray-"))
    os.environ.update(environment(setup, folder))
    import ray  # reads the environment as it is imported

    from bench.ray_serve import app

    try:
        ray.init(
            num_cpus=len(specs) + 4,  # logical: nothing here asks for a core
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="WARNING",
            _temp_dir=str(folder),
        )
        signal.signal(signal.SIGTERM, _stop)  # Ray has put its own in place
        handle, ledger = app.deploy(
            setup, specs, port=port, scaling=scaling, emulator=options.emulator,
            chunk_s=options.chunk_s,
        )  # fmt: skip
        ready = {
            "event": "ready",
            "url": f"http://127.0.0.1:{port}",
            "setup": setup.name,
            "ingress": setup.ingress,
            "ray": ray.__version__,
            "model": specs[0].model,
        }
        uvloop.run(_watch(setup, port, handle, ledger, ready, say))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


async def _watch(
    setup: Setup,
    port: int,
    handle: DeploymentHandle,
    ledger: ActorHandle,
    ready: dict[str, Any],
    say: Say,
) -> None:
    """Serves and says which replicas are in use, until a signal."""
    from ray import serve

    from bench.ray_serve.app import through
    from bench.ray_serve.ingress import listening

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if setup.ingress == "handle":
                await stack.enter_async_context(listening(port, ready["model"], through(handle)))
            say(**ready)
            await _follow(ledger, stopped, say)
    finally:
        await serve.shutdown_async()  # here, as a router may live on this loop


async def _follow(ledger: ActorHandle, stopped: asyncio.Event, say: Say) -> None:
    before: list[str] = []
    while True:
        is_last = stopped.is_set()
        names, replica_s = await asyncio.wait_for(ledger.in_use.remote(), POLL_TIMEOUT_S)
        if is_last:
            say(event="ended", replica_s=replica_s)
            return
        if names != before:
            say(event="replicas", names=names, replica_s=replica_s)
            before = names
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), POLL_S)


def _own_stdout() -> Say:
    """Prints JSON lines to what was stdout; whatever Ray prints goes to stderr from here on."""
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**fields: Any) -> None:
        os.write(output, msgspec.json.encode(fields) + b"\n")

    return say


class _Stopped(BaseException):
    """Asked to end before there was a loop to tell."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


if __name__ == "__main__":
    sys.exit(main())
