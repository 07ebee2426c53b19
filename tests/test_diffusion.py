"""diffusion.py against closed forms, quadrature, Monte Carlo, an exactly solvable world, and
diffusers.

Monte-Carlo tolerances are five standard errors of the draws themselves: under a right formula one
comparison in 1.7 million misses by chance, and the seeds are fixed. `python -m tools.mutants
diffusion` shows that each deliberate error is caught.
"""

import math

import numpy as np
import pytest
import torch
from inputs import LikeAMac
from scipy import integrate, stats
from torch.testing import assert_close

from bedgen_utils.diffusion import (
    PREDICTIONS,
    VARIANCES,
    GaussianDiffusion,
    cosine_beta_schedule,
    ddim_step,
    ddpm_step,
    discretized_gaussian_nll,
    dpmpp_2m_step,
    guided,
    linear_beta_schedule,
    normal_kl,
)
from bedgen_utils.exact import Mixture

F64 = torch.float64


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def within_standard_errors(draws, expected, sigmas=5.0):
    draws = torch.as_tensor(draws, dtype=F64)
    error = draws.std(0) / len(draws) ** 0.5
    z = ((draws.mean(0) - expected).abs() / error).max().item()
    assert z < sigmas, f"{z:.1f} standard errors"


def steps(d, n=1, size=3):
    """Random (x0, noise, t) with every t of d present n times."""
    t = torch.arange(1, d.T + 1).repeat(n)
    return torch.rand(len(t), size, dtype=F64) * 2 - 1, torch.randn(len(t), size, dtype=F64), t


# ---- schedules and tables


@pytest.mark.parametrize("T", [1, 2, 7, 1000, 4000])
def test_schedules_are_what_the_papers_define(T):
    linear, cosine = linear_beta_schedule(T), cosine_beta_schedule(T)
    for beta in (linear, cosine):
        assert beta.shape == (T + 1,) and beta.dtype == F64 and beta[0] == 0
    assert_close(linear[1:].numpy(), np.linspace(1e-4, 0.02, T), rtol=1e-14, atol=0)
    f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    assert_close(
        cosine[1:].tolist(),
        [min(1 - f[t] / f[t - 1], 0.999) for t in range(1, T + 1)],
        rtol=1e-9,
        atol=1e-13,
    )
    assert cosine[T] == 0.999


def test_linear_schedule_of_short_T_leaves_signal_unless_scaled():
    abar = {
        T: float(GaussianDiffusion(linear_beta_schedule(T)).abar[-1]) for T in (50, 200, 300, 1000)
    }
    for T, expected in {50: 0.603, 200: 0.132, 300: 0.048, 1000: 4.04e-5}.items():
        assert abar[T] == pytest.approx(expected, rel=0.01)
    assert_close(
        linear_beta_schedule(200, scaled=True)[1:], torch.linspace(5e-4, 0.1, 200, dtype=F64)
    )
    assert float(GaussianDiffusion(linear_beta_schedule(200, scaled=True)).abar[-1]) < 1e-4
    assert float(linear_beta_schedule(10, scaled=True).max()) == 0.999
    assert_close(
        linear_beta_schedule(1000, scaled=True), linear_beta_schedule(1000), rtol=1e-15, atol=0
    )


def test_tables_obey_the_definitions_one_entry_at_a_time():
    d = GaussianDiffusion(cosine_beta_schedule(40))
    assert d.T == 40 and d.abar[0] == 1 and torch.isinf(d.snr[0])
    for name in (
        "betas",
        "alphas",
        "abar",
        "snr",
        "posterior_variance",
        "posterior_coef_x0",
        "posterior_coef_xt",
    ):
        assert getattr(d, name).shape == (41,) and getattr(d, name).dtype == F64
    product = 1.0
    for t in range(1, 41):
        beta, before = float(d.betas[t]), product
        product *= 1 - beta
        assert float(d.alphas[t]) == 1 - beta
        assert float(d.abar[t]) == pytest.approx(product, rel=1e-12)
        assert float(d.snr[t]) == pytest.approx(product / (1 - product), rel=1e-9)
        assert float(d.posterior_variance[t]) == pytest.approx(
            (1 - before) / (1 - product) * beta, rel=1e-9, abs=0
        )
    assert d.posterior_variance[1] == 0
    assert_close(d.log_small[2:].exp(), d.posterior_variance[2:])
    assert_close(d.log_large[1:].exp(), d.betas[1:])
    assert d.log_small[1] == d.log_small[2]
    one = GaussianDiffusion(linear_beta_schedule(1))
    assert float(one.log_small[1].exp()) == pytest.approx(1e-4) and one.posterior_variance[1] == 0


@pytest.mark.parametrize(
    "betas",
    [
        [0.0],
        [0.1, 0.2],
        [0.0, 1.0],
        [0.0, 0.5, 0.0],
        [0.0, -0.1],
        [[0.0, 0.1]],
        [0.0, float("nan")],
        [],
    ],
)
def test_bad_schedules_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        GaussianDiffusion(torch.tensor(betas, dtype=F64))


def test_bad_options_shapes_times_and_dtypes_are_refused():
    beta = linear_beta_schedule(10)
    for wrong in (dict(prediction="noise"), dict(variance="fixed")):
        with pytest.raises(ValueError, match="one of"):
            GaussianDiffusion(beta, **wrong)
    d = GaussianDiffusion(beta)
    x = torch.zeros(2, 3, 4, 4)
    for t in ([0, 1], [1, 11], [-1, 2]):
        with pytest.raises(ValueError, match="1 … 10"):
            d.q_sample(x, torch.tensor(t), x)
    with pytest.raises(ValueError, match="shape"):
        d.q_sample(x, torch.tensor([1, 2, 3]), x)
    with pytest.raises(TypeError, match="int64"):
        d.q_sample(x, torch.tensor([1.0, 2.0]), x)
    with pytest.raises(TypeError, match="floating"):
        d.q_mean_variance(x.to(torch.uint8), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="model must return"):
        d.predict_xstart(torch.zeros(2, 6, 4, 4), x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="model must return"):
        GaussianDiffusion(beta, variance="learned").predict_xstart(x, x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="weighting"):
        d.training_loss(lambda x, t: x, x, torch.tensor([1, 2]), x, weighting="snr")
    for wrong in (0, 11):
        with pytest.raises(ValueError, match="steps"):
            d.timesteps(wrong)


# ---- forward process and posterior


def test_marginal_is_the_composition_of_single_steps():
    """Eq. 2 run t times has mean and variance of Eq. 8 (five standard errors), and a normal shape
    (KS, level 1e-4)."""
    d = GaussianDiffusion(linear_beta_schedule(12, 0.02, 0.3))
    g = torch.Generator().manual_seed(1)
    x = torch.full((40_000, 1), 0.7, dtype=F64)
    for t in range(1, 13):
        beta = d.betas[t]
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(x.shape, generator=g, dtype=F64)
        mean, variance = d.q_mean_variance(torch.full((1, 1), 0.7, dtype=F64), torch.tensor([t]))
        within_standard_errors(x, mean[0])
        within_standard_errors((x - mean) ** 2, variance[0])
    assert stats.kstest(((x - mean) / variance.sqrt()).flatten().numpy(), "norm").pvalue > 1e-4


def test_q_sample_is_mean_plus_standard_deviation_times_noise():
    d = GaussianDiffusion(cosine_beta_schedule(50))
    x0, noise, t = steps(d)
    mean, variance = d.q_mean_variance(x0, t)
    assert variance.shape == (50, 1)
    assert_close(d.q_sample(x0, t, noise), mean + variance.sqrt() * noise)
    assert_close(variance[:, 0], 1 - torch.cumprod(1 - d.betas, 0)[1:])


def test_posterior_by_quadrature_of_bayes_rule():
    """Eq. 9-11: moments of q(x_t | x_{t−1}) q(x_{t−1} | x_0), normalised by integration, to
    1e-8."""
    d = GaussianDiffusion(linear_beta_schedule(6, 0.05, 0.4))
    x0, xt = 0.4, -0.3
    for t in range(2, 7):
        a, b = float(d.abar[t - 1]), float(d.betas[t])

        def density(x, a=a, b=b):
            return stats.norm.pdf(x, a**0.5 * x0, (1 - a) ** 0.5) * stats.norm.pdf(
                xt, (1 - b) ** 0.5 * x, b**0.5
            )

        Z, m1, m2 = (
            integrate.quad(lambda x, k=k, f=density: x**k * f(x), -9, 9, epsabs=1e-13, limit=200)[0]
            for k in range(3)
        )
        pair = (torch.tensor([[v]], dtype=F64) for v in (x0, xt))
        mean, variance = d.q_posterior_mean_variance(*pair, torch.tensor([t]))
        assert mean.item() == pytest.approx(m1 / Z, abs=1e-8)
        assert variance.item() == pytest.approx(m2 / Z - (m1 / Z) ** 2, abs=1e-8)


def test_posterior_at_t_1_returns_x0_without_noise():
    d = GaussianDiffusion(linear_beta_schedule(1000))
    x0, xt = torch.rand(5, 2, dtype=F64), torch.randn(5, 2, dtype=F64)
    mean, variance = d.q_posterior_mean_variance(x0, xt, torch.ones(5, dtype=torch.int64))
    assert_close(mean, x0, rtol=1e-11, atol=0)
    assert (variance == 0).all()


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_any_shape_and_dtype_and_tables_stay_float64(shape, dtype):
    d = GaussianDiffusion(linear_beta_schedule(1000))
    x0, noise, t = (
        torch.rand(shape).to(dtype),
        torch.randn(shape).to(dtype),
        torch.tensor([1, 2, 3, 500, 999, 1000]),
    )
    xt = d.q_sample(x0, t, noise)
    assert xt.shape == shape and xt.dtype == dtype
    exact = d.q_sample(x0.double(), t, noise.double())
    rounding = 1e-6 if dtype == torch.float32 else 0
    assert_close(xt.double(), exact, rtol=rounding, atol=rounding)
    # 1 − ᾱ_1 = 1e-4 loses three digits in float32; a table made in float64 keeps them.
    _, variance = d.q_mean_variance(x0, t)
    assert variance.dtype == dtype and variance.flatten()[0].item() == pytest.approx(1e-4, rel=2e-7)
    assert d.abar.dtype == F64


# ---- parameterisations


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_target_leads_back_to_x0(prediction, variance):
    d = GaussianDiffusion(cosine_beta_schedule(30), prediction, variance)
    x0, noise, t = steps(d, 3)
    xt = d.q_sample(x0, t, noise)
    output = d.target(x0, xt, t, noise)
    output = torch.cat([output, torch.randn_like(output)], 1) if variance == "learned" else output
    assert_close(d.predict_xstart(output, xt, t), x0, rtol=1e-7, atol=1e-8)
    assert_close(d.predict_eps_from_xstart(xt, t, x0), noise, rtol=1e-7, atol=1e-8)


def test_each_parameterisation_is_its_formula():
    d = GaussianDiffusion(linear_beta_schedule(20, 0.01, 0.3))
    x0, eps, t = steps(d)
    a, s = d.abar[t, None] ** 0.5, (1 - d.abar[t, None]) ** 0.5
    xt = a * x0 + s * eps
    assert_close(d.velocity(x0, eps, t), a * eps - s * x0)
    assert_close(d.predict_xstart_from_v(xt, t, a * eps - s * x0), x0)
    assert_close(d.predict_xstart_from_eps(xt, t, eps), x0)
    assert_close(d.predict_eps_from_xstart(xt, t, x0), eps)
    mu, _ = d.q_posterior_mean_variance(x0, xt, t)
    assert_close(d.predict_xstart_from_mean(xt, t, mu), x0)
    # Errata 1: the report's Eq. 12 with the noise that made x_t is the mean of Eq. 10 and not x_0.
    eq12 = (xt - d.betas[t, None] / s * eps) / d.alphas[t, None].sqrt()
    assert_close(eq12, mu)
    assert (eq12[1:] - x0[1:]).abs().max() > 0.1


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_p_mean_variance_feeds_clipped_x0_through_eq_10(prediction):
    T, shape = 25, (25, 4)
    t, x, output = (
        torch.arange(1, T + 1),
        torch.randn(shape, dtype=F64),
        torch.randn(shape, dtype=F64),
    )
    for variance in ("small", "large"):
        d = GaussianDiffusion(cosine_beta_schedule(T), prediction, variance)
        x0_hat = d.predict_xstart(output, x, t)
        for clip in (True, False):
            mean, var, logvar, got = d.p_mean_variance(lambda *_: output, x, t, clip)
            want = x0_hat.clamp(-1, 1) if clip else x0_hat
            assert_close(got, want, rtol=0, atol=0)
            assert_close(mean, d.q_posterior_mean_variance(want, x, t)[0])
            assert_close(var, logvar.exp())
        beta_tilde = d.posterior_variance.clone()
        beta_tilde[1] = beta_tilde[2]
        assert_close(var[:, 0], beta_tilde[1:] if variance == "small" else d.betas[1:])
    assert (x0_hat.abs() > 1).any()


def test_learned_variance_interpolates_logarithms():
    d = GaussianDiffusion(linear_beta_schedule(9, 0.05, 0.5), "eps", "learned")
    t, x, out = (
        torch.arange(1, 10),
        torch.randn(9, 2, 3, dtype=F64),
        torch.randn(9, 4, 3, dtype=F64),
    )
    _, var, _, _ = d.p_mean_variance(lambda *_: out, x, t)
    v = (out[:, 2:] + 1) / 2
    large, small = (
        d.betas[t].reshape(-1, 1, 1),
        d.posterior_variance[t.clamp(min=2)].reshape(-1, 1, 1),
    )
    assert_close(var, large**v * small ** (1 - v))
    mean, _, _, x0_hat = d.p_mean_variance(lambda *_: out, x, t, clip=False)
    assert_close(x0_hat, d.predict_xstart_from_eps(x, t, out[:, :2]))


# ---- terms of the bound


def test_normal_kl_against_quadrature():
    for m1, s1, m2, s2 in [
        (0.0, 1.0, 0.0, 1.0),
        (0.3, 0.5, -1.0, 2.0),
        (2.0, 3.0, 0.0, 1.0),
        (0.0, 1e-3, 1e-3, 2e-3),
    ]:

        def integrand(x, m1=m1, s1=s1, m2=m2, s2=s2):
            return stats.norm.pdf(x, m1, s1) * (
                stats.norm.logpdf(x, m1, s1) - stats.norm.logpdf(x, m2, s2)
            )

        expected = integrate.quad(integrand, m1 - 12 * s1, m1 + 12 * s1, epsabs=1e-12, limit=300)[0]
        got = normal_kl(
            *(torch.tensor(v, dtype=F64) for v in (m1, 2 * math.log(s1), m2, 2 * math.log(s2)))
        )
        assert float(got) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("bins", [2, 16, 256])
def test_bins_sum_to_one_with_open_ends(bins):
    levels = torch.linspace(-1, 1, bins, dtype=F64)
    for mean, sigma in [
        (0.0, 1.0),
        (0.3, 0.01),
        (-1.0, 1e-4),
        (1.7, 0.2),
        (-5.0, 3.0),
        (0.501, 1e-6),
    ]:
        nll = discretized_gaussian_nll(
            levels, *(torch.tensor(v, dtype=F64) for v in (mean, 2 * math.log(sigma))), bins
        )
        assert float(torch.exp(-nll).sum()) == pytest.approx(1, abs=1e-12)
        h = 1 / (bins - 1)
        edges = np.concatenate([[-np.inf], levels[:-1].numpy() + h, [np.inf]])
        mass = np.where(
            edges[:-1] > mean,
            stats.norm.sf(edges[:-1], mean, sigma) - stats.norm.sf(edges[1:], mean, sigma),
            stats.norm.cdf(edges[1:], mean, sigma) - stats.norm.cdf(edges[:-1], mean, sigma),
        )
        assert_close(torch.exp(-nll).numpy(), mass, rtol=1e-6, atol=1e-13)


def test_far_bins_keep_a_finite_value_and_gradient():
    """40 standard deviations out, Φ(b) − Φ(a) rounds to 0; the logarithm is about −½z² all the
    same."""
    for x0 in (-1.0, -0.2, 1.0):
        mean = torch.tensor(
            [0.6, -0.999, -1.5, 1.5], dtype=F64, requires_grad=True
        )  # the last two lie outside [-1, 1]
        level = torch.full((4,), x0, dtype=F64)
        logvar = torch.full((4,), 2 * math.log(0.01), dtype=F64, requires_grad=True)
        nll = discretized_gaussian_nll(level, mean, logvar)
        nll.sum().backward()
        assert all(torch.isfinite(q).all() for q in (nll, mean.grad, logvar.grad))
    z = (0.6 - 1 / 255 + 1.0 - 0.8) / 0.01
    far = discretized_gaussian_nll(
        *(torch.tensor([v], dtype=F64) for v in (-0.2, 0.6, 2 * math.log(0.01)))
    )
    assert float(far) == pytest.approx(z**2 / 2 + math.log(z * math.sqrt(2 * math.pi)), rel=1e-3)


def test_prior_term_in_closed_form_and_in_the_limit():
    x0 = torch.rand(3, 2, 2, dtype=F64) * 2 - 1
    for T in (1, 50, 1000):
        d = GaussianDiffusion(linear_beta_schedule(T))
        a = float(d.abar[-1])
        expected = 0.5 * (a * x0**2 - a - math.log(1 - a)).mean((1, 2))
        assert_close(d.prior_kl(x0), expected, rtol=1e-8, atol=1e-12)
    assert float(d.prior_kl(x0).max()) < 2e-5
    assert_close(d.prior_kl(x0.float()), expected.float(), rtol=1e-5, atol=1e-12)


# ---- losses


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_simple_loss_is_the_mean_square_per_sample_and_min_snr_weights_x0(prediction):
    d = GaussianDiffusion(cosine_beta_schedule(30), prediction)
    x0, noise, t = steps(d, size=5)
    xt = d.q_sample(x0, t, noise)
    output = torch.randn_like(x0)
    seen = []

    def model(x, t):
        seen.append((x, t))
        return output

    loss = d.training_loss(model, x0, t, noise)
    assert torch.equal(seen[0][0], xt) and torch.equal(seen[0][1], t)
    assert loss.shape == (30,)
    assert_close(loss, ((output - d.target(x0, xt, t, noise)) ** 2).mean(1))
    error = ((d.predict_xstart(output, xt, t) - x0) ** 2).mean(1)
    weighted = d.training_loss(model, x0, t, noise, weighting="min_snr")
    assert_close(weighted, d.snr[t].clamp(max=5) * error, rtol=1e-6, atol=1e-9)
    assert (d.snr[t] > 5).any() and (d.snr[t] < 5).any()
    assert_close(weighted, d.loss_weights("min_snr")[t] * loss)


def test_hybrid_loss_adds_the_bound_and_spares_the_mean():
    d = GaussianDiffusion(linear_beta_schedule(8, 0.02, 0.3), "eps", "learned")
    plain = GaussianDiffusion(linear_beta_schedule(8, 0.02, 0.3), "eps")
    x0, noise, t = steps(d, size=2)
    x0 = (x0 * 127.5).round() / 127.5
    output = torch.randn(8, 4, dtype=F64, requires_grad=True)
    loss = d.training_loss(lambda x, t: output, x0, t, noise)
    xt = d.q_sample(x0, t, noise)
    simple = plain.training_loss(lambda x, t: output[:, :2], x0, t, noise)
    mean, _, logvar, _ = d.p_mean_variance(lambda *_: output, xt, t, clip=False)
    true_mean, true_var = d.q_posterior_mean_variance(x0, xt, t)
    L = normal_kl(true_mean, true_var.log(), mean, logvar)
    L[0] = discretized_gaussian_nll(x0, mean, logvar)[0]
    assert_close(loss - simple, 1e-3 * 8 * L.mean(1))
    (g,) = torch.autograd.grad(loss.sum(), output, retain_graph=True)
    (s,) = torch.autograd.grad(simple.sum(), output, retain_graph=True)
    assert_close(g[:, :2], s[:, :2])  # the mean learns from L_simple alone
    (v,) = torch.autograd.grad((1e-3 * 8 * L.mean(1)).sum(), output)
    assert_close(g[:, 2:], v[:, 2:])
    assert (g[:, 2:].abs() > 0).all()


@pytest.mark.parametrize("variance", VARIANCES)
def test_a_device_without_float64_computes_losses_and_bounds(variance):
    d = GaussianDiffusion(cosine_beta_schedule(12), variance=variance)
    x0, noise, t = (torch.rand(12, 3, 4, 4) * 2 - 1, torch.randn(12, 3, 4, 4), torch.arange(1, 13))

    def model(x, t):
        answer = 0.1 * x + 0.2 * t.reshape(-1, 1, 1, 1).to(x.dtype) / d.T
        return torch.cat([answer, 0.3 * x], dim=1) if variance == "learned" else answer

    def loss_and_bound(x0):
        dice, n = torch.Generator().manual_seed(1), noise.to(x0.dtype)
        return d.training_loss(model, x0, t, n), d.vlb(model, x0[:2], dice, thin=3).L_T

    with LikeAMac():
        loss, L_T = loss_and_bound(x0)
    with pytest.raises(TypeError, match="makes float64"), LikeAMac():
        x0.double()
    wide_loss, wide_L_T = loss_and_bound(x0.double())
    assert_close(loss, wide_loss.float(), rtol=1e-5, atol=1e-6)
    assert_close(L_T, wide_L_T.float(), rtol=1e-5, atol=1e-12)


# ---- the whole bound in an exact world


def test_bound_is_the_sum_of_its_parts_and_uses_every_t():
    d = GaussianDiffusion(cosine_beta_schedule(12), "x0", "large")
    x0 = (torch.rand(4, 3, 2, 2) * 255).round() / 127.5 - 1
    seen = []

    def model(x, t):
        assert x.dtype == torch.float32 and x.shape == x0.shape
        seen.extend(t.tolist())
        return torch.zeros_like(x)

    b = d.vlb(model, x0, torch.Generator().manual_seed(3))
    assert sorted(seen) == [t for t in range(1, 13) for _ in range(4)]
    assert b.terms.shape == (4, 13) and b.terms.dtype == x0.dtype and (b.terms >= 0).all()
    assert_close(b.total, b.L_0 + b.L_t.sum(1) + b.L_T)
    assert b.L_t.shape == (4, 11)
    assert_close(b.L_T * math.log(2), d.prior_kl(x0))
    again = d.vlb(model, x0, torch.Generator().manual_seed(3))
    assert torch.equal(again.terms, b.terms)
    # With x̂_0 = 0 the KL of step t is known: ½ [log β_t/β̃_t + (β̃_t + c² x_0²)/β_t − 1].
    for t in (2, 12):
        beta, beta_tilde, c = d.betas[t], d.posterior_variance[t], d.posterior_coef_x0[t]
        expected = 0.5 * (
            torch.log(beta / beta_tilde) + (beta_tilde + c**2 * x0.double() ** 2) / beta - 1
        )
        found = b.terms[:, t - 1].double() * math.log(2)
        assert_close(found, expected.mean((1, 2, 3)), rtol=1e-5, atol=1e-9)
    assert GaussianDiffusion(linear_beta_schedule(1)).vlb(model, x0).terms.shape == (4, 2)


def test_clipping_changes_the_bound():
    d = GaussianDiffusion(cosine_beta_schedule(10), "x0", "large")
    x0 = torch.ones(2, 3)
    far = d.vlb(lambda x, t: torch.full_like(x, 3.0), x0, clip=False).L_t
    assert (d.vlb(lambda x, t: torch.full_like(x, 3.0), x0).L_t < far).all()


@pytest.mark.parametrize(
    "prediction,variance", [("v", "small"), ("eps", "large"), ("x0", "learned"), ("mean", "large")]
)
def test_vlb_estimates_the_exact_bound_term_by_term(prediction, variance):
    world = Mixture()
    d = GaussianDiffusion(cosine_beta_schedule(15), prediction, variance)
    g = torch.Generator().manual_seed(5)
    b = d.vlb(world.denoiser(d), world.sample(20_000, g), g, clip=False, bins=None)
    exact, _ = world.bound_terms(d)
    within_standard_errors(b.terms * math.log(2), exact)
    within_standard_errors(b.total * math.log(2), exact.sum())


def test_thinned_bound_is_unbiased_and_calls_the_model_as_often_as_stated():
    world = Mixture()
    d = GaussianDiffusion(linear_beta_schedule(23, 0.01, 0.5), "v", "large")
    g = torch.Generator().manual_seed(7)
    model = world.denoiser(d)
    totals = torch.stack(
        [
            d.vlb(model, world.sample(64, g), g, clip=False, bins=None, thin=2).total.mean()
            for _ in range(300)
        ]
    )
    within_standard_errors(totals * math.log(2), world.bound_terms(d)[0].sum())
    calls = []
    d.vlb(
        lambda x, t: calls.append(int(t[0])) or model(x, t),
        world.sample(8, g),
        g,
        clip=False,
        bins=None,
        thin=2,
    )
    blocks = [(1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 12), (13, 18), (19, 23)]
    assert all(a <= t <= b for t, (a, b) in zip(calls, blocks, strict=True))
    d = GaussianDiffusion(linear_beta_schedule(1000))
    calls.clear()
    d.vlb(lambda x, t: calls.append(int(t[0])) or x, torch.zeros(1, 1), g, thin=10)
    assert calls[:19] == list(range(1, 20)) and 10 * (1 + math.log(100)) < len(calls) < 1.3 * 10 * (
        1 + math.log(100)
    )


def test_bound_is_entropy_plus_gap_and_falls_to_the_exact_nll():
    world = Mixture()

    def integrand(x):
        log_p = float(world.log_prob(torch.tensor(x)))
        return -math.exp(log_p) * log_p

    H = integrate.quad(integrand, -3, 3, limit=400, epsabs=1e-10)[0]
    assert world.entropy() == pytest.approx(H, abs=1e-7)
    previous = math.inf
    for T in (10, 30, 100):
        d = GaussianDiffusion(cosine_beta_schedule(T), "v", "learned")
        L, gap = world.bound_terms(d)
        assert float(L.sum()) == pytest.approx(H + float(gap.sum()), abs=1e-6)
        assert (gap > -1e-9).all() and float(gap.sum()) < previous
        previous = float(gap.sum())
    assert previous < 0.01
    for variance in ("small", "large"):  # a Gaussian step of another width can only be worse
        other = GaussianDiffusion(cosine_beta_schedule(100), "v", variance)
        assert float(world.bound_terms(other)[0].sum()) > float(L.sum())


def test_exact_world_moments_by_quadrature():
    world = Mixture()
    abar, xt = 0.6, 0.35

    def weight(x):
        return math.exp(float(world.log_prob(torch.tensor(x)))) * stats.norm.pdf(
            xt, abar**0.5 * x, (1 - abar) ** 0.5
        )

    Z, m1, m2 = (
        integrate.quad(lambda x, k=k: x**k * weight(x), -3, 3, limit=300, epsabs=1e-11)[0]
        for k in range(3)
    )
    mean, var = world.posterior(torch.tensor([xt]), abar)
    assert (mean.item(), var.item()) == pytest.approx((m1 / Z, m2 / Z - (m1 / Z) ** 2), abs=1e-7)
    assert math.log(Z) == pytest.approx(float(world.log_prob(torch.tensor(xt), abar)), abs=1e-7)
    x, w = world.grid(abar)
    assert float(w.sum()) == pytest.approx(1, abs=1e-10)
    assert (
        stats.kstest(
            world.sample(5000, torch.Generator().manual_seed(0)).flatten().numpy(),
            lambda x: world.cdf(torch.tensor(x)).numpy(),
        ).pvalue
        > 1e-4
    )


# ---- samplers


def draw(d, model, x, sampler=ddpm_step, steps=None, rho=None, **options):
    return d.sample(model, x, sampler, d.timesteps(steps, rho), **options)


@pytest.mark.parametrize("times", [[], [10], [10, 10, 0], [10, 12, 0], [10, 5, -1]])
def test_times_that_do_not_fall_are_refused(times):
    d = GaussianDiffusion(linear_beta_schedule(10))
    with pytest.raises(ValueError, match="times must fall"):
        d.sample(lambda x, t: x, torch.zeros(2, 3), times=times)


def test_timesteps_are_subsets_of_1_to_T_that_begin_at_T_and_end_at_0():
    for T in (1, 2, 10, 1000):
        d = GaussianDiffusion(cosine_beta_schedule(T))
        assert d.timesteps() == list(range(T, -1, -1))
        for n in {1, 2, T // 3 or 1, T}:
            if n <= T:
                times = d.timesteps(n)
                assert times[0] == T and times[-1] == 0 and len(times) == n + 1
                assert all(a > b for a, b in zip(times[:-1], times[1:], strict=True))
                assert max(np.abs(np.diff(times))) - min(np.abs(np.diff(times))) <= 1
    assert GaussianDiffusion(cosine_beta_schedule(10)).timesteps(4) == [10, 8, 5, 3, 0]


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("schedule", [cosine_beta_schedule, linear_beta_schedule])
def test_times_spread_by_rho_are_even_in_sigma_to_the_power_one_over_rho(schedule, rho):
    d = GaussianDiffusion(schedule(1000))
    sigma = np.sqrt(1 / d.abar.numpy() - 1)
    for n in (1, 2, 5, 10, 40):
        times = d.timesteps(n, rho, 30.0)
        assert times[0] == 1000 and times[-1] == 0 and len(times) <= n + 1
        assert all(a > b for a, b in zip(times[:-1], times[1:], strict=True))
    inner = np.array(
        d.timesteps(10, rho, 30.0)[1:-1]
    )  # the first is T even where the noise there exceeds 30
    assert len(inner) == 9
    want = np.linspace(min(30.0, sigma[1000]) ** (1 / rho), 0.05 ** (1 / rho), 10)[1:] ** rho
    neighbours = [np.abs(sigma[inner + k] - want) for k in (-1, 0, 1)]
    assert (neighbours[1] <= np.minimum(neighbours[0], neighbours[2])).all()


SAMPLERS = [
    pytest.param(dict(), "large", id="ancestral-large"),
    pytest.param(dict(), "learned", id="ancestral-learned"),
    pytest.param(dict(sampler=ddim_step), "small", id="ddim"),
    pytest.param(dict(steps=100, sampler=ddim_step), "small", id="ddim-strided"),
    pytest.param(dict(steps=40, sampler=dpmpp_2m_step), "small", id="dpm-solver-2m"),
    pytest.param(
        dict(steps=40, rho=3.0, sampler=dpmpp_2m_step), "small", id="dpm-solver-2m-by-noise"
    ),
    pytest.param(dict(steps=100), "learned", id="ancestral-strided-large"),
]


@pytest.mark.parametrize("options,variance", SAMPLERS)
@pytest.mark.parametrize("prediction", ["v", "eps"])
def test_every_sampler_returns_the_right_distribution(options, variance, prediction):
    """Kolmogorov-Smirnov against the exact CDF, 4,000 draws: distance below 0.035 (level 1e-4 for
    exact draws)."""
    world = Mixture(stds=(0.15, 0.12, 0.2))
    d = GaussianDiffusion(cosine_beta_schedule(300), prediction, variance)
    g = torch.Generator().manual_seed(11)
    x = draw(
        d,
        world.denoiser(d),
        torch.randn(4000, 1, generator=g, dtype=F64),
        clip=False,
        generator=g,
        **options,
    )
    D = stats.kstest(x.flatten().numpy(), lambda v: world.cdf(torch.tensor(v)).numpy()).statistic
    assert D < stats.kstwo.isf(1e-4, 4000), f"KS distance {D:.4f}"


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guidance_moves_the_predicted_picture_away_from_the_guides(prediction):
    d, x = GaussianDiffusion(cosine_beta_schedule(50), prediction), torch.randn(6, 3, dtype=F64)
    t = torch.tensor([1, 2, 10, 25, 49, 50])
    model, guide = (lambda x, t, k=k: torch.tanh(k * x) + t[:, None] / 100 for k in (0.3, 1.7))
    a, b, c = (d.predict_xstart(f(x, t), x, t) for f in (model, guide, guided(model, guide, 1.75)))
    torch.testing.assert_close(c, b + 1.75 * (a - b))


def test_ancestral_step_is_eq_10_and_its_noise_has_the_stated_variance():
    n = 20_000
    for variance in VARIANCES:
        d = GaussianDiffusion(linear_beta_schedule(7, 0.05, 0.4), "v", variance)
        out = torch.randn(1, 2 if variance == "learned" else 1, dtype=F64)
        seen = []
        g = torch.Generator().manual_seed(2)

        def model(x, t, out=out):
            return out.expand(n, -1)

        draw(
            d,
            model,
            torch.randn(n, 1, generator=g, dtype=F64),
            clip=False,
            generator=g,
            callback=lambda t, x, x0, seen=seen: seen.append((t, x)),
        )
        assert [t for t, _ in seen] == [7, 6, 5, 4, 3, 2, 1]
        for (t, x), (_, after) in zip(seen[:-1], seen[1:], strict=True):
            mean, var, _, _ = d.p_mean_variance(model, x, torch.full((n,), t), clip=False)
            noise = (after - mean) / var.sqrt()
            within_standard_errors(noise, 0.0)
            within_standard_errors(noise**2, 1.0)
            assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(sampler=ddim_step),
        dict(steps=3, sampler=dpmpp_2m_step),
        dict(steps=1),
        dict(steps=5),
    ],
)
def test_last_step_returns_x0_hat_without_noise_and_clipped(options):
    d = GaussianDiffusion(cosine_beta_schedule(10), "x0", "large")
    seen = {}
    x = draw(d, lambda x, t: x * 0 + 1.7 + 0.01 * t[:, None], torch.randn(50, 3), **options)
    assert_close(x, torch.ones(50, 3))
    x = draw(
        d,
        lambda x, t: x * 0 + 0.1 + 0.01 * t[:, None],
        torch.randn(50, 3),
        clip=False,
        callback=lambda t, x, x0: seen.update({t: x0}),
        **options,
    )
    assert_close(x, seen[min(seen)], rtol=1e-5, atol=1e-6)


def test_cosine_schedule_needs_the_clamp():
    """Errata 7: β_T = 0.999 multiplies errors in ε by 31.6; clamping x̂_0 keeps every x_t near the
    data's scale."""
    d = GaussianDiffusion(cosine_beta_schedule(50), "eps")
    largest = {}
    for clip in (True, False):
        sizes = []
        g = torch.Generator().manual_seed(0)
        draw(
            d,
            lambda x, t: torch.zeros_like(x),
            torch.randn(200, 3, generator=g),
            sampler=ddim_step,
            clip=clip,
            callback=lambda t, x, x0, s=sizes: s.append(float(x.abs().max())),
        )
        largest[clip] = max(sizes)
    assert largest[True] < 6 < 100 < largest[False]


def test_seeds_devices_and_shapes_of_samples():
    d = GaussianDiffusion(cosine_beta_schedule(5))
    model = lambda x, t: torch.zeros_like(x)  # noqa: E731
    start = torch.randn(2, 3, 4, 4)
    a, b, c = (
        draw(d, model, start, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(a, b) and a.shape == (2, 3, 4, 4) and a.dtype == torch.float32
    assert not torch.equal(a, c)
    # With a generator for each sample, a sample's noise is its own whatever the others are.
    apart = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    both = draw(d, model, start, generator=apart)
    alone = draw(d, model, start[1:], generator=[torch.Generator().manual_seed(6)])
    assert torch.equal(both[1:], alone) and not torch.equal(both[0], both[1])
    one, two = (draw(d, model, start, sampler=ddim_step) for _ in range(2))
    assert torch.equal(one, two) and not a.requires_grad


def test_second_order_beats_first_order_at_equal_steps():
    world = Mixture(stds=(0.15, 0.12, 0.2))
    d = GaussianDiffusion(cosine_beta_schedule(1000))
    start = torch.linspace(-2, 2, 41, dtype=F64)[:, None]
    model = world.denoiser(d)
    fine = draw(d, model, start, sampler=ddim_step, clip=False)
    first, second = (
        float((draw(d, model, start, sampler, 25, clip=False) - fine).abs().mean())
        for sampler in (ddim_step, dpmpp_2m_step)
    )
    assert second < 0.5 * first


def test_errata_a_wrong_noise_is_noticed():
    """Errata 10-11 in numbers: uniform noise misses Eq. 8's variance widely."""
    d = GaussianDiffusion(linear_beta_schedule(12, 0.02, 0.3))
    x0 = torch.zeros(40_000, 1, dtype=F64)
    t = torch.full((40_000,), 12)
    with pytest.raises(AssertionError):
        within_standard_errors(d.q_sample(x0, t, torch.rand_like(x0)) ** 2, 1 - d.abar[12])
    within_standard_errors(d.q_sample(x0, t, torch.randn_like(x0)) ** 2, 1 - d.abar[12])


# ---- diffusers, an independent implementation; its t runs 0 … T−1

diffusers = pytest.importorskip("diffusers")


def reference(cls, T, kind="linear", double=True, **options):
    """A diffusers scheduler on our betas. Its tables are float32; double=True replaces them by
    float64 ones."""
    betas = linear_beta_schedule(T) if kind == "linear" else cosine_beta_schedule(T)
    s = cls(num_train_timesteps=T, trained_betas=betas[1:].numpy(), **options)
    if double:
        s.betas = betas[1:].clone()
        s.alphas = 1 - s.betas
        s.alphas_cumprod = torch.cumprod(s.alphas, 0)
        s.one = torch.tensor(1.0, dtype=F64)
        if hasattr(s, "final_alpha_cumprod"):
            s.final_alpha_cumprod = s.one
    return s, betas


TS = [1, 2, 10, 1000, 4000]


@pytest.mark.parametrize("T", TS)
def test_diffusers_schedules(T):
    linear = diffusers.DDPMScheduler(T, beta_schedule="linear")
    cosine = diffusers.DDPMScheduler(T, beta_schedule="squaredcos_cap_v2")
    assert_close(linear.betas.double(), linear_beta_schedule(T)[1:], rtol=2e-6, atol=0)
    assert_close(cosine.betas.double(), cosine_beta_schedule(T)[1:], rtol=2e-5, atol=1e-9)
    abar = GaussianDiffusion(linear_beta_schedule(T)).abar[1:]
    assert_close(linear.alphas_cumprod.double(), abar, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("T", TS)
def test_diffusers_forward_process_and_velocity(T, kind):
    s, betas = reference(diffusers.DDPMScheduler, T, kind)
    d = GaussianDiffusion(betas)
    x0, noise, t = steps(d)
    assert_close(d.q_sample(x0, t, noise), s.add_noise(x0, noise, t - 1), rtol=1e-12, atol=1e-12)
    assert_close(d.velocity(x0, noise, t), s.get_velocity(x0, noise, t - 1), rtol=1e-12, atol=1e-12)
    plain, _ = reference(diffusers.DDPMScheduler, T, kind, double=False)
    assert_close(
        d.q_sample(x0.float(), t, noise.float()),
        plain.add_noise(x0.float(), noise.float(), t - 1),
        rtol=1e-5,
        atol=2e-4 if kind == "cosine" else 1e-5,
    )


DIFFUSERS_NAME = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("T", TS)
@pytest.mark.parametrize("prediction", DIFFUSERS_NAME)
@pytest.mark.parametrize("variance", VARIANCES)
def test_diffusers_ddpm_step(T, kind, prediction, variance, monkeypatch):
    """One ancestral step at first, second, middle and last t: mean, x̂_0 and the noise's scale,
    float64, 1e-9."""
    name = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}[variance]
    s, betas = reference(
        diffusers.DDPMScheduler,
        T,
        kind,
        prediction_type=DIFFUSERS_NAME[prediction],
        variance_type=name,
        clip_sample=True,
    )
    d = GaussianDiffusion(betas, prediction, variance)
    module = __import__("diffusers.schedulers.scheduling_ddpm", fromlist=["randn_tensor"])
    monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: torch.ones(shape, dtype=F64))
    for t in sorted({1, min(2, T), (T + 1) // 2, T}):
        x = torch.randn(2, 3, 2, 2, dtype=F64)
        out = torch.randn(2, 6 if variance == "learned" else 3, 2, 2, dtype=F64)
        theirs = s.step(out, t - 1, x)
        mean, var, _, x0_hat = d.p_mean_variance(lambda x, t, out=out: out, x, torch.full((2,), t))
        assert_close(x0_hat, theirs.pred_original_sample, rtol=1e-9, atol=1e-9)
        assert_close(mean + (var.sqrt() if t > 1 else 0), theirs.prev_sample, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("T,n", [(1, 1), (2, 2), (10, 5), (1000, 50), (1000, 1000), (4000, 40)])
@pytest.mark.parametrize("prediction", DIFFUSERS_NAME)
@pytest.mark.parametrize("eta,sampler", [(0.0, ddim_step), (1.0, ddpm_step)])
def test_diffusers_ddim_steps(T, n, kind, prediction, eta, sampler, monkeypatch):
    """A whole DDIM run along the same ("trailing") subset with the same noise, float64, to 1e-8;
    last step included."""
    s, betas = reference(
        diffusers.DDIMScheduler,
        T,
        kind,
        prediction_type=DIFFUSERS_NAME[prediction],
        clip_sample=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    s.set_timesteps(n)
    d = GaussianDiffusion(betas, prediction)
    times = d.timesteps(n)
    assert [t - 1 for t in times[:-1]] == s.timesteps.tolist()
    module = __import__("diffusers.schedulers.scheduling_ddim", fromlist=["randn_tensor"])
    monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: torch.ones(shape, dtype=F64))
    monkeypatch.setattr(torch, "randn", lambda shape, **_: torch.ones(shape, dtype=F64))
    start = torch.linspace(-2, 2, 12, dtype=F64).reshape(3, 4)
    model = lambda x, t: torch.tanh(x) * 0.7 + 0.1 * torch.cos(t / T)[:, None]  # noqa: E731
    ours = draw(d, model, start, sampler, n)
    x = start
    for t in s.timesteps:
        x = s.step(
            model(x, torch.full((3,), int(t) + 1)), t, x, eta=eta, use_clipped_model_output=True
        ).prev_sample
    assert_close(ours, x, rtol=1e-8, atol=1e-8)


def test_diffusers_dpm_solver_second_order():
    T, n = 1000, 20
    s, betas = reference(
        diffusers.DPMSolverMultistepScheduler,
        T,
        "linear",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        double=True,
    )
    s.alphas_cumprod = torch.cumprod(1 - betas[1:], 0)
    s.set_timesteps(n)
    d = GaussianDiffusion(betas)
    assert [t - 1 for t in d.timesteps(n)[:-1]] == s.timesteps.tolist()
    start = torch.linspace(-2, 2, 12, dtype=F64).reshape(3, 4)
    model = lambda x, t: torch.tanh(x) * 0.7 + 0.1 * torch.cos(t / T)[:, None]  # noqa: E731
    ours = draw(d, model, start, steps=n, sampler=dpmpp_2m_step, clip=False)
    x = start
    for t in s.timesteps:
        x = s.step(model(x, torch.full((3,), int(t) + 1)), t, x).prev_sample
    assert_close(ours, x.double(), rtol=1e-4, atol=1e-4)  # its sigmas are float32
