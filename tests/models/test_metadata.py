from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fmedge.errors import ModelFileError
from fmedge.models.metadata import check_header, special_texts
from fmedge.types import GgufHeader, GgufTensor

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 7,
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.context_length": 2048,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a"],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS = (
    GgufTensor("token_embd.weight", "q8_0", (64, 3), 0, 204),
    GgufTensor("output_norm.weight", "f32", (64,), 224, 256),
)


def header(path: str = "/models/tiny.gguf", **changes: Any) -> GgufHeader:
    base = GgufHeader(
        path=path,
        version=3,
        alignment=32,
        data_offset=1024,
        file_bytes=1024 + 480,
        metadata=METADATA,
        tensors=TENSORS,
    )
    return replace(base, **changes)


def with_metadata(**changes: Any) -> GgufHeader:
    metadata = {**METADATA, **{key.replace("__", "."): value for key, value in changes.items()}}
    return header(metadata={key: value for key, value in metadata.items() if value is not None})


def test_a_sound_header() -> None:
    metadata = check_header(header())
    assert metadata.architecture == "llama"
    assert metadata.name == "Tiny"
    assert metadata.quant == "Q8_0"
    assert (metadata.ctx_train, metadata.num_layers, metadata.num_embd) == (2048, 2, 64)
    assert metadata.num_vocab == 3
    assert metadata.num_params == 64 * 3 + 64
    assert metadata.file_bytes == 1504
    assert metadata.chat_template == "{{ messages }}"
    assert not metadata.is_embedding
    assert metadata.warnings == ()
    assert special_texts(METADATA) == ("<s>", "</s>")


def test_embedding_models_are_known_by_their_pooling() -> None:
    assert check_header(with_metadata(llama__pooling_type=3)).pooling == "last"
    assert check_header(with_metadata(llama__pooling_type=1)).is_embedding
    assert not check_header(with_metadata(llama__pooling_type=0)).is_embedding
    assert check_header(with_metadata(llama__attention__causal=False)).is_embedding


def test_quant_falls_back_to_the_tensors() -> None:
    assert check_header(with_metadata(general__file_type=None)).quant == "F32"


def test_recommended_sampling() -> None:
    recommended = {"temp": 0.0, "top_k": 20, "top_p": 0.5, "min_p": 0, "penalty_repeat": 1.5,
                   "penalty_last_n": -1, "mirostat": 2}  # fmt: skip
    keys = {f"general__sampling__{key}": value for key, value in recommended.items()}
    metadata = check_header(with_metadata(**keys))
    assert metadata.sampling == {"temperature": 0.0, "top_k": 20, "top_p": 0.5, "min_p": 0.0,
                                 "repeat_penalty": 1.5, "penalty_last_n": -1}  # fmt: skip
    assert metadata.warnings == ()
    assert check_header(header()).sampling == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("temp", -0.1), ("temp", float("nan")), ("temp", "hot"), ("top_k", 1.5), ("top_k", -1),
     ("top_p", float("inf")), ("penalty_repeat", 0.0), ("penalty_last_n", 1 << 40)],
)  # fmt: skip
def test_impossible_sampling_is_passed_over_with_a_warning(key: str, value: Any) -> None:
    metadata = check_header(with_metadata(**{f"general__sampling__{key}": value}))
    assert metadata.sampling == {}
    assert f"general.sampling.{key} is {value!r}" in metadata.warnings[0]


def test_an_unknown_architecture_is_a_warning() -> None:
    changed = {"general.architecture": "new-arch"} | {
        key.replace("llama.", "new-arch."): value
        for key, value in METADATA.items()
        if key.startswith("llama.")
    }
    metadata = check_header(header(metadata={**METADATA, **changed}))
    assert "new-arch" in metadata.warnings[0]


TRUNCATED = replace(TENSORS[1], nbytes=257)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (header(file_bytes=1500), "truncated.*4 bytes beyond"),
        (header(tensors=(TENSORS[0], TRUNCATED)), "truncated"),
        (header(tensors=(TENSORS[0], TENSORS[0])), "twice"),
        (header(tensors=(TENSORS[0], replace(TENSORS[1], offset=192))), "overlap"),
        (header(tensors=(replace(TENSORS[0], shape=(0, 3)),)), "impossible shape"),
        (header(tensors=(replace(TENSORS[0], shape=(-1, 3)),)), "impossible shape"),
        (header(tensors=(replace(TENSORS[0], shape=(1 << 40, 1 << 40)),)), "impossible shape"),
        (header(tensors=(replace(TENSORS[0], shape=(1, 1, 1, 1, 1)),)), "impossible shape"),
        (header(tensors=(replace(TENSORS[0], offset=-32),)), "impossible place"),
        (header(tensors=(replace(TENSORS[0], offset=7),)), "impossible place"),
        (header(tensors=()), "no tensors"),
        (with_metadata(general__architecture=None), "general.architecture"),
        (with_metadata(general__architecture="clip"), "projector"),
        (with_metadata(general__type="adapter"), "adapter"),
        (with_metadata(llama__block_count=None), "llama.block_count"),
        (with_metadata(llama__block_count=10**9), "cannot be right"),
        (with_metadata(llama__embedding_length=0), "cannot be right"),
        (with_metadata(llama__context_length="many"), "cannot be right"),
        (with_metadata(tokenizer__ggml__model=None), "no tokenizer"),
        (with_metadata(tokenizer__ggml__tokens=None), "without tokens"),
        (with_metadata(tokenizer__ggml__tokens=[]), "empty vocabulary"),
        (with_metadata(tokenizer__ggml__eos_token_id=3), "outside the vocabulary"),
        (with_metadata(tokenizer__chat_template=5), "not a string"),
        (with_metadata(split__count=-1), "split.count"),
        (with_metadata(split__count=2, split__no=1), "part 2 of 2"),
        (with_metadata(split__count=2), "-00001-of-00002"),
    ],
)
def test_broken_headers_are_refused(broken: GgufHeader, text: str) -> None:
    with pytest.raises(ModelFileError, match=text):
        check_header(broken)


def test_none_as_token_id_is_fine() -> None:
    assert check_header(with_metadata(tokenizer__ggml__eos_token_id=0xFFFFFFFF))


def test_split_models(tmp_path: Path) -> None:
    paths = [tmp_path / f"m-{n:05d}-of-00002.gguf" for n in (1, 2)]
    paths[0].touch()
    metadata = {**METADATA, "split.count": 2, "split.no": 0, "split.tensors.count": 2}
    first = header(str(paths[0]), metadata=metadata, tensors=TENSORS[:1])
    second = header(str(paths[1]), metadata={"split.count": 2, "split.no": 1}, tensors=TENSORS[1:])
    with pytest.raises(ModelFileError, match="1 are missing"):
        check_header(first)
    paths[1].touch()
    found = check_header(first, split_headers=[second])
    assert (found.split_count, found.num_params) == (2, 64 * 3 + 64)
    with pytest.raises(ModelFileError, match="not part 2"):
        check_header(first, split_headers=[replace(second, metadata={})])
    with pytest.raises(ModelFileError, match="1 tensors where 2"):
        check_header(first, split_headers=[replace(second, tensors=())])
    with pytest.raises(ModelFileError, match="truncated"):
        check_header(first, split_headers=[replace(second, file_bytes=1100)])
