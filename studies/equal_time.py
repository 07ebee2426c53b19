"""Which model is best after equal minutes of one core: our DDPM, our GAN, or the denoisers that two
libraries bring?

All learn from the same 12,000 rendered rooms at 32 px:

    DDPM, GAN               network, recipe and loop of profile cpu; the GAN, too, from all images
    DDPM, a fifth of the time
    diffusers               UNet2DModel in the recipe of the library's tutorial (``peers``)
    ddpm-pytorch            Unet of denoising-diffusion-pytorch in the defaults of its Trainer
    diffusers, our recipe   each network trained as our DDPM is
    ddpm-pytorch, our recipe
    real rooms              training images, no model at all: the floor

All average their weights, and all train with bfloat16 products where the processor has them. A
timed start says how many steps fit into the minutes, so that falling rates end with them; who then
misses the time by more than an eighth trains again. Minutes are of processor time, which other work
on the machine hardly changes. Denoisers are sampled by
DPM-Solver++(2M) with 20 evaluations of a network (our recipe shares them between the network and
its early self). 300 samples are held against the 3,000 test images: kernel and Fréchet distance
(EfficientNet-Lite0), precision and recall. Nothing was chosen by these rows.

Writes results/equal_time.csv, a row a contestant and seed, with a sheet of samples each in
results/equal_time. One thread; three hours. The other libraries: studies/requirements.txt.
"""

import copy
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import peers
import study
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bedgen_utils.metrics import evaluate
from bedgen_utils.models import DDPM, GAN
from bedgen_utils.train import train_ddpm, train_gan

MINUTES, EVALUATIONS, SAMPLES = 6.0, 20, 300
OFF = 1 / 8  # a training that misses its time by a larger share does not count


def our_ddpm(network: nn.Module, images: Tensor, steps: int, seed: int) -> DDPM:
    recipe = study.ddpm_recipe()
    recipe = replace(recipe, images=steps * recipe.batch, seed=seed)
    _, diffusion = recipe.build()
    ddpm = DDPM(network, diffusion, copy.deepcopy(network))
    for _ in train_ddpm(ddpm, images, recipe):
        pass
    return ddpm


def our_gan(generator: nn.Module, images: Tensor, steps: int, seed: int) -> GAN:
    recipe = study.gan_recipe()
    recipe = replace(recipe, images=steps * recipe.batch, seed=seed)
    _, discriminator = recipe.build()
    gan = GAN(generator, recipe)
    for _ in train_gan(gan, discriminator, images, recipe):
        pass
    return gan


@dataclass(frozen=True)
class Contestant:
    """network() -> the network to train; loop: (network, images, steps, seed) -> a model."""

    network: Callable[[], nn.Module]
    loop: Callable[[nn.Module, Tensor, int, int], DDPM | GAN]
    batch: int
    share: float = 1.0  # of the minutes


def unet() -> nn.Module:
    return study.ddpm_recipe().build()[0]


def generator() -> nn.Module:
    return study.gan_recipe().build()[0]


OURS = study.ddpm_recipe().batch
CONTESTANTS = {
    "DDPM": Contestant(unet, our_ddpm, OURS),
    "DDPM, a fifth of the time": Contestant(unet, our_ddpm, OURS, 0.2),
    "GAN": Contestant(generator, our_gan, study.gan_recipe().batch),
    "diffusers": Contestant(peers.Diffusers, peers.tutorial_of_diffusers, peers.BATCH),
    "ddpm-pytorch": Contestant(peers.DdpmPytorch, peers.trainer_of_ddpm_pytorch, peers.BATCH),
    "diffusers, our recipe": Contestant(peers.Diffusers, our_ddpm, OURS),
    "ddpm-pytorch, our recipe": Contestant(peers.DdpmPytorch, our_ddpm, OURS),
}


def steps_within(seconds: float, run: Callable[[int], float]) -> int:
    """How many steps take so long; ``run(n)`` takes n of them and returns its seconds.

    From runs of twice the length until one takes a thirtieth of the time: what a run takes to begin
    falls out of their difference. The very first call, which also imports, does not count.
    """
    run(1)
    n, before, took = 4, run(2), run(4)
    while took < seconds / 30 or took <= before:
        n, before, took = 2 * n, took, run(2 * n)
    return max(1, round(n + (seconds - took) * n / 2 / (took - before)))


def trained(contestant: Contestant, minutes: float, seed: int) -> tuple[DDPM | GAN, int, float]:
    """The model after so many minutes, the images it saw, and its seconds of processor time."""
    images = study.images("train")

    def timed(steps: int) -> tuple[DDPM | GAN, float]:
        torch.manual_seed(seed)
        network = contestant.network()
        began = time.process_time()
        model = contestant.loop(network, images, steps, seed)
        return model, time.process_time() - began

    steps = steps_within(60 * minutes, lambda n: timed(n)[1])
    model, seconds = timed(steps)
    while minutes > 1 and abs(seconds / (60 * minutes) - 1) > OFF:
        steps = round(steps * 60 * minutes / seconds)
        model, seconds = timed(steps)
    return model, steps * contestant.batch, seconds


def sampled(model: DDPM | GAN, n: int, seed: int) -> Tensor:
    if isinstance(model, GAN):
        return model.sample(n, seed=seed)
    return model.sample(n, seed=seed, steps=EVALUATIONS // 2 if model.early else EVALUATIONS)


def gigaflop_a_step(contestant: Contestant) -> float | str:
    """Of a denoiser's network, forward and backward, an image; "" for a GAN, which has two."""
    if contestant.loop is our_gan:
        return ""
    with FlopCounterMode(display=False) as flops:
        network = contestant.network()
        network(torch.randn(1, 3, 32, 32), torch.tensor([1])).sum().backward()
    return round(flops.get_total_flops() / 1e9, 2)


def judged(made: Tensor) -> dict:
    e = evaluate(made, study.images("test"), split="test")
    return {
        "kernel": round(e.kernel, 3),
        "kernel error": round(e.kernel_error, 3),
        "distance": round(e.distance, 1),
        "precision": round(e.precision, 3),
        "recall": round(e.recall, 3),
    }


def measure(job: study.Job) -> dict:
    name, seed, n = job["contestant"], job["seed"], study.smaller(SAMPLES, 32)
    if name == "real rooms":
        return judged(study.real_rooms(n, seed=seed))
    contestant = CONTESTANTS[name]
    model, images, seconds = trained(contestant, job["minutes"], seed)
    began = time.process_time()
    made = sampled(model, n, seed + 100)
    took = time.process_time() - began
    study.save_sheet(made, study.sheet_path(STUDY, job))
    return {
        "parameters": sum(q.numel() for q in contestant.network().parameters()),
        "GFLOP an image": gigaflop_a_step(contestant),
        "images seen": images,
        "seconds": round(seconds),
        **judged(made),
        "seconds for 1,000 samples": round(1_000 * took / n, 1),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


STUDY = study.Study(
    "equal_time",
    [
        {"contestant": name, "seed": seed, "minutes": minutes, "threads": 1}
        for seed in (0, 1, 2)
        for name, minutes in [
            *((name, round(MINUTES * c.share, 3)) for name, c in CONTESTANTS.items()),
            ("real rooms", 0.0),
        ]
    ],
    measure,
    smoke={"minutes": 0.01},
    split="test",
    on_cpu=True,
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
