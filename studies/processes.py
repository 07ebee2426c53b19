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
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import study
import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.models import DDPM, GAN
from bedgen_utils.run import profile_numbers
from bedgen_utils.train import DDPMRecipe, GANRecipe, train_ddpm, train_gan

STEPS = {("DDPM", "cpu"): 160, ("GAN", "cpu"): 400, ("DDPM", "gpu"): 8, ("GAN", "gpu"): 12}


def train(model: str, profile: str, steps: int, threads: int) -> None:
    """Train in this process, one of several perhaps; the last line printed is the speed."""
    torch.set_num_threads(threads)
    if model == "DDPM":
        recipe = DDPMRecipe(**profile_numbers(profile, "03")["ddpm"])
    else:
        recipe = GANRecipe(**profile_numbers(profile, "04")["gan"])
        recipe = replace(recipe, augment="fixed", p_aug=0.2)
    recipe = replace(recipe, images=steps * recipe.batch)
    images = load_bedrooms("rendered", "train", recipe.size, 2_000)
    every = {"log_every": steps // 4 * recipe.batch}
    if isinstance(recipe, DDPMRecipe):
        rows = list(train_ddpm(DDPM.from_recipe(recipe), images, recipe, **every))
    else:
        generator, discriminator = recipe.build()
        rows = list(train_gan(GAN(generator, recipe), discriminator, images, recipe, **every))
    seen, seconds = (rows[-1][key] - rows[0][key] for key in ("images", "seconds"))
    print(json.dumps(round(seen / seconds, 1)))


def measure(job: study.Job) -> dict:
    profile = study.smaller(job["recipe"], "smoke")
    steps = study.smaller(STEPS[job["model"], job["recipe"]], 4)
    asked = job["model"], profile, steps, job["threads"]
    code = f"import processes; processes.train{asked}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(job["processes"]):
        env = os.environ | {"OMP_NUM_THREADS": str(job["threads"])}
        if job["processes"] > 1:  # what a launcher would set
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
            env |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["processes"])}
        call = {"cwd": Path(__file__).parent, "env": env, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", code], **call))
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("a process ended with an error, see above")
    speed = json.loads(said[0].splitlines()[-1])
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
