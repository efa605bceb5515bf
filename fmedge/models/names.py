"""How model files and their splits are named; pure string work, no disk.

A split model's files end in -00001-of-00003.gguf; the first one stands for the model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from msgspec import Struct

from fmedge.errors import ModelNotFoundError

_SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:IQ\d_[A-Z0-9]+|T?Q\d+(?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?|NVFP4"
    r"|BF16|F16|F32))(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_REPO = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
PREFERRED_QUANTS = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "F16", "BF16")
"""What `hf:org/repo` without a quantisation means: the first of these that the repo has."""


class Split(Struct, frozen=True):
    """Place of one file among the files of a split model; number counts from 1."""

    stem: str
    number: int
    count: int

    def all_paths(self, path: str) -> list[str]:
        """Paths of all the files, beside `path`."""
        folder = os.path.dirname(path)
        stem = os.path.basename(self.stem)
        return [
            os.path.join(folder, f"{stem}-{number:05d}-of-{self.count:05d}.gguf")
            for number in range(1, self.count + 1)
        ]


class HubSpec(Struct, frozen=True):
    """`hf:org/repo[@revision][:QUANT|/file.gguf]`: at most one of quant and file is set."""

    repo: str
    quant: str = ""
    file: str = ""
    revision: str = "main"

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        tail = f":{self.quant}" if self.quant else f"/{self.file}" if self.file else ""
        return f"hf:{self.repo}{revision}{tail}"


def parse_hub_spec(text: str) -> HubSpec:
    """ModelNotFoundError saying how to write it, when `text` is no such name."""
    body = text.removeprefix("hf:").removeprefix("//")
    head, colon, quant = body.partition(":")
    parts = head.split("/", 2)
    repo, at, revision = "/".join(parts[:2]).partition("@")
    file = parts[2] if len(parts) > 2 else ""
    is_sound = (
        _REPO.fullmatch(repo)
        and not (colon and not quant)
        and not (quant and file)
        and not (at and not revision)
        and ".." not in file.split("/")
        and (not file or file.lower().endswith(".gguf"))
    )
    if not is_sound:
        raise ModelNotFoundError(
            f'"{text}" is not a model on the hub. Write hf:org/repo, hf:org/repo:Q4_K_M '
            "or hf:org/repo/file.gguf."
        )
    return HubSpec(repo=repo, quant=quant, file=file, revision=revision or "main")


def split_of(path: str) -> Split | None:
    """Which part of a split model the file is, by its name; None for a whole model."""
    match = _SPLIT.fullmatch(path)
    if match is None:
        return None
    number, count = int(match["number"]), int(match["count"])
    return Split(match["stem"], number, count) if 1 <= number <= count else None


def quant_of(file: str) -> str:
    """The quantisation that a file's name speaks of, upper case; "" if none."""
    found = _QUANT.findall(os.path.basename(file).removesuffix(".gguf"))
    return str(found[-1]).upper() if found else ""


def is_model_file(file: str) -> bool:
    """True for GGUFs that are models by name (projectors and importance matrices are not)."""
    name = os.path.basename(file).lower()
    return (
        name.endswith(".gguf")
        and not name.startswith(("mmproj", "imatrix"))
        and "mmproj-" not in name
        and "-imatrix" not in name
    )


def choose_file(files: Iterable[str], spec: HubSpec) -> str:
    """The file of a repo (first part of a split) that `spec` means.

    ModelNotFoundError naming what there is, when nothing or more than one file fits.
    """
    models = sorted(
        file
        for file in files
        if is_model_file(file) and ((split := split_of(file)) is None or split.number == 1)
    )
    if spec.file:
        if spec.file in models:
            return spec.file
        raise ModelNotFoundError(f"{spec.repo} has no file {spec.file}. {_listing(models)}")
    if not models:
        raise ModelNotFoundError(f"{spec.repo} holds no GGUF model file.")
    if spec.quant:
        wanted = spec.quant.upper()
        fitting = [file for file in models if quant_of(file) == wanted]
        if not fitting:
            fitting = [file for file in models if quant_of(file).removeprefix("UD-") == wanted]
        if not fitting:
            raise ModelNotFoundError(
                f"{spec.repo} has no {spec.quant} quantisation. {_listing(models)}"
            )
        return _only(fitting, spec)
    if len(models) == 1:
        return models[0]
    for quant in PREFERRED_QUANTS:
        fitting = [file for file in models if quant_of(file) == quant]
        if fitting:
            return _only(fitting, spec)
    raise ModelNotFoundError(f"{spec.repo} holds several models. {_listing(models)}")


def with_splits(file: str) -> list[str]:
    """The file alone, or all the files of the split model it begins."""
    split = split_of(file)
    return [file] if split is None else split.all_paths(file)


def _only(files: list[str], spec: HubSpec) -> str:
    if len(files) > 1:
        raise ModelNotFoundError(f"{spec} fits several files. {_listing(files)}")
    return files[0]


def _listing(files: list[str]) -> str:
    if not files:
        return "It holds no GGUF model file."
    shown = ", ".join(files[:12])
    return f"Name one of: {shown}" + (", ..." if len(files) > 12 else ".")
