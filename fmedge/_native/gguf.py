"""A GGUF's header: metadata and tensor list, read by ggml itself, without weights.

The rule: a GGUF is untrusted; whatever is wrong with it ends in a ModelFileError.
"""

from __future__ import annotations

import os
import struct
from typing import Any

from fmedge._native.binding import check, ffi, lib
from fmedge.errors import ModelFileError
from fmedge.types import GgufHeader, GgufTensor

_STRING = 8
# gguf_type -> C type of its elements; bool is stored as int8.
_ELEMENTS = {
    0: "uint8_t",
    1: "int8_t",
    2: "uint16_t",
    3: "int16_t",
    4: "uint32_t",
    5: "int32_t",
    6: "float",
    7: "int8_t",
    10: "uint64_t",
    11: "int64_t",
    12: "double",
}
_BOOL = 7


def read_header(path: str | os.PathLike[str]) -> GgufHeader:
    """Reads a GGUF's header. ModelFileError if the file is missing, no GGUF, truncated (also
    where tensor data is missing), or hostile."""
    name = os.fspath(path)
    if "\0" in name:
        raise ModelFileError(f"{name!r} is not a file name")
    gguf_out = ffi.new("fm_gguf **")
    check(lib.fm_gguf_open(os.fsencode(name), gguf_out))
    gguf = ffi.gc(gguf_out[0], lib.fm_gguf_free)
    info = ffi.new("fm_gguf_info *")
    lib.fm_gguf_get_info(gguf, info)
    try:
        return GgufHeader(
            path=name,
            version=info.version,
            alignment=info.alignment,
            data_offset=info.data_offset,
            file_bytes=info.file_bytes,
            metadata=_metadata(gguf, info.num_keys),
            tensors=_tensors(gguf, info.num_tensors),
        )
    finally:
        ffi.release(gguf)


def _metadata(gguf: Any, num_keys: int) -> dict[str, Any]:
    key = ffi.new("fm_gguf_key *")
    metadata = {}
    for index in range(num_keys):
        check(lib.fm_gguf_get_key(gguf, index, key))
        metadata[_text(key.name)] = _value(gguf, index, key)
    return metadata


def _value(gguf: Any, index: int, key: Any) -> Any:
    if key.type == _STRING:
        return _strings(gguf, index, key.num_elements) if key.is_array else _text(key.string)
    if key.num_elements == 0:
        return []
    ctype = _ELEMENTS[key.type]
    values: list[Any] = ffi.unpack(ffi.cast(f"{ctype} *", key.data), key.num_elements)
    if key.type == _BOOL:
        values = [value != 0 for value in values]
    return values if key.is_array else values[0]


def _strings(gguf: Any, index: int, num_strings: int) -> list[str]:
    num_bytes = lib.fm_gguf_get_strings(gguf, index, ffi.NULL, ffi.NULL)
    lengths = bytearray(4 * num_strings)
    text = bytearray(num_bytes)
    lib.fm_gguf_get_strings(
        gguf, index, ffi.from_buffer("uint32_t[]", lengths), ffi.from_buffer("char[]", text)
    )
    strings = []
    start = 0
    for (length,) in struct.iter_unpack("=I", lengths):
        strings.append(text[start : start + length].decode("utf-8", "replace"))
        start += length
    return strings


def _tensors(gguf: Any, num_tensors: int) -> tuple[GgufTensor, ...]:
    raw = ffi.new("fm_gguf_tensor *")
    tensors = []
    for index in range(num_tensors):
        check(lib.fm_gguf_get_tensor(gguf, index, raw))
        tensors.append(
            GgufTensor(
                name=_text(raw.name),
                type=_text(raw.type),
                shape=tuple(raw.shape[0 : raw.num_dims]),
                offset=raw.offset,
                nbytes=raw.num_bytes,
            )
        )
    return tuple(tensors)


def _text(raw: Any) -> str:
    return str(ffi.string(raw).decode("utf-8", "replace"))
