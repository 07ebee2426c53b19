"""Networks and recipes of others: two libraries' denoisers, and the GANs of three papers.

    Diffusers     UNet2DModel in the recipe of the library's unconditional training tutorial
    DdpmPytorch   Unet of denoising-diffusion-pytorch in the defaults of its Trainer
    DCGAN         Radford et al. 2016 for 32 px; in front of D the augmentation of Zhao et al. 2020
    SNGAN         Miyato et al. 2018, table 3 (32 px)
    R3GAN         Huang et al. 2024 in the configuration of CIFAR-10 with a sixth of its width

All take images of 32 px in [-1, 1]. A denoiser is a network with a loop of its own, (network,
images, steps, seed) -> ``DDPM``. A GAN is a pair of networks with ``stepper``, which gives a
function that takes one step. The libraries are imported where they are used:
studies/requirements.txt. tests/test_studies.py holds each against its original.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import tqdm

from bedgen_utils.augment import AugmentPipe
from bedgen_utils.data import to_float
from bedgen_utils.diffusion import GaussianDiffusion, linear_beta_schedule
from bedgen_utils.gan import minimax_d as logistic_d
from bedgen_utils.gan import non_saturating_g, relativistic_d, relativistic_g
from bedgen_utils.models import DDPM
from bedgen_utils.train import best_precision

SIZE, BATCH = 32, 16


def batches(images: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Endless float batches, each image mirrored with probability 1/2, every image once an
    epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(len(images), generator=generator).split(size):
            if len(index) == size:
                x = to_float(images[index])
                flip = torch.rand(size, generator=generator) < 0.5
                x[flip] = x[flip].flip(-1)
                yield x


# ---- denoisers of two libraries


def half_precision() -> torch.autocast:
    """bfloat16 products where the processor has them, as our loops have."""
    return torch.autocast("cpu", torch.bfloat16, enabled=best_precision() == "bf16")


class Diffusers(nn.Module):
    """The tutorial's network cut to three levels, attention again in the last but one; it counts t
    from 0."""

    size = SIZE

    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.net = UNet2DModel(
            sample_size=SIZE,
            layers_per_block=2,
            block_out_channels=(64, 128, 128),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t - 1).sample


class DdpmPytorch(nn.Module):
    """The other library's network, of about our size; it counts t from 0."""

    size = SIZE

    def __init__(self) -> None:
        super().__init__()
        from denoising_diffusion_pytorch import Unet

        self.net = Unet(dim=48, dim_mults=(1, 2, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t - 1)


def tutorial_of_diffusers(network: Diffusers, images: Tensor, steps: int, seed: int) -> DDPM:
    """The loop of huggingface.co/docs/diffusers/tutorials/basic_training: eps, linear schedule,
    batch 16, AdamW 1e-4, cosine rate. Its warm-up takes 500 of some 3,100 steps: here the same
    share. The average of the weights is that of the library's script for unconditional training."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rate = get_cosine_schedule_with_warmup(optimizer, round(0.16 * steps), steps)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)
    data = batches(images, BATCH, seed)
    for _ in range(steps):
        x0 = next(data)
        noise, t = torch.randn(x0.shape), torch.randint(0, 1000, (BATCH,))
        with half_precision():
            answer = network(scheduler.add_noise(x0, noise, t), t + 1)
        F.mse_loss(answer.float(), noise).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(network.parameters())
    average.copy_to(network.parameters())
    return DDPM(network.eval(), GaussianDiffusion(linear_beta_schedule(1000), "eps"))


def trainer_of_ddpm_pytorch(network: DdpmPytorch, images: Tensor, steps: int, seed: int) -> DDPM:
    """What Trainer.train of denoising-diffusion-pytorch does at its defaults, fed from memory: v,
    sigmoid schedule, batch 16, Adam 1e-4, average of the weights with decay 0.995."""
    from denoising_diffusion_pytorch import GaussianDiffusion as Theirs
    from ema_pytorch import EMA

    theirs = Theirs(network.net, image_size=SIZE)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = EMA(network, beta=0.995, update_every=10)
    data = batches(images, BATCH, seed)
    for _ in range(steps):
        with half_precision():
            loss = theirs((next(data) + 1) / 2)
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
    betas = torch.cat([torch.zeros(1, dtype=torch.float64), theirs.betas.double()])
    return DDPM(average.ema_model.eval(), GaussianDiffusion(betas, "v"))


# ---- what the three GANs share

Step = Callable[[float], int]  # takes the share of the time that is over, returns the images seen


@dataclass(frozen=True)
class Peer:
    """A GAN. networks() -> (G, D); stepper(G, D, batches) -> (a step, the generator that one
    samples from)."""

    latent: int
    networks: Callable[[], tuple[nn.Module, nn.Module]]
    stepper: Callable[[nn.Module, nn.Module, Iterator[Tensor]], tuple[Step, nn.Module]]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for its parameters: a step of G needs none of D's."""
    network.requires_grad_(False)
    yield
    network.requires_grad_(True)


def for_seconds(step: Step, seconds: float) -> int:
    """Call ``step(done)``, done in [0, 1) being the share of the time, until it is over; the images
    seen."""
    began, images = time.monotonic(), 0
    with tqdm(total=round(seconds), unit="s") as bar:
        while (elapsed := time.monotonic() - began) < seconds:
            images += step(elapsed / seconds)
            bar.update(min(round(seconds), int(elapsed)) - bar.n)
            bar.set_postfix(images=images)
    return images


# ---- DCGAN, with DiffAugment (Zhao et al. 2020): Adam 2e-4 (0.5, 0.999), batch 64


def dcgan() -> tuple[nn.Module, nn.Module]:
    def up(a: int, b: int, stride: int, padding: int) -> tuple[nn.Module, ...]:
        convolution = nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False)
        return convolution, nn.BatchNorm2d(b), nn.ReLU()

    def down(a: int, b: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)

    g = nn.Sequential(
        nn.Unflatten(1, (-1, 1, 1)),
        *up(100, 256, 1, 0),
        *up(256, 128, 2, 1),
        *up(128, 64, 2, 1),
        nn.ConvTranspose2d(64, 3, 4, 2, 1),
        nn.Tanh(),
    )
    d = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        *down(64, 128),
        *down(128, 256),
        nn.Conv2d(256, 1, 4),
        nn.Flatten(0),
    )
    for layer in [*g.modules(), *d.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)
    return g, d


def diff_augment(x: Tensor) -> Tensor:
    """Colour: brightness +U(-1/2, 1/2), saturation U(0, 2), contrast U(1/2, 3/2); then a shift by
    up to 1/8 of the side, zeros coming in; then a square of half the side cut out."""
    n, _, side, _ = x.shape

    def u(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1)

    x = x + u(-0.5, 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + u(0, 2) * (x - grey)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + u(0.5, 1.5) * (x - mean)
    pad = side // 8
    padded, window = F.pad(x, [pad] * 4), torch.arange(side)
    rows, columns = (torch.randint(0, 2 * pad + 1, (n, 1)) + window for _ in range(2))
    each = torch.arange(n)[:, None, None]
    x = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    first, half = torch.randint(-side // 4, side - side // 4 + 1, (2, n, 1)), side // 2
    in_rows, in_columns = ((window >= f) & (window < f + half) for f in first)
    return x * ~(in_rows[:, None, :, None] & in_columns[:, None, None, :])


def dcgan_stepper(
    g: nn.Module,
    d: nn.Module,
    batches: Iterator[Tensor],
    augment: Callable[[Tensor], Tensor] = diff_augment,
) -> tuple[Step, nn.Module]:
    g_adam, d_adam = (
        torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999), fused=True) for m in (g, d)
    )

    def step(done: float) -> int:
        real = next(batches)
        fake = g(torch.randn(len(real), 100))
        descend(d_adam, logistic_d(d(augment(real)), d(augment(fake.detach()))))
        with frozen(d):
            descend(g_adam, non_saturating_g(d(augment(fake))))
        return len(real)

    return step, g


# ---- SNGAN: residual blocks, spectral normalisation, hinge, five critic steps, Adam 2e-4 (0, 0.9),
# rate falling to 0


class UpBlock(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.norms[0](x)), scale_factor=2)
        h = self.convs[1](F.relu(self.norms[1](self.convs[0](h))))
        return h + self.skip(F.interpolate(x, scale_factor=2))


class CriticBlock(nn.Module):
    def __init__(self, a: int, b: int, down: bool, first: bool = False):
        super().__init__()
        both = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)
        self.convs = nn.ModuleList(spectral_norm(conv) for conv in both)
        self.skip = spectral_norm(nn.Conv2d(a, b, 1)) if down or a != b else nn.Identity()
        self.pool, self.first = nn.AvgPool2d(2) if down else nn.Identity(), first

    def forward(self, x: Tensor) -> Tensor:
        h = self.convs[0](x if self.first else F.relu(x))
        return self.pool(self.convs[1](F.relu(h))) + self.pool(self.skip(x))


class Critic(nn.Module):
    """A body, its sum over the image, one number."""

    def __init__(self, body: nn.Module, last: nn.Module):
        super().__init__()
        self.body, self.last = body, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x).sum((2, 3))).squeeze(1)


def sngan() -> tuple[nn.Module, nn.Module]:
    g = nn.Sequential(
        nn.Linear(128, 4 * 4 * 256),
        nn.Unflatten(1, (256, 4, 4)),
        *(UpBlock(256) for _ in range(3)),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 3, 3, padding=1),
        nn.Tanh(),
    )
    body = nn.Sequential(
        CriticBlock(3, 128, True, first=True),
        CriticBlock(128, 128, True),
        CriticBlock(128, 128, False),
        CriticBlock(128, 128, False),
        nn.ReLU(),
    )
    d = Critic(body, spectral_norm(nn.Linear(128, 1, bias=False)))
    # At gain 1 throughout, as the rows were measured; the authors' code has sqrt(2) in the blocks.
    for layer in [*g.modules(), *d.modules()]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            normed = hasattr(layer, "parametrizations")
            nn.init.xavier_uniform_(
                layer.parametrizations.weight.original if normed else layer.weight
            )
    return g, d


def sngan_stepper(g: nn.Module, d: nn.Module, batches: Iterator[Tensor]) -> tuple[Step, nn.Module]:
    g_adam, d_adam = (
        torch.optim.Adam(m.parameters(), 2e-4, (0.0, 0.9), fused=True) for m in (g, d)
    )

    def step(done: float) -> int:
        for adam in (g_adam, d_adam):
            adam.param_groups[0]["lr"] = 2e-4 * (1 - done)
        for _ in range(5):
            real = next(batches)
            with torch.no_grad():
                fake = g(torch.randn(len(real), 128))
            descend(d_adam, F.relu(1 - d(real)).mean() + F.relu(1 + d(fake)).mean())
        with frozen(d):
            descend(g_adam, -d(g(torch.randn(len(real), 128))).mean())
        return 5 * len(real)

    return step, g


# ---- R3GAN: relativistic pairs, R1 + R2 at every step, gamma 0.05 to 0.005, Adam 2e-4 to 5e-5 (0,
# 0.9 to 0.99), augmentation rising to 0.55, average of the weights

WIDTH, GROUPS, BLOCKS, STAGES, LATENT = 128, 16, 2, 4, 64  # published: 768, 96, 2, 4, 64
SLOPE = 0.2


def scaled(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    nn.init.normal_(layer.weight, 0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


class Residual(nn.Module):
    """1x1, grouped 3x3, 1x1 on twice the channels, no normalisation; the last layer begins at zero
    (Fixup)."""

    def __init__(self) -> None:
        super().__init__()
        wide, gain = 2 * WIDTH, math.sqrt(2 / (1 + SLOPE**2)) * (BLOCKS * STAGES) ** -0.25
        self.first = scaled(nn.Conv2d(WIDTH, wide, 1, bias=False), gain)
        middle = nn.Conv2d(wide, wide, 3, padding=1, groups=GROUPS, bias=False)
        self.middle = scaled(middle, gain)
        self.last = scaled(nn.Conv2d(wide, WIDTH, 1, bias=False), 0.0)
        self.biases = nn.ParameterList(torch.zeros(wide, 1, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x) + self.biases[0], SLOPE)
        return x + self.last(F.leaky_relu(self.middle(h) + self.biases[1], SLOPE))


class Basis(nn.Module):
    """A learned 4x4 map a channel, times what a linear layer makes of the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(WIDTH, 4, 4))
        self.linear = scaled(nn.Linear(LATENT, WIDTH, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        return self.basis * self.linear(z)[:, :, None, None]


def r3gan() -> tuple[nn.Module, nn.Module]:
    def residuals() -> list[nn.Module]:
        return [Residual() for _ in range(BLOCKS)]

    double, halve = nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2)
    upward = [layer for _ in range(STAGES - 1) for layer in (double, *residuals())]
    downward = [layer for _ in range(STAGES - 1) for layer in (*residuals(), halve)]
    to_pixels, from_pixels = nn.Conv2d(WIDTH, 3, 1, bias=False), nn.Conv2d(3, WIDTH, 1, bias=False)
    g = nn.Sequential(Basis(), *residuals(), *upward, scaled(to_pixels))
    d = nn.Sequential(
        scaled(from_pixels),
        *downward,
        *residuals(),
        scaled(nn.Conv2d(WIDTH, WIDTH, 4, groups=WIDTH, bias=False)),
        nn.Flatten(),
        scaled(nn.Linear(WIDTH, 1, bias=False)),
        nn.Flatten(0),
    )
    return g, d


def with_slope(d: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of x and the mean squared slope of D there (R1 or R2): one pass of D serves both, as
    published."""
    x = x.detach().requires_grad_(True)
    logits = d(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, slope.square().flatten(1).sum(1).mean()


def r3gan_stepper(g: nn.Module, d: nn.Module, batches: Iterator[Tensor]) -> tuple[Step, nn.Module]:
    average, pipe = copy.deepcopy(g).requires_grad_(False), AugmentPipe()
    g_adam, d_adam = (
        torch.optim.Adam(m.parameters(), 2e-4, (0.0, 0.9), fused=True) for m in (g, d)
    )
    seen = 0

    def step(done: float) -> int:
        nonlocal seen

        def between(begin: float, end: float) -> float:
            return end + (begin - end) * (1 + math.cos(math.pi * done)) / 2

        for adam in (g_adam, d_adam):
            betas = (0.0, between(0.9, 0.99))
            adam.param_groups[0] |= {"lr": between(2e-4, 5e-5), "betas": betas}
        p, gamma = between(0.0, 0.55), between(0.05, 0.005)
        real = next(batches)
        with torch.no_grad():
            fake = g(torch.randn(len(real), LATENT))
        (real_logits, r1), (fake_logits, r2) = (with_slope(d, pipe(x, p)) for x in (real, fake))
        descend(d_adam, relativistic_d(real_logits, fake_logits) + gamma / 2 * (r1 + r2))
        with frozen(d):
            fake_logits = d(pipe(g(torch.randn(len(real), LATENT)), p))
            descend(g_adam, relativistic_g(fake_logits, d(pipe(real, p))))
        seen += len(real)
        # The published half-life grows, as the others change, to a quarter of the images that the
        # schedules take.
        half_life = 0.25 * between(0.0, 1.0) * seen / max(done, 1e-9)
        decay = 0.5 ** (len(real) / max(half_life, 1))
        for mine, theirs in zip(average.parameters(), g.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        return len(real)

    return step, average


GANS = {
    "DCGAN": Peer(100, dcgan, dcgan_stepper),
    "SNGAN": Peer(128, sngan, sngan_stepper),
    "R3GAN": Peer(LATENT, r3gan, r3gan_stepper),
}
