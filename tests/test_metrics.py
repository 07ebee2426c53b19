"""metrics.py against closed forms and other implementations, and on what goes wrong in practice."""

import hashlib
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from inputs import TinyNetwork, gaussian
from inputs import smooth_images as images
from scipy import linalg

from bedgen_utils import features as networks
from bedgen_utils import metrics
from bedgen_utils.features import features
from bedgen_utils.metrics import (
    Moments,
    Protocol,
    ProtocolError,
    Score,
    SmallSampleWarning,
    compare,
    evaluate,
    frechet_bootstrap,
    frechet_distance,
    frechet_from_features,
    kernel_distance,
    moments,
    precision_recall,
)

pytestmark = pytest.mark.filterwarnings("ignore::bedgen_utils.metrics.SmallSampleWarning")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Features in 8 dimensions under the name of the default network, and an empty cache."""
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path))
    monkeypatch.setitem(networks.NETWORKS, "efficientnet-lite0", TinyNetwork)
    networks.network.cache_clear()
    yield tmp_path
    networks.network.cache_clear()


def covariance(d, seed, spread=1.0):
    """Random orientation, eigenvalues from 10^-spread to 10^spread."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    return (q * np.logspace(-spread, spread, d)) @ q.T


# ---- Fréchet distance: closed forms and other implementations


def test_one_dimension_is_the_difference_of_means_and_of_deviations():
    assert frechet_distance([1.0], [[4.0]], [-2.0], [[0.25]]) == pytest.approx(
        3**2 + 1.5**2, rel=1e-12
    )


def test_commuting_covariances_have_a_closed_form():
    a, b, mu = np.logspace(-8, 4, 60), np.logspace(3, -9, 60), np.linspace(-1, 1, 60)
    expected = (mu**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(mu, np.diag(a), 0 * mu, np.diag(b)) == pytest.approx(
        expected, rel=1e-10
    )


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_agrees_with_scipy_sqrtm(spread):
    d, rng = 48, np.random.default_rng(1)
    s1, s2, mu = covariance(d, 2, spread), covariance(d, 3, spread), rng.normal(size=d)
    expected = mu @ mu + np.trace(s1 + s2 - 2 * linalg.sqrtm(s1 @ s2).real)
    assert frechet_distance(mu, s1, 0 * mu, s2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("spread", [2, 6, 9])
def test_agrees_with_sixty_digits_on_ill_conditioned_covariances(spread):
    """Condition numbers up to 1e18; the root of Σ₁Σ₂ by mpmath in 60 digits."""
    import mpmath

    d = 8
    s1, s2 = covariance(d, 4, spread), covariance(d, 5, spread)
    s1, s2 = (s1 + s1.T) / 2, (s2 + s2.T) / 2
    with mpmath.workdps(60):
        eigenvalues = mpmath.eig(
            mpmath.matrix(s1.tolist()) * mpmath.matrix(s2.tolist()), left=False, right=False
        )
        # rounding s1 and s2 to float64 may push their least eigenvalues below zero, where we clamp
        root = mpmath.fsum(mpmath.sqrt(max(0, mpmath.re(x))) for x in eigenvalues)
        expected = float(
            mpmath.fsum(s1.diagonal().tolist()) + mpmath.fsum(s2.diagonal().tolist()) - 2 * root
        )
    zero = np.zeros(d)
    assert frechet_distance(zero, s1, zero, s2) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(zero, s2, zero, s1) == pytest.approx(expected, rel=1e-7)


def test_singular_covariances_and_features_give_the_same_number():
    """40 samples in 64 dimensions: D x D by moments against N x N by features."""
    x, y = gaussian(40, 64, 0), gaussian(50, 64, 1, mean=0.3, scale=1.5)
    a, b = Moments(64).update(x), Moments(64).update(y)
    by_moments = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    singular_values = linalg.svdvals(
        ((x - x.mean(0)) @ (y - y.mean(0)).T).numpy()
    ).sum() / math.sqrt(39 * 49)
    by_hand = (
        ((x.mean(0) - y.mean(0)) ** 2).sum() + x.var(0).sum() + y.var(0).sum() - 2 * singular_values
    )
    assert frechet_from_features(x, y) == pytest.approx(float(by_hand), rel=1e-9)
    assert by_moments == pytest.approx(float(by_hand), rel=1e-6)
    # 10 of the 50 eigenvalues are 0 up to rounding, which enters by its square root
    assert frechet_from_features(y, x) == pytest.approx(float(by_hand), rel=1e-7)


def test_a_set_is_at_distance_zero_from_itself_and_shifts_count_squared():
    x = gaussian(200, 16, 0)
    assert frechet_from_features(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_from_features(x + 0.5, x) == pytest.approx(16 * 0.25, rel=1e-9)


@pytest.mark.slow
def test_agrees_with_torchmetrics_and_torch_fidelity_on_the_same_features():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from torch_fidelity.metric_prc import prc_features_to_metric
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import poly_mmd

    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 24, 5, 4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    ]
    net = torch.nn.Sequential(*layers)

    class Extractor(torch.nn.Module):
        num_features = 24

        def forward(self, x):
            return net(x.float() / 100)

    real, fake = images(150, 0), images(150, 1) // 2
    fid = FrechetInceptionDistance(feature=Extractor(), input_img_size=(3, 32, 32))
    fid.update(real, real=True)
    fid.update(fake, real=False)
    with torch.no_grad():
        f, g = Extractor()(real), Extractor()(fake)
    ours = frechet_from_features(g, f)
    assert ours == pytest.approx(float(fid.compute()), rel=1e-4)  # float32 result there
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(h.double()) for h in (g, f)), verbose=False
    )
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)

    assert kernel_distance(f, g).value == pytest.approx(
        float(poly_mmd(f.double(), g.double())), rel=1e-9
    )
    options = dict(
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
    )
    theirs = kernel_mmd(f.double().numpy(), g.double().numpy(), **options)
    assert kernel_distance(f, g).value == pytest.approx(theirs, rel=1e-9)

    f, g = gaussian(300, 12, 0), gaussian(250, 12, 1, mean=0.2, scale=1.2)
    theirs = prc_features_to_metric(
        g, f, prc_neighborhood=3, prc_batch_size=64, save_cpu_ram=True, verbose=False
    )
    assert 0.2 < theirs["precision"] < 0.98 and 0.2 < theirs["recall"] < 0.98
    assert precision_recall(f, g) == pytest.approx(
        (theirs["precision"], theirs["recall"]), abs=1e-6
    )


# ---- moments


@pytest.mark.parametrize("sizes", [(500,), (1, 499), (7, 100, 0, 393)])
def test_streaming_moments_equal_those_of_the_whole(sizes):
    x = gaussian(
        500, 20, 0, mean=1e6
    )  # a mean far from zero: the textbook sum of squares would lose 12 digits here
    m = Moments(20)
    for part in x.split(sizes):
        m.update(part)
    assert m.n == 500
    torch.testing.assert_close(m.mean, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(m.covariance, torch.cov((x - 1e6).T), rtol=1e-9, atol=1e-9)


def test_memory_of_moments_does_not_grow_with_n():
    m = Moments(8)
    for seed in range(50):
        m.update(gaussian(1000, 8, seed))
    assert m.n == 50_000 and m.scatter.numel() + m.mean.numel() == 8 * 9
    assert torch.allclose(m.covariance, torch.eye(8, dtype=torch.float64), atol=0.03)


# ---- kernel distance, precision and recall, bootstrap


def test_kernel_distance_is_unbiased_and_its_error_honest():
    """300 draws of 12 against 15 points, both from N(0, I): the mean is 0 within its error.

    The biased estimate (with the diagonal) would be off by more than 20 such errors.
    """
    draws = [
        kernel_distance(gaussian(12, 4, 2 * i), gaussian(15, 4, 2 * i + 1)) for i in range(300)
    ]
    values, errors = np.array(draws).T
    monte_carlo = values.std() / math.sqrt(len(values))
    assert abs(values.mean()) < 4 * monte_carlo
    diagonal = np.mean(
        [((gaussian(12, 4, 2 * i) ** 2).mean(1) + 1).pow(3).mean() / 12 for i in range(300)]
    )
    assert diagonal > 20 * monte_carlo
    assert (
        0.7 < np.median(errors) / values.std() < 2
    )  # the jackknife leans to the large side where the sets are alike


def test_kernel_distance_error_where_the_sets_differ():
    draws = [
        kernel_distance(gaussian(60, 4, 2 * i), gaussian(60, 4, 2 * i + 1, mean=1.0))
        for i in range(100)
    ]
    values, errors = np.array(draws).T
    assert 0.75 < np.sqrt((errors**2).mean()) / values.std() < 1.33


def test_kernel_distance_in_chunks_is_the_same():
    x, y = gaussian(50, 6, 0), gaussian(70, 6, 1, scale=2)
    assert kernel_distance(x, y, chunk=7) == pytest.approx(kernel_distance(x, y), rel=1e-12)


def test_precision_and_recall_on_sets_that_one_can_see():
    line = torch.arange(100.0)[
        :, None
    ]  # a real ball with k = 3 reaches 2 inside the line and 3 at its ends
    inside, outside = torch.linspace(20.2, 40.2, 21)[:, None], torch.linspace(500, 520, 21)[:, None]
    assert precision_recall(line, inside).precision == 1
    # fake balls reach 2 (3 at both ends): real points from 18 to 43 are covered
    assert precision_recall(line, inside).recall == pytest.approx(26 / 100)
    assert precision_recall(line, outside) == (0, 0)
    assert precision_recall(line, torch.cat([inside, outside])).precision == pytest.approx(0.5)
    assert precision_recall(line, line, chunk=9) == (1, 1)


def test_copies_are_inside_even_where_all_balls_have_radius_zero():
    """Far from the origin rounding must not push a copy out of a ball of radius 0."""
    points = (1000 + gaussian(5, 30, 0)).repeat_interleave(
        4, 0
    )  # each point four times: the third neighbour is a copy
    assert precision_recall(points, points.flip(0)) == (1, 1)
    assert precision_recall(points, points + 0.1) == (0, 0)


def test_dropping_modes_lowers_recall_and_not_precision():
    centres = 20 * torch.eye(5, dtype=torch.float64)
    real, other = (centres.repeat(80, 1) + gaussian(400, 5, seed) for seed in (0, 1))
    two_modes = other[torch.arange(400) % 5 < 2]
    both, few = precision_recall(real, other), precision_recall(real, two_modes)
    assert both.recall > 0.9 and few.recall == pytest.approx(0.4, abs=0.05)
    assert few.precision > 0.9


def test_bootstrap_error_is_the_scatter_over_independent_sets():
    real = Moments(6).update(gaussian(20_000, 6, 99))
    sets = [gaussian(150, 6, seed, mean=0.5) for seed in range(120)]
    scatter = np.std([frechet_from_features(x, real) for x in sets], ddof=1)
    found = [frechet_bootstrap(x, real, draws=40, seed=i) for i, x in enumerate(sets[:20])]
    assert np.mean([b.error for b in found]) == pytest.approx(scatter, rel=0.25)
    assert np.mean([b.bias for b in found]) > 0
    assert found[3].value == frechet_from_features(sets[3], real)


def test_distances_do_not_change_when_both_clouds_move_alike():
    """Features far from the origin: by rounding, all points of a cloud would seem to coincide."""
    real, fake = gaussian(120, 8, 0), gaussian(90, 8, 1, mean=0.3, scale=0.7)
    at_home = precision_recall(real, fake)
    assert 0.1 < at_home.recall < 0.9
    for far in (1e4, -1e6, 1e7, 1e9):
        moved = precision_recall(real + far, fake + far)
        assert moved == pytest.approx(at_home, abs=0.01), far
    for far in (1e3, -1e4):  # farther out, features whose spread does not show are warned about
        distance = frechet_from_features(fake + far, real + far)
        assert distance == pytest.approx(frechet_from_features(fake, real), rel=1e-9)
    assert precision_recall(real + 1e6, fake) == (0, 0)


def test_balls_reach_the_kth_other_point():
    """On a line with gaps 1, 2, 4, 8, …: the k-th neighbour of the first point lies at 2^k − 1."""
    line = torch.tensor([0.0, 1, 3, 7, 15, 31, 63, 127], dtype=torch.float64)[:, None]
    for k in (1, 2, 3):
        # Balls around points of `line` reach left of 0 by 2^k − 1 (the ball of 0 itself) or less.
        reach = 2.0**k - 1
        near = torch.tensor([-reach + 1e-3] * 8, dtype=torch.float64)[:, None]
        far = torch.tensor([-reach - 1e-3] * 8, dtype=torch.float64)[:, None]
        assert precision_recall(line, near, k).precision == 1
        assert precision_recall(line, far, k).precision == 0
        assert precision_recall(near, line, k).recall == 1
    edge = torch.tensor([-1.0] * 4, dtype=torch.float64)[:, None]
    assert precision_recall(line, edge, 1).precision == 1  # a ball holds its surface
    with pytest.raises(ValueError, match="k = 8"):
        precision_recall(line, line, 8)
    with pytest.raises(ValueError, match="k = 0"):
        precision_recall(line, line, 0)
    assert precision_recall(line, line, 7) == (1, 1)


def test_rounding_of_distances_stops_at_a_millionth_of_the_length():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.9e-6], [1.0, 1.1e-6], [1.0, 1.0], [4.0, 4.0]], dtype=torch.float64)
    d = metrics.distances(a, b)[0]
    assert d[0] == 0 and d[1] > 0 and d[2] == pytest.approx(1) and d[3] == pytest.approx(5)


def test_kernel_distance_and_its_error_by_hand():
    """Against sums over pairs written out, and the jackknife by leaving each point out in turn."""
    x, y = gaussian(6, 3, 0), gaussian(5, 3, 1, mean=0.5)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    def by_hand(x, y):
        n, m = len(x), len(y)
        xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)

    found = kernel_distance(x, y)
    assert found.value == pytest.approx(by_hand(x, y), rel=1e-12)

    def jackknife(sets):
        n, values = len(sets), np.array(sets)
        return (n - 1) / n * ((values - values.mean()) ** 2).sum()

    without_x = [by_hand(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(6)]
    without_y = [by_hand(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(5)]
    variance = jackknife(without_x) + jackknife(without_y)
    assert found.error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_bootstrap_draws_as_many_with_replacement_by_its_seed():
    fake, real = gaussian(30, 3, 0), Moments(3).update(gaussian(100, 3, 1))
    g = torch.Generator().manual_seed(5)
    picks = [torch.randint(30, (30,), generator=g) for _ in range(4)]
    d = np.array([frechet_from_features(fake[i], real) for i in picks])
    found = frechet_bootstrap(fake, real, draws=4, seed=5)
    assert found.value == frechet_from_features(fake, real)
    assert found.error == pytest.approx(d.std(ddof=1), rel=1e-9)
    assert found.bias == pytest.approx(d.mean() - found.value, rel=1e-9)
    assert frechet_bootstrap(fake, real) == frechet_bootstrap(fake, real, draws=50, seed=0)
    assert frechet_bootstrap(fake, real, draws=4) != found
    with pytest.raises(ValueError, match="at least 2 draws"):
        frechet_bootstrap(fake, real, draws=1)


def test_small_sets_are_warned_about_once_and_not_in_every_draw():
    real = gaussian(100, 10, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmallSampleWarning)
        frechet_bootstrap(gaussian(12, 10, 0), real, draws=2)
    with pytest.warns(SmallSampleWarning, match="N = 8") as caught:
        frechet_bootstrap(gaussian(8, 10, 0), real, draws=2)
    assert len(caught) == 1  # for the value itself
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        frechet_bootstrap(gaussian(2, 10, 0), real, draws=20)  # half the draws take one twice


def test_covariances_nearly_semi_definite_are_taken_and_no_distance_is_negative():
    """A rounding error below zero is clamped; a thousandth is not; equal Gaussians are at 0."""
    zero = np.zeros(2)
    assert frechet_distance(zero, np.diag([1, -1e-8]), zero, np.eye(2)) == pytest.approx(
        1, abs=1e-6
    )
    for pair in ([np.diag([1, -1e-3]), np.eye(2)], [np.eye(2), np.diag([1, -1e-3])]):
        with pytest.raises(ValueError, match="negative eigenvalue -0.001"):
            frechet_distance(zero, pair[0], zero, pair[1])
    for seed in range(20):
        s = covariance(6, seed, 4)
        assert frechet_distance(np.zeros(6), s, np.zeros(6), s) >= 0
    almost = np.array([[1.0, 0.5], [0.5 * (1 + 1e-7), 1.0]])
    assert frechet_distance(zero, almost, zero, almost) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="symmetric"):
        frechet_distance(zero, [[1.0, 0.5], [0.501, 1.0]], zero, np.eye(2))
    # of what differs by rounding the mean counts, so either triangle is as good
    assert frechet_distance(zero, almost, zero, np.eye(2)) == pytest.approx(
        frechet_distance(zero, almost.T, zero, np.eye(2)), rel=1e-12
    )
    other = np.diag([1.0, 3.0])
    assert frechet_distance(zero, other, zero, almost) == pytest.approx(
        frechet_distance(zero, other, zero, almost.T), rel=1e-12
    )
    rounding = np.array([[1e6, 1e-5], [-1e-5, 1e6]])  # small beside the largest entry
    assert frechet_distance(zero, rounding, zero, np.eye(2)) == pytest.approx(2 * 999**2)
    frechet_distance(zero, np.diag([1, -0.9e-6]), zero, np.eye(2))
    with pytest.raises(ValueError, match="negative eigenvalue"):
        frechet_distance(zero, np.diag([1, -1.1e-6]), zero, np.eye(2))


def test_numbers_as_lists_arrays_and_tensors_of_any_type_are_taken_in_float64():
    a = frechet_distance([0.1], [[0.3]], [0.2], [[0.7]])
    assert a == pytest.approx(0.01 + (0.3**0.5 - 0.7**0.5) ** 2, rel=1e-14)
    x, y = gaussian(30, 4, 0).float(), gaussian(30, 4, 1).float().requires_grad_(True)
    for call in (frechet_from_features, lambda a, b: kernel_distance(a, b).value):
        assert call(x, y) == call(x.numpy().astype(np.float64), y.detach().double())
    kept = Moments(4).update(y)
    assert kept.mean.dtype == torch.float64 and not kept.mean.requires_grad


# ---- what goes wrong in practice


@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
def test_complex_numbers_are_refused(kind):
    x = gaussian(20, 4, 0)
    bad = x + 1j if kind is torch.Tensor else x.numpy() + 1j
    with pytest.raises(TypeError, match="complex"):
        frechet_from_features(x, bad)


def test_nan_features_are_refused_everywhere():
    x, bad = gaussian(20, 4, 0), gaussian(20, 4, 1)
    bad[3, 2] = math.nan
    for call in (
        lambda: Moments(4).update(bad),
        lambda: frechet_from_features(x, bad),
        lambda: kernel_distance(bad, x),
        lambda: precision_recall(x, bad),
        lambda: frechet_bootstrap(bad, x),
    ):
        with pytest.raises(ValueError, match="NaN"):
            call()
    good = [[0.0], [[1.0]], [0.0], [[1.0]]]
    for i in range(4):  # and not called an overflow, or not symmetric
        some = [np.array(a) * math.nan if i == k else a for k, a in enumerate(good)]
        with pytest.raises(ValueError, match="NaN or infinity in a mean or covariance"):
            frechet_distance(*some)


def test_infinity_is_refused_as_nan_is_and_overflow_is_no_distance():
    x, bad = gaussian(20, 4, 0), gaussian(20, 4, 1)
    bad[3, 2] = math.inf
    for call in (kernel_distance, precision_recall, frechet_from_features):
        for pair in ((x, bad), (bad, x)):
            with pytest.raises(ValueError, match="infinity"):
                call(*pair)
        with pytest.raises(ValueError, match=r"\(N, D\)"):
            call(x[0], x)
        with pytest.raises(ValueError, match="4.* 3|3.* 4"):
            call(x, gaussian(20, 3, 0))
    for call in (kernel_distance, precision_recall, frechet_from_features):
        with pytest.raises(ValueError, match="too large|infinity"):
            call(1e200 * x, x)
    with pytest.raises(ValueError, match="too large"):
        kernel_distance(1e40 * x, x)  # only the error overflows
    with pytest.raises(ValueError, match="too large"):
        frechet_distance(np.zeros(2), 1e308 * np.eye(2), np.zeros(2), np.eye(2))


def test_a_reference_with_nan_or_of_another_dimension_is_refused():
    for name, value in (("mean", math.nan), ("scatter", math.nan), ("mean", math.inf)):
        broken = Moments(4).update(gaussian(20, 4, 0))
        getattr(broken, name)[0] = value
        for n in (4, 20):  # by samples and by covariances
            x = gaussian(n, 4, 1)
            for call in (frechet_from_features, frechet_bootstrap):
                with pytest.raises(ValueError, match="NaN"):
                    call(x, broken)
        with pytest.raises(ValueError, match="NaN"):
            broken.check()
        with pytest.raises(ValueError, match="NaN"):
            _ = broken.covariance
    with pytest.raises(ValueError, match="reference of 4"):
        frechet_from_features(gaussian(20, 3, 1), Moments(4).update(gaussian(20, 4, 0)))
    with pytest.raises(ValueError, match="4 dimensions, not 3"):
        Moments(4).update(gaussian(20, 3, 0))


def test_one_image_is_too_few(tiny):
    one, many = gaussian(1, 4, 0), gaussian(20, 4, 1)
    for a, b in ((one, many), (many, one)):
        with pytest.raises(ValueError, match="at least 2 samples"):
            frechet_from_features(a, b)
        with pytest.raises(ValueError, match="k = 3"):
            precision_recall(a, b)
    for a, b in ((many[:2], many), (many, many[:2])):
        with pytest.raises(ValueError, match="at least 3 samples"):
            kernel_distance(a, b)
        assert frechet_from_features(a, b) > 0
    assert math.isfinite(kernel_distance(many[:3], many).error)
    with pytest.raises(ValueError, match="at least 2 samples"):
        compare(images(1, 0), images(8, 1), split="test")


@pytest.mark.filterwarnings("default::bedgen_utils.metrics.SmallSampleWarning")
def test_fewer_samples_than_dimensions_are_warned_about_and_more_are_not():
    with pytest.warns(SmallSampleWarning, match="N = 9 in 10 dimensions"):
        frechet_from_features(gaussian(9, 10, 0), gaussian(100, 10, 1))
    with pytest.warns(SmallSampleWarning, match="N = 9"):
        frechet_from_features(gaussian(100, 10, 0), gaussian(9, 10, 1))
    for n in (10, 11):  # as many as dimensions are still too few: one is spent on the mean
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frechet_from_features(gaussian(n, 10, 0), gaussian(100, 10, 1))
        assert len(caught) == (n == 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_from_features(gaussian(100, 10, 0), gaussian(100, 10, 1))


def test_constant_images_are_warned_about(tiny):
    black = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        score = compare(black, images(20, 0), split="test")
    assert math.isfinite(score.distance) and score.distance > 0
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        compare(images(6, 0), black, split="test")
    many = black[:1].expand(20, -1, -1, -1)  # more than features: the other way of computing
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        compare(many, images(6, 0), split="test")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", SmallSampleWarning)
        compare(images(6, 0), images(6, 1), split="test")
        # a spread of a ten thousandth of the mean is a spread
        x = gaussian(20, 4, 0, mean=1, scale=1e-4)
        frechet_from_features(x, x)
    x = gaussian(20, 4, 0, mean=1, scale=2.5e-5)  # variance 2.5e-9 against a squared length of 4
    for some in (x, x[:4]):  # by covariances and by samples
        for pair in ((some, gaussian(20, 4, 1)), (gaussian(len(some), 4, 1), x)):
            with pytest.warns(UserWarning, match="all features of a set are equal"):
                frechet_from_features(*pair)


def test_impossible_covariances_are_refused():
    zero = np.zeros(2)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        frechet_distance(zero, np.diag([1.0, -1.0]), zero, np.eye(2))
    with pytest.raises(ValueError, match="not symmetric"):
        frechet_distance(zero, [[1.0, 0.5], [0.0, 1.0]], zero, np.eye(2))
    with pytest.raises(ValueError, match="not symmetric"):
        frechet_distance(zero, np.eye(2), zero, [[1.0, 0.5], [0.0, 1.0]])
    for means_and_covariances in (
        (zero, np.eye(3), zero, np.eye(2)),
        (zero, np.eye(2), zero, np.eye(3)),
        (zero, np.eye(2), np.zeros(1), np.eye(2)),  # would be repeated
        (0.0, 1.0, 0.0, 1.0),
    ):
        with pytest.raises(ValueError, match="shapes"):
            frechet_distance(*means_and_covariances)


# ---- protocol and cache


def test_a_score_carries_its_protocol_and_is_not_called_fid(tmp_path, monkeypatch):
    """With the real network: what its numbers say of themselves."""
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path))
    score = compare(images(10, 0), images(12, 1), split="validation")
    for part in (
        "10 generated",
        "12 reference",
        "validation",
        "32x32",
        "64x64",
        "efficientnet-lite0",
        "57934424",
        "FD-EffNet",
        f": {score.distance:.1f} [",
        metrics.PREPARED,
    ):
        assert part in str(score)
    assert "FID" not in str(score) and "Inception" not in str(score)
    assert score.protocol.n_generated == 10 and score.protocol.n_reference == 12
    assert score.protocol.weights_sha256 == networks.EFFICIENTNET_SHA256
    again = frechet_from_features(features(images(10, 0)), features(images(12, 1)))
    assert score.distance == pytest.approx(again, rel=1e-6)


def test_a_split_that_was_not_said_is_recorded_as_unstated(tiny):
    fake, real = images(10, 0), images(12, 1)
    for measure in (compare, evaluate):
        assert measure(fake, real).protocol.split == "unstated"
        with pytest.raises(TypeError, match="positional"):
            measure(fake, real, "test")
    fake, real = images(10, 0), images(10, 1)
    for split in ("validation", "test"):
        assert compare(fake, real, split=split).protocol.split == split
        assert evaluate(fake, real, split=split).protocol.split == split
    assert moments(real).protocol(7) == Protocol(
        7, 10, "unstated", metrics.PREPARED, *moments(real).space
    )
    protocol = moments(real).protocol(7, split="train", crop="none")
    expected = Protocol(7, 10, "train", "none", *moments(real).space)
    assert protocol == expected
    assert compare(fake, real, split="test", crop="none").protocol.crop == "none"


def test_numbers_are_named_after_their_network():
    protocol = Protocol(
        50_000, 3_000, "test", "none", "299x299", "inception-2015", "0123456789abcdef"
    )
    assert str(Score(12.34, protocol)) == (
        "Fréchet Inception Distance (FID): 12.3 [50,000 generated against 3,000 reference images "
        "(split test), crop none, 299x299, inception-2015, weights 01234567]"
    )
    assert metrics.KERNEL_NAMES.keys() == metrics.NAMES.keys()
    assert "Inception" in metrics.KERNEL_NAMES["inception-2015"]
    assert "EfficientNet" in metrics.KERNEL_NAMES[networks.DEFAULT]


class Narrow(TinyNetwork):
    """Another network, in 5 dimensions; its features depend on the name of its weights."""

    dim, sha256, resize = 5, "fedcba9876543210", "by half"

    def __init__(self, path=None):
        super().__init__()
        scale = 1 if path is None else len(str(path))
        self.weight = torch.nn.Parameter(self.weight[:, :5] * scale / 9, requires_grad=False)
        if path is not None:
            self.sha256 = f"of {path}"


@pytest.mark.parametrize("n", [4, 30])  # fewer and more than features
def test_another_network_is_asked_for_by_its_name_and_weights(tiny, monkeypatch, n):
    """Images as arrays, too, and not square; lists say height before width."""
    monkeypatch.setitem(networks.NETWORKS, "inception-2015", Narrow)
    how = {"extractor": "inception-2015", "weights": "some"}
    fake, real = images(n, 0)[:, :, :24].numpy(), images(20, 1)[:, :, :24].numpy()
    f, r = features(fake, **how), features(real, **how)
    space = ("images 24x32 px, by half", "inception-2015", "of some")
    m = moments(real, **how)
    assert m.space == space
    torch.testing.assert_close(m.mean, r.double().mean(0))
    score, e = compare(fake, real, **how), evaluate(fake, real, **how)
    assert (e.kernel, e.kernel_error) == pytest.approx(kernel_distance(f, r))
    assert (e.precision, e.recall) == precision_recall(r[: len(f)], f[:20], k=3)
    for found in (score, e):
        assert found.distance == pytest.approx(frechet_from_features(f, r))
        assert found.protocol == Protocol(n, 20, "unstated", metrics.PREPARED, *space)


def test_a_warning_points_at_the_line_that_asked(tiny):
    """Python shows one warning a line: inside of the package, that of the second set is lost."""
    real = images(12, 1)
    moments(real, cache=True)
    [entry] = tiny.rglob("*.npz")
    cut(entry)
    x = gaussian(4, 9, 0)
    for call, text in (
        (lambda: frechet_from_features(x, gaussian(30, 9, 1)), "N = 4 in 9"),
        (lambda: frechet_from_features(x[:1].expand(4, 9) + 1, gaussian(30, 9, 1)), "are equal"),
        (lambda: moments(real, cache=True), "made again"),
    ):
        with pytest.warns(UserWarning, match=text) as caught:
            call()
        assert [w.filename for w in caught if text in str(w.message)] == [__file__]


def test_mixed_protocols_are_an_error(tiny):
    fake, real = images(10, 0), images(10, 1)
    a, b, worse = (compare(x, real, split="test") for x in (fake, fake[:8], fake // 4))
    assert a < worse and worse > a and worse - a == pytest.approx(worse.distance - a.distance)
    assert not worse < a and not a < a
    for mix in (lambda: a < b, lambda: a - b, lambda: b > a):
        with pytest.raises(
            ProtocolError, match="n_generated 10 against 8|n_generated 8 against 10"
        ):
            mix()
    for field in ("split", "crop", "resize", "extractor", "weights_sha256"):
        other = Score(a.distance, replace(a.protocol, **{field: "another"}))
        with pytest.raises(ProtocolError, match=f"{field} .* against 'another'"):
            a - other
    with pytest.raises(ProtocolError, match="16x16"):
        compare(images(10, 0, size=16), real, split="test")
    with pytest.raises(ProtocolError, match=r"\(32, 32\), generated of \(16, 16\)"):
        evaluate(images(10, 0, size=16), real, split="test")
    elsewhere = Moments(8, ("another resize", *moments(real).space[1:])).update(gaussian(9, 8, 0))
    with pytest.raises(ProtocolError, match="another resize"):
        compare(fake, elsewhere, split="test")


@pytest.mark.parametrize("n", [5, 30])  # fewer and more than features
def test_compare_takes_images_or_moments_and_is_the_distance_of_their_features(tiny, n):
    fake, real = images(n, 0), images(20, 1)
    score = compare(fake, real, split="test", batch=1)  # 16 at a time
    assert score.distance == pytest.approx(frechet_from_features(features(fake), features(real)))
    assert score == compare(fake, moments(real, batch=1), split="test", batch=1)


def test_an_evaluation_holds_the_numbers_of_its_parts(tiny):
    fake, real = images(30, 0), images(40, 1)
    for some, others in ((fake, real), (real, fake)):  # fewer and more than the reference
        e, f, r = evaluate(some, others, split="test"), features(some), features(others)
        near = precision_recall(r[:30], f[:30])
        assert e.distance == pytest.approx(frechet_from_features(f, r), rel=1e-6)
        assert (e.kernel, e.kernel_error) == pytest.approx(kernel_distance(f, r), rel=1e-6)
        assert (e.precision, e.recall) == near and e.precision != e.recall
        assert (e.protocol.n_generated, e.protocol.n_reference) == (len(some), len(others))
        assert e.protocol == compare(some, others, split="test").protocol


# ---- cache of moments


def test_reference_moments_are_cached_by_content(tiny, monkeypatch):
    real = images(12, 1)
    moments(real)
    assert not list(tiny.rglob("*.npz"))  # only when asked for
    first = moments(real, cache=True)
    [entry] = tiny.rglob("*.npz")
    assert entry.parent == tiny / "moments"

    def no_network(*args):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "features", no_network)
        again = moments(real.clone(), cache=True)
        assert again.n == 12 and again.space == first.space
        assert torch.equal(again.scatter, first.scatter) and torch.equal(again.mean, first.mean)
        other = real.clone()
        other[-1, 0, 0, 0] += 1
        for changed in (other, real.flip(0), real[:11], real.reshape(12, 3, 16, 64)):
            with pytest.raises(AssertionError, match="computed again"):
                moments(changed, cache=True)
    assert compare(images(9, 0), real, split="test").protocol.n_reference == 12
    assert len(list(tiny.rglob("*.npz"))) == 1  # compare keeps the reference's moments, not more
    turned = real.transpose(2, 3)  # its pixels lie in another order in memory than in the images
    assert metrics._entry(turned, ()) == metrics._entry(turned.contiguous(), ())


def cut(entry):
    entry.write_bytes(entry.read_bytes()[:100])


def holding(**change):
    def write(entry):
        good = dict(n=12, mean=np.zeros(8), scatter=np.eye(8))
        np.savez(entry, **{k: v for k, v in (good | change).items() if v is not None})

    return write


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        holding(mean=np.full(8, np.nan)),
        holding(scatter=np.full((8, 8), np.inf)),
        holding(mean=np.zeros(3), scatter=np.eye(3)),
        holding(scatter=np.ones(8)),
        holding(n=11),
        holding(n=None),
    ],
    ids=["cut", "nan", "infinite", "dimension", "shape", "number", "absent"],
)
def test_a_damaged_entry_is_noticed_and_made_again(tiny, damage):
    real = images(12, 1)
    first = moments(real, cache=True)
    [entry] = tiny.rglob("*.npz")
    damage(entry)
    with pytest.warns(UserWarning, match="made again"):
        remade = moments(real, cache=True)
    torch.testing.assert_close(remade.scatter, first.scatter)
    torch.testing.assert_close(remade.mean, first.mean)
    assert len(list(tiny.rglob("*.npz"))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moments(real, cache=True)  # whole again


def test_the_folder_of_the_cache_is_made_and_holds_many(tiny, monkeypatch):
    monkeypatch.setenv("BEDGEN_CACHE", str(tiny / "not" / "yet"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in (1, 2):
            moments(images(12, seed), cache=True)
    assert len(list((tiny / "not" / "yet" / "moments").iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning(tiny, monkeypatch):
    """A file stands where the folder should be made: as a read-only home or a full quota."""
    (tiny / "file").write_text("")
    monkeypatch.setenv("BEDGEN_CACHE", str(tiny / "file" / "cache"))
    fake, real = images(12, 0), images(12, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", SmallSampleWarning)
        score = compare(fake, real, split="test")
    [warning] = caught  # and none of a damaged entry
    assert "not kept" in str(warning.message) and "BEDGEN_CACHE" in str(warning.message)
    assert score.distance == compare(fake, moments(real), split="test").distance > 0


def test_a_reference_of_more_images_than_one_block_of_the_key_is_hashed_whole(tiny):
    many = torch.zeros(4100, 3, 4, 4, dtype=torch.uint8)
    other = many.clone()
    other[4099] = 1
    assert metrics._entry(many, ()) != metrics._entry(other, ())
    space = ("a", "b")
    key = hashlib.sha256(repr((space, (4100, 3, 4, 4))).encode() + bytes(many.numel())).hexdigest()
    assert metrics._entry(many, space).stem == key
