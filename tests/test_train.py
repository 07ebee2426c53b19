"""The training loops learn, resume to the very same weights, and never believe what is
half-written."""

import copy
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
import torch
from inputs import little_room

from bedgen_utils.data import to_float, to_uint8
from bedgen_utils.gan import LOSSES
from bedgen_utils.models import DDPM, GAN
from bedgen_utils.train import (
    DDPMRecipe,
    GANRecipe,
    Loop,
    TimesByWeight,
    load_checkpoint,
    save_checkpoint,
    statements,
    train_ddpm,
    train_gan,
)

SMALL = DDPMRecipe(
    size=16, widths=(32, 32), fold=2, T=100, images=256, batch=16, rate=1e-3, warmup=4
)
GAME = GANRecipe(size=16, latent=8, width=8, d_width=8, images=128, batch=8, gamma_every=2)


def horizons(n=64, size=16, seed=0):
    """Images of two colours: a horizon at a random height. Easy to learn, so that learning shows in
    seconds."""
    g = torch.Generator().manual_seed(seed)
    images = torch.full((n, 3, size, size), 220, dtype=torch.uint8)
    for image, row in zip(images, torch.randint(4, 12, (n,), generator=g), strict=True):
        image[:, row:] = 40
    return images


def ddpm(folder=None, recipe=SMALL, images=None, **options):
    model = DDPM.from_recipe(recipe)
    images = horizons() if images is None else images
    return model, list(train_ddpm(model, images, recipe, folder, **({"log_every": 64} | options)))


def gan(folder=None, recipe=GAME, images=None, **options):
    generator, discriminator = recipe.build()
    model = GAN(generator, recipe)
    images = horizons(32) if images is None else images
    options = {"log_every": 32} | options
    return model, list(train_gan(model, discriminator, images, recipe, folder, **options))


def same(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def timeless(history):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in history]


# ---- recipes


def test_a_recipe_is_a_key_and_a_table():
    read = DDPMRecipe(**json.loads(json.dumps(SMALL.__dict__)))
    assert read == SMALL and hash(read) == hash(SMALL)  # lists of JSON and TOML become tuples
    assert GANRecipe(betas=[0.0, 0.99]).betas == (0.0, 0.99)
    for bad, match in [
        (lambda: DDPMRecipe(batch=0), "batch must be positive"),
        (lambda: DDPMRecipe(schedule="sigmoid"), "cosine"),
        (lambda: GANRecipe(game="none"), "non_saturating"),
        (lambda: GANRecipe(augment="always"), "adaptive"),
        (lambda: GANRecipe(images=-5), "images must be positive"),
        (lambda: DDPMRecipe(blocks=0), "blocks must be positive"),
        (lambda: DDPMRecipe(early=5.0), "early must lie from 0 to 1, got 5"),
        (lambda: DDPMRecipe(ema=-0.1), "ema must lie from 0 to 1"),
        (lambda: GANRecipe(width=0), "width must be positive"),
        (lambda: GANRecipe(p_aug=2.0), "p_aug must lie from 0 to 1"),
        (lambda: GANRecipe(ema=7), "ema must lie from 0 to 1"),
        (lambda: GANRecipe(gamma=-1), "gamma must not be negative"),
        (lambda: DDPMRecipe(T=2.5), "T must be a whole number, got 2.5"),  # it trained: on which β?
        (lambda: DDPMRecipe(seed="0"), "seed must be a whole number"),
        (lambda: GANRecipe(batch=16.0), "batch must be a whole number, got 16.0"),
        (lambda: DDPMRecipe(widths=()), "widths"),
        (lambda: DDPMRecipe(widths=(48, 0)), "widths"),
    ]:
        with pytest.raises(ValueError, match=match):
            bad()


def test_a_recipe_builds_the_same_networks_whatever_was_drawn_before():
    torch.randn(7)
    before = torch.random.get_rng_state()
    first, _ = SMALL.build()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.randn(3)
    assert same(first, SMALL.build()[0]) and not same(first, replace(SMALL, seed=1).build()[0])
    _, diffusion = replace(SMALL, schedule="linear", prediction="eps", variance="large").build()
    assert diffusion.betas[1] == pytest.approx(1e-4) and diffusion.prediction == "eps"
    assert same(GAME.build()[1], GAME.build()[1])


# ---- what a step is given


def test_an_epoch_shows_each_image_once():
    images = (
        torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, 2, 2).contiguous()
    )
    assert Loop(DDPMRecipe(images=81, batch=10), images, {}).steps == 9  # the last one counts
    loop = Loop(DDPMRecipe(images=90, batch=10, seed=3), images, {})
    epochs = []
    for _ in range(2):
        values = []
        for _ in range(4):
            values += to_uint8(loop.batch())[:, 0, 0, 0].tolist()
            loop.step += 1
        assert sorted(values) == list(range(40))
        epochs.append(values)
    assert epochs[0] != epochs[1]


def test_a_batch_over_the_end_of_an_epoch_takes_from_both():
    images = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, 2, 2)
    loop = Loop(DDPMRecipe(images=80, batch=16, mirror=False), images.contiguous(), {})
    seen = []
    for loop.step in range(5):
        seen += to_uint8(loop.batch())[:, 0, 0, 0].tolist()
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))


def test_half_of_the_images_come_mirrored_unless_that_is_left_to_the_augmentation():
    images = (
        torch.arange(64, dtype=torch.uint8).expand(400, 3, 64, 64).contiguous()
    )  # dark on the left
    for mirror, low, high in [
        (True, 0.4, 0.6),
        (False, 0, 0),
    ]:  # 400 draws: 1/2 ± 4 standard errors
        x = Loop(DDPMRecipe(images=400, batch=400, mirror=mirror), images, {}).batch()
        assert low <= (x[:, 0, 0, 0] > x[:, 0, 0, -1]).float().mean() <= high


@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
def test_times_are_drawn_by_weight_and_counted_back(weighting):
    _, diffusion = SMALL.build()
    draw, g = TimesByWeight(diffusion, weighting), torch.Generator().manual_seed(0)
    t, likelier = (torch.cat(q) for q in zip(*(draw(16, g) for _ in range(2000)), strict=True))
    weights = diffusion.loss_weights(weighting)[1:]
    share = weights / weights.sum()
    drawn = torch.bincount(t, minlength=101)[1:] / len(t)
    assert t.min() >= 1 and t.max() <= 100
    assert (drawn - share).abs().max() < 5 * (share.max() / len(t)) ** 0.5
    torch.testing.assert_close(likelier, (100 * share[t - 1]).float())
    # One draw in each sixteenth of the cumulated shares.
    one, _ = draw(16, g)
    strata = (share.cumsum(0) - share / 2)[one - 1] * 16
    assert strata.sort().values.diff().max() < 2.5


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(8, 3, 16, 16),
        horizons(8).numpy(),
        horizons(8)[0],
        torch.zeros(8, 3, 16, 16).long(),
    ],
)
def test_only_uint8_images_train(images):
    with pytest.raises(TypeError, match="training images must be a uint8 tensor"):
        ddpm(images=images)
    with pytest.raises(TypeError, match="training images must be a uint8 tensor"):
        gan(images=images)


def test_an_empty_set_is_refused_and_a_small_one_is_passed_over_again():
    with pytest.raises(ValueError, match="no training images"):
        ddpm(images=horizons(8)[:0])
    _, history = ddpm(images=horizons(5), recipe=replace(SMALL, images=32))
    assert history[-1]["images"] == 32


# ---- rows


@pytest.mark.parametrize("at", [0, -16, 257])
def test_an_evaluation_that_would_never_come_is_refused(at):
    with pytest.raises(ValueError, match=f"evaluate_at has {at}; this training sees 1 to 256 "):
        ddpm(evaluate=dict, evaluate_at=[16, at, 256])


def test_rows_come_at_their_images_and_average_what_lies_between():
    calls = []
    options = {"evaluate": lambda: calls.append(1) or {"x": len(calls)}, "evaluate_at": [100, 128]}
    _, history = ddpm(log_every=96, **options)
    # 16 images a step: rows where a multiple of 96 is passed, where an evaluation is due, and at
    # the end
    assert [row["images"] for row in history] == [96, 112, 128, 192, 256]
    assert [row.get("x") for row in history] == [None, 1, 2, None, None]
    assert "evaluation_seconds" in history[1] and "evaluation_seconds" not in history[0]
    _, every = ddpm(log_every=16)
    losses = [row["loss"] for row in every]
    starts = [0, *(row["images"] // 16 for row in history)]
    for row, a, b in zip(history, starts, starts[1:], strict=False):
        assert row["loss"] == pytest.approx(sum(losses[a:b]) / (b - a), rel=1e-5)


def test_a_notebook_may_leave_the_loop_and_come_back(tmp_path):
    whole, history = ddpm(tmp_path / "a")
    left = DDPM.from_recipe(SMALL)
    for row in train_ddpm(left, horizons(), SMALL, tmp_path / "b", log_every=64):
        if row["images"] == 128:
            break
    (checkpoint,) = (tmp_path / "b").glob("*.checkpoint")
    assert load_checkpoint(checkpoint)["step"] == 8
    again, rest = ddpm(tmp_path / "b")
    assert same(whole.network, again.network) and timeless(history) == timeless(rest)


def test_the_readers_time_is_not_training_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for row in train_ddpm(DDPM.from_recipe(SMALL), horizons(), SMALL, log_every=64):  # noqa: B007
        now[0] += 1000.0
    assert row["images"] == 256 and row["seconds"] == 0


def test_writing_checkpoints_is_no_training(monkeypatch, tmp_path):
    now, save = [0.0], save_checkpoint
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("bedgen_utils.train.CHECKPOINT_SECONDS", -1.0)  # after each step

    def slow(*given):
        now[0] += 1000.0
        save(*given)

    monkeypatch.setattr("bedgen_utils.train.save_checkpoint", slow)
    (*_, row) = train_ddpm(DDPM.from_recipe(SMALL), horizons(), SMALL, tmp_path, log_every=64)
    assert now[0] >= 8000 and row["seconds"] == 0


def test_an_average_that_is_no_number_is_not_saved(tmp_path):
    """The loss does not see it."""
    model = DDPM.from_recipe(SMALL)
    rows = train_ddpm(model, horizons(), SMALL, tmp_path, log_every=64)
    next(rows)
    next(model.network.parameters()).data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="average"):
        list(rows)
    assert not list(tmp_path.glob("*.checkpoint"))


def press_ctrl_c(monkeypatch, *steps):
    """SIGINT amid each of these steps, once for each time it is named."""
    draw = Loop.normal

    def pressed(self, *shape):
        for step in steps:
            if step == self.step:
                signal.raise_signal(signal.SIGINT)
        return draw(self, *shape)

    monkeypatch.setattr(Loop, "normal", pressed)


@pytest.mark.parametrize("train", [ddpm, gan])
def test_ctrl_c_waits_for_its_step_and_loses_nothing(tmp_path, monkeypatch, train):
    whole, history = train(tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        press_ctrl_c(patch, 5)
        train(tmp_path / "stopped")
    assert signal.getsignal(signal.SIGINT) is before
    (left,) = (tmp_path / "stopped").glob("*.checkpoint")
    assert load_checkpoint(left)["step"] == 6
    resumed, rest = train(tmp_path / "stopped")
    ours, theirs = (getattr(m, "network", None) or m.generator for m in (whole, resumed))
    assert same(ours, theirs) and timeless(history) == timeless(rest)


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    press_ctrl_c(monkeypatch, 5, 5)
    with pytest.raises(KeyboardInterrupt):
        ddpm(tmp_path)
    assert not list(tmp_path.glob("*.checkpoint"))  # half a step is not kept


def test_away_from_the_main_thread_signals_are_left_alone(tmp_path):
    with ThreadPoolExecutor() as threads:
        assert threads.submit(ddpm, tmp_path).result()[1]


def test_two_processes_do_not_train_the_same_in_one_folder(tmp_path):
    """The second would write over the checkpoint of the first."""
    _, history = ddpm(tmp_path)
    (lock,) = tmp_path.glob("*.lock")
    with filelock.FileLock(lock), pytest.raises(RuntimeError, match="another process trains the"):
        ddpm(tmp_path)
    other = replace(SMALL, seed=1)
    with filelock.FileLock(lock):
        ddpm(tmp_path, other)  # has a checkpoint of its own
    held = filelock.FileLock(lock, thread_local=False, is_singleton=True)
    assert ddpm(tmp_path)[1] == history
    assert not held.is_locked


@pytest.mark.slow
def test_training_time_leaves_out_evaluation_and_whoever_reads_the_rows():
    model = DDPM.from_recipe(SMALL)
    options = {"evaluate": lambda: time.sleep(0.5) or {}, "evaluate_at": [64], "log_every": 64}
    for row in train_ddpm(model, horizons(), SMALL, **options):  # noqa: B007
        time.sleep(0.5)
    began = time.monotonic()
    list(train_ddpm(DDPM.from_recipe(SMALL), horizons(), SMALL))
    assert row["seconds"] < 0.6 + 2 * (time.monotonic() - began)


# ---- learning


@pytest.mark.slow
def test_ddpm_learns():
    _, history = ddpm(recipe=replace(SMALL, images=1600, rate=2e-3, weighting="simple"))
    # The best that a network could do that knows t but does not look at x_t: return the mean of v
    # at each pixel.
    variance = to_float(horizons()).var(0, unbiased=False).mean()
    abar = SMALL.build()[1].abar[1:]
    assert history[-1]["loss"] < 0.85 * (abar + (1 - abar) * variance).mean()


@pytest.mark.slow
def test_gan_learns_the_two_colours():
    recipe = replace(GAME, width=16, d_width=16, images=3840, batch=16, augment="none", ema=0.98)
    model, _ = gan(recipe=recipe, images=horizons(64))
    made = model.generator(torch.randn(64, 8))
    assert made[:, :, :3].mean() > 0.3 and made[:, :, -3:].mean() < -0.3  # light above, dark below


# ---- divergence


def test_a_diverged_run_stops_at_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    recipe = replace(SMALL, rate=1e12, warmup=1)
    for _ in range(2):  # a rerun says the same instead of starting from NaN
        with pytest.raises(
            FloatingPointError, match=r"loss is not finite at step \d+.*lower its rate"
        ):
            ddpm(tmp_path, recipe=recipe)
    for path in tmp_path.glob("*.checkpoint"):
        for network in load_checkpoint(path)["parts"].values():
            assert all(v.isfinite().all() for v in network.values() if isinstance(v, torch.Tensor))
    with pytest.raises(FloatingPointError, match=r"loss is not finite at step \d+\. Called"):
        gan(recipe=replace(GAME, rate=1e12))


# ---- resuming


class Stop(Exception):
    pass


def stops_at(call):
    """An evaluation that dies in its ``call``-th call."""
    calls = []

    def look():
        calls.append(1)
        if len(calls) == call:
            raise Stop
        return {"x": 1.0}

    return look


def test_ddpm_resumes_to_the_same_weights_and_rows(tmp_path):
    recipe, seen = replace(SMALL, early=0.5), []
    options = {"evaluate_at": [128, 256], "log_every": 96}
    model = DDPM.from_recipe(recipe)

    def look():
        seen.append((copy.deepcopy(model.network), copy.deepcopy(model.early)))
        return {"x": 1.0}

    history = list(train_ddpm(model, horizons(), recipe, tmp_path / "a", evaluate=look, **options))
    # The early network follows the average through the first half and stays there.
    assert len(seen) == 2 and same(*seen[0])
    assert same(model.early, seen[0][0]) and not same(model.early, model.network)
    with pytest.raises(Stop):  # dies in the second evaluation
        ddpm(tmp_path / "b", recipe, evaluate=stops_at(2), **options)
    resumed, rows = ddpm(tmp_path / "b", recipe, evaluate=lambda: {"x": 1.0}, **options)
    assert same(model.network, resumed.network) and same(model.early, resumed.early)
    assert timeless(history) == timeless(rows) and sum("x" in row for row in rows) == 2
    done, again = ddpm(
        tmp_path / "b", recipe, evaluate=stops_at(1), **options
    )  # nothing is left to do
    assert same(done.network, resumed.network) and again == rows


@pytest.mark.parametrize("game", LOSSES)
def test_gan_resumes_to_the_same_weights_and_rows(tmp_path, game):
    recipe, options = replace(GAME, game=game), {"evaluate_at": [32, 96]}
    whole, history = gan(tmp_path / "a", recipe, evaluate=lambda: {"x": 1.0}, **options)
    assert [row["images"] for row in history] == [32, 64, 96, 128]
    assert [row["images"] for row in history if "x" in row] == [32, 96]
    assert set(history[0]) >= {"d_loss", "g_loss", "r_t", "p", "seconds"}
    with pytest.raises(Stop):
        gan(tmp_path / "b", recipe, evaluate=stops_at(2), **options)
    resumed, rows = gan(tmp_path / "b", recipe, evaluate=lambda: {"x": 1.0}, **options)
    assert same(whole.generator, resumed.generator) and timeless(history) == timeless(rows)


def test_a_checkpoint_inside_a_row_goes_on_with_its_sums(tmp_path, monkeypatch):
    monkeypatch.setattr("bedgen_utils.train.CHECKPOINT_SECONDS", -1.0)  # after every step
    _, history = gan(tmp_path / "a", log_every=128)
    recipe_of_b = GAME
    generator, discriminator = recipe_of_b.build()
    training = train_gan(
        GAN(generator, GAME), discriminator, horizons(32), GAME, tmp_path / "b", log_every=128
    )
    original, steps = Loop.batch, []

    def interrupted(loop):
        steps.append(1)
        if len(steps) == 8:
            raise Stop
        return original(loop)

    monkeypatch.setattr(Loop, "batch", interrupted)
    with pytest.raises(Stop):
        list(training)
    monkeypatch.setattr(Loop, "batch", original)
    _, rows = gan(tmp_path / "b", log_every=128)
    assert timeless(rows) == timeless(history)


def test_nothing_else_resumes_from_a_checkpoint(tmp_path):
    images = horizons()
    changed = images.clone()
    changed[17, 0, 3, 3] += 1
    short = replace(SMALL, images=32)
    other_weights = DDPM.from_recipe(short)
    torch.nn.init.normal_(other_weights.network.last.weight)
    ddpm(tmp_path, short, images)
    ddpm(tmp_path, short, changed)
    ddpm(tmp_path, replace(short, rate=5e-4), images)
    ddpm(tmp_path, short, images, log_every=16)
    list(train_ddpm(other_weights, images, short, tmp_path, log_every=64))
    assert len(list(tmp_path.glob("ddpm-*.checkpoint"))) == 5


def test_the_last_image_is_part_of_a_checkpoints_name():
    images = horizons(80)
    other = images.clone()
    other[-1, 0, 0, 0] += 1
    assert Loop(SMALL, images, {}).key() != Loop(SMALL, other, {}).key()


def test_the_code_is_part_of_a_checkpoints_name(monkeypatch):
    loop = Loop(SMALL, horizons(), {})
    key = loop.key()
    monkeypatch.setattr("bedgen_utils.train.CODE", ("train", "unet"))
    assert loop.key() != key and loop.key("another schedule") != loop.key()


def test_words_about_the_code_are_no_code(tmp_path):
    def told(text):
        (tmp_path / "module.py").write_text(text)
        return statements(tmp_path / "module.py")

    plain = told("def double(x):\n    return 2 * x\n")
    assert plain == told(
        '"""A module."""\n\n\ndef double(x):\n    """Twice."""\n    return 2 * x  # x + x\n'
    )
    assert plain != told("def double(x):\n    return 3 * x\n")
    assert plain != told('def double(x):\n    x = "a string"\n    return 2 * x\n')


@pytest.mark.slow
def test_kill_in_the_middle_of_training_loses_no_more_than_a_checkpoint(tmp_path):
    """A real SIGKILL, at whatever moment it hits, then the same call again: the weights of a run
    left in peace."""
    program = textwrap.dedent("""
        import sys, torch
        sys.path.insert(0, sys.argv[2])
        import bedgen_utils.train as train
        train.CHECKPOINT_SECONDS = 0.0
        torch.set_num_threads(1)
        from test_train import SMALL, ddpm, replace
        ddpm(sys.argv[1], replace(SMALL, images=640))
    """)
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", program, str(tmp_path / "killed"), here]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("*.checkpoint")):
        assert child.poll() is None and time.monotonic() < deadline, "the child made no checkpoint"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    state = load_checkpoint(next((tmp_path / "killed").glob("*.checkpoint")))
    assert 0 < state["step"] < 40, "the kill came too late to test anything"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would differ in the last bit
    try:
        whole, _ = ddpm(tmp_path / "whole", replace(SMALL, images=640))
        resumed, _ = ddpm(tmp_path / "killed", replace(SMALL, images=640))
    finally:
        torch.set_num_threads(threads)
    assert same(whole.network, resumed.network)


def state(step, **parts):
    """What a loop saves at this step."""
    counted = {"step": step, "seconds": 0.0, "history": [], "sums": {}, "summed": 0}
    return counted | {"parts": parts}


def foreign_pickle():
    """What torch.load reads without a word, and no training wrote."""
    torch.save({"model": torch.ones(500)}, file := io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint at all", foreign_pickle(), None])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, damage):
    path = tmp_path / "c.checkpoint"
    assert load_checkpoint(path) is None
    for step in (1, 2):
        save_checkpoint(path, state(step, weights=torch.ones(500)))
    assert load_checkpoint(path)["step"] == 2
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.warns(UserWarning, match="c.checkpoint is not a whole checkpoint"):
        assert load_checkpoint(path)["step"] == 1
    path.with_suffix(".previous").write_bytes(b"nor this")
    with pytest.warns(UserWarning, match="c.previous"):
        assert load_checkpoint(path) is None


def test_a_checkpoint_that_cannot_be_written_is_not_there(tmp_path, monkeypatch):
    path = tmp_path / "c.checkpoint"
    save_checkpoint(path, state(1))

    def half(state, file):
        Path(file).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, state(2))
    with warnings.catch_warnings(action="error"):  # nothing damaged is passed over
        assert load_checkpoint(path)["step"] == 1


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_full_disk_is_named_and_the_checkpoint_before_is_kept(tmp_path):
    path = tmp_path / "c.checkpoint"
    save_checkpoint(path, state(1))
    with little_room(), pytest.raises(OSError, match="MB free .* make room") as caught:
        save_checkpoint(path, state(2, weights=torch.zeros(100_000)))
    assert str(tmp_path) in str(caught.value)
    assert [p.suffix for p in tmp_path.iterdir()] == [".previous"]
    assert load_checkpoint(path)["step"] == 1


class Bomb:
    """As in a checkpoint from a stranger: unpickled, it calls what it likes."""

    def __reduce__(self):
        return open, (Bomb.path, "w")


def test_no_checkpoint_runs_code(tmp_path):
    Bomb.path = str(tmp_path / "it ran")
    torch.save({"step": Bomb()}, tmp_path / "c.checkpoint")
    with pytest.warns(UserWarning, match="c.checkpoint is not a whole checkpoint"):
        assert load_checkpoint(tmp_path / "c.checkpoint") is None
    assert os.listdir(tmp_path) == ["c.checkpoint"]


def test_a_checkpoint_keeps_the_memory_format(tmp_path):
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "c.checkpoint", state(1, x=x))
    assert load_checkpoint(tmp_path / "c.checkpoint")["parts"]["x"].stride() == x.stride()


@pytest.mark.slow
def test_importing_the_loops_loads_no_plots_and_no_tables():
    heavy = "{'matplotlib', 'pandas'} & set(sys.modules)"
    program = f"import sys, bedgen_utils.train; print(*sorted({heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
