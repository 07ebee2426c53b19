"""Trained networks, ready to sample: one's own, those a run of this profile made, or the released
ones.

A weights file is one safetensors file. Its header holds the recipe the network was built and
trained by, the history of its training (the rows of ``train``), how it is sampled by default, and a
checksum of its tensors; beside the weights lie a few images the network made on its way.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from .data import to_uint8
from .diffusion import GaussianDiffusion, Model, Sampler, dpmpp_2m_step, guided
from .run import REPO, Run
from .sources import replace_atomically
from .train import DDPMRecipe, GANRecipe

RELEASED = REPO / "data" / "weights"
NOTEBOOKS = {"ddpm": "03", "gan": "04"}  # where a run makes them


@dataclass
class DDPM:
    """A denoiser with its diffusion.

    early: the same network as it was early in training, which guides the other
    (``diffusion.guided``), if it was kept. recipe: how it was built and trained. history: rows of
    ``train.train_ddpm``. samples: {images seen: uint8 (n, 3, S, S)}. source: where it came from.
    steps, guidance: what ``sample`` takes by default.
    """

    network: nn.Module
    diffusion: GaussianDiffusion
    early: nn.Module | None = None
    recipe: DDPMRecipe | None = None
    history: list[dict] = field(default_factory=list)
    samples: dict[int, Tensor] = field(default_factory=dict)
    source: str = ""
    steps: int = 10
    guidance: float = 1.35

    @classmethod
    def from_recipe(cls, recipe: DDPMRecipe) -> "DDPM":
        """An untrained one, with its early network."""
        network, diffusion = recipe.build()
        return cls(network, diffusion, copy.deepcopy(network), recipe)

    @property
    def size(self) -> int:
        """Pixels a side of its images."""
        return self.recipe.size if self.recipe else self.network.size

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: Sampler = dpmpp_2m_step,
        rho: float | None = 3.0,
        batch: int = 50,
        clip: bool = True,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """``n`` images, uint8 (n, 3, size, size); ValueError for fewer than one.

        sampler, clip and callback: as in ``GaussianDiffusion.sample``, one call for each ``batch``
        of images. steps and rho: as in ``GaussianDiffusion.timesteps``, with its ValueError.

        The defaults are DPM-Solver++(2M) with times spread by noise. With an early network, each
        step asks both; ``guidance=1`` leaves it out. The noise of image i depends on seed and n
        alone, not on the batch size. The times by noise begin at σ = 20 for 32 px, at twice that
        for twice the side: a thing that covers four times the pixels drowns in twice the noise
        (Hoogeboom et al. 2023).
        """
        _require_some(n, batch)
        guidance = self.guidance if guidance is None else guidance
        model: Model = self.network
        if self.early is not None and guidance != 1:
            model = guided(self.network, self.early, guidance)
        steps = self.steps if steps is None else steps
        times = self.diffusion.timesteps(steps, rho, 20 * self.size / 32)
        device = next(self.network.parameters()).device
        x_T = torch.randn(n, 3, self.size, self.size, generator=torch.Generator().manual_seed(seed))
        of_image = [torch.Generator().manual_seed(seed * 1_000_003 + 1 + i) for i in range(n)]

        def make(some: Tensor) -> Tensor:
            noise, draws = x_T[some].to(device), [of_image[i] for i in some]
            x = self.diffusion.sample(
                model, noise, sampler, times, clip=clip, generator=draws, callback=callback
            )
            return to_uint8(x).cpu()

        return _shared_out(n, batch, make)


@dataclass
class GAN:
    """A generator. The rest as in ``DDPM``; history: rows of ``train.train_gan``."""

    generator: nn.Module
    recipe: GANRecipe | None = None
    history: list[dict] = field(default_factory=list)
    samples: dict[int, Tensor] = field(default_factory=dict)
    source: str = ""

    @property
    def size(self) -> int:
        """Pixels a side of its images."""
        return self.generator.size

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, batch: int = 500) -> Tensor:
        """``n`` images, uint8 (n, 3, size, size), from latents z ~ N(0, I); ValueError for fewer
        than one.
        """
        _require_some(n, batch)
        draws = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.generator.latent, generator=draws)
        device = next(self.generator.parameters()).device
        training = self.generator.training

        def make(some: Tensor) -> Tensor:
            return to_uint8(self.generator(z[some].to(device))).cpu()

        self.generator.eval()  # else an image would depend on its batch, and leave its traces
        try:
            return _shared_out(n, batch, make)
        finally:
            self.generator.train(training)


def _require_some(n: int, batch: int) -> None:
    if n < 1:
        raise ValueError(f"n must be 1 or more, got {n}")
    if batch < 1:
        raise ValueError(f"batch must be 1 or more, got {batch}")


def _shared_out(n: int, batch: int, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Images 0 … n − 1 by ``make(indices)`` in batches. Of several processes, which must all come
    here, each makes its part, and all get all.
    """
    together = dist.is_available() and dist.is_initialized()
    rank, processes = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    batches = torch.arange(n).split(batch)
    own = batches[rank::processes]
    long = len(own) > 1 and rank == 0
    made = [make(some) for some in (tqdm(own, "sampling", unit="batch") if long else own)]
    if not together:
        return torch.cat(made)
    of_all: list[list[Tensor]] = [[] for _ in range(processes)]
    dist.all_gather_object(of_all, made)
    return torch.cat([of_all[i % processes][i // processes] for i in range(len(batches))])


# ---- files


def save(model: DDPM | GAN, path: str | Path, provenance: dict | None = None) -> None:
    """Write ``model`` and what is needed to build it again; weights in float16 where they fit.

    provenance: which code, seed and data it comes from (``Run.provenance``). ValueError for a model
    without a recipe.
    """
    if model.recipe is None:
        raise ValueError("only a model with a recipe can be built again: give it one (recipe=…)")
    networks: dict[str, nn.Module | None]
    header: dict[str, Any] = {"recipe": asdict(model.recipe), "history": model.history}
    if isinstance(model, DDPM):
        if model.recipe.build()[1].identity() != model.diffusion.identity():
            raise ValueError("the model's diffusion is not the one that its recipe would build")
        networks = {"network": model.network, "early": model.early}
        header |= {"kind": "ddpm", "steps": model.steps, "guidance": model.guidance}
    else:
        networks = {"generator": model.generator}
        header |= {"kind": "gan"}
    tensors = {
        f"{name}/{key}": halved(value)
        for name, network in networks.items()
        if network is not None
        for key, value in network.state_dict().items()
    }
    tensors |= {f"samples/{mark}": images.contiguous() for mark, images in model.samples.items()}
    write_weights(path, tensors, header | {"made_by": provenance or {}})


def load(name: str, run: Run | None = None, path: str | Path | None = None) -> DDPM | GAN:
    """Load the model called ``name``: "ddpm" or "gan". Nothing is downloaded.

    With ``run``, the weights that an earlier notebook of this run made are taken if they are there.
    Else it is the released ones in ``data/weights``: for 64 px or, for a run at 32 px, those that
    profile ``cpu`` made. ``path`` names another file. FileNotFoundError if no weights are found,
    ValueError if the file is damaged or of another kind.
    """
    if name not in NOTEBOOKS:
        raise ValueError(f"no model is called {name!r}; there are 'ddpm' and 'gan'")
    path, source = _find(name, run, path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; notebook {NOTEBOOKS[name]} makes them")
    tensors, header = read_weights(path)
    if (kind := header.get("kind")) != name:
        raise ValueError(f"{path} holds a model of kind {kind!r} and not {name!r}")
    try:
        return _built(name, tensors, header, source)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} does not fit this code ({error!r:.200}): it was written by another commit, "
            f"{header.get('made_by', {}).get('commit', 'unknown')}; take that one, or train anew"
        ) from error


def _built(name: str, tensors: dict[str, Tensor], header: dict, source: str) -> DDPM | GAN:
    """The model that a weights file holds. KeyError, TypeError, RuntimeError or ValueError where
    its recipe or its tensors are not those of this code.
    """
    marks = sorted(int(key.split("/")[1]) for key in tensors if key.startswith("samples/"))
    shared = {
        "history": header["history"],
        "samples": {mark: tensors[f"samples/{mark}"] for mark in marks},
        "source": source,
    }
    if name == "gan":
        gan_recipe = GANRecipe(**header["recipe"])
        generator, _ = gan_recipe.build()
        return GAN(_filled(generator, tensors, "generator"), gan_recipe, **shared)
    recipe = DDPMRecipe(**header["recipe"])
    network, diffusion = recipe.build()
    has_early = any(key.startswith("early/") for key in tensors)
    early = _filled(copy.deepcopy(network), tensors, "early") if has_early else None
    network = _filled(network, tensors, "network")
    defaults = {"steps": header["steps"], "guidance": header["guidance"]}
    return DDPM(network, diffusion, early, recipe, **shared, **defaults)


def _find(name: str, run: Run | None, path: str | Path | None) -> tuple[Path, str]:
    """Where the weights lie, and in words."""
    if path is not None:  # "" is a variable that was never set, and no wish for ours
        return Path(path).expanduser(), str(path)
    if run:
        made = run.folder / NOTEBOOKS[name] / "weights" / f"{name}.safetensors"
        if made.exists():
            return made, f"made by the training notebook in profile {run.profile}"
    size = "32" if run and run.p.size == 32 else ""
    return RELEASED / f"{name}{size}.safetensors", "released with the repository"


def write_weights(path: str | Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Write ``tensors`` with a ``header`` of what JSON holds, and a checksum of them."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(header | {"sha256": _checksum(tensors)})
    try:
        replace_atomically(path, lambda temporary: save_file(tensors, temporary, {"header": text}))
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}); nothing of it is left there") from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What ``write_weights`` wrote; ValueError with the file's name where it is cut or altered."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {})["header"])
        if header["sha256"] != _checksum(tensors):
            raise ValueError("its tensors are not those that were saved")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a whole weights file of this project ({error}): take it from the "
            "repository again (git checkout) or make it anew"
        ) from error
    return tensors, header


def _filled(network: nn.Module, tensors: dict[str, Tensor], name: str) -> nn.Module:
    """``network`` with the weights saved as ``name``, ready to sample."""
    start = f"{name}/"
    weights = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    network.load_state_dict(weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device).eval().requires_grad_(False)


def halved(value: Tensor) -> Tensor:
    """``value`` on the CPU, in float16 if it is floating and nothing in it becomes infinite."""
    value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    half = value.half()
    return half if value.is_floating_point() and half.isfinite().all() else value


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
