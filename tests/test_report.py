"""Figures and tables are files with rows; intervals are those of the textbooks."""

import csv
import json
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from bedgen_utils import report
from bedgen_utils.metrics import Protocol
from bedgen_utils.report import (
    mean_interval,
    numbers_from_run,
    read_manifest,
    read_study,
    save_figure,
    save_table,
    share_interval,
    show_images,
    use_style,
    write_manifest,
)
from bedgen_utils.run import start


@pytest.fixture
def run(tmp_path):
    matplotlib.use("agg")
    return start("03", "smoke", 0, tmp_path)


def figure():
    fig, ax = plt.subplots()
    show_images(ax, torch.zeros(3, 3, 4, 4, dtype=torch.uint8), 2, "title")
    return fig


def test_a_figure_is_one_png_and_one_row(run):
    protocol = Protocol(10, 20, "test", "crop", "resize", "extractor", "0" * 64)
    numbers = {"a": np.float32(0.5), "b": [torch.tensor(1), float("inf")], "c": np.arange(2)}
    save_figure(run, figure(), "fig00_x", "What it shows", numbers, protocol)
    assert os.listdir(run.own / "figures") == ["fig00_x.png"]
    row = read_manifest(run.own / "manifest.json")["fig00_x"]
    assert row["numbers"] == {"a": 0.5, "b": [1, float("inf")], "c": [0, 1]}
    assert row["file"] == "fig00_x.png" and row["protocol"]["split"] == "test"
    assert row["caption"] == "What it shows" and row["notebook"] == "03" and row["versions"]
    assert numbers_from_run(run, "fig00_x") == row["numbers"] and numbers_from_run(run, "x") is None


def test_each_figure_keeps_its_row(run):
    for name in ("b", "a", "b"):
        save_figure(run, figure(), name, f"What {name} shows")
    rows = read_manifest(run.own / "manifest.json")
    assert {key: row["caption"] for key, row in rows.items()} == {
        "a": "What a shows",
        "b": "What b shows",
    }


def test_images_lie_in_a_grid_with_one_white_pixel_between_them():
    _, ax = plt.subplots()
    show_images(ax, torch.full((3, 3, 4, 6), 9, dtype=torch.uint8), 2)
    (shown,) = (image.get_array() for image in ax.images)
    expected = np.full((11, 15, 3), 255)
    for row, column in ((0, 0), (0, 1), (1, 0)):
        expected[1 + 5 * row : 5 + 5 * row, 1 + 7 * column : 7 + 7 * column] = 9
    expected[6:10, 8:14] = shown[6:10, 8:14]  # whatever stands where there is no fourth image
    assert np.array_equal(shown, expected)


def test_a_figure_is_shown_once_with_its_caption_below(run, monkeypatch):
    shown, fig = [], figure()
    monkeypatch.setattr(report, "display", lambda *parts: shown.extend(parts))
    save_figure(run, fig, "fig00_x", "What it shows")
    assert shown[0].format == "png" and shown[1].data == "*What it shows*" and len(shown) == 2
    assert not plt.fignum_exists(fig.number)


def test_photographs_are_shown_as_jpeg(run, monkeypatch):
    shown = []
    monkeypatch.setattr(report, "display", lambda *parts: shown.extend(parts))
    fig, ax = plt.subplots()
    show_images(ax, torch.randint(256, (4, 3, 90, 90), dtype=torch.uint8), 2)
    save_figure(run, fig, "fig00_x", "")
    assert shown[0].format == "jpeg" and shown[0].data[:2] == b"\xff\xd8"


def test_the_same_figure_is_the_same_bytes(run):
    save_figure(run, figure(), "a", "")
    save_figure(run, figure(), "b", "")
    a, b = ((run.own / "figures" / f"{n}.png").read_bytes() for n in "ab")
    assert a == b
    with Image.open(run.own / "figures" / "a.png") as image:
        assert not image.info.get("Software")


def test_a_table_is_a_csv_and_is_displayed(run):
    shown = save_table(
        run, [{"x": 1, "y": 0.123456}, {"x": 2, "y": float("nan")}], "tab", "Caption"
    )
    assert "| 1 | 0.1235 |" in shown.data and shown.data.endswith("*Caption*")
    rows = list(csv.DictReader((run.own / "figures" / "tab.csv").open()))
    assert [row["x"] for row in rows] == ["1", "2"] and float(rows[0]["y"]) == 0.123456
    with pytest.raises(ValueError, match="figure and of a table"):
        save_figure(run, figure(), "tab", "")


def test_what_is_drawn_from_a_study_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "STUDIES", tmp_path)
    (tmp_path / "long.csv").write_text("seed,distance,commit\n0,1.5,00e1\n1,2,123456\n")
    table = read_study("long")
    assert table["distance"].tolist() == [1.5, 2.0] and list(table["commit"]) == ["00e1", "123456"]
    save_table(run, table, "tab", "Caption", study="long")
    study = read_manifest(run.own / "manifest.json")["tab"]["study"]
    assert study["file"] == "studies/results/long.csv" and study["commits"] == ["00e1", "123456"]
    assert len(study["sha256"]) == 64
    with pytest.raises(FileNotFoundError, match=r"missing.*studies/"):
        read_study("other")
    rows = (tmp_path / "long.csv").read_text()
    (tmp_path / "long.csv").write_text(f"{rows}<<<<<<< HEAD\n=======\n>>>>>>> theirs\n")
    with pytest.raises(ValueError, match="long.csv holds conflict markers"):
        read_study("long")


def test_half_a_manifest_is_an_error_and_never_rows_lost(tmp_path):
    path = tmp_path / "manifest.json"
    assert read_manifest(path) == {}
    write_manifest(path, {"b": {"n": 1}, "a": {"n": 2}})
    assert list(json.loads(path.read_text())) == ["a", "b"]
    whole = path.read_text()
    for damaged in ("", whole[:-9], f"<<<<<<< HEAD\n{whole}=======\n{whole}>>>>>>> other\n"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"manifest\.json is no manifest"):
            read_manifest(path)


def test_our_style_replaces_a_matplotlibrc(monkeypatch):
    matplotlib.rcParams["text.usetex"] = True
    use_style()
    assert not matplotlib.rcParams["text.usetex"] and matplotlib.rcParams["axes.grid"]


def test_intervals_are_those_of_student_and_of_clopper_and_pearson():
    values = [2.0, 4.0, 9.0]
    mean, low, high = mean_interval(values, 0.9)
    half = stats.t.ppf(0.95, 2) * np.std(values, ddof=1) / 3**0.5
    assert (mean, low, high) == pytest.approx((5, 5 - half, 5 + half))
    with pytest.raises(ValueError, match="two values"):
        mean_interval([1.0])
    share, low, high = share_interval(0, 10)
    assert (share, low) == (0, 0) and high == pytest.approx(1 - 0.025 ** (1 / 10))
    for level in (0.95, 0.8):
        tail = (1 - level) / 2
        found = share_interval(3, 10, level)[1:]
        expected = stats.beta.ppf(tail, 3, 8), stats.beta.ppf(1 - tail, 4, 7)
        assert found == pytest.approx(expected)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3, 2, (2000, 4))
    held = [low <= 3 <= high for _, low, high in map(mean_interval, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=5 * (0.05 * 0.95 / 2000) ** 0.5)
