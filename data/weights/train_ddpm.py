"""Train the released denoiser: 64 x 64 pixels, all 12,000 rendered training pictures.

    python data/weights/train_ddpm.py [--threads 2] [--folder runs/released]

Profile cpu's recipe, for longer: one more resolution, batches of 16, a longer average. Some seven hours of one core. It
writes a checkpoint every minute and, started again, goes on from it. At the end it leaves ``ddpm.safetensors`` in the
folder; the file in ``data/weights`` says in its header which commit and seed made it.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule
from bedgen_utils.metrics import compare
from bedgen_utils.released import DDPM, save_weights
from bedgen_utils.run import REPO, Run
from bedgen_utils.train import train_ddpm
from bedgen_utils.unet import UNet

SIZE, SEED = 64, 0
LOOKS = [12_000, 36_000, 100_000, 200_000, 300_000, 400_000]  # the first two are the report's epochs 1 and 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, default=REPO / "runs" / "released")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    test = load_bedrooms("rendered", "test", SIZE)
    diffusion = GaussianDiffusion(cosine_beta_schedule(1000), prediction="v")

    def look(model, young):
        made = DDPM(model, diffusion, SIZE, [], {}, "training", young).sample(250, seed=1, steps=15)
        return {"distance": compare(made, test).distance, "n": len(made), "made": made[:16].tolist()}

    torch.manual_seed(SEED)
    network, young, history = train_ddpm(
        UNet(SIZE, (32, 48, 96, 128)), diffusion, load_bedrooms("rendered", "train", SIZE), options.folder,
        images_seen=LOOKS[-1], batch=16, peak_rate=1e-3, warmup=200, ema_decay=0.9995, weighting="min_snr",
        seed=SEED, evaluate=look, evaluate_at=LOOKS,
    )  # fmt: skip
    samples = {row["images"]: torch.tensor(row.pop("made"), dtype=torch.uint8) for row in history if "made" in row}
    run = Run("data/weights/train_ddpm.py", "released", SEED, options.folder, SimpleNamespace(source="rendered"))
    save_weights(options.folder / "ddpm.safetensors", network, history, samples, diffusion, run, young)


if __name__ == "__main__":
    main()
