"""The denoiser: a U-Net with parameters θ that maps a noisy image and its time to an image-shaped
output.

    model: (x_t, t) -> output,   x_t in R^(3 x S x S),  t in {1, …, T}

What the output means (ε, x_0 or v) is the business of ``diffusion``. The shape follows Ho et al.
(2020): residual blocks with group normalisation on a few resolutions, skips between equal ones,
self-attention where the map is small. Five things differ from theirs, to learn more in a minute of
a small machine:

* **A direct path** from input to output, c(t) x_t with one learned number c for each t: how much of
  the noisy image the answer contains need not be carried through the blocks (the role of c_skip in
  Karras et al., 2022).
* **No blocks at full size on the way down**, where a block costs most; on the way up there are
  (Hoogeboom et al., 2023, also spend little there).
* **Skips add** where theirs concatenate: the blocks on the way up have half the inputs.
* **Time enters as scale and shift** after a normalisation, h ← norm(h) (1 + s(t)) + b(t) (Dhariwal
  & Nichol, 2021, "adaptive group normalisation"): one pass over the map instead of one more
  convolution.
* **Folding**, for large images: with fold = f the first layer turns each f x f patch of pixels into
  channels (``pixel_unshuffle``) and the last turns them back, so that no convolution runs at full
  size. A step gets cheaper; a step also teaches less, and at 32 px that outweighs the gain
  (``studies``, recipes).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines and sines of times t (N,) at width/2 frequencies from 1 down to nearly 1/10,000.

    (N, width) float32 in [-1, 1]; the frequencies fall geometrically (Vaswani et al. 2017, 3.5).
    """
    half = width // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(10_000) * steps / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def zero_init(layer: nn.Module) -> nn.Module:
    """Zero weights and bias, so that a residual branch starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Attention(nn.Module):
    """Each position looks at all others: softmax(q kᵀ / √d) v with heads of 32 channels."""

    def __init__(self, channels: int, head: int = 32):
        super().__init__()
        if channels % head:
            raise ValueError(f"attention needs a multiple of {head} channels, got {channels}")
        self.heads = channels // head
        self.norm = nn.GroupNorm(channels // 8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(n, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(-1, -2).reshape(n, c, h, w))


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), self-attention behind it where asked for.

    The time embedding is scale and shift of the second norm.
    """

    def __init__(self, channels: int, c_time: int, attention: bool):
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // 8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(c_time, 2 * channels)
        self.norm2 = nn.GroupNorm(channels // 8, channels)
        self.attention = Attention(channels) if attention else nn.Identity()
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(emb)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.attention(x + self.conv2(F.silu(h)))


class Downsample(nn.Module):
    """Half the side: the mean of each 2 x 2 patch, then a convolution to the next width."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.avg_pool2d(x, 2))


class Upsample(nn.Module):
    """Twice the side: a convolution to the next width, then each value repeated 2 x 2."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # The convolution comes first, on the small map, where it costs a quarter.
        return F.interpolate(self.conv(x), scale_factor=2, mode="nearest")


class UNet(nn.Module):
    """x (N, 3, size, size) float, t (N,) int or float in 1 … T -> (N, 3 or 6, size, size).

    size: pixels a side, divisible by fold * 2^(levels - 1). widths: channels of each resolution,
    the finest (size / fold) first; multiples of 8, of 32 where there is attention, as at the last.
    blocks: residual blocks a resolution on the way up, and on the way down below the finest.
    attention_at: maps of at most this many pixels a side get self-attention after each block; that
    in the middle is always there. learned_variance: twice the output channels, the second half
    being Nichol & Dhariwal's v for Σ (their Eq. 15). ValueError where size or widths do not fit.
    """

    def __init__(
        self,
        size: int = 32,
        widths: Sequence[int] = (48, 64, 128),
        blocks: int = 1,
        fold: int = 1,
        attention_at: int = 8,
        learned_variance: bool = False,
    ):
        super().__init__()
        if not widths or any(width < 8 or width % 8 for width in widths):
            raise ValueError(f"widths must be one or more multiples of 8, got {tuple(widths)}")
        if size % (patch := fold * 2 ** (len(widths) - 1)):
            raise ValueError(f"size {size} must be divisible by fold * 2^(levels - 1) = {patch}")
        self.size, self.fold, self.learned_variance = size, fold, learned_variance
        c_time, c_out = 4 * widths[0], (6 if learned_variance else 3) * fold**2

        def level(i: int) -> nn.ModuleList:
            args = widths[i], c_time, size // fold // 2**i <= attention_at
            return nn.ModuleList(ResBlock(*args) for _ in range(blocks))

        linears = nn.Linear(128, c_time), nn.Linear(c_time, c_time)
        self.time = nn.Sequential(linears[0], nn.SiLU(), linears[1], nn.SiLU())
        self.direct = zero_init(nn.Linear(c_time, 1))
        self.first = nn.Conv2d(3 * fold**2, widths[0], 3, padding=1)
        levels = range(len(widths))
        self.shrink = nn.ModuleList(Downsample(a, b) for a, b in pairwise(widths))
        self.down = nn.ModuleList(level(i) for i in levels[1:])
        self.middle = ResBlock(widths[-1], c_time, attention=True)
        self.up = nn.ModuleList(level(i) for i in levels)
        self.grow = nn.ModuleList(Upsample(b, a) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(widths[0] // 8, widths[0])
        self.last = zero_init(nn.Conv2d(widths[0], c_out, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if x.shape[-2:] != (self.size, self.size):
            raise ValueError(f"expected images of {self.size} pixels a side, got {tuple(x.shape)}")
        emb = self.time(timestep_embedding(t, 128))
        folded = F.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last)
        h = self.first(folded)
        skips = [h]
        for shrink, level in zip(self.shrink, self.down, strict=True):
            h = shrink(h)
            for block in level:
                h = block(h, emb)
                skips.append(h)
        h = self.middle(h, emb)
        for i, level in reversed([*enumerate(self.up)]):
            for block in level:
                # the finest level has one skip, however many blocks
                h = block(h + skips.pop() if skips else h, emb)
            if i > 0:
                h = self.grow[i - 1](h)
        answer = F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.fold)
        direct = self.direct(emb)[:, :, None, None] * x
        if self.learned_variance:
            direct = torch.cat([direct, torch.zeros_like(direct)], dim=1)
        return answer + direct
