"""Which GAN is best after equal minutes on the same machine: ours or three others, and which of our
four games?

All learn from the 12,000 rendered rooms at 32 px, mirrored at random; in float32, but for ours
where the processor multiplies bfloat16:

    ours            networks, recipe, game and loop of profile cpu
    ours without colours
                    the same, but augmented by the geometric operations alone, G half as wide again,
                    in batches of 64 at the rate 2e-3
    ours, GAME      as ours in this game (``gan.LOSSES``), at the same rate or at a third of it, for
                    3 minutes
    DCGAN, SNGAN, R3GAN     as published, in batches of 64 (``peers``)
    real rooms      training images, no model at all: the floor

The first two of the others have no average of their weights, as published. Their schedules follow
the clock; ours is timed first and given as many images as seven eighths of the minutes hold, lest
it take longer. 2,000 samples of each are judged by their Fréchet distance (EfficientNet-Lite0) to
the validation images, precision and recall.

Writes results/gan_equal_time.csv, a row a contestant and seed, and a sheet of samples each in
results/gan_equal_time. One thread; five and a half hours.
"""

import resource
import time
from dataclasses import replace

import peers
import study
import torch
from torch import Tensor, nn

from bedgen_utils.augment import GEOMETRY
from bedgen_utils.gan import LOSSES
from bedgen_utils.metrics import evaluate
from bedgen_utils.models import GAN
from bedgen_utils.train import GANRecipe, train_gan

CPU = study.gan_recipe()
OURS: dict[str, dict] = {  # what differs from profile cpu
    "ours": {},
    "ours without colours": {"width": 48, "batch": 64, "rate": 2e-3, "ops": GEOMETRY},
}
GAMES = {
    f"ours, {game}{slower}": {"game": game, "rate": rate}
    for slower, rate in (("", CPU.rate), (", a third of the rate", CPU.rate / 3))
    for game in LOSSES
}


def play_ours(
    changes: dict, images: Tensor, seconds: float, seed: int
) -> tuple[GAN, nn.Module, int, float]:
    """The averaged generator, D, the images seen and the seconds taken."""

    def trained(recipe: GANRecipe, images: Tensor) -> tuple[GAN, nn.Module, list[dict]]:
        generator, discriminator = recipe.build()
        gan = GAN(generator, recipe)
        rows = train_gan(gan, discriminator, images, recipe, log_every=64 * recipe.batch)
        return gan, discriminator, list(rows)

    recipe = replace(study.gan_recipe(), seed=seed, **changes)
    # p = 0 would cost less than what follows.
    timed = replace(recipe, images=6 * 64 * recipe.batch, augment="fixed", p_aug=0.1)
    *_, warm = trained(timed, images[: 64 * recipe.batch])
    # A machine slows down under a long load, by a tenth here: an eighth off, lest a run take longer
    # than its time.
    recipe = replace(recipe, images=study.images_in(7 / 8 * seconds, warm, 1))
    gan, discriminator, history = trained(recipe, images)
    return gan, discriminator, history[-1]["images"], history[-1]["seconds"]


class Sampled(nn.Module):
    """A peer's generator with what ``models.GAN`` asks of one."""

    def __init__(self, generator: nn.Module, latent: int):
        super().__init__()
        self.generator, self.latent, self.size = generator.eval(), latent, peers.SIZE

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z)


def play_peer(
    peer: peers.Peer, images: Tensor, seconds: float, seed: int
) -> tuple[GAN, nn.Module, int, float]:
    torch.manual_seed(seed)
    began = time.monotonic()
    generator, discriminator = peer.networks()
    batches = peers.batches(images, study.smaller(64, 4), seed)
    step, generator = peer.stepper(generator, discriminator, batches)
    seen = peers.for_seconds(step, seconds)
    taken = time.monotonic() - began
    return GAN(Sampled(generator, peer.latent)), discriminator, seen, taken


def judged(made: Tensor) -> dict:
    e = evaluate(made, study.images("validation"), split="validation")
    return {
        "distance": round(e.distance, 1),
        "precision": round(e.precision, 3),
        "recall": round(e.recall, 3),
    }


def measure(job: study.Job) -> dict:
    name, seed, minutes = job["contestant"], job["seed"], job["minutes"]
    images, n = study.images("train"), study.smaller(2_000, 32)
    if name == "real rooms":
        return judged(study.real_rooms(n, seed=seed))
    if name in peers.GANS:
        gan, d, seen, seconds = play_peer(peers.GANS[name], images, 60 * minutes, seed)
    else:
        gan, d, seen, seconds = play_ours((OURS | GAMES)[name], images, 60 * minutes, seed)
    made = gan.sample(n, seed=seed + 100, batch=100)
    study.save_sheet(made, study.sheet_path(STUDY, job, f"{minutes:g}"))
    return {
        "parameters of G": sum(q.numel() for q in gan.generator.parameters()),
        "parameters of D": sum(q.numel() for q in d.parameters()),
        "images seen": seen,
        "images/s": round(seen / seconds, 1),
        "seconds": round(seconds),
        **judged(made),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


SEEDS = {"ours": 3, "ours without colours": 5, "DCGAN": 5, "SNGAN": 1, "R3GAN": 1}
STUDY = study.Study(
    "gan_equal_time",
    [
        {"contestant": name, "seed": seed, "minutes": 20.0, "threads": 1}
        for name, seeds in SEEDS.items()
        for seed in range(seeds)
    ]
    + [{"contestant": name, "seed": 0, "minutes": 3.0, "threads": 1} for name in GAMES]
    + [{"contestant": "real rooms", "seed": 0, "minutes": 0.0, "threads": 1}],
    measure,
    smoke={"minutes": 0.02},
    on_cpu=True,
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
