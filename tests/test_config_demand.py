"""Demand files: what is refused, and where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmedge.config import SlaConfig
from fmedge.config.demand import Quantiles, load_demand
from fmedge.errors import ConfigError

BLOCK = """
[[demand]]
model = "chat"
rate_per_s = 2.0
prompt_tokens = { p50 = 800, p95 = 4000 }
output_tokens = { p50 = 150, p95 = 600 }
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "demand.toml"
    path.write_text(text)
    return path


def test_a_block(tmp_path: Path) -> None:
    (found,) = load_demand(_file(tmp_path, BLOCK))
    assert found.model == "chat"
    assert found.rate_per_s == 2.0
    assert found.prompt_tokens == Quantiles(800, 4000)
    assert found.output_tokens == Quantiles(150, 600)
    assert found.sla_class is None
    assert "[[demand]] number 1" in found.where


def test_classes_of_the_file_come_before_the_configurations(tmp_path: Path) -> None:
    text = BLOCK + 'sla = "fast"\n'
    known = {"fast": SlaConfig(ttft_ms=900.0)}
    (found,) = load_demand(_file(tmp_path, text), known)
    assert found.sla_class == SlaConfig(ttft_ms=900)
    (found,) = load_demand(_file(tmp_path, text + "[sla.fast]\nttft_ms = 300\n"), known)
    assert found.sla_class == SlaConfig(ttft_ms=300)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate_per_s = 2.0", "rate_per_s = 0", "rate_per_s"),
        ("rate_per_s = 2.0", "rate_per_s = nan", "rate_per_s"),
        ("rate_per_s = 2.0", "rate_per_s = inf", "rate_per_s"),
        ("rate_per_s = 2.0", 'rate_per_s = "2"', "rate_per_s"),
        ("rate_per_s = 2.0", "", "needs rate_per_s = requests a second"),
        ("rate_per_s", "rate_per_sec", "did you mean 'rate_per_s'"),
        ("p50 = 800", "p50 = 8000", "prompt_tokens: p95 = 4000 is less than p50 = 8000"),
        ("p50 = 800", "p50 = -1", "prompt_tokens p50"),
        ("p50 = 800", "p51 = 800", "unknown key 'p51'"),
        ("p50 = 800, ", "", "prompt_tokens: needs p50 too"),
        ("{ p50 = 800, p95 = 4000 }", "800", "expected { p50 = TOKENS"),
        ('model = "chat"', 'model = ""', "model"),
        ('model = "chat"', 'model = "chat"\nsla = "fast"', "there is no class 'fast'"),
        ("[[demand]]", "[demand]", "[[demand]]"),
        ("[[demand]]", "[[demands]]", "did you mean 'demand'"),
        (BLOCK, "", "no [[demand]] block"),
        (BLOCK, "[[demand", "not valid TOML"),
    ],
)
def test_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _file(tmp_path, BLOCK.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_demand(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the demand file"):
        load_demand(tmp_path / "none.toml")
