"""Where profiles come from, which are kept, and what is never believed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fmedge.errors import ModelFileError, ReplicaLostError, UnavailableError
from fmedge.replica.interface import ReplicaStatus
from fmedge.replica.protocol import Measured, Step
from fmedge.sched.profile import Hardware, ProfileKey, StepProfile
from fmedge.sched.steptime import StepModel
from fmedge.server import profiles
from fmedge.server.hardware import hardware
from fmedge.server.profiles import Profiler, ProfileStore, model_digest, profile_key
from fmedge.types import DeviceInfo, EngineInfo, EngineSettings
from tests import synthetic
from tests.fakes import FakeEngine

MODEL = StepModel(base_s=0.002, kv_s=1e-7, attention_s=1e-8)


@pytest.fixture(scope="module")
def engine() -> EngineSettings:
    return EngineSettings(model_path=str(synthetic.cached("tiny")), slots=4, ctx_size=1024)


def rows(noise: float = 0.0) -> tuple[tuple[float, int, int, int, float], ...]:
    """Steps as a machine would time them; with noise, every other one takes far longer."""
    shapes = [(0, d, d * 64, 0.0) for d in (1, 2, 3, 4)] * 6
    shapes += [(p, 0, 0, p * p / 2) for p in (16, 32, 64, 128)] * 4
    made = []
    for i, (p, d, k, a) in enumerate(shapes):
        step_s = (0.001 + 0.0005 * d + 0.0002 * p) * (1 + noise * (i % 2))
        made.append((step_s, p, d, k, a))
    return tuple(made)


class ScriptedReplica:
    """Answers each measuring with the next script."""

    name, model = "m/0", "m"

    def __init__(self, *answers: Measured | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[tuple[int, int, int], ...], float]] = []
        self.info: EngineInfo | None = FakeEngine(slots=4, ctx_size=1024).info
        self.is_measuring = False

    def status(self) -> ReplicaStatus:
        state = "ready" if self.info else "restarting"
        return ReplicaStatus(name=self.name, model="m", state=state, info=self.info)

    async def measure(
        self,
        points: tuple[tuple[int, int, int], ...],
        max_s: float,
        on_step: Callable[[Step], None] | None = None,
    ) -> Measured:
        self.asked.append((points, max_s))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_profile_is_measured_once_and_then_stored(
    tmp_path: Path, engine: EngineSettings
) -> None:
    replica = ScriptedReplica(Measured(rows()))
    made = await Profiler(ProfileStore(tmp_path)).obtain(replica, engine, budget_s=2.0)
    assert (made.source, made.num_samples, made.is_complete) == ("measured", len(rows()), True)
    assert made.fitted is not None
    assert made.fitted.median_error < 0.02
    assert replica.asked[0][1] == 2.0
    assert all(d <= 4 for _, d, _ in replica.asked[0][0])
    again = await Profiler(ProfileStore(tmp_path)).obtain(replica, engine)
    assert again.source == "stored"
    assert again.model == made.model
    assert again.made_at_s == made.made_at_s
    assert len(replica.asked) == 1


async def test_equal_replicas_share_what_was_measured_even_without_a_folder(
    engine: EngineSettings,
) -> None:
    profiler = Profiler(ProfileStore(None))
    first, second = ScriptedReplica(Measured(rows())), ScriptedReplica()
    made = await profiler.obtain(first, engine)
    assert (await profiler.obtain(second, engine)).model == made.model
    assert second.asked == []


@pytest.mark.parametrize(
    ("measured", "is_kept", "words"),
    [
        (Measured(rows(), "time"), True, ""),
        (Measured(rows(), "interrupted"), False, "a request came"),
        (Measured(rows(noise=3.0)), False, "vary so much"),
    ],
)
async def test_only_what_is_whole_and_good_is_kept(
    measured: Measured,
    is_kept: bool,
    words: str,
    tmp_path: Path,
    engine: EngineSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fmedge")
    made = await Profiler(ProfileStore(tmp_path)).obtain(ScriptedReplica(measured), engine)
    assert made.source == "measured"
    assert words in caplog.text
    assert (ProfileStore(tmp_path).load(profile_key(engine)) is not None) == is_kept


@pytest.mark.parametrize(
    "answer",
    [
        Measured((), "interrupted"),
        Measured(rows()[:5]),
        Measured(rows()[:20]),  # nothing of prefill
        Measured(rows()[-16:]),  # nothing of decoding
        Measured((), "unable", "This model only embeds."),
        Measured((), "failed", "the device is gone"),
        UnavailableError("Replica m/0 has work.", retry_after_s=1.0, code="busy"),
    ],
)
async def test_where_nothing_can_be_measured_there_is_a_prior(
    answer: Measured | Exception, tmp_path: Path, engine: EngineSettings
) -> None:
    profiler = Profiler(ProfileStore(tmp_path))
    profile = await profiler.obtain(ScriptedReplica(answer), engine)
    assert profile.source == "prior"
    assert profile.fitted is None
    assert profile.model.step_s(64, 0) > profile.model.step_s(0, 1) > 0
    assert ProfileStore(tmp_path).load(profile.key) is None
    with pytest.raises(UnavailableError):
        await profiler.measure(ScriptedReplica(answer), engine, budget_s=1.0)


async def test_a_prior_is_all_there_is_where_it_is_asked_for(engine: EngineSettings) -> None:
    profiler = Profiler(ProfileStore(None), is_prior_only=True)
    replica = ScriptedReplica()
    assert (await profiler.obtain(replica, engine)).source == "prior"
    assert replica.asked == []


async def test_measuring_on_demand_replaces_what_is_stored(
    tmp_path: Path, engine: EngineSettings
) -> None:
    profiler = Profiler(ProfileStore(tmp_path))
    slower = tuple((2 * s, p, d, k, a) for s, p, d, k, a in rows())
    replica = ScriptedReplica(Measured(rows()), Measured(slower))
    old = await profiler.obtain(replica, engine)
    new = await profiler.measure(replica, engine, budget_s=9.0)
    assert new.model.step_s(64, 0) == pytest.approx(2 * old.model.step_s(64, 0), rel=0.1)
    stored = ProfileStore(tmp_path).load(profile_key(engine))
    assert stored is not None
    assert stored.model == new.model
    assert (await profiler.obtain(replica, engine)).model == new.model


async def test_a_replica_that_is_not_ready_has_no_profile(engine: EngineSettings) -> None:
    replica = ScriptedReplica(ReplicaLostError("it died"))
    with pytest.raises(ReplicaLostError, match="it died"):
        await Profiler(ProfileStore(None)).obtain(replica, engine)
    replica.info = None
    with pytest.raises(ReplicaLostError, match="restarting"):
        await Profiler(ProfileStore(None)).obtain(replica, engine)


def stored(tmp_path: Path, key: ProfileKey) -> tuple[ProfileStore, Path]:
    store = ProfileStore(tmp_path)
    profile = StepProfile(key=key, source="measured", made_at_s=1.0, prior=MODEL)
    assert store.save(profile)
    assert store.load(key) == profile
    return store, next(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: b"\x00\xff" * 50, "damaged"),
        (lambda data: data.replace(b'"format": 1', b'"format": 99'), "format 99"),
        (lambda data: data.replace(b'"base_s": 0.002', b'"base_s": -1.0'), "damaged"),
        (lambda data: data.replace(b'"num_cores": ', b'"num_cores": 7'), "another machine"),
        (lambda data: data.replace(b'"slots": 4', b'"slots": 5'), "another configuration"),
    ],
)
def test_a_file_that_is_not_this_profile_is_not_used(
    damage: Callable[[bytes], bytes],
    words: str,
    tmp_path: Path,
    engine: EngineSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = profile_key(engine)
    store, path = stored(tmp_path, key)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    assert store.load(key) is None
    assert words in caplog.text
    assert path.name in caplog.text


def test_each_part_of_the_key_counts(tmp_path: Path, engine: EngineSettings) -> None:
    key = profile_key(engine)
    store, _ = stored(tmp_path, key)
    replace = msgspec.structs.replace
    other_cpu = replace(key.hardware, cpu="another")
    for other in (
        replace(key, file="0" * 32),
        replace(key, engine=replace(key.engine, threads=7)),
        replace(key, build="ggml 99"),
        replace(key, hardware=other_cpu),
        replace(key, hardware=replace(key.hardware, cpu_quota=1.5)),
    ):
        assert other.digest() != key.digest()
        assert store.load(other) is None
    assert profile_key(engine) == key
    assert key.engine.model_path == ""


def test_a_full_or_missing_disk_costs_a_warning(
    tmp_path: Path, engine: EngineSettings, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    profile = StepProfile(key=profile_key(engine), source="measured", made_at_s=1.0, prior=MODEL)
    assert not ProfileStore(in_the_way).save(profile)
    assert "Not a directory" in caplog.text or "not a folder" in caplog.text
    assert ProfileStore(in_the_way).load(profile.key) is None
    assert not ProfileStore(None).save(profile)
    assert ProfileStore(None).load(profile.key) is None


def test_a_models_digest_is_of_its_size_time_and_header(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    first = model_digest(str(file))
    assert model_digest(str(file)) == first
    with file.open("r+b") as opened:
        opened.write(b"GGUX")
    assert model_digest(str(file)) != first
    with pytest.raises(ModelFileError, match="No such file"):
        model_digest(str(tmp_path / "none.gguf"))


def cpuinfo(root: Path, text: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(text)
    return root


def test_the_fingerprint_names_cpu_flags_and_devices(tmp_path: Path) -> None:
    x86 = cpuinfo(
        tmp_path / "a", "processor: 0\nmodel name\t: Fast CPU\nflags : sse avx2\n\nmodel name: B\n"
    )
    arm = cpuinfo(
        tmp_path / "b", "CPU implementer\t: 0x41\nCPU part\t: 0xd0c\nFeatures\t: asimd sve\n"
    )
    gpu = DeviceInfo(
        name="CUDA0", description="NVIDIA L4", kind="gpu", backend="CUDA",
        memory_total=24 << 30, memory_free=1,
    )  # fmt: skip
    first = hardware([gpu], x86)
    assert first.cpu == "Fast CPU"
    assert first.devices == ("CUDA0: NVIDIA L4, 24576 MiB",)
    assert first.num_cores >= 1
    second = hardware([], arm)
    assert second.cpu == "0x41 0xd0c"
    assert second.cpu_flags != first.cpu_flags
    assert hardware([], tmp_path / "none").cpu == "unknown"
    assert isinstance(first, Hardware)


def test_the_log_says_in_numbers_what_was_found(engine: EngineSettings) -> None:
    profile = StepProfile(key=profile_key(engine), source="prior", made_at_s=1.0, prior=MODEL)
    assert profiles.summary(profile) == (
        "2 ms a step of one sequence, 2.33 ms for 256 tokens of prompt"
    )
