"""The model that is part of fmedge.

The rule: `embedded` means the file in the package and nothing else, whatever files, stored models
and aliases there are. A file of that name is said as ./embedded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fmedge.config import EMBEDDED
from fmedge.errors import ModelNotFoundError

if TYPE_CHECKING:
    from fmedge.models.stored import ReadHeader, StoredModel

PATH = Path(__file__).with_name("embedded.gguf")


def embedded_path() -> str:
    """Where it lies; ModelNotFoundError for an installation without it."""
    if not PATH.is_file():
        raise ModelNotFoundError(
            f"the {EMBEDDED} model is missing from this installation ({PATH}): install fmedge "
            "anew, or name a model with --model PATH, --model hf:ORG/REPO, FMEDGE_MODEL or a "
            "[[model]] of the config file (fmedge list shows what is on this machine)"
        )
    return str(PATH)


def as_stored(read_header: ReadHeader) -> StoredModel | None:
    """As one of the models on this machine; None for an installation without it."""
    if not PATH.is_file():
        return None
    from fmedge.models.metadata import check_header
    from fmedge.models.stored import StoredModel

    metadata = check_header(read_header(str(PATH)))
    return StoredModel(
        name=EMBEDDED,
        repo="",
        revision="",
        file=PATH.name,
        path=str(PATH),
        paths=(str(PATH),),
        size_bytes=metadata.file_bytes,
        quant=metadata.quant,
        architecture=metadata.architecture,
        is_built_in=True,
    )


def demonstration(name: str, how: str) -> str:
    """The line that says what answers; `name`: what it is called, `how`: the command that uses a
    real one."""
    return (
        f"fmedge: {name} is a tiny demonstration model. For a real one: {how} hf:ORG/REPO, or the "
        "path of a GGUF file\n"
    )
