"""Models sample what they should and come back from their files as they were."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from inputs import little_room
from safetensors.torch import save_file
from torch import nn

from bedgen_utils.data import to_uint8
from bedgen_utils.diffusion import GaussianDiffusion, ddim_step, ddpm_step, linear_beta_schedule
from bedgen_utils.models import DDPM, GAN, halved, load, read_weights, save, write_weights
from bedgen_utils.train import DDPMRecipe, GANRecipe

RECIPE = DDPMRecipe(size=16, widths=(32, 32), fold=2, T=50)
GAME = GANRecipe(size=16, latent=8, width=8)


def denoiser():
    """Random weights, so that its answers depend on x and t; the early network has others."""
    model = DDPM.from_recipe(RECIPE)
    model.steps, model.history, model.samples = 4, [{"images": 12, "loss": 0.5}], {}
    for network in (model.network, model.early):
        nn.init.normal_(network.last.weight, std=0.05)
        network.eval()
    return model


def test_a_ddpm_and_a_gan_need_no_dummy_arguments():
    network, diffusion = RECIPE.build()
    assert DDPM(network, diffusion).sample(2).shape == (2, 3, 16, 16)
    assert GAN(GAME.build()[0]).sample(2).shape == (2, 3, 16, 16)


def test_samples_follow_from_seed_and_number():
    model = denoiser()
    a = model.sample(5, seed=1)
    assert a.dtype == torch.uint8 and torch.equal(a, model.sample(5, seed=1))
    assert torch.equal(
        a, model.sample(5, seed=1, steps=4, guidance=1.35, clip=True)
    )  # the defaults
    for other in (
        {"seed": 2},
        {"steps": 3},
        {"guidance": 1},
        {"rho": None},
        {"sampler": ddim_step},
    ):
        assert not torch.equal(a, model.sample(5, **({"seed": 1} | other)))
    model.early = model.network  # one's own twin has nothing to teach
    assert torch.equal(model.sample(5, seed=1), model.sample(5, seed=1, guidance=1))
    model.early = lambda x, t: pytest.fail("a guidance of 1 leaves the early network out")
    model.sample(1, guidance=1)
    model.early = None
    assert torch.equal(model.sample(5, seed=1, guidance=3.0), model.sample(5, seed=1, guidance=1))


@pytest.mark.parametrize("sampler", [ddpm_step, ddim_step])
def test_the_noise_of_an_image_does_not_depend_on_the_batch(sampler):
    model = denoiser()
    a, b = (model.sample(5, seed=1, sampler=sampler, batch=n) for n in (5, 2))
    assert (a.int() - b.int()).abs().max() <= 1  # the batch size changes rounding at most


def test_each_image_has_noise_of_its_own():
    def noise_alone(step):
        return torch.cat([torch.randn(1, 3, 16, 16, generator=g) for g in step.generator])

    a, b = (denoiser().sample(4, seed=1, sampler=noise_alone, batch=n) for n in (4, 3))
    assert torch.equal(a, b) and len(a.unique(dim=0)) == 4


def test_larger_images_begin_at_more_noise():
    model, times = denoiser(), []
    model.sample(1, steps=3, callback=lambda t, x, x0: times.append(t))
    assert times == model.diffusion.timesteps(3, 3.0, 10.0)[:-1]  # 16 px: half of the 20 of 32 px


def test_gan_samples_follow_from_the_seed():
    model = GAN(GAME.build()[0].eval(), GAME)
    a = model.sample(7, seed=3)
    z = torch.randn(7, 8, generator=torch.Generator().manual_seed(3))  # standard normal, in order
    assert torch.equal(a, to_uint8(model.generator(z).detach()))
    assert a.dtype == torch.uint8 and torch.equal(a, model.sample(7, seed=3, batch=2))
    assert not torch.equal(a, model.sample(7, seed=4))


def test_an_untrained_gan_samples_by_its_running_statistics_and_goes_on_training():
    model = GAN(GAME.build()[0], GAME)  # as it is built: in training mode
    before = copy.deepcopy(model.generator.state_dict())
    assert torch.equal(model.sample(7), model.sample(7, batch=2))
    assert model.generator.training
    for key, value in model.generator.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_what_cannot_be_sampled_is_refused():
    for model in (denoiser(), GAN(GAME.build()[0].eval())):
        with pytest.raises(ValueError, match="n must be 1 or more, got 0"):
            model.sample(0)
        with pytest.raises(ValueError, match="n must be 1 or more, got -1"):
            model.sample(-1)
        with pytest.raises(ValueError, match="batch must be 1 or more, got 0"):
            model.sample(2, batch=0)
    with pytest.raises(ValueError, match="steps"):
        denoiser().sample(1, steps=0)  # 0 is no "take the default"
    with pytest.raises(TypeError):  # the noise follows from the seed
        denoiser().sample(1, generator=torch.Generator())


def test_a_diverged_network_raises_and_paints_nothing_black():
    model = denoiser()
    nn.init.constant_(model.network.last.bias, float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        model.sample(1)
    gan = GAN(GAME.build()[0].eval())
    nn.init.constant_(gan.generator.to_pixels.bias, float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        gan.sample(1)


# ---- files


def test_a_ddpm_comes_back(tmp_path):
    model, path = denoiser(), tmp_path / "below" / "ddpm.safetensors"
    model.samples = {
        12: torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        9: torch.ones(1, 3, 16, 16).byte(),
    }
    model.guidance = 2.5
    save(model, path, {"seed": 0})
    back = load("ddpm", path=path)
    assert back.recipe == RECIPE and back.history == model.history and back.steps == 4
    assert back.guidance == 2.5 and read_weights(path)[1]["made_by"] == {"seed": 0}
    assert list(back.samples) == [9, 12] and torch.equal(back.samples[9], model.samples[9])
    assert back.diffusion.identity() == model.diffusion.identity() and str(path) == back.source
    for mine, its in ((model.network, back.network), (model.early, back.early)):
        for a, b in zip(mine.state_dict().values(), its.state_dict().values(), strict=True):
            assert torch.equal(a.half().float(), b)
    assert not back.network.training and not any(q.requires_grad for q in back.network.parameters())
    model.early = None
    save(model, path)
    assert load("ddpm", path=path).early is None


def test_only_what_float16_holds_is_halved():
    whole, large, small = torch.tensor([3]), torch.tensor([1e9]), torch.tensor([0.1])
    assert [halved(x).dtype for x in (whole, large, small)] == [
        torch.int64,
        torch.float32,
        torch.float16,
    ]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    write_weights(path, {"x": torch.ones(3)}, {})
    before = path.read_bytes()

    def half(tensors, file, header):
        Path(file).write_bytes(before[:9])
        raise OSError("no space left on device")

    monkeypatch.setattr("bedgen_utils.models.save_file", half)
    with pytest.raises(OSError, match="no space"):
        write_weights(path, {"x": torch.zeros(3)}, {})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_a_gan_comes_back(tmp_path):
    model = GAN(GAME.build()[0].eval(), GAME, [{"images": 8, "p": 0.1}])
    save(model, tmp_path / "gan.safetensors")
    back = load("gan", path=tmp_path / "gan.safetensors")
    assert back.recipe == GAME and back.history == model.history
    assert (model.sample(4).int() - back.sample(4).int()).abs().max() <= 1


def test_float16_weights_paint_the_same_images(tmp_path):
    """Half the bytes may cost no more than about half a grey level on average."""
    model = denoiser()
    save(model, tmp_path / "w.safetensors")
    back = load("ddpm", path=tmp_path / "w.safetensors")
    assert (model.sample(8).float() - back.sample(8).float()).abs().mean() < 0.5


def test_weights_that_float16_cannot_hold_stay_float32(tmp_path):
    model = denoiser()
    nn.init.constant_(model.network.last.bias, 1e6)
    save(model, tmp_path / "w.safetensors")
    assert load("ddpm", path=tmp_path / "w.safetensors").network.last.bias[0] == 1e6


def test_what_is_no_weights_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "w.safetensors"
    for absent in (path, tmp_path):
        with pytest.raises(FileNotFoundError, match="notebook 03"):
            load("ddpm", path=absent)
    with pytest.raises(ValueError, match="'ddpm' and 'gan'"):
        load("vae")
    save(denoiser(), path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1000] ^= 4
    save_file({"x": torch.ones(3)}, tmp_path / "foreign.safetensors")
    foreign = (tmp_path / "foreign.safetensors").read_bytes()
    for content in (
        b"",
        b"not safetensors at all",
        whole[:200],
        whole[:-20],
        bytes(flipped),
        foreign,
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"w\.safetensors is not a whole weights file.*git checkout"
        ):
            load("ddpm", path=path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="kind 'ddpm'"):
        load("gan", path=path)
    network, diffusion = RECIPE.build()
    with pytest.raises(ValueError, match="recipe"):
        save(DDPM(network, diffusion), path)


def test_no_path_is_not_taken_for_the_released_weights():
    with pytest.raises(FileNotFoundError, match="no weights"):
        load("ddpm", path="")


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_weights_that_do_not_fit_on_the_disk_leave_nothing(tmp_path):
    with little_room(), pytest.raises(OSError, match=r"w\.safetensors cannot be written .*large"):
        save(denoiser(), tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_commit_say_which(tmp_path):
    """Whole files, but the recipe or the tensors are not those of this code."""
    path = tmp_path / "w.safetensors"
    save(GAN(GAME.build()[0], GAME), path, {"commit": "abc123"})
    tensors, header = read_weights(path)
    for key in ("sha256", "made_by"):
        header.pop(key)
    recipe, made_by = header["recipe"], {"made_by": {"commit": "abc123"}}
    fewer = dict(list(tensors.items())[1:])
    for wrong_tensors, change in (
        (tensors, {"recipe": recipe | {"newer": 1}}),
        (tensors, {"recipe": recipe | {"width": 16}}),
        (fewer, {}),
    ):
        write_weights(path, wrong_tensors, header | made_by | change)
        with pytest.raises(ValueError, match=r"w\.safetensors does not fit this code.*abc123"):
            load("gan", path=path)
    write_weights(path, tensors, {"history": []})
    with pytest.raises(ValueError, match="kind None"):
        load("gan", path=path)


def test_a_tilde_means_home_to_writers_as_to_readers(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # where a folder called ~ would be made
    save(GAN(GAME.build()[0], GAME), "~/gan.safetensors")
    assert load("gan", path="~/gan.safetensors").size == 16
    assert (tmp_path / "gan.safetensors").exists()


def test_a_run_takes_its_own_weights_before_the_released_ones(tmp_path):
    run = SimpleNamespace(folder=tmp_path, profile="smoke", p=SimpleNamespace(size=32))
    assert load("gan", run).source == "released with the repository" and load("gan", run).size == 32
    save(GAN(GAME.build()[0], GAME), tmp_path / "04" / "weights" / "gan.safetensors")
    assert load("gan", run).size == 16 and "profile smoke" in load("gan", run).source


@pytest.mark.parametrize("name", ["ddpm", "gan"])
def test_the_released_weights_say_how_they_were_made_and_are_sampled(name, tmp_path):
    model = load(name)
    assert model.size == 64 and len(model.history) > 3 and len(model.samples) > 2
    assert model.recipe.images == pytest.approx(model.history[-1]["images"], rel=0.01)
    small = load(name, SimpleNamespace(folder=tmp_path, p=SimpleNamespace(size=32)))
    assert small.size == 32
    if name == "ddpm":
        assert (model.steps, small.steps) == (20, 10)
    assert json.dumps(model.history) and copy.deepcopy(replace(model.recipe)) == model.recipe


def test_another_diffusion_than_the_recipes_is_not_saved_as_it(tmp_path):
    model = denoiser()
    model.diffusion = GaussianDiffusion(linear_beta_schedule(50))
    with pytest.raises(ValueError, match="diffusion"):
        save(model, tmp_path / "w.safetensors")
