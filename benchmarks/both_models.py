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
from bedgen_utils.metrics import evaluate
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
            G, D, images, Path(folder), epochs=epochs, batch=P4.batch, rate=P4.rate, betas=tuple(P4.betas),
            loss=P4.loss, r1=P4.r1, r1_every=P4.r1_every, ema_decay=P4.ema_decay, seed=seed,
        )  # fmt: skip
    return GAN(generator, P4.size, history, {}, "study")


def bounds(ddpm, images, seed):
    """The bound (``diffusion.Bound``) of groups of pictures that share their drawn terms (notebook 03)."""
    draws = torch.Generator().manual_seed(seed)
    groups = to_float(images).split(P3.bound_group)
    return [ddpm.diffusion.vlb(ddpm.model, x, draws, thin=P3.bound_thin) for x in groups]


def bits(groups):
    """Bits/dim and its standard error over the groups."""
    bits = torch.stack([b.total.mean() for b in groups])
    return {"bits/dim": round(bits.mean().item(), 3), "bits/dim error": round(bits.std().item() / len(bits) ** 0.5, 3)}


def measure(name: str, seed: int, epochs: int, n: int, before: list[dict]) -> dict:
    """One row; ``before``: those of the same seed that are there already."""
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
            cost |= bits(bounds(model, test[: P3.n_bound], seed))
        else:
            if name == "GAN, as many seconds":
                seconds = {row["set"]: float(row["training seconds"]) for row in before}
                if not seconds.keys() >= set(SETS[1:3]):
                    raise SystemExit(f"{name!r} needs the rows of {SETS[1]!r} and {SETS[2]!r} first")
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
    e = evaluate(made, test[n:])
    reader = load_classifier()
    (mine, count), (theirs, _) = (combined(reader.read(x), KIND) for x in (made, test[n:]))
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


def main() -> None:
    options = studies.options(__doc__, "both_models.csv", SETS, [0, 1, 2], epochs=1, n=1_000)
    for seed in options.seeds:
        same = {"seed": seed, "epochs": options.epochs, "n": options.n, "threads": options.threads}
        for name in options.only:

            def row(name=name, same=same):
                before = [r for r in studies.rows(options.out) if all(r[k] == str(v) for k, v in same.items())]
                return measure(name, same["seed"], options.epochs, options.n, before)

            studies.run(options.out, {"set": name} | same, row)


if __name__ == "__main__":
    main()
