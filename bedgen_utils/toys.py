r"""Games on the plane, where mode collapse can be counted (report, section 1.3).

Data: K narrow Gaussians, on a ring or a grid. A generator that has collapsed paints few of them, and one sees which.
Networks are tiny perceptrons written as functions of their parameters, `mlp(parameters, x)`. Each parameter carries a
leading axis S of seeds, so one batched matrix product plays S independent games at once: the losses are summed over S,
the gradient of a sum of terms with disjoint parameters is the gradient of each, and Adam works element by element.

Unrolled GAN (Metz et al. 2017): G does not play against today's D, but against the D that would answer it,

    theta_D^0 = theta_D,    theta_D^{i+1} = A(theta_D^i, grad_{theta_D} L_D(theta_D^i, theta_G)),    i = 0 ... k-1,

where A is D's own optimizer, and G descends V(theta_D^k, theta_G) with a gradient that runs through all k steps:
theta_D^k depends on theta_G, and that dependence is what punishes a G that puts all its mass in one place. D itself
only ever keeps its ordinary step. At k = 0 this is the ordinary game.
"""

import math

import torch
import torch.nn.functional as F
from torch.func import grad

from .gan import LOSSES
from .train import learning_rate


def ring(modes=8, radius=2.0):
    """Centres (modes, 2) on a circle. The angle stops short of 2 pi: linspace with both ends puts two in one place."""
    angle = torch.arange(modes) * (2 * math.pi / modes)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def grid(side=5, spacing=1.0):
    """Centres (side^2, 2) of a square grid around the origin."""
    x = (torch.arange(side) - (side - 1) / 2) * spacing
    return torch.cartesian_prod(x, x)


def sample_mixture(centres, shape, std, generator=None):
    """Points (*shape, 2) from the even mixture of N(centre, std^2 I)."""
    which = torch.randint(len(centres), shape, generator=generator)
    return centres[which] + std * torch.randn(*shape, 2, generator=generator, dtype=centres.dtype)


def mode_statistics(points, centres, std):
    """How much of a mixture points (S, N, 2) cover. Returns two tensors (S,): modes found and the share near a mode.

    A point is near a mode if it lies within 3 std of its centre (98.9 % of the true mixture does). A mode is found if
    it receives at least a fifth of its fair share N/K of near points; a single stray point finds nothing.
    """
    distance, nearest = torch.cdist(points, centres.expand(len(points), -1, -1)).min(2)
    near = distance < 3 * std
    counts = (F.one_hot(nearest, len(centres)) * near[..., None]).sum(1)
    found = (counts >= 0.2 * points.shape[1] / len(centres)).sum(1)
    return found, near.float().mean(1)


def mlp_parameters(seeds, sizes, generator=None, dtype=torch.float32):
    """Weights and biases of S = `seeds` perceptrons: [(S, in, out), (S, 1, out), ...].

    The weights have the scale 0.8/sqrt(in): from z ~ N(0, I) a generator with two hidden layers
    begins as a blob of standard deviation about 0.3; with He's sqrt(2/in) it would be three times as wide.
    """
    out = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        out += [torch.randn(seeds, a, b, generator=generator, dtype=dtype) * 0.8 / a**0.5,
                torch.zeros(seeds, 1, b, dtype=dtype)]
    return out


def mlp(parameters, x):
    """(S, N, in) -> (S, N, out): tanh after every layer but the last, as on the plane of Metz et al. (2017)."""
    for i in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[i + 1], x, parameters[i])
        if i + 2 < len(parameters):
            x = x.tanh()
    return x


def unroll(parameters, loss, steps, optimizer):
    """theta_D^k: where `steps` steps of Adam on loss(parameters) lead, differentiable in all that the loss depends on.

    optimizer: the torch.optim.Adam of these parameters; its rate and moments are continued, and left as they are.
    Plain gradient descent will not do here: G can win by placing points so far out that D's foreseen step overshoots.
    """
    group = optimizer.param_groups[0]
    rate, (b1, b2), eps = group["lr"], group["betas"], group["eps"]
    states = [optimizer.state.get(p, {}) for p in group["params"]]
    t = int(states[0].get("step", 0))
    m, v = ([s.get(key, torch.zeros_like(p)) for s, p in zip(states, parameters, strict=True)]
            for key in ("exp_avg", "exp_avg_sq"))
    for _ in range(steps):
        t += 1
        g = grad(loss)(parameters)
        m = [b1 * a + (1 - b1) * b for a, b in zip(m, g, strict=True)]
        v = [b2 * a + (1 - b2) * b * b for a, b in zip(v, g, strict=True)]
        # eps^2 under the root, where torch adds eps outside: the root of an exact 0 has no derivative
        parameters = [p - rate / (1 - b1**t) * a / (b / (1 - b2**t) + eps**2).sqrt()
                      for p, a, b in zip(parameters, m, v, strict=True)]
    return parameters


def penalty(d_parameters, real, fake, generator=None):
    """WGAN-GP's mean (|grad f| - 1)^2 between real and fake (S, N, 2), by seed (S,); see `gan.gradient_penalty`."""
    u = torch.rand(*real.shape[:2], 1, generator=generator, dtype=real.dtype)
    x = (u * real + (1 - u) * fake).detach().requires_grad_(True)
    (g,) = torch.autograd.grad(mlp(d_parameters, x).sum(), x, create_graph=True)
    return ((g.square().sum(2) + 1e-12).sqrt() - 1).square().mean(1)


def d_objective(game, d_parameters, real, fake):
    """The discriminators' loss, summed over seeds: real and fake are points (S, N, 2)."""
    # The losses of gan.py are means over all S x N logits; times S, that is the sum of S means.
    return len(real) * LOSSES[game][0](mlp(d_parameters, real), mlp(d_parameters, fake))


def g_objective(game, g_parameters, d_parameters, real, z, unrolled=0, optimizer=None):
    """The generators' loss, summed over seeds, against today's discriminator or the one that `unrolled` steps lead to.

    Unrolled, it is V of Eq. 13 as a whole (game "minimax"): its first term, too, depends on G through D's answer.
    optimizer: the Adam of the discriminators, needed to foresee that answer.
    """
    fake = mlp(g_parameters, z)
    if not unrolled:
        return len(real) * LOSSES[game][1](mlp(d_parameters, fake), mlp(d_parameters, real))
    if game != "minimax":
        raise ValueError(f"unrolling is defined for the value V of Eq. 13, not for the game {game!r}")
    answer = unroll(d_parameters, lambda p: d_objective(game, p, real, fake), unrolled, optimizer)
    return -d_objective(game, answer, real, fake)


def play(game, centres, std, *, seeds=5, steps=2000, batch=128, unrolled=0, critic_steps=1, gp_weight=0.1, g_rate=5e-3,
         d_rate=1e-3, steepness=1.0, hidden=64, latent=32, seed=0, snapshots=(), n_snapshot=1000):
    """Play `seeds` independent games; returns {step: generated points (2, S, n_snapshot, 2)}: [0] those of the
    generators as they are at that step, [1] those of their moving averages (decay 0.999, as `train.EMA`).

    G and D have two hidden layers; by the default rates G steps five times as far as D, which follows and does not
    lead. game: a key of `gan.LOSSES`. unrolled: k, how many answers of D the generator looks ahead. critic_steps: steps
    of D for one of G. gp_weight: weight of WGAN-GP's penalty (its authors, too, take 0.1 on the plane). g_rate, d_rate:
    learning rates of Adam, which both fall over the last 40 % of the steps (`train.learning_rate`): at full rates a
    game that has found all may still jump away at its last steps. steepness: of D's first layer, see below.
    snapshots: the steps at which points are drawn; the last step is always among them.
    """
    rng = torch.Generator().manual_seed(seed)
    g = mlp_parameters(seeds, (latent, hidden, hidden, 2), rng)
    d = mlp_parameters(seeds, (2, hidden, hidden, 1), rng)
    # With biases of 0 every unit of D's first layer would switch on a line through the origin. These lines lie all over
    # the data, and the steeper, the finer the structure that D sees from the start.
    d[:2] = steepness * d[0], steepness * torch.randn(d[1].shape, generator=rng)
    average = [p.clone() for p in g]
    for p in g + d:
        p.requires_grad_(True)
    optimizer_g = torch.optim.Adam(g, g_rate, betas=(0.5, 0.999), fused=True)
    optimizer_d = torch.optim.Adam(d, d_rate, betas=(0.5, 0.999), fused=True)

    def draw():
        return sample_mixture(centres, (seeds, batch), std, rng), torch.randn(seeds, batch, latent, generator=rng)

    film = {}
    for step in range(1, steps + 1):
        for optimizer, rate in ((optimizer_g, g_rate), (optimizer_d, d_rate)):
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, rate, warmup=1)
        for _ in range(critic_steps):
            real, z = draw()
            with torch.no_grad():
                fake = mlp(g, z)
            loss = d_objective(game, d, real, fake)
            if game == "wgan_gp":
                loss = loss + gp_weight * penalty(d, real, fake, rng).sum()
            optimizer_d.zero_grad()
            loss.backward()
            optimizer_d.step()
        loss = g_objective(game, g, d, *draw(), unrolled, optimizer_d)
        for p, gradient in zip(g, torch.autograd.grad(loss, g), strict=True):
            p.grad = gradient
        optimizer_g.step()
        with torch.no_grad():
            for mean, p in zip(average, g, strict=True):
                mean.lerp_(p, 1 - min(0.999, (1 + step) / (10 + step)))
            if step in snapshots or step == steps:
                z = torch.randn(seeds, n_snapshot, latent, generator=torch.Generator().manual_seed(seed + 1))
                film[step] = torch.stack([mlp(g, z), mlp(average, z)])
    return film
