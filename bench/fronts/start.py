"""Starts a front, waits until it forwards, and ends it and what it started, by their pids."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil

from bench import servers
from bench.fronts.commands import FRONTS, Place
from bench.servers import REPOSITORY, ServerError

FOLDER_VARIABLE = "FMEDGE_BENCH_FRONTS"
READY_TIMEOUT_S = 90.0
POLL_S = 0.1
STOP_TIMEOUT_S = 10.0


class Address(NamedTuple):
    """`key`: a bearer token that the front may ask for."""

    url: str
    key: str


def why_absent(name: str) -> str:
    """Why a front cannot be run here, or ""."""
    program = FRONTS[name].program
    if _program(program) is not None:
        return ""
    return (
        f"{program} is not installed: the distribution's package, or a virtual environment with "
        f"bench/fronts/requirements.txt, named by {FOLDER_VARIABLE}"
    )


def _program(name: str) -> str | None:
    """In the virtual environment of fronts first, which may be the repository's .venv-fronts."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or REPOSITORY / ".venv-fronts")
    search = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin"])
    return shutil.which(name, path=search)


@contextlib.asynccontextmanager
async def front(
    name: str,
    endpoints: Sequence[str],
    *,
    model: str,
    slots: int = 8,
    log_folder: Path | None = None,
) -> AsyncIterator[Address]:
    """Where a front of FRONTS before `endpoints` (URLs without a path) is, while the block runs.
    slots: requests that one endpoint decodes at once. log_folder: keeps NAME.log there.
    ServerError when it is not here or does not start, with the end of its log."""
    if reason := why_absent(name):
        raise ServerError(reason)
    with tempfile.TemporaryDirectory(prefix="fmedge-front-") as temporary:
        key = "sk-" + secrets.token_hex(16)  # litellm starts with no other form
        place = Place(
            folder=Path(temporary),
            port=servers.free_port(),
            metrics_port=servers.free_port(),
            endpoints=tuple(endpoints),
            slots=slots,
            model=model,
            key=key,
        )
        kind = FRONTS[name]
        launch = kind.launch(place)
        for file, text in launch.files.items():
            (place.folder / file).write_text(text)
        log = (log_folder or place.folder) / f"{name}.log"
        program = _program(kind.program)
        assert program is not None
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                program, *launch.arguments, cwd=place.folder, env=os.environ | launch.environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{place.port}"
            await _ready(name, process, url + kind.ready_path, log)
            yield Address(url, key)
        finally:
            await _end(process)


async def _ready(name: str, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), aiohttp.ClientSession() as session:
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise ServerError(
            f"{name} was not ready in {READY_TIMEOUT_S:.0f} s:\n{servers.tail(log)}"
        ) from None
    raise ServerError(f"{name} ended with {process.returncode}:\n{servers.tail(log)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
