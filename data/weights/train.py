"""Train a released model: 64 px, all 12,000 training images, by the recipe of profile released.

    python data/weights/train.py ddpm|gan [--folder runs/released]

Ten minutes of a data-centre GPU each, a day of a CPU. It writes a checkpoint every minute and,
started again, resumes from it. At the end it leaves MODEL.safetensors in the folder.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.metrics import compare, moments
from bedgen_utils.models import DDPM, GAN, save
from bedgen_utils.run import REPO, Run, profile_numbers
from bedgen_utils.train import DDPMRecipe, GANRecipe, train_ddpm, train_gan

LOOKS = (12_000, 36_000, 100_000, 300_000, 1_000_000)  # images; the report's epochs 1 and 3 first


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=("ddpm", "gan"))
    parser.add_argument("--folder", type=Path, default=REPO / "runs" / "released")
    options = parser.parse_args()
    numbers = profile_numbers("released", "03")
    images = load_bedrooms("rendered", "train", 64)
    reference = moments(load_bedrooms("rendered", "validation", 64), cache=True)

    def look() -> dict:
        made = model.sample(1_000, seed=1)
        distance = compare(made, reference, split="validation").distance
        return {"distance": distance, "n": len(made), "made": made[:16].tolist()}

    watched = {"evaluate": look, "log_every": 25_600}
    if options.model == "ddpm":
        model = DDPM.from_recipe(DDPMRecipe(**numbers["ddpm"]))
        at = [*LOOKS, model.recipe.images]
        rows = train_ddpm(model, images, model.recipe, options.folder, evaluate_at=at, **watched)
        model.steps = 20
    else:
        recipe = GANRecipe(**numbers["gan"])
        generator, discriminator = recipe.build()
        model = GAN(generator, recipe)
        at = [*LOOKS, recipe.images]
        rows = train_gan(
            model, discriminator, images, recipe, options.folder, evaluate_at=at, **watched
        )
    model.history = list(rows)
    model.samples = {
        row["images"]: torch.tensor(row.pop("made"), dtype=torch.uint8)
        for row in model.history
        if "made" in row
    }
    run = Run(
        "data/weights/train.py", "released", 0, options.folder, SimpleNamespace(source="rendered")
    )
    save(model, options.folder / f"{options.model}.safetensors", run.provenance())


if __name__ == "__main__":
    main()
