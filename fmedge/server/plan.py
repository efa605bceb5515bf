"""What is to be served, found out before anything is loaded: names, files, sound headers, and that
replicas of one model hold the same one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from fmedge.config import ModelConfig, ReplicaConfig, check_replica, not_served
from fmedge.errors import ConfigError, ModelFileError, ModelNotFoundError
from fmedge.types import EngineInfo, EngineSettings

if TYPE_CHECKING:
    from fmedge.models.child import Sandbox
    from fmedge.models.metadata import ModelMetadata
    from fmedge.models.registry import ModelSource, Registry
    from fmedge.models.served import ServedModel
    from fmedge.types import GgufHeader, Vocab

log = logging.getLogger(__name__)


class FileStamp(Struct, frozen=True):
    """A file as it was at a time: another under its path has another stamp."""

    path: str
    num_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: str) -> FileStamp:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise ModelFileError(f"{path}: cannot read it: {error.strerror}") from error
        return cls(path, status.st_size, status.st_mtime_ns)


class ReplicaPlan(Struct, frozen=True, kw_only=True):
    """One worker to start: `engine.model_path` is its own (first) file, described by `metadata`."""

    name: str
    engine: EngineSettings
    metadata: ModelMetadata


class ModelPlan(Struct, frozen=True, kw_only=True):
    """One model to serve: `engine.model_path` is its (first) file, whose header was checked.
    stamps: its files and its replicas', as they were then."""

    name: str
    aliases: tuple[str, ...]
    engine: EngineSettings
    metadata: ModelMetadata
    chat_template: str | None
    replicas: tuple[ReplicaPlan, ...]
    stamps: frozenset[FileStamp] = frozenset()


def plan_models(
    models: Sequence[ModelConfig],
    replicas: Sequence[ReplicaConfig] = (),
    *,
    is_narrowed: bool = False,
) -> list[ModelPlan]:
    """The models with their replicas: those of [[replica]] blocks, else `replicas` equal ones.

    is_narrowed: blocks of models that are not served are passed over. Raises ModelNotFoundError,
    ModelFileError or ConfigError, naming the model or the block.
    """
    from fmedge.models.registry import Registry

    registry = Registry()
    sources = [registry.resolve(model.model) for model in models]
    names = [model.name or source.name for model, source in zip(models, sources, strict=True)]
    _check_names(models, sources, names)
    owned: list[list[ReplicaConfig]] = [[] for _ in models]
    for replica in replicas:
        index = _model_of(replica, models, names)
        if index is not None:
            owned[index].append(replica)
        elif not is_narrowed:
            raise ConfigError(f"{replica.where}: model: {not_served(replica.model, names)}")
    plans = [_plan(*parts, registry) for parts in zip(models, sources, names, owned, strict=True)]
    taken: set[str] = set()
    for name in (replica.name for plan in plans for replica in plan.replicas):
        if name in taken:
            raise ConfigError(f"two replicas are called {name!r}: give one of them another name")
        taken.add(name)
    return plans


def _check_names(
    models: Sequence[ModelConfig], sources: Sequence[ModelSource], names: Sequence[str]
) -> None:
    owners: dict[str, str] = {}
    for model, source, own in zip(models, sources, names, strict=True):
        for name in dict.fromkeys((own, *model.aliases)):
            if name in owners:
                raise ConfigError(
                    f"two models are called {name!r} ({owners[name]} and {source.path}): give one "
                    "a name of its own in a [[model]] block"
                )
            owners[name] = source.path


def _model_of(
    replica: ReplicaConfig, models: Sequence[ModelConfig], names: Sequence[str]
) -> int | None:
    """Its place in `models`; a name or alias comes before what a model's file is called."""
    for index, model in enumerate(models):
        if replica.model in (names[index], *model.aliases):
            return index
    return next((i for i, model in enumerate(models) if replica.model == model.model), None)


def _plan(
    model: ModelConfig,
    source: ModelSource,
    name: str,
    replicas: Sequence[ReplicaConfig],
    registry: Registry,
) -> ModelPlan:
    header, metadata = _read(source)
    engine = msgspec.structs.replace(model.engine, model_path=str(source.paths[0]))
    planned = [
        ReplicaPlan(name=f"{name}/{number}", engine=engine, metadata=metadata)
        for number in range(len(replicas) or model.replicas)
    ]
    if replicas:
        pairs = zip(replicas, planned, strict=True)
        planned = [_plan_replica(own, model, default, header, registry) for own, default in pairs]
    files = {*source.paths, *(replica.engine.model_path for replica in planned)}
    return ModelPlan(
        name=name,
        aliases=tuple(a for a in dict.fromkeys(model.aliases) if a != name),
        engine=engine,
        metadata=metadata,
        chat_template=_read_template(model.chat_template_file),
        replicas=tuple(planned),
        stamps=frozenset(map(FileStamp.of, files)),
    )


def _plan_replica(
    replica: ReplicaConfig,
    model: ModelConfig,
    default: ReplicaPlan,
    model_header: GgufHeader,
    registry: Registry,
) -> ReplicaPlan:
    """default: what it is but for what its block says."""
    from fmedge.models.same import check_same_model

    check_replica(replica, model)
    path, metadata = default.engine.model_path, default.metadata
    if replica.file:
        try:
            source = registry.resolve(replica.file)
            header, metadata = _read(source)
            check_same_model(model_header, header)
        except (ModelFileError, ModelNotFoundError) as error:
            raise type(error)(f"{replica.where}: file: {error}") from error
        path = str(source.paths[0])
    return ReplicaPlan(
        name=replica.name or default.name,
        engine=msgspec.structs.replace(replica.engine_of(model), model_path=path),
        metadata=metadata,
    )


def _read(source: ModelSource) -> tuple[GgufHeader, ModelMetadata]:
    from fmedge._native.gguf import read_header
    from fmedge.models.metadata import check_header

    headers = [read_header(path) for path in source.paths]
    metadata = check_header(headers[0], split_headers=headers[1:])
    for warning in metadata.warnings:
        log.warning("%s: %s", source.name, warning)
    return headers[0], metadata


def holds_same_model(was: ModelPlan, now: ModelPlan) -> bool:
    """Whether the files of both hold one model with one vocabulary, so that requests of the one can
    go on with the other. A file that was overwritten meanwhile says nothing of what it held."""
    from fmedge._native.gguf import read_header
    from fmedge.models.same import check_same_model

    try:
        is_whole = all(FileStamp.of(stamp.path) == stamp for stamp in was.stamps)
        if not is_whole or was.metadata.is_embedding != now.metadata.is_embedding:
            return False
        paths = (was.engine.model_path, now.engine.model_path)
        if paths[0] != paths[1]:
            check_same_model(*map(read_header, paths))
    except (ModelFileError, ModelNotFoundError):
        return False
    return True


def _read_template(file: str) -> str | None:
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{file}: cannot read the chat template: {reason}") from error


def longest_request(engines: Mapping[str, EngineSettings], loaded: Mapping[str, EngineInfo]) -> int:
    """Tokens that every replica of a model can take, those that have yet to load included. Both by
    replica; at least one context is known."""
    sizes = [
        loaded[name].ctx_size if name in loaded else engine.ctx_size
        for name, engine in engines.items()
    ]
    return min(size for size in sizes if size)


def serve_model(
    plan: ModelPlan,
    path: str,
    ctx_size: int,
    sandbox: Sandbox | None = None,
    *,
    vocab: Vocab | None = None,
) -> ServedModel:
    """The model as http needs it.

    path: of a file of it that a child process has survived; its vocabulary is read here. ctx_size:
    of the longest request, which every replica can take. sandbox: for its template. vocab:
    its own, where it was opened before.
    """
    from fmedge._native.vocab import Vocab as NativeVocab
    from fmedge.models.served import ServedModel

    return ServedModel(
        name=plan.name,
        aliases=plan.aliases,
        vocab=vocab or NativeVocab.open(path),
        metadata=plan.metadata,
        ctx_size=ctx_size,
        created=int(Path(plan.engine.model_path).stat().st_mtime),
        chat_template=plan.chat_template,
        sandbox=sandbox,
    )
