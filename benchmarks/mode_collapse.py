"""Mode collapse counted: every game on the ring of 8 and on the grid of 25, for longer than notebook 05 can.

    python benchmarks/mode_collapse.py --threads 1 [--only "ring of 8: unrolled, k = 5" …]

Notebook 05 plays a short version and says what the games are. Here all have the same number of steps of G; "minimax, 5
steps of D" is the control for games that ask D more often. A row a game goes to figures/studies/mode_collapse.csv
(``studies.py``): the modes found and the share of points near a mode for each of its seeds, at the end and on the way,
and the milliseconds a step.
"""

import argparse
import time

import studies

from bedgen_utils import toys
from bedgen_utils.run import profile_numbers

P = argparse.Namespace(**profile_numbers("cpu", "05"))
DATA = {
    "ring of 8": (toys.ring(8, P.radius), {"seeds": 10, "steps": 16_000}),
    "grid of 25": (toys.grid(5, 1.0), {"seeds": 5, "steps": 16_000}),
}
GAMES = {
    "minimax": {"game": "minimax"},
    "minimax, 5 steps of D": {"game": "minimax", "critic_steps": 5},
    "non-saturating": {"game": "non_saturating"},
    "WGAN-GP": {"game": "wgan_gp", "critic_steps": 5},
    **{f"unrolled, k = {k}": {"game": "minimax", "unrolled": k} for k in (1, 5, 10)},
}
MOMENTS = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "3/4": 3 / 4, "end": 1}


def measure(data: str, game: str, seed: int) -> dict:
    centres, size = DATA[data]
    at = {name: round(size["steps"] * share) for name, share in MOMENTS.items()}
    began = time.monotonic()
    film = toys.play(
        centres=centres, std=P.std, seed=seed, hidden=P.hidden, latent=P.latent, batch=P.batch, g_rate=P.g_rate,
        d_rate=P.d_rate, snapshots=at.values(), **size, **GAMES[game],
    )  # fmt: skip
    seconds = time.monotonic() - began
    row = {"modes": len(centres), "games": size["seeds"], "steps": size["steps"]}
    row |= {"ms a step": round(1e3 * seconds / size["steps"], 1), "data_sha256": ""}  # no bedrooms in it
    for name, step in at.items():
        found, near = toys.mode_statistics(film[step], centres, P.std)
        row |= {f"found {name}": " ".join(map(str, found.tolist()))}
        row |= {f"near {name}": " ".join(f"{share:.3f}" for share in near.tolist())}
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
