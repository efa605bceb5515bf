"""The configuration: where each value comes from, and what is said of a wrong one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fmedge.config import (
    ClientConfig,
    Config,
    ServerConfig,
    history_file,
    load_config,
    settings,
    state_dir,
    unknown_variables,
)
from fmedge.config import load as config_module
from fmedge.errors import ConfigError
from fmedge.types import EngineSettings

SECTIONS = ("server", "defaults", "client", "model", "replica", "sla", "workflows")
EXAMPLE = Path(__file__).parent.parent / "packaging" / "fmedge.example.toml"


def load(
    tmp_path: Path,
    text: str = "",
    *,
    env: dict[str, str] | None = None,
    flags: dict[str, Any] | None = None,
    models: list[dict[str, Any]] | None = None,
) -> Config:
    file = tmp_path / "fmedge.toml"
    file.write_text(text)
    return load_config(str(file), flags=flags or {}, models=models or [], environ=env or {})


def test_defaults_are_those_of_the_structs() -> None:
    loaded = load_config(environ={})
    assert loaded.server == ServerConfig()
    assert loaded.client == ClientConfig()
    assert [(m.model, m.name, m.engine) for m in loaded.models] == [
        ("embedded", "embedded", EngineSettings(model_path=""))
    ]


def test_without_a_model_the_embedded_one_gets_the_settings(tmp_path: Path) -> None:
    loaded = load(tmp_path, "[defaults]\nslots = 3\n", flags={"pinned": "true"})
    (model,) = loaded.models
    assert (model.model, model.engine.slots, model.pinned) == ("embedded", 3, True)
    assert not loaded.is_narrowed
    assert [m.model for m in load(tmp_path, "", env={"FMEDGE_MODEL": "m"}).models] == ["m"]


def test_embedded_is_no_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "embedded").touch()
    text = "[[model]]\nmodel = 'embedded'\nname = 'chat'\nquantisations = ['./embedded']\n"
    (model,) = load(tmp_path, text).models
    assert (model.model, model.name) == ("embedded", "chat")
    assert model.quantisations == (str(tmp_path / "embedded"),)


@pytest.mark.parametrize("key", ["name = 'embedded'", "aliases = ['a', 'embedded']"])
def test_no_other_model_is_called_embedded(tmp_path: Path, key: str) -> None:
    text = f"[[model]]\nmodel = 'm.gguf'\n{key}\n"
    for models in ([], [{"model": "embedded", "aliases": []}]):
        with pytest.raises(ConfigError, match=r"m\.gguf: 'embedded' is the name of the model that"):
            load(tmp_path, text, models=models)
    with pytest.raises(ConfigError, match="call this one something else"):
        load(tmp_path, "", models=[{"model": "m.gguf", "aliases": ["embedded"]}])
    own = load(tmp_path, "[[model]]\nmodel = 'embedded'\nname = 'embedded'\naliases = ['a']\n")
    assert own.models[0].aliases == ("a",)


def test_later_layers_win(tmp_path: Path) -> None:
    text = "[server]\nport = 1\nhost = 'a'\nmax_body_mib = 3\n"
    loaded = load(tmp_path, text, env={"FMEDGE_PORT": "2", "FMEDGE_HOST": "b"}, flags={"port": "3"})
    assert (loaded.server.port, loaded.server.host, loaded.server.max_body_mib) == (3, "b", 3)
    assert loaded.sources["server.port"] == "--port"
    assert loaded.sources["server.host"] == "FMEDGE_HOST"
    assert loaded.sources["server.max_body_mib"].endswith("[server] max_body_mib")


def test_every_engine_setting_can_be_set() -> None:
    fields = {f.name for f in msgspec.structs.fields(EngineSettings)} - {"model_path", "rpc"}
    assert {s.key for s in settings("defaults")} == fields | {
        "replicas",
        "chat_template_file",
        "pinned",
    }


def test_every_setting_has_help_and_names_of_its_own() -> None:
    made = settings("server", "defaults", "client")
    assert all(s.help for s in made)
    assert len({s.env for s in made}) == len({s.flag for s in made}) == len(made)


def test_model_blocks_inherit_defaults(tmp_path: Path) -> None:
    text = """
    [defaults]
    ctx_size = 100
    slots = 2
    [[model]]
    model = "hf:a/b"
    name = "one"
    ctx_size = 200
    replicas = 3
    [[model]]
    model = "c.gguf"
    aliases = ["two", "zwei"]
    """
    one, two = load(tmp_path, text).models
    assert (one.name, one.engine.ctx_size, one.engine.slots, one.replicas) == ("one", 200, 2, 3)
    assert (two.aliases, two.engine.ctx_size, two.replicas) == (("two", "zwei"), 100, 1)


def test_flags_and_environment_win_over_model_blocks(tmp_path: Path) -> None:
    text = "[[model]]\nmodel = 'm'\nctx_size = 200\nslots = 2\n"
    (model,) = load(tmp_path, text, env={"FMEDGE_SLOTS": "7"}, flags={"ctx_size": "300"}).models
    assert (model.engine.ctx_size, model.engine.slots) == (300, 7)


def test_model_flag_picks_the_block_of_that_name(tmp_path: Path) -> None:
    text = "[[model]]\nmodel='x.gguf'\nname='x'\nslots=9\n[[model]]\nmodel='y.gguf'\n"
    (model,) = load(tmp_path, text, models=[{"model": "x", "aliases": ["z"]}]).models
    assert (model.model, model.engine.slots, model.aliases) == ("x.gguf", 9, ("z",))
    (other,) = load(tmp_path, text, models=[{"model": "new.gguf"}]).models
    assert (other.model, other.engine.slots) == ("new.gguf", EngineSettings(model_path="").slots)


def test_models_from_the_environment() -> None:
    loaded = load_config(environ={"FMEDGE_MODEL": "a.gguf, hf:o/r", "FMEDGE_CTX_SIZE": "64"})
    assert [m.model for m in loaded.models] == ["a.gguf", "hf:o/r"]
    assert all(m.engine.ctx_size == 64 for m in loaded.models)
    aliased = load_config(environ={"FMEDGE_MODEL": "a.gguf", "FMEDGE_ALIAS": "x,y"})
    assert aliased.models[0].aliases == ("x", "y")
    with pytest.raises(ConfigError, match="FMEDGE_ALIAS"):
        load_config(environ={"FMEDGE_MODEL": "a,b", "FMEDGE_ALIAS": "x"})


def test_config_file_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[server]\nport = 12\n")
    assert load_config(environ={"FMEDGE_CONFIG": str(file)}).server.port == 12


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    text = "[server]\napi_key_file = 'keys'\n[[model]]\nmodel = 'm.gguf'\n"
    loaded = load(tmp_path, text)
    assert loaded.server.api_key_file == str(tmp_path / "keys")
    assert loaded.models[0].model == str(tmp_path / "m.gguf")
    assert load_config(flags={"api_key_file": "keys"}, environ={}).server.api_key_file == "keys"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1", ["[server]", "'prot'", "did you mean 'port'"]),
        ("[serve]\nport = 1", ["'serve'", "did you mean 'server'"]),
        ("[server]\nctx_size = 1", ["'ctx_size'", "belongs to [defaults]"]),
        ("[defaults]\nctx-size = 1", ["'ctx-size'", "did you mean 'ctx_size'"]),
        ("[server]\nzzz = 1", ["'zzz'", "known are host, port"]),
        ("port = 1", ["'port'", "belongs to [server]"]),
        ("server = 1", ["write [server]"]),
        ("model = 'x'", ["[[model]]"]),
        ("[model]\nmodel = 'x'", ["[[model]]"]),
        ("[[model]]\nname = 'x'", ["number 1", "needs model"]),
        ("[[model]]\nmodel = ''", ["number 1: model", "length >= 1"]),
        ("[[model]]\nmodel = 'x'\nctx = 1", ["number 1", "'ctx'", "'ctx_size'"]),
        ("[[model]]\nmodel = 'x'\naliases = 'y'", ["aliases", "expected array"]),
        ("[server]\nport = '80'", ["[server] port", "expected int", "'80'"]),
        ("[server]\nport = 70000", ["port", "65535"]),
        ("[server]\nlog_level = 'warn'", ["'warn'", "did you mean 'warning'"]),
        ("[defaults]\ntype_k = 'q8'", ["'q8'", "'q8_0'"]),
        ("[defaults]\nslots = 0", ["slots", ">= 1"]),
        ("[defaults]\nmmap = 1", ["mmap", "expected bool"]),
        ("[server]\ntls_cert = 'x'", ["tls_key is missing"]),
        ("[server\n", ["not valid TOML", "line 1"]),
        ("[[model]]\nmodel='a'\nname='x'\n[[model]]\nmodel='b'\nname='x'", ["'x'", "must differ"]),
        (
            "[[model]]\nmodel='a'\nname='x'\n[[model]]\nmodel='b'\naliases=['x']",
            ["two models are called 'x'"],
        ),
        ("[[model]]\nmodel='a'\nbatch_size=8", ["ubatch_size 512", "batch_size 8"]),
        ("[[model]]\nmodel='a'\nkv_tokens=8", ["kv_tokens", "kv_unified"]),
    ],
)
def test_wrong_files_are_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert all(word in message for word in words), message
    if "two models" not in message and "[[model]]\nmodel='a'" not in text and "tls" not in text:
        assert "fmedge.toml" in message  # names the file


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"FMEDGE_PORT": "http"}, ["FMEDGE_PORT", "expected int", "'http'"]),
        ({"FMEDGE_PORT": "tcp://10.0.0.1:8080"}, ["Kubernetes", "enableServiceLinks"]),
        ({"FMEDGE_MMAP": "perhaps"}, ["FMEDGE_MMAP", "expected bool"]),
        ({"FMEDGE_FLASH_ATTN": "yes"}, ["FMEDGE_FLASH_ATTN", "auto, on, off"]),
        ({"FMEDGE_TENSOR_SPLIT": "1,x"}, ["FMEDGE_TENSOR_SPLIT"]),
        ({"FMEDGE_TENSOR_OVERRIDES": "ffn"}, ["REGEX=BUFFER_TYPE"]),
        ({"FMEDGE_CONFIG": "/nowhere/at/all.toml"}, ["/nowhere/at/all.toml", "No such file"]),
    ],
)
def test_wrong_variables_are_explained(env: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ=env)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_text_forms_of_lists() -> None:
    flags = {
        "devices": "none", "tensor_split": "3, 1.5", "tensor_overrides": r"a=b=CPU,c\d=CUDA0",
        "cors_origins": "https://a,https://b", "mmap": False,
    }  # fmt: skip
    loaded = load_config(flags=flags, models=[{"model": "m"}], environ={})
    engine = loaded.models[0].engine
    assert engine.devices == ()
    assert engine.tensor_split == (3.0, 1.5)
    assert engine.tensor_overrides == (("a=b", "CPU"), (r"c\d", "CUDA0"))
    assert engine.mmap is False
    assert loaded.server.cors_origins == ("https://a", "https://b")


def test_tensor_overrides_as_a_table(tmp_path: Path) -> None:
    text = "[defaults]\ntensor_overrides = {'exps' = 'CPU'}\n[[model]]\nmodel = 'm'\n"
    assert load(tmp_path, text).models[0].engine.tensor_overrides == (("exps", "CPU"),)


def test_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(str(file), environ={})


def test_unknown_variables_warn_with_the_nearest() -> None:
    env = {"FMEDGE_PROT": "1", "FMEDGE_PORT": "1", "FMEDGE_MODEL": "x", "PATH": "y"}
    (warning,) = unknown_variables(env)
    assert "FMEDGE_PROT" in warning
    assert "FMEDGE_PORT" in warning


def test_state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_dir("", {"XDG_STATE_HOME": "/s"}) == Path("/s/fmedge")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir("", {}) == tmp_path / ".local" / "state" / "fmedge"
    assert state_dir("", {"XDG_STATE_HOME": "relative"}) == state_dir("", {})
    assert state_dir("~/x", {}) == tmp_path / "x"
    text = "[server]\nstate_dir = 'learned'\n"
    assert load(tmp_path, text).server.state_dir == str(tmp_path / "learned")
    assert load(tmp_path, text, flags={"state_dir": "/y"}).server.state_dir == "/y"
    text = "[server]\nstate_dir = '~/learned'\napi_key_file = '~no-such-user/x'\n"
    server = load(tmp_path, text).server
    assert server.state_dir == str(tmp_path / "learned")
    assert server.api_key_file == str(tmp_path / "~no-such-user" / "x")


def test_state_dir_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert state_dir("", {}) is None
    assert state_dir("~/x", {}) is None
    assert not history_file({}).parent.is_dir()


def test_history_file() -> None:
    assert history_file({"XDG_STATE_HOME": "/s"}) == Path("/s/fmedge/history")
    assert history_file({}).parts[-4:] == (".local", "state", "fmedge", "history")


def test_example_is_valid_and_leaves_the_planner_its_choices() -> None:
    loaded = load_config(str(EXAMPLE), environ={})
    assert loaded.models[0].name == "qwen3-4b"
    planned = {"replicas", "slots", "gpu_layers", "devices", "type_k", "type_v"}
    assert not planned & loaded.models[0].given


def test_example_shows_every_default(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=[a-z_]+ = )", "", EXAMPLE.read_text().split("# [[")[0], flags=re.M)
    loaded = load(tmp_path, text)
    sources = {key.split(".")[1] for key in loaded.sources}
    optional = {"devices", *(f.name for f in msgspec.structs.fields(ClientConfig))}
    known = {s.key for s in settings("server", "defaults", "client")}
    assert known - sources == optional
    assert loaded.server == ServerConfig()
    shown_here = {key.rpartition(".")[2] for key in loaded.sources if key.startswith("sla.")}
    assert shown_here == {s.key for s in settings("sla")}
    defaults = {s.key: s.default for s in settings("defaults")}
    shown = {k.split(".")[1] for k in loaded.sources if k.startswith("defaults.")}
    engine = loaded.models[0].engine
    own = {"ctx_size"}
    for key in shown - own:
        holder = engine if hasattr(engine, key) else loaded.models[0]
        assert getattr(holder, key) == defaults[key], key


@hypothesis_settings(deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3))
def test_any_unknown_section_is_a_config_error(table: dict[str, str]) -> None:
    known = {s.key: s for s in settings("server", "defaults", "client")}
    unknown = {k: v for k, v in table.items() if k not in SECTIONS}
    if not unknown:
        return
    layers = config_module._Layers()
    with pytest.raises(ConfigError, match="unknown key"):
        config_module._from_file(layers, unknown, Path("x.toml"), known)
