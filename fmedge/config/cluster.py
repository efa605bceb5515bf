"""A cluster file: devices, the models that they hold, and how replicas that are emulated on them
stray from what is told of them.

The rule: it is complete. Two machines that read the same file emulate and simulate the same thing,
whatever they themselves are.
"""

from __future__ import annotations

from collections.abc import Mapping
from os.path import expanduser  # pathlib's raises where it knows no home
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fmedge.config.blocks import beside, blocks, own_classes, read_sections
from fmedge.config.demand import DemandConfig, Quantiles, demand_of, quantiles
from fmedge.config.devices import DeviceConfig, devices_of
from fmedge.config.promises import SlaConfig, check_name
from fmedge.config.settings import KvType, settings
from fmedge.config.values import finite, typed
from fmedge.errors import ConfigError

MAX_MODELS = 64
_SECTIONS = ("device", "model", "emulation", "demand", "sla")

Size = Annotated[int, Meta(ge=1, le=1 << 24)]
NotNegative = Annotated[int, Meta(ge=0, le=1 << 24)]
Share = Annotated[float, Meta(ge=0, le=1)]
Times = Annotated[float, Meta(gt=0, le=1000)]
Text = Annotated[str, Meta(min_length=1)]


class Figures(Struct, frozen=True, kw_only=True):
    """What a model is that is described instead of being there: sizes in elements, `ctx` in tokens.

    quant: a file type, such as "Q4_K_M". experts: of each layer, 0 where it has none;
    experts_used: of them, by each token; expert_feed_forward: the width of one. head_size 0:
    embedding / heads. window: tokens that most layers attend to, 0: all. tied: the head is the
    embedding.
    """

    layers: Annotated[int, Meta(ge=1, le=512)]
    embedding: Size
    feed_forward: Size
    heads: Annotated[int, Meta(ge=1, le=65_536)]
    kv_heads: Annotated[int, Meta(ge=1, le=65_536)]
    vocab: Annotated[int, Meta(ge=1024, le=1 << 20)] = 128_256
    quant: Text = "Q4_K_M"
    ctx: Size = 131_072
    experts: Annotated[int, Meta(ge=0, le=1024)] = 0
    experts_used: Annotated[int, Meta(ge=0, le=1024)] = 0
    expert_feed_forward: NotNegative = 0
    head_size: NotNegative = 0
    window: NotNegative = 0
    tied: bool = False


class ClusterModel(Struct, frozen=True, kw_only=True):
    """One [[model]]. file: a GGUF, "" where `figures` describe it. engine: the engine settings
    that the file fixes, by key; what it does not is the planner's. where: its place, for
    messages."""

    where: str
    name: str
    file: str = ""
    figures: Figures | None = None
    engine: dict[str, Any] = {}
    replicas: int | None = None
    pinned: bool = False


class EmulationConfig(Struct, frozen=True, kw_only=True):
    """The [emulation] section. output_tokens: what an answer's length is drawn from where its
    request does not say. The rest is `sched.emulation.Noise`, whose words it uses."""

    sigma: Annotated[Share, Meta(description="deviation of ln(step time)")] = 0.0
    straggler_share: Annotated[Share, Meta(description="share of steps that are late")] = 0.0
    straggler_factor: Annotated[Times, Meta(description="times as long as they take")] = 1.0
    slowdown: Annotated[
        dict[str, Times], Meta(description="by replica: times as long as was told of it")
    ] = {}
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1, description="of all that is drawn")] = 0
    load_gb_s: Annotated[
        float, Meta(ge=0, le=10_000, description="weights are loaded at, in 1e9 bytes a second; "
                                                 "0: at once")
    ] = 0.0  # fmt: skip
    output_tokens: Quantiles = Quantiles(128.0, 512.0)


class ClusterConfig(Struct, frozen=True, kw_only=True):
    """A whole cluster file. sla: its [sla.NAME] classes, by name."""

    path: str
    devices: tuple[DeviceConfig, ...]
    models: tuple[ClusterModel, ...]
    emulation: EmulationConfig = EmulationConfig()
    demand: tuple[DemandConfig, ...] = ()
    sla: dict[str, SlaConfig] = {}


_FIGURES = {field.name: field.type for field in msgspec.structs.fields(Figures)}
_REQUIRED = tuple(f.name for f in msgspec.structs.fields(Figures) if f.required)
_ENGINE_KEYS = ("ctx_size", "slots", "batch_size", "ubatch_size", "kv_unified", "kv_tokens")
_OWN: dict[str, Any] = {
    "name": Text,
    "file": Text,
    "replicas": Annotated[int, Meta(ge=1, le=1024)],
    "pinned": bool,
    "kv_type": KvType,
}
_MEANT = {
    "model": "file", "path": "file", "block_count": "layers", "num_layers": "layers",
    "n_layers": "layers", "n_layer": "layers", "hidden_size": "embedding", "n_embd": "embedding",
    "num_hidden_layers": "layers", "intermediate_size": "feed_forward", "n_ff": "feed_forward",
    "n_head": "heads", "num_attention_heads": "heads", "n_head_kv": "kv_heads",
    "num_key_value_heads": "kv_heads", "vocab_size": "vocab", "quantisation": "quant",
    "quantization": "quant", "ctx_train": "ctx", "head_dim": "head_size",
    "num_experts": "experts", "sliding_window": "window", "type_k": "kv_type",
}  # fmt: skip
_MEANT_OF_EMULATION = {"noise": "sigma", "stragglers": "straggler_share", "load": "load_gb_s"}


def load_cluster(
    file: str | Path, known_classes: Mapping[str, SlaConfig] | None = None
) -> ClusterConfig:
    """The cluster that `file` describes. known_classes: of service, that its [[demand]] may name
    beside its own. ConfigError names file, block and key."""
    path = Path(expanduser(file))
    table = read_sections(path, "cluster file", _SECTIONS)
    devices = devices_of(table, path)
    models = tuple(
        _model(block, f"{path}: [[model]] number {number}", path)
        for number, block in enumerate(blocks(table, "model", path), 1)
    )
    _check_models(models, path)
    sla = own_classes(table, path)
    return ClusterConfig(
        path=str(path),
        devices=devices,
        models=models,
        emulation=_emulation(table.get("emulation", {}), f"{path}: [emulation]"),
        demand=demand_of(table, path, {**(known_classes or {}), **sla}),
        sla=sla,
    )


def _model(block: Mapping[str, Any], where: str, path: Path) -> ClusterModel:
    if "name" not in block:
        raise ConfigError(f'{where}: needs name = "..."')
    engine_keys = {s.key: s.type for s in settings("defaults") if s.key in _ENGINE_KEYS}
    values = typed(block, {**_OWN, **engine_keys, **_FIGURES}, where, _MEANT)
    name = values.pop("name")
    check_name(name, f"{where}: name")
    where = f"{where} ({name})"
    engine = {key: values.pop(key) for key in _ENGINE_KEYS if key in values}
    if "kv_type" in values:
        engine["type_k"] = engine["type_v"] = values.pop("kv_type")
    file = values.pop("file", "")
    own = {key: values.pop(key) for key in ("replicas", "pinned") if key in values}
    if file and values:
        raise ConfigError(
            f"{where}: {', '.join(values)} and a file: the file itself says what it is; leave "
            "one of them out"
        )
    missing = [key for key in _REQUIRED if key not in values]
    if not file and missing:
        raise ConfigError(
            f'{where}: needs file = "MODEL.gguf", or what describes it: {", ".join(missing)}'
        )
    file = beside(path, file) if file else ""
    figures = None if file else Figures(**values)
    if figures is not None:
        _check_figures(figures, where)
    return ClusterModel(where=where, name=name, file=file, figures=figures, engine=engine, **own)


def _check_figures(figures: Figures, where: str) -> None:
    if figures.heads % figures.kv_heads:
        raise ConfigError(
            f"{where}: heads ({figures.heads}) is no multiple of kv_heads ({figures.kv_heads})"
        )
    if not figures.head_size and figures.embedding % figures.heads:
        raise ConfigError(
            f"{where}: embedding ({figures.embedding}) is no multiple of heads "
            f"({figures.heads}): give head_size"
        )
    if (figures.head_size or figures.embedding // figures.heads) % 2:
        raise ConfigError(f"{where}: head_size must be even")
    if not figures.experts:
        for key in ("experts_used", "expert_feed_forward"):
            if getattr(figures, key):
                raise ConfigError(f"{where}: {key} without experts: give experts too")
        return
    if not 1 <= figures.experts_used <= figures.experts:
        raise ConfigError(
            f"{where}: experts_used must be from 1 to experts ({figures.experts}), not "
            f"{figures.experts_used}"
        )
    if not figures.expert_feed_forward:
        raise ConfigError(f"{where}: experts need expert_feed_forward, the width of one")


def _check_models(models: tuple[ClusterModel, ...], path: Path) -> None:
    if not models:
        raise ConfigError(f"{path}: describes no model: write a [[model]] for each")
    if len(models) > MAX_MODELS:
        raise ConfigError(f"{path}: {len(models)} models are too many: at most {MAX_MODELS}")
    taken: dict[str, str] = {}
    for model in models:
        other = taken.setdefault(model.name, model.where)
        if other != model.where:
            raise ConfigError(f"{model.where}: another model has that name: {other}")


def _emulation(table: Any, where: str) -> EmulationConfig:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table of keys, not {table!r}")
    types = {field.name: field.type for field in msgspec.structs.fields(EmulationConfig)}
    types["output_tokens"] = Any
    values = typed(table, types, where, _MEANT_OF_EMULATION)
    if "output_tokens" in values:
        values["output_tokens"] = quantiles(values["output_tokens"], f"{where}: output_tokens")
    for key in ("sigma", "straggler_share", "straggler_factor", "load_gb_s"):
        finite(values.get(key, 1.0), types[key], f"{where}: {key}")
    for name, factor in values.get("slowdown", {}).items():
        finite(factor, Times, f"{where}: slowdown of {name}")
    return EmulationConfig(**values)
