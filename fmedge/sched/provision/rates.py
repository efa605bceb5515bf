"""What llama.cpp reaches of a device's figures.

The rule: one law with few constants holds for all GPUs; each constant has a physical meaning, and
none belongs to a card. A device whose figures were measured reaches them.

    reading     1 / rate^4 = 1 / (read_efficiency * bandwidth)^4 + 1 / (sm_bytes * SMs * clock)^4
                the second being what multiprocessors keep in flight (Little's law): it binds where
                memory is stacked. ECC inside ordinary memory takes a part of the bandwidth.
    multiplying 1 / rate^4 = 1 / (compute_efficiency * peak)^4 + 1 / (board power / flop_j)^4
                so many joules an operation: what binds large cards with a low power limit.
                Quantised weights take quant_flops as many operations.
    launching   layer_s * (1 + NOMINAL_GHZ / clock) / 2 for each layer of a pass: half of it the
                host's, half the latency of small kernels.
    caches      with flash attention at kv_efficiency * bandwidth; without it, and for scores in a
                prefill, see the constants below.

The first four constants of LAW are fitted to the decode speeds of one model in two types on 16
NVIDIA cards (llama.cpp of May 2024; bench/plan/speed.py, which leaves each card out in turn), the
others to the prefill speeds there. The exponents and the split of launches were chosen, and HOP_S
and what is slower without flash attention set, by further runs of the same publication
(XiongjieDai, GPU-Benchmarks-on-LLM-Inference: 70B, 2 to 8 cards, deeper caches, Apple). Later
builds launch faster: on small models these priors err towards slow.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf

from msgspec import Struct

from fmedge.sched.provision import catalogue
from fmedge.sched.provision.catalogue import Card
from fmedge.sched.provision.device import Device, TypeSpeed


class Law(Struct, frozen=True, kw_only=True):
    """The constants that are fitted. flop_j: joules an operation; coarse_flop_j: of chips in
    Samsung's 8 nm process or an older one."""

    read_efficiency: float = 0.940
    ecc_efficiency: float = 0.890
    sm_bytes: float = 7.01
    layer_s: float = 67.6e-6
    compute_efficiency: float = 0.625
    quant_flops: float = 1.316
    flop_j: float = 2.47e-12
    coarse_flop_j: float = 3.99e-12


LAW = Law()

NOMINAL_GHZ = 2.0
HOP_S = 250e-6
"""From one device to the next one: the scheduler waits, copies and launches anew."""

RPC_S = 250e-6
"""Either end of a hop at a device server, beside the link: one on loopback adds 0.4 to 0.9 ms to a
step, a second and a third one 0.4 to 1.7 ms each (medians 0.8 and 1.5 of a small and of a larger
model), of which the links take 0.2 to 0.3 ms."""

PASS_S = 100e-6
"""Once a step: the graph's inputs, the logits' way back, the samplers."""

CPU_PASS_S = 10e-6

KV_EFFICIENCY = 0.85
"""Flash attention: RTX 3090, RTX 4090 and RX 7900 XTX at depths of 4k to 32k tokens (llama.cpp
pull requests 17505 and 26284)."""

ATTENTION_EFFICIENCY = 0.25
"""Of the peak, by flash attention in a prefill: RTX 3090 at a depth of 32k tokens (the same)."""

PLAIN_KV_SHARE, PLAIN_KV_S_GHZ = 0.8, 5.3e-12
"""Without flash attention: the share of a cache that is read at full bandwidth, and seconds x GHz
for each of its bytes beside that: rows of the soft-max are few and long."""

SCORE_BYTES = 31
"""Without flash attention, memory traffic of each score of a prefill: written, normalised, read."""

OTHER_READ_EFFICIENCY = 0.70
"""GPUs of AMD (RX 7900 XTX: 0.67) and Intel (Arc B580: 0.74), decoding 7B to 8B as Q4_K."""

APPLE_CORE_WEIGHTS = 8.0
"""Quantised weights that an Apple GPU core unpacks in a clock cycle: M1 Max, M2 Ultra, M3 Max."""

CPU_READ_EFFICIENCY = 0.75
CPU_COMPUTE_EFFICIENCY = 0.5
CPU_LAYER_S = 18e-6
"""Of a layer that takes no time, with two threads (8 us with one)."""

LAYER_OPS = 50
"""A layer's operations, and what its products take beyond reading, in operations that compute next
to nothing: 0 to 70 us with one thread, where one takes 0.2 to 0.3 us, and 100 to 210 us with two,
where it takes 0.7 to 2 us (layers 1024 and 2048 wide)."""

PLAIN_BLOCK = 256
"""Without flash attention a processor computes the scores of whole blocks of so many cells."""

_COARSE = frozenset(("pascal", "volta", "turing", "ampere", "gcn"))
_PLAIN = frozenset(("f32", "f16", "bf16"))
_BITS = {
    "q8_0": 8.5, "q6_k": 6.5625, "q5_k": 5.5, "q5_1": 6.0, "q5_0": 5.5, "q4_k": 4.5, "q4_1": 5.0,
    "q4_0": 4.5, "q3_k": 3.4375, "q2_k": 2.625, "mxfp4": 4.25, "iq4_xs": 4.25, "iq4_nl": 4.5,
}  # fmt: skip


class Rates(Struct, frozen=True, kw_only=True):
    """What a device reaches. Seconds for each byte of weights read, for each weight unpacked from
    a quantised type beside the reading, for each byte of cache and of recurrent states read, for
    each floating-point operation, and for each product of an attention in decode beside reading;
    kv_block: caches are read in blocks of so many tokens; score_s: for each attention score of a
    prefill; layer_s: for each layer of a pass; is_gpu: it works asynchronously. measured: what was
    timed by type, which then counts alone."""

    byte_s: float
    unpack_s: float
    kv_byte_s: float
    flop_s: float
    quant_flops: float
    attention_flop_s: float
    score_s: float
    layer_s: float
    is_gpu: bool
    measured: tuple[TypeSpeed, ...] = ()
    state_byte_s: float = 0.0
    kv_product_s: float = 0.0
    kv_block: int = 1

    def product_s(self, nbytes: float, num_params: float, num_tokens: float, quant: str) -> float:
        """A matrix of num_params weights in nbytes of type `quant` times num_tokens vectors."""
        flops = 2 * num_params * num_tokens
        if self.measured:
            speed = _closest(self.measured, quant.lower())
            return max(nbytes / (speed.bandwidth_gb_s * 1e9), flops / (speed.tflop_s * 1e12))
        if quant.lower() in _PLAIN:
            return max(nbytes * self.byte_s, flops * self.flop_s)
        num_weights = 8 * nbytes / _BITS.get(quant.lower(), 4.5)
        read_s = _norm(nbytes * self.byte_s, num_weights * self.unpack_s)
        return max(read_s, flops * self.flop_s * self.quant_flops)


def _closest(speeds: tuple[TypeSpeed, ...], quant: str) -> TypeSpeed:
    """Of this type; else of another plain one, or of the quantised one that is unpacked with most
    work, as all but q8_0 are."""
    known = {speed.quant.lower(): speed for speed in speeds}
    wanted = (quant, "f16" if quant in _PLAIN else "q4_k")
    return next((known[name] for name in wanted if name in known), speeds[0])


def _norm(*parts: float) -> float:
    """A smooth maximum: the fourth root of the sum of fourth powers."""
    most = max(parts)
    return most and most * sum((part / most) ** 4 for part in parts) ** 0.25


@lru_cache(maxsize=1024)
def rates(device: Device, *, has_flash: bool = True, law: Law = LAW) -> Rates:
    """has_flash: attention by one fused kernel. ValueError where a figure is not above 0."""
    if not (0 < device.bandwidth_gb_s < inf and 0 < device.tflop_s < inf):
        raise ValueError(f"{device.name} needs a bandwidth and a compute rate above 0")
    card = catalogue.find(device.kind) if device.kind else None
    is_gpu = device.type in ("gpu", "igpu") or (device.type == "rpc" and card is not None)
    byte_s, flop_s = 1 / (device.bandwidth_gb_s * 1e9), 1 / (device.tflop_s * 1e12)
    if is_gpu and device.source != "measured":
        known = card or catalogue.closest(device.bandwidth_gb_s, device.tflop_s)
        return _gpu(device, known, has_flash, law)
    is_measured = device.source == "measured"
    ghz = card.boost_ghz if card else NOMINAL_GHZ
    flop_s /= 1.0 if is_measured else CPU_COMPUTE_EFFICIENCY
    byte_s /= 1.0 if is_measured else CPU_READ_EFFICIENCY
    has_products = is_measured and not is_gpu and has_flash and device.attention_gmac_s > 0
    has_caches = is_measured and not is_gpu and device.kv_gb_s > 0
    has_ops = is_measured and not is_gpu and device.op_s > 0
    cpu_layer_s = LAYER_OPS * device.op_s if has_ops else CPU_LAYER_S
    return Rates(
        byte_s=byte_s,
        unpack_s=0.0,
        kv_byte_s=1e-9 / device.kv_gb_s if has_caches else byte_s,
        state_byte_s=byte_s,
        kv_product_s=1e-9 / device.attention_gmac_s if has_products else 0.0,
        kv_block=1 if is_gpu or has_flash else PLAIN_BLOCK,
        flop_s=flop_s,
        quant_flops=1.0,
        attention_flop_s=flop_s * (law.compute_efficiency / ATTENTION_EFFICIENCY if is_gpu else 1),
        score_s=0.0,
        layer_s=_launch_s(law, ghz) if is_gpu else cpu_layer_s,
        is_gpu=is_gpu,
        measured=device.speeds if is_measured else (),
    )


def _launch_s(law: Law, ghz: float) -> float:
    return law.layer_s * (1 + NOMINAL_GHZ / ghz) / 2


def _gpu(device: Device, card: Card, has_flash: bool, law: Law) -> Rates:
    """A GPU by its data sheet, of whose maker and build a card tells."""
    sm_hz = card.num_sms * card.boost_ghz * 1e9
    byte_s = 1 / (device.bandwidth_gb_s * 1e9)
    is_nvidia = card.maker == "nvidia"
    read_efficiency = law.read_efficiency
    if card.maker in ("amd", "intel"):
        read_efficiency = OTHER_READ_EFFICIENCY
    if card.has_inline_ecc:
        read_efficiency *= law.ecc_efficiency
    tflop_s = device.tflop_s
    if is_nvidia and abs(2 * tflop_s / card.fp16_tflop_s - 1) < 0.05:
        tflop_s *= 2  # the same card's figure with 32-bit accumulation
    flop_s = 1 / (law.compute_efficiency * tflop_s * 1e12)
    if card.power_w:
        joules = law.coarse_flop_j if card.generation in _COARSE else law.flop_j
        flop_s = _norm(flop_s, joules / card.power_w)
    plain_kv_s = PLAIN_KV_SHARE * byte_s + PLAIN_KV_S_GHZ / card.boost_ghz
    return Rates(
        byte_s=_norm(byte_s / read_efficiency, 1 / (law.sm_bytes * sm_hz) if is_nvidia else 0.0),
        unpack_s=1 / (APPLE_CORE_WEIGHTS * sm_hz) if card.maker == "apple" else 0.0,
        kv_byte_s=byte_s / KV_EFFICIENCY if has_flash else plain_kv_s,
        state_byte_s=byte_s / KV_EFFICIENCY if has_flash else plain_kv_s,
        flop_s=flop_s,
        quant_flops=law.quant_flops,
        attention_flop_s=1 / (ATTENTION_EFFICIENCY * tflop_s * 1e12) if has_flash else 0.0,
        score_s=0.0 if has_flash else SCORE_BYTES * byte_s,
        layer_s=_launch_s(law, card.boost_ghz),
        is_gpu=True,
    )
