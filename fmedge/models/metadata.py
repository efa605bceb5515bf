"""What a model is, read from its GGUF header, and whether the file can be what it says it is.

A header is checked before any worker maps the file: what llama.cpp would abort or fault on
(tensors beyond the end, absurd shapes, no tokenizer) is a ModelFileError here, naming the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from fmedge.errors import ModelFileError
from fmedge.models.architectures import KNOWN_ARCHITECTURES
from fmedge.models.names import split_of
from fmedge.types import GgufHeader

_MAX_DIMS = 4
_MAX_ELEMENTS = 1 << 46
_MAX_LAYERS = 4096
_MAX_TENSORS = 1 << 20

# general.sampling.*, as llama.cpp reads them -> SamplingParams' field, and what can be meant.
_SAMPLING: dict[str, tuple[str, type, float, float]] = {
    "temp": ("temperature", float, 0, 2),
    "top_k": ("top_k", int, 0, 1 << 24),
    "top_p": ("top_p", float, 0, 1),
    "min_p": ("min_p", float, 0, 1),
    "penalty_repeat": ("repeat_penalty", float, 0.01, 10),
    "penalty_last_n": ("penalty_last_n", int, -1, 1 << 24),
}
_POOLING_NAMES = ("none", "mean", "cls", "last", "rank")
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0",
    38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip


class ModelMetadata(Struct, frozen=True, kw_only=True):
    """What the front and the command line need to know of a model before it is loaded.

    Sizes: ctx_train in tokens, num_params in weights, file_bytes over all splits. chat_template
    None: the model has none. pooling "": not an embedding model's. split_count 1: one file.
    sampling: what the file recommends where a request says nothing, by SamplingParams' fields.
    warnings: what is odd but not fatal, as sentences.
    """

    architecture: str
    name: str
    quant: str
    ctx_train: int
    num_layers: int
    num_embd: int
    num_vocab: int
    num_params: int
    file_bytes: int
    chat_template: str | None = None
    is_embedding: bool = False
    pooling: str = ""
    split_count: int = 1
    sampling: dict[str, float] = {}
    warnings: tuple[str, ...] = ()


def check_header(header: GgufHeader, *, split_headers: Sequence[GgufHeader] = ()) -> ModelMetadata:
    """The metadata of a model from its (first) file's header. ModelFileError when it is broken.

    split_headers: headers of the further files of a split model; each is checked too.
    """
    _check_tensors(header)
    metadata = header.metadata
    split_count = _check_splits(header, split_headers)
    architecture = _require_str(header, "general.architecture")
    is_projector = architecture == "clip" or metadata.get("general.type") == "mmproj"
    if is_projector or metadata.get("general.type") == "adapter":
        kind = "a multimodal projector" if is_projector else "an adapter"
        raise ModelFileError(f"{header.path} is {kind}, not a model; name the model's own file.")
    num_layers = _require_int(header, f"{architecture}.block_count", 1, _MAX_LAYERS)
    num_embd = _require_int(header, f"{architecture}.embedding_length", 1, 1 << 24)
    ctx_train = _require_int(header, f"{architecture}.context_length", 1, 1 << 40)
    num_vocab = _check_tokenizer(header)
    pooling = _pooling(metadata.get(f"{architecture}.pooling_type"))
    is_causal = metadata.get(f"{architecture}.attention.causal", True)
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise ModelFileError(f"{header.path}: tokenizer.chat_template is not a string.")
    warnings = []
    if architecture not in KNOWN_ARCHITECTURES:
        warnings.append(
            f'The architecture "{architecture}" is not one that this build of llama.cpp knows; '
            "loading will probably fail."
        )
    sampling = _sampling(metadata, warnings)
    headers = (header, *split_headers)
    return ModelMetadata(
        architecture=architecture,
        name=_str_or(metadata.get("general.name"), os.path.basename(header.path)),
        quant=_quant(header),
        ctx_train=ctx_train,
        num_layers=num_layers,
        num_embd=num_embd,
        num_vocab=num_vocab,
        num_params=sum(_num_elements(t.shape) for part in headers for t in part.tensors),
        file_bytes=sum(part.file_bytes for part in headers),
        chat_template=template,
        is_embedding=pooling not in ("", "none") or not is_causal,
        pooling=pooling,
        split_count=split_count,
        sampling=sampling,
        warnings=tuple(warnings),
    )


def _check_tensors(header: GgufHeader) -> None:
    path = header.path
    if len(header.tensors) > _MAX_TENSORS:
        raise ModelFileError(f"{path} names {len(header.tensors)} tensors; the file is broken.")
    names: set[str] = set()
    spans: list[tuple[int, int, str]] = []
    data_bytes = header.file_bytes - header.data_offset
    for tensor in header.tensors:
        what = f"{path}: tensor {tensor.name[:80]!r}"
        if tensor.name in names:
            raise ModelFileError(f"{what} occurs twice; the file is broken.")
        names.add(tensor.name)
        is_sane_shape = 1 <= len(tensor.shape) <= _MAX_DIMS and all(
            size >= 1 for size in tensor.shape
        )
        if not is_sane_shape or _num_elements(tensor.shape) > _MAX_ELEMENTS:
            raise ModelFileError(f"{what} has the impossible shape {tensor.shape}.")
        if tensor.offset < 0 or tensor.nbytes < 0 or tensor.offset % header.alignment:
            raise ModelFileError(f"{what} has an impossible place in the file.")
        end = tensor.offset + tensor.nbytes
        if end > data_bytes:
            missing = header.data_offset + end - header.file_bytes
            raise ModelFileError(
                f"{path} is truncated: tensor {tensor.name[:80]!r} ends {missing} bytes beyond "
                "the end of the file. Fetch the file again."
            )
        spans.append((tensor.offset, end, tensor.name))
    spans.sort()
    for (_, end, name), (start, _, other) in pairwise(spans):
        if start < end:
            raise ModelFileError(
                f"{path}: tensors {name[:80]!r} and {other[:80]!r} overlap; the file is broken."
            )


def _check_splits(header: GgufHeader, others: Sequence[GgufHeader]) -> int:
    path = header.path
    count = header.metadata.get("split.count", 0)
    if not isinstance(count, int) or not 0 <= count <= 65535:
        raise ModelFileError(f"{path}: split.count is not a sensible number.")
    if count <= 1:
        if not header.tensors:
            raise ModelFileError(f"{path} holds no tensors: it is not a model.")
        return 1
    number = header.metadata.get("split.no", 0)
    if number != 0:
        raise ModelFileError(
            f"{path} is part {int(number) + 1} of {count}; name the first part instead."
        )
    named = split_of(path)
    if named is None or named.count != count:
        raise ModelFileError(
            f"{path} says that it is one of {count} parts; its name must then end in "
            f"-00001-of-{count:05d}.gguf, as llama.cpp finds the others by name."
        )
    missing = [part for part in named.all_paths(path) if not os.path.isfile(part)]
    if missing:
        raise ModelFileError(
            f"{path} is one of {count} parts and {len(missing)} are missing, "
            f"first {os.path.basename(missing[0])}. Fetch the model again."
        )
    for place, other in enumerate(others, start=1):
        _check_tensors(other)
        if other.metadata.get("split.count") != count or other.metadata.get("split.no") != place:
            raise ModelFileError(f"{other.path} is not part {place + 1} of {count} of {path}.")
    total = header.metadata.get("split.tensors.count")
    found = sum(len(part.tensors) for part in (header, *others))
    if isinstance(total, int) and len(others) == count - 1 and total != found:
        raise ModelFileError(
            f"{path}: the {count} parts hold {found} tensors where {total} should be. "
            "They are not parts of one model; fetch it again."
        )
    return count


def _check_tokenizer(header: GgufHeader) -> int:
    model = header.metadata.get("tokenizer.ggml.model")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(model, str) or model in ("", "none", "no_vocab"):
        raise ModelFileError(f"{header.path} has no tokenizer, so it cannot be served.")
    if tokens is None:
        raise ModelFileError(f"{header.path} has a tokenizer without tokens; it is broken.")
    num_tokens = tokens if isinstance(tokens, int) else len(tokens)
    if num_tokens < 1:
        raise ModelFileError(f"{header.path} has an empty vocabulary; it is broken.")
    for key in ("bos", "eos", "eot", "padding"):
        token = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        # 2^32 - 1 is how converters write "none".
        if isinstance(token, int) and not 0 <= token < num_tokens and token not in (-1, 0xFFFFFFFF):
            raise ModelFileError(
                f"{header.path}: {key} token {token} is outside the vocabulary of {num_tokens}."
            )
    return num_tokens


def _require_str(header: GgufHeader, key: str) -> str:
    value = header.metadata.get(key)
    if not isinstance(value, str) or not value:
        raise ModelFileError(f"{header.path} lacks the key {key}: it is not a model, or broken.")
    return value


def _require_int(header: GgufHeader, key: str, least: int, most: int) -> int:
    value = header.metadata.get(key)
    if value is None:
        raise ModelFileError(f"{header.path} lacks the key {key}: it is not a model, or broken.")
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ModelFileError(f"{header.path}: {key} is {value!r}, which cannot be right.")
    return value


def _num_elements(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _pooling(value: Any) -> str:
    if isinstance(value, int) and 0 <= value < len(_POOLING_NAMES):
        return _POOLING_NAMES[value]
    return ""


def _sampling(metadata: Mapping[str, Any], warnings: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, (field, kind, least, most) in _SAMPLING.items():
        value = metadata.get(f"general.sampling.{key}")
        if value is None:
            continue
        if isinstance(value, int | float) and least <= value <= most and kind(value) == value:
            found[field] = kind(value)
        else:
            warnings.append(f"general.sampling.{key} is {value!r}, which cannot be meant.")
    return found


def _quant(header: GgufHeader) -> str:
    file_type = header.metadata.get("general.file_type")
    if isinstance(file_type, int) and file_type in _FILE_TYPES:
        return _FILE_TYPES[file_type]
    bytes_by_type: dict[str, int] = {}
    for tensor in header.tensors:
        bytes_by_type[tensor.type] = bytes_by_type.get(tensor.type, 0) + tensor.nbytes
    return max(bytes_by_type, key=bytes_by_type.__getitem__).upper() if bytes_by_type else ""


def _str_or(value: Any, default: str) -> str:
    return value if isinstance(value, str) and value else default


def special_texts(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """(bos, eos) as text, for the chat template; "" where the header names none."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list | tuple):
        return "", ""

    def text(key: str) -> str:
        token = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(token, int) and 0 <= token < len(tokens):
            piece = tokens[token]
            return piece.decode(errors="replace") if isinstance(piece, bytes) else str(piece)
        return ""

    return text("bos"), text("eos")
