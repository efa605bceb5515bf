"""What is to be served, found out before anything is loaded: names, files, sound headers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from fmedge.config import ModelConfig
from fmedge.errors import ConfigError
from fmedge.types import EngineInfo, EngineSettings

if TYPE_CHECKING:
    from fmedge.models.metadata import ModelMetadata
    from fmedge.models.registry import Registry
    from fmedge.models.served import ServedModel

log = logging.getLogger(__name__)


class ModelPlan(Struct, frozen=True, kw_only=True):
    """One model to serve: `engine.model_path` is its (first) file, whose header was checked."""

    name: str
    aliases: tuple[str, ...]
    num_replicas: int
    engine: EngineSettings
    metadata: ModelMetadata
    chat_template: str | None


def plan_models(models: Sequence[ModelConfig]) -> list[ModelPlan]:
    """Raises ModelNotFoundError, ModelFileError or ConfigError, naming the model."""
    from fmedge.models.registry import Registry

    registry = Registry()
    plans = [_plan(model, registry) for model in models]
    owners: dict[str, str] = {}
    for plan in plans:
        for name in dict.fromkeys((plan.name, *plan.aliases)):
            if name in owners:
                raise ConfigError(
                    f"two models are called {name!r} ({owners[name]} and "
                    f"{plan.engine.model_path}): give one a name of its own in a [[model]] block"
                )
            owners[name] = plan.engine.model_path
    return plans


def _plan(model: ModelConfig, registry: Registry) -> ModelPlan:
    from fmedge._native.gguf import read_header
    from fmedge.models.metadata import check_header

    source = registry.resolve(model.model)
    headers = [read_header(path) for path in source.paths]
    metadata = check_header(headers[0], split_headers=headers[1:])
    for warning in metadata.warnings:
        log.warning("%s: %s", source.name, warning)
    return ModelPlan(
        name=model.name or source.name,
        aliases=tuple(a for a in dict.fromkeys(model.aliases) if a != model.name),
        num_replicas=model.replicas,
        engine=msgspec.structs.replace(model.engine, model_path=str(source.paths[0])),
        metadata=metadata,
        chat_template=_read_template(model.chat_template_file),
    )


def _read_template(file: str) -> str | None:
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{file}: cannot read the chat template: {reason}") from error


def serve_model(plan: ModelPlan, info: EngineInfo) -> ServedModel:
    """The model as http needs it; call it once a worker has loaded the same file."""
    from fmedge._native.vocab import Vocab
    from fmedge.models.served import ServedModel

    return ServedModel(
        name=plan.name,
        aliases=plan.aliases,
        vocab=Vocab.open(plan.engine.model_path),
        metadata=plan.metadata,
        ctx_size=info.ctx_size,
        created=int(Path(plan.engine.model_path).stat().st_mtime),
        chat_template=plan.chat_template,
    )
