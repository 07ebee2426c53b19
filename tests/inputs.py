"""Small inputs that several tests share: clouds of points, images, and feature networks."""

from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bedgen_utils.features import FeatureNetwork


def gaussian(
    n: int, d: int, seed: int, mean: float = 0.0, scale: float = 1.0, dtype=torch.float64
) -> Tensor:
    """Points (n, d) from N(mean, scale² I)."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draws, dtype=dtype) * scale + mean


def smooth_images(n: int, seed: int, size: int = 32) -> Tensor:
    """Coloured images, uint8 (n, 3, size, size): noise of 4x4 pixels, enlarged."""
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    large = nn.functional.interpolate(x, size=size, mode="bicubic")
    return large.clamp(0, 255).to(torch.uint8)


class TinyNetwork(FeatureNetwork):
    """Features in 8 dimensions, in no time: what surrounds a network can be tested without one."""

    dim, sha256, resize = 8, "0123456789abcdef", "not resized"

    def __init__(self, path: str | Path | None = None):
        super().__init__()
        self.weight = nn.Parameter(gaussian(48, 8, 7, dtype=torch.float32), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        coarse = nn.functional.adaptive_avg_pool2d(images.float() / 255, 4)
        return torch.tanh(coarse.flatten(1) @ self.weight)


def random_inception(path: Path) -> Path:
    """The Inception architecture with random weights and running statistics, saved at path."""
    from torch_fidelity import feature_extractor_inceptionv3 as source

    class Blank(source.FeatureExtractorInceptionV3):
        def load_state_dict(self, *args):
            pass

    torch.save({}, path)
    torch.manual_seed(0)
    net = Blank("blank", ["2048"], feature_extractor_weights_path=str(path))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
    torch.save(net.state_dict(), path)
    return path


@contextmanager
def little_room(size: int = 4096):
    """Within, no file grows beyond ``size`` bytes, as on a disk that is full (POSIX)."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class LikeAMac(TorchDispatchMode):
    """Within, float32 data of two dimensions or more may not become float64, which the GPU of a Mac
    (MPS) does not have.
    """

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        made = op(*args, **(kwargs or {}))
        flat = torch.utils._pytree.tree_leaves(args)
        data = any(isinstance(x, Tensor) and x.dtype == torch.float32 and x.ndim > 1 for x in flat)
        if data and isinstance(made, Tensor) and made.dtype == torch.float64:
            raise TypeError(f"{op} makes float64 of float32")
        return made
