"""What do 1,000 samples cost at equal quality? The denoisers that equal_time.py has left, sampled again.

    python benchmarks/equal_quality.py [--only ours …]          # after equal_time.py, whose weights it reads

A row each to figures/studies/equal_quality.csv (``studies.py``): the Fréchet distance (EfficientNet-Lite0) to the test
pictures of 500 samples with fewer evaluations, and of 3,000 with as many as there, where the floor is far lower; the
floor, as many training pictures; and the seconds for 1,000, by DPM-Solver++(2M) with times spread by noise. Where a
guide goes along, half of the evaluations are its.
"""

import functools

import studies
import torch
from equal_time import CONTESTANTS, floor, sampled, stem

from bedgen_utils.data import load_bedrooms
from bedgen_utils.diffusion import GaussianDiffusion
from bedgen_utils.metrics import compare
from bedgen_utils.released import DDPM
from bedgen_utils.run import REPO

RUNS = ((4, 500), (6, 500), (10, 500), (20, 3_000))  # evaluations, samples; 20 and 500 are in equal_time.csv


@functools.cache
def load(name: str, seed: int) -> DDPM:
    path = REPO / "runs" / "equal_time" / f"{stem(name, seed)}.pt"
    if not path.exists():
        raise SystemExit(f'{path} is missing; python benchmarks/equal_time.py --only "{name}" makes it')
    kept = torch.load(path, weights_only=True)

    def network(weights):
        made = CONTESTANTS[name][0]()
        made.load_state_dict(weights)
        return made.eval()

    diffusion = GaussianDiffusion(kept["betas"], kept["prediction"])
    return DDPM(network(kept["network"]), diffusion, 32, [], {}, "benchmark", kept["guide"] and network(kept["guide"]))


def measure(ddpm: DDPM, evaluations: int, n: int) -> dict:
    made, seconds = sampled(ddpm, evaluations, n)
    return {
        "distance": round(compare(made, load_bedrooms("rendered", "test", 32)).distance),
        "floor": round(floor(n)),
        "threads": torch.get_num_threads(),
        "seconds for 1,000": round(1_000 * seconds / n, 1),
    }


def main() -> None:
    options = studies.options(__doc__, "equal_quality.csv", list(CONTESTANTS), [0])
    for seed in options.seeds:
        for name in options.only:
            for evaluations, n in RUNS:
                key = {"contestant": name, "seed": seed, "evaluations": evaluations, "samples": n}
                studies.run(options.out, key, lambda a=name, s=seed, e=evaluations, n=n: measure(load(a, s), e, n))


if __name__ == "__main__":
    main()
