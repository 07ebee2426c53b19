"""Mode collapse counted: every game on the ring of 8 and on the grid of 25, for longer than notebook 05 can.

    python benchmarks/mode_collapse.py --threads 1 [--only "ring of 8: unrolled, k = 5" …]

Notebook 05 plays the short version and says what the games are. Here all have the same number of steps: 8,000 on the
ring, ten seeds a game; 6,000 on the grid, five seeds, networks twice as wide and batches twice as large. A row a game
goes to figures/studies/mode_collapse.csv (``studies.py``): the modes found and the share of points near a mode for each
of its seeds, at a quarter, half, three quarters and the end, and the milliseconds a step. On one core the ring takes
half an hour, the grid more.
"""

import argparse
import time

import studies

from bedgen_utils import toys
from bedgen_utils.run import profile_numbers

P = argparse.Namespace(**profile_numbers("cpu", "05"))
DATA = {
    "ring of 8": (toys.ring(8, P.radius), {"seeds": 10, "steps": 8000, "hidden": P.hidden, "batch": 128}),
    "grid of 25": (toys.grid(5, 1.0), {"seeds": 5, "steps": 6000, "hidden": 2 * P.hidden, "batch": 256}),
}
GAMES = {
    "minimax": {"game": "minimax"},
    "non-saturating": {"game": "non_saturating"},
    "WGAN-GP": {"game": "wgan_gp", "critic_steps": P.wgan_critic_steps},
    **{f"unrolled, k = {k}": {"game": "minimax", "unrolled": k} for k in (1, 5, 10)},
}


def measure(data: str, game: str, seed: int) -> dict:
    centres, size = DATA[data]
    quarters = [size["steps"] * i // 4 for i in (1, 2, 3, 4)]
    began = time.monotonic()
    film = toys.play(
        centres=centres, std=P.std, seed=seed, g_rate=P.g_rate, d_rate=P.d_rate, latent=P.latent, snapshots=quarters,
        **size, **GAMES[game],
    )  # fmt: skip
    seconds = time.monotonic() - began
    row = {"modes": len(centres), "games": size["seeds"], "steps": size["steps"]}
    row |= {"hidden": size["hidden"], "batch": size["batch"], "data_sha256": ""}  # no bedrooms in it
    row |= {"ms a step": round(1e3 * seconds / size["steps"], 1)}
    for name, step in zip(("1/4", "1/2", "3/4", "end"), quarters, strict=True):
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
