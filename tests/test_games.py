"""The games on the plane: data, counting of modes, independence of seeds, and the gradient through
unrolled steps."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from bedgen_utils import games
from bedgen_utils.games import Game, play
from bedgen_utils.gan import LOSSES, d_loss, g_loss, gradient_penalty

torch.set_num_threads(1)


def test_ring_has_as_many_different_modes_as_it_says():
    """Erratum 15: linspace(0, 2 pi, 8) holds both ends, which are one place."""
    centres = games.ring(8)
    apart = torch.cdist(centres, centres) + 10 * torch.eye(8)
    torch.testing.assert_close(apart.min(1).values, torch.full((8,), 2 * 2 * math.sin(math.pi / 8)))
    angle = torch.linspace(0, 2 * math.pi, 8)
    wrong = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    assert (
        torch.cdist(wrong, wrong) + 10 * torch.eye(8)
    ).min() < 1e-5  # the check above would notice
    assert games.grid(5).unique(dim=0).shape == (25, 2) and games.grid(5).mean(0).abs().max() == 0


def test_mixture_is_even_and_as_wide_as_said():
    centres = games.grid(5)
    points = games.sample_mixture(centres, (3, 20_000), 0.05, torch.Generator().manual_seed(0))
    assert points.shape == (3, 20_000, 2)
    distance, nearest = torch.cdist(points[0], centres).min(1)
    counts = nearest.bincount(minlength=25)
    assert ((counts - 800).abs() < 5 * 800**0.5).all()
    assert distance.square().mean().item() == pytest.approx(2 * 0.05**2, rel=0.03)
    origin = torch.zeros(1, 2, dtype=torch.float64)
    noise = games.sample_mixture(origin, (50,), 1.0)  # drawn in the type of the centres
    assert noise.dtype == torch.float64 and not torch.equal(noise, noise.float().double())


def test_mode_statistics():
    centres, std = games.ring(8), 0.05
    rng = torch.Generator().manual_seed(0)
    real = games.sample_mixture(centres, (4000,), std, rng)
    one = centres[3] + std * torch.randn(4000, 2, generator=rng)
    half = torch.cat([real[:2000], torch.zeros(2000, 2)])
    stray = torch.cat([one[:-8], centres])  # one point in each mode finds nothing
    found, near = games.mode_statistics(torch.stack([real, one, half, stray]), centres, std)
    assert found.tolist() == [8, 1, 8, 1]
    exact = 1 - math.exp(-4.5)  # P(|N(0, I_2)| < 3)
    assert near[0].item() == pytest.approx(exact, abs=0.006) and near[2].item() == pytest.approx(
        exact / 2, abs=0.006
    )


def players(seeds=2, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    g = games.mlp_parameters(seeds, (3, 7, 2), rng, dtype)
    d = games.mlp_parameters(seeds, (2, 6, 6, 1), rng, dtype)
    real = games.sample_mixture(games.ring(8).to(dtype), (seeds, 16), 0.05, rng)
    z = torch.randn(seeds, 16, 3, generator=rng, dtype=dtype)
    return [p.requires_grad_(True) for p in g], [p.requires_grad_(True) for p in d], real, z


def adam(d, real, z, steps=3):
    """The discriminators' optimizer after a few steps against random points, so that its moments
    are not empty."""
    optimizer = torch.optim.Adam(d, 0.05, betas=(0.5, 0.9))
    for i in range(steps):
        optimizer.zero_grad()
        games.d_objective("minimax", d, real, real.flip(1) * (1 + i) / 2).backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("k", [0, 1, 4])
def test_unrolled_gradient_agrees_with_finite_differences(k):
    g, d, real, z = players()
    optimizer = adam(d, real, z)
    gradient = torch.autograd.grad(games.g_objective("minimax", g, d, real, z, k, optimizer), g)
    h = 1e-6
    for which, index in ((0, (0, 1, 2)), (1, (1, 0, 3)), (2, (1, 4, 1)), (3, (0, 0, 0))):
        values = []
        for sign in (1, -1):
            moved = [p.detach().clone() for p in g]
            moved[which][index] += sign * h
            values.append(games.g_objective("minimax", moved, d, real, z, k, optimizer).item())
        assert gradient[which][index].item() == pytest.approx(
            (values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-9
        )


def test_unrolled_gradient_has_the_term_through_the_answer():
    """Holding D's answer fixed gives another gradient: the term that Metz et al. add is there and
    counts."""
    g, d, real, z = players()
    optimizer = adam(d, real, z)
    full = torch.autograd.grad(games.g_objective("minimax", g, d, real, z, 3, optimizer), g)
    with torch.no_grad():
        fake = games.mlp(g, z)
    answer = [
        p.detach()
        for p in games.unroll(
            d, lambda p: games.d_objective("minimax", p, real, fake), 3, optimizer
        )
    ]
    partial = torch.autograd.grad(games.g_objective("minimax", g, answer, real, z), g)
    difference = sum((a - b).square().sum() for a, b in zip(full, partial, strict=True)) ** 0.5
    assert difference > 0.02 * sum(a.square().sum() for a in full) ** 0.5


@pytest.mark.parametrize("taken", [0, 3])
def test_unrolled_steps_are_those_that_adam_then_takes(taken):
    _, d, real, z = players()
    fake = torch.randn_like(real)
    optimizer = adam(d, real, z, taken)
    before = [p.detach().clone() for p in d]
    foreseen = games.unroll(d, lambda p: games.d_objective("minimax", p, real, fake), 4, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(d, before, strict=True))
    lowered = adam(d, real, z, 0)
    lowered.param_groups[0]["lr"] = 0.0  # the rate of now, which `play` lowers, not the first one
    still = games.unroll(d, lambda p: games.d_objective("minimax", p, real, fake), 2, lowered)
    assert all(torch.equal(a, b) for a, b in zip(still, before, strict=True))
    for _ in range(4):
        optimizer.zero_grad()
        games.d_objective("minimax", d, real, fake).backward()
        optimizer.step()
    for a, b, c in zip(foreseen, d, before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # eps enters in another place
        assert (b - c).abs().max() > 0.05
    assert games.unroll(d, None, 0, optimizer) is d
    with pytest.raises(ValueError, match="wgan_gp"):
        games.g_objective("wgan_gp", players()[0], d, real, z, 2, optimizer)


def test_a_parameter_without_a_gradient_leaves_the_others_theirs():
    """Adam divides by the root of v, and the root of an exact 0 has no derivative."""
    used, unused = (torch.ones(1, 2, requires_grad=True) for _ in range(2))
    w = torch.tensor(2.0, requires_grad=True)
    optimizer = torch.optim.Adam([used, unused], 0.1, betas=(0.5, 0.9))
    ahead = games.unroll(
        [used, unused], lambda p: (w * p[0] ** 2 + 0 * w * p[1] ** 2).sum(), 2, optimizer
    )
    assert torch.equal(ahead[1], unused) and (ahead[0] < used).all()
    (gradient,) = torch.autograd.grad(sum(p.sum() for p in ahead), w)
    assert torch.isfinite(gradient)


def test_penalty_is_the_one_of_gan():
    _, d, real, _ = players(seeds=2)
    fake = torch.randn(real.shape, dtype=real.dtype)
    same = [torch.Generator().manual_seed(4) for _ in range(2)]
    ours = games.penalty(d, real, fake, same[0])
    u = torch.rand(*real.shape[:2], generator=same[1], dtype=real.dtype)
    for i in range(2):  # each seed's own
        own = [p[i : i + 1] for p in d]
        logit = partial(lambda own, x: games.mlp(own, x[None])[0, :, 0], own)
        torch.testing.assert_close(ours[i], gradient_penalty(logit, real[i], fake[i], u[i]))
    flat = [torch.zeros_like(p).requires_grad_(True) for p in d]  # the root of 0 has no derivative
    gradients = torch.autograd.grad(games.penalty(flat, real, fake).sum(), flat, allow_unused=True)
    assert all(g is None or torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("game", ["minimax", "wgan_gp"])
def test_seeds_do_not_touch_each_other(game):
    """The gradient that a game gets among others is the one it gets alone."""
    g, d, real, z = players(seeds=3)
    together = torch.autograd.grad(games.g_objective(game, g, d, real, z), g)
    one = [p[1:2].detach().requires_grad_(True) for p in g]
    alone = torch.autograd.grad(
        games.g_objective(game, one, [p[1:2] for p in d], real[1:2], z[1:2]), one
    )
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b)


@pytest.mark.parametrize("game", LOSSES)
def test_objectives_are_the_losses_of_gan_summed_over_seeds(game):
    g, d, real, z = players(seeds=3)
    fake = games.mlp(g, z)
    logits = [(games.mlp(d, real)[s], games.mlp(d, fake)[s]) for s in range(3)]
    d_sum = sum(d_loss(game, a, b) for a, b in logits)
    g_sum = sum(g_loss(game, b, a) for a, b in logits)
    torch.testing.assert_close(games.d_objective(game, d, real, fake), d_sum)
    torch.testing.assert_close(games.g_objective(game, g, d, real, z), g_sum)


def test_unrolled_objective_is_the_value_against_the_answer():
    g, d, real, z = players()
    optimizer, fake = adam(d, real, z), games.mlp(g, z)
    answer = games.unroll(d, lambda p: games.d_objective("minimax", p, real, fake), 2, optimizer)
    value = -games.d_objective("minimax", answer, real, fake)
    torch.testing.assert_close(games.g_objective("minimax", g, d, real, z, 2, optimizer), value)
    with pytest.raises(ValueError, match="optimizer"):
        games.g_objective("minimax", g, d, real, z, 2)


def test_perceptrons_have_scaled_weights_no_biases_and_a_linear_last_layer():
    rng = torch.Generator().manual_seed(0)
    p = games.mlp_parameters(4, (100, 50, 2), rng, torch.float64)
    assert [tuple(q.shape) for q in p] == [(4, 100, 50), (4, 1, 50), (4, 50, 2), (4, 1, 2)]
    assert not p[1].any() and not p[3].any() and p[0].dtype == torch.float64
    assert p[0].std().item() == pytest.approx(0.08, rel=0.02)
    assert p[2].std().item() == pytest.approx(0.8 / 50**0.5, rel=0.15)
    p[1], p[3] = p[1] + 0.3, p[3] - 5
    x = torch.randn(4, 6, 100, generator=rng, dtype=torch.float64)
    by_hand = torch.tanh(x @ p[0] + 0.3) @ p[2] - 5
    torch.testing.assert_close(games.mlp(p, x), by_hand)


# ---- the statistics, where one can count


def test_a_point_is_near_within_three_deviations_and_a_mode_found_at_a_fifth_of_its_share():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])

    def found(inside, outside, n=100, std=0.5):
        """`inside` points at 1.49 from the second centre, `outside` at 1.51; the rest on the
        first."""
        points = torch.zeros(n, 2)
        points[:inside] = torch.tensor([10.0, 1.49])
        points[inside : inside + outside] = torch.tensor([10.0, -1.51])
        modes, near = games.mode_statistics(points[None], centres, std)
        return modes.item(), near.item()

    assert found(10, 0) == (2, 1)  # 10 = a fifth of 100 / 2
    assert found(9, 0) == (1, 1)
    assert found(9, 20) == (1, pytest.approx(0.8))  # what is not near does not count
    assert found(10, 20) == (2, pytest.approx(0.8))
    assert found(0, 100) == (0, 0)


def test_ring_and_grid_lie_where_they_should():
    assert torch.allclose(
        games.ring(4), torch.tensor([[2.0, 0], [0, 2], [-2, 0], [0, -2]]), atol=1e-6
    )
    assert torch.allclose(games.ring(7, 1.5).norm(dim=1), torch.tensor(1.5))
    assert len(games.ring()) == 8 and len(games.grid()) == 25
    assert sorted(games.grid(2, 3.0).tolist()) == [
        [-1.5, -1.5],
        [-1.5, 1.5],
        [1.5, -1.5],
        [1.5, 1.5],
    ]
    assert games.grid().abs().max() == 2


# ---- whole games


def by_hand(game, centres, std, seeds, seed, n):
    """`play` once more, slowly: every seed has torch modules, losses and Adam of its own."""
    rng = torch.Generator().manual_seed(seed)
    g = games.mlp_parameters(seeds, (game.latent, game.hidden, game.hidden, 2), rng)
    d = games.mlp_parameters(seeds, (2, game.hidden, game.hidden, 1), rng)
    d[0] = d[0] * game.steepness
    d[1] = game.steepness * torch.randn(d[1].shape, generator=rng)
    g, d = (
        [[p[s : s + 1].clone().requires_grad_(True) for p in q] for s in range(seeds)]
        for q in (g, d)
    )
    average = [[p.detach().clone() for p in q] for q in g]
    adam_g = [torch.optim.Adam(q, betas=(0.5, 0.999)) for q in g]
    adam_d = [torch.optim.Adam(q, betas=(0.5, 0.999)) for q in d]

    def draw():
        shape = (seeds, game.batch)
        real = games.sample_mixture(centres, shape, std, rng)
        return real, torch.randn(*shape, game.latent, generator=rng)

    for step in range(1, game.steps + 1):
        fall = min(1, 0.05 + 0.95 * (game.steps - step) / (0.4 * game.steps))
        for s in range(seeds):
            adam_g[s].param_groups[0]["lr"] = game.g_rate * fall
            adam_d[s].param_groups[0]["lr"] = game.d_rate * fall
        for _ in range(game.critic_steps):
            real, z = draw()
            u = torch.rand(seeds, game.batch, 1, generator=rng) if game.name == "wgan_gp" else None
            for s in range(seeds):
                fake = games.mlp(g[s], z[s : s + 1]).detach()[0]
                critic = lambda x, s=s: games.mlp(d[s], x[None])[0, :, 0]  # noqa: E731
                loss = d_loss(game.name, critic(real[s]), critic(fake))
                if u is not None:
                    x = (u[s] * real[s] + (1 - u[s]) * fake).requires_grad_(True)
                    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
                    loss = loss + game.gp_weight * (slope.norm(dim=1) - 1).square().mean()
                adam_d[s].zero_grad()
                loss.backward()
                adam_d[s].step()
        real, z = draw()
        for s in range(seeds):
            fake = games.mlp(d[s], games.mlp(g[s], z[s : s + 1]))
            loss = g_loss(game.name, fake, games.mlp(d[s], real[s : s + 1]))
            adam_g[s].zero_grad()
            loss.backward()
            adam_g[s].step()
            weight = 1 - min(0.999, (1 + step) / (10 + step))
            for a, p in zip(average[s], g[s], strict=True):
                a += weight * (p.detach() - a)
    z = torch.randn(seeds, n, game.latent, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        last = [[games.mlp(p, z[s : s + 1])[0] for s, p in enumerate(q)] for q in (g, average)]
    return torch.stack([torch.stack(points) for points in last])


@pytest.mark.parametrize(
    "game",
    [
        Game("minimax", steepness=2.0, d_rate=3e-3),
        Game("wgan_gp", critic_steps=2, gp_weight=0.7),
        Game("relativistic", g_rate=2e-3),
        Game("non_saturating"),
    ],
    ids=lambda game: game.name,
)
def test_a_game_is_what_one_writes_by_hand(game):
    game = replace(game, steps=15, batch=24, hidden=10, latent=4)
    centres = games.ring(8)
    film = play(game, centres, 0.05, seeds=2, seed=3, n_snapshot=20)
    assert list(film) == [15]
    expected = by_hand(game, centres, 0.05, 2, 3, 20)
    torch.testing.assert_close(film[15], expected, rtol=1e-3, atol=1e-4)
    assert (film[15][0] - film[15][1]).abs().max() > 1e-3  # the average is another generator


def test_a_late_average_decays_by_a_thousandth():
    """(1 + k)/(10 + k) passes 0.999 at k = 8990: from there the average is constant in its
    decay."""
    table = games._Table(
        Game("minimax", hidden=4, latent=2), games.ring(8), 0.05, 1, torch.Generator()
    )
    for step, weight in ((1, 9 / 11), (80, 0.1), (8_989, 9 / 8_999), (100_000, 0.001)):
        before = [p.clone() for p in table.average]
        table.g_step(step)
        for a, b, p in zip(table.average, before, table.g, strict=True):
            torch.testing.assert_close(a, b + weight * (p.detach() - b), rtol=1e-5, atol=1e-7)


def test_snapshots_are_repeatable_of_the_same_latents_and_the_last_is_always_there():
    game = Game("non_saturating", steps=30, hidden=8, latent=4, batch=16)
    film = play(game, games.ring(8, 1.5), 0.1, seeds=2, snapshots=(1, 2), n_snapshot=40)
    assert list(film) == [1, 2, 30] and film[1].shape == (2, 2, 40, 2)
    again = play(game, games.ring(8, 1.5), 0.1, seeds=2, n_snapshot=40)
    assert list(again) == [30]
    assert torch.equal(film[30], again[30])  # looking changes nothing
    other = play(game, games.ring(8, 1.5), 0.1, seeds=2, seed=1, n_snapshot=40)
    assert not torch.equal(film[30], other[30])
    assert not torch.equal(film[30][0, 0], film[30][0, 1])  # the seeds play apart
    moved = (film[2] - film[1])[0].norm(dim=-1).mean()
    assert moved < 0.3 * film[1][0].std()  # the same latents: one step moves little
    assert not film[30].requires_grad
    assert play(game, games.ring(8), 0.1)[30].shape == (2, 5, 1000, 2)


def test_the_defaults_of_a_game_are_those_of_the_course():
    game = Game("minimax")
    assert (game.steps, game.batch, game.hidden, game.latent) == (2000, 128, 64, 32)
    assert (game.g_rate, game.d_rate, game.gp_weight) == (5e-3, 1e-3, 0.1)
    assert (game.unrolled, game.critic_steps, game.steepness) == (0, 1, 1.0)


def test_the_players_come_to_rest_at_the_end():
    game = Game("minimax", steps=300, hidden=16, latent=8, batch=64)
    film = play(game, games.ring(8), 0.05, seeds=3, snapshots=(149, 150, 299))
    halfway, end = ((film[s] - film[s - 1])[0].norm(dim=-1).mean(1) for s in (150, 300))
    assert (end < 0.25 * halfway).all()  # at the end the rates have fallen to a twentieth


def test_unrolling_is_used():
    game = Game("minimax", steps=2, hidden=8, latent=4, batch=16)
    a, b = (play(replace(game, unrolled=k), games.ring(8), 0.05, seeds=2)[2] for k in (0, 1))
    assert not torch.equal(a, b)


def test_impossible_games_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="choose one of minimax, non_saturating"):
        Game("no such game")
    with pytest.raises(ValueError, match="only game 'minimax' can be unrolled"):
        Game("wgan_gp", unrolled=1)
    with pytest.raises(ValueError, match="unrolled must not be negative, got -1"):
        Game("minimax", unrolled=-1)
    for setting in ("steps", "batch", "critic_steps", "hidden", "latent"):
        with pytest.raises(ValueError, match="at least 1"):
            Game("minimax", **{setting: 0})


@pytest.mark.slow
def test_a_short_game_learns():
    film = play(
        Game("non_saturating", steps=400, g_rate=3e-3, d_rate=3e-2),
        centres := games.ring(8, 1.5),
        0.1,
        seeds=2,
        snapshots=(1,),
        n_snapshot=400,
    )
    first, averaged = (
        torch.cdist(film[s], centres.expand(2, 2, -1, -1)).min(3).values.mean((1, 2))
        for s in (1, 400)
    )
    assert (averaged < 0.5 * first).all()
