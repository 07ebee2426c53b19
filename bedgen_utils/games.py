r"""Games on the plane, where mode collapse can be counted (report, section 1.3).

Data: K narrow Gaussians, on a ring or a grid. A generator that has collapsed paints few of them,
and one sees which. Networks are tiny perceptrons written as functions of their parameters,
`mlp(parameters, x)`. Each parameter carries a leading axis S of seeds, so one batched matrix
product plays S independent games at once: the losses are summed over S, the gradient of a sum of
terms with disjoint parameters is the gradient of each, and Adam works element by element.

Unrolled GAN (Metz et al. 2017): G does not play against today's D, but against the D that would
answer it,

    θ_D⁰ = θ_D,    θ_D^{i+1} = A(θ_D^i, ∇_{θ_D} L_D(θ_D^i, θ_G)),    i = 0 … k − 1,

where A is D's own optimizer, and G descends V(θ_D^k, θ_G) with a gradient that runs through all k
steps: θ_D^k depends on θ_G, and that dependence is what punishes a G that puts all its mass in one
place. D itself only ever keeps its ordinary step. At k = 0 this is the ordinary game.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad
from torch.optim import Adam

from .gan import d_loss, g_loss, losses, slope
from .optim import learning_rate

Net = list[Tensor]  # the parameters of S perceptrons: [(S, in, out), (S, 1, out), …]
Rng = torch.Generator | None


# ---- data, and how much of it is found


def ring(modes: int = 8, radius: float = 2.0) -> Tensor:
    """Centres (modes, 2), float32, evenly spaced on a circle, from angle 0 on."""
    angle = torch.arange(modes) * (2 * math.pi / modes)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def grid(side: int = 5, spacing: float = 1.0) -> Tensor:
    """Centres (side², 2) of a square grid around the origin."""
    x = (torch.arange(side) - (side - 1) / 2) * spacing
    return torch.cartesian_prod(x, x)


def sample_mixture(centres: Tensor, shape: Sequence[int], std: float, rng: Rng = None) -> Tensor:
    """Points (*shape, 2) from the even mixture of N(centre, std² I)."""
    which = torch.randint(len(centres), shape, generator=rng)
    return centres[which] + std * torch.randn(*shape, 2, generator=rng, dtype=centres.dtype)


def mode_statistics(points: Tensor, centres: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Modes found by points (S, N, 2), and their share near a mode, (S,) each.

    A point is near a mode if it lies within 3 std of its centre (98.9 % of the true mixture does).
    A mode is found if it receives at least a fifth of its fair share N/K of near points; a single
    stray point finds nothing.
    """
    distance, nearest = torch.cdist(points, centres.expand(len(points), -1, -1)).min(2)
    near = distance < 3 * std
    counts = (F.one_hot(nearest, len(centres)) * near[..., None]).sum(1)
    found = (counts >= 0.2 * points.shape[1] / len(centres)).sum(1)
    return found, near.float().mean(1)


# ---- players, S at once


def mlp_parameters(
    seeds: int, sizes: Sequence[int], rng: Rng = None, dtype: torch.dtype = torch.float32
) -> Net:
    """Weights and biases of S = `seeds` perceptrons.

    The weights have the scale 0.8/√in: from z ~ N(0, I) a generator with two hidden layers begins
    as a blob of standard deviation about 0.3; with He's √(2/in) it would be three times as wide.
    """
    net = []
    for a, b in pairwise(sizes):
        weight = torch.randn(seeds, a, b, generator=rng, dtype=dtype) * 0.8 / a**0.5
        net += [weight, torch.zeros(seeds, 1, b, dtype=dtype)]
    return net


def mlp(net: Sequence[Tensor], x: Tensor) -> Tensor:
    """(S, N, in) -> (S, N, out): tanh after every layer but the last (as Metz et al. 2017)."""
    for i in range(0, len(net), 2):
        x = torch.baddbmm(net[i + 1], x if i == 0 else x.tanh(), net[i])
    return x


def unroll(net: Net, loss: Callable[[Net], Tensor], steps: int, adam: Adam) -> Net:
    """Where `steps` steps of Adam on loss(net) lead, differentiable in all the loss depends on.

    adam: the optimizer of this net; its rate and moments are continued, and left as they are. Plain
    gradient descent will not do: G can win by points so far out that D's foreseen step overshoots.
    """
    group = adam.param_groups[0]
    rate, (b1, b2), eps = group["lr"], group["betas"], group["eps"]
    states = [adam.state.get(p, {}) for p in group["params"]]
    m, v = ([s.get(key, 0.0) for s in states] for key in ("exp_avg", "exp_avg_sq"))
    taken = int(states[0].get("step", 0))
    for t in range(taken + 1, taken + steps + 1):
        g = grad(loss)(net)
        m = [b1 * a + (1 - b1) * b for a, b in zip(m, g, strict=True)]
        v = [b2 * a + (1 - b2) * b * b for a, b in zip(v, g, strict=True)]
        # eps² under the root, where torch adds eps outside: the root of 0 has no derivative
        net = [
            p - rate / (1 - b1**t) * a / (b / (1 - b2**t) + eps**2).sqrt()
            for p, a, b in zip(net, m, v, strict=True)
        ]
    return net


# ---- what they play for


def penalty(d: Net, real: Tensor, fake: Tensor, rng: Rng = None) -> Tensor:
    """`gan.gradient_penalty`, mean (|∇f| − 1)² between real and fake (S, N, 2), by seed (S,)."""
    u = torch.rand(*real.shape[:2], 1, generator=rng, dtype=real.dtype)
    g = slope(lambda x: mlp(d, x), u * real + (1 - u) * fake)
    return ((g.square().sum(2) + 1e-12).sqrt() - 1).square().mean(1)


def d_objective(game: str, d: Net, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminators' loss, summed over seeds: real and fake are points (S, N, 2)."""
    # The losses of gan.py are means over all S x N logits; times S, that is the sum of S means.
    return len(real) * d_loss(game, mlp(d, real), mlp(d, fake))


def g_objective(
    game: str, g: Net, d: Net, real: Tensor, z: Tensor, unrolled: int = 0, adam: Adam | None = None
) -> Tensor:
    """The generators' loss, summed over seeds, against today's discriminators or those to which
    `unrolled` steps of their optimizer `adam` lead.

    Unrolled, it is V of Eq. 13 as a whole (game "minimax"): through D's answer its first term, too,
    depends on G.
    """
    fake = mlp(g, z)
    if not unrolled:
        return len(real) * g_loss(game, mlp(d, fake), mlp(d, real))
    if game != "minimax" or adam is None:
        raise ValueError(f"unrolling needs game 'minimax', not {game!r}, and D's optimizer")
    answer = unroll(d, lambda d: d_objective(game, d, real, fake), unrolled, adam)
    return -d_objective(game, answer, real, fake)


# ---- the game


@dataclass(frozen=True)
class Game:
    """How a game is played. G and D have two hidden layers; by default D follows G, which steps
    five times as far.

    Adam's rates fall over the last 40 % of the steps (`optim.learning_rate`): at full rates a game
    that has found all may still jump away at its end.
    """

    name: str  # a key of `gan.LOSSES`
    steps: int = 2000
    batch: int = 128
    unrolled: int = 0  # k, how many answers of D the generator looks ahead; "minimax" only
    critic_steps: int = 1  # steps of D for one of G
    gp_weight: float = 0.1  # of WGAN-GP's penalty (its authors, too, take 0.1 on the plane)
    g_rate: float = 5e-3
    d_rate: float = 1e-3
    steepness: float = 1.0  # of D's first layer
    hidden: int = 64
    latent: int = 32

    def __post_init__(self) -> None:
        losses(self.name)
        if self.unrolled < 0:
            raise ValueError(f"unrolled must not be negative, got {self.unrolled}")
        if self.unrolled and self.name != "minimax":
            raise ValueError(f"only game 'minimax' can be unrolled, not {self.name!r}")
        if min(self.steps, self.batch, self.critic_steps, self.hidden, self.latent) < 1:
            raise ValueError(f"steps, sizes and the batch are at least 1: {self}")


def play(
    game: Game,
    centres: Tensor,
    std: float,
    *,
    seeds: int = 5,
    seed: int = 0,
    snapshots: Sequence[int] = (),
    n_snapshot: int = 1000,
) -> dict[int, Tensor]:
    """Play `seeds` independent games on the mixture; returns {step: points (2, S, n_snapshot, 2)}.

    Points [0] are those of the generators at that step, [1] those of their moving averages (decay
    0.999, as `optim.EMA`). Steps are those of `snapshots` and the last.
    """
    table = _Table(game, centres, std, seeds, torch.Generator().manual_seed(seed))
    film = {}
    for step in range(1, game.steps + 1):
        for _ in range(game.critic_steps):
            table.d_step(step)
        table.g_step(step)
        if step in snapshots or step == game.steps:
            same = torch.Generator().manual_seed(seed + 1)
            z = torch.randn(seeds, n_snapshot, game.latent, generator=same)
            with torch.no_grad():
                film[step] = torch.stack([mlp(table.g, z), mlp(table.average, z)])
    return film


class _Table:
    """The players of S games, their optimizers, and what they draw from."""

    def __init__(self, game: Game, centres: Tensor, std: float, seeds: int, rng: torch.Generator):
        self.game, self.centres, self.std, self.rng = game, centres, std, rng
        self.shape = (seeds, game.batch)
        self.g = mlp_parameters(seeds, (game.latent, game.hidden, game.hidden, 2), rng)
        self.d = mlp_parameters(seeds, (2, game.hidden, game.hidden, 1), rng)
        # With biases of 0 each unit of D's first layer would switch on a line through the origin.
        # These lie all over the data; the steeper, the finer the structure D sees from the start.
        self.d[0] = game.steepness * self.d[0]
        self.d[1] = game.steepness * torch.randn(self.d[1].shape, generator=rng)
        self.average = [p.clone() for p in self.g]
        for p in self.g + self.d:
            p.requires_grad_(True)
        self.g_adam = Adam(self.g, game.g_rate, betas=(0.5, 0.999), fused=True)
        self.d_adam = Adam(self.d, game.d_rate, betas=(0.5, 0.999), fused=True)

    def draw(self) -> tuple[Tensor, Tensor]:
        """A batch of real points and one of latents for each seed."""
        real = sample_mixture(self.centres, self.shape, self.std, self.rng)
        return real, torch.randn(*self.shape, self.game.latent, generator=self.rng)

    def d_step(self, step: int) -> None:
        real, z = self.draw()
        with torch.no_grad():
            fake = mlp(self.g, z)
        loss = d_objective(self.game.name, self.d, real, fake)
        if self.game.name == "wgan_gp":
            loss = loss + self.game.gp_weight * penalty(self.d, real, fake, self.rng).sum()
        self._descend(loss, self.d_adam, step)

    def g_step(self, step: int) -> None:
        """One step of the generators, and of their averages."""
        name, ahead = self.game.name, self.game.unrolled
        loss = g_objective(name, self.g, self.d, *self.draw(), ahead, self.d_adam)
        self._descend(loss, self.g_adam, step)
        for mean, p in zip(self.average, self.g, strict=True):
            mean.lerp_(p.detach(), 1 - min(0.999, (1 + step) / (10 + step)))

    def _descend(self, loss: Tensor, adam: Adam, step: int) -> None:
        (group,) = adam.param_groups
        group["lr"] = learning_rate(step, self.game.steps, adam.defaults["lr"])
        adam.zero_grad()
        loss.backward(inputs=group["params"])
        adam.step()
