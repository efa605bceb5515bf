"""The process that lets llama.cpp look at model files, for `sizing.py`: a file that llama.cpp
aborts over ends it alone.

Run as `python -m fmedge.replica.sizing_child FD`. Headers of the files asked for last are kept.
"""

from __future__ import annotations

import os
import sys

import msgspec
from msgspec import Struct

from fmedge._native.sizing import HeaderCopy, PlanningDevice, size_model
from fmedge._native.vocab import Vocab
from fmedge.errors import FmedgeError
from fmedge.replica.errand import answer_questions
from fmedge.types import DeviceMemory, EngineSettings

_MAX_HEADERS = 8


class Layout(Struct, frozen=True):
    """A placement to size: engine's gpu_layers, tensor_split and tensor_overrides are on devices,
    in their order."""

    engine: EngineSettings
    devices: tuple[PlanningDevice, ...] = ()


class SizeModel(Struct, tag="size"):
    """paths: of all parts of the model, the first part first."""

    paths: tuple[str, ...]
    layouts: tuple[Layout, ...]


class CheckVocab(Struct, tag="vocab"):
    path: str


Question = SizeModel | CheckVocab


class Answer(Struct, omit_defaults=True):
    """rows: for each layout. error: why there is nothing else."""

    rows: tuple[tuple[DeviceMemory, ...], ...] = ()
    num_tokens: int = 0
    error: str = ""


class _Headers:
    """Copies of headers by file and change time, the last used ones."""

    def __init__(self) -> None:
        self._copies: dict[tuple[tuple[str, int, int], ...], HeaderCopy] = {}

    def copy_of(self, paths: tuple[str, ...]) -> HeaderCopy:
        key = tuple(_version(path) for path in paths)
        copy = self._copies.pop(key, None) or HeaderCopy(paths)
        self._copies[key] = copy
        if len(self._copies) > _MAX_HEADERS:
            self._copies.pop(next(iter(self._copies))).close()
        return copy


def _version(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return path, 0, 0  # opening it says why
    return path, status.st_mtime_ns, status.st_size


def main() -> None:
    headers = _Headers()

    def answer(line: bytes) -> bytes:
        question = msgspec.json.decode(line, type=Question)
        try:
            if isinstance(question, CheckVocab):
                reply = Answer(num_tokens=Vocab.open(question.path).num_tokens)
            else:
                header = headers.copy_of(question.paths)
                reply = Answer(
                    rows=tuple(
                        size_model(header, layout.engine, layout.devices)
                        for layout in question.layouts
                    )
                )
        except FmedgeError as error:
            reply = Answer(error=str(error))
        return msgspec.json.encode(reply)

    answer_questions(int(sys.argv[1]), answer)


if __name__ == "__main__":
    main()
