"""The training loops: they learn, they resume to the very same weights, and nothing half-written is ever believed."""

import copy
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bedgen_utils.checkpoint import load_tensors, resume_training, save_tensors, save_training
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule
from bedgen_utils.gan import Discriminator, Generator, r1_penalty
from bedgen_utils.muon import Muon, is_filters, orthogonalize
from bedgen_utils.released import load, save_weights
from bedgen_utils.run import replace_atomically, to_float, to_uint8
from bedgen_utils.train import EMA, Loop, learning_rate, train_ddpm, train_gan
from bedgen_utils.unet import UNet


def pictures(n=64, size=16, seed=0):
    """Two-colour pictures: a horizon at a random height. Easy to learn, so that learning can be seen in seconds."""
    g = torch.Generator().manual_seed(seed)
    images = torch.full((n, 3, size, size), 220, dtype=torch.uint8)
    for image, row in zip(images, torch.randint(4, 12, (n,), generator=g), strict=True):
        image[:, row:] = 40
    return images


def small_unet():
    torch.manual_seed(0)
    return UNet(16, (32, 32), blocks=1, fold=2)


def ddpm(folder, images_seen=256, **options):
    options = {"batch": 16, "warmup": 4, "log_every": 4} | options
    diffusion = GaussianDiffusion(cosine_beta_schedule(100))
    return train_ddpm(small_unet(), diffusion, pictures(), folder, images_seen=images_seen, **options)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_uint8_and_float_are_inverse():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_float(levels).min() == -1 and to_float(levels).max() == 1
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(s, 1000, 2.0, 100) for s in range(1, 1001)]
    assert rates[0] == pytest.approx(0.02) and rates[99] == pytest.approx(2.0)
    assert all(r == pytest.approx(2.0) for r in rates[99:600])
    assert rates[-1] == pytest.approx(0.1) and all(a >= b for a, b in zip(rates[99:], rates[100:], strict=False))


def test_ema_is_the_weighted_sum_it_claims():
    torch.manual_seed(0)
    model, expected = nn.Linear(2, 2), None
    ema = EMA(model, 0.9)
    expected = model.weight.detach().clone()
    for step in range(1, 20):
        nn.init.normal_(model.weight)
        ema.update(model, step)
        d = min(0.9, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * model.weight.detach()
    torch.testing.assert_close(ema.model.weight, expected)


@pytest.mark.parametrize("shape", [(8, 72), (40, 12), (3, 16, 16)])
def test_orthogonalize_moves_each_singular_value_by_the_polynomial(shape):
    M = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    U, S, V = np.linalg.svd(M.numpy(), full_matrices=False)
    s = S / np.linalg.norm(M.numpy(), axis=(-2, -1))[..., None]
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    np.testing.assert_allclose(orthogonalize(M).numpy(), (U * s[..., None, :]) @ V, atol=1e-12)
    np.testing.assert_allclose(orthogonalize(1e-6 * M.float()).numpy(), (U * s[..., None, :]) @ V, atol=1e-4)
    assert torch.equal(orthogonalize(torch.zeros(shape)), torch.zeros(shape))


def test_muon_steps_as_torch_does_up_to_its_bfloat16():
    g = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(16, 48, generator=g))
    theirs = nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    settings = {"lr": 0.05, "weight_decay": 0.1}
    steppers = Muon([ours], **settings), torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(16, 48, generator=g)
        theirs.grad = ours.grad.clone()
        for stepper in steppers:
            stepper.step()
    moved, difference = (theirs - start).norm(), (ours - theirs).norm()
    assert difference < 0.02 * moved  # 8 bits of mantissa: 0.4 % a product
    assert (ours - start).square().mean().sqrt() < 5 * 0.05 * 0.2 * 1.2 + 5 * 0.05 * 0.1


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_filters_as_matrices_in_either_memory_format(memory):
    g = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 12, 8, 3, 3, generator=g)
    filters, matrix = nn.Parameter(start.contiguous(memory_format=memory)), nn.Parameter(start.flatten(1))
    filters.grad, matrix.grad = gradient.contiguous(memory_format=memory), gradient.flatten(1)
    Muon([filters, matrix], lr=0.1).step()
    # The order of a matrix's columns goes through U V^T unchanged, so any order of the filters' entries will do.
    torch.testing.assert_close(filters.detach().flatten(1), matrix.detach(), rtol=0, atol=1e-5)
    assert is_filters(filters) and not is_filters(matrix) and not is_filters(nn.Conv2d(3, 16, 3).weight)


def test_unet_starts_at_zero_knows_time_and_refuses_wrong_sizes():
    model = small_unet()
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([1, 50, 100])
    assert torch.equal(model(x, t), torch.zeros(3, 3, 16, 16))
    nn.init.ones_(model.direct.bias)  # then the direct path alone answers
    assert torch.equal(model(x, t), x)
    nn.init.normal_(model.last.weight, std=0.1)
    for module in model.modules():
        if hasattr(module, "conv2"):
            nn.init.normal_(module.conv2.weight, std=0.1)
    assert not torch.allclose(model(x, t), model(x, t.flip(0)))
    # One sample never sees another of its batch.
    torch.testing.assert_close(model(x, t)[:1], model(x[:1], t[:1]), atol=1e-5, rtol=1e-4)
    for fold in (1, 2):
        assert UNet(16, (32,), 1, fold, learned_variance=True)(x, t).shape == (3, 6, 16, 16)
    # The finest level has one skip, the others one a block: each block still does its part.
    two = UNet(16, (32, 32), blocks=2)
    nn.init.ones_(two.last.weight)
    two(x, t).square().sum().backward()
    used = [b.conv2.weight.grad for level in [*two.down, *two.up, [two.middle]] for b in level]
    assert len(used) == 7 and all(g.abs().max() > 0 for g in used)
    with pytest.raises(ValueError, match="16 x 16"):
        model(torch.randn(1, 3, 32, 32), t[:1])
    with pytest.raises(ValueError, match="divisible"):
        UNet(18, (32, 32), fold=2)


def test_an_epoch_shows_each_picture_once(tmp_path):
    images = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, 2, 2).contiguous()
    loop = Loop(tmp_path, "x", {}, images, steps=9, batch=10, seed=3)
    epochs = []
    for _ in range(2):
        values = []
        for _ in range(4):
            x, _ = loop.draw()
            values += to_uint8(x)[:, 0, 0, 0].tolist()
            loop.step += 1
        assert sorted(values) == list(range(40))
        epochs.append(values)
    assert epochs[0] != epochs[1]


def test_half_of_the_pictures_come_mirrored_unless_that_is_left_to_the_augmentation(tmp_path):
    images = torch.arange(64, dtype=torch.uint8).expand(400, 3, 64, 64).contiguous()  # dark on the left
    for mirror, low, high in [(True, 0.4, 0.6), (False, 0, 0)]:  # 400 draws: 1/2 +- 4 sigma
        x, _ = Loop(tmp_path, "x", {}, images, steps=1, batch=400, seed=0, mirror=mirror).draw()
        assert low <= (x[:, 0, 0, 0] > x[:, 0, 0, -1]).float().mean() <= high


def test_ddpm_learns(tmp_path):
    *_, history = ddpm(tmp_path, images_seen=1600, peak_rate=2e-3)
    # The best that a network could do that knows t but does not look at x_t: return the mean of v at each pixel.
    variance = to_float(pictures()).var(0, unbiased=False).mean()
    abar = GaussianDiffusion(cosine_beta_schedule(100)).abar[1:]
    blind = (abar + (1 - abar) * variance).mean()
    assert history[-1]["loss"] < 0.85 * blind


@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
def test_times_drawn_by_weight_give_the_loss_of_evenly_drawn_ones(tmp_path, weighting):
    class Zero(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))
            self.times = []

        def forward(self, x, t):
            self.times += t.tolist()
            return 0 * self.unused * x

    diffusion, model = GaussianDiffusion(cosine_beta_schedule(100)), Zero()
    options = {"images_seen": 3200, "batch": 16, "weighting": weighting, "log_every": 200}
    *_, history = train_ddpm(model, diffusion, pictures(), tmp_path, **options)
    abar, w = diffusion.abar[1:], diffusion.loss_weights(weighting)[1:]
    power = to_float(pictures()).square().mean()
    each = w * (abar + (1 - abar) * power)  # E |0 - v|^2 at each t
    # The chance in 3,200 draws: at most the spread of w_t loss_t over t, and of a mean over 768 values v^2.
    tolerance = 5 * float(each.std() + each.mean() * (2 / 768) ** 0.5) / 3200**0.5
    assert history[-1]["loss"] == pytest.approx(float(each.mean()), abs=tolerance)
    drawn = torch.bincount(torch.tensor(model.times), minlength=101)[1:] / 3200
    assert (drawn - w / w.sum()).abs().max() < 5 * (0.03 / 3200) ** 0.5 and set(model.times) <= set(range(1, 101))


def test_ddpm_resumes_to_the_same_weights_and_guide(tmp_path):
    seen = []  # (average, guide) at each evaluation

    def look(average, guide):
        seen.append((copy.deepcopy(average), copy.deepcopy(guide)))
        return {"x": 1}

    options = {"young": 0.5, "evaluate_at": [128, 256]}
    whole, guide, history = ddpm(tmp_path / "a", evaluate=look, **options)
    assert len(seen) == 2 and sum("x" in row for row in history) == 2
    # The guide follows the average through the first half and stays there.
    assert same(*seen[0]) and same(guide, seen[0][0]) and not same(guide, whole)

    class Stop(Exception):
        pass

    def stop(average, guide):
        if len(seen) == 3:
            raise Stop
        return look(average, guide)

    with pytest.raises(Stop):  # dies in the second half; its last checkpoint is the evaluation at 128
        ddpm(tmp_path / "b", evaluate=stop, **options)
    resumed, guide_b, history_b = ddpm(tmp_path / "b", evaluate=look, **options)
    assert same(whole, resumed) and same(guide, guide_b)
    assert [r.get("loss") for r in history] == [r.get("loss") for r in history_b]


def test_another_recipe_does_not_go_on_from_the_checkpoint(tmp_path):
    ddpm(tmp_path)
    ddpm(tmp_path, peak_rate=5e-4)
    assert len(list(tmp_path.glob("ddpm-*.checkpoint"))) == 2


def test_ddpm_says_so_when_it_diverges(tmp_path):
    with pytest.raises(FloatingPointError, match="peak_rate"):
        ddpm(tmp_path, peak_rate=1e12, warmup=1)


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "wgan_gp", "relativistic"])
def test_gan_runs_every_loss_and_resumes(tmp_path, loss):
    def gan(folder, epochs, **options):
        torch.manual_seed(0)
        return train_gan(
            Generator(16, 8, 8),
            Discriminator(16, 8),
            pictures(32),
            folder,
            epochs=epochs,
            batch=8,
            loss=loss,
            r1_every=2,
            evaluate_every=2,
            **options,
        )

    whole, history = gan(tmp_path / "a", 4, evaluate=lambda g: {"distance": 1.0})
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["epoch"] for row in history if "distance" in row] == [1, 2, 4]
    assert all(np.isfinite([row["d_loss"], row["g_loss"], row["p"]]).all() for row in history)
    calls = []

    def fails_second(g):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"distance": 1.0}

    with pytest.raises(KeyboardInterrupt):
        gan(tmp_path / "b", 4, evaluate=fails_second)
    resumed, history_b = gan(tmp_path / "b", 4, evaluate=lambda g: {"distance": 1.0})
    assert same(whole, resumed)
    timeless = [[{k: v for k, v in r.items() if "seconds" not in k} for r in h] for h in (history, history_b)]
    assert timeless[0] == timeless[1]


def test_the_relativistic_game_takes_r2_beside_r1(tmp_path, monkeypatch):
    seen = []

    def counted(d, x):
        seen.append(x.detach().clone())
        return r1_penalty(d, x)

    monkeypatch.setattr("bedgen_utils.train.r1_penalty", counted)
    for loss, times in (("non_saturating", 1), ("relativistic", 2)):
        seen.clear()
        images = pictures(8)
        train_gan(
            Generator(16, 8, 8), Discriminator(16, 8), images, tmp_path / loss,
            epochs=1, batch=8, loss=loss, r1_every=1, augment="none",
        )  # fmt: skip
        assert len(seen) == times
        assert set(to_float(images).unique().tolist()) == set(seen[0].unique().tolist())  # two levels: the real ones
        assert all(len(x.unique()) > 2 for x in seen[1:])


def test_gan_learns_the_two_colours(tmp_path):
    torch.manual_seed(0)
    g, _ = train_gan(
        Generator(16, 8, 16),
        Discriminator(16, 16),
        pictures(64),
        tmp_path,
        epochs=60,
        batch=16,
        rate=1e-3,
        augment="none",
        ema_decay=0.98,
    )
    made = g(torch.randn(64, 8))
    assert made[:, :, :3].mean() > 0.3 and made[:, :, -3:].mean() < -0.3  # light above, dark below


def test_d_sees_the_operations_that_were_asked_for_and_no_others(tmp_path):
    def weights(name, **options):
        torch.manual_seed(0)
        G, D = Generator(16, 8, 8), Discriminator(16, 8)
        train_gan(G, D, pictures(32), tmp_path / name, epochs=1, batch=8, **options)
        return D.last.weight.detach()

    plain, without, shifted = weights("a", augment="none"), *(
        weights(str(ops), augment="fixed", p=1.0, ops=ops) for ops in ((), ("shift",))
    )
    assert torch.equal(plain, without)
    assert not torch.equal(plain, shifted)


def test_gan_refuses_an_unknown_augmentation(tmp_path):
    with pytest.raises(ValueError, match="adaptive"):
        train_gan(Generator(16, 8, 8), Discriminator(16, 8), pictures(8), tmp_path, epochs=1, augment="always")


def test_kill_in_the_middle_of_training_loses_no_more_than_a_checkpoint(tmp_path):
    """A real SIGKILL, at whatever moment it hits, then the same call again: the weights of a run left in peace."""
    program = textwrap.dedent("""
        import sys, torch
        sys.path.insert(0, sys.argv[2])
        import bedgen_utils.train as train
        train.CHECKPOINT_SECONDS = 0.0
        torch.set_num_threads(1)
        from test_train import ddpm
        ddpm(sys.argv[1], images_seen=640)
    """)
    here = os.path.dirname(__file__)
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "killed"), here], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("*.checkpoint")):
        assert child.poll() is None and time.monotonic() < deadline, "the child made no checkpoint"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, meta = load_tensors(next((tmp_path / "killed").glob("*.checkpoint")))
    assert 0 < meta["step"] < 40, "the kill came too late to test anything"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would differ in the last bit
    try:
        whole, *_ = ddpm(tmp_path / "whole", images_seen=640)
        resumed, *_ = ddpm(tmp_path / "killed", images_seen=640)
    finally:
        torch.set_num_threads(threads)
    assert same(whole, resumed)


def trained_pair():
    model = nn.Linear(3, 2)
    adam = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    adam.step()
    return model, adam


def test_checkpoint_cut_short_falls_back_on_the_one_before(tmp_path):
    path = tmp_path / "c.checkpoint"
    model, adam = trained_pair()
    save_training(path, {"m": model}, {"o": adam}, {"step": 1})
    first = copy.deepcopy(model.state_dict())
    nn.init.zeros_(model.weight)
    save_training(path, {"m": model}, {"o": adam}, {"step": 2})
    path.write_bytes(path.read_bytes()[:-20])
    other, other_adam = trained_pair()
    with pytest.warns(UserWarning, match="c.checkpoint"):
        assert resume_training(path, {"m": other}, {"o": other_adam}) == {"step": 1}
    assert all(torch.equal(first[k], v) for k, v in other.state_dict().items())
    for a, b in zip(adam.state_dict()["state"].values(), other_adam.state_dict()["state"].values(), strict=True):
        assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", None])
def test_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"x": torch.ones(1000)}, {"a": 1})
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(ValueError, match="w.safetensors"):
        load_tensors(path)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.json"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_atomically(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_shipped_weights_fit_the_run(tmp_path):
    for name in ("ddpm", "gan"):
        assert load(name).size == 64
        for size in (32, 64):
            assert load(name, SimpleNamespace(folder=tmp_path, p=SimpleNamespace(size=size))).size == size


def test_released_weights_come_back(tmp_path):
    model, diffusion = small_unet(), GaussianDiffusion(cosine_beta_schedule(50), prediction="v")
    nn.init.normal_(model.last.weight, std=0.05)
    seen = {12: pictures(2), 9: pictures(1)}
    path = tmp_path / "ddpm.safetensors"
    guide = copy.deepcopy(model)
    nn.init.normal_(guide.last.weight, std=0.05)
    save_weights(path, model, [{"images": 12, "loss": 0.5}], seen, diffusion, guide=guide)
    ddpm_ = load("ddpm", path=path)
    assert same(ddpm_.guide, guide.half().float()) and not same(ddpm_.guide, ddpm_.model)
    assert list(ddpm_.samples) == [9, 12] and ddpm_.history == [{"images": 12, "loss": 0.5}]
    assert torch.equal(ddpm_.diffusion.betas, diffusion.betas)
    a, b = ddpm_.sample(5, seed=1, steps=4, batch=5), ddpm_.sample(5, seed=1, steps=4, batch=2)
    assert a.dtype == torch.uint8 and a.shape == (5, 3, 16, 16)
    assert (a.int() - b.int()).abs().max() <= 1  # the batch size changes rounding at most
    assert torch.equal(a, ddpm_.sample(5, seed=1, steps=4, clip=True))  # one option more leaves the others as they are
    assert not torch.equal(a, ddpm_.sample(5, seed=2, steps=4))
    assert not torch.equal(a, ddpm_.sample(5, seed=1, steps=4, guidance=1))
    ddpm_.guide = ddpm_.model  # one's own twin has nothing to teach
    assert torch.equal(ddpm_.sample(5, seed=1, steps=4), ddpm_.sample(5, seed=1, steps=4, guidance=1))
    save_weights(path, model, [], {}, diffusion)
    assert load("ddpm", path=path).guide is None
    with pytest.raises(ValueError, match="another kind"):
        load("gan", path=path)
    g = Generator(16, 8, 8)
    save_weights(tmp_path / "gan.safetensors", g, [], {})
    gan = load("gan", path=tmp_path / "gan.safetensors")
    assert gan.sample(3, seed=0).shape == (3, 3, 16, 16) and torch.equal(gan.sample(3, seed=0), gan.sample(3, seed=0))
    with pytest.raises(FileNotFoundError, match="notebook"):
        load("gan", path=tmp_path / "nowhere.safetensors")
    with pytest.raises(ValueError, match="'ddpm' and 'gan'"):
        load("vae")


def test_float16_weights_paint_the_same_pictures(tmp_path):
    """Half the bytes may cost no more than about one grey level here and there."""
    model, *_ = ddpm(tmp_path, images_seen=640, peak_rate=2e-3)
    diffusion = GaussianDiffusion(cosine_beta_schedule(100))
    save_weights(tmp_path / "w.safetensors", model, [], {}, diffusion)
    noise = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    full = diffusion.sample(model, noise, steps=10, eta=0)
    half = diffusion.sample(load("ddpm", path=tmp_path / "w.safetensors").model, noise, steps=10, eta=0)
    assert (full - half).abs().mean() < 0.5 / 127.5
    assert json.loads(json.dumps(load_tensors(tmp_path / "w.safetensors")[1]))["network"]["size"] == 16
