"""AVG-LLaVA's router: a transformer layer, an MLP and a voter over a picture at all granularities, and words.

Shape letters: N pictures, V visual tokens of one picture, L tokens that the router reads of it, W words, D model
width, E granularities.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, normalize, relu, scaled_dot_product_attention

from dpn_model.methods.avg_llava.spec import HEADS


class Router(nn.Module):
    """float[N, L, D] of some samples' pictures -> float32[B, E] logits, means over each sample's pictures."""

    def __init__(self, width: int, tokens: int, experts: int, attention: str, share_dropped: float) -> None:
        super().__init__()
        self.layer = EncoderLayer(width, attention, share_dropped)
        self.hidden = nn.Linear(width, width)
        self.votes = nn.Linear(width, experts)
        self.voter = Voter(tokens)
        self.norm = nn.LayerNorm(experts)

    def reset_parameters(self) -> None:
        """As the authors: Kaiming for the MLP, normal for the voter, PyTorch's own elsewhere."""
        for module in (self.layer, self.hidden, self.votes, self.voter, self.norm):
            module.reset_parameters()
        for linear in (self.hidden, self.votes):
            nn.init.kaiming_normal_(linear.weight)

    def forward(self, tokens_NLD: Tensor, pictures: Sequence[int]) -> Tensor:
        """`pictures`: how many of the N every sample has, in order."""
        votes_NLE = self.votes(gelu(self.hidden(self.layer(tokens_NLD, pictures))))
        elected_NE = self.voter(votes_NLE)
        means = [sample_NE.mean(dim=0) for sample_NE in elected_NE.split(list(pictures))]
        return self.norm(torch.stack(means) if means else elected_NE).float()


class EncoderLayer(nn.Module):
    """A transformer layer as PyTorch's: norms behind attention and FFN, ReLU, the FFN as wide as the model."""

    def __init__(self, width: int, attention: str, share_dropped: float) -> None:
        super().__init__()
        self.attention, self.share_dropped = attention, share_dropped
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def reset_parameters(self) -> None:
        """PyTorch's."""
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]
        nn.init.xavier_uniform_(self.queries_keys_values.weight)
        nn.init.zeros_(self.queries_keys_values.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens_NLD: Tensor, pictures: Sequence[int]) -> Tensor:
        """float[N, L, D] to the same."""
        attended = self._drop(self.output(self._attend(self.queries_keys_values(tokens_NLD), pictures)))
        tokens_NLD = self.norm1(tokens_NLD + attended)
        fed = self._drop(self.narrow(self._drop(relu(self.wide(tokens_NLD)))))
        normed: Tensor = self.norm2(tokens_NLD + fed)
        return normed

    def _attend(self, projected_NLX: Tensor, pictures: Sequence[int]) -> Tensor:
        """float[N, L, 3 D] -> float[N, L, D]: among the tokens of a picture, or the pictures of a sample."""
        heads = projected_NLX.unflatten(2, (3, HEADS, -1))
        dropped = self.share_dropped if self.training else 0.0
        if self.attention == "tokens":
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            out = scaled_dot_product_attention(query, key, value, dropout_p=dropped)
            return out.permute(0, 2, 1, 3).flatten(2)
        found = [heads.new_empty(0, heads.shape[1], HEADS, heads.shape[4])]
        for sample in heads.split(list(pictures)):
            query, key, value = sample.permute(2, 1, 3, 0, 4)
            out = scaled_dot_product_attention(query, key, value, dropout_p=dropped)
            found.append(out.permute(2, 0, 1, 3))
        # of no picture an empty slice, which ties the projection to the graph
        return torch.cat(found if pictures else [heads[:, :, 0]]).flatten(2)

    def _drop(self, hidden: Tensor) -> Tensor:
        return dropout(hidden, self.share_dropped, self.training)


class Voter(nn.Module):
    """A weight per place: what all tokens of a picture elect together."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tokens, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """N(0, 1)."""
        nn.init.normal_(self.weight)

    def forward(self, votes_NLE: Tensor) -> Tensor:
        """float[N, E]."""
        return (votes_NLE.transpose(1, 2) @ self.weight).squeeze(2)


def heard_words(picture_VD: Tensor, words_WD: Tensor, count: int) -> Tensor:
    """float[count, D]: the words most like a picture (mean cosine with its tokens), most alike first, 0 behind them."""
    mean_D = normalize(picture_VD.float(), dim=-1).mean(dim=0)
    likeness_W = (normalize(words_WD.float(), dim=-1) * mean_D).sum(dim=-1)
    heard = words_WD[likeness_W.sort(descending=True, stable=True).indices[:count]]
    return torch.cat([heard, heard.new_zeros(count - len(heard), heard.shape[1])])
