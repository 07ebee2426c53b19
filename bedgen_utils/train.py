"""The two training loops. Each is a generator of rows, so that a notebook owns what is done with
them:

    for row in train_ddpm(ddpm, images, recipe, folder): print(row["images"], row["loss"])

DDPM: draw x_0 from the data, t, and noise; step down the gradient of the loss of ``diffusion`` (Ho
et al. 2020, Algorithm 1).

GAN: in turn, a step of the discriminator and a step of the generator (Goodfellow et al. 2014,
Algorithm 1; Eq. 14, 15), both on augmented images (Karras et al. 2020).

What is trained in place is the network that one samples from: the moving average of the weights
(``optim.EMA``). The weights that the optimizer moves stay inside the loop. The DDPM keeps a second
average that stops early; this early network can guide the other (Karras et al. 2024;
``diffusion.guided``).

Both loops run where Accelerate does (CPU, CUDA, MPS, several processes). With a folder they write a
checkpoint every minute and after each evaluation, and the same call resumes from it. Every step
draws its randomness from (seed, step) alone, so that an interrupted run takes the same steps as one
that was left in peace. Several processes (``accelerate launch``) draw alike for the whole batch and
share it out; gradients are averaged, and the run is that of one process but for rounding.
"""

import ast
import contextlib
import copy
import hashlib
import importlib.util
import json
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from .augment import COLOUR, GEOMETRY, AdaptiveP, AugmentPipe
from .data import to_float
from .diffusion import (
    PREDICTIONS,
    VARIANCES,
    GaussianDiffusion,
    cosine_beta_schedule,
    linear_beta_schedule,
)
from .gan import LOSSES, RELATIVE, Discriminator, Generator, gradient_penalty, r1_penalty
from .optim import EMA, Muon, is_filters, learning_rate
from .sources import replace_atomically
from .unet import UNet

if TYPE_CHECKING:
    from .models import DDPM, GAN

CHECKPOINT_SECONDS = 60.0
COUNTED = ("step", "seconds", "history", "sums", "summed")  # of a loop, in its checkpoint
CODE = ("augment", "diffusion", "gan", "optim", "train", "unet")  # modules whose change starts anew


# ---- recipes


@dataclass(frozen=True)
class DDPMRecipe:
    """How a denoiser is built and trained. ValueError for numbers that make no sense."""

    size: int = 32  # pixels a side
    widths: tuple[int, ...] = (48, 64, 128)  # of ``unet.UNet``, as blocks and fold
    blocks: int = 1
    fold: int = 1
    T: int = 1000
    schedule: str = "cosine"  # of β_t, or "linear"
    prediction: str = "v"  # of ``diffusion.PREDICTIONS``
    variance: str = "small"  # of ``diffusion.VARIANCES``
    images: int = 42_000  # training images seen in all
    batch: int = 16
    rate: float = 1.5e-3  # highest learning rate, of Muon for filters and of AdamW for the rest
    warmup: int = 100  # steps over which the rate rises
    weighting: str = "min_snr"  # of ``GaussianDiffusion.loss_weights``
    muon: bool = True  # False leaves all to AdamW
    ema: float = 0.998  # decay of the average
    early: float = 0.1  # the share of all steps after which the early network stops
    mirror: bool = True  # show half of the images mirrored left-right
    seed: int = 0  # of the first weights and of every draw

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        _require_whole(self)
        if not self.widths or not all(isinstance(w, int) and w > 0 for w in self.widths):
            raise ValueError(f"widths must be whole numbers above 0, got {self.widths}")
        _require_positive(self, "size", "blocks", "fold", "T", "images", "batch", "rate", "early")
        _require_share(self, "early", "ema")
        _require_among(self, "schedule", ("cosine", "linear"))
        _require_among(self, "prediction", PREDICTIONS)
        _require_among(self, "variance", VARIANCES)
        _require_among(self, "weighting", ("simple", "min_snr"))

    def build(self) -> tuple[UNet, GaussianDiffusion]:
        """The untrained network and its diffusion."""
        schedule = cosine_beta_schedule if self.schedule == "cosine" else linear_beta_schedule
        diffusion = GaussianDiffusion(schedule(self.T), self.prediction, self.variance)
        learned = self.variance == "learned"
        with seeded(self.seed):
            network = UNet(self.size, self.widths, self.blocks, self.fold, learned_variance=learned)
        return network, diffusion


@dataclass(frozen=True)
class GANRecipe:
    """How a generator and its discriminator are built and trained. ValueError for numbers that make
    no sense.
    """

    size: int = 32  # pixels a side
    latent: int = 64  # numbers in z
    width: int = 32  # of the generator at its largest map
    d_width: int = 32  # of the discriminator
    images: int = 300_000  # training images seen in all
    batch: int = 16
    rate: float = 1e-3  # of Adam for both networks
    betas: tuple[float, float] = (0.0, 0.99)
    game: str = "relativistic"  # a name in ``gan.LOSSES``
    gamma: float = 0.01  # of γ/2 |∇a|²; 0 switches it off, and "wgan_gp" has a penalty of its own
    gamma_every: int = 16  # steps: the penalty is taken on one of them, times their number
    augment: str = "adaptive"  # p follows r_t; or "fixed", or "none"
    p_aug: float = 0.0  # the probability p of each operation, at the beginning if adaptive
    ops: tuple[str, ...] = GEOMETRY + COLOUR  # of ``augment.AugmentPipe``
    mirror: bool = False  # else mirroring is left to the augmentation
    ema: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "ops", tuple(self.ops))
        _require_whole(self)
        _require_positive(self, "size", "latent", "width", "d_width", "images", "batch", "rate")
        _require_positive(self, "gamma_every")
        _require_share(self, "p_aug", "ema")
        if self.gamma < 0:
            raise ValueError(f"gamma must not be negative, got {self.gamma}")
        _require_among(self, "game", tuple(LOSSES))
        _require_among(self, "augment", ("adaptive", "fixed", "none"))

    def build(self) -> tuple[Generator, Discriminator]:
        """The untrained networks."""
        with seeded(self.seed):
            return Generator(self.size, self.latent, self.width), Discriminator(
                self.size, self.d_width
            )


Recipe = DDPMRecipe | GANRecipe


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, the global generator begins at ``seed``; afterwards it goes on as if nothing had been
    drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _require_whole(recipe: Any) -> None:
    for field in fields(recipe):
        if field.type is int and not isinstance(getattr(recipe, field.name), int):
            found = getattr(recipe, field.name)
            raise ValueError(f"{field.name} must be a whole number, got {found!r}")


def _require_positive(recipe: Any, *names: str) -> None:
    for name in names:
        if not getattr(recipe, name) > 0:
            raise ValueError(f"{name} must be positive, got {getattr(recipe, name)}")


def _require_share(recipe: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(recipe, name) <= 1:
            raise ValueError(f"{name} must lie from 0 to 1, got {getattr(recipe, name)}")


def _require_among(recipe: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(recipe, name) not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, got {getattr(recipe, name)!r}")


# ---- the loops


def train_ddpm(
    ddpm: "DDPM",
    images: Tensor,
    recipe: DDPMRecipe,
    folder: str | Path | None = None,
    *,
    evaluate: Callable[[], dict] | None = None,
    evaluate_at: Iterable[int] = (),
    log_every: int = 1000,
) -> Iterator[dict]:
    """Train the networks of ``ddpm`` in place on uint8 ``images`` (N, 3, S, S); yields its history.

    Nothing happens before the first row is asked for: ``list(train_ddpm(…))`` trains to the end.

    folder: where the checkpoint lies; None: nowhere. Rows that a checkpoint brought back come
    first. log_every: images between two rows, which hold ``images`` (seen so far), ``seconds`` (of
    training alone) and ``loss``, the mean since the row before. evaluate: called after as many
    images as each number of ``evaluate_at`` says; its dict (of what JSON holds) joins the row, with
    ``evaluation_seconds``. TypeError where images are not uint8, ValueError where there are none,
    an evaluation would never come or the processes cannot share a batch evenly,
    FloatingPointError where the loss or a weight is not finite, RuntimeError where another process
    trains the same in ``folder``.
    """
    network = copy.deepcopy(ddpm.network).train().requires_grad_(True)
    optimizers = ddpm_optimizers(network, recipe)
    parts = {"network": network, "average": ddpm.network, "early": ddpm.early} | optimizers
    parts = {name: part for name, part in parts.items() if part is not None}
    loop = Loop(recipe, images, parts, evaluate, evaluate_at, log_every)
    with loop.running(folder, "ddpm", ddpm.diffusion.identity()):
        average = EMA(ddpm.network, recipe.ema)
        early = EMA(ddpm.early, recipe.ema) if ddpm.early is not None else None
        early_steps = max(1, recipe.early * loop.steps)
        draw_times = TimesByWeight(ddpm.diffusion, recipe.weighting)
        denoise, *prepared = loop.prepare([network], *optimizers.values())
        denoise = compiled(denoise, loop)
        yield from loop.history
        while loop.step < loop.steps:
            x0 = loop.batch()
            t, likelier = map(loop.own, draw_times(recipe.batch, loop.draws))
            noise = loop.normal(*x0.shape[1:])
            loss = ddpm.diffusion.training_loss(denoise, x0, t, noise, recipe.weighting)
            loss = (loss / likelier).mean()
            for optimizer in prepared:
                loop.set_rate(optimizer, recipe.warmup)
                optimizer.zero_grad()
            loop.backward(loss, network)
            loop.accelerator.clip_grad_norm_(network.parameters(), 1.0)
            for optimizer in prepared:
                optimizer.step()
            loop.step += 1
            average.update(network, loop.step)
            if early is not None and loop.step <= early_steps:
                early.update(network, loop.step)
            yield from loop.after_step(loss=loss)


def train_gan(
    gan: "GAN",
    discriminator: nn.Module,
    images: Tensor,
    recipe: GANRecipe,
    folder: str | Path | None = None,
    *,
    evaluate: Callable[[], dict] | None = None,
    evaluate_at: Iterable[int] = (),
    log_every: int = 1000,
) -> Iterator[dict]:
    """Train the generator of ``gan`` against ``discriminator``, both in place; the rest as in
    ``train_ddpm``.

    Rows hold the mean ``d_loss`` and ``g_loss``, ``r_t`` (mean sign of D on augmented real images;
    in the relativistic game and in "wgan_gp" after taking off its mean on generated ones) and
    ``p``, the probability of augmentation.
    """
    generator = copy.deepcopy(gan.generator).train().requires_grad_(True)
    discriminator.train().requires_grad_(True)
    g_adam, d_adam = (
        torch.optim.Adam(network.parameters(), recipe.rate, recipe.betas, fused=True)
        for network in (generator, discriminator)
    )
    augment = Augmentation(recipe)
    parts = {"generator": generator, "discriminator": discriminator, "average": gan.generator}
    parts |= {"g_adam": g_adam, "d_adam": d_adam, "augment": augment}
    loop = Loop(recipe, images, parts, evaluate, evaluate_at, log_every)
    with loop.running(folder, "gan"):
        average = EMA(gan.generator, recipe.ema)
        d_loss_of, g_loss_of = LOSSES[recipe.game]
        G, D, g_adam, d_adam = loop.prepare([generator, discriminator], g_adam, d_adam)
        yield from loop.history
        while loop.step < loop.steps:
            real, z = loop.batch(), loop.normal(generator.latent)
            loop.set_rate(g_adam)
            loop.set_rate(d_adam)
            # --- the discriminator ascends Eq. 14 (in the game of Eq. 13)
            fake = G(z)
            real_seen, fake_seen = augment(real, loop), augment(fake.detach(), loop)
            real_logits, fake_logits = D(real_seen), D(fake_seen)
            d_loss = d_loss_of(real_logits, fake_logits)
            slopes = penalty(D, real_seen, fake_seen, recipe, loop)
            d_adam.zero_grad()
            loop.backward(d_loss + slopes, discriminator)
            d_adam.step()
            # --- the generator descends its loss (Eq. 15 if minimax)
            discriminator.requires_grad_(False)
            seen_anew = augment(fake, loop)  # the same images: one pass of G serves both steps
            with torch.no_grad():  # by now D has moved: its opinion of the real ones is another
                reals_for_g = D(real_seen) if recipe.game == "relativistic" else None
            g_loss = g_loss_of(D(seen_anew), reals_for_g)
            g_adam.zero_grad()
            loop.backward(g_loss, generator)
            g_adam.step()
            discriminator.requires_grad_(True)
            loop.step += 1
            average.update(generator, loop.step)
            r_t = augment.follow(
                *loop.accelerator.gather((real_logits.detach(), fake_logits.detach()))
            )
            yield from loop.after_step(d_loss=d_loss, g_loss=g_loss, r_t=r_t)


# ---- their parts


def ddpm_optimizers(network: nn.Module, recipe: DDPMRecipe) -> dict[str, torch.optim.Optimizer]:
    """AdamW for all weights, or, with ``muon``, Muon for the filters and AdamW for the rest."""
    filters = [q for q in network.parameters() if recipe.muon and is_filters(q)]
    others = [q for q in network.parameters() if not (recipe.muon and is_filters(q))]
    adam = torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return {"adam": adam} | ({"muon": Muon(filters, weight_decay=0.01)} if filters else {})


class TimesByWeight:
    """Draws t in proportion to its weight w_t: importance sampling of evenly drawn, weighted times.

    Each loss is then divided by how much likelier its t was than by an even draw, so that the
    expectation stays that of evenly drawn times; no image is spent on times that hardly count.
    """

    def __init__(self, diffusion: GaussianDiffusion, weighting: str):
        weights = diffusion.loss_weights(weighting)[1:]
        self.share = weights / weights.sum()
        self.up_to, self.T = self.share.cumsum(0), diffusion.T

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times (n,) int64 in 1 … T, and T share_t (n,) float32, how much likelier each was than by
        an even draw.
        """
        # One u for each stratum of [0, 1]: every batch covers all times, which lowers the
        # gradient's variance.
        u = (torch.rand(1, generator=generator) + torch.arange(n) / n) % 1
        drawn = torch.searchsorted(self.up_to, u.double()).clamp(max=self.T - 1)
        return 1 + drawn, (self.T * self.share[drawn]).float()


def penalty(
    D: nn.Module, real: Tensor, fake: Tensor, recipe: GANRecipe, loop: "Loop"
) -> Tensor | float:
    """What bounds the slope of D at this step: WGAN-GP's at every step, else R1, on every
    ``gamma_every``-th alone.
    """
    if recipe.game == "wgan_gp":
        return 10 * gradient_penalty(D, real, fake, loop.uniform())
    if not recipe.gamma or loop.step % recipe.gamma_every:
        return 0.0
    slopes = r1_penalty(D, real)
    if recipe.game == "relativistic":  # R2, the same at generated images (R3GAN, Huang et al. 2024)
        slopes = slopes + r1_penalty(D, fake)
    return recipe.gamma / 2 * recipe.gamma_every * slopes


class Augmentation:
    """What D is shown: the pipe of a recipe, with the controller that moves its probability p."""

    def __init__(self, recipe: GANRecipe):
        self.pipe = AugmentPipe(recipe.ops) if recipe.augment != "none" else None
        self.controller = AdaptiveP(budget=recipe.images, p=recipe.p_aug)
        self.adaptive = recipe.augment == "adaptive"
        self.relative = recipe.game in RELATIVE
        self.batch = recipe.batch
        self.state_dict = self.controller.state_dict
        self.load_state_dict = self.controller.load_state_dict

    @property
    def p(self) -> float:
        return self.controller.p if self.pipe else 0.0

    def __call__(self, images: Tensor, loop: "Loop") -> Tensor:
        if self.pipe is None or self.p == 0:
            return images
        self.pipe.generator = loop.draws
        maps = self.pipe.draw(self.batch, self.p, images.shape[-1])
        return self.pipe.apply(images, *map(loop.own, maps))

    def follow(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """r_t of the whole batch's logits (N,); an adaptive p takes it in."""
        verdicts = real_logits - fake_logits.mean() if self.relative else real_logits
        if self.adaptive:
            self.controller.update(verdicts, self.batch)
        return verdicts.sign().mean()


def compiled(network: nn.Module, loop: "Loop") -> nn.Module:
    """``network``, compiled where that pays: fusing small kernels takes a minute."""
    pays = loop.device.type == "cuda" and loop.steps > 5_000 and importlib.util.find_spec("triton")
    return torch.compile(network) if pays else network


def accelerator() -> Accelerator:
    """This machine's device at its best precision, and the processes that were started with us."""
    # Without cpu=True Accelerate would not join processes on CPUs: each would train by itself.
    cpus = "WORLD_SIZE" in os.environ and not torch.cuda.is_available()
    return Accelerator(cpu=cpus, mixed_precision=best_precision())


def best_precision() -> str:
    """Accelerate's name for the precision of products: "bf16" where the hardware multiplies it,
    "fp16", with scaled gradients, on older GPUs (a T4), "no" on what has neither.

    A CPU without such units would emulate bfloat16, some 300 times slower.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    flags = Path("/proc/cpuinfo")
    found = set(flags.read_text().split()) if flags.exists() else set()
    return "bf16" if {"avx512_bf16", "amx_bf16"} & found else "no"


class Loop:
    """What both loops share: the device, the draws of each step, the rows, the checkpoint, the bar.

    parts: everything with a ``state_dict`` that a checkpoint must hold, by name.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Tensor,
        parts: dict[str, Any],
        evaluate: Callable[[], dict] | None = None,
        evaluate_at: Iterable[int] = (),
        log_every: int = 1000,
    ):
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
            found = (getattr(images, "dtype", type(images)), tuple(getattr(images, "shape", ())))
            raise TypeError(f"training images must be a uint8 tensor (N, 3, S, S), got {found}")
        if not len(images):
            raise ValueError("there are no training images")
        self.recipe, self.parts = recipe, parts
        self.evaluate, self.log_every = evaluate, log_every
        self.evaluate_at = sorted(evaluate_at) if evaluate else []
        self.accelerator = accelerator()
        self.device, self.processes = self.accelerator.device, self.accelerator.num_processes
        share, left = divmod(recipe.batch, self.processes)
        if left:
            raise ValueError(f"{self.processes} processes cannot share a batch of {recipe.batch}")
        first = self.accelerator.process_index * share
        self.part = slice(first, first + share)  # of each batch, for this process
        self.images = self.resident(images)
        self.steps = math.ceil(recipe.images / recipe.batch)
        end = self.steps * recipe.batch
        if never := [at for at in self.evaluate_at if not 0 < at <= end]:
            raise ValueError(f"evaluate_at has {never[0]}; this training sees 1 to {end} images")
        self.step, self.seconds = 0, 0.0
        self.history: list[dict] = []
        self.epoch = (-1, torch.empty(0))
        self.sums: dict[str, Tensor] = {}  # of the losses since the last row,
        self.summed = 0  # over so many steps
        self.path: Path | None = None
        self.interrupted = False
        self.mark = self.saved = time.monotonic()
        self.modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        for module in self.modules.values():
            module.to(self.device)

    # ---- what a step begins with

    def batch(self) -> Tensor:
        """The images of this step, float in [-1, 1]; what the step draws begins anew with it.

        An epoch is a permutation of the training images given by (seed, epoch): each image once,
        none twice. With ``mirror`` each is flipped left-right with probability 1/2.
        """
        seed, n, batch = self.recipe.seed, len(self.images), self.recipe.batch
        # The 64 once left room for processes; without it every published number would be another.
        self.draws = torch.Generator().manual_seed((seed * 1_000_003 + self.step) * 64)
        if self.device.type != "cpu":
            self.draws_there = torch.Generator(self.device).manual_seed(self.draws.initial_seed())
        index = torch.arange(self.step * batch, (self.step + 1) * batch)
        chosen = torch.empty_like(index)
        for epoch in (index // n).unique().tolist():
            here = index // n == epoch
            chosen[here] = self.order(epoch)[index[here] % n]
        flip = torch.rand(batch, generator=self.draws) < (0.5 if self.recipe.mirror else 0.0)
        x = to_float(self.fetch(self.images[chosen[self.part].to(self.images.device)]))
        return torch.where(self.own(flip)[:, None, None, None], x.flip(-1), x)

    def order(self, epoch: int) -> Tensor:
        """The permutation of the training images in this epoch."""
        if self.epoch[0] != epoch:
            generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
            self.epoch = epoch, torch.randperm(len(self.images), generator=generator)
        return self.epoch[1]

    def resident(self, images: Tensor) -> Tensor:
        """``images`` on a GPU that has room for them four times over, else as they are."""
        if self.device.type != "cuda":
            return images
        roomy = 4 * images.nbytes < torch.cuda.mem_get_info(self.device)[0]
        return images.to(self.device) if roomy else images

    def fetch(self, x: Tensor) -> Tensor:
        """``x`` on the device; the copy to a GPU runs beside its computations."""
        x = x.pin_memory() if self.device.type == "cuda" and x.device.type == "cpu" else x
        return x.to(self.device, non_blocking=True)

    def own(self, x: Tensor) -> Tensor:
        """This process's part of what was drawn for the whole batch."""
        return self.fetch(x[self.part])

    def uniform(self) -> Tensor:
        """U(0, 1), one number for each image."""
        return self.own(torch.rand(self.recipe.batch, generator=self.draws))

    def normal(self, *shape: int) -> Tensor:
        """N(0, I) of this shape for each image, drawn on the device, away from the CPU by a
        generator of its own.
        """
        draws = self.draws if self.device.type == "cpu" else self.draws_there
        shape = self.recipe.batch, *shape
        return torch.randn(shape, generator=draws, device=self.device)[self.part]

    # ---- several processes

    def prepare(self, networks: list[nn.Module], *optimizers: torch.optim.Optimizer) -> list[Any]:
        """Networks that compute in mixed precision, and their optimizers.

        Not wrapped as for training: DistributedDataParallel does not see the second derivatives of
        the penalties; ``backward`` averages gradients instead.
        """
        prepare = self.accelerator.prepare_model
        ready = [prepare(network, evaluation_mode=True) for network in networks]
        return ready + [self.accelerator.prepare_optimizer(q) for q in optimizers]

    def backward(self, loss: Tensor, network: nn.Module) -> None:
        """Gradients of ``loss`` with respect to ``network``, averaged over the processes."""
        self.accelerator.backward(loss)
        if self.processes > 1:
            gradients = [q.grad for q in network.parameters() if q.grad is not None]
            flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
            for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                g.copy_(mean.view(g.shape))

    def set_rate(self, optimizer: torch.optim.Optimizer, warmup: int = 1) -> None:
        """The rate of this step."""
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.step + 1, self.steps, self.recipe.rate, warmup)

    # ---- what a step ends with

    def after_step(self, **losses: Tensor) -> Iterator[dict]:
        """Take in the losses of a step; yields a row where one is due, saves where that is due."""
        self.sums = {name: self.sums.get(name, 0) + q.detach() for name, q in losses.items()}
        self.summed += 1
        self.tick()
        self.bar.update(self.recipe.batch)
        seen = self.step * self.recipe.batch
        before = seen - self.recipe.batch
        last = self.step == self.steps
        evaluation = any(before < at <= seen for at in self.evaluate_at)
        row_due = evaluation or last or seen // self.log_every > before // self.log_every
        late = time.monotonic() - self.saved > CHECKPOINT_SECONDS
        save_due = evaluation or last or late or self.interrupted
        if row_due or save_due or self.device.type == "cpu":  # looking makes a GPU wait
            self.require_finite(weights=save_due)
        if row_due:
            self.add_row(seen, evaluation)
        if save_due:
            self.save()
        if self.interrupted:
            raise KeyboardInterrupt
        if row_due:
            yield self.history[-1]
            self.mark = time.monotonic()

    def require_finite(self, weights: bool) -> None:
        """FloatingPointError where a loss since the last row, or a weight, is not finite."""
        values = dict(self.sums)
        if weights:
            for name, module in self.modules.items():
                values |= {f"{name}.{key}": q.abs().max() for key, q in module.state_dict().items()}
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            kept = "; the last checkpoint is from before" if self.path else ""
            raise FloatingPointError(
                f"{bad[0]} is not finite at step {self.step}{kept}. Called again, the same recipe "
                f"ends here again: lower its rate ({self.recipe.rate:g}) or change it otherwise"
            )

    def add_row(self, seen: int, evaluation: bool) -> None:
        """One more row of the history, with an evaluation where it is due."""
        row = {"images": seen, "seconds": self.seconds}
        sums = self.accelerator.reduce(torch.stack(list(self.sums.values())), "mean").tolist()
        row |= {name: total / self.summed for name, total in zip(self.sums, sums, strict=True)}
        self.bar.set_postfix({name: f"{row[name]:.3g}" for name in self.sums})
        self.sums, self.summed = {}, 0
        if "augment" in self.parts:
            row["p"] = self.parts["augment"].p
        if evaluation and self.evaluate:
            began = time.monotonic()
            row |= self.evaluate()
            self.mark = time.monotonic()
            row["evaluation_seconds"] = self.mark - began
        # Through JSON: what a checkpoint can hold, or an error at once.
        self.history.append(json.loads(json.dumps(row)))

    def tick(self) -> None:
        """Count the time since the last mark as training time."""
        now = time.monotonic()
        self.seconds, self.mark = self.seconds + now - self.mark, now

    # ---- from a checkpoint to the next

    @contextlib.contextmanager
    def running(self, folder: str | Path | None, name: str, *identity: Any) -> Iterator[None]:
        """Within, the run goes on from its checkpoint, alone in ``folder``.

        A caller that closes the loop at a row leaves a checkpoint there. Ctrl-C waits for the end
        of its step, as half a step is no state to resume from; a second one does not wait.
        """
        if folder:
            file = f"{name}-{self.key(*identity)}.checkpoint"
            self.path = Path(folder).expanduser() / file
        with contextlib.ExitStack() as stack:
            if self.path and self.accelerator.is_main_process:
                stack.enter_context(alone(self.path))
            self.resume()
            stack.enter_context(self.progress(name))
            if threading.current_thread() is threading.main_thread():  # no other hears of signals
                before = signal.signal(signal.SIGINT, self.interrupt)
                stack.callback(signal.signal, signal.SIGINT, before)
            self.mark = self.saved = time.monotonic()
            try:
                yield
            except GeneratorExit:
                self.save()
                raise

    def interrupt(self, *_: Any) -> None:
        """What Ctrl-C does."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.path and (state := load_checkpoint(self.path)):
            for part, values in state.pop("parts").items():
                self.parts[part].load_state_dict(values)
            vars(self).update(state)

    def progress(self, name: str) -> tqdm:
        """The bar, which counts images."""
        self.bar = tqdm(
            total=self.steps * self.recipe.batch,
            initial=self.step * self.recipe.batch,
            unit="image",
            desc=name.upper(),
            mininterval=1.0,
            smoothing=0.1,
            **({} if self.accelerator.is_main_process else {"disable": True}),
        )
        return self.bar

    def key(self, *identity: Any) -> str:
        """Twelve hexadecimal digits of the code, the recipe, when rows are due, all training
        images, the networks with their first weights, and ``identity``: no other run shares them.
        What ``evaluate`` does is not known here: when that has changed, take another folder.
        """
        here, modules = Path(__file__).parent, self.modules.values()
        digest = hashlib.sha256("".join(statements(here / f"{name}.py") for name in CODE).encode())
        digest.update(repr((self.recipe, self.log_every, self.evaluate_at)).encode())
        digest.update(repr((list(modules), identity, tuple(self.images.shape))).encode())
        weights = [q.detach().cpu() for module in modules for q in module.state_dict().values()]
        for tensor in (*self.images.split(4096), *weights):
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()[:12]

    def save(self) -> None:
        """Write a checkpoint."""
        if self.path and self.accelerator.is_main_process:
            state = {"parts": {name: part.state_dict() for name, part in self.parts.items()}}
            save_checkpoint(self.path, state | {name: getattr(self, name) for name in COUNTED})
        self.mark = self.saved = time.monotonic()  # writing is no training


def statements(path: Path) -> str:
    """What a source file does: its syntax tree without comments, docstrings and places."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within, no other process goes on from ``path``. A lock goes with its process, however it
    ends; RuntimeError where another holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A singleton: a notebook that left a loop and came back is no other process.
    lock = filelock.FileLock(path.with_suffix(".lock"), thread_local=False, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RuntimeError(
            f"another process trains the same in {path.parent}: wait for it, stop it, or name "
            "another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def save_checkpoint(path: Path, state: dict) -> None:
    """Write ``state`` in one step; the checkpoint that stood there is kept as ``*.previous``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        os.replace(path, path.with_suffix(".previous"))
    try:
        replace_atomically(path, lambda temporary: torch.save(state, temporary))
    except RuntimeError as error:  # "unexpected pos" is PyTorch's word for a disk that is full
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            f"no checkpoint can be written in {path.parent}, which has {free / 1e6:,.1f} MB free "
            f"({error}); make room and call again: an earlier one is kept"
        ) from error


def load_checkpoint(path: Path) -> dict | None:
    """The newest whole checkpoint at ``path``, else the one before it, else None."""
    for candidate in (path, path.with_suffix(".previous")):
        if candidate.exists():
            try:
                state = torch.load(candidate, map_location="cpu", weights_only=True)
                if set(state) != {"parts", *COUNTED}:
                    raise ValueError("something else was saved under its name")
                return state
            except Exception as error:  # torch, pickle and zipfile have words of their own
                why = f"{candidate} is not a whole checkpoint and is passed over: {error!r:.100}"
                warnings.warn(why, stacklevel=2)
    return None
