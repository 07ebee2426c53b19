"""Which recipe teaches a denoiser most in equal minutes?

Each recipe changes one thing, or the few that its name says, of the recipe of profile ``cpu``, for the same wall-clock
time: a short timed run gives its speed, the speed times the minutes gives the images it may see, so that the fall of
the learning rate ends where the time does. Then the Fréchet distance of 500 samples to the test pictures (EfficientNet-
Lite0 features), without the young guide, whose weight was chosen for profile cpu; and the bound on 48 test pictures in
bits per dimension with its standard error and the means of its terms over spans of t (variance beta_t where none is
learned; notebook 03, section 10, says how it is summed).

    python benchmarks/recipes.py --threads 1 [--minutes 2.5] [--seeds 0 1] [--only "batch 8" …]

Two calls with one thread each fit a machine with two cores that does nothing else; ``seconds`` tells whether the
minutes were kept. A row each goes to figures/studies/recipes.csv (``studies.py``); what is there is not run again.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import studies
import torch
from both_models import bits, bounds

from bedgen_utils.data import load_bedrooms
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule, linear_beta_schedule
from bedgen_utils.metrics import compare
from bedgen_utils.released import DDPM
from bedgen_utils.run import profile_numbers
from bedgen_utils.train import train_ddpm
from bedgen_utils.unet import UNet

EDGES = np.unique(np.geomspace(1, 1000, 25).round().astype(int))  # the terms L_{t-1}, t = 2 … 1000, in spans

RECIPES = {
    "profile cpu": {},
    "AdamW alone": {"muon": False},
    "loss unweighted": {"weighting": "simple"},
    # Twice the batch, half the steps: the average forgets twice as fast a step, and the rate grows between 1 and 2.
    "batch 8": {"batch": 8, "peak_rate": 1e-3, "ema_decay": 0.999},
    "batch 32": {"batch": 32, "peak_rate": 2e-3, "ema_decay": 0.996},
    "rate halved": {"peak_rate": 0.75e-3},
    "rate doubled": {"peak_rate": 3e-3},
    "eps": {"prediction": "eps"},
    "linear schedule, loss unweighted": {"schedule": linear_beta_schedule, "weighting": "simple"},
    # The hybrid term must meet all t often: by the weights of min-SNR hardly any picture has t <= 5.
    "L_hybrid, loss unweighted": {"variance": "learned", "weighting": "simple"},
    "linear schedule, L_hybrid, loss unweighted": {
        "schedule": linear_beta_schedule,
        "variance": "learned",
        "weighting": "simple",
    },
    "eps, linear schedule, loss unweighted": {
        "prediction": "eps",
        "weighting": "simple",
        "schedule": linear_beta_schedule,
    },
    "x0": {"prediction": "x0"},
    "wider": {"widths": (64, 96, 160)},
    "wider below": {"widths": (48, 96, 192)},
    "two blocks": {"blocks": 2},
    "folded by 2, wider": {"widths": (64, 128, 192), "fold": 2},
}


def measure(change: dict, minutes: float, seed: int) -> dict:
    """Train one recipe for ``minutes``; its images/s, images seen and Fréchet distance."""
    p = argparse.Namespace(**profile_numbers("cpu", "03"))
    recipe = {
        "widths": tuple(p.widths),
        "blocks": p.blocks,
        "fold": p.fold,
        "prediction": "v",
        "batch": p.batch,
        "peak_rate": p.peak_rate,
        "ema_decay": p.ema_decay,
        "weighting": p.weighting,
        "muon": True,
        "schedule": cosine_beta_schedule,
        "variance": "large",
    } | change
    images, test = load_bedrooms(p.source, "train", p.size), load_bedrooms(p.source, "test", p.size)
    diffusion = GaussianDiffusion(recipe["schedule"](p.T), recipe["prediction"], recipe["variance"])
    settings = {key: recipe[key] for key in ("batch", "peak_rate", "ema_decay", "weighting", "muon")}
    settings |= {"warmup": p.warmup, "seed": seed}

    def trained(images_seen, **options):
        torch.manual_seed(seed)
        learned = recipe["variance"] == "learned"
        network = UNet(p.size, recipe["widths"], recipe["blocks"], recipe["fold"], learned_variance=learned)
        with tempfile.TemporaryDirectory() as folder:
            return train_ddpm(network, diffusion, images, Path(folder), images_seen=images_seen, **settings, **options)

    *_, rows = trained(60 * recipe["batch"], log_every=20)
    first, last = rows[0], rows[-1]  # the first steps are slower: memory is allocated, kernels are chosen
    speed = (last["images"] - first["images"]) / (last["seconds"] - first["seconds"])
    began = time.monotonic()
    network, _, history = trained(int(speed * minutes * 60))
    seconds = time.monotonic() - began
    ddpm = DDPM(network, diffusion, p.size, [], {}, "study")
    groups = bounds(ddpm, test[: p.n_bound], seed)
    terms = torch.cat([b.terms for b in groups]).mean(0)[1:-1]  # L_1 … L_{T-1}
    return {
        "images": history[-1]["images"],
        "seconds": round(seconds),
        "distance": round(compare(ddpm.sample(500, seed=1, steps=p.steps), test).distance),
        "scored": p.n_bound,
        **bits(groups),
        "terms": " ".join(f"{part.mean():.3g}" for part in terms.split(np.diff(EDGES).tolist())),
    }


def main() -> None:
    options = studies.options(__doc__, "recipes.csv", list(RECIPES), [0, 1], minutes=2.5)
    for seed in options.seeds:
        for name in options.only:
            key = {"recipe": name, "seed": seed, "minutes": options.minutes, "threads": options.threads}
            studies.run(options.out, key, lambda name=name, seed=seed: measure(RECIPES[name], options.minutes, seed))


if __name__ == "__main__":
    main()
