"""Train the released generator: 64 x 64 pixels, all 12,000 rendered training pictures.

    python data/weights/train_gan.py [--folder runs/released]

Minutes on a recent GPU. The recipe of notebook 04 with networks twice as wide, more pictures a step and all pictures,
mirrored too. It writes a checkpoint every minute and, started again, goes on from it. At the end it leaves
``gan.safetensors`` in the folder; the file in ``data/weights`` says in its header which commit and seed made it. The
rate matters: at 1e-3 (and 1,000 steps of averaging instead of 2,000) the same number of epochs ended at a Fréchet
distance of 469 instead of 388, at 2e-3 and twice the pictures a step it learned next to nothing (3,294).
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.gan import Discriminator, Generator
from bedgen_utils.metrics import compare, moments
from bedgen_utils.released import GAN, save_weights
from bedgen_utils.run import REPO, Run, to_float
from bedgen_utils.train import train_gan

SIZE, SEED, BATCH = 64, 0, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=118)
    parser.add_argument("--folder", type=Path, default=REPO / "runs" / "released")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    train, test = (load_bedrooms("rendered", split, SIZE) for split in ("train", "test"))
    reference = moments(test, cache=True)
    torch.manual_seed(SEED)
    G, D = Generator(SIZE, latent=128, width=64), Discriminator(SIZE, width=64)

    @torch.no_grad()
    def verdict(images):
        return D(to_float(images[:1_000]).to(next(D.parameters()).device)).mean().item()

    def look(averaged):
        made = GAN(averaged, SIZE, [], {}, "training").sample(1_000, seed=1)
        verdicts = {"D_train": verdict(train), "D_test": verdict(test), "D_fake": verdict(made)}
        return {"distance": compare(made, reference).distance, "n": 1_000, "made": made[:8].tolist()} | verdicts

    generator, history = train_gan(
        G, D, train, options.folder, epochs=options.epochs, batch=BATCH, rate=7e-4, loss="non_saturating", r1=0.1,
        ema_decay=0.9995, seed=SEED, evaluate=look, evaluate_every=max(1, options.epochs // 10),
    )  # fmt: skip
    samples = {row["epoch"]: torch.tensor(row.pop("made"), dtype=torch.uint8) for row in history if "made" in row}
    run = Run("data/weights/train_gan.py", "released", SEED, options.folder, SimpleNamespace(source="rendered"))
    save_weights(options.folder / "gan.safetensors", generator, history, samples, run=run)


if __name__ == "__main__":
    main()
