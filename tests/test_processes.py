"""Several processes on this machine train and sample as one does, but for rounding."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest
import torch

from bedgen_utils.gan import LOSSES
from bedgen_utils.models import DDPM, GAN, load
from bedgen_utils.run import profile_numbers
from bedgen_utils.train import DDPMRecipe, GANRecipe, train_ddpm, train_gan

DENOISER = DDPMRecipe(
    size=16, widths=(32, 32), fold=2, T=20, images=96, batch=16, rate=1e-3, warmup=2
)
GAME = GANRecipe(
    size=16, latent=8, width=8, d_width=8, images=96, batch=8, gamma=1.0, gamma_every=2, p_aug=0.5
)
RECIPES = {"ddpm": DENOISER} | {
    game: replace(GAME, game=game) for game in LOSSES if game != "minimax"
}


def outcome(name, folder, leave_at=None):
    """The trained network's weights, its history and what it samples; ``leave_at``: leave the loop
    there, with a checkpoint."""
    recipe = RECIPES[name]
    # Few enough that an epoch ends inside a batch.
    images = torch.randint(256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(5))
    images = images.to(torch.uint8)
    if name == "ddpm":
        model = DDPM.from_recipe(recipe)
        rows = train_ddpm(model, images, recipe, folder, log_every=16)
    else:
        generator, discriminator = recipe.build()
        model = GAN(generator, recipe)
        rows = train_gan(model, discriminator, images, recipe, folder, log_every=16)
    history = []
    for row in rows:
        history.append({key: value for key, value in row.items() if "seconds" not in key})
        if row["images"] == leave_at:
            break
    network = model.network if name == "ddpm" else model.generator
    options = {"steps": 2} if name == "ddpm" else {}
    return network.state_dict(), history, model.sample(5, batch=2, **options)


def launch(tmp_path, processes, names, folder, leave_at=None):
    """What each of so many processes came to, a list of outcomes by name."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import torch
        torch.set_num_threads(1)
        from bedgen_utils import train
        train.best_precision = lambda: "no"
        from test_processes import outcome
        where = {folder and str(folder)!r}
        found = {{name: outcome(name, where, {leave_at}) for name in {names!r}}}
        rank = train.accelerator().process_index
        torch.save(found, {str(tmp_path)!r} + f"/{{rank}}.pt")
        """)
    )
    # On CPUs `accelerate launch` wants MPI for several processes; torch's own launcher does not.
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    call += ["--nproc-per-node", str(processes), str(program)]
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]


def assert_alike(ours, theirs):
    (weights, history, images), (other_weights, other_history, other_images) = ours, theirs
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=2e-3, atol=2e-5, msg=name)
    for row, other in zip(history, other_history, strict=True):
        assert other == pytest.approx(row, rel=1e-3, abs=1e-5)
        assert other.get("p") == row.get("p")
    assert (images.int() - other_images.int()).abs().max() <= 1


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    alone = launch(tmp_path, 1, list(RECIPES), None)[0]
    folder = tmp_path / "checkpoints"
    first, second = launch(tmp_path, 2, list(RECIPES), folder)
    for name in RECIPES:
        assert_alike(alone[name], first[name])
        for ours, theirs in zip(first[name], second[name], strict=True):  # to the bit
            assert str(ours) == str(theirs)
        for key, weight in first[name][0].items():
            assert torch.equal(weight, second[name][0][key]), (name, key)
    # one process wrote, and what it wrote is gone on with by another number of them
    assert len(list(folder.glob("*.checkpoint"))) == len(RECIPES)


@pytest.mark.slow
def test_another_number_of_processes_resumes(tmp_path):
    names = ["ddpm", "relativistic"]
    whole = launch(tmp_path, 1, names, None)[0]
    launch(tmp_path, 1, names, tmp_path / "run", leave_at=48)
    resumed = launch(tmp_path, 2, names, tmp_path / "run")[1]
    for name in names:
        assert_alike(whole[name], resumed[name])


@pytest.fixture
def command(tmp_path, monkeypatch):
    """``python -m tools.train`` of a few steps, on images of noise; gives the folder it writes."""
    from tools import train

    numbers = profile_numbers("smoke", "03") | profile_numbers("smoke", "04")
    numbers |= {"ddpm": {"size": 16, "widths": (32, 32), "fold": 2, "T": 20, "images": 32}}
    numbers |= {"gan": {"size": 16, "latent": 8, "width": 8, "d_width": 8, "images": 32}}
    numbers |= {"n_look": 4, "looks": [16, 32], "evaluate_every": 16, "steps": 2}
    noise = torch.randint(256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(train, "profile_numbers", lambda *_: numbers)
    monkeypatch.setattr(train, "load_bedrooms", lambda *_: noise.to(torch.uint8))
    monkeypatch.setattr(train, "compare", lambda made, *_, split: SimpleNamespace(distance=1.0))
    monkeypatch.setattr("bedgen_utils.run.dataset_sha256", lambda _: "0" * 64)

    def call(*arguments):
        given = ["train", *arguments, "--profile", "smoke", "--out", str(tmp_path / "trained")]
        monkeypatch.setattr(sys, "argv", given)
        train.main()
        return tmp_path / "trained"

    return call


@pytest.mark.parametrize("model", ["ddpm", "gan"])
def test_the_command_trains_evaluates_and_writes_what_load_reads(command, model):
    made = load(model, path=command(model) / f"{model}.safetensors")
    looks = [row["images"] for row in made.history if "distance" in row]
    assert looks == [16, 32] and list(made.samples) == looks
    assert made.samples[16].shape == (4, 3, 16, 16)


def test_two_commands_in_one_folder(command, tmp_path):
    """The second would write over the checkpoint of the first."""
    command("ddpm")
    (lock,) = (tmp_path / "trained").glob("*.lock")
    with filelock.FileLock(lock), pytest.raises(RuntimeError, match="another process trains"):
        command("ddpm")


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    """Not in the traceback of a call deep inside."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.train", "ddpm", "--profile", "smoke", "--out", tmp_path],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"BEDGEN_IMAGES": f"folder:{tmp_path / 'absent'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(f"error: {tmp_path / 'absent'} is not a folder\n")
    assert "Traceback" not in done.stderr


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 3))
    images = torch.zeros(20, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 16"):
        next(train_ddpm(DDPM.from_recipe(DENOISER), images, DENOISER))
