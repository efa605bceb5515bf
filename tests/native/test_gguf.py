"""GGUF headers: what gguf's own reader says, and an error for whatever else a file can be."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge._native.gguf import read_header
from fmedge.errors import ModelFileError
from fmedge.types import GgufHeader
from tests import synthetic


def header_bytes(path: Path) -> bytes:
    return path.read_bytes()[: read_header(path).data_offset]


def test_tensors_are_those_that_the_reference_reader_finds(tiny_path: Path) -> None:
    header = read_header(tiny_path)
    reference = gguf.GGUFReader(tiny_path)
    assert header.file_bytes == tiny_path.stat().st_size
    assert header.data_offset == reference.data_offset
    assert [tensor.name for tensor in header.tensors] == [t.name for t in reference.tensors]
    for ours, theirs in zip(header.tensors, reference.tensors, strict=True):
        assert ours.shape == tuple(int(size) for size in theirs.shape)
        assert ours.nbytes == theirs.n_bytes
        assert header.data_offset + ours.offset == theirs.data_offset
        assert ours.type == theirs.tensor_type.name.lower()


def test_metadata_is_what_the_reference_reader_finds(tiny_path: Path) -> None:
    metadata = read_header(tiny_path).metadata
    reference = gguf.GGUFReader(tiny_path)
    names = [name for name in reference.fields if not name.startswith("GGUF.")]
    assert list(metadata) == names
    for name in names:
        assert metadata[name] == reference.fields[name].contents(), name


def test_every_type_of_value_is_read(tmp_path: Path) -> None:
    path = tmp_path / "values.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kinds = gguf.GGUFValueType
    expected = {
        "u8": (255, kinds.UINT8),
        "i8": (-128, kinds.INT8),
        "u16": (65535, kinds.UINT16),
        "i16": (-32768, kinds.INT16),
        "u32": (2**32 - 1, kinds.UINT32),
        "i32": (-(2**31), kinds.INT32),
        "u64": (2**64 - 1, kinds.UINT64),
        "i64": (-(2**63), kinds.INT64),
        "f32": (1.5, kinds.FLOAT32),
        "f64": (1e300, kinds.FLOAT64),
        "yes": (True, kinds.BOOL),
        "no": (False, kinds.BOOL),
        "text": ("grüße 你好", kinds.STRING),
        "empty": ("", kinds.STRING),
    }
    for name, (value, kind) in expected.items():
        writer.add_key_value(name, value, kind)
    arrays = {"ints": [1, -2, 3], "floats": [0.5, -1.0], "texts": ["a", "", "grüße"]}
    arrays["flags"] = [True, False]
    for name, values in arrays.items():
        writer.add_array(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    metadata = read_header(path).metadata
    for name, (value, _) in expected.items():
        assert metadata[name] == value
        assert type(metadata[name]) is type(value)
    for name, values in arrays.items():
        assert metadata[name] == values


def test_a_sparse_file_of_a_large_model_is_read_whole(tmp_path: Path) -> None:
    spec = synthetic.ModelSpec(
        n_embd=4096, n_layers=32, n_ff=11008, n_heads=32, n_kv_heads=8, quant="q8_0"
    )
    path = synthetic.write_sparse(tmp_path / "large.gguf", spec)
    header = read_header(path)
    assert header.file_bytes > 5 << 30
    assert sum(tensor.nbytes for tensor in header.tensors) <= header.file_bytes


def test_every_truncation_of_the_header_is_an_error(tiny_path: Path, tmp_path: Path) -> None:
    data = header_bytes(tiny_path)
    path = tmp_path / "cut.gguf"
    for length in {*range(200), *range(200, len(data), 97), len(data) - 1, len(data)}:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r"cut\.gguf: "):
            read_header(path)


def test_missing_tensor_data_is_an_error_that_says_how_much(
    tiny_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.gguf"
    data = tiny_path.read_bytes()
    path.write_bytes(data[:-1000])
    with pytest.raises(ModelFileError, match=f"truncated GGUF: the file has {len(data) - 1000} "):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "only 0 bytes"),
        (b"GGUF", "only 4 bytes"),
        (b"<!DOCTYPE html>" + b" " * 1000, "does not begin with the letters GGUF"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 0), "claims 9223372036854775808 tensors"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**40), "1099511627776 keys"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 5, 5), "failed to read key-value pairs"),
        (struct.pack("<4sIQQ", b"GGUF", 99, 0, 0), "version 99"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "broken"),
    ],
)
def test_what_is_no_gguf_is_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        read_header(path)


def keyed(kind: int, value: bytes, *, tensors: int = 0) -> bytes:
    key = b"general.thing"
    head = struct.pack("<4sIQQ", b"GGUF", 3, tensors, 1)
    return head + struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    "value",
    [
        struct.pack("<IQ", 8, 2**60),  # strings without end
        struct.pack("<IQ", 0, 2**30),  # more bytes than the header may have
        struct.pack("<IQ", 8, 15_000_000),  # more strings than a tokenizer can have
        struct.pack("<IQ", 6, 30_000_000),
        struct.pack("<IQ", 0, 9_000_000),  # fits the header, but no model has so many
        struct.pack("<IQ", 9, 10),  # an array of arrays
        struct.pack("<IQ", 77, 10),
    ],
)
def test_absurd_arrays_in_a_file_of_holes_are_an_error(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "holes.gguf"
    path.write_bytes(keyed(9, value))
    os.truncate(path, 1 << 40)
    with pytest.raises(ModelFileError, match="broken"):
        read_header(path)


def test_an_absurd_string_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "string.gguf"
    for length in (2**64 - 1, 2**62, 1 << 30):
        path.write_bytes(keyed(8, struct.pack("<Q", length)))
        os.truncate(path, 1 << 40)
        with pytest.raises(ModelFileError, match="broken"):
            read_header(path)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((2**62, 4), 0),
        ((2**63, 1), 0),
        ((33, 1), 8),  # q8_0 comes in blocks of 32
        ((32, 1), 4),  # a type that ggml has removed
        ((32, 1), 200),
        ((32, 1), 2**31),
    ],
)
def test_absurd_tensors_are_an_error(tmp_path: Path, shape: tuple[int, ...], kind: int) -> None:
    path = tmp_path / "tensor.gguf"
    name = b"blk.0.weight"
    content = keyed(4, struct.pack("<I", 7), tensors=1)
    content += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
    content += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, 0)
    path.write_bytes(content + bytes(4096))
    with pytest.raises(ModelFileError, match="GGUF"):
        read_header(path)


@given(
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_flipped_bytes_give_a_header_or_an_error(
    tiny_path: Path, tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]]
) -> None:
    original = np.fromfile(tiny_path, dtype=np.uint8)
    num_header_bytes = read_header(tiny_path).data_offset
    for where, value in flips:
        original[int(where * num_header_bytes)] = value
    path = tmp_path_factory.getbasetemp() / "flipped.gguf"
    original.tofile(path)
    with contextlib.suppress(ModelFileError):
        assert isinstance(read_header(path), GgufHeader)


def test_what_is_no_regular_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, words in (("none", "No such file"), ("", "regular"), ("fifo", "regular")):
        with pytest.raises(ModelFileError, match=words):
            read_header(tmp_path / name)
    with pytest.raises(ModelFileError, match="not a file name"):
        read_header("a\0b")
