"""DDPM or GAN, from as many images and from as many seconds?

Both learn from the same 12,000 rendered rooms at 32 px by the recipes of profile ``cpu`` (the GAN
with adaptive augmentation), shorter: the DDPM for one epoch, the GAN once for as many images and
once for as many seconds as the DDPM's training of the same seed took. In all three the fall of the
learning rate ends with the run. Of all, 1,000 samples are held against 2,000 validation images:
Fréchet and kernel distance (EfficientNet-Lite0), precision, recall, the kinds of rooms a classifier
reads in them and the total variation to those of the real ones (``factors``), the DDPM's bound in
bits/dim with its standard error, and what it cost. "real images" is the floor: the other 1,000
validation images, held against these. Three seeds.

Writes results/both_models.csv, a row a set and seed. One thread; one hour. A row that needs the
seconds of another measures that one first.
"""

import time
from dataclasses import replace

import study
import torch

from bedgen_utils.factors import KIND, combined, load_classifier, total_variation
from bedgen_utils.metrics import evaluate
from bedgen_utils.models import DDPM, GAN
from bedgen_utils.train import train_ddpm, train_gan

SETS = ["real images", "DDPM", "GAN, as many images", "GAN, as many seconds"]


def trained_ddpm(images: torch.Tensor, seen: int, seed: int) -> DDPM:
    recipe = replace(study.ddpm_recipe(), images=seen, seed=seed)
    ddpm = DDPM.from_recipe(recipe)
    ddpm.history = list(train_ddpm(ddpm, images, recipe))
    return ddpm


def trained_gan(images: torch.Tensor, seen: int, seed: int) -> GAN:
    recipe = replace(study.gan_recipe(), images=seen, seed=seed)
    generator, discriminator = recipe.build()
    gan = GAN(generator, recipe)
    gan.history = list(train_gan(gan, discriminator, images, recipe))
    return gan


def images_in_the_seconds_of_the_ddpm(job: study.Job) -> int:
    ddpm, gan = (STUDY.row(job | {"set": name}) for name in SETS[1:3])
    share = float(ddpm["training seconds"]) / float(gan["training seconds"])
    return max(1, round(share * int(gan["images"])))


def measure(job: study.Job) -> dict:
    name, seed, n = job["set"], job["seed"], job["n"]
    train, real = study.images("train"), study.images("validation")
    real = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))]
    cost = {"images": 0, "training seconds": 0, "parameters": 0, "seconds per 1,000": ""}
    cost |= {"bits/dim": "", "bits/dim error": ""}
    if name == "real images":
        made = real[:n]
    else:
        seen = job["epochs"] * len(train)
        if name == "GAN, as many seconds":
            seen = images_in_the_seconds_of_the_ddpm(job)
        model: DDPM | GAN
        if name == "DDPM":
            model = trained_ddpm(train, seen, seed)
            network = model.network
            cost |= study.bits(study.bounds(model, seed))
        else:
            model = trained_gan(train, seen, seed)
            network = model.generator
        began = time.monotonic()
        made = model.sample(n, seed=seed + 100)
        cost |= {
            "images": model.history[-1]["images"],
            "training seconds": round(model.history[-1]["seconds"], 1),
            "parameters": sum(q.numel() for q in network.parameters()),
            "seconds per 1,000": round(1000 * (time.monotonic() - began) / n, 1),
        }
    e = evaluate(made, real[n:], split="validation")
    reader = load_classifier()
    (mine, count), (theirs, _) = (combined(reader.read(x), KIND) for x in (made, real[n:]))
    return cost | {
        "reference": e.protocol.n_reference,
        "distance": round(e.distance, 1),
        "kernel": round(e.kernel, 4),
        "kernel error": round(e.kernel_error, 4),
        "precision": round(e.precision, 3),
        "recall": round(e.recall, 3),
        "kinds": len(mine.unique()),
        "total variation": round(total_variation(mine, theirs, count), 3),
    }


STUDY = study.Study(
    "both_models",
    [
        {"set": name, "seed": seed, "epochs": 1, "n": 1_000, "threads": 1}
        for seed in (0, 1, 2)
        for name in SETS
    ],
    measure,
    smoke={"n": 32},
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
