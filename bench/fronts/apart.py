"""A cluster's replicas as endpoints of their own: `fmedge serve --emulate FILE --apart`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from bench import servers
from bench.servers import REPOSITORY, ServerError

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
_READY = re.compile(rb"^fmedge: ready: (\d+) endpoint")


@dataclass(frozen=True)
class Endpoints:
    """replicas: name to URL, in the plan's order."""

    model: str
    replicas: dict[str, str]
    pid: int

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(self.replicas.values())


class _Line(msgspec.Struct):
    replica: str
    model: str
    url: str


@contextlib.asynccontextmanager
async def apart(
    cluster: Path, folder: Path, arguments: Sequence[str] = ()
) -> AsyncIterator[Endpoints]:
    """The endpoints while the block runs; the log in `folder`. cluster: absolute, or from the
    repository's root. arguments: more of the command's.
    ServerError when they do not start, with the end of the log."""
    log = folder / "apart.log"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FMEDGE_")}
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fmedge", "serve", "--emulate", str(cluster), "--apart",
            "--port", "0", "--log-level", "warning", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, cwd=REPOSITORY,
            env=kept | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        copying: asyncio.Task[None] | None = None
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    count = await _until_ready(process.stderr, output)
                    lines = [
                        msgspec.json.decode(await process.stdout.readline(), type=_Line)
                        for _ in range(count)
                    ]
            except TimeoutError:
                raise ServerError(
                    f"endpoints were not ready in {READY_TIMEOUT_S:.0f} s:\n{servers.tail(log)}"
                ) from None
            except EOFError:
                code = await process.wait()
                raise ServerError(f"endpoints ended with {code}:\n{servers.tail(log)}") from None
            copying = asyncio.create_task(_copy(process.stderr, output))
            yield Endpoints(lines[0].model, {line.replica: line.url for line in lines}, process.pid)
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
                except TimeoutError:
                    process.kill()
                    await process.wait()
            if copying is not None:
                await copying


async def _until_ready(stderr: asyncio.StreamReader, output: IO[bytes]) -> int:
    """How many endpoints there are. EOFError when the process ends first."""
    while line := await stderr.readline():
        output.write(line)
        output.flush()
        if found := _READY.match(line):
            return int(found[1])
    raise EOFError


async def _copy(stderr: asyncio.StreamReader, output: IO[bytes]) -> None:
    while line := await stderr.readline():
        output.write(line)
        output.flush()
