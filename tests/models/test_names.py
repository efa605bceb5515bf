from __future__ import annotations

import pytest

from fmedge.errors import ModelNotFoundError
from fmedge.models.names import (
    HubSpec,
    choose_file,
    is_model_file,
    parse_hub_spec,
    quant_of,
    split_of,
    with_splits,
)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("hf:org/repo", HubSpec("org/repo")),
        ("hf:org/repo:Q4_K_M", HubSpec("org/repo", quant="Q4_K_M")),
        ("hf:org/repo/sub/file.gguf", HubSpec("org/repo", file="sub/file.gguf")),
        ("hf:org/repo@v1:F16", HubSpec("org/repo", quant="F16", revision="v1")),
    ],
)
def test_specs(text: str, spec: HubSpec) -> None:
    assert parse_hub_spec(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:repo", "hf:org/repo:", "hf:org/", "hf:../x", "hf:org/repo/../../x.gguf",
     "hf:org/repo/model.bin", "hf:org/repo@", "hf:a b/c", "hf:org/repo/x.gguf:Q4_0"],
)  # fmt: skip
def test_what_is_no_spec(text: str) -> None:
    with pytest.raises(ModelNotFoundError, match="hf:org/repo"):
        parse_hub_spec(text)


@pytest.mark.parametrize(
    ("file", "quant"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q8_0.gguf", "Q8_0"),
        ("x-IQ2_XXS.gguf", "IQ2_XXS"),
        ("x-UD-Q2_K_XL-00001-of-00003.gguf", "UD-Q2_K_XL"),
        ("x-bf16.gguf", "BF16"),
        ("x-MXFP4.gguf", "MXFP4"),
        ("x-f16-Q6_K.gguf", "Q6_K"),
        ("plain.gguf", ""),
    ],
)
def test_quants(file: str, quant: str) -> None:
    assert quant_of(file) == quant


FILES = ["a-Q4_K_M.gguf", "a-Q8_0.gguf", "mmproj-a-F16.gguf", "README.md",
         "big/a-F16-00001-of-00002.gguf", "big/a-F16-00002-of-00002.gguf"]  # fmt: skip


def test_choice() -> None:
    assert choose_file(FILES, HubSpec("o/r")) == "a-Q4_K_M.gguf"
    assert choose_file(FILES, HubSpec("o/r", quant="q8_0")) == "a-Q8_0.gguf"
    assert choose_file(FILES, HubSpec("o/r", quant="F16")) == "big/a-F16-00001-of-00002.gguf"
    assert choose_file(["x-UD-Q4_K_XL.gguf", "b.gguf"], HubSpec("o/r", quant="Q4_K_XL"))
    assert choose_file(["only.gguf"], HubSpec("o/r")) == "only.gguf"
    with pytest.raises(ModelNotFoundError, match="several"):
        choose_file(["x.gguf", "y.gguf"], HubSpec("o/r"))
    with pytest.raises(ModelNotFoundError, match="fits several"):
        choose_file(["x-Q8_0.gguf", "y-Q8_0.gguf"], HubSpec("o/r", quant="Q8_0"))
    with pytest.raises(ModelNotFoundError, match="no GGUF"):
        choose_file(["model.safetensors"], HubSpec("o/r"))


def test_splits() -> None:
    split = split_of("/d/a-00002-of-00003.gguf")
    assert split is not None
    assert (split.number, split.count) == (2, 3)
    assert split_of("a-00004-of-00003.gguf") is None
    assert with_splits("d/a-00001-of-00002.gguf") == [
        "d/a-00001-of-00002.gguf",
        "d/a-00002-of-00002.gguf",
    ]
    assert with_splits("a.gguf") == ["a.gguf"]
    assert not is_model_file("mmproj-model.gguf")
