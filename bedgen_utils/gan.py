r"""The generative adversarial network: two networks, four games (report, section 1.2, Eq. 13-15).

A generator G turns a latent z ~ N(0, I) into an image; a discriminator D turns an image into one
number, the logit a(x). Goodfellow et al. (2014) read D(x) = sigmoid(a(x)) as the probability that x
is real and let both play for one value, Eq. 13,

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 − D(G(z)))].

D climbs V (Eq. 14), G goes down its second term (Eq. 15). With softplus(u) = log(1 + e^u) no
logarithm of a rounded zero is ever taken, because log D(x) = -softplus(-a(x)) and log(1 - D(x)) =
-softplus(a(x)).

Both networks keep their expensive layers away from full resolution: on a CPU the time goes into
moving activations, not into multiplications. The generator therefore ends with a map of half the
image's side that holds four pixels in each place (pixel_shuffle), and the discriminator begins with
a convolution of stride 2.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

Critic = Callable[[Tensor], Tensor]  # images (N, …) -> logits (N,)
Loss = Callable[..., Tensor]  # logits of real and generated images (N,) -> what to lower


def _stages(size: int, width: int) -> list[int]:
    """Channels from 4x4 up to size/2 x size/2: `width` there, doubled with each halving."""
    n = int(math.log2(size)) - 2
    if size != 4 * 2**n or n < 2:
        raise ValueError(f"size must be a power of two, at least 16; got {size}")
    return [width * 2**i for i in reversed(range(n))]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the whole batch also where several processes share it out.

    torch's SyncBatchNorm does that on GPUs alone.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(x)
        x32, all_but_channels = x.float(), (0, 2, 3)
        sums = torch.stack([x32.sum(all_but_channels), x32.square().sum(all_but_channels)])
        n = x.numel() / x.shape[1] * dist.get_world_size()
        mean, square = all_reduce(sums) / n
        variance = square - mean**2
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x32, scale[:, None, None]).to(x.dtype)


class Up(nn.Module):
    """Twice the side: transposed convolution (4x4, stride 2), batch normalisation, ReLU."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, bias=False)
        self.norm = BatchNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Down(nn.Module):
    """Half the side: convolution (4x4, stride 2), leaky ReLU."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x), 0.2)


class Generator(nn.Module):
    """G: latents (N, latent) ~ N(0, I) -> images (N, 3, size, size) in [-1, 1].

    A linear layer paints a 4x4 map, each `Up` doubles its side, and the last convolution writes 2x2
    pixels per place.
    """

    def __init__(self, size: int = 32, latent: int = 64, width: int = 32):
        super().__init__()
        channels = _stages(size, width)
        self.size, self.latent = size, latent
        self.first = nn.Linear(latent, channels[0] * 16)
        self.norm = BatchNorm(channels[0])
        self.blocks = nn.Sequential(*(Up(a, b) for a, b in pairwise(channels)))
        self.to_pixels = nn.Conv2d(channels[-1], 12, 3, padding=1)
        self.fold = nn.PixelShuffle(2)

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"latents must have shape (N, {self.latent}), got {tuple(z.shape)}")
        h = self.first(z).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        h = self.blocks(F.relu(self.norm(h)))
        return torch.tanh(self.fold(self.to_pixels(h)))


class Discriminator(nn.Module):
    """D before its sigmoid: images (N, 3, size, size) in [-1, 1] -> logits (N,).

    No layer mixes the samples of a batch (so no batch normalisation): the gradient of a logit with
    respect to its own image, which the penalties below need, is well defined.
    """

    def __init__(self, size: int = 32, width: int = 32):
        super().__init__()
        channels = _stages(size, width)[::-1]
        self.shape = (3, size, size)
        self.from_pixels = nn.Conv2d(3, channels[0], 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Down(a, b) for a, b in pairwise(channels)))
        self.last = nn.Linear(channels[-1] * 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"images must have shape (N, *{self.shape}), got {tuple(x.shape)}")
        x = x.contiguous(memory_format=torch.channels_last)
        h = self.blocks(F.leaky_relu(self.from_pixels(x), 0.2))
        return self.last(h.flatten(1)).squeeze(1)


# ---- the games


def minimax_d(real: Tensor, fake: Tensor) -> Tensor:
    """−V of Eq. 13: −mean log D(x) − mean log(1 − D(G(z))). Its negative gradient is Eq. 14."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax_g(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """mean log(1 − D(G(z))), Eq. 15: what the generator descends in the game as first written."""
    return -F.softplus(fake).mean()


def non_saturating_g(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """−mean log D(G(z)): the fixed point of Eq. 15, another gradient."""
    return F.softplus(-fake).mean()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """mean f(G(z)) − mean f(x), to be played with `gradient_penalty`."""
    return fake.mean() - real.mean()


def wasserstein_g(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """−mean f(G(z))."""
    return -fake.mean()


def relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(−(a(x_i) − a(G(z_i)))): is the real one the more real? (Huang et al. 2024)"""
    return F.softplus(fake - real).mean()


def relativistic_g(fake: Tensor, real: Tensor | None) -> Tensor:
    """mean softplus(−(a(G(z_i)) − a(x_i))): the same pairs, judged the other way round."""
    if real is None:
        raise ValueError("the relativistic game compares: it needs the logits of real images, too")
    return F.softplus(real - fake).mean()


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "minimax": (minimax_d, minimax_g),
    "non_saturating": (minimax_d, non_saturating_g),
    "wgan_gp": (wasserstein_d, wasserstein_g),
    "relativistic": (relativistic_d, relativistic_g),
}


def losses(name: str) -> tuple[Loss, Loss]:
    """What D and G lower in game `name`; ValueError for one that is not in LOSSES."""
    if name not in LOSSES:
        raise ValueError(f"game {name!r} is unknown; choose one of {', '.join(LOSSES)}")
    return LOSSES[name]


# Games in which logits mean something only beside those of generated images.
RELATIVE = ("wgan_gp", "relativistic")


def d_loss(name: str, real: Tensor, fake: Tensor) -> Tensor:
    """D's loss of game `name` from logits (N,) of real and generated images."""
    return losses(name)[0](real, fake)


def g_loss(name: str, fake: Tensor, real: Tensor | None = None) -> Tensor:
    """G's loss of game `name`; only "relativistic" needs the logits of real images."""
    return losses(name)[1](fake, real)


# ---- penalties on the slope of the discriminator


def slope(d: Critic, x: Tensor) -> Tensor:
    """∇_x a(x), of x's shape, with a graph, so that it can be trained."""
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(d(x).sum(), x, create_graph=True)[0]


def r1_penalty(d: Critic, x: Tensor) -> Tensor:
    """mean_i |∇_x a(x_i)|² (Mescheder et al. 2018): R1 when x is real, R2 when it is generated.

    Its weight is γ/2. Done lazily, every k-th step alone, it is k γ/2: the same pull at a fraction
    of the cost.
    """
    return slope(d, x).square().flatten(1).sum(1).mean()


def gradient_penalty(d: Critic, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """mean_i (|∇_x a(u_i x_i + (1 − u_i) G(z_i))| − 1)², the penalty of WGAN-GP.

    u: (N,) drawn from U(0, 1). Gulrajani et al. 2017; its usual weight is 10. A penalty at real
    images alone would leave the slope between the two sets free.
    """
    u = u.reshape(-1, *[1] * (real.ndim - 1))
    squared = slope(d, u * real + (1 - u) * fake).square().flatten(1).sum(1)
    return ((squared + 1e-12).sqrt() - 1).square().mean()
