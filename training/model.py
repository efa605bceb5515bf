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


Turns = tuple[Tensor, Tensor]
"""cos and sin of each token's position: [tokens, 1, key_length / 2] each."""


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

    def forward(self, x: Tensor, turns: Turns, lengths: list[int]) -> Tensor:
        """x: [tokens, embedding]."""
        shape = self.shape
        heads = self.qkv(x).view(len(x), -1, shape.key_length)
        q, k, v = heads.split((shape.head_count, shape.head_count_kv, shape.head_count_kv), dim=1)
        q, k = _rotated(self.q_norm(q), turns), _rotated(self.k_norm(k), turns)
        mixed = [
            F.scaled_dot_product_attention(*each, is_causal=True, enable_gqa=True)
            for each in zip(*(heads.transpose(0, 1).split(lengths, 1) for heads in (q, k, v)),
                            strict=True)
        ]  # fmt: skip
        return self.output(torch.cat(mixed, 1).transpose(0, 1).reshape(len(x), -1))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, ff = shape.embedding_length, shape.feed_forward_length
        self.attn_norm = nn.RMSNorm(d, shape.rms_epsilon)
        self.attn = Attention(shape)
        self.ffn_norm = nn.RMSNorm(d, shape.rms_epsilon)
        self.gate_up = nn.Linear(d, 2 * ff, bias=False)
        self.down = nn.Linear(ff, d, bias=False)

    def forward(self, x: Tensor, turns: Turns, lengths: list[int]) -> Tensor:
        x = x + self.attn(self.attn_norm(x), turns, lengths)
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

    def hidden(self, tokens: Tensor, lengths: list[int]) -> Tensor:
        """Texts in a row, with no padding: tokens [sum of lengths] to normed hidden states
        [sum of lengths, embedding]."""
        at = torch.cat([torch.arange(length, device=tokens.device) for length in lengths])
        turns = (self.cos[at, None], self.sin[at, None])
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, turns, lengths)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., embedding] to logits [..., vocabulary]."""
        return F.linear(hidden, self.embedding.weight)

    def losses(self, tokens: Tensor, lengths: list[int]) -> Tensor:
        """-log p of each token in nats, 0 for the first of each text: [sum of lengths]."""
        states = self.hidden(tokens, lengths)[:-1]
        losses = F.cross_entropy(self.logits(states), tokens[1:], reduction="none")
        ends = torch.tensor(lengths, device=tokens.device).cumsum(0)
        return F.pad(losses.index_fill(0, ends[:-1] - 1, 0.0), (1, 0))


def _angles(shape: Shape) -> tuple[Tensor, Tensor]:
    """cos, sin: [time, key_length / 2]."""
    half = torch.arange(0, shape.key_length, 2, dtype=torch.float64) / shape.key_length
    angles = torch.outer(
        torch.arange(shape.context_length, dtype=torch.float64), shape.rope_freq_base**-half
    )
    return angles.cos().float(), angles.sin().float()


def _rotated(x: Tensor, turns: Turns) -> Tensor:
    cos, sin = turns
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
