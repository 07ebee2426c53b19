"""Which recipe teaches a denoiser most in equal minutes?

Each recipe changes one thing, or the few that its name says, of the recipe of profile ``cpu``, and
trains as long by the clock: a short timed run gives its speed, and speed times minutes the images
it may see, so that the fall of the learning rate ends where the time does; ``seconds`` tells
whether the minutes were kept. Measured are the Fréchet distance (EfficientNet-Lite0) of 500 samples
to the validation images, without the early network, whose weight was chosen for profile cpu; and
the bound on 48 validation images in bits per dimension, with its standard error and the means of
its terms over spans of t (variance beta_t where none is learned; notebook 03, section 12, says how
it is summed).

Writes results/recipes.csv, a row a recipe and seed. One thread; two hours.
"""

import time
from dataclasses import replace

import numpy as np
import study
import torch

from bedgen_utils.data import to_float
from bedgen_utils.diffusion import Bound
from bedgen_utils.metrics import compare
from bedgen_utils.models import DDPM
from bedgen_utils.train import DDPMRecipe, train_ddpm

EDGES = np.unique(np.geomspace(1, 1000, 25).round().astype(int))  # spans of L_{t-1}, t = 2 … 1000

RECIPES: dict[str, dict] = {  # what differs from profile cpu
    "profile cpu": {},
    "AdamW alone": {"muon": False},
    "loss unweighted": {"weighting": "simple"},
    # Twice the batch, half the steps: the average forgets twice as fast a step, and the rate grows
    # between 1 and 2.
    "batch 8": {"batch": 8, "rate": 1e-3, "ema": 0.999},
    "batch 32": {"batch": 32, "rate": 2e-3, "ema": 0.996},
    "rate halved": {"rate": 0.75e-3},
    "rate doubled": {"rate": 3e-3},
    "eps": {"prediction": "eps"},
    "linear schedule, loss unweighted": {"schedule": "linear", "weighting": "simple"},
    # The hybrid term must meet all t often: by the weights of min-SNR hardly any image has t <= 5.
    "L_hybrid, loss unweighted": {"variance": "learned", "weighting": "simple"},
    "linear schedule, L_hybrid, loss unweighted": {
        "schedule": "linear",
        "variance": "learned",
        "weighting": "simple",
    },
    "eps, linear schedule, loss unweighted": {
        "prediction": "eps",
        "schedule": "linear",
        "weighting": "simple",
    },
    "x0": {"prediction": "x0"},
    "wider": {"widths": (64, 96, 160)},
    "wider below": {"widths": (48, 96, 192)},
    "two blocks": {"blocks": 2},
    "folded by 2, wider": {"widths": (64, 128, 192), "fold": 2},
}


def trained(recipe: DDPMRecipe, log_every: int = 1000) -> tuple[DDPM, list[dict]]:
    """The denoiser alone, without its early network; the rows of its training."""
    network, diffusion = recipe.build()
    ddpm = DDPM(network, diffusion, recipe=recipe)
    rows = train_ddpm(ddpm, study.images("train", recipe.size), recipe, log_every=log_every)
    return ddpm, list(rows)


def bounds(ddpm: DDPM, seed: int) -> list[Bound]:
    """The bound on validation images, by groups that share their drawn terms (notebook 03)."""
    p, draws = study.numbers("03"), torch.Generator().manual_seed(seed)
    groups = to_float(study.images("validation", limit=p.n_bound)[: p.n_bound]).split(p.bound_group)
    return [ddpm.diffusion.vlb(ddpm.network, x, draws, thin=p.bound_thin) for x in groups]


def bits(groups: list[Bound]) -> dict:
    """Bits/dim and its standard error over the groups."""
    values = torch.stack([group.total.mean() for group in groups])
    error = values.std().item() / len(values) ** 0.5
    return {"bits/dim": round(values.mean().item(), 3), "bits/dim error": round(error, 3)}


def measure(job: study.Job) -> dict:
    change = {"variance": "large"} | RECIPES[job["recipe"]]
    recipe = replace(study.ddpm_recipe(), seed=job["seed"], **change)
    short = replace(recipe, images=60 * recipe.batch)
    _, warm = trained(short, log_every=10 * recipe.batch)
    began = time.monotonic()
    recipe = replace(recipe, images=study.images_in(60 * job["minutes"], warm, 1))
    ddpm, history = trained(recipe)
    seconds = time.monotonic() - began
    groups = bounds(ddpm, job["seed"])
    terms = torch.cat([group.terms for group in groups]).mean(0)[1:-1]  # L_1 … L_{T-1}
    made = ddpm.sample(study.smaller(500, 32), seed=1, steps=study.numbers("03").steps)
    reference = study.images("validation", recipe.size)
    return {
        "images": history[-1]["images"],
        "seconds": round(seconds),
        "distance": round(compare(made, reference, split="validation").distance),
        "scored": study.numbers("03").n_bound,
        **bits(groups),
        "terms": " ".join(f"{part.mean():.3g}" for part in terms.split(np.diff(EDGES).tolist())),
    }


STUDY = study.Study(
    "recipes",
    [
        {"recipe": name, "seed": seed, "minutes": 2.5, "threads": 1}
        for seed in (0, 1)
        for name in RECIPES
    ],
    measure,
    smoke={"minutes": 0.02},
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
