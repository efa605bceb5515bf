"""How fast each replica steps: as stored, else measured when it has loaded, else reckoned.

The rule: one replica is measured at a time, as two would measure each other; and a profile is kept
only if it is whole and good, so that one bad start is not believed for ever. Nothing here keeps a
replica from serving: requests end a measuring, and where all fails there is a prior.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from fmedge import __version__
from fmedge.errors import ModelFileError, UnavailableError
from fmedge.replica.interface import Replica
from fmedge.replica.protocol import Measured, Step
from fmedge.sched.design import design
from fmedge.sched.fit import MIN_SAMPLES, Samples, fit
from fmedge.sched.profile import ProfileKey, StepProfile, from_bytes, to_bytes
from fmedge.sched.steptime import StepModel
from fmedge.server.state import StateStore
from fmedge.types import EngineInfo, EngineSettings

FOLDER = "profiles"
BUDGET_S = 3.0
"""How long measuring may take when a replica has loaded."""

LARGEST_KEPT_ERROR = 0.25
"""A fit whose median error is above it was measured beside something else: not worth keeping."""

HEADER_BYTES = 1 << 20

log = logging.getLogger(__name__)


class ProfileStore:
    """Profiles on disk, a file each. Losing one costs a measuring; nothing here raises."""

    def __init__(self, folder: Path | None) -> None:
        """folder: the server's state folder; None: nothing is kept."""
        self._folder = None if folder is None else folder / FOLDER

    def load(self, key: ProfileKey) -> StepProfile | None:
        """The profile of just this key; None, with a warning unless there simply is none."""
        name = _file_name(key)
        data = StateStore(self._folder, is_writer=False).load(name)
        if data is None:
            return None
        try:
            return from_bytes(data, key)
        except ValueError as error:
            log.warning("%s/%s: this profile is not used: %s", self._folder, name, error)
            return None

    def save(self, profile: StepProfile) -> bool:
        """Keep it in place of an older one of its key."""
        if self._folder is None:
            return False
        state = StateStore(self._folder)
        try:
            return state.save(_file_name(profile.key), to_bytes(profile))
        finally:
            state.close()


class Profiler:
    """Gets profiles, one at a time. Its methods belong to one event loop."""

    def __init__(
        self,
        store: ProfileStore,
        *,
        is_prior_only: bool = False,
        reckon: Callable[[str], StepModel] | None = None,
    ) -> None:
        """reckon: a replica's prior by its name, where it is not this machine that it runs on."""
        self._store = store
        self._reckon = reckon
        self._is_prior_only = is_prior_only
        self._made: dict[ProfileKey, StepProfile] = {}  # by this server, kept or not
        self._turn = asyncio.Lock()

    async def obtain(
        self, replica: Replica, engine: EngineSettings, *, budget_s: float = BUDGET_S
    ) -> StepProfile:
        """The profile of a replica that is ready: stored, measured within budget_s, or a prior.

        Raises ReplicaLostError when it is not ready (any more), ModelFileError when its file is
        gone.
        """
        info = _info_of(replica)
        key = await asyncio.to_thread(profile_key, engine)
        if self._is_prior_only:
            return await self._prior(replica, info, key, engine)
        async with self._turn:
            stored = self._made.get(key) or await asyncio.to_thread(self._store.load, key)
            if stored is not None:
                profile = _as_stored(stored, info)
                log.info("replica %s: step times as stored (%s)", replica.name, summary(profile))
                return profile
            try:
                return await self._measure(replica, info, key, budget_s, None)
            except UnavailableError as error:
                log.info("replica %s: %s Its speed is reckoned.", replica.name, error)
        return await self._prior(replica, info, key, engine)

    async def measure(
        self,
        replica: Replica,
        engine: EngineSettings,
        *,
        budget_s: float,
        on_step: Callable[[Step], None] | None = None,
    ) -> StepProfile:
        """Measure a replica that is ready and idle, whatever is stored.

        Raises ReplicaLostError, ModelFileError, and UnavailableError when it is or becomes busy,
        only embeds, or too little could be measured.
        """
        info = _info_of(replica)
        key = await asyncio.to_thread(profile_key, engine)
        async with self._turn:
            return await self._measure(replica, info, key, budget_s, on_step)

    async def _measure(
        self,
        replica: Replica,
        info: EngineInfo,
        key: ProfileKey,
        budget_s: float,
        on_step: Callable[[Step], None] | None,
    ) -> StepProfile:
        points = design(info.slots, info.ctx_size, info.batch_size, info.ubatch_size)
        start_s = time.monotonic()
        measured = await replica.measure(tuple(points), budget_s, on_step)
        measured_s = time.monotonic() - start_s
        if not _is_enough(measured):
            raise UnavailableError(
                f"Measuring gave too few steps ({len(measured.samples)}): {_why(measured)}",
                retry_after_s=5.0,
                code="not_measured",
            )
        report = await asyncio.to_thread(lambda: fit(Samples.of(measured.samples)))
        profile = StepProfile(
            key=key,
            source="measured",
            made_at_s=time.time(),
            fitted=report,
            load_s=info.load_s,
            memory=info.memory,
            measured_s=measured_s,
            is_complete=measured.ended in ("complete", "time"),
        )
        log.info("replica %s: step times measured (%s)", replica.name, summary(profile))
        self._made[key] = profile
        if not profile.is_complete:
            log.info("replica %s: measuring ended early: %s", replica.name, _why(measured))
        elif report.median_error > LARGEST_KEPT_ERROR:
            log.warning(
                "replica %s: its steps vary so much (median error %.0f%%, noise %.0f%%) that they "
                "are measured anew at the next start; does something else compute here?",
                replica.name, 100 * report.median_error, 100 * report.noise,
            )  # fmt: skip
        else:
            await asyncio.to_thread(self._store.save, profile)
        return profile

    async def _prior(
        self, replica: Replica, info: EngineInfo, key: ProfileKey, engine: EngineSettings
    ) -> StepProfile:
        from fmedge.server.prior import prior_model

        if self._reckon is not None:
            model = self._reckon(replica.name)
        else:
            model = await asyncio.to_thread(prior_model, engine, info)
        profile = StepProfile(
            key=key,
            source="prior",
            made_at_s=time.time(),
            prior=model,
            load_s=info.load_s,
            memory=info.memory,
        )
        log.info("replica %s: step times reckoned (%s)", replica.name, summary(profile))
        return profile


def profile_key(engine: EngineSettings) -> ProfileKey:
    """What a profile of these settings holds for, here. Reads the model file's header.
    ModelFileError if it is gone."""
    import msgspec

    from fmedge._native.devices import list_devices
    from fmedge._native.version import llama_build
    from fmedge.server.hardware import hardware

    return ProfileKey(
        file=model_digest(engine.model_path),
        engine=msgspec.structs.replace(engine, model_path=""),
        build=f"{llama_build()}, fmedge {__version__}",
        hardware=hardware(list_devices()),
    )


def model_digest(path: str) -> str:
    """32 hexadecimal digits of a model file's size, modification time and first bytes.
    ModelFileError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
            status = Path(path).stat()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    facts = f"{status.st_size} {status.st_mtime_ns} ".encode()
    return hashlib.sha256(facts + header).hexdigest()[:32]


def summary(profile: StepProfile) -> str:
    """In a few words, for a log line."""
    model = profile.model
    text = (
        f"{1e3 * model.step_s(0, 1):.3g} ms a step of one sequence, "
        f"{1e3 * model.step_s(256, 0, 0, 256 * 128):.3g} ms for 256 tokens of prompt"
    )
    if profile.fitted is None:
        return text
    error = 100 * profile.fitted.median_error
    return f"{text}, from {profile.num_samples} steps with a median error of {error:.1f}%"


def _as_stored(profile: StepProfile, info: EngineInfo) -> StepProfile:
    import msgspec

    return msgspec.structs.replace(profile, source="stored", load_s=info.load_s, memory=info.memory)


def _is_enough(measured: Measured) -> bool:
    """Whether these samples say something of prefill and of decoding."""
    chunks = {p for _, p, _, _, _ in measured.samples if p}
    has_decoding = any(d and not p for _, p, d, _, _ in measured.samples)
    return len(measured.samples) >= MIN_SAMPLES and len(chunks) >= 2 and has_decoding


def _why(measured: Measured) -> str:
    return {
        "complete": "its context is too small.",
        "time": "its steps are slow, the time was over.",
        "interrupted": "a request came.",
    }.get(measured.ended, measured.message)


def _info_of(replica: Replica) -> EngineInfo:
    from fmedge.errors import ReplicaLostError

    status = replica.status()
    if status.state != "ready" or status.info is None:
        raise ReplicaLostError(f"Replica {replica.name} is {status.state}.")
    return status.info


def _file_name(key: ProfileKey) -> str:
    return f"{key.digest()}.json"
