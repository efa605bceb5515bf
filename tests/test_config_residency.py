"""Which models stay loaded: [server] keep_alive_s and min_resident_s, [[model]] pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmedge.config import load_config
from fmedge.errors import ConfigError


def load(tmp_path: Path, text: str):
    file = tmp_path / "fmedge.toml"
    file.write_text(text)
    return load_config(str(file), environ={})


def test_what_stays_loaded(tmp_path: Path) -> None:
    text = "[server]\nkeep_alive_s = 300\nmin_resident_s = 5\n"
    text += "[[model]]\nmodel = 'a'\npinned = true\n[[model]]\nmodel = 'b'\n"
    config = load(tmp_path, text)
    assert (config.server.keep_alive_s, config.server.min_resident_s) == (300.0, 5.0)
    assert [model.pinned for model in config.models] == [True, False]
    assert load(tmp_path, "").server.keep_alive_s == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nkeep_alive_s = -1\n", "keep_alive_s"),
        ("[[model]]\nmodel = 'a'\npinned = 'yes'\n", "number 1: pinned"),
        ("[[model]]\nmodel = 'a'\npinnd = true\n", "'pinned'"),
        (
            "[[model]]\nmodel = 'a'\n[[replica]]\nmodel = 'a'\npinned = true\n",
            "pinned is the model's",
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)
