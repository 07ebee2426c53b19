"""How many modes does a generator find in each game, and how steadily?

Every game of notebook 05 on the ring of 8 and on the grid of 25, ten seeds each. On one data set
all have the same networks, rates and number of steps of G. Two controls: "minimax, 5 steps of D"
for games that ask D more often, and "minimax, D steeper" for how much hangs on D's first layer,
which begins twice as steep there. Counted are the modes found and the share of points near a mode,
for each seed, by the averaged generator at the end and on the way, and by the generator as it is
("now"); and the milliseconds a step.

Writes results/mode_collapse.csv, a row a data set and game. One thread; half an hour, most of it
k = 10.
"""

import time

import study

from bedgen_utils import games

SEEDS = 10
GAMES: dict[str, dict] = {
    "minimax": {"name": "minimax"},
    "minimax, 5 steps of D": {"name": "minimax", "critic_steps": 5},
    "minimax, D steeper": {"name": "minimax", "steeper": 2},
    "non-saturating": {"name": "non_saturating"},
    "WGAN-GP": {"name": "wgan_gp", "critic_steps": 5},
    **{f"unrolled, k = {k}": {"name": "minimax", "unrolled": k} for k in (1, 5, 10)},
}
SHARES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "5/8": 5 / 8, "3/4": 3 / 4, "7/8": 7 / 8}
SHARES |= {"end": 1}


def measure(job: study.Job) -> dict:
    p = study.numbers("05")
    centres, steps, steepness = {
        "ring of 8": (games.ring(8, p.radius), p.ring_steps, p.ring_steepness),
        "grid of 25": (games.grid(5, 1.0), p.grid_steps, p.grid_steepness),
    }[job["data"]]
    changes = dict(GAMES[job["game"]])
    changes["steepness"] = steepness * changes.pop("steeper", 1)
    game = games.Game(
        steps=steps,
        batch=p.batch,
        hidden=p.hidden,
        latent=p.latent,
        g_rate=p.g_rate,
        d_rate=p.d_rate,
        **changes,
    )
    at = {name: max(1, round(steps * share)) for name, share in SHARES.items()}
    began = time.monotonic()
    film = games.play(
        game, centres, p.std, seeds=SEEDS, seed=job["seed"], snapshots=list(at.values())
    )
    seconds = time.monotonic() - began
    row = {"modes": len(centres), "games": SEEDS, "steps": steps, "steepness": game.steepness}
    row |= {"rate of G": game.g_rate, "rate of D": game.d_rate, "batch": game.batch, "std": p.std}
    row |= {"ms a step": round(1e3 * seconds / steps, 1)}
    for name, step in at.items():
        for which, points in zip((f"now {name}", name), film[step], strict=True):
            found, near = games.mode_statistics(points, centres, p.std)
            row |= {f"found {which}": " ".join(map(str, found.tolist()))}
            row |= {f"near {which}": " ".join(f"{share:.3f}" for share in near.tolist())}
    return row


STUDY = study.Study(
    "mode_collapse",
    [
        {"data": data, "game": game, "seed": 0}
        for data in ("ring of 8", "grid of 25")
        for game in GAMES
    ],
    measure,
    split="",
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
