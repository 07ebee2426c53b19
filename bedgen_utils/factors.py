"""Which rooms does a generator paint? A classifier of scene factors, and what its answers say about a set of pictures.

A rendered room x was made from known factors y_1, …, y_K: what lies on the floor, how the wall is painted, from where
one looks. A small network with weights theta learns the probability h_k(y | x; theta) of each class of each factor by
lowering the sum of their cross-entropies,

    L(theta) = - sum_k E_(x, y) log h_k(y_k | x; theta).

Its answer is the likeliest class. Asked about generated pictures it counts rooms. Its answers err: if the classes of a
factor have shares pi and C[a, b] = P(answer b | class a), its answers have shares C^T pi. So answers are compared with
answers, those on generated pictures with those on test pictures, never with the factors themselves. Two lists of
answers are compared by the total variation distance of their shares p and q,

    TV(p, q) = 1/2 sum_c |p_c - q_c|:    0 for equal shares, 1 if no class is in both.

From N pictures it is above 0 for equal shares, too: print that of two sets of real pictures beside it.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from .checkpoint import load_tensors
from .data import load_factors
from .run import REPO, to_float

# Of the factors of the dataset those that can be told at 32 pixels: a network asked for all removed at least two fifths
# of the errors of the commonest answer for these. What stands on a shelf or hangs on a wall is not among them.
FACTORS = {
    "view": ["below -8", "straight", "above 8"],  # camera_angle in degrees; 0 looks along the bed
    "window_behind_bed": [False, True],
    "lamps_on": [False, True],
    "footboard": [False, True],
    "floor": ["carpet", "wood", "tiles"],
    "floor_colour": ["beige", "blue", "brown", "burgundy", "cherry", "grey", "honey", "oak", "pale", "walnut", "white"],
    "wall_colour": [
        "beige", "blue", "burgundy", "charcoal", "cream", "gold", "grey", "lilac", "orange", "pale blue",
        "pale yellow", "sage", "tan", "taupe", "white",
    ],
    "blanket_colour": [
        "beige", "blue", "brown", "burgundy", "charcoal", "cream", "gold", "green", "grey", "navy", "orange", "pink",
        "purple", "red", "teal", "white",
    ],
}  # fmt: skip
KIND = ("view", "window_behind_bed", "lamps_on", "footboard", "floor")  # whose combination we call a kind of room
SIZE = 32  # pixels a side that the network sees


def labels(split: str) -> Tensor:
    """The factors of ``split`` ("train" or "test") of the rendered rooms: (N, K) int64, the index of each class."""
    rows = load_factors(split)
    for row in rows:
        angle = row["camera_angle"]
        row["view"] = "straight" if abs(angle) <= 8 else "below -8" if angle < 0 else "above 8"
    return torch.tensor([[classes.index(row[name]) for name, classes in FACTORS.items()] for row in rows])


class _Halve(nn.Module):
    """Half the side: two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_out, 3, 2, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.norm2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + self.shortcut(F.avg_pool2d(x, 2)))


class FactorNet(nn.Module):
    """h: pictures (N, 3, 32, 32) in [-1, 1] -> a tuple of logits, (N, classes) for each of ``FACTORS``."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.config = {"width": width}
        stages = [width, 2 * width, 4 * width, 8 * width]
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *(_Halve(a, b) for a, b in zip(stages[:-1], stages[1:], strict=True)),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.last = nn.Linear(16 * stages[-1], sum(map(len, FACTORS.values())))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h = self.body(x.contiguous(memory_format=torch.channels_last))
        return self.last(h).split([len(c) for c in FACTORS.values()], dim=1)

    @torch.no_grad()
    def read(self, images: Tensor, batch: int = 500) -> Tensor:
        """The likeliest class of each factor on uint8 pictures (N, 3, S, S), S a multiple of 32: (N, K) int64."""
        if images.dtype != torch.uint8 or images.shape[-1] % SIZE or not len(images):
            raise ValueError(f"expected uint8 pictures of a multiple of {SIZE} pixels, got {tuple(images.shape)}")
        device = next(self.parameters()).device

        def answers(part):
            small = F.avg_pool2d(to_float(part.to(device)), images.shape[-1] // SIZE)
            return torch.stack([logits.argmax(1) for logits in self(small)], dim=1).cpu()

        return torch.cat([answers(part) for part in images.split(batch)])


def train_factors(images: Tensor, answers: Tensor, epochs: int = 12, batch: int = 64, seed: int = 0) -> FactorNet:
    """A ``FactorNet`` trained on uint8 ``images`` (N, 3, 32, 32) and their ``labels`` (N, K); AdamW, one-cycle rate."""
    torch.manual_seed(seed)
    network = FactorNet()
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    draws = torch.Generator().manual_seed(seed)
    with tqdm(total=steps * batch, unit="image", desc="factors") as bar:
        for _ in range(epochs):
            for index in torch.randperm(len(images), generator=draws)[: len(images) // batch * batch].split(batch):
                x, y = to_float(images[index]), answers[index].clone()
                mirrored = torch.rand(batch, generator=draws) < 0.5
                x[mirrored] = x[mirrored].flip(-1)
                y[mirrored, 0] = 2 - y[mirrored, 0]  # a mirrored room is seen from the other side
                loss = sum(F.cross_entropy(logits, y[:, k]) for k, logits in enumerate(network(x)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                bar.update(batch)
    return network.eval().requires_grad_(False)


def load_classifier(path: str | Path | None = None) -> FactorNet:
    """The released classifier, made by ``data/weights/train_factors.py``, or the one at ``path``.

    Raises ValueError if the file is damaged or its factors are not ours.
    """
    tensors, meta = load_tensors(Path(path) if path else REPO / "data" / "weights" / "factors.safetensors")
    if meta.get("factors") != FACTORS:
        raise ValueError(f"{path or 'the released classifier'} was not trained for these factors; train it again")
    network = FactorNet(**meta["network"])
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def combined(answers: Tensor, names: Sequence[str]) -> tuple[Tensor, int]:
    """One class for each combination of the classes of ``names``: (N,) int64, and how many combinations there are."""
    index, count = torch.zeros(len(answers), dtype=torch.long), 1
    for name in names:
        k, classes = list(FACTORS).index(name), len(FACTORS[name])
        index, count = index * classes + answers[:, k], count * classes
    return index, count


def total_variation(a: Tensor, b: Tensor, classes: int) -> float:
    """TV of the shares of ``classes`` classes in two lists of answers (N,) and (M,)."""
    p, q = (torch.bincount(x, minlength=classes).double() / len(x) for x in (a, b))
    return 0.5 * (p - q).abs().sum().item()
