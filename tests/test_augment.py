"""Each operation of augment.py against its definition, the controller, and that nothing leaks."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bedgen_utils.augment import COLOUR, GEOMETRY, AdaptiveP, AugmentPipe
from bedgen_utils.gan import d_loss, g_loss

torch.set_num_threads(1)


def pipe(*ops, seed=0):
    return AugmentPipe(ops or GEOMETRY + COLOUR, torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    return torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


def ramps(n, side=32):
    """Images whose red channel is x and whose green is y, in the coordinates of the affine map;
    blue is 1."""
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)]).repeat(n, 1, 1, 1)


def test_p_zero_is_the_identity_and_p_outside_is_refused(images):
    assert torch.equal(pipe()(images, 0.0), images)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            pipe()(images, p)
    with pytest.raises(ValueError, match="turn"):
        pipe("turn")
    with pytest.raises(ValueError, match="square"):
        pipe()(images[..., :8], 0.5)


@pytest.mark.parametrize("op", GEOMETRY + COLOUR)
def test_each_operation_touches_a_share_p_of_the_samples_drawn_apart(op):
    images = (
        torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).expand(4000, -1, -1, -1)
        * 2
        - 1
    )
    for p in (0.3, 0.8):
        out = pipe(op)(images, p)
        touched = ((out - images).abs().flatten(1).amax(1) > 1e-4).float().mean().item()
        # half of the flips, and of whole-pixel shifts on 8 px those that round to (0, 0) [1 of 4],
        # change nothing
        share = {"flip": 0.5, "shift": 0.75}.get(op, 1.0)
        assert touched == pytest.approx(p * share, abs=4 * (p * (1 - p) / 4000) ** 0.5 + 0.01), (
            op,
            p,
        )


def test_samples_are_independent_and_repeatable(images):
    a, b, c = pipe(seed=1)(images, 0.8), pipe(seed=1)(images, 0.8), pipe(seed=2)(images, 0.8)
    assert torch.equal(a, b) and not torch.equal(a, c)
    same = pipe()(images[:1].expand(64, -1, -1, -1), 1.0)
    assert len({round(v, 5) for v in same.flatten(1).sum(1).tolist()}) == 64


def test_operations_are_gated_apart_not_together():
    """With two operations, 1 - (1-p)^2 of the samples change: one gate for the whole chain would
    give p."""
    out = pipe("brightness", "contrast")(torch.full((4000, 3, 8, 8), 0.5), 0.5)
    assert ((out - 0.5).abs().amax((1, 2, 3)) > 1e-4).float().mean().item() == pytest.approx(
        0.75, abs=0.03
    )


def test_flip_and_whole_pixel_shifts_move_pixels_exactly(images):
    flipped = pipe("flip")(images, 1.0)
    is_flipped = torch.isclose(flipped, images.flip(3), atol=1e-5).all(3).all(2).all(1)
    is_same = torch.isclose(flipped, images, atol=1e-5).all(3).all(2).all(1)
    assert (is_flipped ^ is_same).all() and 16 < is_flipped.sum() < 48
    out = pipe("shift")(images, 1.0)
    padded = F.pad(
        images, (2, 2, 2, 2), mode="replicate"
    )  # reflection about the edge differs from the second pixel on
    for before, after in zip(padded, out, strict=True):
        inner = after[:, 2:-2, 2:-2]
        hits = [
            torch.allclose(
                inner, before[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx][:, 2:-2, 2:-2], atol=1e-4
            )
            for dx in range(-2, 3)
            for dy in range(-2, 3)
        ]
        assert sum(hits) == 1


@pytest.mark.parametrize("op", ("scale", "tilt", "stretch", "slide"))
def test_affine_operations_on_a_ramp(op):
    """Bilinear sampling of a linear function is exact, so inside the frame a ramp shows the affine
    map itself."""
    n, side = 32, 32
    theta = pipe(op, seed=3).affine(n, 1.0, side)
    out = pipe(op, seed=3)(ramps(n, side), 1.0)
    at = ramps(1, side)[0]
    expected = torch.einsum("nij,jyx->niyx", theta[:, :2], at)
    inside = (expected.abs().amax(1, keepdim=True) < 1 - 2 / side).expand(-1, 2, -1, -1)
    assert inside.float().mean() > 0.4
    torch.testing.assert_close(out[:, :2][inside], expected[inside], atol=1e-4, rtol=0)
    linear = theta[:, :2, :2]
    det = torch.linalg.det(linear)
    if op == "tilt":
        torch.testing.assert_close(
            linear @ linear.mT, torch.eye(2).expand(n, 2, 2), atol=1e-5, rtol=0
        )
        assert math.degrees(linear[:, 1, 0].asin().std()) == pytest.approx(10, rel=0.4)
    elif op == "stretch":
        torch.testing.assert_close(det, torch.ones(n))
    elif op == "scale":
        torch.testing.assert_close(linear[:, 0, 0], linear[:, 1, 1])
        assert (0.5 * det.log2()).std().item() == pytest.approx(0.2, rel=0.4)
    else:
        torch.testing.assert_close(linear, torch.eye(2).expand(n, 2, 2))
        assert (theta[:, :2, 2] / 2).std().item() == pytest.approx(0.125, rel=0.4)
        assert theta[:, 0, 2].ne(theta[:, 1, 2]).all()


def test_a_tilt_turns_and_a_scale_magnifies_the_right_way():
    """A dot stays a dot in the place where the map says: output at u shows the input at theta u."""
    theta = pipe("tilt", "scale", "slide", seed=4).affine(1, 1.0, 64)[0]
    dot = torch.zeros(1, 3, 64, 64)
    dot[:, :, 40:42, 22:24] = 1  # centre (x, y) = (-18/64, 18/64)
    out = pipe("tilt", "scale", "slide", seed=4)(dot, 1.0)[0, 0]
    at = ramps(1, 64)[0, :2]
    centre = (at * out).sum((1, 2)) / out.sum()
    expected = torch.linalg.solve(theta, torch.tensor([-18 / 64, 18 / 64, 1.0]))[:2]
    torch.testing.assert_close(centre, expected, atol=0.02, rtol=0)


def test_colour_operations(images):
    luma = images.mean(1)
    out = pipe("hue")(images, 1.0)
    # a turn about the grey axis keeps what lies along it and the length of what does not, and turns
    # the latter
    torch.testing.assert_close(out.mean(1), luma, atol=1e-5, rtol=0)
    before, after = ((x - luma[:, None]).norm(dim=1) for x in (images, out))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert (out - images).abs().amax((1, 2, 3)).min() > 1e-3
    ratio = (pipe("saturation")(images, 1.0) - luma[:, None]) / (images - luma[:, None])
    middle = ratio.flatten(1).median(1).values[:, None, None, None]
    torch.testing.assert_close(middle.expand_as(ratio), ratio, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(pipe("saturation")(images, 1.0).mean(1), luma, atol=1e-5, rtol=0)
    shift = pipe("brightness")(images, 1.0) - images
    torch.testing.assert_close(shift, shift[:, :1, :1, :1].expand_as(shift), atol=1e-5, rtol=0)
    assert shift[:, 0, 0, 0].std().item() == pytest.approx(0.2, rel=0.3)
    gain = pipe("contrast")(images, 1.0) / images
    torch.testing.assert_close(gain, gain[:, :1, :1, :1].expand_as(gain), atol=1e-3, rtol=1e-3)
    assert gain[:, 0, 0, 0].log2().std().item() == pytest.approx(0.5, rel=0.3)


def test_hue_turns_red_to_green_in_a_third_of_a_circle():
    m = torch.stack([pipe("hue", seed=s).colour(1, 1.0)[0] for s in range(300)])
    red_to = m[:, :3, 0]  # where pure red goes
    close = (red_to - torch.tensor([0.0, 1.0, 0.0])).abs().sum(1).min()
    assert close < 0.05
    cyc = torch.tensor(
        [[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]
    )  # R -> G -> B -> R, the turn by exactly 120 degrees
    assert (m[:, :3, :3] - cyc).abs().sum((1, 2)).min() < 0.1


def test_gradients_flow_and_are_right():
    images = (torch.rand(2, 3, 8, 8, dtype=torch.float64) * 2 - 1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: pipe(seed=9)(x, 0.9), images, atol=1e-5)


def test_controller_moves_by_sign_reaches_its_bound_and_returns():
    c = AdaptiveP(budget=4000, every=4)  # 1,000 images for p from 0 to 1
    sure, unsure = torch.full((10,), 0.1), torch.tensor([9.0, -1.0] * 5)  # only signs count
    for _ in range(3):
        assert c.update(sure, 10) == 0
    assert c.update(sure, 10) == pytest.approx(0.04) and c.r == 1
    for _ in range(200):
        c.update(sure, 10)
    assert c.p == 0.8
    for _ in range(4):
        c.update(unsure, 10)
    assert c.p == pytest.approx(0.76) and c.r == 0
    for _ in range(200):
        c.update(unsure, 10)
    assert c.p == 0


def test_controller_target_is_80_percent_and_state_survives():
    c = AdaptiveP(budget=4000, p=0.5)
    below, above = torch.tensor([1.0] * 79 + [-1.0] * 21), torch.tensor([1.0] * 81 + [-1.0] * 19)
    for _ in range(4):
        c.update(below, 10)
    assert c.p < 0.5 and c.r == pytest.approx(0.58)
    for _ in range(6):
        c.update(above, 10)
    other = AdaptiveP(budget=4000)
    other.load_state_dict(c.state_dict())
    assert [c.update(above, 10) for _ in range(9)] == [other.update(above, 10) for _ in range(9)]


@pytest.mark.slow
def test_nothing_leaks_at_the_bound():
    """Grey images of level +-0.5, brightness drawn with p = 0.8: what G learns is the two levels,
    not the smear D saw.

    Both players are tiny, but loss, pipe and gradients are those of the training.
    """
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    g, d = (
        nn.Sequential(nn.Linear(1, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 1))
        for h in (32, 64)
    )
    g_opt, d_opt = (torch.optim.Adam(m.parameters(), 2e-3, betas=(0.5, 0.9)) for m in (g, d))
    augment, n = pipe("brightness"), 256

    def judged(levels):
        seen = augment(levels[:, :, None, None].expand(-1, 3, 2, 2), 0.8)
        return d(seen[:, :1, 0, 0])[:, 0]

    def real():
        return (torch.randint(0, 2, (n, 1), generator=rng) - 0.5) + 0.02 * torch.randn(
            n, 1, generator=rng
        )

    average = [p.detach().clone() for p in g.parameters()]
    for step in range(1500):
        fake = g(torch.randn(n, 1, generator=rng))
        loss = d_loss("non_saturating", judged(real()), judged(fake.detach()))
        d_opt.zero_grad()
        loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss("non_saturating", judged(fake)).backward()
        g_opt.step()
        torch._foreach_lerp_(
            average, [p.detach() for p in g.parameters()], 1 - min(0.99, (1 + step) / (10 + step))
        )
    with torch.no_grad():
        for p, a in zip(g.parameters(), average, strict=True):
            p.copy_(a)
        n = 4000
        fake = g(torch.randn(n, 1, generator=rng)).flatten().sort().values
        clean = real()
        smeared = (
            augment(clean[:, :, None, None].expand(-1, 3, 2, 2), 0.8)[:, 0, 0, 0].sort().values
        )
    to_clean = (fake - clean.flatten().sort().values).abs().mean()  # the 1-D Wasserstein distance
    apart = (smeared - clean.flatten().sort().values).abs().mean()
    assert apart > 0.08  # what a full leak would show
    assert to_clean < 0.4 * apart, (to_clean, apart)


def test_the_border_mirrors_the_image_and_is_never_black():
    """A shift by two pixels shows the first two once more, reflected about the edge."""
    images = torch.rand(200, 3, 16, 16) * 0.5 + 0.4  # nothing near 0
    out = pipe("shift", seed=1)(images, 1.0)
    theta = pipe("shift", seed=1).affine(200, 1.0, 16)
    x, y = (theta[:, :2, 2] * 8).round().long().unbind(1)  # in pixels: output u shows input u + x
    i = int(((x == -2) & (y == 0)).nonzero()[0])
    mirrored = torch.cat([images[i, :, :, :2].flip(2), images[i, :, :, :14]], 2)
    torch.testing.assert_close(out[i], mirrored, atol=1e-4, rtol=0)
    assert out.min() > 0.39
    assert x.abs().max() == 2 and y.abs().max() == 2


def test_shifts_reach_an_eighth_of_the_side_in_whole_pixels():
    x = pipe("shift", seed=3).affine(2000, 1.0, 64)[:, :2, 2] * 32  # in pixels
    torch.testing.assert_close(x, x.round(), atol=1e-4, rtol=0)
    assert x.round().unique().tolist() == list(range(-8, 9))


def test_operations_are_chained_in_the_order_given():
    a, b = pipe("brightness", "contrast", seed=2), pipe("brightness", "contrast", seed=2)
    m = a.colour(5, 1.0)
    shift, gain = b._tint("brightness", 5, 1.0), b._tint("contrast", 5, 1.0)
    torch.testing.assert_close(m, gain @ shift)
    assert (m - shift @ gain).abs().max() > 1e-3
    a, b = pipe("tilt", "slide", seed=2), pipe("tilt", "slide", seed=2)
    theta = a.affine(5, 1.0, 16)
    turn, slide = b._move("tilt", 5, 1.0, 16), b._move("slide", 5, 1.0, 16)
    torch.testing.assert_close(theta, turn @ slide)


def test_the_rise_of_p_is_a_quarter_of_the_budget_and_counts_images_not_logits():
    c = AdaptiveP(budget=8000, every=2)  # 2,000 images for p from 0 to 1
    c.update(torch.ones(3), 50)
    assert c.update(torch.ones(3), 50) == pytest.approx(100 / 2000)
    wide = AdaptiveP(budget=8000, share=0.5, every=1, bound=0.03, target=-1.5)
    assert wide.update(-torch.ones(3), 40) == pytest.approx(40 / 4000)  # -1 is above -1.5
    assert [wide.update(-torch.ones(3), 40) for _ in range(3)] == pytest.approx([0.02, 0.03, 0.03])
    defaults = AdaptiveP(1000)
    assert (defaults.p, defaults.target, defaults.bound, defaults.every) == (0, 0.6, 0.8, 4)
    assert defaults.rise == 250


def test_state_of_the_controller_is_plain_numbers_half_way_through_a_count():
    c = AdaptiveP(budget=4000)
    for logits in (torch.ones(10), -torch.ones(10), torch.ones(10)):
        c.update(logits, 10)
    state = c.state_dict()
    assert all(type(value) in (int, float) for value in state.values())
    other = AdaptiveP(budget=10)
    other.load_state_dict(state)
    assert other.update(torch.ones(10), 10) == c.update(torch.ones(10), 10)
    assert other.r == c.r == pytest.approx(0.5)
