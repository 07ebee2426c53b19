"""What does an evaluation of the network buy, by each sampler, up to all 1,000 steps?

The denoiser of profile ``cpu`` as released makes 500 samples with each sampler and number of steps;
all begin with the same noise. Measured are the Fréchet distance (EfficientNet-Lite0) to the
validation images, the same for 30 resamples of them (bootstrap; all sets are resampled alike, so
that samplers can be compared draw by draw), and the seconds for 1,000. "training images", 500
training images, are the floor. "guided" asks the early network too: half of its evaluations.

Writes results/samplers.csv, a row a sampler and number of evaluations. One thread; half an hour,
two thirds of it the thousand steps of the ancestral sampler.
"""

import functools
import hashlib
import time

import study
import torch

from bedgen_utils.diffusion import ddim_step, ddpm_step, dpmpp_2m_step
from bedgen_utils.metrics import features, frechet_from_features, moments
from bedgen_utils.models import DDPM, RELEASED, load

SAMPLES = 500
SAMPLERS: dict[str, tuple[dict, list[int]]] = {  # options of DDPM.sample, steps
    "DPM-Solver++(2M), times by noise": (
        {"sampler": dpmpp_2m_step, "rho": 3.0, "guidance": 1.0},
        [5, 8, 10, 15, 25],
    ),
    "DPM-Solver++(2M), times by noise, guided": (
        {"sampler": dpmpp_2m_step, "rho": 3.0},  # guidance by its default
        [5, 7, 10, 15, 25],
    ),
    "DPM-Solver++(2M)": (
        {"sampler": dpmpp_2m_step, "rho": None, "guidance": 1.0},
        [5, 10, 15, 25],
    ),
    "DDIM": ({"sampler": ddim_step, "rho": None, "guidance": 1.0}, [5, 10, 15, 25, 50]),
    "ancestral": ({"sampler": ddpm_step, "rho": None, "guidance": 1.0}, [10, 25, 50, 100, 1000]),
}
FLOOR = "training images"


@functools.cache
def denoiser() -> tuple[DDPM, str]:
    """The released denoiser, and twelve digits of its numbers (its file also holds the seconds of
    its training)."""
    ddpm = load("ddpm", path=RELEASED / "ddpm32.safetensors")
    if not isinstance(ddpm, DDPM) or ddpm.early is None:
        raise SystemExit("the released weights hold no early network; notebook 03 makes them anew")
    numbers = [*ddpm.network.state_dict().values(), *ddpm.early.state_dict().values()]
    digest = hashlib.sha256(b"".join(q.cpu().numpy().tobytes() for q in numbers))
    return ddpm, digest.hexdigest()[:12]


def settings() -> dict[tuple[str, int], dict]:
    """Options of ``DDPM.sample`` by sampler and evaluations."""
    ddpm, _ = denoiser()
    found = {}
    for name, (options, numbers_of_steps) in SAMPLERS.items():
        networks = 1 if options.get("guidance") == 1 else 2
        for steps in numbers_of_steps:
            times = ddpm.diffusion.timesteps(steps, options["rho"])
            found[name, networks * (len(times) - 1)] = options | {"steps": steps}
    return found


def jobs() -> list[study.Job]:
    shared = {"seed": 1, "samples": SAMPLES, "threads": 1, "weights": denoiser()[1]}
    rows = [(FLOOR, 0), *settings()]
    return [{"sampler": name, "evaluations": n} | shared for name, n in rows]


def measure(job: study.Job) -> dict:
    ddpm, _ = denoiser()
    n, seed = job["samples"], job["seed"]
    began = time.monotonic()
    if job["sampler"] == FLOOR:
        made = study.real_rooms(n, ddpm.size, seed)
    else:
        made = ddpm.sample(n, seed=seed, **settings()[job["sampler"], job["evaluations"]])
    seconds = time.monotonic() - began
    reference = moments(study.images("validation", ddpm.size), cache=True)
    f, draws = features(made), torch.Generator().manual_seed(0)
    picks = [torch.randint(len(f), (len(f),), generator=draws) for _ in range(30)]
    resampled = [frechet_from_features(f[pick], reference) for pick in picks]
    return {
        "distance": round(frechet_from_features(f, reference), 1),
        "resampled": " ".join(f"{distance:.1f}" for distance in resampled),
        "seconds for 1,000": round(1000 * seconds / n),
    }


STUDY = study.Study("samplers", jobs(), measure, smoke={"samples": 16})

if __name__ == "__main__":
    study.main(__doc__, STUDY)
