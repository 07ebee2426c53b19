"""exact.py: the world whose densities, denoiser and bound are known, against quadrature and
draws."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule
from bedgen_utils.exact import Mixture

ABAR, XT = 0.6, 0.35


def density(world, x, xt=XT, abar=ABAR):
    """p(x_0 = x, x_t = xt), written out."""
    prior = sum(
        w * stats.norm.pdf(x, m, s)
        for w, m, s in zip(world.weights, world.means, world.stds, strict=True)
    )
    return prior * stats.norm.pdf(xt, abar**0.5 * x, (1 - abar) ** 0.5)


def test_densities_and_posterior_are_those_of_quadrature():
    world = Mixture()
    Z, m1, m2 = (
        integrate.quad(lambda x, k=k: x**k * density(world, x), -3, 3, limit=300, epsabs=1e-12)[0]
        for k in range(3)
    )
    mean, var = world.posterior(torch.tensor([XT]), ABAR)
    assert (mean.item(), var.item()) == pytest.approx((m1 / Z, m2 / Z - (m1 / Z) ** 2), abs=1e-8)
    assert float(world.log_prob(torch.tensor(XT), ABAR)) == pytest.approx(math.log(Z), abs=1e-8)
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(world.cdf(x, ABAR).sum(), x)
    torch.testing.assert_close(slope, world.log_prob(x.detach(), ABAR).exp(), rtol=1e-9, atol=1e-12)


def test_the_grid_integrates_and_entropy_is_that_of_quadrature():
    world = Mixture()
    for abar in (1.0, ABAR, 0.001):
        x, w = world.grid(abar)
        assert x.shape == w.shape == (1501,) and float(w.sum()) == pytest.approx(1, abs=1e-10)
        mean = abar**0.5 * np.dot(world.weights, world.means)
        second = np.dot(world.weights, abar * (np.square(world.means) + np.square(world.stds)))
        assert float((w * x).sum()) == pytest.approx(mean, abs=1e-9)
        assert float((w * x**2).sum()) == pytest.approx(second + 1 - abar, abs=1e-9)

    def integrand(x):
        log_p = float(world.log_prob(torch.tensor(x, dtype=torch.float64)))
        return -math.exp(log_p) * log_p

    expected = integrate.quad(integrand, -3, 3, limit=300, epsabs=1e-10)[0]
    assert world.entropy() == pytest.approx(expected, abs=1e-8)
    pure = Mixture((1.0,), (0.3,), (0.2,))
    assert pure.entropy() == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.04), abs=1e-9)


def test_draws_follow_the_density_and_the_generator():
    world = Mixture()
    x = world.sample(5000, torch.Generator().manual_seed(0))
    assert x.shape == (5000, 1) and x.dtype == torch.float64
    assert torch.equal(x, world.sample(5000, torch.Generator().manual_seed(0)))
    result = stats.kstest(x.flatten().numpy(), lambda v: world.cdf(torch.tensor(v)).numpy())
    assert result.pvalue > 1e-4


@pytest.mark.parametrize("prediction", ["v", "eps", "x0", "mean"])
@pytest.mark.parametrize("variance", ["small", "learned"])
def test_the_denoiser_gives_the_posterior_in_every_parameterisation(prediction, variance):
    world, t = Mixture(), 12
    d = GaussianDiffusion(cosine_beta_schedule(20), prediction, variance)
    x = torch.linspace(-1.5, 1.5, 9, dtype=torch.float32)[:, None]
    at = torch.full((9,), t)
    output = world.denoiser(d)(x, at)
    assert output.dtype == torch.float32
    mean, left = world.posterior(x, float(d.abar[t]))
    x0_hat = d.predict_xstart(output, x, at)
    torch.testing.assert_close(x0_hat.double(), mean, rtol=1e-3, atol=1e-4)
    if variance == "learned":  # Var[x_{t−1} | x_t], from the module's docstring
        c = d.posterior_coef_x0[t]
        true = d.posterior_variance[t] + c**2 * left
        found = d.p_mean_variance(lambda *_: output, x, at, clip=False)[1]
        torch.testing.assert_close(found.double(), true, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_terms_of_the_bound_sum_to_entropy_and_gap(variance):
    world, d = Mixture(), GaussianDiffusion(cosine_beta_schedule(10), "v", variance)
    L, gap = world.bound_terms(d)
    assert L.shape == gap.shape == (11,) and L.dtype == torch.float64
    assert float(L.sum()) == pytest.approx(world.entropy() + float(gap.sum()), abs=1e-8)
    assert float(gap.min()) > -1e-9  # each is a Kullback-Leibler divergence
    # L_T and the first L_{t−1} by draws of x_0
    x0 = world.sample(20_000, torch.Generator().manual_seed(1))
    prior = d.prior_kl(x0)
    assert float(prior.mean()) == pytest.approx(float(L[-1]), abs=5 * float(prior.std()) / 141)
    if variance == "learned":
        others = [GaussianDiffusion(cosine_beta_schedule(10), "v", v) for v in ("small", "large")]
        assert all(float(L.sum()) < float(world.bound_terms(o)[0].sum()) for o in others)
