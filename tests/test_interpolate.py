"""lerp and slerp against closed forms, scipy, and the wrong formulas that circulate (errata 16)."""

import math

import numpy as np
import pytest
import torch
from inputs import LikeAMac
from scipy import stats
from scipy.spatial import geometric_slerp

from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule, ddim_step
from bedgen_utils.exact import Mixture
from bedgen_utils.interpolate import angle, ddim_encode, lerp, path, slerp, smoothness


def gaussian(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(x):
    return x / x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))


def test_a_device_without_float64_walks():
    a, b = (gaussian(7, 64, seed=k, dtype=torch.float32) for k in (0, 1))
    with LikeAMac():
        for how in (lerp, slerp):
            assert how(a, b, 0.5).dtype == torch.float32
        smoothness(torch.stack([a, b, a], dim=1))


@pytest.mark.parametrize("how", [lerp, slerp])
@pytest.mark.parametrize("shape", [(7, 64), (7, 3, 8, 8), (7, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_right_and_not_swapped(how, shape, dtype):
    a, b = gaussian(*shape, dtype=dtype), gaussian(*shape, seed=1, dtype=dtype)
    if shape[1] == 1:
        b = (
            b.abs() * a.sign()
        )  # on a line, only vectors to the same side have a great circle between them
    tol = 8 * torch.finfo(dtype).eps
    for s, end in ((0.0, a), (1.0, b)):
        got = how(a, b, s)
        assert got.shape == a.shape and got.dtype == dtype
        torch.testing.assert_close(got, end, rtol=tol, atol=tol)


@pytest.mark.parametrize("degrees", [1e-4, 1, 30, 90, 120, 179, 179.999])
def test_slerp_is_scipys_on_the_sphere(degrees):
    a = unit(gaussian(1, 5))
    b = gaussian(1, 5, seed=1)
    b = unit(b - (a * b).sum() * a)
    b = math.cos(math.radians(degrees)) * a + math.sin(math.radians(degrees)) * b
    s = np.linspace(0, 1, 11)
    want = geometric_slerp(a[0].numpy(), (b / b.norm())[0].numpy(), s, tol=1e-12)
    np.testing.assert_allclose(path(a, b, 10)[0].numpy(), want, atol=1e-9)


def test_slerp_in_the_plane_is_the_circle():
    a = torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.0, 2.0], [2 * math.cos(2.5), 2 * math.sin(2.5)]], dtype=torch.float64)
    s = torch.tensor([0.25, 0.6], dtype=torch.float64)
    at = torch.stack(
        [
            0.25 * torch.tensor(math.pi / 2, dtype=torch.float64),
            torch.tensor(1.5, dtype=torch.float64),
        ]
    )
    torch.testing.assert_close(
        slerp(a, b, s), 2 * torch.stack([at.cos(), at.sin()], 1), rtol=1e-14, atol=1e-14
    )


def test_length_and_angle_run_evenly_for_ends_of_unequal_length():
    a, b = gaussian(6, 3, 4, 4), 3 * gaussian(6, 3, 4, 4, seed=1)
    p = path(a, b, 16)
    lengths = p.flatten(2).norm(dim=2)
    s = torch.linspace(0, 1, 17, dtype=torch.float64)
    torch.testing.assert_close(
        lengths, (1 - s) * lengths[:, :1] + s * lengths[:, -1:], rtol=1e-12, atol=0
    )
    for k in range(16):
        torch.testing.assert_close(
            angle(p[:, k], p[:, k + 1]), angle(a, b) / 16, rtol=1e-10, atol=0
        )


def test_each_pair_has_its_own_angle_and_its_own_s():
    a, b, s = (
        gaussian(5, 8),
        gaussian(5, 8, seed=1),
        torch.rand(5, generator=torch.Generator().manual_seed(2)).double(),
    )
    for how in (lerp, slerp):
        alone = torch.cat([how(a[i : i + 1], b[i : i + 1], s[i]) for i in range(5)])
        torch.testing.assert_close(how(a, b, s), alone, rtol=1e-14, atol=0)


def test_wrong_formulas_would_fail():
    """A fixed angle of π/2, and swapped ends, leave the sphere or the ends: what these tests hold
    against slerp."""
    a, b = unit(gaussian(1, 3)), unit(gaussian(1, 3, seed=1))
    fixed = math.cos(math.pi / 4) * a + math.sin(math.pi / 4) * b
    assert abs(float(fixed.norm()) - 1) > 0.05 and abs(float(slerp(a, b, 0.5).norm()) - 1) < 1e-14
    swapped = slerp(b, a, 0.0)
    assert float((swapped - a).norm()) > 0.1


def test_parallel_vectors_give_the_line():
    a = gaussian(4, 9)
    torch.testing.assert_close(slerp(a, a, 0.3), a, rtol=1e-14, atol=0)
    torch.testing.assert_close(slerp(a, 2 * a, 0.3), 1.3 * a, rtol=1e-14, atol=0)
    close = a + 1e-9 * gaussian(
        4, 9, seed=1
    )  # where arccos of the rounded cosine would be 0 or nan
    torch.testing.assert_close(slerp(a, close, 0.3), lerp(a, close, 0.3), rtol=0, atol=1e-15)
    assert (angle(a, a) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opposite_and_zero_vectors_are_errors(dtype):
    a = gaussian(3, 4, dtype=dtype)
    with pytest.raises(TypeError, match="floating"):
        lerp(torch.tensor([[0]]), torch.tensor([[1]]), 0.5)  # 0 it was
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -2 * a, 0.5)
    b = a.clone()
    b[1] = 0
    with pytest.raises(ValueError, match="zero vector"):
        slerp(a, b, 0.5)
    b[1, 0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        slerp(a, b, 0.5)


@pytest.mark.parametrize("how", [lerp, slerp])
def test_shapes_and_fractions_that_do_not_fit(how):
    a = gaussian(3, 4)
    for b, s in (
        (gaussian(2, 4), 0.5),
        (a, torch.rand(2)),
        (a, torch.rand(3, 1)),
        (a, 1.5),
        (a, -0.1),
        (a, math.nan),
    ):
        with pytest.raises(ValueError):
            how(a, b, s)
    with pytest.raises(ValueError):
        how(a[0], a[0], 0.5)


def test_lengths_in_high_dimension():
    """Halfway between standard normals: |lerp|² has mean D/2 and |slerp| that of its ends (five
    standard errors)."""
    n, d = 4000, 256
    a, b = gaussian(n, d), gaussian(n, d, seed=1)
    squared = lerp(a, b, 0.5).square().sum(1)  # ½ χ²_D: variance D/2
    assert abs(float(squared.mean()) - d / 2) < 5 * math.sqrt(d / 2 / n)
    torch.testing.assert_close(
        slerp(a, b, 0.5).norm(dim=1), (a.norm(dim=1) + b.norm(dim=1)) / 2, rtol=1e-13, atol=0
    )


def test_smoothness_of_a_line_and_of_an_arc():
    ends = gaussian(2, 30), gaussian(2, 30, seed=1)
    line = smoothness(path(*ends, 8, lerp))
    distance = (ends[0] - ends[1]).norm(dim=1)
    for got, want in (
        (line.length, distance),
        (line.chord, distance),
        (line.detour, torch.ones(2).double()),
        (line.path_length, distance**2),
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    assert float(line.unevenness.max()) < 1e-12

    a, b = unit(ends[0]), unit(ends[1])
    omega, arc = angle(a, b), smoothness(path(a, b, 8))
    torch.testing.assert_close(arc.length, 16 * torch.sin(omega / 16), rtol=1e-12, atol=0)
    torch.testing.assert_close(arc.chord, 2 * torch.sin(omega / 2), rtol=1e-12, atol=0)
    detour = 8 * torch.sin(omega / 16) / torch.sin(omega / 2)
    torch.testing.assert_close(arc.detour, detour, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        arc.path_length, (16 * torch.sin(omega / 16)) ** 2, rtol=1e-12, atol=0
    )


def test_path_length_settles_for_floats_and_grows_like_the_steps_for_rounded_images():
    """A cross-fade in levels, features the pixels: mean square δ² of floats, |δ| once rounded."""
    ends = [255 * torch.rand(1, 1000, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    ends = [x.double() for x in ends]
    wanted = (ends[1] - ends[0]).square().sum(1)
    for steps in (512, 2048):  # δ below one level: |end - end| < 255
        images = path(*ends, steps, lerp)
        torch.testing.assert_close(smoothness(images).path_length, wanted, rtol=1e-9, atol=0)
        rounded = smoothness(images.round()).path_length
        expected = steps * (ends[1] - ends[0]).abs().sum(1)
        torch.testing.assert_close(rounded, expected, rtol=0.05, atol=0)


def test_smoothness_of_a_jump():
    """All change in one of K steps: steps (c, 0 … 0), so unevenness √(K − 1), and path length K
    times the line's."""
    f = torch.zeros(1, 6, 2)
    f[:, 3:] = torch.tensor([6.0, 8.0])
    got = smoothness(f)
    assert [
        round(float(x), 12) for x in (got.length, got.chord, got.unevenness, got.path_length)
    ] == [10, 10, 2, 500]
    for shape in ((1, 2, 3), (6, 2)):
        with pytest.raises(ValueError):
            smoothness(torch.zeros(shape))


def test_ddim_encode_inverts_the_sampler():
    world = Mixture(stds=(0.15, 0.12, 0.2))
    d = GaussianDiffusion(cosine_beta_schedule(50))
    model, x0 = world.denoiser(d), world.sample(200, torch.Generator().manual_seed(4))

    def there_and_back(steps=None, refine=1):
        xT = ddim_encode(d, model, x0, steps, refine)
        return d.sample(model, xT, ddim_step, d.timesteps(steps), clip=False)

    # 1.4e-6 at last; trusting ε̂ throughout stays at 3e-4, x̂_0 throughout diverges
    errors = [float((there_and_back(refine=k) - x0).abs().max()) for k in (0, 1, 8)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5
    assert float((there_and_back(10, refine=8) - x0).abs().max()) < 0.1
    n = 2000
    xT = ddim_encode(d, model, world.sample(n, torch.Generator().manual_seed(8)))
    assert stats.kstest(xT.flatten().numpy(), "norm").statistic < stats.kstwo.isf(1e-4, n)


def test_float32_stays_float32_all_the_way():
    """MPS has no float64: nothing of that type may be made from float32 data."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
                assert not any(x.dtype == torch.float32 and x.ndim > 1 for x in tensors), func
            return out

    a, b = gaussian(3, 6, dtype=torch.float32), gaussian(3, 6, seed=1, dtype=torch.float32)
    with NoFloat64():
        points = [lerp(a, b, 0.3), slerp(a, b, 0.3), slerp(a, b, torch.rand(3))]
        measures = smoothness(path(a, b, 4))
        angles = angle(a, b)
    kinds = [*points, angles, measures.length, measures.unevenness, measures.detour]
    assert {x.dtype for x in kinds} == {torch.float32}
    for how in (lerp, slerp):
        wide = how(a.double(), b.double(), 0.3)
        torch.testing.assert_close(how(a, b, 0.3).double(), wide, rtol=1e-5, atol=1e-6)
        half = how(a.bfloat16(), b.bfloat16(), 0.3)
        assert half.dtype == torch.bfloat16  # computed in float32, rounded once
        once = how(a.bfloat16().float(), b.bfloat16().float(), 0.3).bfloat16()
        assert torch.equal(half, once)
