"""The games on the plane: data, counting of modes, independence of seeds, and the gradient through unrolled steps."""

import math

import pytest
import torch

from bedgen_utils import toys
from bedgen_utils.gan import gradient_penalty

torch.set_num_threads(1)


def test_ring_has_as_many_different_modes_as_it_says():
    """Erratum 15: linspace(0, 2 pi, 8) holds both ends, which are one place."""
    centres = toys.ring(8)
    apart = torch.cdist(centres, centres) + 10 * torch.eye(8)
    torch.testing.assert_close(apart.min(1).values, torch.full((8,), 2 * 2 * math.sin(math.pi / 8)))
    angle = torch.linspace(0, 2 * math.pi, 8)
    wrong = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    assert (torch.cdist(wrong, wrong) + 10 * torch.eye(8)).min() < 1e-5  # the check above would notice
    assert toys.grid(5).unique(dim=0).shape == (25, 2) and toys.grid(5).mean(0).abs().max() == 0


def test_mixture_is_even_and_as_wide_as_said():
    centres = toys.grid(5)
    points = toys.sample_mixture(centres, (3, 20_000), 0.05, torch.Generator().manual_seed(0))
    assert points.shape == (3, 20_000, 2)
    distance, nearest = torch.cdist(points[0], centres).min(1)
    counts = nearest.bincount(minlength=25)
    assert ((counts - 800).abs() < 5 * 800**0.5).all()
    assert distance.square().mean().item() == pytest.approx(2 * 0.05**2, rel=0.03)


def test_mode_statistics():
    centres, std = toys.ring(8), 0.05
    rng = torch.Generator().manual_seed(0)
    real = toys.sample_mixture(centres, (4000,), std, rng)
    one = centres[3] + std * torch.randn(4000, 2, generator=rng)
    half = torch.cat([real[:2000], torch.zeros(2000, 2)])
    stray = torch.cat([one[:-8], centres])  # one point in each mode finds nothing
    found, near = toys.mode_statistics(torch.stack([real, one, half, stray]), centres, std)
    assert found.tolist() == [8, 1, 8, 1]
    exact = 1 - math.exp(-4.5)  # P(|N(0, I_2)| < 3)
    assert near[0].item() == pytest.approx(exact, abs=0.006) and near[2].item() == pytest.approx(exact / 2, abs=0.006)


def games(seeds=2, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    g = toys.mlp_parameters(seeds, (3, 7, 2), rng, dtype)
    d = toys.mlp_parameters(seeds, (2, 6, 6, 1), rng, dtype)
    real = toys.sample_mixture(toys.ring(8).to(dtype), (seeds, 16), 0.05, rng)
    z = torch.randn(seeds, 16, 3, generator=rng, dtype=dtype)
    return [p.requires_grad_(True) for p in g], [p.requires_grad_(True) for p in d], real, z


def adam(d, real, z, steps=3):
    """The discriminators' optimizer after a few steps against random points, so that its moments are not empty."""
    optimizer = torch.optim.Adam(d, 0.05, betas=(0.5, 0.9))
    for i in range(steps):
        optimizer.zero_grad()
        toys.d_objective("minimax", d, real, real.flip(1) * (1 + i) / 2).backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("k", [0, 1, 4])
def test_unrolled_gradient_agrees_with_finite_differences(k):
    g, d, real, z = games()
    optimizer = adam(d, real, z)
    gradient = torch.autograd.grad(toys.g_objective("minimax", g, d, real, z, k, optimizer), g)
    h = 1e-6
    for which, index in ((0, (0, 1, 2)), (1, (1, 0, 3)), (2, (1, 4, 1)), (3, (0, 0, 0))):
        values = []
        for sign in (1, -1):
            moved = [p.detach().clone() for p in g]
            moved[which][index] += sign * h
            values.append(toys.g_objective("minimax", moved, d, real, z, k, optimizer).item())
        assert gradient[which][index].item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-9)


def test_unrolled_gradient_has_the_term_through_the_answer():
    """Holding D's answer fixed gives another gradient: the term that Metz et al. add is there and counts."""
    g, d, real, z = games()
    optimizer = adam(d, real, z)
    full = torch.autograd.grad(toys.g_objective("minimax", g, d, real, z, 3, optimizer), g)
    with torch.no_grad():
        fake = toys.mlp(g, z)
    answer = [p.detach() for p in toys.unroll(d, lambda p: toys.d_objective("minimax", p, real, fake), 3, optimizer)]
    partial = torch.autograd.grad(toys.g_objective("minimax", g, answer, real, z), g)
    difference = sum((a - b).square().sum() for a, b in zip(full, partial, strict=True)) ** 0.5
    assert difference > 0.02 * sum(a.square().sum() for a in full) ** 0.5


@pytest.mark.parametrize("taken", [0, 3])
def test_unrolled_steps_are_those_that_adam_then_takes(taken):
    _, d, real, z = games()
    fake = torch.randn_like(real)
    optimizer = adam(d, real, z, taken)
    before = [p.detach().clone() for p in d]
    foreseen = toys.unroll(d, lambda p: toys.d_objective("minimax", p, real, fake), 4, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(d, before, strict=True))
    for _ in range(4):
        optimizer.zero_grad()
        toys.d_objective("minimax", d, real, fake).backward()
        optimizer.step()
    for a, b, c in zip(foreseen, d, before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # eps enters in another place
        assert (b - c).abs().max() > 0.05
    assert toys.unroll(d, None, 0, optimizer) is d
    with pytest.raises(ValueError, match="wgan_gp"):
        toys.g_objective("wgan_gp", games()[0], d, real, z, 2, optimizer)


def test_penalty_is_the_one_of_gan():
    _, d, real, _ = games(seeds=1)
    fake = torch.randn(real.shape, dtype=real.dtype)
    same = [torch.Generator().manual_seed(4) for _ in range(2)]
    ours = toys.penalty(d, real, fake, same[0])
    theirs = gradient_penalty(lambda x: toys.mlp(d, x[None])[0, :, 0], real[0], fake[0], same[1])
    torch.testing.assert_close(ours[0], theirs)


@pytest.mark.parametrize("game", ["minimax", "wgan_gp"])
def test_seeds_do_not_touch_each_other(game):
    """The gradient that a game gets among others is the one it gets alone."""
    g, d, real, z = games(seeds=3)
    together = torch.autograd.grad(toys.g_objective(game, g, d, real, z), g)
    one = [p[1:2].detach().requires_grad_(True) for p in g]
    alone = torch.autograd.grad(toys.g_objective(game, one, [p[1:2] for p in d], real[1:2], z[1:2]), one)
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b)


def test_a_short_game_learns_and_is_repeatable():
    centres = toys.ring(8, 1.5)
    settings = dict(seeds=2, steps=400, g_rate=3e-3, d_rate=3e-2, snapshots=(1,), n_snapshot=400)
    film = toys.play("non_saturating", centres, 0.1, **settings)
    assert set(film) == {1, 400} and film[1].shape == (2, 2, 400, 2)
    again = toys.play("non_saturating", centres, 0.1, **settings)
    assert torch.equal(film[400], again[400]) and not torch.equal(film[400][0, 0], film[400][0, 1])
    now, averaged = (torch.cdist(film[s], centres.expand(2, 2, -1, -1)).min(3).values.mean((1, 2)) for s in (1, 400))
    assert (averaged < 0.5 * now).all()


def test_the_players_come_to_rest_at_the_end():
    settings = dict(seeds=3, steps=300, hidden=16, latent=8, batch=64, snapshots=(149, 150, 299))
    film = toys.play("minimax", toys.ring(8), 0.05, **settings)
    halfway, end = ((film[s] - film[s - 1])[0].norm(dim=-1).mean(1) for s in (150, 300))  # of the same latents
    assert (end < 0.25 * halfway).all()  # at the end the rates have fallen to a twentieth


@pytest.mark.parametrize("more", [{"steepness": 2.0}, {"critic_steps": 2}, {"unrolled": 1}])
def test_options_of_play_are_used(more):
    settings = dict(seeds=2, steps=2, hidden=8, latent=4, batch=16, n_snapshot=5)
    a, b = (toys.play("minimax", toys.ring(8), 0.05, **settings, **options) for options in ({}, more))
    assert not torch.equal(a[2], b[2])
