"""The settings: each field and its default stands once, in a Struct (`ServerConfig`, `ClientConfig`
here, those of promises.py, `EngineSettings` in types.py); TOML keys, environment variables and
flags derive from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from fmedge.config.promises import SlaConfig, WorkflowConfig
from fmedge.config.rpc import RpcConfig
from fmedge.config.values import bare
from fmedge.types import EngineSettings

ENV_PREFIX = "FMEDGE_"
EMBEDDED = "embedded"
"""What `model` says for the model that is part of fmedge, which is served where none is named."""

_PATH = {"is_path": True}
_FIXED = {"is_fixed": True}  # while a server runs

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class ServerConfig(Struct, frozen=True, kw_only=True):
    """The listening side: section [server]."""

    host: Annotated[str, Meta(description="address to listen on", extra=_FIXED)] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="port; 0 takes a free one", extra=_FIXED)
    ] = 8080
    unix_socket: Annotated[
        str,
        Meta(description="listen on this Unix socket instead of a port", extra=_PATH | _FIXED),
    ] = ""
    api_key_file: Annotated[
        str, Meta(description="file with one API key a line; without it no key is asked for",
                  extra=_PATH)
    ] = ""  # fmt: skip
    cors_origins: Annotated[
        tuple[str, ...], Meta(description="origins that browsers may call from; * is any")
    ] = ()
    tls_cert: Annotated[str, Meta(description="PEM certificate chain", extra=_PATH)] = ""
    tls_key: Annotated[str, Meta(description="PEM private key", extra=_PATH)] = ""
    max_body_mib: Annotated[
        int, Meta(ge=1, le=1024, description="largest request body", extra=_FIXED)
    ] = 32
    max_concurrent_requests: Annotated[
        int, Meta(ge=1, description="requests in progress at once; more get 503")
    ] = 1024
    max_connections: Annotated[
        int, Meta(ge=1, description="open connections; more are closed as they come")
    ] = 8192
    keepalive_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="a connection idle, or in mid-header, for so long is "
            "closed; more than what proxies in front of it allow",
        ),
    ] = 75.0
    max_queued_requests: Annotated[
        int, Meta(ge=0, description="requests waiting for a slot, for each model; more get 429")
    ] = 512
    isolate_cache_by_key: Annotated[
        bool, Meta(description="never share cached prompts between API keys")
    ] = False
    default_sla: Annotated[
        str, Meta(description="class of requests that nothing else puts into one: an [sla.NAME]")
    ] = ""
    policy: Annotated[
        Literal[
            "fmedge",
            "round_robin",
            "least_outstanding",
            "power_of_two",
            "speed_weighted",
            "highest_load",
        ],
        Meta(description="how a replica is chosen; all but fmedge are there to compare with, and "
             "but for highest_load they ignore promises", extra=_FIXED),
    ] = "fmedge"  # fmt: skip
    profile: Annotated[
        Literal["auto", "prior"],
        Meta(description="a replica's speed: auto is as stored, else measured when it has loaded; "
             "prior is reckoned from the hardware's figures alone", extra=_FIXED),
    ] = "auto"  # fmt: skip
    placement: Annotated[
        Literal["auto", "once", "manual"],
        Meta(description="who decides replicas and layers: auto plans at start and whenever things "
             "change, once at start alone, manual leaves it to the settings and to llama.cpp",
             extra=_FIXED),
    ] = "auto"  # fmt: skip
    demand_file: Annotated[
        str,
        Meta(description="[[demand]] blocks that the first plan is made for; later ones go by what "
             "was asked for", extra=_PATH),
    ] = ""  # fmt: skip
    keep_alive_s: Annotated[
        Seconds,
        Meta(description="a model that nothing was asked of for so long is unloaded; 0: only when "
             "its memory is needed"),
    ] = 0.0  # fmt: skip
    min_resident_s: Annotated[
        Seconds, Meta(description="a model that was loaded stays for so long at least")
    ] = 2.0
    kv_store_mib: Annotated[
        int,
        Meta(ge=0, le=1 << 24, description="host memory of each replica for conversations that "
             "left its KV cache; 0 keeps none", extra=_FIXED),
    ] = 256  # fmt: skip
    kv_disk_mib: Annotated[
        int,
        Meta(ge=0, le=1 << 30, description="disk under state_dir for such conversations, which "
             "so outlive their replica; 0 keeps none there", extra=_FIXED),
    ] = 0  # fmt: skip
    state_dir: Annotated[
        str,
        Meta(description="folder for what is learned; empty is $XDG_STATE_HOME/fmedge",
             extra=_PATH | _FIXED),
    ] = ""  # fmt: skip
    record: Annotated[
        str,
        Meta(description="log of every request, without its texts, that `fmedge simulate` and "
             "`fmedge bench` play again; appended to", extra=_PATH | _FIXED),
    ] = ""  # fmt: skip
    drain_timeout_s: Annotated[
        Seconds, Meta(description="how long running requests may take to finish at shutdown")
    ] = 30.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "text", "journal", "json"],
        Meta(description="text lines, those with priorities for systemd's journal, or a JSON "
             "object a line; auto is journal where stderr is that, else text"),
    ] = "auto"  # fmt: skip


class ClientConfig(Struct, frozen=True, kw_only=True):
    """What the client verbs (run, ps, bench) need of a server: section [client]."""

    url: Annotated[str, Meta(description="the server's URL")] = ""
    api_key: Annotated[str, Meta(description="key to send as a bearer token")] = ""


class ModelConfig(Struct, frozen=True, kw_only=True):
    """One served model. `model` is a path, a name or hf:org/repo[:QUANT|/file]; `name` is what
    requests call it ("" derives it from `model`); `engine.model_path` is empty until resolved.
    quantisations: other files of the model, named as `model` is, of which the provisioner may take
    one instead. given: the keys that somebody set, which it leaves as they are."""

    model: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    replicas: Annotated[Positive, Meta(description="worker processes for each model")] = 1
    chat_template_file: Annotated[
        str, Meta(description="Jinja chat template instead of the model's own", extra=_PATH)
    ] = ""
    pinned: Annotated[bool, Meta(description="always loaded, never unloaded for another model")] = (
        False
    )
    engine: EngineSettings = EngineSettings(model_path="")
    quantisations: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


class ReplicaConfig(Struct, frozen=True, kw_only=True):
    """One replica of a served model that differs from the others: a [[replica]] block.

    model: what requests call the model. file: its own quantisation, said as [[model]] says it; ""
    is the model's file. name "": made from the model's. engine: the engine keys in which it
    differs from its model. where: the place of the block, for messages.
    """

    where: str
    model: str
    name: str = ""
    file: str = ""
    engine: dict[str, Any] = {}

    def engine_of(self, model: ModelConfig) -> EngineSettings:
        """The model's settings with this replica's own on top."""
        return msgspec.structs.replace(model.engine, **self.engine)


class Config(Struct, frozen=True, kw_only=True):
    """Everything. `sources` says where each setting that is not a default came from. is_narrowed:
    flags or the environment choose the models, so what the file says of others does not count."""

    server: ServerConfig = ServerConfig()
    client: ClientConfig = ClientConfig()
    models: tuple[ModelConfig, ...] = ()
    replicas: tuple[ReplicaConfig, ...] = ()
    rpc: tuple[RpcConfig, ...] = ()
    sla: dict[str, SlaConfig] = {}
    workflows: dict[str, WorkflowConfig] = {}
    is_narrowed: bool = False
    file: str = ""
    sources: dict[str, str] = {}


class Setting(Struct, frozen=True):
    """One key of a section, with the names derived from it. is_fixed: it stays as it was when the
    server started."""

    section: str
    key: str
    type: Any
    default: Any
    help: str
    is_path: bool = False
    is_fixed: bool = False

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.key.upper()

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def is_bool(self) -> bool:
        return bare(self.type) is bool

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words (of a list's items), or () where the value is free."""
        kind = bare(self.type)
        if get_origin(kind) is tuple:
            kind = bare(get_args(kind)[0])
        return tuple(get_args(kind)) if get_origin(kind) is Literal else ()


_STRUCTS: dict[str, type[Struct]] = {
    "server": ServerConfig,
    "client": ClientConfig,
    "sla": SlaConfig,
    "workflows": WorkflowConfig,
}

# Those of ModelConfig's own fields that [defaults] may hold, and flags set for every model.
MODEL_KEYS = ("replicas", "chat_template_file", "pinned")

# Bounds and help of EngineSettings' fields, whose Struct speaks to the worker and stays plain.
_ENGINE_KEYS: dict[str, tuple[Any, str]] = {
    "ctx_size": (
        Annotated[int, Meta(ge=0, le=1 << 24)],
        "longest request, prompt and output, in tokens; 0 is the model's, at most 8192",
    ),
    "slots": (Annotated[int, Meta(ge=1, le=256)], "sequences that decode at once"),
    "kv_unified": (bool, "one pool of KV cells for all slots instead of ctx-size for each"),
    "kv_tokens": (NotNegative, "cells of the unified KV pool; 0 is ctx-size x slots"),
    "batch_size": (Positive, "most tokens a step"),
    "ubatch_size": (Positive, "most tokens a compute graph"),
    "threads": (Annotated[int, Meta(ge=0, le=1024)], "CPU threads; 0 is all physical cores"),
    "gpu_layers": (Annotated[int, Meta(ge=-1)], "layers on GPUs; -1 is all"),
    "devices": (tuple[str, ...] | None, "ggml devices to use, or none for the CPU alone"),
    "split_mode": (Literal["none", "layer", "row"], "how a model is split over devices"),
    "main_gpu": (NotNegative, "the device when split-mode is none"),
    "tensor_split": (tuple[Annotated[float, Meta(ge=0)], ...], "share of each device"),
    "tensor_overrides": (
        tuple[tuple[str, str], ...],
        "where tensors lie: REGEX=BUFFER_TYPE[,...]",
    ),
    "type_k": (KvType, "type of the KV cache's keys"),
    "type_v": (KvType, "type of the KV cache's values"),
    "flash_attn": (Literal["auto", "on", "off"], "flash attention"),
    "mmap": (bool, "map the model file instead of reading it"),
    "mlock": (bool, "keep the weights from being swapped out"),
    "offload_kqv": (bool, "KV cache on the GPU"),
    "op_offload": (bool, "large host operations on the GPU"),
    "pooling": (
        Literal["", "none", "mean", "cls", "last", "rank"],
        "pooling of embeddings; empty is the model's",
    ),
}


def _of_struct(section: str, struct: type[Struct]) -> list[Setting]:
    settings = []
    for field in msgspec.structs.fields(struct):
        metas = [m for m in getattr(field.type, "__metadata__", ()) if isinstance(m, Meta)]
        extra: dict[str, Any] = {}
        for meta in metas:
            extra |= meta.extra or {}
        text = next((m.description for m in metas if m.description), "")
        settings.append(
            Setting(section, field.name, field.type, field.default, text,
                    extra.get("is_path", False), extra.get("is_fixed", False))
        )  # fmt: skip
    return settings


def _of_engine() -> list[Setting]:
    defaults = {f.name: f.default for f in msgspec.structs.fields(EngineSettings)}
    of_model = [s for s in _of_struct("defaults", ModelConfig) if s.key in MODEL_KEYS]
    return of_model + [
        Setting("defaults", key, kind, defaults[key], text)
        for key, (kind, text) in _ENGINE_KEYS.items()
    ]


def settings(*sections: str) -> list[Setting]:
    """Every setting of the named sections ("server", "defaults", "client"; "sla" and "workflows"
    are those of one class or workflow), in order."""
    made: list[Setting] = []
    for section in sections:
        made += _of_engine() if section == "defaults" else _of_struct(section, _STRUCTS[section])
    return made
