"""DDPM and GAN over several seeds: as many pictures each, and as many seconds each.

    python benchmarks/both_models.py --threads 1 --seeds 0 1 2

Both learn from the same 12,000 rendered pictures at 32 px in the recipes of profile ``cpu`` (the GAN with adaptive
augmentation), shorter: the DDPM for ``--epochs`` passes, the GAN once for as many and once for as many seconds as the
DDPM's training of the same seed took. In all three the learning rate's fall ends with the run. Two calls with one
thread each and seeds of their own fit a machine with two cores that does nothing else.

A row each goes to figures/studies/both_models.csv (``studies.py``), all of ``--n`` samples against the test pictures:
Fréchet and kernel distance (EfficientNet-Lite0), precision, recall, the kinds of rooms a classifier reads in them and
the total variation to those of other pictures (``factors.py``), the DDPM's bound in bits/dim with its standard error,
and what it cost. "real pictures" is the floor: test pictures, held against the other test pictures.
"""

import argparse
import tempfile
import time
from pathlib import Path

import studies
import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule
from bedgen_utils.factors import KIND, combined, load_classifier, total_variation
from bedgen_utils.gan import Discriminator, Generator
from bedgen_utils.metrics import features, frechet_from_features, kernel_distance, precision_recall
from bedgen_utils.released import DDPM, GAN
from bedgen_utils.run import profile_numbers, to_float
from bedgen_utils.train import train_ddpm, train_gan
from bedgen_utils.unet import UNet

P3, P4 = (argparse.Namespace(**profile_numbers("cpu", notebook)) for notebook in ("03", "04"))
SETS = ["real pictures", "DDPM", "GAN, as many pictures", "GAN, as many seconds"]


def train_denoiser(images, epochs, seed):
    diffusion = GaussianDiffusion(cosine_beta_schedule(P3.T), "v")
    torch.manual_seed(seed)
    network = UNet(P3.size, tuple(P3.widths), P3.blocks, P3.fold)
    with tempfile.TemporaryDirectory() as folder:
        network, young, history = train_ddpm(
            network, diffusion, images, Path(folder), images_seen=epochs * len(images), batch=P3.batch,
            peak_rate=P3.peak_rate, warmup=P3.warmup, ema_decay=P3.ema_decay, weighting=P3.weighting,
            young=P3.young, seed=seed,
        )  # fmt: skip
    return DDPM(network, diffusion, P3.size, history, {}, "study", young)


def train_generator(images, epochs, seed):
    torch.manual_seed(seed)
    G, D = Generator(P4.size, P4.latent, P4.width), Discriminator(P4.size, P4.d_width)
    with tempfile.TemporaryDirectory() as folder:
        generator, history = train_gan(
            G, D, images, Path(folder), epochs=epochs, batch=P4.batch, rate=P4.rate, betas=tuple(P4.betas), r1=P4.r1,
            r1_every=P4.r1_every, ema_decay=P4.ema_decay, seed=seed,
        )  # fmt: skip
    return GAN(generator, P4.size, history, {}, "study")


def bound(ddpm, images, seed):
    """Bits/dim and its standard error over groups of pictures that share their drawn terms (notebook 03)."""
    draws = torch.Generator().manual_seed(seed)
    groups = to_float(images).split(P3.bound_group)
    bits = torch.stack([ddpm.diffusion.vlb(ddpm.model, x, draws, thin=P3.bound_thin).total.mean() for x in groups])
    return {"bits/dim": round(bits.mean().item(), 3), "bits/dim error": round(bits.std().item() / len(bits) ** 0.5, 3)}


def measure(name: str, epochs: int, seed: int, n: int, table: Path) -> dict:
    images, test = load_bedrooms("rendered", "train", 32), load_bedrooms("rendered", "test", 32)
    test = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))]
    cost = {"images": 0, "training seconds": 0, "parameters": 0, "seconds per 1,000": "", "bits/dim": ""}
    cost["bits/dim error"] = ""
    if name == "real pictures":
        made = test[:n]
    else:
        if name == "DDPM":
            model = train_denoiser(images, epochs, seed)
            network, how = model.model, {"steps": P3.steps}
            cost |= bound(model, test[: P3.n_bound], seed)
        else:
            if name == "GAN, as many seconds":
                mine = {"seed": str(seed), "epochs": str(epochs)}
                rows = {r["set"]: r for r in studies.rows(table) if r.items() >= mine.items()}
                seconds = {k: float(rows[k]["training seconds"]) for k in SETS[1:3]}
                epochs = max(1, round(epochs * seconds["DDPM"] / seconds["GAN, as many pictures"]))
            model = train_generator(images, epochs, seed)
            network, how = model.generator, {}
        began = time.monotonic()
        made = model.sample(n, seed=seed + 100, **how)
        cost |= {
            "images": model.history[-1]["images"],
            "training seconds": round(model.history[-1]["seconds"]),
            "parameters": sum(q.numel() for q in network.parameters()),
            "seconds per 1,000": round(1000 * (time.monotonic() - began) / n, 1),
        }
    f, reference = features(made), features(test[n:])
    kernel, pr = kernel_distance(f, reference), precision_recall(reference[:n], f)
    reader = load_classifier()
    (mine, count), (theirs, _) = (combined(reader.read(x), KIND) for x in (made, test[n:]))
    return cost | {
        "distance": round(frechet_from_features(f, reference), 1),
        "kernel": round(kernel.value, 4),
        "kernel error": round(kernel.error, 4),
        "precision": round(pr.precision, 3),
        "recall": round(pr.recall, 3),
        "kinds": len(mine.unique()),
        "total variation": round(total_variation(mine, theirs, count), 3),
    }


def main() -> None:
    options = studies.options(__doc__, "both_models.csv", SETS, [0, 1, 2], epochs=1, n=1_000)
    for seed in options.seeds:
        for name in options.only:
            key = {"set": name, "seed": seed, "epochs": options.epochs, "n": options.n, "threads": options.threads}
            studies.run(options.out, key, lambda k=name, s=seed: measure(k, options.epochs, s, options.n, options.out))


if __name__ == "__main__":
    main()
