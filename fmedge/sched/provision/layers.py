"""What one pass of tokens through one layer takes on a device.

The rule: the longer of reading the weights and of multiplying with them (Williams et al.,
Roofline, CACM 2009), at the device's rates (rates.py), and then the layer's launches, the KV
cache that is read and the attention's products.

Of experts a pass of n tokens reads those that any of them meets: with a share s met by each,
1 - (1 - s)^n of all. A layer on the host reads its weights through the link and multiplies on the
replica's first GPU in passes of OFFLOAD_TOKENS or more (llama.cpp's op_offload), else in place.
"""

from __future__ import annotations

from math import ceil, expm1, log1p

from fmedge.sched.provision.device import Device
from fmedge.sched.provision.rates import HOP_S, LAW, RPC_S, Law, Rates, rates
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.types import EngineSettings

OFFLOAD_TOKENS = 32
VALUE_BYTES = 4
"""Of an activation between layers and of a logit, always f32."""

_HEAD_WIDTH = 128  # of nearly all models' heads, where their number is not known

_KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip


def hop_s(source: Device, target: Device, num_tokens: float, num_embd: int) -> float:
    """Activations of num_tokens from device to device; 0 on one device. Between two that are not
    the host they pass through it: both links count."""
    if source.name == target.name:
        return 0.0
    nbytes = num_tokens * num_embd * VALUE_BYTES
    is_gpu = rates(source).is_gpu or rates(target).is_gpu
    return link_s(source, nbytes) + link_s(target, nbytes) + (HOP_S if is_gpu else 0.0)


def link_s(device: Device, nbytes: float) -> float:
    """So many bytes from the host to the device or back; with a device server it is a message and
    its answer, or one more to start the computing."""
    if device.is_host:
        return 0.0
    start_s = RPC_S + 2 * device.link_s if device.type == "rpc" else device.link_s
    return start_s + nbytes / (device.link_gb_s * 1e9)


class Layers:
    """Passes through layers that lie on `device`. expert_host: the host, where it holds their
    experts. accelerator: the GPU that large passes of layers on the host are lent to. ValueError
    if a device's figure is not above 0."""

    def __init__(
        self,
        shape: ModelShape,
        engine: EngineSettings,
        device: Device,
        expert_host: Device | None = None,
        accelerator: Device | None = None,
        law: Law = LAW,
    ) -> None:
        self._num_embd = shape.num_embd
        self._k_bytes = _KV_BYTES.get(engine.type_k, 2.0)
        self._v_bytes = _KV_BYTES.get(engine.type_v, 2.0)
        has_flash = engine.flash_attn != "off"
        self._device, self._rates = device, rates(device, has_flash=has_flash, law=law)
        self._expert_host = expert_host if expert_host != device else None
        self._law = law
        lender = device if device.is_host else self._expert_host
        borrower = accelerator if device.is_host else device
        can_lend = lender is not None and engine.op_offload
        self._borrower = borrower if can_lend and _borrows(borrower) else None

    def pass_s(self, layer: LayerShape, num_tokens: float) -> float:
        """Weights of one pass, and its launches: what does not depend on the cache."""
        experts = layer.expert_bytes * _share_met(layer, num_tokens)
        dense = layer.weight_bytes - layer.expert_bytes
        dense_params = layer.num_params - layer.active_expert_params
        here, host = self._rates, self._expert_host
        if host is None or not layer.expert_bytes:
            nbytes = dense + experts
            return here.layer_s + self._product_s(
                here, nbytes, layer.num_params, num_tokens, layer.quant
            )
        dense_s = self._product_s(here, dense, dense_params, num_tokens, layer.quant)
        params = layer.active_expert_params
        there_s = 2 * hop_s(host, self._device, num_tokens, self._num_embd)
        at = rates(host, law=self._law)
        there_s += self._product_s(at, experts, params, num_tokens, layer.quant)
        return here.layer_s + dense_s + there_s

    def kv_s(self, layer: LayerShape, depth: float) -> float:
        """Reading one sequence's cache in a decode step: of `depth` tokens, or of as many as the
        layer's window lets it; and a recurrent state, read and written."""
        seen = min(depth, layer.window) if layer.window else depth
        at = self._rates
        if at.kv_block > 1:
            seen = ceil(seen / at.kv_block) * at.kv_block
        nbytes = (layer.k_width * self._k_bytes + layer.v_width * self._v_bytes) * seen
        num_products = 2 * layer.attention_width * seen if layer.k_width else 0.0
        states_s = 2 * layer.state_bytes * at.state_byte_s
        return nbytes * at.kv_byte_s + num_products * at.kv_product_s + states_s

    def attention_s(self, layer: LayerShape, chunk: float, past: float) -> float:
        """Scores and values of a prefill chunk behind `past` tokens: two products, 2 flops each
        for each element of the width; without flash attention the scores go through memory."""
        if not layer.k_width and not layer.v_width:
            return 0.0
        seen = past + chunk / 2
        if layer.window:
            seen = min(seen, layer.window)
        flops = 4 * layer.attention_width * chunk * seen
        num_scores = layer.attention_width / _HEAD_WIDTH * chunk * seen
        return flops * self._rates.attention_flop_s + num_scores * self._rates.score_s

    def head_s(self, shape: ModelShape, num_outputs: float) -> float:
        """The output head for so many tokens."""
        nbytes, params, quant = shape.output_bytes, shape.output_params, shape.output_quant
        return self._product_s(self._rates, nbytes, params, num_outputs, quant or shape.quant)

    def _product_s(
        self, at: Rates, nbytes: float, num_params: float, num_tokens: float, quant: str
    ) -> float:
        """Weights of nbytes times num_tokens vectors; lent where that is what llama.cpp does."""
        if self._borrower is None or at.is_gpu or num_tokens < OFFLOAD_TOKENS:
            return at.product_s(nbytes, num_params, num_tokens, quant)
        there = rates(self._borrower, law=self._law)
        product_s = there.product_s(nbytes, num_params, num_tokens, quant)
        return link_s(self._borrower, nbytes) + product_s


def _borrows(device: Device | None) -> bool:
    """Only GPUs of this machine take over products whose weights lie on the host."""
    return device is not None and device.type == "gpu" and not device.endpoint


def _share_met(layer: LayerShape, num_tokens: float) -> float:
    if not layer.expert_bytes:
        return 0.0
    met = min(1.0, layer.active_expert_bytes / layer.expert_bytes)
    return -expm1(num_tokens * log1p(-met)) if met < 1 else 1.0
