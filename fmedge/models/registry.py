"""Names to files: what `--model X` means, without any network.

In this order: `embedded`; an alias; a path; hf:org/repo... among what was pulled; the name of a
stored model.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from fmedge.config import EMBEDDED
from fmedge.errors import ModelFileError, ModelNotFoundError
from fmedge.models.embedded import embedded_path
from fmedge.models.names import (
    HubSpec,
    choose_file,
    parse_hub_spec,
    split_of,
    with_splits,
)
from fmedge.models.stored import StoredModel, list_models


class ModelSource(Struct, frozen=True):
    """A model's files. name: for requests, if nobody gives another; path: the first file;
    paths: all parts in order."""

    name: str
    path: str
    paths: tuple[str, ...]


class Registry:
    """aliases: name to what it stands for. cache_dir None: huggingface_hub's own.
    model_dirs: folders whose *.gguf can be named by their bare file name."""

    def __init__(
        self,
        aliases: Mapping[str, str] | None = None,
        *,
        cache_dir: Path | None = None,
        model_dirs: Sequence[Path] = (),
    ) -> None:
        self._aliases = dict(aliases or {})
        self._cache_dir = cache_dir
        self._model_dirs = tuple(model_dirs)

    def resolve(self, text: str) -> ModelSource:
        """ModelNotFoundError (what to do instead) or ModelFileError (parts missing)."""
        if text == EMBEDDED:
            path = embedded_path()
            return ModelSource(EMBEDDED, path, (path,))
        text = self._aliases.get(text, text)
        if text.startswith("hf:"):
            return self._from_hub(parse_hub_spec(text))
        path = os.path.expanduser(text)
        if os.path.isfile(path):
            return _from_path(path)
        if os.path.isdir(path):
            raise ModelNotFoundError(f"{text} is a folder; name the GGUF file in it.")
        for folder in self._model_dirs:
            for candidate in (folder / text, folder / f"{text}.gguf"):
                if candidate.is_file():
                    return _from_path(str(candidate))
        if text.startswith(("/", "./", "../", "~")):
            raise ModelNotFoundError(f"There is no file {text}.")
        return self._from_name(text)

    def _from_hub(self, spec: HubSpec) -> ModelSource:
        models = [model for model in list_models(self._cache_dir) if model.repo == spec.repo]
        if spec.revision != "main":
            models = [model for model in models if model.revision.startswith(spec.revision)]
        pull = f"Fetch it with: fmedge pull {spec}"
        if not models:
            raise ModelNotFoundError(f"{spec} is not on this machine. {pull}")
        try:
            file = choose_file([model.file for model in models], spec)
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"Of what is on this machine: {error} {pull}") from None
        return _from_stored(next(model for model in models if model.file == file), pull)

    def _from_name(self, text: str) -> ModelSource:
        models = list_models(self._cache_dir)
        fitting = [model for model in models if text in _short_names(model)]
        if len(fitting) == 1:
            return _from_stored(fitting[0], f"Fetch it with: fmedge pull hf:{fitting[0].name}")
        names = [model.name for model in models]
        if fitting:
            listing = ", ".join(model.name for model in fitting)
            raise ModelNotFoundError(f'"{text}" fits several stored models: {listing}.')
        if text.lower().endswith(".gguf"):
            raise ModelNotFoundError(f"There is no file {text}.")
        near = difflib.get_close_matches(text, [*names, *self._aliases, EMBEDDED], n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        raise ModelNotFoundError(
            f'No model is called "{text}".{hint} `fmedge list` shows what is on this machine; '
            "fmedge pull hf:ORG/REPO fetches more."
        )


def _short_names(model: StoredModel) -> set[str]:
    repo = model.repo.rsplit("/", 1)[-1]
    stem = model.file.rsplit("/", 1)[-1].removesuffix(".gguf")
    split = split_of(model.file)
    if split is not None:
        stem = split.stem.rsplit("/", 1)[-1]
    return {
        model.name,
        model.repo,
        repo,
        f"{model.repo}:{model.quant}",
        f"{repo}:{model.quant}",
        stem,
    }


def _from_path(path: str) -> ModelSource:
    path = os.path.abspath(path)
    try:
        path.encode()
    except UnicodeEncodeError:  # it goes to workers, into logs and answers: all are UTF-8
        raise ModelFileError(f"{path}: the name is not UTF-8 text: rename the file") from None
    split = split_of(path)
    paths = with_splits(path)
    if split is not None and split.number != 1:
        raise ModelFileError(
            f"{path} is part {split.number} of {split.count}; name the first part instead: "
            f"{os.path.basename(paths[0])}"
        )
    missing = [part for part in paths if not os.path.isfile(part)]
    if missing:
        raise ModelFileError(
            f"{path} is one of {len(paths)} parts and {len(missing)} are missing, "
            f"first {os.path.basename(missing[0])}."
        )
    stem = split.stem if split is not None else path.removesuffix(".gguf")
    name = os.path.basename(stem)
    return ModelSource(name if name != EMBEDDED else f"./{name}", path, tuple(paths))


def _from_stored(model: StoredModel, pull: str) -> ModelSource:
    if not model.is_complete:
        raise ModelFileError(f"{model.name} is not complete on this machine. {pull}")
    return ModelSource(model.name, model.path, model.paths)
