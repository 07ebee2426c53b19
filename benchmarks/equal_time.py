"""Our denoiser beside two others that people train on pictures of this size, in equal minutes on the same machine.

    make bench                                      # or: python benchmarks/equal_time.py --minutes 20 [--only ours …]

Contestants, all at 32 x 32 on the same rendered bedrooms with the same threads:

    ours               network, recipe and loop of profile cpu
    diffusers          UNet2DModel in the recipe of the library's unconditional training tutorial: eps, linear schedule,
                       batch 16, AdamW 1e-4, cosine rate with 500 warm-up steps, no average of the weights
    ddpm-pytorch       Unet of denoising-diffusion-pytorch in the defaults of its Trainer: v, sigmoid schedule,
                       batch 16, Adam 1e-4, average of the weights with decay 0.995
    diffusers, our recipe;  ddpm-pytorch, our recipe        each network trained as ours is
    ours, a fifth of the time

Each runs in a process of its own: the machine's 3x3 convolution peak, a training step of the network at batch 16 in the
same loop (images/s, and their share of that peak), then the training proper, whose length in images follows from a
timed start so that falling rates end with the minutes. All are judged alike: 500 samples by DPM-Solver++(2M) with 20
evaluations of a network (our recipe shares them between the network and its guide), their Fréchet distance
(EfficientNet-Lite0) to the test pictures, and the time they took. A row each goes to figures/studies/equal_time.csv
(``studies.py``), a sheet of samples to a folder beside the table, the weights to runs/equal_time; what is already there
is not run again. The peers' packages: benchmarks/requirements.txt.
"""

import argparse
import functools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import studies
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bedgen_utils.data import load_bedrooms
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule, linear_beta_schedule
from bedgen_utils.metrics import compare
from bedgen_utils.released import DDPM
from bedgen_utils.run import REPO, profile_numbers, to_float
from bedgen_utils.train import train_ddpm
from bedgen_utils.unet import UNet

P = argparse.Namespace(**profile_numbers("cpu", "03"))
EVALUATIONS, SAMPLES = 20, 500


class Diffusers(nn.Module):
    """The tutorial's network cut to three levels, attention again in the last but one; it counts t from 0."""

    def __init__(self):
        super().__init__()
        from diffusers import UNet2DModel

        self.net = UNet2DModel(
            sample_size=32,
            layers_per_block=2,
            block_out_channels=(64, 128, 128),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x, t):
        return self.net(x, t - 1).sample


class DdpmPytorch(nn.Module):
    """The other library's network, of about our size; it counts t from 0."""

    def __init__(self):
        super().__init__()
        from denoising_diffusion_pytorch import Unet

        self.net = Unet(dim=48, dim_mults=(1, 2, 2))

    def forward(self, x, t):
        return self.net(x, t - 1)


def batches(images, size, generator):
    """Endless float batches, each picture mirrored with probability 1/2, every picture once an epoch."""
    while True:
        for index in torch.randperm(len(images), generator=generator).split(size):
            if len(index) == size:
                x = to_float(images[index])
                flip = torch.rand(size, generator=generator) < 0.5
                x[flip] = x[flip].flip(-1)
                yield x


def tutorial_of_diffusers(network, images, steps, seed):
    """The loop of huggingface.co/docs/diffusers/tutorials/basic_training; returns network, process, guide."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_cosine_schedule_with_warmup

    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rate = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=500, num_training_steps=max(steps, 501))
    data = batches(images, 16, torch.Generator().manual_seed(seed))
    for _ in range(steps):
        x0 = next(data)
        noise, t = torch.randn(x0.shape), torch.randint(0, 1000, (16,))
        loss = nn.functional.mse_loss(network(scheduler.add_noise(x0, noise, t), t + 1), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    return network, GaussianDiffusion(linear_beta_schedule(1000), "eps"), None


def trainer_of_ddpm_pytorch(network, images, steps, seed):
    """What Trainer.train of denoising-diffusion-pytorch does at its defaults, fed from memory."""
    from denoising_diffusion_pytorch import GaussianDiffusion as Theirs
    from ema_pytorch import EMA

    theirs = Theirs(network.net, image_size=32)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = EMA(network, beta=0.995, update_every=10)
    data = batches(images, 16, torch.Generator().manual_seed(seed))
    for _ in range(steps):
        loss = theirs((next(data) + 1) / 2)
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
    betas = torch.cat([torch.zeros(1, dtype=torch.float64), theirs.betas.double()])
    return average.ema_model, GaussianDiffusion(betas, "v"), None


def our_recipe(network, images, steps, seed):
    diffusion = GaussianDiffusion(cosine_beta_schedule(P.T), "v")
    with tempfile.TemporaryDirectory() as folder:
        trained, young, _ = train_ddpm(
            network, diffusion, images, Path(folder), images_seen=steps * P.batch, batch=P.batch, peak_rate=P.peak_rate,
            warmup=P.warmup, ema_decay=P.ema_decay, weighting=P.weighting, seed=seed,
        )  # fmt: skip
    return trained, diffusion, young


def ours():
    return UNet(P.size, tuple(P.widths), P.blocks, P.fold)


# name: network, loop, its batch, share of the minutes
CONTESTANTS = {
    "diffusers": (Diffusers, tutorial_of_diffusers, 16, 1.0),
    "ddpm-pytorch": (DdpmPytorch, trainer_of_ddpm_pytorch, 16, 1.0),
    "diffusers, our recipe": (Diffusers, our_recipe, P.batch, 1.0),
    "ddpm-pytorch, our recipe": (DdpmPytorch, our_recipe, P.batch, 1.0),
    "ours": (ours, our_recipe, P.batch, 1.0),
    "ours, a fifth of the time": (ours, our_recipe, P.batch, 0.2),
}


def seconds_for(function, repeat):
    """The least time of ``repeat`` calls after one that is not counted."""
    function()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def convolution_peak():
    """GFLOP/s of the best of some 3x3 convolutions, forward and backward, channels_last, float32."""
    best = 0.0
    for n, c, s in ((16, 64, 32), (16, 128, 16), (16, 256, 16), (16, 256, 8), (32, 128, 32)):
        conv = nn.Conv2d(c, c, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(n, c, s, s).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        took = seconds_for(lambda conv=conv, x=x: conv(x).sum().backward(), 5)
        best = max(best, 3 * 2 * 9 * c * c * n * s * s / took / 1e9)
    return best


def speed_and_peak(network, rounds=5):
    """(images/s of a training step at batch 16, GFLOP an image, the machine's peak in GFLOP/s).

    The best of some rounds, step and peak in turn: the speed of a shared machine wanders.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)
    x, t = torch.randn(16, 3, 32, 32), torch.randint(1, 1001, (16,))

    def step():
        network(x, t).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as flops:
        step()
    speed, peak = 0.0, 0.0
    for _ in range(rounds):
        peak = max(peak, convolution_peak())
        speed = max(speed, 16 / seconds_for(step, 5))
    return speed, flops.get_total_flops() / 16e9, peak


def save_sheet(samples, path):
    """The first 64 of uint8 samples (N, 3, 32, 32), sixteen in a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = samples[:64].reshape(4, 16, 3, 32, 32).permute(0, 3, 1, 4, 2).reshape(4 * 32, 16 * 32, 3)
    Image.fromarray(sheet.numpy()).save(path)


def stem(name: str, seed: int) -> str:
    """What the files of a contestant are called."""
    return f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def sampled(ddpm: DDPM, evaluations: int, n: int = SAMPLES) -> tuple[torch.Tensor, float]:
    """n pictures with so many evaluations each, half of them the guide's if there is one; the seconds taken."""
    began = time.monotonic()
    samples = ddpm.sample(n, seed=1, steps=evaluations // 2 if ddpm.guide else evaluations)
    return samples, time.monotonic() - began


@functools.cache
def floor(n: int = SAMPLES) -> float:
    """The distance of n training pictures to the test pictures."""
    return compare(studies.real_rooms(n), load_bedrooms("rendered", "test", 32)).distance


def measure(name: str, minutes: float, seed: int, table: Path) -> dict:
    make, loop, batch, share = CONTESTANTS[name]
    images, test = load_bedrooms("rendered", "train", 32), load_bedrooms("rendered", "test", 32)
    torch.manual_seed(seed)
    network = make()
    speed, gigaflop, peak = speed_and_peak(network)
    row = {
        "threads": torch.get_num_threads(),
        "parameters": sum(q.numel() for q in network.parameters()),
        "GFLOP an image": round(gigaflop, 2),
        "images/s at batch 16": round(speed, 1),
        "peak GFLOP/s": round(peak),
        "share of peak": round(speed * gigaflop / peak, 3),
    }

    def timed(steps):
        torch.manual_seed(seed)
        network = make()
        began = time.monotonic()
        trained = loop(network, images, steps, seed)
        return trained, time.monotonic() - began

    short, long = (timed(n)[1] for n in (5, 5 + 400 // batch))
    steps = round(5 + (60 * minutes * share - short) * (400 // batch) / (long - short))
    (trained, diffusion, young), seconds = timed(steps)
    folder = REPO / "runs" / "equal_time"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"network": trained.state_dict(), "guide": young and young.state_dict()}
    weights |= {"betas": diffusion.betas, "prediction": diffusion.prediction}
    torch.save(weights, folder / f"{stem(name, seed)}.pt")
    samples, took = sampled(DDPM(trained.eval(), diffusion, 32, [], {}, "benchmark", young), EVALUATIONS)
    save_sheet(samples, table.with_suffix("") / f"{stem(name, seed)}.png")
    return row | {
        "images seen": steps * batch,
        "seconds": round(seconds),
        "distance": round(compare(samples, test).distance),
        "floor": round(floor()),
        "seconds for 1,000 samples": round(1_000 * took / SAMPLES),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    # --here: in this process, not in one of its own; what this script calls itself with
    options = studies.options(__doc__, "equal_time.csv", list(CONTESTANTS), [0], minutes=20.0, here=False)
    for seed in options.seeds:
        for name in options.only:
            key = {"contestant": name, "seed": seed, "minutes": options.minutes * CONTESTANTS[name][3]}
            if options.here or studies.is_done(options.out, key):
                studies.run(options.out, key, lambda n=name, s=seed: measure(n, options.minutes, s, options.out))
            else:
                call = [sys.executable, __file__, "--here", "--only", name, "--seeds", str(seed)]
                call += ["--minutes", str(options.minutes), "--threads", str(options.threads)]
                subprocess.run([*call, "--out", str(options.out)], check=True)


if __name__ == "__main__":
    main()
