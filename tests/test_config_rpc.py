"""[[rpc]] blocks: what is understood, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmedge.config import load_config
from fmedge.errors import ConfigError


def _load(folder: Path, text: str):
    file = folder / "fmedge.toml"
    file.write_text(text)
    return load_config(str(file), environ={})


def test_device_servers(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        '[[rpc]]\nendpoint = "10.0.0.2:50052"\n'
        '[[rpc]]\nendpoint = "box:1"\nname = "box"\nreserve_gib = 0.5\nlink_gb_s = 1.2\n',
    )
    assert [(r.endpoint, r.name, r.reserve_gib, r.link_gb_s) for r in config.rpc] == [
        ("10.0.0.2:50052", "", 0.0, None),
        ("box:1", "box", 0.5, 1.2),
    ]


def test_none(tmp_path: Path) -> None:
    assert _load(tmp_path, "").rpc == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[rpc]\nendpoint = "a:1"', r"write \[\[rpc\]\] for each"),
        ('[[rpc]]\nname = "box"', r"number 1: needs endpoint"),
        ('[[rpc]]\nendpoint = "box"', r"number 1: endpoint: 'box' is no address .* HOST:PORT"),
        ('[[rpc]]\nendpoint = "a:99999"', r"the port must be a number from 1 to 65535"),
        ('[[rpc]]\nendpoint = "::1:5"', r"no address of a device server"),
        ('[[rpc]]\nendpoint = 5', r"number 1: endpoint: expected str, got int"),
        ('[[rpc]]\nendpoint = "a:1"\nreserve = 1', r"unknown key 'reserve'; did you mean 'res"),
        ('[[rpc]]\nendpoint = "a:1"\nhost = "x"', r"unknown key 'host'; did you mean 'endpoint'"),
        ('[[rpc]]\nendpoint = "a:1"\nreserve_gib = -1', r"reserve_gib: expected float >= 0"),
        ('[[rpc]]\nendpoint = "a:1"\nreserve_gib = nan', r"reserve_gib: expected float"),
        ('[[rpc]]\nendpoint = "a:1"\nlink_gb_s = 0', r"link_gb_s: expected .*float"),
        ('[[rpc]]\nendpoint = "a:1"\n[[rpc]]\nendpoint = "A:1"', r"another \[\[rpc\]\] has that e"),
        (
            '[[rpc]]\nendpoint = "a:1"\nname = "x"\n[[rpc]]\nendpoint = "b:1"\nname = "x"',
            r"number 2 .*another \[\[rpc\]\] has that name: .*number 1",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        _load(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
