"""Stored KV over the lives of real workers: told to stop, or killed at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

from fmedge.replica.local import LocalReplica
from fmedge.replica.protocol import KvStoreSettings, Submit
from fmedge.types import EngineSettings, SamplingParams
from tests.replica.supervised import QUICK_RESTART, Recorder, pack
from tests.synthetic import cached

MIB = 1 << 20


def make(folder: Path, *, memory_bytes: int = 64 * MIB, slots: int = 2) -> LocalReplica:
    settings = EngineSettings(model_path=str(cached("tiny")), ctx_size=512, slots=slots, threads=1)
    store = KvStoreSettings(memory_bytes=memory_bytes, folder=str(folder), disk_bytes=64 * MIB)
    return LocalReplica("r0", "m", settings, restart=QUICK_RESTART, kv_store=store)


def prompt(seed: int, length: int = 200) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(20, 400) for _ in range(length)]


class Client:
    def __init__(self, replica: LocalReplica) -> None:
        self.replica = replica
        self.recorder = Recorder()
        self._next_id = 0

    async def start(self) -> None:
        self.replica.start(self.recorder)
        await self.recorder.until_count("ready", 1)

    def submit(self, tokens: list[int], max_tokens: int = 8) -> int:
        self._next_id += 1
        self.replica.submit(
            Submit(
                request_id=self._next_id,
                tokens=pack(*tokens),
                num_prompt_tokens=len(tokens),
                max_tokens=max_tokens,
                sampling=SamplingParams(temperature=0.0),
                ignore_eos=True,
            )
        )
        return self._next_id

    async def ask(self, tokens: list[int], max_tokens: int = 8) -> tuple[list[int], int]:
        """What it answers, and how many tokens it had cached."""
        request_id = self.submit(tokens, max_tokens)
        await self.recorder.until(lambda: len(self.recorder.tokens(request_id)) == max_tokens)
        (num_cached,) = (
            part.num_cached_tokens
            for _, step in self.recorder.of("step")
            for part in step.sequences
            if part.request_id == request_id and part.num_cached_tokens >= 0
        )
        return self.recorder.tokens(request_id), num_cached


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*/*")]


async def test_a_worker_told_to_keep_kv_leaves_it_to_the_next(tmp_path: Path) -> None:
    first, second = Client(make(tmp_path)), Client(make(tmp_path))
    await first.start()
    talks = [prompt(i) + (await first.ask(prompt(i)))[0] for i in range(5)]
    running = prompt(9)
    request_id = first.submit(running, 300)
    await first.recorder.until(lambda: len(first.recorder.tokens(request_id)) >= 20)
    await first.replica.close(20.0, save_kv=True)
    begun = running + first.recorder.tokens(request_id)
    await second.start()
    num_found = 0
    for talk in [*talks, begun[: 200 + 19]]:
        answer, num_cached = await second.ask([*talk, 30])
        num_found += num_cached >= len(talk) - 1
        assert len(answer) == 8
    assert num_found >= 4  # on a busy machine, computing may be the faster way
    await second.replica.close()


async def test_a_worker_told_nothing_leaves_nothing(tmp_path: Path) -> None:
    client = Client(make(tmp_path))
    await client.start()
    await client.ask(prompt(0))
    await client.replica.close()
    assert names(tmp_path) == []


async def test_a_killed_worker_leaves_whole_files_and_the_next_one_uses_them(
    tmp_path: Path,
) -> None:
    """Killed while it writes, again and again."""
    client = Client(make(tmp_path, memory_bytes=200_000))
    await client.start()
    talks: list[list[int]] = []
    expected: dict[int, list[int]] = {}
    num_found = 0
    for life in range(1, 5):
        for _ in range(6):
            text = prompt(len(talks))
            talks.append(text + (await client.ask(text))[0])
        pid = client.replica.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await client.recorder.until_count("ready", life + 1)
        for index, talk in enumerate(talks):
            answer, num_cached = await client.ask([*talk, 30])
            num_found += num_cached >= len(talk) - 1
            assert answer == expected.setdefault(index, answer)
    assert num_found > 20
    await client.replica.close()
    assert all(name.endswith((".kv", ".partial")) for name in names(tmp_path))


async def test_a_folder_that_cannot_be_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file")
    client = Client(make(tmp_path / "kv", memory_bytes=MIB))
    await client.start()
    talks = [prompt(i) + (await client.ask(prompt(i)))[0] for i in range(4)]
    for talk in talks:
        _, num_cached = await client.ask([*talk, 30])
        assert num_cached == len(talk) - 1
    await asyncio.wait_for(client.replica.close(20.0, save_kv=True), 30)
