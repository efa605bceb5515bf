"""The embedded model: a decoder of the Qwen3 architecture, small enough to train on two cores.

RMS norms before attention and MLP, grouped-query attention with normed queries and keys, rotary
positions (halves rotated), SwiGLU, tied embeddings (Qwen3 technical report, arXiv 2505.09388).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, as everywhere


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the model; names as in a GGUF's metadata."""

    vocab_size: int
    context_length: int = 2048
    embedding_length: int = 256
    block_count: int = 5
    head_count: int = 4
    head_count_kv: int = 2
    key_length: int = 64
    feed_forward_length: int = 640
    rope_freq_base: float = 10_000.0
    rms_epsilon: float = 1e-6


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        d, kv = shape.embedding_length, shape.head_count_kv * shape.key_length
        inner = shape.head_count * shape.key_length
        self.qkv = nn.Linear(d, inner + 2 * kv, bias=False)
        self.output = nn.Linear(inner, d, bias=False)
        self.q_norm = nn.RMSNorm(shape.key_length, shape.rms_epsilon)
        self.k_norm = nn.RMSNorm(shape.key_length, shape.rms_epsilon)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: [batch, time, embedding]."""
        shape = self.shape
        batch, time, _ = x.shape
        heads = self.qkv(x).view(batch, time, -1, shape.key_length)
        q, k, v = heads.split((shape.head_count, shape.head_count_kv, shape.head_count_kv), dim=2)
        q = _rotated(self.q_norm(q), cos, sin).transpose(1, 2)
        k = _rotated(self.k_norm(k), cos, sin).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        return self.output(mixed.transpose(1, 2).reshape(batch, time, -1))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, ff = shape.embedding_length, shape.feed_forward_length
        self.attn_norm = nn.RMSNorm(d, shape.rms_epsilon)
        self.attn = Attention(shape)
        self.ffn_norm = nn.RMSNorm(d, shape.rms_epsilon)
        self.gate_up = nn.Linear(d, 2 * ff, bias=False)
        self.down = nn.Linear(ff, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.attn_norm(x), cos, sin)
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_length)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.block_count))
        self.norm = nn.RMSNorm(shape.embedding_length, shape.rms_epsilon)
        cos, sin = _angles(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:  # what a block adds starts small, so that depth does no harm
            nn.init.zeros_(block.attn.output.weight)
            nn.init.zeros_(block.down.weight)

    def hidden(self, tokens: Tensor) -> Tensor:
        """tokens [batch, time] to normed hidden states [batch, time, embedding]."""
        time = tokens.shape[1]
        cos, sin = self.cos[:time, None], self.sin[:time, None]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., embedding] to logits [..., vocabulary]."""
        return F.linear(hidden, self.embedding.weight)

    def loss(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """The sum over tokens[:, 1:] of -log p, weighted. tokens, weights: [batch, time].

        Positions without weight cost no logits.
        """
        states = self.hidden(tokens[:, :-1])
        weights = weights[:, 1:]
        at = weights > 0
        losses = F.cross_entropy(self.logits(states[at]), tokens[:, 1:][at], reduction="none")
        return (losses * weights[at]).sum()


def _angles(shape: Shape) -> tuple[Tensor, Tensor]:
    """cos, sin: [time, key_length / 2]."""
    half = torch.arange(0, shape.key_length, 2, dtype=torch.float64) / shape.key_length
    angles = torch.outer(
        torch.arange(shape.context_length, dtype=torch.float64), shape.rope_freq_base**-half
    )
    return angles.cos().float(), angles.sin().float()


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
