"""The classifier of scene factors: it reads what it says, and its answers are compared rightly."""

import json
import runpy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from bedgen_utils import factors
from bedgen_utils.data import load_bedrooms, load_factors, to_float
from bedgen_utils.factors import (
    FACTORS,
    FactorNet,
    combined,
    labels,
    load_classifier,
    save_classifier,
    total_variation,
    train_factors,
    view,
)
from bedgen_utils.models import read_weights, write_weights
from bedgen_utils.run import REPO


@pytest.fixture(scope="module")
def released():
    return load_classifier()


@pytest.fixture(scope="module")
def rows_of_test():
    return load_factors("test")


# ---- labels


def test_labels_name_the_classes_of_the_card(rows_of_test, monkeypatch):
    monkeypatch.setattr(factors, "load_factors", {"test": rows_of_test}.get)  # reading them is slow
    rows, found = rows_of_test, labels("test")
    assert found.shape == (len(rows), len(FACTORS)) and found.dtype == torch.int64
    for k, (name, classes) in enumerate(FACTORS.items()):
        named = [classes[i] for i in found[:200, k].tolist()]
        assert named == [view(r["camera_angle"]) if name == "view" else r[name] for r in rows[:200]]
    seen = [set(found[:, k].tolist()) for k in range(len(FACTORS))]
    assert seen == [set(range(len(classes))) for classes in FACTORS.values()]


@pytest.mark.parametrize(
    "angle, name",
    [(-20, "below -8"), (-8.01, "below -8"), (-8, "straight"), (0, "straight"), (8, "straight")]
    + [(8.01, "above 8"), (30, "above 8")],
)
def test_views_are_straight_up_to_eight_degrees(angle, name):
    assert view(angle) == name


def test_labels_follow_the_split_and_refuse_an_unknown_class(monkeypatch):
    row = {name: classes[-1] for name, classes in FACTORS.items()} | {"camera_angle": -9.0}
    asked = []
    monkeypatch.setattr(factors, "load_factors", lambda split: asked.append(split) or [dict(row)])
    assert labels("test").tolist() == [[0, *(len(c) - 1 for c in list(FACTORS.values())[1:])]]
    assert asked == ["test"]
    row["floor"] = "lava"
    with pytest.raises(ValueError, match="lava"):
        labels("test")


# ---- the classifier


def test_released_classifier_reads_rooms_it_has_not_seen(released, rows_of_test, monkeypatch):
    monkeypatch.setattr(factors, "load_factors", {"test": rows_of_test}.get)
    n = 300
    rooms, truth = load_bedrooms("rendered", "test", 32, limit=n), labels("test")[:n]
    answers = released.read(rooms)
    for k, name in enumerate(FACTORS):
        right = (answers[:, k] == truth[:, k]).float().mean().item()
        commonest = truth[:, k].bincount().max().item() / n
        # at least a third of the errors of the commonest answer gone, less two standard errors
        assert right > commonest + (1 - commonest) / 3 - 2 * (0.25 / n) ** 0.5, name
    mirrored = released.read(rooms.flip(-1))[:, 0]
    assert (mirrored == 2 - truth[:, 0]).float().mean() > 0.85


def test_larger_images_are_averaged_down_in_any_batch(released):
    rooms = load_bedrooms("rendered", "test", 32, limit=40)
    answers = released.read(rooms)
    double = rooms.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (released.read(double) == answers).all()
    assert torch.equal(released.read(rooms, batch=7), answers)
    with torch.no_grad():
        logits = released(to_float(rooms))
    assert torch.equal(torch.stack([x.argmax(1) for x in logits], 1), answers)
    assert [x.shape for x in logits] == [(40, len(classes)) for classes in FACTORS.values()]


def test_read_refuses_what_is_no_image_of_a_multiple_of_32():
    network = FactorNet(8).eval()
    for shape, dtype in (
        ((2, 3, 32, 32), torch.float32),
        ((2, 3, 48, 48), torch.uint8),
        ((0, 3, 32, 32), torch.uint8),
        ((2, 3, 64, 32), torch.uint8),
        ((2, 1, 32, 32), torch.uint8),
        ((3, 32, 32), torch.uint8),
    ):
        with pytest.raises(ValueError, match="32"):
            network.read(torch.zeros(shape, dtype=dtype))


def test_a_damaged_classifier_does_not_answer_with_the_first_class():
    network = FactorNet(8).eval()
    torch.nn.init.constant_(network.last.bias, float("nan"))
    with pytest.raises(ValueError, match="weights are damaged"):
        network.read(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_the_network_by_hand_and_larger_images_are_averaged():
    network = FactorNet(4).eval()
    images = torch.randint(0, 256, (20, 3, 64, 64), dtype=torch.uint8)
    small = to_float(images).unflatten(3, (32, 2)).unflatten(2, (32, 2)).mean((3, 5))
    conv, norm, _, *blocks = network.body[:6]
    with torch.no_grad():
        h = norm(conv(small)).clamp(min=0)
        for block in blocks:
            h = block(h)
        logits = network.last(h.flatten(1))
        torch.testing.assert_close(torch.cat(network(small), 1), logits)
    sizes = [len(classes) for classes in FACTORS.values()]
    by_hand = torch.stack([part.argmax(1) for part in logits.split(sizes, 1)], 1)
    assert (network.read(images) == by_hand).float().mean() > 0.99


def test_training_drops_three_tenths_of_what_the_last_layer_sees():
    dropout = FactorNet(4).body[-1]
    kept = dropout(torch.ones(20_000))
    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(9)), torch.ones(9))


def test_a_block_halves_the_side_beside_its_shortcut():
    block, x = factors._Halve(4, 6).eval(), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        h = F.relu(block.norm1(F.conv2d(x, block.conv1.weight, stride=2, padding=1)))
        h = block.norm2(F.conv2d(h, block.conv2.weight, padding=1))
        shortcut = F.conv2d(F.avg_pool2d(x, 2), block.shortcut.weight)
        torch.testing.assert_close(block(x), F.relu(h + shortcut))


# ---- training


def test_batches_are_passes_with_half_the_images_mirrored_and_their_views_with_them():
    n, batch = 130, 32
    images = torch.zeros(n, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(n, dtype=torch.uint8)  # its number, in the left corner
    images[:, 1, 0, 31] = 255  # right corner lit
    answers = torch.zeros(n, len(FACTORS), dtype=torch.long)
    answers[:, 0], answers[:, 1] = torch.arange(n) % 3, torch.arange(n) % 2
    draws = torch.Generator().manual_seed(1)
    batches = list(factors._batches(images, answers, 2, batch, draws))
    assert len(batches) == 2 * 4  # the rest of each pass is left out
    again, right = torch.Generator().manual_seed(1), []  # order and mirrors are drawn in turn
    for _ in range(2):
        order = torch.randperm(n, generator=again)
        for i in range(4):
            turned = torch.rand(batch, generator=again) < 0.5
            right += zip(order[i * batch : (i + 1) * batch].tolist(), turned.tolist(), strict=True)
    found, orders = [], []
    for x, y in batches:
        assert x.shape == (batch, 3, 32, 32) and x.min() == -1 and x.max() == 1
        for image, answer in zip(x, y, strict=True):
            flipped = bool(image[1, 0, 0] == 1)
            number = round(float(image[0, 0, 31 if flipped else 0] + 1) * 127.5)
            view_then = 2 - number % 3 if flipped else number % 3
            assert answer.tolist()[:3] == [view_then, number % 2, 0]
            found.append((number, flipped))
            orders.append(number)
    assert found == right
    first, second = orders[:128], orders[128:]
    assert len(set(first)) == len(set(second)) == 128 and first != second
    assert 0.35 < sum(flipped for _, flipped in found) / 256 < 0.65
    assert answers[:, 0].tolist() == [i % 3 for i in range(n)]  # the caller's are left alone


@pytest.fixture
def narrow(monkeypatch):
    """Trains a network of a sixth of the width."""
    monkeypatch.setattr(factors, "FactorNet", lambda: FactorNet(4))


def random_rooms(n):
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
    return images, torch.stack([torch.randint(len(c), (n,)) for c in FACTORS.values()], 1)


def test_training_learns_a_factor_that_is_the_brightness(narrow):
    g = torch.Generator().manual_seed(0)
    y = torch.zeros(192, len(FACTORS), dtype=torch.long)
    y[:, 0] = 1  # seen straight: so it stays when mirrored
    y[:, 1] = torch.randint(2, (192,), generator=g)
    noise = torch.randint(-40, 40, (192, 3, 32, 32), generator=g)
    images = ((80 + 90 * y[:, 1])[:, None, None, None] + noise).to(torch.uint8)
    network = train_factors(images, y, epochs=6, batch=16)
    assert (network.read(images) == y).float().mean() > 0.98
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_training_is_the_loop_one_writes_by_hand(narrow):
    images, y = random_rooms(40)
    found = train_factors(images, y, epochs=2, batch=16, seed=3)
    torch.manual_seed(3)
    network, draws = FactorNet(4), torch.Generator().manual_seed(3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, 4)
    for x, answers in factors._batches(images, y, 2, 16, draws):
        loss = sum(F.cross_entropy(h, answers[:, k]) for k, h in enumerate(network(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    for a, b in zip(found.state_dict().values(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_training_depends_on_its_seed_alone_and_wants_a_batch(narrow):
    images, y = random_rooms(16)
    before = torch.get_rng_state()
    a, b, c = (
        train_factors(images, y, epochs=1, batch=8, seed=seed).last.weight for seed in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's draws go on undisturbed
    with pytest.raises(ValueError, match="do not fill a batch of 17"):
        train_factors(images, y, batch=17)


def test_training_takes_twelve_epochs_of_64_by_seed_0_where_nothing_else_is_said(
    narrow, monkeypatch
):
    asked = []

    def batches(images, answers, epochs, batch, draws):
        asked.append((epochs, batch, draws.initial_seed()))
        return []

    monkeypatch.setattr(factors, "_batches", batches)
    train_factors(*random_rooms(64))  # as many as a batch are enough
    assert asked == [(12, 64, 0)]


# ---- files


def test_a_classifier_survives_its_file(tmp_path, released, monkeypatch):
    network = FactorNet(8).eval()
    norm = network.body[1].num_batches_tracked
    norm += 70_001  # which float16 cannot hold
    save_classifier(network, tmp_path / "net", {"commit": "abc"})
    tensors, header = read_weights(tmp_path / "net")
    assert {v.dtype for v in tensors.values()} == {torch.float16, torch.int64}
    assert (header["kind"], header["made_by"]) == ("factors", {"commit": "abc"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    again = load_classifier("~/net")
    assert again.config == {"width": 8} and not again.training
    for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert released.config == {"width": 24} and not released.training
    assert not any(p.requires_grad for p in released.parameters())


def test_a_damaged_altered_or_foreign_classifier_is_refused(tmp_path):
    good = tmp_path / "good"
    save_classifier(FactorNet(8), good)
    (tmp_path / "cut").write_bytes(good.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut is not a whole weights file"):
        load_classifier(tmp_path / "cut")
    flipped = bytearray(good.read_bytes())
    flipped[-1] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    with pytest.raises(ValueError, match="flipped is damaged"):
        load_classifier(tmp_path / "flipped")
    header = {"factors": {"view": ["up", "down"]}}
    for name, metadata in (("other", {"header": json.dumps(header)}), ("bare", None)):
        save_file(load_file(good), tmp_path / name, metadata)
        with pytest.raises(ValueError, match="train it again"):
            load_classifier(tmp_path / name)
    tensors, header = read_weights(good)
    del header["sha256"]
    wide, new = {"network": {"width": 9}}, {"network": {"depth": 3}}
    none = {k: v for k, v in header.items() if k != "network"}
    write_weights(tmp_path / "others", tensors, header | {"factors": {"view": ["up", "down"]}})
    with pytest.raises(ValueError, match="others has other factors: others is damaged or was not"):
        load_classifier(tmp_path / "others")
    for name, other in (("wide", header | wide), ("new", header | new), ("none", none)):
        write_weights(tmp_path / name, tensors, other)
        with pytest.raises(ValueError, match=f"{name} is damaged or was not made for these"):
            load_classifier(tmp_path / name)
    for nothing in (tmp_path / "absent", ""):  # "" is a variable that was never set
        with pytest.raises(FileNotFoundError, match="no classifier at"):
            load_classifier(nothing)


# ---- answers


def test_combined_gives_each_combination_its_own_number():
    names = ["floor", "view", "lamps_on"]
    columns = [list(FACTORS).index(name) for name in names]
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2))
    answers = torch.full((len(every), len(FACTORS)), 9)
    answers[:, columns] = every
    index, count = combined(answers, names)
    assert count == 18 and index.tolist() == list(range(18))  # the last name counts fastest
    index, count = combined(answers, [])
    assert count == 1 and not index.any()
    assert combined(answers[:, :5] * 0, factors.KIND)[1] == 3 * 2 * 2 * 2 * 3


def test_total_variation():
    a, b = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 1, 1, 3, 3, 3])
    assert total_variation(a, b, 4) == pytest.approx(0.5 * (0.5 + 0.25 + 0.25 + 0.5))
    assert total_variation(a, b, 4) == total_variation(b, a, 40)
    one, three = torch.zeros(1).long(), torch.arange(3)
    assert total_variation(one, three, 3) == pytest.approx(2 / 3, rel=1e-15)  # in float64
    assert total_variation(a, a.flip(0), 3) == 0
    assert total_variation(torch.zeros(3).long(), torch.ones(2).long(), 2) == 1
    for wrong in (a[:0], torch.tensor([4]), torch.tensor([-1])):
        for pair in ((a, wrong), (wrong, a)):
            with pytest.raises(ValueError, match="4 classes"):
                total_variation(*pair, 4)


def test_the_script_behind_the_released_one_starts(capsys, monkeypatch):
    script = REPO / "data" / "weights" / "train_factors.py"
    monkeypatch.setattr("sys.argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0 and "--out" in capsys.readouterr().out
