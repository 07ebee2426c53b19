"""The two training loops.

DDPM: draw x_0 from the data, t, and noise; step down the gradient of the loss of ``diffusion`` (Ho et al. 2020,
Algorithm 1).

GAN: in turn, a step of the discriminator and a step of the generator (Goodfellow et al. 2014, Algorithm 1; Eq. 14, 15),
both on augmented pictures (Karras et al. 2020).

What is sampled from is not the weights themselves but their exponential moving average,

    ema <- ema + (1 - d_k) (theta - ema),     d_k = min(d, (1 + k) / (10 + k))   after step k,

whose decay d_k warms up: with a constant d the first weights would keep the share d^k, 37 % at k = 1/(1 - d). The DDPM
keeps a second average that stops early, the network as it was when young: it can guide the grown one (Karras et al.
2024; ``diffusion.guided``).

The denoiser's filters between maps are stepped by Muon (``muon``), everything else by AdamW, the GAN by Adam.

Both loops run anywhere Accelerate does (CPU, CUDA, MPS, several processes). They write a checkpoint every minute and
after each evaluation, and go on from it by themselves. Every step draws its randomness from (seed, step, process)
alone, so that an interrupted run takes the same steps as one that was left in peace.
"""

import copy
import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from .augment import COLOUR, GEOMETRY, AdaptiveP, AugmentPipe
from .checkpoint import resume_training, save_training
from .diffusion import GaussianDiffusion
from .gan import LOSSES, gradient_penalty, r1_penalty
from .muon import Muon, is_filters
from .run import to_float

CHECKPOINT_SECONDS = 60.0


def best_precision() -> str:
    """Accelerate's name for bfloat16, "bf16", where the hardware multiplies it, else "no".

    On a CPU without such units it would be emulated, some 300 times slower.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    flags = Path("/proc/cpuinfo")
    return "bf16" if flags.exists() and {"avx512_bf16", "amx_bf16"} & set(flags.read_text().split()) else "no"


class EMA:
    """A moving average of ``model``'s parameters, held in ``self.model`` (a copy in evaluation mode)."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step`` (1, 2, …) steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), weight)
        for mean, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            mean.copy_(buffer)


def learning_rate(step: int, steps: int, peak: float, warmup: int, flat: float = 0.6, end: float = 0.05) -> float:
    """The rate of step 1 … ``steps``: linear from 0 over ``warmup`` steps, flat, then linear down to ``end`` x peak.

    The fall takes the last 1 - ``flat`` of all steps.
    """
    down = (steps - step) / max(1.0, (1 - flat) * steps)
    return peak * min(1.0, step / max(1, warmup), end + (1 - end) * down)


class Loop:
    """What both loops share: where they run, the deterministic draws, the checkpoint, the history, the progress bar.

    ``history`` is a list of rows, one each ``log_every`` steps and one an evaluation; it survives in the checkpoint.
    """

    def __init__(self, folder: Path, name: str, settings: dict, images: Tensor, steps: int, batch: int, seed: int,
                 mirror: bool = True):
        self.accelerator = Accelerator(mixed_precision=best_precision())
        self.device, self.images, self.steps, self.batch, self.seed = (
            self.accelerator.device,
            images,
            steps,
            batch,
            seed,
        )
        self.mirror = mirror
        self.images_a_step = batch * self.accelerator.num_processes
        # Another recipe, other code or other pictures must never go on from this one's checkpoint.
        code = b"".join(
            p.read_bytes()
            for p in sorted(Path(__file__).parent.glob("*.py"))
            if p.stem in ("train", "diffusion", "unet", "muon", "gan", "augment")
        )
        content = hashlib.sha256(code + json.dumps(settings, sort_keys=True).encode())
        content.update(images[:: max(1, len(images) // 64)].numpy().tobytes() + str(tuple(images.shape)).encode())
        self.path = folder / f"{name}-{content.hexdigest()[:12]}.checkpoint"
        self.history: list[dict] = []
        self.step, self.seconds = 0, 0.0

    def resume(self, modules: dict, optimizers: dict, extra: dict) -> dict:
        """Load the newest checkpoint if there is one; returns its extra state, else ``extra``."""
        self.modules, self.optimizers = modules, optimizers
        meta = resume_training(self.path, modules, optimizers)
        if meta:
            self.step, self.seconds, self.history, extra = meta["step"], meta["seconds"], meta["history"], meta["extra"]
        self._mark = self._saved = time.monotonic()
        return extra

    def bar(self, title: str):
        """A progress bar in images; the estimate counts the steps of this call, not those a checkpoint brought."""
        return tqdm(
            total=self.steps * self.images_a_step,
            initial=self.step * self.images_a_step,
            unit="image",
            desc=title,
            disable=not self.accelerator.is_main_process,
            mininterval=1.0,
            smoothing=0.1,
        )

    def draw(self) -> tuple[Tensor, torch.Generator]:
        """The next batch (float, [-1, 1]; where ``mirror``, each flipped left-right with probability 1/2), and the
        step's generator.

        An epoch is a permutation of the pictures given by (seed, epoch): each picture once, none twice.
        """
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + self.step) * 64 + self.accelerator.process_index
        )
        n = len(self.images)
        first = self.step * self.images_a_step + self.accelerator.process_index * self.batch
        index = torch.arange(first, first + self.batch)
        chosen = torch.empty(self.batch, dtype=torch.long)
        for epoch in (index // n).unique().tolist():
            order = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
            here = index // n == epoch
            chosen[here] = order[index[here] % n]
        flip = torch.rand(self.batch, generator=generator) < (0.5 if self.mirror else 0.0)
        # As bytes, from memory that the GPU can fetch by itself while it computes.
        x, flip = (q.pin_memory() if self.device.type == "cuda" else q for q in (self.images[chosen], flip))
        x = to_float(x.to(self.device, non_blocking=True))
        flip = flip.to(self.device, non_blocking=True)[:, None, None, None]
        return torch.where(flip, x.flip(-1), x), generator

    def noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """N(0, I) of the shape of ``x``, drawn where ``x`` lies, on a CPU from ``generator``, elsewhere from one with
        its seed."""
        if x.device.type != "cpu":
            generator = torch.Generator(x.device).manual_seed(generator.initial_seed())
        return torch.randn(x.shape, generator=generator, device=x.device)

    def tick(self) -> None:
        """Count the time since the last tick as training time."""
        now = time.monotonic()
        self.seconds, self._mark = self.seconds + now - self._mark, now

    def save(self, extra: dict, now: bool = False) -> None:
        """Write a checkpoint if a minute has passed, or ``now``."""
        if self.accelerator.is_main_process and (now or time.monotonic() - self._saved > CHECKPOINT_SECONDS):
            meta = {"step": self.step, "seconds": self.seconds, "history": self.history, "extra": extra}
            save_training(self.path, self.modules, self.optimizers, meta)
            self._saved = time.monotonic()

    def evaluate(self, function: Callable[..., dict], row: dict, *models: nn.Module) -> dict:
        """``row`` with what ``function(*models)`` returns and the seconds it took; not counted as training time."""
        self.tick()
        began = time.monotonic()
        row = row | function(*models)
        self._mark = time.monotonic()
        return row | {"evaluation_seconds": self._mark - began}


def train_ddpm(
    model: nn.Module,
    diffusion: GaussianDiffusion,
    images: Tensor,
    folder: Path,
    *,
    images_seen: int,
    batch: int = 32,
    peak_rate: float = 1e-3,
    warmup: int = 200,
    ema_decay: float = 0.999,
    weighting: str = "simple",
    muon: bool = True,
    young: float = 0.1,
    seed: int = 0,
    evaluate: Callable[[nn.Module, nn.Module], dict] | None = None,
    evaluate_at: Iterable[int] = (),
    log_every: int = 50,
) -> tuple[nn.Module, nn.Module, list[dict]]:
    """Train ``model`` as the denoiser of ``diffusion`` on uint8 ``images`` (N, 3, S, S) until it has seen
    ``images_seen``.

    peak_rate: of Muon for the filters and of AdamW for the rest; ``muon=False`` leaves all to AdamW.
    evaluate: called with the averaged model and the young one when the images seen pass each number of
    ``evaluate_at``; its dict joins the history. Returns the averaged model, the average as it was after the share
    ``young`` of all steps, and the history: rows with ``images``, ``loss``, ``seconds`` (training alone), and after an
    evaluation what ``evaluate`` returned and ``evaluation_seconds``.
    """
    steps = -(-images_seen // batch)
    settings = {
        "images_seen": images_seen,
        "batch": batch,
        "rate": peak_rate,
        "warmup": warmup,
        "ema": ema_decay,
        "seed": seed,
        "weighting": weighting,
        "muon": muon,
        "young": young,
        "model": repr(model),
        "prediction": diffusion.prediction,
        "T": diffusion.T,
        "betas": hashlib.sha256(diffusion.betas.numpy().tobytes()).hexdigest(),
    }
    loop = Loop(Path(folder), "ddpm", settings, images, steps, batch, seed)
    model = model.to(loop.device)
    ema, guide = EMA(model, ema_decay), EMA(model, ema_decay)
    filters = [q for q in model.parameters() if muon and is_filters(q)]
    others = [q for q in model.parameters() if not (muon and is_filters(q))]
    optimizers = {"adam": torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=0.01, fused=True)}
    if filters:
        optimizers["muon"] = Muon(filters, weight_decay=0.01)
    loop.resume({"model": model, "ema": ema.model, "guide": guide.model}, optimizers, {})
    prepared, *steppers = loop.accelerator.prepare(model, *optimizers.values())
    # A step is a few hundred small kernels: fused, there are fewer to start. Fusing takes a minute.
    if loop.device.type == "cuda" and steps > 5_000 and importlib.util.find_spec("triton"):
        prepared = torch.compile(prepared)
    # Times are drawn in proportion to their weight, and the loss is divided by T times that share: the expectation of
    # evenly drawn times, without spending pictures on times that hardly count.
    share = diffusion.loss_weights(weighting)[1:]
    share = share / share.sum()
    up_to = share.cumsum(0)
    due = sorted(evaluate_at)
    total, count = 0.0, 0
    with loop.bar("DDPM") as bar:
        while loop.step < steps:
            x0, generator = loop.draw()
            # One u for each stratum of [0, 1]: every batch covers all times, which lowers the gradient's variance.
            u = (torch.rand(1, generator=generator) + torch.arange(batch) / batch) % 1
            drawn = torch.searchsorted(up_to, u.double()).clamp(max=diffusion.T - 1)
            t = (1 + drawn).to(loop.device)
            noise = loop.noise(x0, generator)
            loss = diffusion.training_loss(prepared, x0, t, noise, weighting=weighting)
            loss = (loss / (diffusion.T * share[drawn]).to(loss)).mean()
            for group in [g for stepper in steppers for g in stepper.param_groups]:
                group["lr"] = learning_rate(loop.step + 1, steps, peak_rate, warmup)
            prepared.zero_grad()
            loop.accelerator.backward(loss)
            loop.accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
            for stepper in steppers:
                stepper.step()
            loop.step += 1
            ema.update(model, loop.step)
            if loop.step <= max(1, young * steps):
                guide.update(model, loop.step)
            total, count = total + loss.detach(), count + 1
            loop.tick()
            bar.update(loop.images_a_step)
            seen = loop.step * loop.images_a_step
            if loop.step % log_every == 0 or loop.step == steps:
                mean = float(total) / count
                if not mean < float("inf"):
                    raise FloatingPointError(
                        f"the loss is {mean} after {loop.step} steps: lower peak_rate ({peak_rate})"
                    )
                loop.history.append({"images": seen, "loss": mean, "seconds": loop.seconds})
                bar.set_postfix(loss=f"{mean:.4f}")
                total, count = 0.0, 0
                loop.save({})
            if evaluate and any(seen - loop.images_a_step < mark <= seen for mark in due):
                row = {"images": seen, "seconds": loop.seconds}
                loop.history.append(loop.evaluate(evaluate, row, ema.model, guide.model))
                loop.save({}, now=True)
    loop.save({}, now=True)
    return ema.model, guide.model, loop.history


def train_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    folder: Path,
    *,
    epochs: int,
    batch: int = 16,
    rate: float = 1e-3,
    betas: tuple[float, float] = (0.0, 0.99),
    loss: str = "relativistic",
    r1: float = 0.01,
    r1_every: int = 16,
    augment: str = "adaptive",
    p: float = 0.0,
    ops: Sequence[str] = GEOMETRY + COLOUR,
    mirror: bool = True,
    ema_decay: float = 0.999,
    seed: int = 0,
    evaluate: Callable[[nn.Module], dict] | None = None,
    evaluate_every: int = 10,
) -> tuple[nn.Module, list[dict]]:
    """Train ``generator`` against ``discriminator`` on uint8 ``images`` (N, 3, S, S) for ``epochs`` passes over them.

    rate: of Adam for both networks, with the fall of ``learning_rate`` in the last 40 % of the steps.
    loss: a name in ``gan.LOSSES``. r1: weight gamma of the R1 penalty gamma/2 |grad a(x)|^2, taken every ``r1_every``
    steps and multiplied by that (lazy regularisation); 0 switches it off. The relativistic game takes R2 with it;
    "wgan_gp" has a penalty of its own, at every step, and ignores both.
    augment: "adaptive" (p starts at ``p`` and follows r_t), "fixed" (p stays) or "none", by the operations ``ops``.
    mirror: show each picture mirrored half of the time besides; without it mirroring is left to the augmentation.
    evaluate: called with the averaged generator after the first and each ``evaluate_every``-th epoch; its dict joins
    the row of that epoch. Returns the averaged generator and the history, one row an epoch: ``epoch``, ``images``,
    ``seconds`` (training alone, so far), ``d_loss``, ``g_loss``, ``r_t`` (mean sign of D on augmented reals, in the
    relativistic game and in "wgan_gp" after taking off its mean on generated ones), ``p``, and what ``evaluate``
    returned.
    """
    if augment not in ("adaptive", "fixed", "none"):
        raise ValueError(f"augment={augment!r}; choose adaptive, fixed or none")
    d_loss_fn, g_loss_fn = LOSSES[loss]
    steps_an_epoch = max(1, len(images) // batch)
    steps = epochs * steps_an_epoch
    settings = {
        "epochs": epochs,
        "batch": batch,
        "rate": rate,
        "betas": betas,
        "loss": loss,
        "r1": [r1, r1_every],
        "seed": seed,
        "augment": [augment, p, mirror, list(ops)],
        "ema": ema_decay,
        "G": repr(generator),
        "D": repr(discriminator),
    }
    loop = Loop(Path(folder), "gan", settings, images, steps, batch, seed, mirror)
    generator, discriminator = generator.to(loop.device), discriminator.to(loop.device)
    ema = EMA(generator, ema_decay)
    g_opt = torch.optim.Adam(generator.parameters(), lr=rate, betas=betas, fused=True)
    d_opt = torch.optim.Adam(discriminator.parameters(), lr=rate, betas=betas, fused=True)
    extra = loop.resume({"G": generator, "D": discriminator, "ema": ema.model}, {"g_adam": g_opt, "d_adam": d_opt}, {})
    G, D, g_opt, d_opt = loop.accelerator.prepare(generator, discriminator, g_opt, d_opt)
    pipe = AugmentPipe(ops) if augment != "none" else None
    controller = AdaptiveP(budget=epochs * len(images), p=p)
    controller.load_state_dict(extra)
    sums = torch.zeros(3, device=loop.device)

    def seen_by_d(x: Tensor) -> Tensor:
        return pipe(x, controller.p) if pipe else x

    with loop.bar("GAN") as bar:
        while loop.step < steps:
            real, draws = loop.draw()
            z = torch.randn(batch, generator.latent, generator=draws).to(loop.device)
            for group in [*g_opt.param_groups, *d_opt.param_groups]:
                group["lr"] = learning_rate(loop.step + 1, steps, rate, warmup=1)
            if pipe:
                pipe.generator = draws
            # --- discriminator: ascends Eq. 14 (in the game of Eq. 13)
            fake = G(z)
            real_seen = seen_by_d(real)
            fake_seen = seen_by_d(fake.detach())
            real_logits, fake_logits_for_d = D(real_seen), D(fake_seen)
            d_loss = d_loss_fn(real_logits, fake_logits_for_d)
            penalty = 0.0
            if loss == "wgan_gp":
                penalty = 10 * gradient_penalty(D, real_seen, fake_seen, draws)
            elif r1 and loop.step % r1_every == 0:
                penalty = r1 / 2 * r1_every * r1_penalty(D, real_seen)
                if loss == "relativistic":  # R2, the same at the generated ones (R3GAN, Huang et al. 2024)
                    penalty = penalty + r1 / 2 * r1_every * r1_penalty(D, fake_seen)
            d_opt.zero_grad()
            loop.accelerator.backward(d_loss + penalty)
            d_opt.step()
            # --- generator: descends its loss (Eq. 15 if minimax)
            discriminator.requires_grad_(False)
            # The same pictures as above, augmented anew: one pass of G serves both steps.
            fake_logits = D(seen_by_d(fake))
            with torch.no_grad():  # by now D has moved: its opinion of the real ones is another
                reals_for_g = D(real_seen) if loss == "relativistic" else None
            g_loss = g_loss_fn(fake_logits, reals_for_g)
            g_opt.zero_grad()
            loop.accelerator.backward(g_loss)
            g_opt.step()
            discriminator.requires_grad_(True)
            loop.step += 1
            ema.update(generator, loop.step)
            verdicts = real_logits.detach()
            if loss in ("relativistic", "wgan_gp"):  # logits mean something only beside those of generated pictures
                verdicts = verdicts - fake_logits_for_d.detach().mean()
            if augment == "adaptive":
                controller.update(verdicts, loop.images_a_step)
            sums += torch.stack([d_loss.detach(), g_loss.detach(), verdicts.sign().mean()])
            loop.tick()
            bar.update(loop.images_a_step)
            if loop.step % steps_an_epoch == 0:
                epoch = loop.step // steps_an_epoch
                d_mean, g_mean, r_t = (sums / steps_an_epoch).tolist()
                sums.zero_()
                row = {
                    "epoch": epoch,
                    "images": loop.step * loop.images_a_step,
                    "seconds": loop.seconds,
                    "d_loss": d_mean,
                    "g_loss": g_mean,
                    "r_t": r_t,
                    "p": controller.p if pipe else 0.0,
                }
                if not abs(d_mean) + abs(g_mean) < float("inf"):
                    raise FloatingPointError(
                        f"a loss is not finite in epoch {epoch}: {d_mean=}, {g_mean=}; lower the rate ({rate})"
                    )
                if evaluate and (epoch == 1 or epoch % evaluate_every == 0):
                    row = loop.evaluate(evaluate, row, ema.model)
                loop.history.append(row)
                bar.set_postfix(epoch=epoch, D=f"{d_mean:.2f}", G=f"{g_mean:.2f}", p=f"{row['p']:.2f}")
                loop.save(controller.state_dict(), now="evaluation_seconds" in row)
    loop.save(controller.state_dict(), now=True)
    return ema.model, loop.history
