"""What the law makes of figures: which limit binds where, and that nothing contradicts itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.provision.device import Device, TypeSpeed
from fmedge.sched.provision.rates import CPU_LAYER_S, LAW, LAYER_OPS, Law, rates
from tests.sched.provision.cost_devices import card_device


def read_gb_s(device: Device) -> float:
    return 1e-9 / rates(device).byte_s


def test_ordinary_memory_is_read_at_nearly_its_bandwidth_and_stacked_memory_is_not() -> None:
    for kind in ("RTX 3070", "RTX 4090", "RTX A6000", "RTX 5000 Ada"):
        device = card_device(kind)
        assert 0.85 < read_gb_s(device) / device.bandwidth_gb_s < LAW.read_efficiency
    for kind in ("A100 SXM 80GB", "H100 PCIe"):
        device = card_device(kind)
        assert 0.45 < read_gb_s(device) / device.bandwidth_gb_s < 0.75


def test_ecc_takes_its_part_where_the_card_has_it() -> None:
    plain, ecc = card_device("RTX 6000 Ada"), card_device("L40")
    ratio = read_gb_s(ecc) / ecc.bandwidth_gb_s / (read_gb_s(plain) / plain.bandwidth_gb_s)
    assert ratio == pytest.approx(LAW.ecc_efficiency, rel=0.02)


def test_a_low_power_limit_binds_prefill_alone() -> None:
    small, large = card_device("L4"), card_device("RTX 4070")  # 72 W, 200 W; as many TFLOP/s
    assert rates(small).flop_s > 1.8 * rates(large).flop_s


def test_measured_figures_are_reached() -> None:
    device = card_device("A100 SXM 80GB", source="measured", bandwidth_gb_s=900.0, tflop_s=100.0)
    reached = rates(device)
    assert reached.byte_s == pytest.approx(1 / 900e9)
    assert reached.flop_s == pytest.approx(1 / 100e12)
    assert reached.quant_flops == 1.0
    assert reached.layer_s == rates(card_device("A100 SXM 80GB")).layer_s


def test_what_was_timed_by_type_counts_alone() -> None:
    speeds = (
        TypeSpeed(quant="q8_0", bandwidth_gb_s=40, tflop_s=0.5),
        TypeSpeed(quant="q4_K", bandwidth_gb_s=30, tflop_s=0.2),
        TypeSpeed(quant="f16", bandwidth_gb_s=35, tflop_s=0.1),
    )
    host = Device(
        name="CPU", type="cpu", memory_bytes=0, bandwidth_gb_s=40, tflop_s=0.1, source="measured",
        speeds=speeds,
    )  # fmt: skip
    reached = rates(host)
    for quant, bandwidth_gb_s, tflop_s in [
        ("q8_0", 40, 0.5), ("q4_K", 30, 0.2), ("iq2_xs", 30, 0.2), ("f16", 35, 0.1),
        ("bf16", 35, 0.1), ("", 30, 0.2),
    ]:  # fmt: skip
        one_s, many_s = (reached.product_s(1e9, 1e9, n, quant) for n in (1, 512))
        assert one_s == pytest.approx(max(1 / bandwidth_gb_s, 2e9 / (tflop_s * 1e12)))
        assert many_s == pytest.approx(512 * 2e9 / (tflop_s * 1e12))
    lonely = rates(msgspec.structs.replace(host, speeds=speeds[:1]))
    assert lonely.product_s(1e9, 0, 1, "q4_K") == pytest.approx(1 / 40)


def test_a_processors_measured_attention_and_operations() -> None:
    host = Device(
        name="CPU", type="cpu", memory_bytes=0, bandwidth_gb_s=40, tflop_s=0.1, source="measured",
        attention_gmac_s=8, kv_gb_s=5, op_s=1e-6,
    )  # fmt: skip
    flash, plain = rates(host), rates(host, has_flash=False)
    assert flash.kv_byte_s == plain.kv_byte_s == pytest.approx(1 / 5e9)
    assert flash.state_byte_s == pytest.approx(1 / 40e9)
    assert flash.kv_product_s == pytest.approx(1 / 8e9)
    assert plain.kv_product_s == 0
    assert (flash.kv_block, plain.kv_block) == (1, 256)
    assert flash.layer_s == pytest.approx(LAYER_OPS * 1e-6)
    told = rates(msgspec.structs.replace(host, source="file"))
    assert told.kv_byte_s == told.byte_s
    assert told.kv_product_s == 0
    assert told.layer_s == CPU_LAYER_S


def test_a_gpus_law_knows_no_processors_figures() -> None:
    for source in ("measured", "catalogue"):
        gpu = card_device("RTX 4090", source=source)
        figures = msgspec.structs.replace(gpu, attention_gmac_s=8, kv_gb_s=5, op_s=1e-6)
        assert rates(figures) == rates(gpu)


def test_a_figure_for_32_bit_accumulation_is_taken_for_what_it_is() -> None:
    full, half = card_device("RTX 4090"), card_device("RTX 4090", source="file", tflop_s=165.0)
    assert rates(half).flop_s == pytest.approx(rates(full).flop_s)
    own = card_device("RTX 4090", source="file", tflop_s=250.0)
    assert rates(own).flop_s > rates(full).flop_s


def test_a_gpu_without_a_name_goes_by_its_figures() -> None:
    known = card_device("A100 PCIe 80GB")
    unnamed = msgspec.structs.replace(known, kind="", source="file")
    assert read_gb_s(unnamed) == pytest.approx(read_gb_s(known))


def test_a_remote_device_is_what_its_kind_says() -> None:
    gpu = card_device("RTX 3090", type="rpc", endpoint="10.0.0.2:50052")
    cpu = card_device("RTX 3090", type="rpc", kind="AMD EPYC 7B13", bandwidth_gb_s=40, tflop_s=0.5)
    assert rates(gpu).is_gpu
    assert not rates(cpu).is_gpu
    assert rates(gpu).byte_s == rates(card_device("RTX 3090")).byte_s


def test_without_flash_attention_caches_are_slower() -> None:
    device = card_device("RTX 4090")
    plain, flash = rates(device, has_flash=False), rates(device)
    assert plain.kv_byte_s > 2 * flash.kv_byte_s
    assert plain.score_s > flash.score_s == 0


def test_quantised_weights_bind_apple_by_unpacking() -> None:
    reached = rates(card_device("Apple M1 Max"))
    nbytes = 1e9
    f16_s = reached.product_s(nbytes, nbytes / 2, 1, "f16")
    q4_s = reached.product_s(nbytes, nbytes * 8 / 4.5, 1, "q4_K")
    assert q4_s > 1.8 * f16_s
    nvidia = rates(card_device("RTX 3090"))
    assert nvidia.product_s(nbytes, nbytes * 8 / 4.5, 1, "q4_K") == pytest.approx(
        nvidia.product_s(nbytes, nbytes / 2, 1, "f16")
    )


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("field", ["bandwidth_gb_s", "tflop_s"])
def test_figures_that_cannot_be(field: str, bad: float) -> None:
    with pytest.raises(ValueError, match="gpu0 needs a bandwidth and a compute rate above 0"):
        rates(card_device("RTX 4090", **{field: bad}))


@given(
    bandwidth=st.floats(20, 10_000),
    tflop=st.floats(0.1, 3000),
    factor=st.floats(1.01, 4),
    kind=st.sampled_from(["RTX 3060", "H100 SXM", "RX 7900 XTX", "Arc B580", "Apple M3 Max"]),
)
def test_a_card_with_better_figures_is_never_slower(
    bandwidth: float, tflop: float, factor: float, kind: str
) -> None:
    worse = card_device(kind, bandwidth_gb_s=bandwidth, tflop_s=tflop)
    better = msgspec.structs.replace(worse, bandwidth_gb_s=bandwidth * factor)
    assert rates(better).byte_s <= rates(worse).byte_s
    assert rates(better).kv_byte_s <= rates(worse).kv_byte_s


def test_another_law_is_another_device() -> None:
    device = card_device("RTX 4090")
    slower = rates(device, law=Law(read_efficiency=0.5))
    assert slower.byte_s > 1.7 * rates(device).byte_s
