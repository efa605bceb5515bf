from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fmedge.errors import ModelFileError, ModelNotFoundError
from fmedge.models import embedded
from fmedge.models.embedded import PATH
from fmedge.models.registry import Registry
from fmedge.models.stored import list_models
from fmedge.types import GgufHeader


def store(cache: Path, repo: str, file: str, commit: str = "a" * 40) -> Path:
    folder = cache / ("models--" + repo.replace("/", "--"))
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + file.encode())
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs/main").write_text(commit)
    return path


def test_paths(tmp_path: Path) -> None:
    path = tmp_path / "My-Model-Q8_0.gguf"
    path.write_bytes(b"GGUF")
    registry = Registry({"mine": str(path)}, cache_dir=tmp_path, model_dirs=[tmp_path])
    for name in (str(path), "mine", "My-Model-Q8_0", "My-Model-Q8_0.gguf"):
        source = registry.resolve(name)
        assert (source.name, source.path) == ("My-Model-Q8_0", str(path))
        assert source.paths == (str(path),)
    with pytest.raises(ModelNotFoundError, match="no file"):
        registry.resolve(str(tmp_path / "other.gguf"))
    with pytest.raises(ModelNotFoundError, match="folder"):
        registry.resolve(str(tmp_path))


def test_split_paths(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-{n:05d}-of-00002.gguf" for n in (1, 2))
    first.touch()
    registry = Registry(cache_dir=tmp_path)
    with pytest.raises(ModelFileError, match="missing"):
        registry.resolve(str(first))
    second.touch()
    source = registry.resolve(str(first))
    assert (source.name, source.paths) == ("m", (str(first), str(second)))
    with pytest.raises(ModelFileError, match=r"first part instead: m-00001"):
        registry.resolve(str(second))


def test_stored_names(tmp_path: Path) -> None:
    store(tmp_path, "org/one-GGUF", "one-Q4_K_M.gguf")
    store(tmp_path, "org/one-GGUF", "one-Q8_0.gguf")
    store(tmp_path, "org/two", "two.gguf")
    registry = Registry(cache_dir=tmp_path)
    assert registry.resolve("org/two/two.gguf").name == "org/two/two.gguf"
    assert registry.resolve("two").path.endswith("two.gguf")
    assert registry.resolve("one-GGUF:Q8_0").path.endswith("one-Q8_0.gguf")
    assert registry.resolve("hf:org/one-GGUF").path.endswith("one-Q4_K_M.gguf")
    with pytest.raises(ModelNotFoundError, match=r"several.*Q4_K_M.*Q8_0"):
        registry.resolve("one-GGUF")
    with pytest.raises(ModelNotFoundError, match="Did you mean"):
        registry.resolve("org/one-GGUF:Q8_1")
    with pytest.raises(ModelNotFoundError, match="fmedge pull hf:org/one-GGUF:Q6_K"):
        registry.resolve("hf:org/one-GGUF:Q6_K")
    with pytest.raises(ModelNotFoundError, match="fmedge pull hf:org/none"):
        registry.resolve("hf:org/none")


def test_embedded_is_what_the_package_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("embedded", "embedded.gguf"):
        (tmp_path / file).write_bytes(b"GGUF")
    stored = store(tmp_path, "embedded/embedded", "embedded.gguf")
    registry = Registry(
        {"embedded": str(tmp_path / "embedded")}, cache_dir=tmp_path, model_dirs=[tmp_path]
    )
    source = registry.resolve("embedded")
    assert (source.name, source.path, source.paths) == ("embedded", str(PATH), (str(PATH),))
    for path in ("./embedded", "./embedded.gguf", str(tmp_path / "embedded")):
        source = registry.resolve(path)
        assert Path(source.path).parent == tmp_path
        assert source.name == "./embedded"  # the name alone would mean the package's
    assert registry.resolve("hf:embedded/embedded").path == str(stored)


def test_a_package_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PATH", tmp_path / "none.gguf")
    with pytest.raises(ModelNotFoundError, match=r"missing.*none\.gguf.*--model PATH"):
        Registry(cache_dir=tmp_path).resolve("embedded")
    assert embedded.as_stored(lambda path: pytest.fail(path)) is None


def test_the_newest_snapshot_stands_for_a_file(tmp_path: Path) -> None:
    store(tmp_path, "org/r", "r-Q8_0.gguf", "b" * 40)
    newest = store(tmp_path, "org/r", "r-Q8_0.gguf", "a" * 40)
    (model,) = list_models(tmp_path)
    assert model.path == str(newest)
    assert model.revision == "a" * 40


def test_list_reads_the_architecture_if_it_can(tmp_path: Path) -> None:
    good = store(tmp_path, "org/r", "r-Q8_0.gguf")
    store(tmp_path, "org/r", "broken-Q4_0.gguf")

    def read_header(path: str) -> GgufHeader:
        if "broken" in path:
            raise ModelFileError("not a GGUF")
        return GgufHeader(
            path=path, version=3, alignment=32, data_offset=0, file_bytes=0,
            metadata={"general.architecture": "llama"}, tensors=(),
        )  # fmt: skip

    broken, sound = list_models(tmp_path, read_header=read_header)
    assert (sound.architecture, sound.is_complete) == ("llama", True)
    assert sound.size_bytes == good.stat().st_size
    assert not broken.is_complete


def test_an_empty_or_absent_cache_has_no_models(tmp_path: Path) -> None:
    assert list_models(tmp_path / "none") == []


def test_importing_the_registry_is_cheap() -> None:
    script = (
        "import sys; import fmedge.models.registry; "
        "print([m for m in ('huggingface_hub', 'jinja2', 'llguidance') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout.strip() == "[]"
