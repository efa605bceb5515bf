"""The configured models: here, whole, and room for those that are not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fmedge.cli.checks.files import check_space, existing, writing_problem
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.cli.checks.native import Build
from fmedge.cli.table import size
from fmedge.config import Config, names_of
from fmedge.errors import FmedgeError, ModelFileError, ModelNotFoundError
from fmedge.models.registry import ModelSource, Registry

_LOW_BYTES = 5 << 30
"""Few models are smaller."""


def named_files(config: Config) -> list[str]:
    """Whatever the configuration loads models from."""
    served = {name for model in config.models for name in names_of(model)}
    files = [file for model in config.models for file in (model.model, *model.quantisations)]
    files += [r.file for r in config.replicas if r.model in served or not config.is_narrowed]
    return [file for file in dict.fromkeys(files) if file]


def largest_bytes(config: Config) -> int:
    """Of the configured models' files that are here."""
    registry = Registry()
    sizes = [0]
    for file in named_files(config):
        try:
            sizes.append(sum(os.path.getsize(path) for path in registry.resolve(file).paths))
        except (FmedgeError, OSError):
            continue
    return max(sizes)


def check_models(config: Config, build: Build) -> Iterator[Finding]:
    registry = Registry()
    missing = 0
    for file in named_files(config):
        try:
            source = registry.resolve(file)
        except (ModelNotFoundError, ModelFileError) as failure:
            if file.startswith("hf:"):
                missing += 1
                yield warning("model", f"{file} is not here, or not all of it: a start fetches it",
                              f"fmedge pull {file}")  # fmt: skip
            else:
                yield error("model", str(failure), "name another file; fmedge list shows models")
        else:
            yield _check_source(file, source, build)
    for model in config.models:
        template = model.chat_template_file
        if template and not os.access(template, os.R_OK):
            yield error("model", f"{template}: the chat template cannot be read",
                        "correct chat_template_file, or the file's owner")  # fmt: skip
    yield from _check_cache(missing)


def _check_source(file: str, source: ModelSource, build: Build) -> Finding:
    for path in source.paths:
        if not os.access(path, os.R_OK):
            return error("model", f"{path} cannot be read by this user", f"chmod a+r {path}")
    num_bytes = sum(os.path.getsize(path) for path in source.paths)
    if build.problem:
        return ok("model", f"{file}: {size(num_bytes)}, not looked into (see llama.cpp)")
    from fmedge._native.gguf import read_header
    from fmedge.models.metadata import check_header

    again = f"fmedge pull {file}" if file.startswith("hf:") else "fetch the file again"
    try:
        first, *others = [read_header(path) for path in source.paths]
        metadata = check_header(first, split_headers=others)
    except ModelFileError as failure:
        return error("model", str(failure), again)
    text = f"{file}: {metadata.architecture} {metadata.quant}, {size(num_bytes)}"
    if metadata.warnings:
        return warning(
            "model", f"{text}. {' '.join(metadata.warnings)}", "see fmedge plan --explain"
        )
    return ok("model", f"{text}, whole by its header")


def _check_cache(missing: int) -> Iterator[Finding]:
    """missing: models that are still to be fetched."""
    from fmedge.models.stored import hub_cache_dir

    folder = hub_cache_dir()
    problem = writing_problem(folder)
    if problem and missing:
        yield error("model cache", f"{folder}: {problem}, and {missing} model(s) are to be fetched",
                    "set HF_HOME to a folder that this user may write to")  # fmt: skip
    elif problem:
        yield ok("model cache", f"{folder}: {problem}; nothing is to be fetched")
    else:
        yield ok("model cache", str(folder))
        yield from check_space("model cache", existing(folder), _LOW_BYTES if missing else 0)
    parts = [file.stat().st_size for file in _unfinished(folder)]
    if parts:
        yield warning(
            "model cache", f"{len(parts)} download(s) broke off, {size(sum(parts))}",
            "fmedge pull the model again, which goes on, or remove blobs/*.incomplete below it",
        )  # fmt: skip


def _unfinished(folder: Path) -> Iterator[Path]:
    return folder.glob("models--*/blobs/*.incomplete")
