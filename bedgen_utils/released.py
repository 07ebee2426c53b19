"""Trained networks, ready to sample: those a run of this profile made, else the ones that come with the repository.

A weights file is one safetensors file. Its header says how the network was built and holds the history of its training
(the rows of ``train``), so that curves can be drawn wherever the weights are; beside the weights lie a few pictures the
network made on its way.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .checkpoint import load_tensors, save_tensors
from .diffusion import GaussianDiffusion, guided
from .gan import Generator
from .run import REPO, Run, to_uint8
from .unet import UNet

GUIDANCE = 1.35  # weight w of ``diffusion.guided``


@dataclass
class DDPM:
    """A trained denoiser with its diffusion.

    history: rows of ``train.train_ddpm``. samples: {images seen: uint8 (n, 3, S, S)}. source: where it came from.
    guide: the same network when young, which guides it (``diffusion.guided``), if it was kept.
    """

    model: nn.Module
    diffusion: GaussianDiffusion
    size: int
    history: list[dict]
    samples: dict[int, Tensor]
    source: str
    guide: nn.Module | None = None

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        steps: int = 10,
        guidance: float = GUIDANCE,
        rho: float | None = 3.0,
        eta: float = 0.0,
        order: int = 2,
        batch: int = 50,
        **options,
    ) -> Tensor:
        """``n`` pictures, uint8 (n, 3, size, size), by ``GaussianDiffusion.sample`` with its further ``options``.

        The defaults are DPM-Solver++(2M) with times spread by noise. With a guide, each step asks both networks;
        ``guidance=1`` leaves it out. The noise of picture i depends on the seed and n alone, not on the batch size. The
        times by noise begin at σ = 20 for 32 px, at twice that for twice the side: a thing that covers four times the
        pixels drowns in twice the noise (Hoogeboom et al. 2023).
        """
        alone = self.guide is None or guidance == 1
        model = self.model if alone else guided(self.model, self.guide, guidance)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, 3, self.size, self.size, generator=generator)
        device = next(self.model.parameters()).device
        parts = [
            to_uint8(
                self.diffusion.sample(
                    model, part.to(device), steps, eta, order, rho, 20 * self.size / 32, generator=generator, **options
                )
            ).cpu()
            for part in tqdm(noise.split(batch), desc="sampling", unit="batch", disable=n <= batch)
        ]
        return torch.cat(parts)


@dataclass
class GAN:
    """A trained generator.

    history: rows of ``train.train_gan``. samples: {epoch: uint8 (n, 3, S, S)}. source: where it came from.
    """

    generator: nn.Module
    size: int
    history: list[dict]
    samples: dict[int, Tensor]
    source: str

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, batch: int = 500) -> Tensor:
        """``n`` pictures, uint8 (n, 3, size, size), from latents z ~ N(0, I)."""
        z = torch.randn(n, self.generator.latent, generator=torch.Generator().manual_seed(seed))
        device = next(self.generator.parameters()).device
        return torch.cat([to_uint8(self.generator(part.to(device))).cpu() for part in z.split(batch)])


def save_weights(
    path: Path,
    network: nn.Module,
    history: list[dict],
    samples: dict[int, Tensor],
    diffusion: GaussianDiffusion | None = None,
    run: Run | None = None,
    guide: nn.Module | None = None,
) -> None:
    """Write ``network`` (in float16: half the bytes) and what is needed to build it again to ``path``.

    samples: pictures made during training, by images seen or epoch. ``diffusion`` goes with a denoiser, and perhaps the
    ``guide`` of the same shape; a generator has neither. With ``run``, the file says which code, seed and data it comes
    from.
    """
    meta = {"network": network.config, "history": history, "made_by": run.provenance() if run else {}}
    tensors = network.state_dict()
    if guide is not None:
        tensors |= {f"guide/{k}": v for k, v in guide.state_dict().items()}
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    tensors |= {f"samples/{k}": v for k, v in samples.items()}
    if diffusion is not None:
        meta["diffusion"] = {"prediction": diffusion.prediction, "variance": diffusion.variance}
        tensors["diffusion/betas"] = diffusion.betas
    save_tensors(Path(path), tensors, meta)


def load(name: str, run: Run | None = None, path: str | Path | None = None) -> DDPM | GAN:
    """Load the network called ``name``: "ddpm" or "gan".

    With ``run``, the weights that an earlier notebook of this profile made are taken if they are there. Else it is the
    released ones in ``data/weights``: for 64 px or, for a run at 32 px, those that profile ``cpu`` made. ``path`` names
    another file. Nothing is downloaded.
    Raises FileNotFoundError if no weights are found, ValueError if the file is damaged or of another kind.
    """
    if name not in ("ddpm", "gan"):
        raise ValueError(f"no network is called {name!r}; there are 'ddpm' and 'gan'")
    size = "32" if run and run.p.size == 32 else ""
    shipped = REPO / "data" / "weights" / f"{name}{size}.safetensors"
    made = run.folder / "weights" / f"{name}.safetensors" if run else None
    if path:
        path, source = Path(path), str(path)
    elif made and made.exists():
        path, source = made, f"made by the training notebook in profile {run.profile}"
    else:
        path, source = shipped, "released with the repository"
    if not path.exists():
        notebook = {"ddpm": "03_ddpm_training", "gan": "04_gan_training"}[name]
        raise FileNotFoundError(f"no weights at {path}; run notebook {notebook} first, which makes them")
    tensors, meta = load_tensors(path)
    if ("diffusion" in meta) != (name == "ddpm"):
        raise ValueError(f"{path} holds another kind of network than {name!r}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    betas = tensors.pop("diffusion/betas", None)
    marks = sorted(int(k.split("/")[1]) for k in tensors if k.startswith("samples/"))
    samples = {mark: tensors.pop(f"samples/{mark}") for mark in marks}
    of_guide = {k.removeprefix("guide/"): tensors.pop(k) for k in list(tensors) if k.startswith("guide/")}

    def built(weights):
        network = (UNet if name == "ddpm" else Generator)(**meta["network"])
        network.load_state_dict(weights)
        return network.to(device).eval().requires_grad_(False)

    network = built(tensors)
    if name == "gan":
        return GAN(network, network.size, meta["history"], samples, source)
    diffusion, guide = GaussianDiffusion(betas, **meta["diffusion"]), built(of_guide) if of_guide else None
    return DDPM(network, diffusion, network.size, meta["history"], samples, source, guide)
