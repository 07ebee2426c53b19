"""Do two processes train as fast as one, on the same cores?

Each model by the recipe of profile ``cpu`` (32 px, batch 16) and by that of profile ``gpu`` (64 px,
batch 128), which is what several processes are for: one process with one thread, one with two, and
two processes with one each, which exchange gradients and batch statistics through gloo. The GAN
augments with a fixed probability of 0.2. Images/s are those of all steps but the first of four
parts.

Writes results/processes.csv, a row a model, recipe and number of processes and threads. Two quiet
cores, ten minutes; a row at a time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import study
import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.models import DDPM, GAN, NOTEBOOKS
from bedgen_utils.run import profile_numbers
from bedgen_utils.train import DDPMRecipe, GANRecipe, train_ddpm, train_gan

STEPS = {("DDPM", "cpu"): 160, ("GAN", "cpu"): 400, ("DDPM", "gpu"): 8, ("GAN", "gpu"): 12}


def train(model: str, profile: str, steps: int, threads: int) -> None:
    """Train in this process, one of several perhaps; the last line printed is the speed."""
    torch.set_num_threads(threads)
    numbers = profile_numbers(profile, NOTEBOOKS[model.lower()])[model.lower()]
    numbers |= {"images": steps * numbers["batch"]}
    images = load_bedrooms("rendered", "train", numbers["size"], 2_000)
    every = {"log_every": steps // 4 * numbers["batch"]}
    if model == "DDPM":
        recipe = DDPMRecipe(**numbers)
        rows = train_ddpm(DDPM.from_recipe(recipe), images, recipe, **every)
    else:
        game = GANRecipe(**numbers | {"augment": "fixed", "p_aug": 0.2})
        generator, discriminator = game.build()
        rows = train_gan(GAN(generator, game), discriminator, images, game, **every)
    first, *_, last = rows
    seen, seconds = (last[key] - first[key] for key in ("images", "seconds"))
    print(json.dumps(round(seen / seconds, 1)))


def measure(job: study.Job) -> dict:
    profile = study.smaller(job["recipe"], "smoke")
    steps = study.smaller(STEPS[job["model"], job["recipe"]], 4)
    asked = job["model"], profile, steps, job["threads"]
    call = [sys.executable, "-c", f"import processes; processes.train{asked}"]
    if job["processes"] > 1:
        several = ["--standalone", "--nproc-per-node", str(job["processes"]), "--no-python"]
        call = [sys.executable, "-m", "torch.distributed.run", *several, *call]
    env = os.environ | {"OMP_NUM_THREADS": str(job["threads"])}
    here = Path(__file__).parent
    done = subprocess.run(call, cwd=here, env=env, stdout=subprocess.PIPE, check=True, text=True)
    speed = json.loads(done.stdout.splitlines()[-1])
    return {"cores": os.cpu_count(), "images/s": speed, "profile": profile}


STUDY = study.Study(
    "processes",
    [
        {"model": model, "recipe": recipe, "processes": processes, "threads": threads}
        for model, recipe in STEPS
        for processes, threads in ((1, 1), (1, 2), (2, 1))
    ],
    measure,
    split="",
    on_cpu=True,
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
