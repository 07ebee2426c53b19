"""How good are the released networks, measured in full?

Notebooks take few samples, to be read in minutes. Here 3,000 samples of each network in
data/weights are held against as many real images: the Fréchet and the kernel distance in
EfficientNet-Lite0 features, precision, recall, seconds for 1,000 samples. Split "test" is what
counts; beside it "validation", on which recipes and samplers were chosen, shows what the choosing
has flattered. Sets "of profile cpu" are the networks at 32 px, the others those at 64. "training
images" are 3,000 training images: the floor of each, no model at all.

Writes results/released.csv, a row a set and split. One thread; half an hour on a
processor with bfloat16, two hours without, most of it the denoiser at 64 px.
"""

import time

import study

from bedgen_utils.metrics import evaluate
from bedgen_utils.models import RELEASED, load

SETS = {  # weights, pixels a side
    "DDPM": ("ddpm", 64),
    "GAN": ("gan", 64),
    "training images": (None, 64),
    "DDPM of profile cpu": ("ddpm32", 32),
    "GAN of profile cpu": ("gan32", 32),
    "training images, 32 px": (None, 32),
}
STEPS = {"ddpm": {"steps": 20}}  # the ten that do for 32 px leave an error at 64


def measure(job: study.Job) -> dict:
    weights, size = SETS[job["set"]]
    n, seed = job["n"], job["seed"]
    began = time.process_time()  # of the one thread: other jobs do not count
    if weights:
        model = load(weights.removesuffix("32"), path=RELEASED / f"{weights}.safetensors")
        made = model.sample(n, seed=seed, **STEPS.get(weights, {}))
    else:
        made = study.real_rooms(n, size, seed)
    seconds = time.process_time() - began
    e = evaluate(made, study.images(job["split"], size), split=job["split"])
    return {
        "distance": round(e.distance, 1),
        "kernel": round(e.kernel, 5),
        "kernel error": round(e.kernel_error, 5),
        "precision": round(e.precision, 3),
        "recall": round(e.recall, 3),
        "seconds per 1,000": round(1000 * seconds / n, 1),
        "profile": "released" if size == 64 else "cpu",
    }


STUDY = study.Study(
    "released",
    [
        {"set": name, "seed": 0, "n": 3_000, "split": split}
        for split in ("validation", "test")
        for name in SETS
    ],
    measure,
    smoke={"n": 32},
    absent={"split": "validation"},
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
