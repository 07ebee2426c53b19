"""What does an evaluation of the network buy? The released denoiser under each sampler, up to all 1,000 steps.

    python benchmarks/samplers.py --threads 1 [--only "ancestral" …]

A row each goes to figures/studies/samplers.csv (``studies.py``): the Fréchet distance (EfficientNet-Lite0) of 500
samples to the test pictures, how far it would scatter over other samples of these weights (bootstrap), and the seconds
for 1,000. All begin with the same noise. The thousand steps of the ancestral sampler take two thirds of all the time.
"""

import hashlib
import time

import studies

from bedgen_utils.data import load_bedrooms
from bedgen_utils.metrics import features, frechet_bootstrap
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
    weights = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:12]
    reference = features(load_bedrooms("rendered", "test", ddpm.size))

    def measure(options, steps, seed):
        began = time.monotonic()
        made = ddpm.sample(SAMPLES, seed=seed, steps=steps, **options)
        seconds = time.monotonic() - began
        value, error, _ = frechet_bootstrap(features(made), reference, draws=30)
        row = {"distance": round(value, 1), "error": round(error, 1)}
        return row | {"seconds for 1,000": round(1000 * seconds / SAMPLES)}

    for seed in chosen.seeds:
        for name in chosen.only:
            options, all_steps = SAMPLERS[name]
            networks = 1 if options["guidance"] == 1 else 2
            for steps in all_steps:
                evaluations = networks * (len(ddpm.diffusion.timesteps(steps, options["rho"])) - 1)
                key = {"sampler": name, "evaluations": evaluations, "seed": seed}
                key |= {"samples": SAMPLES, "weights": weights}
                studies.run(chosen.out, key, lambda o=options, n=steps, s=seed: measure(o, n, s))


if __name__ == "__main__":
    main()
