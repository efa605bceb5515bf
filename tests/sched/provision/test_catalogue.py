"""Names as drivers, ggml and people write them, and the cards that they mean."""

from __future__ import annotations

import pytest

from fmedge.sched.provision.cards import CARDS
from fmedge.sched.provision.catalogue import closest, find, nearest


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D"),
        ("3070 8GB", "RTX 3070"),
        ("3080 Ti 12GB", "RTX 3080 Ti"),
        ("NVIDIA GeForce RTX 3080", "RTX 3080"),
        ("RTX 3080 12GB", "RTX 3080 12GB"),
        ("RTX3090Ti", "RTX 3090 Ti"),
        ("4070 ti super", "RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce GTX 1080 Ti", "GTX 1080 Ti"),
        ("NVIDIA GeForce RTX 4060 Ti 16 GB", "RTX 4060 Ti 16GB"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("Quadro RTX 6000", "Quadro RTX 6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "RTX 4000 SFF Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell"),
        ("RTX PRO 6000", "RTX PRO 6000 Blackwell"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            "RTX PRO 6000 Blackwell Max-Q",
        ),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("Tesla V100-PCIE-32GB", "Tesla V100 PCIe 32GB"),
        ("Tesla T4", "Tesla T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A10G", "A10G"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", "RX 7900 XTX"),
        ("AMD Radeon RX 7900 XT", "RX 7900 XT"),
        ("AMD Instinct MI300X", "Instinct MI300X"),
        ("AMD Instinct MI250X / MI250", "Instinct MI250"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "Radeon 780M"),
        ("Intel(R) Arc(TM) A770 Graphics", "Arc A770"),
        ("Intel(R) Data Center GPU Max 1550", "Data Center GPU Max 1550"),
        ("Apple M2 Ultra", "Apple M2 Ultra"),
        ("M1 7\N{NON-BREAKING HYPHEN}Core GPU 8GB", "Apple M1"),
    ],
)
def test_a_name_means_its_card(kind: str, name: str) -> None:
    card = find(kind)
    assert card is not None
    assert card.name == name


@pytest.mark.parametrize(
    "kind",
    [
        "", "Graphics", "AMD Radeon Graphics", "RTX 6000", "GTX 9999", "NVIDIA", "24GB",
        "AMD Ryzen 7 5700 Processor", "Intel(R) Xeon(R) w5-3425", "RTX 3090 SUPER",
        "NVIDIA GeForce RTX 3080 Laptop GPU", "()", "\N{SNOWMAN}" * 100,
    ],
)  # fmt: skip
def test_what_is_no_card_or_several_is_not_guessed(kind: str) -> None:
    assert find(kind) is None


def test_every_card_is_found_by_its_own_name_and_is_plausible() -> None:
    names = [str(row[0]) for row in CARDS]
    assert len(set(names)) == len(names) > 150
    for name in names:
        card = find(name)
        assert card is not None
        assert card.name == name
        assert 0 <= card.memory_gib <= 300
        assert 50 < card.bandwidth_gb_s <= 8000
        assert 2 <= card.fp16_tflop_s <= 2600
        assert 10 <= card.link_gb_s <= 300
        assert 1 <= card.l2_mib <= 500
        assert 5 < card.num_sms * card.boost_ghz < 700
        assert 0.9 < card.boost_ghz < 3.3
        assert card.power_w == 0 or 35 <= card.power_w <= 1400


def test_makers() -> None:
    kinds = {"RTX 3060": "nvidia", "RX 9070": "amd", "Arc B580": "intel", "Apple M4": "apple"}
    for kind, maker in kinds.items():
        card = find(kind)
        assert card is not None
        assert card.maker == maker
    tesla, geforce = find("Tesla T4"), find("RTX 3090")
    assert tesla is not None
    assert geforce is not None
    assert (tesla.has_inline_ecc, geforce.has_inline_ecc) == (True, False)


def test_a_misspelt_card_has_hints() -> None:
    assert nearest("RTX 4091")[0] == "RTX 4090"
    assert "RX 7900 XTX" in nearest("RX 7900 XTXX")
    assert nearest("a toaster oven") == ()


def test_figures_lead_to_the_closest_card() -> None:
    assert closest(1008, 330).name == "RTX 4090"
    assert closest(2039, 312).name.startswith("A100 SXM")
    assert closest(70, 2.5).name == "Apple M1"
