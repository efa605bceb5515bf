"""KV put away and brought back by llama.cpp: the same tokens as if it had been computed."""

from __future__ import annotations

import contextlib
import os
import random
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fmedge._native.engine import Engine
from fmedge._native.gguf import read_header
from fmedge.replica import kv_shelf, kv_store
from fmedge.replica.kv_files import weights_digest
from fmedge.replica.kv_store import KvStore, open_store
from fmedge.replica.loop import EngineLoop
from fmedge.replica.protocol import Failed, KvStoreSettings, Step, Submit, WorkerMessage
from fmedge.types import EngineSettings, SamplingParams
from tests.fakes import pack
from tests.shapes import write_shape
from tests.synthetic import PRESETS, cached, write_model

GREEDY = SamplingParams(temperature=0.0)
MIB = 1 << 20


class Driver:
    """A loop on an engine with a store, run to rest after each request."""

    def __init__(self, engine: Engine, store: KvStore | None) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.num_cached: dict[int, int] = {}
        self.store = store
        self.loop = EngineLoop(engine, self._emit, store=store)

    def _emit(self, message: WorkerMessage) -> None:
        assert not isinstance(message, Failed), message
        if isinstance(message, Step):
            for part in message.sequences:
                self.tokens.setdefault(part.request_id, []).extend(part.tokens)
                if part.num_cached_tokens >= 0:
                    self.num_cached[part.request_id] = part.num_cached_tokens

    def submit(
        self,
        request_id: int,
        prompt: list[int],
        max_tokens: int = 12,
        *,
        sampling: SamplingParams = GREEDY,
        cache_key: str = "",
        cache_prompt: bool = True,
    ) -> None:
        self.loop.submit(
            Submit(
                request_id=request_id,
                tokens=pack(prompt),
                num_prompt_tokens=len(prompt),
                max_tokens=max_tokens,
                sampling=sampling,
                ignore_eos=True,
                cache_key=cache_key,
                cache_prompt=cache_prompt,
            )
        )

    def run(self, *, rests: bool = True) -> None:
        for _ in range(20_000):
            if not self.loop.run_step() and not (rests and self.loop.rest()):
                return
        raise AssertionError("the loop did not come to rest")

    def ask(self, request_id: int, prompt: list[int], *args: int, **kw: object) -> list[int]:
        self.submit(request_id, prompt, *args, **kw)  # type: ignore[arg-type]
        self.run()
        return self.tokens[request_id]

    def close(self) -> None:
        self.loop.persist(10)
        self.loop.close()
        if self.store is not None:
            self.store.close()


Open = Callable[..., Driver]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether something pays on a busy machine is not what is tested here."""
    monkeypatch.setattr(kv_store, "MIN_GAIN", 0.0)
    monkeypatch.setattr(kv_shelf, "LEAST_FETCH_S", 20.0)
    monkeypatch.setattr(kv_shelf, "OPEN_TIMEOUT_S", 20.0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Open]:
    opened: list[tuple[Driver, Engine]] = []

    def start(
        *, memory_bytes: int = 64 * MIB, disk_bytes: int = 0, engine: Engine | None = None,
        model: str = "", **kw: object,
    ) -> Driver:  # fmt: skip
        settings = EngineSettings(
            model_path=model or str(cached("tiny")),
            **{"ctx_size": 512, "threads": 1, "slots": 2, **kw},  # type: ignore[arg-type]
        )
        engine = engine or Engine.load(settings)
        kv = KvStoreSettings(
            memory_bytes=memory_bytes, folder=str(tmp_path / "kv"), disk_bytes=disk_bytes
        )
        driver = Driver(engine, open_store(engine, kv, settings))
        opened.append((driver, engine))
        return driver

    yield start
    for driver, engine in opened:
        driver.loop.close()
        if driver.store is not None:
            driver.store.close()
        engine.close()


def prompt(seed: int, length: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(20, 400) for _ in range(length)]


SEEDED = SamplingParams(seed=7)
SHAPES: list[tuple[dict[str, object], SamplingParams]] = [
    ({}, SEEDED),
    ({"type_k": "f32"}, SEEDED),
    ({"flash_attn": "off"}, SEEDED),
    # Cells lie elsewhere in the pool than they did, which changes the last bits of logits.
    ({"kv_unified": True, "kv_tokens": 900}, GREEDY),
]


@pytest.mark.parametrize(
    ("kw", "sampling"), SHAPES, ids=["streams", "f32", "no flash attention", "unified"]
)
def test_an_evicted_conversation_goes_on_as_if_it_had_stayed(
    start: Open, kw: dict[str, object], sampling: SamplingParams
) -> None:
    stayed, evicted = start(**kw), start(**kw)
    first = prompt(0, 200)
    answer = stayed.ask(0, first, sampling=sampling)
    assert evicted.ask(0, first, sampling=sampling) == answer
    for i in range(1, 21):
        evicted.ask(i, prompt(i, 150))
    more = first + answer + prompt(99, 10)
    expected = stayed.ask(100, more, 30, sampling=sampling)
    assert evicted.ask(100, more, 30, sampling=sampling) == expected
    assert stayed.num_cached[100] == evicted.num_cached[100] == len(first) + len(answer) - 1


def test_a_restored_prefix_gives_what_a_whole_prefill_gives(start: Open) -> None:
    driver = start()
    stem = prompt(0, 240)
    for i in range(1, 12):
        driver.ask(i, [*stem, *prompt(i, 60)], cache_key=f"{i % 4}")
    for i in range(1, 12):
        asked = stem[: 40 * (i % 6) + 35] + prompt(100 + i, 20)
        found = driver.ask(100 + i, asked, cache_key=f"{i % 4}")
        assert driver.num_cached[100 + i] == len(asked) - 20
        assert found == driver.ask(200 + i, asked, cache_prompt=False)
    assert driver.store is not None
    assert driver.store.num_restored >= 4


def test_no_key_finds_what_another_left(start: Open) -> None:
    driver = start(slots=1, disk_bytes=64 * MIB)
    text = prompt(0, 200)
    driver.ask(0, text, cache_key="ada")
    driver.ask(1, prompt(1, 200), cache_key="bob")
    for i, (key, is_known) in enumerate([("bob", False), ("", False), ("ada", True)], 2):
        driver.ask(i, [*text, 30, 31], cache_key=key)
        assert (driver.num_cached[i] > 0) == is_known


def test_clearing_forgets_what_was_put_away(start: Open, tmp_path: Path) -> None:
    driver = start(slots=1, disk_bytes=64 * MIB)
    texts = {key: prompt(i, 200) for i, key in enumerate(("ada", "bob"))}
    for i, (key, text) in enumerate(texts.items()):
        driver.ask(i, text, cache_key=key)
    driver.ask(2, prompt(2, 200), cache_key="cleo")
    driver.loop.persist(10)
    assert len(stored_files(tmp_path)) == 3
    driver.loop.clear_cache("ada")
    again = start(slots=1, disk_bytes=64 * MIB)
    driver.store.close()
    assert len(stored_files(tmp_path)) == 2
    for i, (key, text) in enumerate(texts.items(), 10):
        again.ask(i, [*text, 30], cache_key=key)
    assert again.num_cached == {10: 0, 11: 200}
    again.loop.clear_cache()
    again.store.close()
    assert stored_files(tmp_path) == []


def test_what_memory_cannot_hold_is_found_on_disk(start: Open, tmp_path: Path) -> None:
    driver = start(memory_bytes=200_000, disk_bytes=64 * MIB)
    talks = []
    for i in range(12):
        text = prompt(i, 200)
        talks.append(text + driver.ask(i, text))
        assert driver.store is not None
        driver.store.settle(10)
    assert len(stored_files(tmp_path)) >= 8
    stayed = start()
    for i, talk in enumerate(talks):
        more = [*talk, 30, 31, 32]
        found = driver.ask(100 + i, more)
        assert driver.num_cached[100 + i] == len(talk) - 1
        stayed.ask(i, talk[:200])
        assert found == stayed.ask(100 + i, more)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_new_process_finds_what_an_old_one_kept(start: Open, tmp_path: Path, slots: int) -> None:
    old = start(slots=slots, disk_bytes=64 * MIB)
    talks = []
    for i in range(5):
        text = prompt(i, 200)
        talks.append(text + old.ask(i, text))
    running = prompt(50, 300)
    old.submit(50, running, 100)
    for _ in range(20):
        old.loop.run_step()
    begun = running + old.tokens[50]
    assert 50 < len(old.tokens[50]) + 50 < 150
    old.loop.persist(10)
    assert all((path.stat().st_mode & 0o777) == 0o600 for path in stored_files(tmp_path))
    new = start(slots=slots, disk_bytes=64 * MIB)
    assert new.store is not None
    new.store.settle(10)
    stayed = start()
    for i, talk in enumerate([*talks, begun]):
        more = [*talk, 30, 31, 32]
        found = new.ask(100 + i, more)
        assert new.num_cached[100 + i] == len(talk) - 1
        stayed.ask(i, talk[: 300 if talk is begun else 200], len(talk) - 200)
        assert found == stayed.ask(100 + i, more)


def keep_one(start: Open, tmp_path: Path) -> tuple[list[int], Path]:
    """A conversation of 211 tokens in KV, and its file; whoever kept it is gone."""
    driver = start(disk_bytes=64 * MIB)
    text = prompt(0, 200)
    talk = text + driver.ask(0, text)
    driver.close()
    (path,) = stored_files(tmp_path)
    return talk, path


def ask_again(start: Open, talk: list[int], **kw: object) -> int:
    """How many tokens a new process finds of a conversation, whose answer is as it should be."""
    driver = start(disk_bytes=64 * MIB, **kw)
    assert driver.store is not None
    driver.store.settle(10)
    more = [*talk, 30, 31]
    assert driver.ask(1, more) == driver.ask(2, more, cache_prompt=False)
    driver.store.close()
    return driver.num_cached[1]


def test_a_broken_file_is_a_prefill_and_goes(
    start: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    talk, path = keep_one(start, tmp_path)
    whole = path.read_bytes()
    assert ask_again(start, talk) == len(talk) - 1
    chance = random.Random(3)
    broken = [b"", whole[:10], whole[:100], whole[:-1], whole + b"x", b"\0" * len(whole)]
    places = [0, 9, 13, 17, 21, 30, 60, *(chance.randrange(len(whole)) for _ in range(20))]
    broken += [whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :] for at in places]
    for data in broken:
        path.write_bytes(data)
        assert ask_again(start, talk) == 0
        assert not path.exists() or path.read_bytes() == whole
        path.unlink(missing_ok=True)
    assert "checksum" in caplog.text


def test_strangers_in_the_folder_do_no_harm(start: Open, tmp_path: Path) -> None:
    talk, path = keep_one(start, tmp_path)
    os.mkfifo(path.parent / "pipe.kv")
    (path.parent / "link.kv").symlink_to(path)
    (path.parent / "folder.kv").mkdir()
    (path.parent / "notes.txt").write_text("mine")
    assert ask_again(start, talk) == len(talk) - 1
    assert (path.parent / "notes.txt").exists()


def test_other_settings_and_other_models_find_nothing(start: Open, tmp_path: Path) -> None:
    talk, path = keep_one(start, tmp_path)
    assert ask_again(start, talk, slots=3) == 0
    assert path.exists()
    other = write_model(tmp_path / "other.gguf", replace(PRESETS["tiny"], seed=5))
    assert ask_again(start, talk, model=str(other)) == 0
    assert ask_again(start, talk) == len(talk) - 1


def test_a_file_of_another_model_is_removed(start: Open, tmp_path: Path) -> None:
    talk, path = keep_one(start, tmp_path)
    other = write_model(tmp_path / "other.gguf", replace(PRESETS["tiny"], seed=5))
    folder = tmp_path / "kv" / weights_digest(str(other))
    folder.mkdir()
    stranger = folder / path.name
    stranger.write_bytes(path.read_bytes())
    assert ask_again(start, talk, model=str(other)) == 0
    assert not stranger.exists()
    assert path.exists()


def test_a_full_disk_is_said_once_and_serving_goes_on(
    start: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = start(memory_bytes=200_000, disk_bytes=64 * MIB, slots=1)
    assert driver.store is not None
    driver.store.settle(10)
    with files_limited_to(20_000):
        for i in range(12):
            driver.ask(i, prompt(i, 200))
            driver.store.settle(10)
    assert caplog.text.count("KV is not kept on disk") == 1
    assert list(tmp_path.glob("kv/*/*")) == []
    driver.ask(100, [*prompt(10, 200), 30])
    assert driver.num_cached[100] == 200  # from memory
    for i in range(20, 24):
        driver.ask(i, prompt(i, 200))
        driver.store.settle(10)
    assert stored_files(tmp_path)  # there is room again


def test_the_disk_is_bounded_over_all_models(start: Open, tmp_path: Path) -> None:
    _, path = keep_one(start, tmp_path)
    limit = 5 * path.stat().st_size
    driver = start(disk_bytes=limit, memory_bytes=200_000, type_k="f32")
    assert driver.store is not None
    for i in range(20):
        driver.ask(i, prompt(i, 200))
        driver.store.settle(10)
        assert sum(p.stat().st_size for p in tmp_path.glob("kv/*/*")) <= limit
    assert not path.exists()
    assert len(stored_files(tmp_path)) >= 2


@contextlib.contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """Writing more into any file of this process fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stored_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("kv/*/*.kv"))


def with_weights(path: Path, architecture: str, **keys: int) -> Path:
    """A model of two layers of an architecture, with random weights."""
    write_shape(path, architecture, num_layers=2, quant="f16", keys=keys)
    header = read_header(str(path))
    rng = np.random.default_rng(1)
    for tensor in header.tensors:
        kind = np.float16 if tensor.type == "f16" else np.float32
        shape = (int(np.prod(tensor.shape)),)
        noise = rng.standard_normal(shape, dtype=np.float32)
        values = 1 + 0.1 * noise if "norm" in tensor.name else 0.06 * noise
        if "ssm_a" in tensor.name:
            values = -1 - noise**2
        elif tensor.name == "token_embd.weight":
            values *= 0.1  # a tied one would have every token follow itself
        at = header.data_offset + tensor.offset
        np.memmap(path, dtype=kind, mode="r+", offset=at, shape=shape)[:] = values
    return path


@pytest.mark.parametrize("architecture", ["gemma3", "mamba"])
def test_what_cannot_be_cut_is_restored_whole_or_not_at_all(
    start: Open, tmp_path: Path, architecture: str
) -> None:
    """A sliding window leaves holes behind it, a recurrent state is of all tokens or none."""
    keys = {"attention.sliding_window": 64} if architecture == "gemma3" else {}
    model = str(with_weights(tmp_path / "model.gguf", architecture, **keys))
    evicted = start(model=model, disk_bytes=256 * MIB)
    stayed = start(model=model, memory_bytes=0)
    first = prompt(0, 200)
    answer = evicted.ask(0, first, sampling=SEEDED)
    assert len(set(answer)) > 6
    assert stayed.ask(0, first, sampling=SEEDED) == answer
    for i in range(1, 5):
        evicted.ask(i, prompt(i, 150))
    more = first + answer + prompt(99, 10)
    assert evicted.ask(100, more, sampling=SEEDED) == stayed.ask(100, more, sampling=SEEDED)
    assert evicted.num_cached[100] == len(first) + len(answer) - 1
    for i, fork in enumerate([first[:150] + prompt(98, 20), first + answer[:4]], 101):
        assert evicted.ask(i, fork) == stayed.ask(i, fork, cache_prompt=False)
        assert evicted.num_cached[i] == 0
