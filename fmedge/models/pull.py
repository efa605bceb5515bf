"""Fetching models from the hub into huggingface_hub's cache: whole and verified, or not there.

Bytes go to blobs/<etag>.incomplete, are resumed from there by the next pull, and get the name
under which anything could mistake them for a model only after size and checksum were right.
huggingface_hub does the metadata, the transfer and the linking; what it lacks is added here: it
neither resumes a plain download of an earlier process nor compares its checksum.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from fmedge.errors import DownloadError, FmedgeError, ModelNotFoundError
from fmedge.models.names import HubSpec, choose_file, parse_hub_spec, with_splits
from fmedge.models.registry import ModelSource, Registry
from fmedge.models.stored import hub_cache_dir

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_ETAG = re.compile(r"[A-Za-z0-9._\-]{1,200}")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HASH_BYTES = 4 << 20
_API_TIMEOUT_S = 30.0


class PullProgress(Struct, frozen=True):
    """Where a pull stands: `file` being fetched (or verified), bytes over all files."""

    file: str
    done_bytes: int
    total_bytes: int
    is_verifying: bool = False


OnProgress = Callable[[PullProgress], None]


class HubSettings(Struct, frozen=True, kw_only=True):
    """Where and how to fetch. None (or "") leaves it to huggingface_hub's own environment:
    HF_ENDPOINT, HF_TOKEN, HF_HUB_CACHE or HF_HOME, HF_HUB_OFFLINE."""

    endpoint: str | None = None
    token: str | None = None
    cache_dir: Path | None = None
    is_offline: bool | None = None


class _File(Struct, frozen=True):
    name: str
    etag: str
    size: int


def pull(
    text: str,
    on_progress: OnProgress | None = None,
    settings: HubSettings | None = None,
) -> ModelSource:
    """Fetch `hf:org/repo[:QUANT|/file.gguf]` with all its parts; what is there is not fetched.

    DownloadError for whatever goes wrong on the way, ModelNotFoundError when the repo or file
    does not exist. on_progress may raise to cancel: what it raises comes out of here.
    """
    settings = settings or HubSettings()
    spec = parse_hub_spec(text)
    cache_dir = settings.cache_dir or hub_cache_dir()
    from huggingface_hub import constants

    is_offline = settings.is_offline
    if is_offline if is_offline is not None else constants.HF_HUB_OFFLINE:
        return _stored(spec, cache_dir)
    with _errors_of(spec):
        info = _model_info(spec, settings)
        names = [sibling.rfilename for sibling in info.siblings or ()]
        wanted = with_splits(choose_file(names, spec))
        missing = sorted(set(wanted) - set(names))
        if missing:
            raise DownloadError(f"{spec.repo} lacks {missing[0]}, a part of the model.")
        commit = str(info.sha)
        files = [_file_of(spec, name, commit, settings) for name in wanted]
        transfer = _Transfer(spec, commit, settings, cache_dir, files, on_progress)
        paths = [transfer.fetch(file) for file in files]
    name = str(spec).removeprefix("hf:")
    return ModelSource(name, paths[0], tuple(paths))


class _Transfer:
    """The files of one pull, one after another."""

    def __init__(
        self,
        spec: HubSpec,
        commit: str,
        settings: HubSettings,
        cache_dir: Path,
        files: list[_File],
        on_progress: OnProgress | None,
    ) -> None:
        self._spec = spec
        self._commit = commit
        self._settings = settings
        self._cache_dir = cache_dir
        self._total_bytes = sum(file.size for file in files)
        self._before_bytes = 0
        self._on_progress = on_progress

    def fetch(self, file: _File) -> str:
        blob = self._blob_path(file)
        if blob.is_file() and blob.stat().st_size != file.size:
            blob.unlink()  # nothing of ours, but no model either
        if not blob.is_file():
            blob.parent.mkdir(parents=True, exist_ok=True)
            with _locked(blob.with_name(blob.name + ".incomplete")) as partial:
                self._download(file, partial)
                self._verify(file, partial)
                partial.flush()
                os.fsync(partial.fileno())
                os.replace(partial.name, blob)
        self._before_bytes += file.size
        self._report(file, 0)
        return self._link(file)

    def _download(self, file: _File, partial: BinaryIO) -> None:
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        have = partial.seek(0, os.SEEK_END)
        if have > file.size:
            partial.truncate(0)
            have = partial.seek(0)
        self._check_room(file, have)
        if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise DownloadError(
                f"{file.name} has {_gb(file.size)}, more than the hub serves in one file over "
                "HTTP. Choose a quantisation that is split into parts."
            )
        url = hf_hub_url(
            self._spec.repo,
            file.name,
            revision=self._commit,
            endpoint=self._settings.endpoint,
        )
        headers = {
            **build_hf_headers(token=self._settings.token, library_name="fmedge"),
            "Accept-Encoding": "identity",
        }
        self._report(file, have)
        http_get(
            url,
            partial,
            resume_size=have,
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.name,
            tqdm_class=_bar_class(lambda done: self._report(file, done)),
        )

    def _verify(self, file: _File, partial: BinaryIO) -> None:
        """The etag of an LFS file is its SHA-256, that of a small one git's blob hash."""
        if len(file.etag) == 64:
            digest = hashlib.sha256()
        elif len(file.etag) == 40:
            digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        else:
            return
        partial.seek(0)
        while data := partial.read(_HASH_BYTES):
            digest.update(data)
            self._report(file, partial.tell(), is_verifying=True)
        if digest.hexdigest() != file.etag:
            os.unlink(partial.name)
            raise DownloadError(
                f"{file.name} arrived with a wrong checksum and was thrown away. Pull it again; "
                "if this stays so, the hub (or a proxy before it) serves a damaged file."
            )

    def _link(self, file: _File) -> str:
        """Have huggingface_hub make the snapshot's entry for the blob."""
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(
            self._spec.repo,
            file.name,
            revision=self._spec.revision,
            cache_dir=self._cache_dir,
            endpoint=self._settings.endpoint,
            token=self._settings.token,
            library_name="fmedge",
        )
        if self._commit not in Path(path).parts:
            raise DownloadError(f"{self._spec.repo} changed while it was fetched; pull it again.")
        return path

    def _check_room(self, file: _File, have: int) -> None:
        free = shutil.disk_usage(self._blob_path(file).parent).free
        if file.size - have > free:
            raise DownloadError(
                f"{file.name} needs {_gb(file.size - have)} more, but {self._cache_dir} has only "
                f"{_gb(free)} free. Make room, or set HF_HOME to a larger disk."
            )

    def _blob_path(self, file: _File) -> Path:
        folder = "models--" + self._spec.repo.replace("/", "--")
        return self._cache_dir / folder / "blobs" / file.etag

    def _report(self, file: _File, done: int, *, is_verifying: bool = False) -> None:
        if self._on_progress is not None:
            done_bytes = min(self._before_bytes + done, self._total_bytes)
            self._on_progress(PullProgress(file.name, done_bytes, self._total_bytes, is_verifying))


def _stored(spec: HubSpec, cache_dir: Path) -> ModelSource:
    try:
        return Registry(cache_dir=cache_dir).resolve(str(spec))
    except FmedgeError as error:
        raise DownloadError(f"Offline mode is on (HF_HUB_OFFLINE). {error}") from None


def _model_info(spec: HubSpec, settings: HubSettings) -> ModelInfo:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=settings.endpoint, token=settings.token, library_name="fmedge")
    return api.model_info(
        spec.repo, revision=spec.revision, files_metadata=True, timeout=_API_TIMEOUT_S
    )


def _file_of(spec: HubSpec, name: str, commit: str, settings: HubSettings) -> _File:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(spec.repo, name, revision=commit, endpoint=settings.endpoint)
    metadata = get_hf_file_metadata(
        url,
        token=settings.token,
        endpoint=settings.endpoint,
        timeout=_API_TIMEOUT_S,
        library_name="fmedge",
    )
    if not metadata.etag or not _ETAG.fullmatch(metadata.etag) or metadata.size is None:
        raise DownloadError(
            f"The hub gave neither a usable etag nor a size for {name}. If HF_ENDPOINT is set, "
            "check that it names a server that speaks the hub's API."
        )
    return _File(name, metadata.etag, metadata.size)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The partial file, held against other pulls."""
    with path.open("a+b") as partial:
        try:
            fcntl.flock(partial, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError(
                f"Another process is fetching {path.name.removesuffix('.incomplete')}; "
                "wait for it to end."
            ) from None
        try:
            yield partial
        except OSError as error:
            if error.errno in _DISK_FULL:
                path.unlink(missing_ok=True)  # a full disk is of use to nobody
            raise


@contextmanager
def _errors_of(spec: HubSpec) -> Iterator[None]:
    """Whatever huggingface_hub and its HTTP client raise, as errors that say what to do."""
    from huggingface_hub import errors

    try:
        yield
    except FmedgeError:
        raise
    except errors.GatedRepoError:
        raise DownloadError(
            f"{spec.repo} is gated. Accept its terms on its page, then set HF_TOKEN."
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFoundError(
            f"The hub has no repository {spec.repo} that you may see. Check the name; "
            "for a private one set HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelNotFoundError(f"{spec.repo} has no revision {spec.revision}.") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise DownloadError(
                f"The hub refused access to {spec.repo} ({status}). Check HF_TOKEN, and that its "
                "account may see this repository."
            ) from error
        raise DownloadError(f"The hub answered {status} for {spec.repo}: {error}") from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise DownloadError(
                f"The disk became full while {spec} was fetched; nothing of it was kept. "
                "Make room, or set HF_HOME to a larger disk."
            ) from error
        raise DownloadError(f"{spec} could not be fetched: {error}. {_RESUME}") from error
    except Exception as error:
        if _is_transport_error(error):
            reason = str(error) or type(error).__name__
            raise DownloadError(f"{spec} could not be fetched: {reason}. {_RESUME}") from error
        raise


_RESUME = "Check the connection and pull again: it goes on where it stopped."


def _is_transport_error(error: Exception) -> bool:
    """True for the errors of huggingface_hub's HTTP client, whichever library that is."""
    from huggingface_hub.errors import HfHubHTTPError

    base = next(b for b in HfHubHTTPError.__mro__ if b.__name__ == "HTTPError")
    return isinstance(error, base)


def _bar_class(on_done: Callable[[int], None]) -> Any:
    """What http_get takes for a progress bar class; reports bytes done of this file."""

    class Bar:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            self._done = initial

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, num_bytes: float | None = 1) -> None:
            self._done += int(num_bytes or 0)
            on_done(self._done)

    return Bar


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
