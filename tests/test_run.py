"""A run knows its numbers, its folder and where its results come from."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from bedgen_utils import run as runs
from bedgen_utils.data import load_bedrooms
from bedgen_utils.run import PROFILES, REPO, code_version, profile_numbers, start
from bedgen_utils.sources import dataset_sha256
from bedgen_utils.train import DDPMRecipe, GANRecipe

NOTEBOOKS = sorted(path.name[:2] for path in (REPO / "notebooks" / "py").glob("*.py"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_numbers_and_recipes_for_every_notebook(profile):
    for notebook in NOTEBOOKS:
        numbers = profile_numbers(profile, notebook)
        assert numbers["minutes"] > 0 and numbers["size"] in (32, 64)
        assert (
            DDPMRecipe(**numbers["ddpm"]).size
            == GANRecipe(**numbers["gan"]).size
            == numbers["size"]
        )
        wanted = set(profile_numbers("cpu", notebook))
        assert set(numbers) == wanted, "a name that profile cpu does not know is a typing error"


def test_what_a_profile_leaves_out_comes_from_cpu():
    cpu, smoke = profile_numbers("cpu", "03"), profile_numbers("smoke", "03")
    assert smoke["n_look"] != cpu["n_look"] and smoke["guide_weights"] != cpu["guide_weights"]
    assert smoke["ddpm"]["images"] == 96 and smoke["ddpm"]["rate"] == cpu["ddpm"]["rate"]
    gpu, lsun = profile_numbers("gpu", "04"), profile_numbers("lsun", "04")
    assert (
        lsun == gpu | {"source": "hub"}
        and gpu["n_final"] != profile_numbers("cpu", "04")["n_final"]
    )
    with pytest.raises(ValueError, match="smoke, cpu, released, gpu, lsun"):
        profile_numbers("fast", "03")
    with pytest.raises(ValueError, match=r"notebook '3', as it has for '01'.*\[cpu.nbNN\]"):
        runs.how_long("3", "cpu")


def test_images_of_ones_own(tmp_path, monkeypatch):
    """$BEDGEN_IMAGES names a source and its path in one word, for every profile."""
    for i in range(3):
        Image.new("RGB", (40, 30), (80 * i, 20, 20)).save(tmp_path / f"{i}.png")
    before = start("01", "smoke", 0, tmp_path / "runs").provenance()["data_sha256"]
    monkeypatch.setenv("BEDGEN_IMAGES", f"folder:{tmp_path}")
    run = start("01", "smoke", 0, tmp_path / "runs")
    assert run.provenance()["data_sha256"] == dataset_sha256("folder", tmp_path) != before
    own = load_bedrooms(run.p.source, "all", 8)
    assert torch.equal(own, load_bedrooms("folder", "all", 8, path=tmp_path)) and len(own) == 3


def test_start_seeds_and_makes_the_folder(tmp_path):
    a = start("03", "smoke", 5, tmp_path)
    drawn = torch.randn(2), np.random.rand(2)
    start("03", "smoke", 5, tmp_path)
    assert torch.equal(drawn[0], torch.randn(2)) and (drawn[1] == np.random.rand(2)).all()
    assert a.own == tmp_path / "03" and a.own.is_dir() and a.p.ddpm["batch"] == 16
    for seed in (-1, 2**32, 1.5, "0"):
        with pytest.raises(ValueError, match="seed"):
            start("03", "smoke", seed, tmp_path)


def test_a_profile_that_is_chosen_wins(tmp_path, monkeypatch, capsys):
    """None: what the set-up cell says where it fetched the course, else cpu."""
    monkeypatch.delenv("BEDGEN_PROFILE", raising=False)
    assert start("03", None, 0, tmp_path).profile == "cpu"
    monkeypatch.setenv("BEDGEN_PROFILE", "released")
    run = start("03", out=tmp_path)
    assert run.profile == "released" and run.p.train is False
    assert start("01", "smoke", 0, tmp_path).profile == "smoke"
    minutes = {name: profile_numbers(name, "03")["minutes"] for name in ("cpu", "released")}
    assert capsys.readouterr().out.splitlines() == [
        *(f"Profile {name}: about {n:g} minutes on two cores." for name, n in minutes.items()),
        "Profile smoke: about 12 seconds on two cores.",
    ]
    monkeypatch.setenv("BEDGEN_PROFILE", "fast")
    with pytest.raises(ValueError, match="'fast' is unknown"):
        start("01", None, 0, tmp_path)


def test_a_gpu_is_offered_to_whoever_has_not_chosen(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BEDGEN_PROFILE", "released")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    start("03", None, 0, tmp_path)
    said = capsys.readouterr().out
    begin = r"Profile released: about [\d.]+ minutes on two cores\. This machine has a GPU"
    assert re.match(begin, said)
    assert '(Tesla T4): choose profile = "gpu"' in said and said.count("\n") == 1
    start("03", "released", 0, tmp_path)
    assert "GPU" not in capsys.readouterr().out


def test_a_tilde_in_out_means_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert start("01", "smoke", 0, "~/rooms").folder == tmp_path / "rooms"


def test_provenance_says_code_seed_data_and_machine(tmp_path):
    p = start("03", "smoke", 5, tmp_path).provenance()
    assert (p["notebook"], p["profile"], p["seed"]) == ("03", "smoke", 5)
    assert len(p["data_sha256"]) == 64 and p["versions"]["torch"] == torch.__version__
    assert p["processor"] and p["device"]


def test_the_device_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    for cuda, mps, name in ((True, False, "H100"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert runs.device() == name


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True
    )


def test_only_our_own_repositorys_commit_is_ours(tmp_path, monkeypatch):
    """A copy without .git inside somebody else's repository must not take that one's commit."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    inner = tmp_path / "copy"
    inner.mkdir()
    monkeypatch.setattr(runs, "REPO", inner)
    assert code_version() == "unknown"
    git(inner, "init", "-q")
    (inner / "bedgen_utils").mkdir()
    (inner / "bedgen_utils" / "a.py").write_text("1")
    git(inner, "add", ".")
    git(inner, "commit", "-q", "-m", "ours")
    assert len(code_version()) == 12
    (inner / "bedgen_utils" / "a.py").write_text("2")
    assert code_version().endswith("+changes")
    (inner / "bedgen_utils" / "a.py").write_text("1")
    (inner / "figures").mkdir()
    assert len(code_version()) == 12  # what a run writes does not make it other code


def test_a_hook_of_another_repository_does_not_make_its_commit_ours(tmp_path, monkeypatch):
    """Git names its repository in the variables of a hook."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        git(tmp_path, "init", "-q", str(folder))
        git(folder, "commit", "-q", "--allow-empty", "-m", folder.name)
    monkeypatch.setattr(runs, "REPO", ours)
    right = code_version()
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))
    assert code_version() == right != "unknown"


@pytest.mark.slow
def test_a_run_outside_git_is_unknown(tmp_path):
    shutil.copytree(REPO / "bedgen_utils", tmp_path / "bedgen_utils")
    program = "import bedgen_utils.run as r; print(r.REPO, r.code_version())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path), "unknown"]
