"""Which rooms does a generator paint? A classifier of scene factors, and what its answers say about
a set of images.

A rendered room x was made from known factors y_1, …, y_K: what lies on the floor, how the wall is
painted, from where one looks. A small network with weights θ learns the probability h_k(y | x; θ)
of each class of each factor by lowering the sum of their cross-entropies,

    L(θ) = −Σ_k E_(x, y) log h_k(y_k | x; θ).

Its answer is the likeliest class. Asked about generated images it counts rooms. Its answers err: if
the classes of a factor have shares π and C[a, b] = P(answer b | class a), its answers have shares
Cᵀ π. So answers are compared with answers, those on generated images with those on test images,
never with the factors themselves. Two lists of answers are compared by the total variation distance
of their shares p and q,

    TV(p, q) = ½ Σ_c |p_c − q_c|:    0 for equal shares, 1 if no class is in both.

From N images it is above 0 for equal shares, too: print that of two sets of real images beside it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from .data import load_factors, to_float
from .models import RELEASED, halved, read_weights, write_weights
from .train import seeded

# Of the factors of the dataset those that can be told at 32 pixels: for these, a network trained on
# all factors errs at most three fifths as often as the answer that is always the commonest class.
# What stands on a shelf or hangs on a wall is not among them.
FACTORS: dict[str, list] = {
    "view": ["below -8", "straight", "above 8"],  # camera_angle in degrees; 0 looks along the bed
    "window_behind_bed": [False, True],
    "lamps_on": [False, True],
    "footboard": [False, True],
    "floor": ["carpet", "wood", "tiles"],
    "floor_colour": [
        "beige", "blue", "brown", "burgundy", "cherry", "grey", "honey", "oak", "pale", "walnut",
        "white",
    ],
    "wall_colour": [
        "beige", "blue", "burgundy", "charcoal", "cream", "gold", "grey", "lilac", "orange",
        "pale blue", "pale yellow", "sage", "tan", "taupe", "white",
    ],
    "blanket_colour": [
        "beige", "blue", "brown", "burgundy", "charcoal", "cream", "gold", "green", "grey", "navy",
        "orange", "pink", "purple", "red", "teal", "white",
    ],
}  # fmt: skip
# Whose combination we call a kind of room.
KIND = ("view", "window_behind_bed", "lamps_on", "footboard", "floor")
SIZE = 32  # pixels a side that the network sees
CLASSIFIER = RELEASED / "factors.safetensors"  # the released one


def view(angle: float) -> str:
    """The class of a camera angle in degrees."""
    return "straight" if abs(angle) <= 8 else "below -8" if angle < 0 else "above 8"


def labels(split: str) -> Tensor:
    """The classes (N, K) int64 of the rendered rooms of ``split``, in ``load_bedrooms``' order."""
    rows = [row | {"view": view(row["camera_angle"])} for row in load_factors(split)]
    return torch.tensor([[c.index(row[name]) for name, c in FACTORS.items()] for row in rows])


# ---- the classifier


class _Halve(nn.Module):
    """Half the side: two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + self.shortcut(F.avg_pool2d(x, 2)))


class FactorNet(nn.Module):
    """h: images (N, 3, 32, 32) in [-1, 1] -> logits (N, classes) for each of ``FACTORS``."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.config = {"width": width}
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *(_Halve(a * width, 2 * a * width) for a in (1, 2, 4)),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.last = nn.Linear(16 * 8 * width, sum(map(len, FACTORS.values())))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h = self.body(x.contiguous(memory_format=torch.channels_last))
        return self.last(h).split([len(c) for c in FACTORS.values()], dim=1)

    @torch.no_grad()
    def read(self, images: Tensor, batch: int = 500) -> Tensor:
        """The likeliest classes (N, K) on uint8 images (N, 3, S, S), S a multiple of 32."""
        square = images.shape[1:-1] == (3, images.shape[-1])
        if images.dtype != torch.uint8 or not square or images.shape[-1] % SIZE or not len(images):
            found = f"{images.dtype} {tuple(images.shape)}"
            what = f"uint8 images (N, 3, S, S) of a multiple of {SIZE} pixels"
            raise ValueError(f"expected {what}, got {found}")
        device, shrink = next(self.parameters()).device, images.shape[-1] // SIZE
        answers = []
        for part in images.split(batch):
            logits = self(F.avg_pool2d(to_float(part.to(device)), shrink))
            if not all(x.isfinite().all() for x in logits):  # whose argmax would be the first class
                raise ValueError("the classifier answers NaN or infinity: its weights are damaged")
            answers.append(torch.stack([x.argmax(1) for x in logits], dim=1).cpu())
        return torch.cat(answers)


def train_factors(
    images: Tensor, answers: Tensor, epochs: int = 12, batch: int = 64, seed: int = 0
) -> FactorNet:
    """A ``FactorNet`` trained on uint8 ``images`` (N, 3, 32, 32) and their ``labels`` (N, K).

    AdamW with a one-cycle rate, half the images mirrored. ValueError for fewer images than a batch.
    """
    if len(images) < batch:
        raise ValueError(f"{len(images)} images do not fill a batch of {batch}: lower batch=")
    batches = _batches(images, answers, epochs, batch, torch.Generator().manual_seed(seed))
    with seeded(seed):  # the first weights, and what is dropped
        network, steps = FactorNet(), epochs * (len(images) // batch)
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
        for x, y in tqdm(batches, total=steps, unit="batch", desc="factors"):
            losses = [F.cross_entropy(logits, y[:, k]) for k, logits in enumerate(network(x))]
            loss = sum(losses, torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return network.eval().requires_grad_(False)


def _batches(
    images: Tensor, answers: Tensor, epochs: int, batch: int, draws: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in [-1, 1] and their answers, shuffled anew each epoch, half of them mirrored."""
    view_of = list(FACTORS).index("view")
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=draws)
        for index in order[: len(images) // batch * batch].split(batch):
            x, y = to_float(images[index]), answers[index]
            mirrored = torch.rand(batch, generator=draws) < 0.5
            x[mirrored] = x[mirrored].flip(-1)
            y[mirrored, view_of] = 2 - y[mirrored, view_of]  # it is seen from the other side
            yield x, y


def save_classifier(network: FactorNet, path: str | Path, provenance: dict | None = None) -> None:
    """Write ``network`` in float16 with what it was trained for; provenance: what made it."""
    tensors = {key: halved(value) for key, value in network.state_dict().items()}
    header = {"kind": "factors", "network": network.config, "factors": FACTORS}
    write_weights(path, tensors, header | {"made_by": provenance or {}})


def load_classifier(path: str | Path | None = None) -> FactorNet:
    """The released classifier, made by ``data/weights/train_factors.py``, or the one at ``path``.

    FileNotFoundError if there is none, ValueError if it is damaged or altered or its factors are
    not ours.
    """
    path = Path(CLASSIFIER if path is None else path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no classifier at {path}; git checkout brings the released one back"
        )
    try:
        tensors, header = read_weights(path)
        if header.get("factors") != FACTORS:
            raise ValueError(f"{path} has other factors")
        network = FactorNet(**header["network"])
        network.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        again = f"{path.name} is damaged or was not made for these factors; train it again"
        raise ValueError(f"{error}: {again}") from error
    return network.eval().requires_grad_(False)


# ---- what its answers say


def combined(answers: Tensor, names: Sequence[str]) -> tuple[Tensor, int]:
    """One class for each combination of those of ``names``: (N,) int64; and how many there are."""
    index, count = torch.zeros(len(answers), dtype=torch.long), 1
    for name in names:
        k, classes = list(FACTORS).index(name), len(FACTORS[name])
        index, count = index * classes + answers[:, k], count * classes
    return index, count


def total_variation(a: Tensor, b: Tensor, classes: int) -> float:
    """TV of the shares of ``classes`` classes in two lists of answers (N,) and (M,).

    ValueError for an empty list, whose shares are 0/0, or an answer that is none of the classes.
    """
    for answers in (a, b):
        if not len(answers) or not 0 <= int(answers.min()) <= int(answers.max()) < classes:
            raise ValueError(f"expected one answer or more, each one of {classes} classes")
    p, q = (torch.bincount(x, minlength=classes).double() / len(x) for x in (a, b))
    return 0.5 * (p - q).abs().sum().item()
