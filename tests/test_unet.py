"""The U-Net and its parts against the same formulas written out here, number for number."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from bedgen_utils.unet import (
    Attention,
    Downsample,
    ResBlock,
    UNet,
    Upsample,
    timestep_embedding,
    zero_init,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small wait longer for a second thread than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shake():
    """Gives each parameter a value of its own: those at zero or one hide what is missing."""

    def shaken(module):
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in module.parameters():
                p += 0.1 * torch.randn(p.shape, generator=generator)
        return module

    return shaken


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# --- the formulas; w is a state dict, and name says where in it the layer lies --------------------


def plain_embedding(t, width):
    rows = []
    for time in t.tolist():
        angles = [time / 10_000 ** (i / (width // 2)) for i in range(width // 2)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return torch.tensor(rows)


def silu(x):
    return x / (1 + torch.exp(-x))


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def convolution(w, name, x):
    return conv2d(
        x, w[f"{name}.weight"], w[f"{name}.bias"], padding=w[f"{name}.weight"].shape[-1] // 2
    )


def group_norm(w, name, x):
    """Groups of 8 channels, each to mean 0 and variance 1."""
    groups = x.unflatten(1, (-1, 8))
    mean = groups.mean((2, 3, 4), keepdim=True)
    variance = (groups - mean).square().mean((2, 3, 4), keepdim=True)
    x = ((groups - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
    return x * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def plain_attention(w, name, x):
    """Heads are runs of 32 channels of q, k and v; each place asks all places of its own image."""
    n, c, height, width = x.shape
    qkv = convolution(w, f"{name}.qkv", group_norm(w, f"{name}.norm", x))
    q, k, v = qkv.flatten(2).split(c, dim=1)
    y = torch.zeros_like(q)
    for i in range(n):
        for head in range(0, c, 32):
            mine = slice(head, head + 32)
            likeness = (q[i, mine].T @ k[i, mine]) / math.sqrt(32)  # [who asks, who answers]
            share = likeness.exp() / likeness.exp().sum(1, keepdim=True)
            y[i, mine] = v[i, mine] @ share.T
    return x + convolution(w, f"{name}.out", y.unflatten(2, (height, width)))


def plain_block(w, name, x, emb):
    h = convolution(w, f"{name}.conv1", silu(group_norm(w, f"{name}.norm1", x)))
    scale, shift = linear(w, f"{name}.time", emb)[:, :, None, None].split(x.shape[1], dim=1)
    h = group_norm(w, f"{name}.norm2", h) * (1 + scale) + shift
    x = x + convolution(w, f"{name}.conv2", silu(h))
    return plain_attention(w, f"{name}.attention", x) if f"{name}.attention.qkv.weight" in w else x


def plain_down(w, name, x):
    mean = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    return convolution(w, f"{name}.conv", mean)


def plain_up(w, name, x):
    return convolution(w, f"{name}.conv", x).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def plain_unet(w, x, t, levels, blocks, fold, learned_variance):
    emb = silu(linear(w, "time.2", silu(linear(w, "time.0", plain_embedding(t, 128)))))
    h = convolution(w, "first", pixel_unshuffle(x, fold))
    skips = [h]
    for level in range(levels - 1):
        h = plain_down(w, f"shrink.{level}", h)
        for block in range(blocks):
            h = plain_block(w, f"down.{level}.{block}", h, emb)
            skips.append(h)
    h = plain_block(w, "middle", h, emb)
    for level in reversed(range(levels)):
        for block in range(blocks):
            if level > 0 or block == 0:  # the way down has no blocks at the finest level: one skip
                h = h + skips.pop()
            h = plain_block(w, f"up.{level}.{block}", h, emb)
        if level > 0:
            h = plain_up(w, f"grow.{level - 1}", h)
    assert not skips
    answer = pixel_shuffle(convolution(w, "last", silu(group_norm(w, "norm", h))), fold)
    answer[:, :3] += linear(w, "direct", emb)[:, :, None, None] * x
    assert answer.shape[1] == (6 if learned_variance else 3)
    return answer


def under(name, layer):
    """The state of ``layer`` as that of a network which has it at ``name``."""
    return {f"{name}.{key}": value for key, value in layer.state_dict().items()}


# --- the comparisons ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 8, 128])
def test_the_time_embedding_is_the_formula(width):
    t = torch.tensor([0, 1, 7, 500, 1000])
    embedding = timestep_embedding(t, width)
    assert embedding.dtype == torch.float32
    same(embedding, plain_embedding(t, width))
    same(timestep_embedding(t.double(), width), embedding)


def test_attention_is_the_formula_with_heads_of_32_channels(shake):
    layer, x = shake(Attention(64)), torch.randn(2, 64, 3, 5)
    with torch.no_grad():
        layer.qkv.weight *= 3  # sharp answers, so that the root of 32 counts
    assert layer.heads == 2
    same(layer(x), plain_attention(under("a", layer), "a", x))


@pytest.mark.parametrize("attention", [False, True])
def test_a_block_is_the_formula(shake, attention):
    layer = shake(ResBlock(32, 12, attention))
    x, emb = torch.randn(2, 32, 6, 6), torch.randn(2, 12)
    same(layer(x, emb), plain_block(under("b", layer), "b", x, emb))


def test_sides_are_halved_by_the_mean_and_doubled_by_repetition(shake):
    down, up, x = shake(Downsample(8, 16)), shake(Upsample(16, 8)), torch.randn(2, 8, 6, 6)
    small = down(x)
    same(small, plain_down(under("d", down), "d", x))
    same(up(small), plain_up(under("u", up), "u", small))


@pytest.mark.parametrize("widths, blocks, fold, attention_at, learned_variance", [
    ((8, 64), 1, 1, 8, False),
    ((8, 16, 64), 2, 2, 2, True),
    ((32, 64), 2, 2, 8, False),
    ((32,), 2, 1, 4, True),
])  # fmt: skip
def test_the_whole_network_is_the_formula(
    shake, widths, blocks, fold, attention_at, learned_variance
):
    model = shake(UNet(16, widths, blocks, fold, attention_at, learned_variance=learned_variance))
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 900])
    w = model.state_dict()
    with_attention = {name.split(".attention")[0] for name in w if "attention" in name}
    small = [i for i in range(len(widths)) if 16 // fold // 2**i <= attention_at]
    expected = {f"up.{i}.{b}" for i in small for b in range(blocks)}
    expected |= {f"down.{i - 1}.{b}" for i in small if i > 0 for b in range(blocks)}
    assert with_attention == expected | {"middle"}
    with torch.no_grad():
        same(model(x, t), plain_unet(w, x, t, len(widths), blocks, fold, learned_variance))


def test_branches_start_at_zero():
    layer = zero_init(nn.Conv2d(3, 5, 3))
    assert all(not p.any() for p in layer.parameters())
    x, emb = torch.randn(2, 32, 4, 4), torch.randn(2, 12)
    assert torch.equal(ResBlock(32, 12, True)(x, emb), x)
    unet = UNet(16, (8, 32), fold=2, attention_at=4)
    assert not unet(torch.randn(2, 3, 16, 16), torch.tensor([1, 9])).any()


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=r"images of 16 pixels a side, got \(1, 3, 8, 16\)"):
        UNet(16, (32,))(torch.zeros(1, 3, 8, 16), torch.tensor([1]))


@pytest.mark.parametrize("widths", [(), (16, 16), (20, 32), (4, 32), (32, 48)])
def test_widths_that_do_not_fit_are_refused(widths):
    with pytest.raises(ValueError, match="multiples? of (8|32)"):
        UNet(16, widths)
