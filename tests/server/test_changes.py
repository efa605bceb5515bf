"""What another configuration changes: the pure difference of two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from fmedge.config import Config, ServerConfig, keep_fixed, load_config, settings
from fmedge.server.changes import Changes, difference, with_names_kept
from fmedge.server.plan import ModelPlan, holds_same_model, plan_models
from tests.synthetic import cached

TINY, DEEP = cached("tiny"), cached("tiny", n_layers=3)
Q8 = cached("tiny", quant="q8_0")


@pytest.fixture
def read(tmp_path: Path):
    def made(text: str) -> tuple[Config, list[ModelPlan]]:
        file = tmp_path / "fmedge.toml"
        file.write_text(text)
        config = load_config(str(file), environ={})
        return config, plan_models(config.models, config.replicas)

    return made


def model(name: str, path: Path = TINY, more: str = "") -> str:
    return f'[[model]]\nmodel = "{path}"\nname = "{name}"\n{more}\n'


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (model("a"), model("a"), Changes()),
        (model("a") + model("b"), model("b") + model("a"), Changes()),
        (model("a"), model("a") + model("b"), Changes(added=("b",))),
        (model("a") + model("b"), model("b"), Changes(removed=("a",))),
        (model("a"), model("c"), Changes(added=("c",), removed=("a",))),
        (model("a"), model("a", more='aliases = ["x"]'), Changes(relabelled=("a",))),
        (
            model("a"),
            model("a", more="pinned = true"),
            Changes(relabelled=("a",), settings=("pinned",)),
        ),
        (model("a"), model("a", more="slots = 7"), Changes(changed=("a",))),
        (model("a"), "[defaults]\nslots = 7\n" + model("a"), Changes(changed=("a",))),
        (model("a"), model("a", more="replicas = 2"), Changes(changed=("a",))),
        (model("a"), model("a", Q8), Changes(changed=("a",))),
        (model("a"), model("a", more=f'quantisations = ["{Q8}"]'), Changes(changed=("a",))),
        (
            model("a"),
            model("a") + '[[replica]]\nmodel = "a"\nname = "r"\nthreads = 1\n',
            Changes(changed=("a",)),
        ),
        (model("a"), model("a", DEEP), Changes(replaced=("a",))),
        (
            model("a"),
            "[server]\nport = 1\ndrain_timeout_s = 7\n" + model("a"),
            Changes(settings=("port", "drain_timeout_s")),
        ),
        (
            model("a"),
            model("a") + "[sla.fast]\nttft_ms = 9\n[workflows.w]\n[[rpc]]\nendpoint = 'h:1'\n",
            Changes(settings=("[[rpc]]", "[sla]", "[workflows]")),
        ),
    ],
)
def test_what_differs(read, before: str, after: str, expected: Changes) -> None:
    assert difference(read(before), read(after), holds_same_model) == expected


def test_a_template_is_what_is_in_its_file(read, tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    text = model("a", more=f'chat_template_file = "{template}"')
    template.write_text("one")
    before = read(text)
    template.write_text("two")
    assert difference(before, read(text), holds_same_model) == Changes(relabelled=("a",))


def test_a_file_that_was_overwritten_is_another_model(read, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(TINY.read_bytes())
    before = read(model("a", path))
    assert difference(before, read(model("a", path)), holds_same_model) == Changes()
    os.utime(path, ns=(1, 1))
    assert difference(before, read(model("a", path)), holds_same_model) == Changes(replaced=("a",))


def test_a_file_that_is_gone_cannot_be_compared(read, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(TINY.read_bytes())
    before = read(model("a", path))
    path.unlink()
    assert difference(before, read(model("a", TINY)), holds_same_model).replaced == ("a",)


@pytest.mark.parametrize(
    ("changes", "is_so"),
    [
        (Changes(), False),
        (Changes(relabelled=("a",), settings=("keep_alive_s",)), False),
        (Changes(settings=("pinned",)), True),
        (Changes(settings=("[[rpc]]",)), True),
        (Changes(removed=("a",)), True),
        (Changes(replaced=("a",)), True),
    ],
)
def test_what_runs_where_is_a_new_question(changes: Changes, is_so: bool) -> None:
    assert changes.is_placed_anew is is_so


def test_it_is_said_in_words() -> None:
    assert str(Changes()) == "nothing changed"
    said = str(Changes(added=("a", "b"), removed=("c",), settings=("API keys",)))
    assert said == "a, b added; c removed; API keys changed"


def test_replicas_said_by_hand_keep_their_names_where_they_go_on(read) -> None:
    (before,) = read(model("a", more="replicas = 3\nslots = 2"))[1]
    (more,) = read(model("a", more="replicas = 2\nslots = 2"))[1]
    assert [r.name for r in with_names_kept(before.replicas, more).replicas] == ["a/0", "a/1"]
    (other,) = read(model("a", more="replicas = 2\nslots = 5"))[1]
    named = with_names_kept(before.replicas, other, taken={"a/3"})
    assert [r.name for r in named.replicas] == ["a/4", "a/5"]
    assert {r.engine.slots for r in named.replicas} == {5}


def test_a_named_replica_that_changes_gets_another_name(read) -> None:
    block = '[[replica]]\nmodel = "a"\nname = "{}"\nthreads = {}\n'
    (before,) = read(model("a") + block.format("x", 1) + block.format("y", 2))[1]
    (after,) = read(model("a") + block.format("x", 1) + block.format("y", 3))[1]
    named = with_names_kept(before.replicas, after)
    assert [(r.name, r.engine.threads) for r in named.replicas] == [("x", 1), ("a/0", 3)]
    (back,) = read(model("a") + block.format("z", 3))[1]
    assert [r.name for r in with_names_kept(named.replicas, back).replicas] == ["a/0"]


def test_what_cannot_change_stays() -> None:
    old = ServerConfig(port=1, state_dir="/a", drain_timeout_s=1.0)
    new = ServerConfig(port=2, state_dir="/b", drain_timeout_s=2.0, policy="round_robin")
    kept, names = keep_fixed(old, new)
    assert kept == replace(old, drain_timeout_s=2.0)
    assert names == ("port", "policy", "state_dir")


def test_tls_is_renewed_but_neither_begun_nor_ended() -> None:
    off, on = ServerConfig(), ServerConfig(tls_cert="c", tls_key="k")
    other = ServerConfig(tls_cert="c2", tls_key="k2")
    assert keep_fixed(off, on) == (off, ("tls_cert", "tls_key"))
    assert keep_fixed(on, off) == (on, ("tls_cert", "tls_key"))
    assert keep_fixed(on, other) == (other, ())


def test_each_setting_of_the_server_is_fixed_or_taken() -> None:
    fixed = {s.key for s in settings("server") if s.is_fixed}
    assert fixed == {
        "host", "port", "unix_socket", "max_body_mib", "policy", "profile", "placement",
        "kv_store_mib", "kv_disk_mib", "state_dir", "record",
    }  # fmt: skip
