"""What a model costs to hold and to run, layer by layer, as its GGUF's header tells it."""

from __future__ import annotations

from msgspec import Struct


class LayerShape(Struct, frozen=True, kw_only=True):
    """One repeating layer.

    weight_bytes: of all its tensors; expert_bytes of these are routed experts', of which a token
    reads active_expert_bytes. num_params: multiplied for each token, of experts those it meets
    (active_expert_params of them). k_width, v_width: elements of K and V that a token leaves in
    the cache, 0 where the layer caches none; head_width divides one head of either. window: it
    attends to so many last tokens, 0 to all. state_bytes: of a recurrent state, for each sequence.
    attention_width: query heads x head size.
    quant: the type that most of its bytes have. pad_bytes: what CUDA's padding of rows adds.
    """

    weight_bytes: int
    num_params: float
    expert_bytes: int = 0
    active_expert_bytes: float = 0.0
    active_expert_params: float = 0.0
    k_width: int = 0
    v_width: int = 0
    head_width: int = 0
    window: int = 0
    state_bytes: int = 0
    attention_width: int = 0
    quant: str = ""
    pad_bytes: int = 0

    @property
    def read_bytes(self) -> float:
        """Weights that one decode pass of one token reads."""
        return self.weight_bytes - self.expert_bytes + self.active_expert_bytes


class ModelShape(Struct, frozen=True, kw_only=True):
    """One model file (all its splits). name: what the planner calls the model, equal for several
    quantisations of one. input_bytes: the token embedding, which lies on the host; output_bytes:
    the head with its norm, behind the last layer (a tied embedding is there a second time).
    is_known: False for an architecture whose memory is only bounded from above. tied_bytes: of
    output_bytes, what a host that holds the head and the embedding holds once. shared_bytes: of
    tensors that every device has which holds a layer. output_pad_bytes: as LayerShape.pad_bytes.
    """

    name: str
    file: str
    architecture: str
    quant: str
    ctx_train: int
    num_vocab: int
    num_embd: int
    num_params: float
    layers: tuple[LayerShape, ...]
    input_bytes: int
    output_bytes: int
    output_params: float
    output_quant: str = ""
    num_experts: int = 0
    num_experts_used: int = 0
    is_known: bool = True
    tied_bytes: int = 0
    shared_bytes: int = 0
    output_pad_bytes: int = 0

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def weight_bytes(self) -> int:
        """Of everything, as it lies on devices and host."""
        layers = sum(layer.weight_bytes for layer in self.layers)
        return layers + self.input_bytes + self.output_bytes
