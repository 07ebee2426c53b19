"""What does an evaluation of the network buy? The released denoiser under each sampler, up to all 1,000 steps.

    python benchmarks/samplers.py --threads 1 [--only "ancestral" …]

A row each goes to figures/studies/samplers.csv (``studies.py``): the Fréchet distance (EfficientNet-Lite0) of 500
samples to the test pictures, the same for 30 resamples of them (bootstrap), and the seconds for 1,000. All begin with
the same noise and are resampled alike, so samplers can be compared draw by draw. "training pictures" is the floor. The
thousand steps of the ancestral sampler take two thirds of all the time.
"""

import hashlib
import time

import studies
import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.metrics import features, frechet_from_features, moments
from bedgen_utils.released import GUIDANCE, load
from bedgen_utils.run import REPO

SAMPLES = 500
WEIGHTS = REPO / "data" / "weights" / "ddpm32.safetensors"  # of profile cpu
SAMPLERS = {  # options of DDPM.sample, steps
    "DPM-Solver++(2M), times by noise": ({"rho": 3.0, "guidance": 1.0}, [5, 8, 10, 15, 25]),
    "DPM-Solver++(2M), times by noise, guided": ({"rho": 3.0, "guidance": GUIDANCE}, [5, 7, 10, 15, 25]),
    "DPM-Solver++(2M)": ({"rho": None, "guidance": 1.0}, [5, 10, 15, 25]),
    "DDIM": ({"rho": None, "order": 1, "guidance": 1.0}, [5, 10, 15, 25, 50]),
    "ancestral": ({"rho": None, "order": 1, "eta": 1.0, "guidance": 1.0}, [10, 25, 50, 100, 1000]),
}


def main() -> None:
    chosen = studies.options(__doc__, "samplers.csv", list(SAMPLERS), [1])
    ddpm = load("ddpm", path=WEIGHTS)
    if ddpm.guide is None:
        raise SystemExit("the released weights hold no guide; make them anew with notebook 03")
    # Of the numbers alone: the file also holds the seconds its training took.
    numbers = [*ddpm.model.state_dict().values(), *ddpm.guide.state_dict().values()]
    weights = hashlib.sha256(b"".join(q.numpy().tobytes() for q in numbers)).hexdigest()[:12]
    reference = moments(load_bedrooms("rendered", "test", ddpm.size), cache=True)

    def measure(make):
        began = time.monotonic()
        made = make()
        seconds = time.monotonic() - began
        f = features(made)
        dice = torch.Generator().manual_seed(0)
        picks = [torch.randint(len(f), (len(f),), generator=dice) for _ in range(30)]
        return {
            "distance": round(frechet_from_features(f, reference), 1),
            "resampled": " ".join(f"{frechet_from_features(f[pick], reference):.1f}" for pick in picks),
            "seconds for 1,000": round(1000 * seconds / SAMPLES),
        }

    for seed in chosen.seeds:
        common = {"seed": seed, "samples": SAMPLES, "threads": chosen.threads, "weights": weights}
        key = {"sampler": "training pictures", "evaluations": 0} | common
        studies.run(chosen.out, key, lambda s=seed: measure(lambda: studies.real_rooms(SAMPLES, ddpm.size, s)))
        for name in chosen.only:
            options, all_steps = SAMPLERS[name]
            networks = 1 if options["guidance"] == 1 else 2
            for steps in all_steps:
                evaluations = networks * (len(ddpm.diffusion.timesteps(steps, options["rho"])) - 1)
                key = {"sampler": name, "evaluations": evaluations} | common

                def make(o=options, n=steps, s=seed):
                    return ddpm.sample(SAMPLES, seed=s, steps=n, **o)

                studies.run(chosen.out, key, lambda make=make: measure(make))


if __name__ == "__main__":
    main()
