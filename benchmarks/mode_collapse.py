"""Mode collapse counted: every game on the ring of 8 and on the grid of 25, ten times each.

    python benchmarks/mode_collapse.py --threads 1 [--only "ring of 8: unrolled, k = 5" …]

Notebook 05 plays some of them and says what the games are. On one data set all have the same networks, rates and number
of steps of G. Two controls: "minimax, 5 steps of D" for games that ask D more often, "minimax, D steeper" for how much
hangs on D's first layer, which begins twice as steep there. A row a game goes to
figures/studies/mode_collapse.csv (``studies.py``): the modes found and the share of points near a mode for each of its
seeds, by the averaged generator at the end and on the way, and by the generator as it is ("now"); the milliseconds a
step.
"""

import argparse
import time

import studies

from bedgen_utils import toys
from bedgen_utils.run import profile_numbers

P = argparse.Namespace(**profile_numbers("cpu", "05"))
DATA = {
    "ring of 8": {"centres": toys.ring(8, P.radius), "steps": P.ring_steps, "steepness": P.ring_steepness},
    "grid of 25": {"centres": toys.grid(5, 1.0), "steps": P.grid_steps, "steepness": P.grid_steepness},
}
SEEDS = 10
GAMES = {
    "minimax": {"game": "minimax"},
    "minimax, 5 steps of D": {"game": "minimax", "critic_steps": 5},
    "minimax, D steeper": {"game": "minimax", "steeper": 2},
    "non-saturating": {"game": "non_saturating"},
    "WGAN-GP": {"game": "wgan_gp", "critic_steps": 5},
    **{f"unrolled, k = {k}": {"game": "minimax", "unrolled": k} for k in (1, 5, 10)},
}
MOMENTS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "5/8": 5 / 8, "3/4": 3 / 4, "7/8": 7 / 8, "end": 1}


def measure(data: str, game: str, seed: int) -> dict:
    options = DATA[data] | GAMES[game]
    options["steepness"] *= options.pop("steeper", 1)
    centres, steps = options["centres"], options["steps"]
    at = {name: round(steps * share) for name, share in MOMENTS.items()}
    began = time.monotonic()
    film = toys.play(
        std=P.std, seeds=SEEDS, seed=seed, hidden=P.hidden, latent=P.latent, batch=P.batch, g_rate=P.g_rate,
        d_rate=P.d_rate, snapshots=at.values(), **options,
    )  # fmt: skip
    seconds = time.monotonic() - began
    row = {"modes": len(centres), "games": SEEDS, "steps": steps, "steepness": options["steepness"]}
    row |= {"rate of G": P.g_rate, "rate of D": P.d_rate, "batch": P.batch, "std": P.std}
    row |= {"ms a step": round(1e3 * seconds / steps, 1), "data_sha256": ""}  # no bedrooms in it
    for name, step in at.items():
        for which, points in zip((f"now {name}", name), film[step], strict=True):
            found, near = toys.mode_statistics(points, centres, P.std)
            row |= {f"found {which}": " ".join(map(str, found.tolist()))}
            row |= {f"near {which}": " ".join(f"{share:.3f}" for share in near.tolist())}
    return row


def main() -> None:
    names = [f"{data}: {game}" for data in DATA for game in GAMES]
    options = studies.options(__doc__, "mode_collapse.csv", names, [0])
    for seed in options.seeds:
        for name in options.only:
            data, game = name.split(": ")
            studies.run(
                options.out,
                {"data": data, "game": game, "seed": seed},
                lambda data=data, game=game, seed=seed: measure(data, game, seed),
            )


if __name__ == "__main__":
    main()
