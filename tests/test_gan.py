"""Networks and losses of gan.py, against the equations they implement."""

import pytest
import torch

from bedgen_utils.gan import (
    LOSSES,
    RELATIVE,
    Discriminator,
    Generator,
    d_loss,
    g_loss,
    gradient_penalty,
    r1_penalty,
)

torch.set_num_threads(1)


@pytest.fixture
def logits():
    g = torch.Generator().manual_seed(0)
    return (torch.randn(2, 50, generator=g, dtype=torch.float64) * 2).unbind(0)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_shapes_ranges_and_cost(size):
    g, d = Generator(size, 24, 16), Discriminator(size, 16)
    images = g(torch.randn(5, 24))
    assert images.shape == (5, 3, size, size) and images.abs().max() <= 1
    assert d(images).shape == (5,)


def test_wrong_inputs_are_refused_with_the_shapes():
    with pytest.raises(ValueError, match=r"\(N, 64\), got \(2, 63\)"):
        Generator()(torch.randn(2, 63))
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 64\)"):
        Discriminator(32)(torch.zeros(2, 3, 64, 64))
    for size in (48, 8):
        with pytest.raises(ValueError, match="power of two"):
            Generator(size)
    u = torch.zeros(3)
    for call in (lambda: d_loss("none", u, u), lambda: g_loss("none", u)):
        with pytest.raises(ValueError, match="'none' is unknown; choose one of minimax"):
            call()
    with pytest.raises(ValueError, match="real images"):
        g_loss("relativistic", u)


def test_every_parameter_gets_a_gradient_and_latents_matter():
    g, d = Generator(32, 16, 8), Discriminator(32, 8)
    z = torch.randn(4, 16, requires_grad=True)
    g_loss("non_saturating", d(g(z))).backward()
    for module in (g, d):
        for name, p in module.named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, name
    assert (z.grad.flatten(1).abs().sum(1) > 0).all()


def test_samples_do_not_mix_in_the_discriminator():
    d, x = Discriminator(32, 8).double(), torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(d(x)[2:3], d(x[2:3]), rtol=1e-10, atol=1e-10)


def test_minimax_is_equation_13(logits):
    real, fake = logits
    D_real, D_fake = real.sigmoid(), fake.sigmoid()
    value = D_real.log().mean() + (1 - D_fake).log().mean()
    torch.testing.assert_close(d_loss("minimax", real, fake), -value)
    torch.testing.assert_close(g_loss("minimax", fake), (1 - D_fake).log().mean())
    torch.testing.assert_close(g_loss("non_saturating", fake), -D_fake.log().mean())


def test_gradients_are_equations_14_and_15():
    """On D(x) = sigmoid(w x + b) and G(z) = a z, whose gradients are short enough to write down."""
    rng = torch.Generator().manual_seed(1)
    x, z = torch.randn(2, 40, generator=rng, dtype=torch.float64)
    w, b, a = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.7, -0.2, 1.3))
    D_real, D_fake = torch.sigmoid(w * x + b).detach(), torch.sigmoid(w * a * z + b).detach()
    # d/du log sigmoid(u) = 1 - sigmoid(u),  d/du log(1 - sigmoid(u)) = -sigmoid(u)
    ascent_w = ((1 - D_real) * x - D_fake * a * z).mean()
    ascent_b = ((1 - D_real) - D_fake).mean()
    got = torch.autograd.grad(d_loss("minimax", w * x + b, w * a * z + b), (w, b))
    torch.testing.assert_close(-got[0], ascent_w.detach())
    torch.testing.assert_close(-got[1], ascent_b)
    (got,) = torch.autograd.grad(g_loss("minimax", w * a * z + b), a)
    torch.testing.assert_close(got, (-D_fake * w * z).mean().detach())
    (got,) = torch.autograd.grad(g_loss("non_saturating", w * a * z + b), a)
    torch.testing.assert_close(got, (-(1 - D_fake) * w * z).mean().detach())


def test_saturation_is_where_the_generator_loses():
    """Erratum 5: log(1 - D) goes flat as D(G(z)) -> 0, not as it -> 1; the non-saturating loss the
    other way round."""
    u = torch.tensor([-12.0, 12.0], dtype=torch.float64, requires_grad=True)
    (saturating,) = torch.autograd.grad(sum(g_loss("minimax", v) for v in u), u)
    (other,) = torch.autograd.grad(sum(g_loss("non_saturating", v) for v in u), u)
    assert saturating[0].abs() < 1e-5 and saturating[1].abs() > 0.99
    assert other[0].abs() > 0.99 and other[1].abs() < 1e-5


def test_logits_of_any_size_give_finite_losses():
    u = torch.tensor([-300.0, 300.0], requires_grad=True)
    for name in LOSSES:
        loss = d_loss(name, u, -u) + g_loss(name, u, -u)
        (gradient,) = torch.autograd.grad(loss, u)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all(), name


def test_wasserstein_and_relativistic(logits):
    real, fake = logits
    assert d_loss("wgan_gp", real, fake) == fake.mean() - real.mean()
    assert g_loss("wgan_gp", fake) == -fake.mean()
    pairs = torch.sigmoid(real - fake)
    torch.testing.assert_close(d_loss("relativistic", real, fake), -pairs.log().mean())
    torch.testing.assert_close(g_loss("relativistic", fake, real), -(1 - pairs).log().mean())
    # only differences count: a common constant changes nothing
    torch.testing.assert_close(
        d_loss("relativistic", real + 5, fake + 5), d_loss("relativistic", real, fake)
    )


def test_logits_are_relative_where_only_their_differences_count():
    real, fake = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 0.1, -0.7])
    for name in LOSSES:
        apart = d_loss(name, real + 3, fake + 3) - d_loss(name, real, fake)
        assert (abs(float(apart)) < 1e-6) == (name in RELATIVE), name


def test_penalties_of_functions_with_known_slope():
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    y = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    slope = torch.randn(3, 4, 4, dtype=torch.float64)

    def linear(v):
        return (v * slope).flatten(1).sum(1)

    torch.testing.assert_close(r1_penalty(linear, x), slope.square().sum())
    torch.testing.assert_close(
        gradient_penalty(linear, x, y, torch.rand(6)), (slope.norm() - 1) ** 2
    )
    # |grad |x|^2 / 2|^2 = |x|^2 : the point matters, and it is the one given
    norms = x.square().flatten(1).sum(1)
    torch.testing.assert_close(
        r1_penalty(lambda v: v.square().flatten(1).sum(1) / 2, x), norms.mean()
    )
    # WGAN-GP looks between the two sets: for grad = v, |v| = |u x + (1 - u) y|
    u = torch.rand(6, dtype=torch.float64)
    between = torch.stack([a * p + (1 - a) * q for a, p, q in zip(u, x, y, strict=True)])
    expected = (between.flatten(1).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(
        gradient_penalty(lambda v: v.square().flatten(1).sum(1) / 2, x, y, u), expected
    )


def test_penalty_trains_the_discriminator():
    """The penalty has a graph: its gradient with respect to a weight agrees with finite
    differences."""
    d = Discriminator(16, 4).double()
    x = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    weight = d.from_pixels.weight
    (gradient,) = torch.autograd.grad(r1_penalty(d, x), weight)
    h = 1e-6
    with torch.no_grad():
        weight[1, 2, 0, 3] += h
    up = r1_penalty(d, x).item()
    with torch.no_grad():
        weight[1, 2, 0, 3] -= 2 * h
    down = r1_penalty(d, x).item()
    assert gradient[1, 2, 0, 3].item() == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_the_networks_are_as_wide_as_they_say_and_not_linear():
    g, d = Generator(64, 24, 8), Discriminator(64, 8)
    assert g.first.out_features == 16 * 64  # 8 at 32x32, 16 at 16x16, 32 at 8x8, 64 at 4x4
    assert [block.conv.out_channels for block in g.blocks] == [32, 16, 8]
    assert [block.conv.out_channels for block in d.blocks] == [16, 32, 64]
    assert d.last.in_features == 16 * 64
    for net, shape in ((Generator(16, 5, 4), (3, 5)), (Discriminator(16, 4), (3, 3, 16, 16))):
        with torch.no_grad():
            net = net.double().eval()
            a, b = torch.randn(2, *shape, dtype=torch.float64)
            bent = net(a + b) - net(a) - net(b) + net(0 * a)
        assert bent.abs().max() > 1e-5


def test_discriminator_is_a_leaky_stack_by_hand():
    d = Discriminator(16, 4)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    h = x
    for conv in (d.from_pixels, d.blocks[0].conv):
        h = torch.nn.functional.conv2d(h, conv.weight, conv.bias, stride=2, padding=1)
        h = torch.where(h > 0, h, 0.2 * h)
    torch.testing.assert_close(d(x), (h.flatten(1) @ d.last.weight.T + d.last.bias)[:, 0])


def test_generator_is_a_stack_by_hand():
    """In training each map is normalised over batch and places; then ReLU, but tanh at the end."""
    g = Generator(16, 5, 4)
    z = torch.randn(3, 5)

    def normal(h):
        mean, variance = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), False, keepdim=True)
        return (h - mean) / (variance + 1e-5).sqrt()

    h = (z @ g.first.weight.T + g.first.bias).reshape(3, -1, 4, 4)
    h = normal(h).clamp(min=0)
    for block in g.blocks:
        h = torch.nn.functional.conv_transpose2d(h, block.conv.weight, stride=2, padding=1)
        h = normal(h).clamp(min=0)
    h = torch.nn.functional.conv2d(h, g.to_pixels.weight, g.to_pixels.bias, padding=1)
    torch.testing.assert_close(g(z), torch.nn.functional.pixel_shuffle(h, 2).tanh())


def test_two_pixels_a_side_are_painted_in_each_place():
    """The last layer writes a 2x2 patch: channel 4 c + 2 dy + dx is colour c at (dy, dx)."""
    g = Generator(16, 5, 4).eval()
    seen = []
    g.to_pixels.register_forward_hook(lambda module, inputs, out: seen.append(out))
    with torch.no_grad():
        images = g(torch.randn(2, 5))
    for c, dy, dx in ((0, 0, 0), (1, 0, 1), (2, 1, 0)):
        painted = seen[0][:, 4 * c + 2 * dy + dx].tanh()
        torch.testing.assert_close(images[:, c, dy::2, dx::2], painted)


def test_wgan_penalty_is_two_sided_and_finite_where_the_slope_is_zero():
    x, u = torch.randn(4, 3), torch.rand(4)
    for slope, expected in ((0.5, 0.25), (1.0, 0.0), (1.5, 0.25)):
        penalty = gradient_penalty(lambda v, k=slope: k * v[:, 0], x, -x, u)
        assert penalty.item() == pytest.approx(expected, abs=1e-6)
    weight = torch.zeros((), requires_grad=True)
    gradient_penalty(lambda v: weight * v[:, 0] + 0 * v.sum(1), x, -x, u).backward()
    assert torch.isfinite(weight.grad)
