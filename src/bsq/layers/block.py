"""The pre-norm transformer block. What enters and leaves: tokens (n, T, S, D)."""

from torch import Tensor, nn

from bsq.layers.attention import Attention
from bsq.layers.past import Past
from bsq.layers.positions import Rotary
from bsq.layers.products import Linear, mlp


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = Linear(width, inner)
        self.down = Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return mlp(tokens, self.up, self.down)


class Block(nn.Module):
    """x + Attention(LN x), then x + MLP(LN x)."""

    def __init__(
        self, width: int, head_width: int, mlp_width: int, time: str, window_frames: int | None = None
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, head_width, time, window_frames)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_width)

    def add_nothing(self) -> None:
        """Let tokens pass as they are, until gradients change what is added: the last product of both parts is zero."""
        for last in (self.attention.out, self.mlp.down):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, tokens: Tensor, rotary: Rotary | None, regions: Tensor | None, past: Past | None = None
    ) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens), rotary, regions, past)
        return tokens + self.mlp(self.mlp_norm(tokens))
