"""A load generator for OpenAI-compatible servers that costs a few microseconds a token: it shares
its cores with the server under test."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from fmedge.cli.bench_connection import Connection, Outcome
from fmedge.errors import ConfigError


class Target(Struct, frozen=True, kw_only=True):
    """Where to send: `path` is the part of the URL before /v1. `key` is a bearer token."""

    host: str
    port: int
    path: str = ""
    is_tls: bool = False
    key: str = ""
    unix_socket: str = ""

    @classmethod
    def parse(cls, url: str, key: str = "") -> Target:
        """http(s)://host[:port][/prefix][/v1], or unix:/path/to.sock; ConfigError otherwise."""
        if url.startswith("unix:"):
            return cls(host="localhost", port=0, key=key, unix_socket=url.removeprefix("unix:"))
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url}: not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url}: not an http or https URL")
        is_tls = parts.scheme == "https"
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(
            host=parts.hostname, port=port or (443 if is_tls else 80), path=path, is_tls=is_tls,
            key=key,
        )  # fmt: skip

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if not self.port else f"{host}:{self.port}"


class Load(Struct, frozen=True, kw_only=True):
    """How to send: `concurrency` requests in flight, the next as one ends (closed loop); or
    arrivals at `rate` requests/s, Poisson with `seed` (open loop), `concurrency` then being a
    ceiling, 0 for none. Open-loop times count from the arrival, also where the ceiling delays."""

    concurrency: int = 8
    rate: float = 0.0
    seed: int = 0
    timeout_s: float = 600.0


class Client:
    """Sends to one target. With `reuses` a connection carries one request after another, else
    each request has its own."""

    def __init__(self, target: Target, *, reuses: bool = True) -> None:
        self._target = target
        self._reuses = reuses
        self._idle: list[Connection] = []
        self._tls = ssl.create_default_context() if target.is_tls else None

    def request(
        self,
        path: str,
        body: object | None = None,
        headers: Iterable[tuple[str, str]] = (),
        key: str = "",
    ) -> bytes:
        """The bytes of a request to /v1-like `path`: POST of JSON, or GET without a body. key: used
        where the target has none."""
        payload = b"" if body is None else msgspec.json.encode(body)
        target = self._target
        lines = [
            f"{'GET' if body is None else 'POST'} {target.path}{path} HTTP/1.1",
            f"Host: {target.authority}",
            "Content-Type: application/json",
            f"Content-Length: {len(payload)}",
        ]
        if target.key or key:
            lines.append(f"Authorization: Bearer {target.key or key}")
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode() + payload

    async def exchange(self, request: bytes, outcome: Outcome, timeout_s: float) -> Outcome:
        """Sends and waits; failures stand in the outcome. A kept connection that the server had
        closed before it saw the request costs a new connection, not a failure."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._take_idle()
                if connection is not None:
                    await connection.send(request, outcome)
                if connection is None or connection.was_stale:
                    outcome.error = outcome.detail = ""
                    connection = await self._connect()
                    await connection.send(request, outcome)
        except TimeoutError:
            outcome.error, outcome.detail = "timeout", f"no end after {timeout_s:g} s"
            outcome.end_s = perf_counter()
        except OSError as error:
            outcome.error, outcome.detail = "connect", error.strerror or str(error)
            outcome.end_s = perf_counter()
        except asyncio.CancelledError:
            if connection is not None:
                connection.close()
            raise
        if connection is not None:
            is_whole = outcome.error in ("", "stream_error") or outcome.error.startswith("http_")
            if is_whole and self._reuses:
                self._idle.append(connection)
            else:
                connection.close()
        return outcome

    def _take_idle(self) -> Connection | None:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        return None

    async def get(self, path: str, timeout_s: float = 30.0) -> tuple[Outcome, bytes]:
        """GET; the outcome and the body. OSError and TimeoutError where nobody answers."""
        return await self.ask(self.request(path), timeout_s)

    async def ask(self, request: bytes, timeout_s: float = 30.0) -> tuple[Outcome, bytes]:
        """Any request, on a connection of its own; raises as `get` does."""
        outcome = Outcome(index=-1, arrival_s=perf_counter())
        async with asyncio.timeout(timeout_s):
            connection = await self._connect()
            try:
                await connection.send(request, outcome)
            finally:
                connection.close()
        return outcome, connection.body

    async def can_connect(self, timeout_s: float) -> bool:
        """Whether somebody listens there."""
        try:
            async with asyncio.timeout(timeout_s):
                (await self._connect()).close()
        except (OSError, TimeoutError):
            return False
        return True

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._target.unix_socket:
            _, protocol = await loop.create_unix_connection(Connection, self._target.unix_socket)
        else:
            _, protocol = await loop.create_connection(
                Connection, self._target.host, self._target.port, ssl=self._tls
            )
        return protocol

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def run_load(
    client: Client,
    requests: Sequence[bytes],
    load: Load,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Sends every request once, as `load` says; outcomes in the order of `requests`."""
    due_s = _arrivals(len(requests), load)
    room = asyncio.Semaphore(load.concurrency) if load.concurrency else None
    start_s = perf_counter()

    async def one(index: int, arrival_s: float) -> Outcome:
        outcome = Outcome(index=index, arrival_s=arrival_s)
        await client.exchange(requests[index], outcome, load.timeout_s)
        if on_outcome is not None:
            on_outcome(outcome)
        return outcome

    async def when_there_is_room(index: int, arrival_s: float) -> Outcome:
        if room is None:
            return await one(index, arrival_s)
        async with room:
            return await one(index, arrival_s)

    if due_s is None:
        todo = iter(range(len(requests)))

        async def worker() -> list[Outcome]:
            return [await one(index, perf_counter()) for index in todo]

        outcomes: list[Outcome] = []
        for part in await asyncio.gather(*(worker() for _ in range(max(1, load.concurrency)))):
            outcomes += part
        return sorted(outcomes, key=lambda o: o.index)
    tasks = []
    async with asyncio.TaskGroup() as group:
        for index, offset_s in enumerate(due_s):
            await asyncio.sleep(start_s + offset_s - perf_counter())
            tasks.append(group.create_task(when_there_is_room(index, start_s + offset_s)))
    return [task.result() for task in tasks]


def _arrivals(count: int, load: Load) -> list[float] | None:
    """Offsets in seconds of the open loop's arrivals; None for the closed loop."""
    if load.rate <= 0:
        return None
    chance = random.Random(load.seed)  # noqa: S311 (a workload, not a secret)
    offsets, at_s = [], 0.0
    for _ in range(count):
        at_s += chance.expovariate(load.rate)
        offsets.append(at_s)
    return offsets
