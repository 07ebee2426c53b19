"""Train one model of a profile from beginning to end, in one process or in several.

    python -m tools.train ddpm --profile gpu                  one GPU, or a CPU
    accelerate launch -m tools.train gan --profile gpu        all GPUs of this machine
    torchrun --nproc-per-node 2 -m tools.train ddpm --profile cpu         two CPUs

What several processes make is what one makes, but for rounding: each computes its part of every
batch. A checkpoint is written every minute; the same command resumes from it, also with another
number of processes. The folder (runs/PROFILE/trained) then holds MODEL.safetensors, for
`load(MODEL, path=…)`. What is released in data/weights was made so by the recipes of profile gpu.
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.metrics import compare
from bedgen_utils.models import DDPM, GAN, NOTEBOOKS, save
from bedgen_utils.run import PROFILES, REPO, Run, profile_numbers
from bedgen_utils.train import DDPMRecipe, GANRecipe, accelerator, train_ddpm, train_gan

from .pipeline import one_line_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=NOTEBOOKS)
    parser.add_argument("--profile", choices=PROFILES, default="gpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the folder (runs/PROFILE/trained)")
    options = parser.parse_args()
    folder = (options.out or REPO / "runs" / options.profile / "trained").expanduser()
    numbers = SimpleNamespace(**profile_numbers(options.profile, NOTEBOOKS[options.model]))
    run = Run("tools/train.py", options.profile, options.seed, folder, numbers)
    processes = accelerator()
    with processes.main_process_first():  # it decodes the images, the others find them
        images = load_bedrooms(run.p.source, "train", run.p.size, run.p.train_images or None)
        reference = load_bedrooms(run.p.source, "validation", run.p.size)

    def look() -> dict:
        made = model.sample(run.p.n_look, seed=1)
        score = compare(made, reference, split="validation")
        return {"distance": score.distance, "n": len(made), "made": made[:16].tolist()}

    if options.model == "ddpm":
        model = DDPM.from_recipe(DDPMRecipe(**run.p.ddpm, seed=options.seed))
        model.steps = run.p.steps
        train, at = train_ddpm, run.p.looks
    else:
        recipe = GANRecipe(**run.p.gan, seed=options.seed)
        generator, discriminator = recipe.build()
        model = GAN(generator, recipe)
        every = run.p.evaluate_every
        at = range(every, recipe.images + 1, every)

        def train(gan: GAN, *arguments, **options):
            return train_gan(gan, discriminator, *arguments, **options)

    log_every = 200 * model.recipe.batch
    rows = train(
        model, images, model.recipe, folder, evaluate=look, evaluate_at=at, log_every=log_every
    )
    model.history = list(rows)
    model.samples = {
        row["images"]: torch.tensor(row.pop("made"), dtype=torch.uint8)
        for row in model.history
        if "made" in row
    }
    if processes.is_main_process:
        path = folder / f"{options.model}.safetensors"
        save(model, path, run.provenance() | {"processes": processes.num_processes})
        print(f"wrote {path}")


if __name__ == "__main__":
    try:
        with one_line_errors():
            main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes here")
