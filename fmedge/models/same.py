"""Whether two files hold one model, so that requests may go to either: the front tokenises with one
file's vocabulary whatever replica answers, and two architectures would give two answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fmedge.errors import ModelFileError
from fmedge.types import GgufHeader

_NONE = (None, -1, 0xFFFFFFFF)  # how converters write that there is no such token
# What ends a generation and what begins it: llama.cpp finds the others by their text.
_SPECIAL = ("bos", "eos")
_MAY_BE_UNSAID = ("eot", "eom", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")


def check_same_model(header: GgufHeader, other: GgufHeader) -> None:
    """ModelFileError when `other` is not a quantisation of the model in `header`, naming the first
    thing in which they differ. Both headers are sound (check_header)."""
    architecture = header.metadata.get("general.architecture")
    for key, what in (
        ("general.architecture", "architecture"),
        (f"{architecture}.block_count", "number of layers"),
        (f"{architecture}.embedding_length", "embedding length"),
        (f"{architecture}.attention.head_count", "number of attention heads"),
        (f"{architecture}.expert_count", "number of experts"),
    ):
        ours, theirs = header.metadata.get(key), other.metadata.get(key)
        if ours != theirs:
            raise ModelFileError(
                f"{other.path} is another model than {header.path}: its {what} is {theirs}, not "
                f"{ours}. Replicas of one model hold the same model, perhaps of another "
                "quantisation."
            )
    difference = _vocabulary_difference(header, other)
    if difference:
        raise ModelFileError(
            f"{other.path} has another vocabulary than {header.path}: {difference}. Replicas of "
            "one model need the same; convert both files from one source."
        )


def _vocabulary_difference(header: GgufHeader, other: GgufHeader) -> str:
    """The first difference that changes what a token means or where a generation ends; "" none."""

    def both(key: str) -> tuple[Any, Any]:
        name = f"tokenizer.ggml.{key}"
        return header.metadata.get(name), other.metadata.get(name)

    ours, theirs = both("model")
    if ours != theirs:
        return f"its tokenizer is {theirs!r}, not {ours!r}"
    ours, theirs = both("tokens")
    if ours != theirs:
        return _list_difference(ours, theirs, "token")
    ours, theirs = both("token_type")
    if ours is not None and theirs is not None and ours != theirs:
        return _list_difference(ours, theirs, "the type of token")
    for key in (*_SPECIAL, *_MAY_BE_UNSAID):
        ours, theirs = (None if v in _NONE else v for v in both(f"{key}_token_id"))
        if ours != theirs and (key in _SPECIAL or None not in (ours, theirs)):
            return f"its {key} token is {_said(theirs)}, not {_said(ours)}"
    return ""


def _list_difference(ours: Sequence[Any], theirs: Sequence[Any], what: str) -> str:
    if not isinstance(ours, list | tuple) or not isinstance(theirs, list | tuple):
        return f"its list of tokens is {type(theirs).__name__}, not {type(ours).__name__}"
    if len(ours) != len(theirs):
        return f"it has {len(theirs)} tokens, not {len(ours)}"
    index = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
    return f"{what} {index} is {_short(theirs[index])}, not {_short(ours[index])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _said(token: int | None) -> str:
    return "not set" if token is None else str(token)
