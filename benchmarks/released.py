"""The networks that come with the repository measured in full: 3,000 samples of each against the 3,000 test pictures.

    python benchmarks/released.py --threads 1 [--only GAN "training pictures"]

Notebooks take fewer samples, to be read in minutes. A row a set goes to figures/studies/released.csv (``studies.py``):
the Fréchet and the kernel distance in EfficientNet-Lite0 features, precision, recall, and seconds for 1,000 samples.
"of profile cpu" are the networks at 32 px, the others those at 64. "training pictures" is the floor of each: 3,000 real
ones, no model at all. The denoiser at 64 px takes 40 minutes of a core (``--n 1000``: 14).
"""

import time

import studies

from bedgen_utils.data import load_bedrooms
from bedgen_utils.metrics import evaluate
from bedgen_utils.released import load
from bedgen_utils.run import REPO

SETS = {  # weights, pixels a side
    "DDPM": ("ddpm", 64),
    "GAN": ("gan", 64),
    "training pictures": (None, 64),
    "DDPM of profile cpu": ("ddpm32", 32),
    "GAN of profile cpu": ("gan32", 32),
    "training pictures, 32 px": (None, 32),
}
SAMPLER = {"ddpm": {"steps": 20}}  # the ten steps that do for 32 px leave an error at 64


def measure(name: str, seed: int, n: int) -> dict:
    weights, size = SETS[name]
    test = load_bedrooms("rendered", "test", size)
    began = time.monotonic()
    if weights:
        model = load(weights.removesuffix("32"), path=REPO / "data" / "weights" / f"{weights}.safetensors")
        made = model.sample(n, seed=seed, **SAMPLER.get(weights, {}))
    else:
        made = studies.real_rooms(n, size, seed)
    seconds = time.monotonic() - began
    e = evaluate(made, test)
    return {
        "distance": round(e.distance, 1),
        "kernel": round(e.kernel, 5),
        "kernel error": round(e.kernel_error, 5),
        "precision": round(e.precision, 3),
        "recall": round(e.recall, 3),
        "seconds per 1,000": round(1000 * seconds / n, 1),
        "profile": "released" if size == 64 else "cpu",
    }


def main() -> None:
    options = studies.options(__doc__, "released.csv", list(SETS), [0], n=3_000)
    for seed in options.seeds:
        for name in options.only:
            key = {"set": name, "seed": seed, "n": options.n}
            studies.run(options.out, key, lambda name=name, seed=seed: measure(name, seed, options.n))


if __name__ == "__main__":
    main()
