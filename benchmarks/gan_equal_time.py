"""Our GAN beside three others, and its four games beside each other, in equal minutes on the same machine.

    python benchmarks/gan_equal_time.py --threads 1                      # ours twice, three others, 20 minutes each
    python benchmarks/gan_equal_time.py --threads 1 --seeds 1 2 --only ours
    python benchmarks/gan_equal_time.py --threads 1 --seeds 1 2 3 4 --only "ours without colours" DCGAN
    python benchmarks/gan_equal_time.py --threads 1 --minutes 3 --games  # four games, each at two rates

All learn from the 12,000 rendered pictures at 32 px, mirrored at random; in float32, but for ours where the processor
multiplies bfloat16:

    ours            networks, recipe, game and loop of profile cpu
    ours without colours
                    the same, but augmented by the geometric operations alone, G half as wide again, in batches of 64 at
                    the rate 2e-3
    ours, GAME      as ours in this game (``gan.LOSSES``), at the same rate or at a third of it
    DCGAN           Radford et al. 2016 for 32 px: Adam 2e-4 (0.5, 0.999), batch 64; in front of D the translation,
                    colour and cutout of DiffAugment (Zhao et al. 2020)
    SNGAN           Miyato et al. 2018, table 3 (32 px): residual blocks, spectral normalisation, hinge, five critic
                    steps a step of G, Adam 2e-4 (0, 0.9), batch 64, rate falling linearly to 0
    R3GAN           Huang et al. 2024 in the configuration of CIFAR-10 with a sixth of its width: relativistic pairs,
                    R1 + R2 at every step, gamma 0.05 to 0.005, Adam 2e-4 to 5e-5 (0, 0.9 to 0.99), augmentation rising
                    to 0.55, average of the weights; batch 64

The first two of the others have no average of their weights, as published. Their schedules follow the clock; ours is
timed first and given as many epochs as seven eighths of the minutes hold, lest it take longer. 2,000 samples of each
are judged by their Fréchet distance (EfficientNet-Lite0) to the test pictures. A row each goes to
figures/studies/gan_equal_time.csv (``studies.py``), a sheet of samples to a folder beside the table.
"""

import argparse
import contextlib
import copy
import math
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import studies
import torch
import torch.nn.functional as F
from equal_time import batches, save_sheet, stem
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import tqdm

from bedgen_utils.augment import COLOUR, GEOMETRY, AugmentPipe
from bedgen_utils.data import load_bedrooms
from bedgen_utils.gan import LOSSES, Discriminator, Generator, non_saturating_g, relativistic_d, relativistic_g
from bedgen_utils.gan import minimax_d as logistic_d
from bedgen_utils.metrics import evaluate
from bedgen_utils.run import profile_numbers, to_uint8
from bedgen_utils.train import train_gan

P = argparse.Namespace(**profile_numbers("cpu", "04"))
SAMPLES = 2_000


# --- DCGAN, with DiffAugment ---------------------------------------------------------------------------------------


def dcgan():
    def up(a, b, stride, padding):
        return nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False), nn.BatchNorm2d(b), nn.ReLU()

    def down(a, b):
        return nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)

    g = nn.Sequential(
        nn.Unflatten(1, (-1, 1, 1)), *up(100, 256, 1, 0), *up(256, 128, 2, 1), *up(128, 64, 2, 1),
        nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    d = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), *down(64, 128), *down(128, 256),
        nn.Conv2d(256, 1, 4), nn.Flatten(0),
    )  # fmt: skip
    for layer in [*g.modules(), *d.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)
    return g, d, 100


def diff_augment(x):
    """Colour: brightness +U(-1/2, 1/2), saturation U(0, 2), contrast U(1/2, 3/2); then a shift by up to 1/8 of the
    side, zeros coming in; then a square of half the side cut out."""
    n, _, side, _ = x.shape

    def u(low, high):
        return low + (high - low) * torch.rand(n, 1, 1, 1)

    x = x + u(-0.5, 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + u(0, 2) * (x - grey)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + u(0.5, 1.5) * (x - mean)
    pad = side // 8
    padded, window = F.pad(x, [pad] * 4), torch.arange(side)
    rows, columns = (torch.randint(0, 2 * pad + 1, (n, 1)) + window for _ in range(2))
    x = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    first, half = torch.randint(-side // 4, side - side // 4 + 1, (2, n, 1)), side // 2
    in_rows, in_columns = ((window >= f) & (window < f + half) for f in first)
    return x * ~(in_rows[:, None, :, None] & in_columns[:, None, None, :])


def play_dcgan(batches, seconds):
    g, d, latent = dcgan()
    optimizers = [torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999), fused=True) for m in (g, d)]

    def step(done):
        real, fake = next(batches), g(torch.randn(64, latent))
        descend(optimizers[1], logistic_d(d(diff_augment(real)), d(diff_augment(fake.detach()))))
        with frozen(d):
            descend(optimizers[0], non_saturating_g(d(diff_augment(fake))))
        return 64

    return g, d, latent, for_seconds(step, seconds)


# --- SNGAN ---------------------------------------------------------------------------------------------------------


class UpBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(c, c, 1)

    def forward(self, x):
        h = F.interpolate(F.relu(self.norms[0](x)), scale_factor=2)
        h = self.convs[1](F.relu(self.norms[1](self.convs[0](h))))
        return h + self.skip(F.interpolate(x, scale_factor=2))


class CriticBlock(nn.Module):
    def __init__(self, a, b, down, first=False):
        super().__init__()
        self.convs = nn.ModuleList(
            [spectral_norm(nn.Conv2d(a, b, 3, padding=1)), spectral_norm(nn.Conv2d(b, b, 3, padding=1))]
        )
        self.skip = spectral_norm(nn.Conv2d(a, b, 1)) if down or a != b else nn.Identity()
        self.pool, self.first = nn.AvgPool2d(2) if down else nn.Identity(), first

    def forward(self, x):
        h = self.convs[0](x if self.first else F.relu(x))
        return self.pool(self.convs[1](F.relu(h))) + self.pool(self.skip(x))


def play_sngan(batches, seconds):
    g = nn.Sequential(
        nn.Linear(128, 4 * 4 * 256), nn.Unflatten(1, (256, 4, 4)), UpBlock(256), UpBlock(256), UpBlock(256),
        nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    blocks = [CriticBlock(3, 128, True, first=True), CriticBlock(128, 128, True), CriticBlock(128, 128, False)]
    body = nn.Sequential(*blocks, CriticBlock(128, 128, False), nn.ReLU())
    last = spectral_norm(nn.Linear(128, 1, bias=False))
    d = Critic(body, last)
    for layer in [*g.modules(), *d.modules()]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(
                layer.weight if not hasattr(layer, "parametrizations") else layer.parametrizations.weight.original
            )
    optimizers = [torch.optim.Adam(m.parameters(), 2e-4, (0.0, 0.9), fused=True) for m in (g, d)]

    def step(done):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 2e-4 * (1 - done)
        for _ in range(5):
            with torch.no_grad():
                fake = g(torch.randn(64, 128))
            descend(optimizers[1], F.relu(1 - d(next(batches))).mean() + F.relu(1 + d(fake)).mean())
        with frozen(d):
            descend(optimizers[0], -d(g(torch.randn(64, 128))).mean())
        return 5 * 64

    return g, d, 128, for_seconds(step, seconds)


class Critic(nn.Module):
    """A body, its sum over the picture, one number."""

    def __init__(self, body, last):
        super().__init__()
        self.body, self.last = body, last

    def forward(self, x):
        return self.last(self.body(x).sum((2, 3))).squeeze(1)


# --- R3GAN ---------------------------------------------------------------------------------------------------------

WIDTH, GROUPS, BLOCKS, STAGES, LATENT = 128, 16, 2, 4, 64  # published for CIFAR-10: 768, 96, 2, 4, 64
SLOPE = 0.2


def scaled(layer, gain=1.0):
    nn.init.normal_(layer.weight, 0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


class Residual(nn.Module):
    """1x1, grouped 3x3, 1x1 on twice the channels, no normalisation; the last layer begins at zero (Fixup)."""

    def __init__(self):
        super().__init__()
        gain = math.sqrt(2 / (1 + SLOPE**2)) * (BLOCKS * STAGES) ** -0.25
        self.first = scaled(nn.Conv2d(WIDTH, 2 * WIDTH, 1, bias=False), gain)
        self.middle = scaled(nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1, groups=GROUPS, bias=False), gain)
        self.last = scaled(nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False), 0.0)
        self.biases = nn.ParameterList(torch.zeros(2 * WIDTH, 1, 1) for _ in range(2))

    def forward(self, x):
        h = F.leaky_relu(self.first(x) + self.biases[0], SLOPE)
        return x + self.last(F.leaky_relu(self.middle(h) + self.biases[1], SLOPE))


def residuals():
    return [Residual() for _ in range(BLOCKS)]


class Basis(nn.Module):
    """A learned 4x4 map a channel, times what a linear layer makes of the latent."""

    def __init__(self):
        super().__init__()
        self.basis = nn.Parameter(torch.randn(WIDTH, 4, 4))
        self.linear = scaled(nn.Linear(LATENT, WIDTH, bias=False))

    def forward(self, z):
        return self.basis * self.linear(z)[:, :, None, None]


def with_slope(d, x):
    """Logits of x and the mean squared slope of D there (R1 or R2): one pass of D serves both, as published."""
    x = x.detach().requires_grad_(True)
    logits = d(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, slope.square().flatten(1).sum(1).mean()


def play_r3gan(batches, seconds):
    double, halve = nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2)
    upward = [layer for _ in range(STAGES - 1) for layer in (double, *residuals())]
    g = nn.Sequential(Basis(), *residuals(), *upward, scaled(nn.Conv2d(WIDTH, 3, 1, bias=False)))
    downward = [layer for _ in range(STAGES - 1) for layer in (*residuals(), halve)]
    d = nn.Sequential(
        scaled(nn.Conv2d(3, WIDTH, 1, bias=False)), *downward, *residuals(),
        scaled(nn.Conv2d(WIDTH, WIDTH, 4, groups=WIDTH, bias=False)), nn.Flatten(),
        scaled(nn.Linear(WIDTH, 1, bias=False)), nn.Flatten(0),
    )  # fmt: skip
    average, pipe = copy.deepcopy(g).requires_grad_(False), AugmentPipe()
    optimizers = [torch.optim.Adam(m.parameters(), 2e-4, (0.0, 0.9), fused=True) for m in (g, d)]
    seen = 0

    def step(done):
        nonlocal seen

        def between(begin, end):
            return end + (begin - end) * (1 + math.cos(math.pi * done)) / 2

        for optimizer in optimizers:
            optimizer.param_groups[0] |= {"lr": between(2e-4, 5e-5), "betas": (0.0, between(0.9, 0.99))}
        p, gamma = between(0.0, 0.55), between(0.05, 0.005)
        real = next(batches)
        with torch.no_grad():
            fake = g(torch.randn(64, LATENT))
        (real_logits, r1), (fake_logits, r2) = (with_slope(d, pipe(x, p)) for x in (real, fake))
        descend(optimizers[1], relativistic_d(real_logits, fake_logits) + gamma / 2 * (r1 + r2))
        with frozen(d):
            fake_logits, real_logits = d(pipe(g(torch.randn(64, LATENT)), p)), d(pipe(real, p))
            descend(optimizers[0], relativistic_g(fake_logits, real_logits))
        seen += 64
        # The published half-life grows, as the others change, to a quarter of the pictures that the schedules take.
        half_life = 0.25 * between(0.0, 1.0) * seen / max(done, 1e-9)
        decay = 0.5 ** (64 / max(half_life, 1))
        for mine, theirs in zip(average.parameters(), g.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        return 64

    images = for_seconds(step, seconds)
    return average, d, LATENT, images


# --- ours ----------------------------------------------------------------------------------------------------------


def play_ours(images, seconds, seed, loss=P.loss, width=P.width, batch=P.batch, rate=P.rate, ops=GEOMETRY + COLOUR):
    def trained(pictures, epochs, **options):
        G, D = Generator(P.size, P.latent, width), Discriminator(P.size, P.d_width)
        with tempfile.TemporaryDirectory() as folder:
            averaged, history = train_gan(
                G, D, pictures, Path(folder), epochs=epochs, batch=batch, rate=rate, betas=tuple(P.betas), loss=loss,
                r1=P.r1, r1_every=P.r1_every, ema_decay=P.ema_decay, ops=ops, seed=seed, **options,
            )  # fmt: skip
        return averaged, D, P.latent, history

    warm = trained(images[: 64 * batch], 6, augment="fixed", p=0.1)[-1]  # p = 0 would cost less than what follows
    speed = (warm[-1]["images"] - warm[1]["images"]) / (warm[-1]["seconds"] - warm[1]["seconds"])
    torch.manual_seed(seed)
    # A machine slows down under a long load, by a tenth here: an eighth off, lest a run take longer than its time.
    *models, history = trained(images, max(1, round(7 / 8 * speed * seconds / len(images))))
    return *models, history[-1]["images"], history[-1]["seconds"]


def games():
    for loss in LOSSES:
        for slower in (1.0, 3.0):
            name = f"ours, {loss}" + (", a third of the rate" if slower > 1 else "")
            yield name, partial(play_ours, loss=loss, rate=P.rate / slower)


def other(play):
    def timed(images, seconds, seed):
        began = time.monotonic()
        played = play(batches(images, 64, torch.Generator().manual_seed(seed)), seconds)
        return *played, time.monotonic() - began

    return timed


CONTESTANTS = {
    "ours": play_ours,
    "ours without colours": partial(play_ours, width=48, batch=64, rate=2e-3, ops=GEOMETRY),
    "DCGAN": other(play_dcgan),
    "SNGAN": other(play_sngan),
    "R3GAN": other(play_r3gan),
} | dict(games())


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@contextlib.contextmanager
def frozen(network):
    """No gradients for its parameters: a step of G needs none of D's."""
    network.requires_grad_(False)
    yield
    network.requires_grad_(True)


def for_seconds(step, seconds):
    """Call ``step(done)``, done in [0, 1) being the share of the time, until it is over; the pictures seen."""
    began, images = time.monotonic(), 0
    with tqdm(total=round(seconds), unit="s") as bar:
        while (elapsed := time.monotonic() - began) < seconds:
            images += step(elapsed / seconds)
            bar.update(min(round(seconds), int(elapsed)) - bar.n)
            bar.set_postfix(images=images)
    return images


def measure(name: str, minutes: float, seed: int, table: Path) -> dict:
    train, test = load_bedrooms("rendered", "train", 32), load_bedrooms("rendered", "test", 32)
    torch.manual_seed(seed)
    g, d, latent, images, seconds = CONTESTANTS[name](train, 60 * minutes, seed)
    g.eval()
    draws = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        made = torch.cat([to_uint8(g(torch.randn(100, latent, generator=draws))) for _ in range(SAMPLES // 100)])
    save_sheet(made, table.with_suffix("") / f"{stem(name, seed)}-{minutes:g}.png")
    e = evaluate(made, test)
    return {
        "parameters of G": sum(q.numel() for q in g.parameters()),
        "parameters of D": sum(q.numel() for q in d.parameters()),
        "images seen": images,
        "images/s": round(images / seconds, 1),
        "seconds": round(seconds),
        "distance": round(e.distance, 1),
        "precision": round(e.precision, 3),
        "recall": round(e.recall, 3),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    options = studies.options(__doc__, "gan_equal_time.csv", list(CONTESTANTS), [0], minutes=20.0, games=False)
    for seed in options.seeds:
        for name in (name for name in options.only if (", " in name) == options.games):
            key = {"contestant": name, "seed": seed, "minutes": options.minutes, "threads": options.threads}
            studies.run(options.out, key, lambda n=name, s=seed: measure(n, options.minutes, s, options.out))


if __name__ == "__main__":
    main()
