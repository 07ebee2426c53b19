"""The classifier of scene factors: it reads what it says it reads, and its answers are compared rightly."""

import pytest
import torch

from bedgen_utils.checkpoint import load_tensors, save_tensors
from bedgen_utils.data import load_bedrooms, load_factors
from bedgen_utils.factors import FACTORS, combined, labels, load_classifier, total_variation, train_factors
from bedgen_utils.run import REPO


def test_labels_name_the_classes_of_the_card():
    rows, found = load_factors("test"), labels("test")
    assert found.shape == (len(rows), len(FACTORS)) and found.min() == 0
    for k, (name, classes) in enumerate(FACTORS.items()):
        named = [classes[i] for i in found[:200, k].tolist()]
        if name == "view":
            sides = [0 if abs(r["camera_angle"]) <= 8 else r["camera_angle"] for r in rows[:200]]
            assert named == ["straight" if s == 0 else "above 8" if s > 0 else "below -8" for s in sides]
        else:
            assert named == [r[name] for r in rows[:200]]


def test_released_classifier_reads_rooms_it_has_not_seen():
    network, n = load_classifier(), 600
    rooms, truth = load_bedrooms("rendered", "test", 32, limit=n), labels("test")[:n]
    answers = network.read(rooms)
    for k, name in enumerate(FACTORS):
        right = (answers[:, k] == truth[:, k]).float().mean().item()
        commonest = truth[:, k].bincount().max().item() / n
        # at least a third of the errors of the commonest answer gone, less two standard errors
        assert right > commonest + (1 - commonest) / 3 - 2 * (0.25 / n) ** 0.5, name
    mirrored = network.read(rooms.flip(-1))[:, 0]
    assert (mirrored == 2 - truth[:, 0]).float().mean() > 0.85
    double = rooms.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (network.read(double) == answers).float().mean() > 0.999  # 64 pixels are halved


def test_read_refuses_what_is_no_picture_of_a_multiple_of_32():
    network = load_classifier()
    for shape, dtype in (((2, 3, 32, 32), torch.float32), ((2, 3, 48, 48), torch.uint8), ((0, 3, 32, 32), torch.uint8)):
        with pytest.raises(ValueError, match="32"):
            network.read(torch.zeros(shape, dtype=dtype))


def test_training_learns_a_factor_that_is_the_brightness():
    g = torch.Generator().manual_seed(0)
    y = torch.zeros(256, len(FACTORS), dtype=torch.long)
    y[:, 0], y[:, 1] = 1, torch.randint(2, (256,), generator=g)  # seen straight: so it stays when mirrored
    images = (80 + 90 * y[:, 1])[:, None, None, None] + torch.randint(-40, 40, (256, 3, 32, 32), generator=g)
    network = train_factors(images.to(torch.uint8), y, epochs=6, batch=32)
    assert (network.read(images.to(torch.uint8)) == y).all()


def test_combined_gives_each_combination_its_own_number():
    names = ["floor", "view", "lamps_on"]
    columns = [list(FACTORS).index(name) for name in names]
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2))
    answers = torch.zeros(len(every), len(FACTORS), dtype=torch.long)
    answers[:, columns] = every
    index, count = combined(answers, names)
    assert count == 18 and sorted(index.tolist()) == list(range(18))


def test_total_variation():
    a, b = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 1, 1, 3, 3, 3])
    assert total_variation(a, b, 4) == pytest.approx(0.5 * (0.5 + 0.25 + 0.25 + 0.5))
    assert total_variation(a, a.flip(0), 4) == 0
    assert total_variation(torch.zeros(3).long(), torch.ones(2).long(), 2) == 1


def test_a_damaged_or_foreign_classifier_is_refused(tmp_path):
    path = REPO / "data" / "weights" / "factors.safetensors"
    (tmp_path / "cut").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut"):
        load_classifier(tmp_path / "cut")
    tensors, meta = load_tensors(path)
    save_tensors(tmp_path / "other", tensors, meta | {"factors": {"view": ["up", "down"]}})
    for foreign in (tmp_path / "other", path.with_name("gan.safetensors")):
        with pytest.raises(ValueError, match="train it again"):
            load_classifier(foreign)
