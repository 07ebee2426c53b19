"""Train the released denoiser: 64 x 64 pixels, all 12,000 rendered training pictures.

    python data/weights/train_ddpm.py [--images 1400000] [--folder runs/released]

Minutes on a recent GPU, a day of a CPU. Folded: the first layer turns 2 x 2 pixels into channels, so there are many
channels in few places, which both kinds of machine like; what a cheaper step fails to teach, more steps do. It writes a
checkpoint every minute and, started again, goes on from it. At the end it leaves ``ddpm.safetensors`` in the folder;
the file in ``data/weights`` says in its header which commit and seed made it (with that commit's option ``--images
1400000``, the default here).
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule
from bedgen_utils.metrics import compare, moments
from bedgen_utils.released import DDPM, save_weights
from bedgen_utils.run import REPO, Run
from bedgen_utils.train import train_ddpm
from bedgen_utils.unet import UNet

SIZE, SEED, BATCH = 64, 0, 128
LOOKS = [12_000, 36_000, 100_000, 300_000, 1_000_000]  # the first two are the report's epochs 1 and 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_400_000, help="pictures seen")
    parser.add_argument("--folder", type=Path, default=REPO / "runs" / "released")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    reference = moments(load_bedrooms("rendered", "test", SIZE), cache=True)
    diffusion = GaussianDiffusion(cosine_beta_schedule(1000), prediction="v")

    def look(model, young):
        made = DDPM(model, diffusion, SIZE, [], {}, "training", young).sample(1_000, seed=1, batch=250)
        return {"distance": compare(made, reference).distance, "n": len(made), "made": made[:16].tolist()}

    torch.manual_seed(SEED)
    network, young, history = train_ddpm(
        UNet(SIZE, (96, 128, 192), fold=2), diffusion, load_bedrooms("rendered", "train", SIZE), options.folder,
        images_seen=options.images, batch=BATCH, peak_rate=1e-3, warmup=500, ema_decay=0.9995, weighting="min_snr",
        young=0.06, seed=SEED, evaluate=look, evaluate_at=[n for n in LOOKS if n < options.images] + [options.images],
        log_every=200,
    )  # fmt: skip
    samples = {row["images"]: torch.tensor(row.pop("made"), dtype=torch.uint8) for row in history if "made" in row}
    run = Run("data/weights/train_ddpm.py", "released", SEED, options.folder, SimpleNamespace(source="rendered"))
    save_weights(options.folder / "ddpm.safetensors", network, history, samples, diffusion, run, young)


if __name__ == "__main__":
    main()
