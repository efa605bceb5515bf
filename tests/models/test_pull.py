from __future__ import annotations

import os
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest

from fmedge.errors import DownloadError, ModelFileError, ModelNotFoundError
from fmedge.models.pull import HubSettings, PullProgress, pull
from fmedge.models.registry import Registry
from fmedge.models.stored import list_models, remove

from .hub import COMMIT, FakeHub

REPO = "some-org/tiny-GGUF"
DATA = random.Random(1).randbytes(300_000)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.file_download

    clock = types.SimpleNamespace(sleep=lambda _s: None)
    monkeypatch.setattr(huggingface_hub.file_download, "time", clock)


@pytest.fixture
def hub() -> FakeHub:
    files = {"tiny-Q4_K_M.gguf": DATA, "tiny-Q8_0.gguf": DATA[::-1], "README.md": b"hello"}
    with FakeHub(REPO, files) as server:
        yield server


def settings(hub: FakeHub, tmp_path: Path) -> HubSettings:
    return HubSettings(endpoint=hub.endpoint, cache_dir=tmp_path, token="hf_secret")


def looks_whole(cache: Path) -> list[str]:
    """Everything that a program looking for models could take for one."""
    return [
        str(path)
        for path in cache.rglob("*")
        if path.is_file() and not path.name.endswith((".incomplete", ".lock", ".TAG"))
        and path.parent.name != "refs"
    ]  # fmt: skip


def test_fetches_the_preferred_quantisation_and_lists_it(hub: FakeHub, tmp_path: Path) -> None:
    seen: list[PullProgress] = []
    source = pull(f"hf:{REPO}", seen.append, settings(hub, tmp_path))
    assert Path(source.path).read_bytes() == DATA
    assert source.path.endswith("tiny-Q4_K_M.gguf")
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(DATA)
    assert any(progress.is_verifying for progress in seen)
    assert hub.tokens[0] == "Bearer hf_secret"
    (model,) = list_models(tmp_path)
    assert model.name == f"{REPO}:Q4_K_M"
    assert model.is_complete
    assert model.size_bytes == len(DATA)
    assert (tmp_path / "models--some-org--tiny-GGUF/refs/main").read_text() == COMMIT


def test_every_name_of_a_pulled_model_resolves(hub: FakeHub, tmp_path: Path) -> None:
    source = pull(f"hf:{REPO}:q8_0", None, settings(hub, tmp_path))
    registry = Registry({"short": f"hf:{REPO}:Q8_0"}, cache_dir=tmp_path)
    for name in (f"hf:{REPO}", f"hf:{REPO}:Q8_0", f"hf:{REPO}/tiny-Q8_0.gguf", "short",
                 f"{REPO}:Q8_0", "tiny-GGUF", "tiny-Q8_0", source.path):  # fmt: skip
        assert Path(registry.resolve(name).path).resolve() == Path(source.path).resolve(), name


def test_a_second_pull_transfers_nothing(hub: FakeHub, tmp_path: Path) -> None:
    pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    num_transfers = len(hub.ranges)
    pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert len(hub.ranges) == num_transfers


def test_split_models_are_fetched_whole(hub: FakeHub, tmp_path: Path) -> None:
    parts = {f"big-Q2_K-{n:05d}-of-00003.gguf": DATA[n * 1000 :] for n in (1, 2, 3)}
    hub.files.update(parts)
    source = pull(f"hf:{REPO}:Q2_K", None, settings(hub, tmp_path))
    assert [os.path.basename(path) for path in source.paths] == sorted(parts)
    assert source.path == source.paths[0]
    resolved = Registry(cache_dir=tmp_path).resolve("big-Q2_K")
    assert resolved.paths == source.paths


def test_a_missing_part_is_noticed_before_any_transfer(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["big-Q2_K-00001-of-00002.gguf"] = DATA
    with pytest.raises(DownloadError, match="lacks big-Q2_K-00002-of-00002"):
        pull(f"hf:{REPO}:Q2_K", None, settings(hub, tmp_path))
    assert not hub.ranges


def test_incomplete_split_is_listed_as_such_and_not_served(hub: FakeHub, tmp_path: Path) -> None:
    hub.files.update({f"big-Q2_K-{n:05d}-of-00002.gguf": DATA[n:] for n in (1, 2)})
    source = pull(f"hf:{REPO}:Q2_K", None, settings(hub, tmp_path))
    os.unlink(source.paths[1])
    (model,) = list_models(tmp_path)
    assert not model.is_complete
    with pytest.raises(ModelFileError, match=r"not complete.*fmedge pull"):
        Registry(cache_dir=tmp_path).resolve(f"hf:{REPO}:Q2_K")


def test_a_dropped_connection_is_resumed_within_a_pull(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after, hub.num_cuts = 100_000, 2
    source = pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert Path(source.path).read_bytes() == DATA


def test_a_truncated_body_leaves_nothing_whole_and_is_resumed_later(
    hub: FakeHub, tmp_path: Path
) -> None:
    class PowerCutError(Exception): ...

    def interrupt(progress: PullProgress) -> None:
        if progress.done_bytes >= 100_000:
            raise PowerCutError

    blobs = tmp_path / "models--some-org--tiny-GGUF/blobs"
    blobs.mkdir(parents=True)
    partial = blobs / (hub.etag("tiny-Q4_K_M.gguf") + ".incomplete")
    partial.write_bytes(DATA[:120_000])
    with pytest.raises(PowerCutError):
        pull(f"hf:{REPO}:Q4_K_M", interrupt, settings(hub, tmp_path))
    assert looks_whole(tmp_path) == []
    assert list_models(tmp_path) == []
    source = pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert hub.ranges[-1] == "bytes=120000-"
    assert Path(source.path).read_bytes() == DATA
    assert not partial.exists()


def test_a_connection_that_always_drops_is_an_error(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 0
    with pytest.raises(DownloadError, match="pull again"):
        pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert looks_whole(tmp_path) == []


def test_wrong_bytes_are_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    hub.wrong_bytes = True
    with pytest.raises(DownloadError, match="wrong checksum"):
        pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert looks_whole(tmp_path) == []
    assert not list(tmp_path.rglob("*.incomplete"))
    hub.wrong_bytes = False
    assert Path(pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path)).path).exists()


def test_a_corrupt_partial_file_is_caught_by_the_checksum(hub: FakeHub, tmp_path: Path) -> None:
    blobs = tmp_path / "models--some-org--tiny-GGUF/blobs"
    blobs.mkdir(parents=True)
    (blobs / (hub.etag("tiny-Q4_K_M.gguf") + ".incomplete")).write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="wrong checksum"):
        pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    source = pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert Path(source.path).read_bytes() == DATA


def test_more_than_the_disk_holds_is_refused_before_the_transfer(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.claimed_size = 1 << 60
    with pytest.raises(DownloadError, match="free"):
        pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert not hub.ranges


def test_a_disk_that_becomes_full_leaves_nothing(hub: FakeHub, tmp_path: Path) -> None:
    script = (
        "import sys, resource; from pathlib import Path\n"
        "from fmedge.models.pull import HubSettings, pull\n"
        "from fmedge.errors import DownloadError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    pull(sys.argv[1], None, HubSettings(endpoint=sys.argv[2], token='x',"
        " cache_dir=Path(sys.argv[3])))\n"
        "except DownloadError as error: print(error); sys.exit(7)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, f"hf:{REPO}:Q4_K_M", hub.endpoint, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 7, result.stderr
    assert "disk became full" in result.stdout
    assert looks_whole(tmp_path) == []
    assert not list(tmp_path.rglob("*.incomplete"))


@pytest.mark.parametrize(
    ("status", "code", "error", "text"),
    [
        (404, "RepoNotFound", ModelNotFoundError, "HF_TOKEN"),
        (401, "", DownloadError, "HF_TOKEN"),
        (403, "", DownloadError, "HF_TOKEN"),
        (403, "GatedRepo", DownloadError, "gated"),
        (404, "RevisionNotFound", ModelNotFoundError, "revision"),
        (400, "", DownloadError, "400"),
    ],
)
def test_refusals_say_what_to_do(
    hub: FakeHub, tmp_path: Path, status: int, code: str, error: type[Exception], text: str
) -> None:
    hub.status, hub.error_code = status, code
    with pytest.raises(error, match=text):
        pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert looks_whole(tmp_path) == []


def test_unknown_names_list_what_there_is(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"Q5_K_M.*tiny-Q4_K_M\.gguf"):
        pull(f"hf:{REPO}:Q5_K_M", None, settings(hub, tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"no file other\.gguf"):
        pull(f"hf:{REPO}/other.gguf", None, settings(hub, tmp_path))
    with pytest.raises(ModelNotFoundError, match="HF_TOKEN"):
        pull("hf:no/such", None, settings(hub, tmp_path))


def test_nobody_listens(tmp_path: Path) -> None:
    nowhere = HubSettings(endpoint="http://127.0.0.1:1", cache_dir=tmp_path, token="x")
    with pytest.raises(DownloadError, match="connection"):
        pull(f"hf:{REPO}", None, nowhere)


def test_offline_uses_what_is_there_and_says_so_otherwise(hub: FakeHub, tmp_path: Path) -> None:
    offline = HubSettings(endpoint="http://127.0.0.1:1", cache_dir=tmp_path, is_offline=True)
    with pytest.raises(DownloadError, match="Offline mode"):
        pull(f"hf:{REPO}:Q4_K_M", None, offline)
    fetched = pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    assert pull(f"hf:{REPO}:Q4_K_M", None, offline).path == fetched.path


def test_two_pulls_of_one_file_do_not_mix(hub: FakeHub, tmp_path: Path) -> None:
    errors: list[str] = []

    def pull_again(progress: PullProgress) -> None:
        if not errors and not progress.is_verifying:
            with pytest.raises(DownloadError, match="Another process") as caught:
                pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
            errors.append(str(caught.value))

    pull(f"hf:{REPO}:Q4_K_M", pull_again, settings(hub, tmp_path))
    assert errors


def test_remove_frees_the_file_and_keeps_the_other(hub: FakeHub, tmp_path: Path) -> None:
    for quant in ("Q4_K_M", "Q8_0"):
        pull(f"hf:{REPO}:{quant}", None, settings(hub, tmp_path))
    assert remove(f"hf:{REPO}:Q4_K_M", tmp_path) == len(DATA)
    assert [model.quant for model in list_models(tmp_path)] == ["Q8_0"]
    remove(f"{REPO}:Q8_0", tmp_path)
    assert list_models(tmp_path) == []
    assert looks_whole(tmp_path) == []
    with pytest.raises(ModelNotFoundError, match="fmedge list"):
        remove(f"{REPO}:Q8_0", tmp_path)


def test_remove_keeps_a_blob_that_another_revision_uses(hub: FakeHub, tmp_path: Path) -> None:
    source = pull(f"hf:{REPO}:Q4_K_M", None, settings(hub, tmp_path))
    snapshot = Path(source.path).parent
    other = snapshot.with_name("d" * 40)
    other.mkdir()
    (other / "renamed-Q4_0.gguf").symlink_to(os.readlink(source.path))
    remove(f"{REPO}:Q4_K_M", tmp_path)
    (left,) = list_models(tmp_path)
    assert left.name == f"{REPO}:Q4_0"
    assert Path(left.path).read_bytes() == DATA
