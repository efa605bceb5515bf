"""Models on this machine: what of the hub's cache is a GGUF, and taking it away again.

The cache is huggingface_hub's own, shared with other programs; this module reads its documented
layout (models--ORG--REPO/snapshots/COMMIT/FILE) and leaves changing it to huggingface_hub.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from fmedge.errors import FmedgeError, ModelNotFoundError
from fmedge.models.names import is_model_file, quant_of, split_of, with_splits
from fmedge.types import GgufHeader

ReadHeader = Callable[[str], GgufHeader]


class StoredModel(Struct, frozen=True, kw_only=True):
    """One model of the cache. name: what `--model` and `rm` take. file: within the repo, first
    part of a split. path: of the first part present. size_bytes: of all parts present.
    architecture: "" where the header was not read or is broken. is_built_in: part of fmedge."""

    name: str
    repo: str
    revision: str
    file: str
    path: str
    paths: tuple[str, ...]
    size_bytes: int
    quant: str
    architecture: str = ""
    is_complete: bool = True
    is_built_in: bool = False


def hub_cache_dir() -> Path:
    """Where huggingface_hub keeps its cache (HF_HUB_CACHE, HF_HOME)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def list_models(
    cache_dir: Path | None = None, *, read_header: ReadHeader | None = None
) -> list[StoredModel]:
    """Every GGUF model of the cache, by name; incomplete split models are marked.

    read_header: fills `architecture` in and, where the name says none, `quant`.
    """
    found: list[StoredModel] = []
    for repo_dir in _repo_dirs(cache_dir or hub_cache_dir()):
        repo = "/".join(repo_dir.name.split("--")[1:])
        models = list(_models_of_repo(repo, repo_dir))
        quants = [model.quant for model in models]
        for model in models:
            has_own_quant = model.quant and quants.count(model.quant) == 1
            name = f"{repo}:{model.quant}" if has_own_quant else f"{repo}/{model.file}"
            found.append(_named(model, name, read_header))
    return sorted(found, key=lambda model: model.name)


def remove(name: str, cache_dir: Path | None = None) -> int:
    """Delete a stored model (by its name, with or without hf:). Returns the bytes freed.

    A blob that another revision uses stays. ModelNotFoundError if there is no such model.
    """
    cache = cache_dir or hub_cache_dir()
    wanted = name.removeprefix("hf:")
    chosen = [model for model in list_models(cache) if model.name == wanted]
    if not chosen:
        raise ModelNotFoundError(f'No stored model is called "{name}". See `fmedge list`.')
    from huggingface_hub import scan_cache_dir

    info = scan_cache_dir(cache)
    names = set(with_splits(chosen[0].file))
    files = []
    emptied = []
    for repo in info.repos:
        if repo.repo_type != "model" or repo.repo_id != chosen[0].repo:
            continue
        for revision in repo.revisions:
            own = [
                file
                for file in revision.files
                if file.file_path.relative_to(revision.snapshot_path).as_posix() in names
            ]
            files += own
            if own and len(own) == len(revision.files):
                emptied.append(revision.commit_hash)
    strategy = info.delete_files(*files)
    strategy.execute()
    if emptied:
        scan_cache_dir(cache).delete_revisions(*emptied).execute()
    return int(strategy.expected_freed_size)


def _repo_dirs(cache_dir: Path) -> Iterator[Path]:
    if cache_dir.is_dir():
        for entry in sorted(cache_dir.iterdir()):
            if entry.name.startswith("models--") and (entry / "snapshots").is_dir():
                yield entry


def _models_of_repo(repo: str, repo_dir: Path) -> Iterator[StoredModel]:
    """The newest snapshot's view of each file: main's commit, then others by age."""
    main = repo_dir / "refs" / "main"
    commit = main.read_text().strip() if main.is_file() else ""
    snapshots = [path for path in (repo_dir / "snapshots").iterdir() if path.is_dir()]
    snapshots.sort(key=lambda path: (path.name != commit, -path.stat().st_mtime))
    seen: set[str] = set()
    for snapshot in snapshots:
        files = {
            Path(folder, name).relative_to(snapshot).as_posix()
            for folder, _, names in os.walk(snapshot)
            for name in names
        }
        firsts = {with_splits(file)[0] for file in files if is_model_file(file)}
        for file in sorted(firsts - seen):
            seen.add(file)
            yield _stored(repo, snapshot, file)


def _stored(repo: str, snapshot: Path, file: str) -> StoredModel:
    paths = [str(snapshot / part) for part in with_splits(file)]
    present = [path for path in paths if os.path.isfile(path)]  # a dangling link is absent
    return StoredModel(
        name="",
        repo=repo,
        revision=snapshot.name,
        file=file,
        path=present[0] if present else paths[0],
        paths=tuple(present),
        size_bytes=sum(os.path.getsize(path) for path in present),
        quant=quant_of(file),
        is_complete=len(present) == len(paths),
    )


def _named(model: StoredModel, name: str, read_header: ReadHeader | None) -> StoredModel:
    from msgspec.structs import replace

    is_first_there = bool(model.paths) and (
        (split := split_of(model.path)) is None or split.number == 1
    )
    if read_header is None or not is_first_there:
        return replace(model, name=name)
    try:
        metadata = read_header(model.path).metadata
    except FmedgeError:
        return replace(model, name=name, is_complete=False)
    return replace(model, name=name, architecture=str(metadata.get("general.architecture", "")))
