"""A device as the provisioner sees it, whether it is here or only described."""

from __future__ import annotations

from math import inf
from typing import Literal

from msgspec import Struct

HOST = "CPU"
"""ggml's name of the host's own processor, which takes whatever no other device does."""


class TypeSpeed(Struct, frozen=True, kw_only=True):
    """What a device was measured to reach with weights of one ggml type ("q8_0"): reading them in
    1e9 bytes/s, and products with 512 tokens (a slow device: fewer) in 1e12 flops/s."""

    quant: str
    bandwidth_gb_s: float
    tflop_s: float


class Device(Struct, frozen=True, kw_only=True):
    """One device. memory_bytes: what a plan may count on, the device being free of our own
    replicas; reserve_bytes of it stay untouched. backend_bytes: what one process that uses it
    costs on it beside buffers. bandwidth_gb_s (1e9 bytes) and tflop_s (dense 16-bit) are peaks
    where `source` is a data sheet's ("catalogue", "file"), reached ones where "measured".
    link_gb_s, link_s: from and to the host, a transfer's bandwidth and its latency. endpoint: the
    RPC server that offers it, "" on this machine. speeds: where measured, by type of the weights.
    attention_gmac_s, kv_gb_s: where measured, a processor's fused attention in decode: 1e9 products
    a second, and 1e9 bytes a second of keys and values that come from memory; op_s: an operation
    that computes next to nothing. 0: not measured.
    """

    name: str
    type: Literal["cpu", "gpu", "igpu", "rpc"]
    memory_bytes: int
    bandwidth_gb_s: float
    tflop_s: float
    kind: str = ""
    backend: str = ""
    reserve_bytes: int = 0
    backend_bytes: int = 0
    link_gb_s: float = inf
    link_s: float = 0.0
    num_cores: int = 0
    source: Literal["measured", "catalogue", "file", "guess"] = "guess"
    endpoint: str = ""
    speeds: tuple[TypeSpeed, ...] = ()
    attention_gmac_s: float = 0.0
    kv_gb_s: float = 0.0
    op_s: float = 0.0

    @property
    def capacity_bytes(self) -> int:
        return max(0, self.memory_bytes - self.reserve_bytes)

    @property
    def is_host(self) -> bool:
        return self.type == "cpu"
