"""The report's experiment as an experiment: 1,000 pictures, 300 epochs, with and without augmentation, several seeds.

    python benchmarks/gan_augmentation.py --threads 1 --seeds 0 1 2

Everything but the augmentation is the recipe of profile ``cpu``: "none" (not even mirrored pictures), "fixed" (p = 0.3
throughout), "adaptive", and "adaptive, geometry" by the geometric operations alone; "none, no R1" and "adaptive, no R1"
do without R1 and R2 too, whose pull towards a flat D is itself a remedy for knowing the pictures by heart (the stored
table has no rows of these two). Two calls with one thread each fit a machine with two cores. A row each goes to
figures/studies/gan_augmentation.csv (``studies.py``): the Fréchet and the kernel distance (EfficientNet-Lite0) of 2,000
samples to the test pictures at the end, both also from 250 samples after the first epoch, the curve of the former after
every tenth, p, r_t, and the share of D's verdict gap between training and generated pictures that test pictures lose at
the end (what D knows by heart).

With ``--folder PATH`` the pictures are your own: three quarters to learn from, a quarter as reference, for every seed
the same. So small a reference raises Fréchet distances; in these rows, in gan_photographs.csv beside the other table,
"real kernel" is what the training pictures themselves score.
"""

import argparse
import tempfile
from pathlib import Path

import studies
import torch

from bedgen_utils.augment import GEOMETRY
from bedgen_utils.data import dataset_sha256, load_bedrooms
from bedgen_utils.gan import Discriminator, Generator
from bedgen_utils.metrics import features, frechet_from_features, kernel_distance, moments
from bedgen_utils.released import GAN
from bedgen_utils.run import profile_numbers, to_float
from bedgen_utils.train import train_gan

P = argparse.Namespace(**profile_numbers("cpu", "04"))
KINDS = {  # what differs from profile cpu
    "none": {"augment": "none"},
    "adaptive": {},
    "fixed": {"augment": "fixed", "p": 0.3},
    "adaptive, geometry": {"ops": GEOMETRY},
    "none, no R1": {"augment": "none", "r1": 0.0},
    "adaptive, no R1": {"r1": 0.0},
}


def pictures(folder: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What to learn from, and the reference."""
    if not folder:
        train = load_bedrooms(P.source, "train", P.size, limit=P.train_images)
        return train, load_bedrooms(P.source, "test", P.size)
    everything = load_bedrooms("folder", "all", P.size, path=folder)  # in shuffled order
    n = len(everything) * 3 // 4
    return everything[:n], everything[n:]


def measure(kind: str, epochs: int, seed: int, folder: str) -> dict:
    images, test = pictures(folder)
    reference, of_test = moments(test, cache=True), features(test[:1_000])
    torch.manual_seed(seed)
    G, D = Generator(P.size, P.latent, P.width), Discriminator(P.size, P.d_width)

    def samples(generator, n, draw):
        return GAN(generator, P.size, [], {}, "study").sample(n, seed=draw)

    @torch.no_grad()
    def verdict(pictures):
        return D(to_float(pictures[: P.n_verdict]).to(next(D.parameters()).device)).mean().item()

    def look(generator):
        made = samples(generator, P.n_look, 1)
        known, fake, of_made = verdict(images), verdict(made), features(made)
        return {
            "distance": frechet_from_features(of_made, reference),
            "kernel": kernel_distance(of_made, of_test).value,
            "gap": (known - verdict(test)) / (known - fake),
        }

    with tempfile.TemporaryDirectory() as scratch:
        generator, history = train_gan(
            G, D, images, Path(scratch), epochs=epochs, batch=P.batch, rate=P.rate, betas=tuple(P.betas),
            loss=P.loss, r1_every=P.r1_every, mirror=P.mirror, ema_decay=P.ema_decay, seed=seed, evaluate=look,
            evaluate_every=P.evaluate_every, **({"r1": P.r1} | KINDS[kind]),
        )  # fmt: skip
    looks = [row for row in history if "distance" in row]
    made = features(samples(generator, P.n_final, 3))
    extra = {}
    if folder:
        extra = {
            "train pictures": len(images),
            "reference": len(test),
            "real kernel": round(kernel_distance(features(images), of_test).value, 4),
            "data_sha256": dataset_sha256("folder", folder),
        }
    return extra | {
        "distance": round(frechet_from_features(made, reference)),
        "kernel": round(kernel_distance(made, of_test).value, 4),
        "first kernel": round(looks[0]["kernel"], 4),
        "curve": " ".join(f"{row['distance']:.0f}" for row in looks),
        "p": round(history[-1]["p"], 3),
        "r_t": round(history[-1]["r_t"], 3),
        "gap": round(looks[-1]["gap"], 3),
        "training seconds": round(history[-1]["seconds"]),
    }


def main() -> None:
    options = studies.options(__doc__, "gan_augmentation.csv", list(KINDS), [0, 1, 2], epochs=P.epochs, folder="")
    out = options.out.with_name("gan_photographs.csv") if options.folder else options.out
    for seed in options.seeds:
        for augment in options.only:
            key = {"augment": augment, "seed": seed, "epochs": options.epochs}
            key |= {"folder": Path(options.folder).name} if options.folder else {}
            studies.run(out, key, lambda a=augment, s=seed: measure(a, options.epochs, s, options.folder))


if __name__ == "__main__":
    main()
