"""Joint cross-attention and the dynamic gate over it: what ``jca`` and ``rjca`` share.

With X_m time-major (L x d_m), J = [X_1, ..., X_M] (L x d), for every stream m (Praveen et al., CVPRW 2022):

    C_m = tanh(X_m^T W_jm J / sqrt(d))         d_m x d     feature by joint-feature correlation
    H_m = ReLU(W_m X_m + W_cm C_m^T)           k x d_m     attention maps
    X_att,m = W_hm H_m + X_m                   L x d_m     attended features

Dynamic cross-attention (DCA, Praveen et al., ICME 2024), per token and stream:

    g = softmax(W_gm X_att,m / temperature)    2           how much to trust attention
    X_m' = ReLU(g_0 X_m + g_1 X_att,m)         d_m
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cache.errors import UsageError
from fuse.heads._maps import AttentionMap, rows_of

MEANS = (
    "The equations have no weights over time or streams. What they have instead is this correlation, once a window: "
    "each feature of the first (rows) with each of the second (columns)."
)
GATE = "At each moment, how much of a stream stays as it was, and how much is what joint attention made of it."


def joint_cross_attention(
    x: Mapping[str, Tensor],
    w_j: Mapping[str, Tensor],
    w: Mapping[str, Tensor],
    w_c: Mapping[str, Tensor],
    w_h: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The three equations above. x[m]: [B,L,d_m], in the order in which J joins them. Returns X_att of same shapes."""
    joint = torch.cat(list(x.values()), dim=-1)  # J [B,L,d]
    attended = {}
    for m, x_m in x.items():
        c = joint_correlation(x_m, w_j[m], joint)
        h = torch.relu(x_m.mT @ w[m].mT + c @ w_c[m].mT)  # H_m^T [B,d_m,k]: one product for all windows
        attended[m] = (h @ w_h[m].mT).mT + x_m  # X_att,m [B,L,d_m]
    return attended


def joint_correlation(x_m: Tensor, w_j: Tensor, joint: Tensor) -> Tensor:
    """C_m: [B,d_m,d], the one large tensor, in place. x_m: [B,L,d_m]; w_j: [L,L]; joint: J, [B,L,d]."""
    scale = 1 / math.sqrt(joint.shape[-1])
    return (x_m.mT @ ((scale * w_j) @ joint)).tanh_()


def correlation_maps(stage: str, x: Mapping[str, Tensor], w_j: Mapping[str, Tensor]) -> list[AttentionMap]:
    """C_m of every stream, cut into its blocks: features of m by features of each. x[m]: [B,L,d_m]."""
    joint, widths = torch.cat(list(x.values()), dim=-1), [v.shape[-1] for v in x.values()]
    return [
        AttentionMap(stage, m, (n,), "features", MEANS, block)
        for m in x
        for n, block in zip(x, joint_correlation(x[m], w_j[m], joint).split(widths, dim=-1), strict=True)
    ]


def matrices(names: tuple[str, ...], rows: int, columns: int) -> nn.ParameterDict:
    """One rows x columns matrix per stream, initialised as a bias-free torch Linear is."""
    return nn.ParameterDict(
        {m: nn.Parameter(nn.init.kaiming_uniform_(torch.empty(rows, columns), a=math.sqrt(5))) for m in names}
    )


def plain(parameters: nn.ParameterDict) -> dict[str, Tensor]:
    """As a dict that a function can be told of."""
    return dict(parameters.items())


def check_length(head: str, built_for: int, given: int) -> None:
    """Raises UsageError where a window has another length than the one the weights were made for."""
    if given != built_for:
        raise UsageError(
            f"head {head!r} was built for windows of {built_for} tokens, got {given}",
            hint="its weights depend on the window length: pad to it, or train at the other length",
        )


class DynamicGate(nn.Module):
    """DCA's gate, one per stream. Where all other streams are absent throughout a window, g_0 = 1."""

    def __init__(self, names: tuple[str, ...], width: int, temperature: float) -> None:
        """Raises UsageError for a single stream, whose gate would always be shut, and for a useless temperature."""
        super().__init__()
        if len(names) < 2:
            raise UsageError("the gate (dca) chooses between a stream and what others say of it: it needs 2 streams")
        if not temperature > 0:
            raise UsageError(f"gate_temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self.W_g = nn.ModuleDict({m: nn.Linear(width, 2) for m in names})

    def forward(self, x: dict[str, Tensor], attended: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """x[m], attended[m]: [B,L,d_m]; seen[m]: bool[B,L] -> [B,L,d_m]."""
        out = {}
        for m in self.W_g:
            g = self.weights(m, attended[m], seen)  # [B,L,2]
            out[m] = torch.relu(g[..., :1] * x[m] + g[..., 1:] * attended[m])
        return out

    def weights(self, m: str, attended: Tensor, seen: dict[str, Tensor]) -> Tensor:
        """g of stream m: [B,L,2]."""
        g = (self.W_g[m](attended) / self.temperature).softmax(dim=-1)
        others = torch.stack([s for n, s in seen.items() if n != m]).any(dim=0).any(dim=-1)  # [B]
        return torch.where(others[:, None, None], g, g.new_tensor([1.0, 0.0]))

    def attention_maps(
        self, x: dict[str, Tensor], attended: dict[str, Tensor], seen: dict[str, Tensor]
    ) -> list[AttentionMap]:
        """g of every stream, over itself and what attention made of it."""
        return [
            AttentionMap(
                "gate", m, ("itself", "attended"), "streams", GATE, rows_of(self.weights(m, attended[m], seen), seen[m])
            )
            for m in x
        ]
