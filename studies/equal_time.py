"""Which denoiser is best after equal minutes on the same machine, ours or two that people train at
this size, and what do 1,000 samples of equal quality cost?

Contestants, all at 32 x 32 on the same rendered rooms with the same threads:

    ours                        network, recipe and loop of profile cpu
    diffusers                   UNet2DModel in the recipe of the library's tutorial (``peers``)
    ddpm-pytorch                Unet of denoising-diffusion-pytorch in the defaults of its Trainer
    diffusers, our recipe       each network trained as ours is
    ddpm-pytorch, our recipe
    ours, a fifth of the time

After equal minutes: the machine's 3x3 convolution peak, a training step of the network at batch 16
in the same loop (images/s, and their share of that peak), then the training proper for 20 minutes,
whose length in images follows from a timed start so that falling rates end with the minutes. All
are judged alike: 500 samples by DPM-Solver++(2M) with 20 evaluations of a network (our recipe
shares them between the network and its early self), their Fréchet distance (EfficientNet-Lite0) to
the validation images, and the time they took. The floor is as many training images.

At equal quality: two of these denoisers are sampled again with fewer evaluations, and 3,000 times
with as many, where the floor is far lower. Their weights lie in runs/equal_time; where they are
missing they are trained anew.

Writes results/equal_time.csv, a row a contestant, with a sheet of samples each in
results/equal_time, and results/equal_quality.csv, a row a contestant and number of evaluations. Two
threads, nothing else on the machine; three hours. The other libraries: studies/requirements.txt.
"""

import copy
import functools
import resource
import time
from collections.abc import Callable
from dataclasses import replace

import peers
import study
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bedgen_utils.diffusion import GaussianDiffusion
from bedgen_utils.metrics import compare
from bedgen_utils.models import DDPM
from bedgen_utils.train import train_ddpm

MINUTES, EVALUATIONS, SAMPLES = 20.0, 20, 500


def ours() -> nn.Module:
    return study.ddpm_recipe().build()[0]


def our_recipe(network: nn.Module, images: Tensor, steps: int, seed: int) -> DDPM:
    recipe = study.ddpm_recipe()
    recipe = replace(recipe, images=steps * recipe.batch, seed=seed)
    _, diffusion = recipe.build()
    ddpm = DDPM(network, diffusion, copy.deepcopy(network))
    for _ in train_ddpm(ddpm, images, recipe):
        pass
    return ddpm


CONTESTANTS: dict[str, tuple[Callable, Callable, float]] = {  # network, loop, share of the minutes
    "diffusers": (peers.Diffusers, peers.tutorial_of_diffusers, 1.0),
    "ddpm-pytorch": (peers.DdpmPytorch, peers.trainer_of_ddpm_pytorch, 1.0),
    "diffusers, our recipe": (peers.Diffusers, our_recipe, 1.0),
    "ddpm-pytorch, our recipe": (peers.DdpmPytorch, our_recipe, 1.0),
    "ours": (ours, our_recipe, 1.0),
    "ours, a fifth of the time": (ours, our_recipe, 0.2),
}


# ---- speed


def seconds_for(function: Callable[[], object], repeat: int) -> float:
    """The least time of ``repeat`` calls after one that is not counted."""
    function()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def convolution_peak() -> float:
    """GFLOP/s of the best of some 3x3 convolutions, forward and backward, channels_last,
    float32."""
    best = 0.0
    for n, c, s in ((16, 64, 32), (16, 128, 16), (16, 256, 16), (16, 256, 8), (32, 128, 32)):
        conv = nn.Conv2d(c, c, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(n, c, s, s).contiguous(memory_format=torch.channels_last)
        x.requires_grad_(True)
        took = seconds_for(lambda conv=conv, x=x: conv(x).sum().backward(), study.smaller(5, 1))
        best = max(best, 3 * 2 * 9 * c * c * n * s * s / took / 1e9)
    return best


def speed_and_peak(network: nn.Module) -> tuple[float, float, float]:
    """(images/s of a training step at batch 16, GFLOP an image, the machine's peak in GFLOP/s).

    The best of some rounds, step and peak in turn: the speed of a shared machine wanders.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)
    x, t = torch.randn(16, 3, 32, 32), torch.randint(1, 1001, (16,))

    def step() -> None:
        network(x, t).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as flops:
        step()
    speed, peak = 0.0, 0.0
    for _ in range(study.smaller(5, 1)):
        peak = max(peak, convolution_peak())
        speed = max(speed, 16 / seconds_for(step, study.smaller(5, 1)))
    return speed, flops.get_total_flops() / 16e9, peak


# ---- training within minutes, sampling


def trained(name: str, seed: int, minutes: float) -> tuple[DDPM, int, float]:
    """The denoiser after so many minutes (its share is in them), the images it saw, the seconds;
    its weights are kept."""
    make, loop, _ = CONTESTANTS[name]
    images = study.images("train")

    def timed(steps: int) -> tuple[DDPM, float]:
        torch.manual_seed(seed)
        network = make()
        began = time.monotonic()
        ddpm = loop(network, images, steps, seed)
        return ddpm, time.monotonic() - began

    few = study.smaller(400 // 16, 2)
    short, long = (timed(n)[1] for n in (5, 5 + few))
    steps = max(1, round(5 + (60 * minutes - short) * few / max(long - short, 1e-3)))
    ddpm, seconds = timed(steps)
    weights = {
        "network": ddpm.network.state_dict(),
        "early": ddpm.early and ddpm.early.state_dict(),
    }
    weights |= {"betas": ddpm.diffusion.betas, "prediction": ddpm.diffusion.prediction}
    path = weights_path(name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)
    return ddpm, 16 * steps, seconds


def weights_path(name: str, seed: int):
    return study.scratch("equal_time") / f"{study.words(name)}-{seed}.pt"


@functools.cache
def kept(name: str, seed: int, minutes: float) -> DDPM:
    """The denoiser as the row of equal minutes has left it, else trained anew."""
    path = weights_path(name, seed)
    with study.lock(f"weights-{path.stem}"):
        if not path.exists():
            return trained(name, seed, minutes)[0]
    weights = torch.load(path, weights_only=True)

    def network(state: dict) -> nn.Module:
        made = CONTESTANTS[name][0]()
        made.load_state_dict(state)
        return made.eval()

    diffusion = GaussianDiffusion(weights["betas"], weights["prediction"])
    early = weights["early"] and network(weights["early"])
    return DDPM(network(weights["network"]), diffusion, early)


def sampled(ddpm: DDPM, evaluations: int, n: int) -> tuple[Tensor, float]:
    """n images with so many evaluations each, half of them the early network's if there is one; the
    seconds taken."""
    began = time.monotonic()
    made = ddpm.sample(n, seed=1, steps=evaluations // 2 if ddpm.early else evaluations)
    return made, time.monotonic() - began


def distance(made: Tensor) -> int:
    """Rounded: the Fréchet distance to the validation images."""
    return round(compare(made, study.images("validation"), split="validation").distance)


# ---- the two tables


def measure_time(job: study.Job) -> dict:
    name, seed = job["contestant"], job["seed"]
    torch.manual_seed(seed)
    network = CONTESTANTS[name][0]()
    speed, gigaflop, peak = speed_and_peak(network)
    ddpm, images, seconds = trained(name, seed, job["minutes"])
    n = study.smaller(SAMPLES, 32)
    made, took = sampled(ddpm, EVALUATIONS, n)
    study.save_sheet(made, study.sheet_path(TIME, job))
    return {
        "threads": torch.get_num_threads(),
        "parameters": sum(q.numel() for q in network.parameters()),
        "GFLOP an image": round(gigaflop, 2),
        "images/s at batch 16": round(speed, 1),
        "peak GFLOP/s": round(peak),
        "share of peak": round(speed * gigaflop / peak, 3),
        "images seen": images,
        "seconds": round(seconds),
        "distance": distance(made),
        "floor": distance(study.real_rooms(n)),
        "seconds for 1,000 samples": round(1_000 * took / n),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measure_quality(job: study.Job) -> dict:
    n, name = job["samples"], job["contestant"]
    minutes = study.smaller(MINUTES * CONTESTANTS[name][2], 0.01)
    made, seconds = sampled(kept(name, job["seed"], minutes), job["evaluations"], n)
    return {
        "distance": distance(made),
        "floor": distance(study.real_rooms(n)),
        "threads": torch.get_num_threads(),
        "seconds for 1,000": round(1_000 * seconds / n, 1),
    }


TIME = study.Study(
    "equal_time",
    [
        {"contestant": name, "seed": 0, "minutes": MINUTES * share}
        for name, (_, _, share) in CONTESTANTS.items()
    ],
    measure_time,
    threads=2,
    smoke={"minutes": 0.01},
    on_cpu=True,
)
QUALITY = study.Study(
    "equal_quality",
    [
        {"contestant": name, "seed": 0, "evaluations": evaluations, "samples": n}
        for name in ("ours", "diffusers, our recipe")
        for evaluations, n in ((4, 500), (6, 500), (10, 500), (20, 3_000))
    ],
    measure_quality,
    threads=2,
    smoke={"samples": 32},
    on_cpu=True,
)

if __name__ == "__main__":
    study.main(__doc__, TIME, QUALITY)
