"""What a static block may do before its last convolution: the attention of Table VIII, one class each.

All take and return feature maps x (batch, C, frequency, time). C channels are squeezed to S, C / 4 rounded
to 8, where a module has two layers.

squeeze-excitation  gate per channel, from means            srm     gate per channel, from means and spreads
coordinate          gate per channel and row, and column    grn     channels compete by their norms
triplet             gate over each pair of axes             cbam    gate per channel, then per place
global-context      a sum over places, added to each place
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dymn_cli.model.normalisation import norm

if TYPE_CHECKING:
    from dymn_cli.model.config import Block

__all__ = [
    "BlockAttention",
    "ConvolutionalAttention",
    "GlobalContext",
    "GlobalResponseNorm",
    "SequenceAttention",
    "SqueezeExcitation",
    "StyleRecalibration",
    "TripletAttention",
    "attention",
]

SPATIAL_KERNEL = 7
SPREAD_EPS = 1e-5  # added to a variance before its root
RESPONSE_EPS = 1e-6


class ChannelGate(nn.Module):
    """The two linear layers of squeeze-and-excitation: g = σ(W2 · ReLU(W1 · s + b1) + b2)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, squeeze)
        self.fc2 = nn.Linear(squeeze, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gate for each channel: (batch, C, frequency, time) → (batch, C, 1, 1)."""
        squeezed = x.mean(dim=(2, 3))
        hidden = F.relu(self.fc1(squeezed))
        gate = torch.sigmoid(self.fc2(hidden))
        return gate[:, :, None, None]


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation over channels (Hu et al. 2018; MN's blocks 4–6 and 11–15, Table I).

    s_c = mean over f, t of x[c, f, t]
    y[c, f, t] = x[c, f, t] · σ(W2 · ReLU(W1 · s + b1) + b2)[c]
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        # The published models can run several gates side by side; all released ones have this one.
        self.conc_se_layers = nn.ModuleList([ChannelGate(channels, squeeze)])

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel; shapes stay (batch, C, frequency, time)."""
        gate: Tensor = self.conc_se_layers[0](x)
        return x * gate


class SequenceAttention(nn.Module):
    """Coordinate Attention as a module by itself (Hou et al. 2021, eq. 4–8).

        s = hardswish(BN(W · [mean over t of x; mean over f of x] + b))     C → S
        y[c, f, t] = x[c, f, t] · σ(W_F · s[f] + b_F)[c] · σ(W_T · s[t] + b_T)[c]

    In a DyMN the sequences come from the context generation instead (`dymn_cli.model.blocks`).
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, squeeze, 1)
        self.norm = norm(squeeze)
        self.conv_f = nn.Conv2d(squeeze, channels, 1)
        self.conv_t = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel's rows and columns; shapes stay (batch, C, frequency, time)."""
        sequence_f = x.mean(dim=3, keepdim=True)
        sequence_t = x.mean(dim=2, keepdim=True).transpose(2, 3)
        joint = torch.cat([sequence_f, sequence_t], dim=2)
        joint = F.hardswish(cast(Tensor, self.norm(self.conv(joint))))
        joint_f, joint_t = torch.split(joint, [x.shape[2], x.shape[3]], dim=2)
        gate_f = torch.sigmoid(self.conv_f(joint_f))
        gate_t = torch.sigmoid(self.conv_t(joint_t)).transpose(2, 3)
        y: Tensor = x * gate_f * gate_t
        return y


class PlaneGate(nn.Module):
    """Gate for each place of a plane, from what lies across it: g = σ(BN(W * [max; mean])), 7×7."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)
        self.norm = norm(1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, across, a, b) → (batch, 1, a, b)."""
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.norm(self.conv(pooled)))


class TripletAttention(nn.Module):
    """Triplet attention: the mean of three gates, each across one axis (Misra et al. 2021, eq. 1–3).

    g_1[f, t], g_2[c, t], g_3[c, f] = PlaneGate across c, f, t
    y[c, f, t] = x[c, f, t] · (g_1[f, t] + g_2[c, t] + g_3[c, f]) / 3
    """

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleList(PlaneGate() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Scale each value; shapes stay (batch, C, frequency, time)."""
        gates = [
            gate(x.transpose(1, axis)).transpose(1, axis) for axis, gate in enumerate(self.gates, start=1)
        ]
        y: Tensor = x * (gates[0] + gates[1] + gates[2]) / 3
        return y


class StyleRecalibration(nn.Module):
    """Style-based recalibration: a gate from each channel's mean and spread (Lee et al. 2019, eq. 1–4).

    μ_c, σ_c = mean and standard deviation over f, t of x[c, f, t]
    y[c, f, t] = x[c, f, t] · sigmoid(BN(w_c1 · μ_c + w_c2 · σ_c))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style = nn.Conv2d(channels, channels, (1, 2), groups=channels, bias=False)
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel; shapes stay (batch, C, frequency, time)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        spread = ((x - mean).square().mean(dim=(2, 3), keepdim=True) + SPREAD_EPS).sqrt()
        gate = torch.sigmoid(self.norm(self.style(torch.cat([mean, spread], dim=3))))
        return x * gate


class GlobalResponseNorm(nn.Module):
    """Global response normalisation: channels compete by their norms (Woo et al. 2023, Section 3).

        n_c = ‖x[c]‖₂ over f, t
        y[c, f, t] = γ_c · x[c, f, t] · n_c / (mean over channels of n + ε) + β_c + x[c, f, t]

    γ and β begin at zero: the module begins as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift each channel; shapes stay (batch, C, frequency, time)."""
        norms = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        relative = norms / (norms.mean(dim=1, keepdim=True) + RESPONSE_EPS)
        y: Tensor = x * (self.gamma * relative + 1) + self.beta
        return y


class ConvolutionalAttention(nn.Module):
    """CBAM: a gate for each channel, then one for each place (Woo et al. 2018, eq. 2 and 3).

    m(p) = W2 · ReLU(W1 · p)                            no biases: the count of Table VIII has none
    z = x · σ(m(mean over f, t of x) + m(max over f, t of x))
    y[c, f, t] = z[c, f, t] · g[f, t],   g = PlaneGate across the channels of z
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1, bias=False)
        self.excite = nn.Conv2d(squeeze, channels, 1, bias=False)
        self.spatial = PlaneGate()

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel, then each place; shapes stay (batch, C, frequency, time)."""
        pooled = torch.cat([x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)], dim=2)
        both = self.excite(F.relu(self.squeeze(pooled)))
        x = x * torch.sigmoid(both.sum(dim=2, keepdim=True))
        y: Tensor = x * self.spatial(x)
        return y


class GlobalContext(nn.Module):
    """Global context: a weighted sum over all places is added to each (Cao et al. 2019, eq. 5).

    p = softmax over f, t of w · x[:, f, t] + b
    s = Σ over f, t of p[f, t] · x[:, f, t]
    y[:, f, t] = x[:, f, t] + W2 · ReLU(LN(W1 · s + b1)) + b2
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.norm = nn.LayerNorm([squeeze, 1, 1])
        self.excite = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add one value to each channel; shapes stay (batch, C, frequency, time)."""
        places = torch.softmax(self.mask(x).flatten(2), dim=2).transpose(1, 2)
        summed = torch.bmm(x.flatten(2), places)[..., None]
        added: Tensor = self.excite(F.relu(self.norm(self.squeeze(summed))))
        return x + added


BlockAttention = (
    SqueezeExcitation
    | SequenceAttention
    | TripletAttention
    | StyleRecalibration
    | GlobalResponseNorm
    | ConvolutionalAttention
    | GlobalContext
)


def attention(block: Block) -> BlockAttention | None:
    """The attention of a static block, where it has one."""
    channels, squeeze = block.expanded, block.squeeze
    match block.attention:
        case "none":
            return None
        case "squeeze-excitation":
            return SqueezeExcitation(channels, squeeze)
        case "coordinate":
            return SequenceAttention(channels, squeeze)
        case "triplet":
            return TripletAttention()
        case "srm":
            return StyleRecalibration(channels)
        case "grn":
            return GlobalResponseNorm(channels)
        case "cbam":
            return ConvolutionalAttention(channels, squeeze)
        case "global-context":
            return GlobalContext(channels, squeeze)
