"""What does augmentation do for a GAN that learns from 1,000 images, as the report's did, and from
photographs?

Everything but the augmentation is the recipe of profile ``cpu`` (300 epochs of 1,000 images):
"none" (not even mirrored images), "fixed" (p = 0.3 throughout), "adaptive", and "adaptive,
geometry" by the geometric operations alone; "none, no R1" and "adaptive, no R1" do without R1 and
R2 too, whose pull towards a flat D is itself a remedy for knowing the images by heart. Measured are
the Fréchet and the kernel distance (EfficientNet-Lite0) of 2,000 samples to the validation images
at the end, both also from 250 samples after the first epoch, the curve of the former after every
tenth, p, r_t, and the share of D's verdict gap between training and generated images that
validation images lose at the end (what D knows by heart). Three seeds.

The same with photographs: the folder that the environment variable BEDGEN_PHOTOGRAPHS names, three
quarters to learn from, a quarter as reference, for every seed the same. So small a reference raises
Fréchet distances; "real kernel" is what the training images themselves score. The rows there are of
401 photographs in a folder ``real_bedrooms``.

Writes results/gan_augmentation.csv and results/gan_photographs.csv, a row a kind of augmentation
and seed. One thread; two hours. ``curve`` is drawn from 250 samples at a time.
"""

import os
from dataclasses import replace

import study
import torch
from torch import Tensor

from bedgen_utils.augment import GEOMETRY
from bedgen_utils.data import load_bedrooms, to_float
from bedgen_utils.metrics import features, frechet_from_features, kernel_distance, moments
from bedgen_utils.models import GAN
from bedgen_utils.sources import dataset_sha256
from bedgen_utils.train import train_gan

KINDS: dict[str, dict] = {  # what differs from profile cpu
    "none": {"augment": "none"},
    "adaptive": {},
    "fixed": {"augment": "fixed", "p_aug": 0.3},
    "adaptive, geometry": {"ops": GEOMETRY},
    "none, no R1": {"augment": "none", "gamma": 0.0},
    "adaptive, no R1": {"gamma": 0.0},
}
EPOCHS = study.gan_recipe().images // study.numbers("04").train_images


def trained_and_measured(job: study.Job, images: Tensor, real: Tensor) -> dict:
    p, n, epochs = study.numbers("04"), len(images), job["epochs"]
    reference, of_real = moments(real, cache=True), features(real[:1_000])
    changes = KINDS[job["augment"]]
    recipe = replace(study.gan_recipe(), images=epochs * n, seed=job["seed"], **changes)
    generator, discriminator = recipe.build()
    gan = GAN(generator, recipe)

    @torch.no_grad()
    def verdict(some: Tensor) -> float:
        device = next(discriminator.parameters()).device
        return discriminator(to_float(some[: p.n_verdict]).to(device)).mean().item()

    def look() -> dict:
        made = gan.sample(p.n_look, seed=1)
        known, fake, of_made = verdict(images), verdict(made), features(made)
        return {
            "distance": frechet_from_features(of_made, reference),
            "kernel": kernel_distance(of_made, of_real).value,
            "gap": (known - verdict(real)) / (known - fake),
        }

    at = [n, *range(10 * n, epochs * n + 1, 10 * n)]  # after the first epoch and every tenth
    rows = train_gan(gan, discriminator, images, recipe, evaluate=look, evaluate_at=at, log_every=n)
    history = list(rows)
    looks = [row for row in history if "distance" in row]
    made = features(gan.sample(p.n_final, seed=3))
    return {
        "distance": round(frechet_from_features(made, reference)),
        "kernel": round(kernel_distance(made, of_real).value, 4),
        "first kernel": round(looks[0]["kernel"], 4),
        "curve": " ".join(f"{row['distance']:.0f}" for row in looks),
        "p": round(history[-1]["p"], 3),
        "r_t": round(history[-1]["r_t"], 3),
        "gap": round(looks[-1]["gap"], 3),
        "training seconds": round(history[-1]["seconds"]),
    }


def measure_rooms(job: study.Job) -> dict:
    images = study.images("train", limit=study.numbers("04").train_images)
    return trained_and_measured(job, images, study.images("validation"))


def measure_photographs(job: study.Job) -> dict:
    folder = os.environ.get("BEDGEN_PHOTOGRAPHS")
    if not folder:
        raise SystemExit("BEDGEN_PHOTOGRAPHS must name a folder of photographs of bedrooms")
    everything = load_bedrooms("folder", "all", study.gan_recipe().size, path=folder)
    n = len(everything) * 3 // 4  # they come in shuffled order
    images, real = everything[:n], everything[n:]
    about = {
        "train images": n,
        "reference": len(real),
        "real kernel": round(kernel_distance(features(images), features(real)).value, 4),
        "data_sha256": dataset_sha256("folder", folder),
        "split": "a quarter",
    }
    return about | trained_and_measured(job, images, real)


ROOMS = study.Study(
    "gan_augmentation",
    [{"augment": name, "seed": seed, "epochs": EPOCHS} for seed in (0, 1, 2) for name in KINDS],
    measure_rooms,
    smoke={"epochs": 2},
)
PHOTOGRAPHS = study.Study(
    "gan_photographs",
    [
        {"augment": name, "seed": seed, "epochs": EPOCHS, "folder": "real_bedrooms"}
        for seed in (0, 1, 2)
        for name in ("none", "adaptive")
    ],
    measure_photographs,
    smoke={"epochs": 2},
)

if __name__ == "__main__":
    study.main(__doc__, ROOMS, PHOTOGRAPHS)
