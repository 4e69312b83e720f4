"""A small decoder-only transformer, after GPT-2 (Radford et al. 2019): learned positions, norms before each part, GELU.

Differs from GPT-2: its size, no dropout, and biases nowhere but in the norms. The input and the output embedding are
one matrix (Press & Wolf 2017) unless `tied` is false; then the output has a matrix of its own. A tied matrix is one
parameter: it is decayed once, and counts once in norms and curvature.

Unit layers, in forward order, are `embedding`, the sum of token and position embedding, and of each block `mlp1`, ...,
the hidden units of its perceptron after GELU, and `stream1`, ..., the residual stream behind it. Their samples are
tokens: a unit layer of h units gives a matrix of b L rows and h columns (docs/networks.md).
"""

import math

from torch import Tensor, arange, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from gapscope.errors import InputError
from gapscope.models.units import Unit

STD = 0.02  # of initial weights; Radford et al. 2019, section 2.3, as in their code


class Attention(nn.Module):
    """Causal self-attention of several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """Return what attention adds to the stream (b, L, width)."""
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(stream).chunk(3, 2)
        )
        # a measure that differentiates twice asks for the plain form (numerics.loss_surface.hessian_products)
        mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then a perceptron of one hidden layer; each behind a norm and added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.hidden = Unit(nn.Linear(width, 4 * width, bias=False), nn.Identity(), nn.GELU())
        self.back = nn.Linear(4 * width, width, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """Return the stream (b, L, width) behind the block."""
        stream = stream + self.attention(self.norm1(stream))
        return stream + self.back(self.hidden(self.norm2(stream)))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """The transformer.

    Args:
        image_shape: the length of a sequence, (L,); shorter ones can be given too.
        classes: number of different tokens.
        layers: number of blocks.
        units: width of the residual stream.
        heads: of attention, in each block.
        tied: one matrix embeds tokens and gives the logits.
        width: factor of the width, rounded to a multiple of the number of heads.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        classes: int,
        *,
        layers: int,
        units: int,
        heads: int,
        tied: bool = True,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        units = heads * max(1, round(width * units / heads))
        self.tokens, self.positions = nn.Embedding(classes, units), nn.Embedding(image_shape[0], units)
        self.embedding = nn.Identity()  # where the first stream is measured
        self.blocks = nn.ModuleList(Block(units, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(units)
        self.head = None if tied else nn.Linear(units, classes, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # those that add to the stream are smaller: it has 2 `layers` summands
                nn.init.normal_(
                    parameter, std=STD / (math.sqrt(2 * layers) if name.endswith(("out.weight", "back.weight")) else 1)
                )

    @property
    def unit_layers(self) -> dict[str, nn.Module]:
        """Hidden layers by name, in forward order; their samples are tokens."""
        found: dict[str, nn.Module] = {"embedding": self.embedding}
        for number, block in enumerate(self.blocks, 1):
            found |= {f"mlp{number}": block.hidden, f"stream{number}": block}  # type: ignore[dict-item]
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (b, L, classes) of tokens (b, L): at each token, of the one that follows."""
        length, longest = tokens.shape[1], self.positions.num_embeddings
        if length > longest:
            raise InputError(f"sequences of {length} tokens are given to a network with {longest} positions")
        stream = self.embedding(self.tokens(tokens) + self.positions(arange(length, device=tokens.device)))
        for block in self.blocks:
            stream = block(stream)
        return linear(self.norm(stream), self.tokens.weight if self.head is None else self.head.weight)
