"""The released networks measured in full: 3,000 samples of each at 64 px against the 3,000 test pictures.

    python benchmarks/released.py --threads 1 [--only GAN "training pictures"]

Notebooks take fewer samples, to be read in minutes. A row a set goes to figures/studies/released.csv (``studies.py``):
the Fréchet and the kernel distance in EfficientNet-Lite0 features, precision, recall, and seconds for 1,000 samples.
"training pictures" is the floor: 3,000 real ones, no model at all. The denoiser takes 40 minutes of a core
(``--n 1000``: 14).
"""

import time

import studies
import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.metrics import features, frechet_from_features, kernel_distance, precision_recall
from bedgen_utils.released import load

SETS = {"DDPM": "ddpm", "GAN": "gan", "training pictures": None}
SAMPLER = {"DDPM": {"steps": 20}, "GAN": {}}  # the ten steps that do for 32 px leave an error at 64


def measure(name: str, seed: int, n: int) -> dict:
    test = features(load_bedrooms("rendered", "test", 64))
    began = time.monotonic()
    if SETS[name]:
        made = load(SETS[name]).sample(n, seed=seed, **SAMPLER[name])
    else:
        train = load_bedrooms("rendered", "train", 64)
        made = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:n]]
    seconds = time.monotonic() - began
    f = features(made)
    kernel, pr = kernel_distance(f, test), precision_recall(test, f)
    return {
        "distance": round(frechet_from_features(f, test), 1),
        "kernel": round(kernel.value, 5),
        "kernel error": round(kernel.error, 5),
        "precision": round(pr.precision, 3),
        "recall": round(pr.recall, 3),
        "seconds per 1,000": round(1000 * seconds / n, 1),
        "profile": "released",
    }


def main() -> None:
    options = studies.options(__doc__, "released.csv", list(SETS), [0], n=3_000)
    for seed in options.seeds:
        for name in options.only:
            key = {"set": name, "seed": seed, "n": options.n}
            studies.run(options.out, key, lambda name=name, seed=seed: measure(name, seed, options.n))


if __name__ == "__main__":
    main()
