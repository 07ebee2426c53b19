"""The comparison of two runs calls same what is the same, and outside what is."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bedgen_utils.run import REPO

sys.path.insert(0, str(REPO / "tools"))
import compare as tool  # noqa: E402


def row(numbers, **others):
    made_by = {"profile": "cpu", "seed": 0, "data_sha256": "d", "commit": "c"}
    return {"numbers": numbers} | made_by | others


def kinds(published, new, seeds=None):
    verdicts = tool.compare({"fig": row(published)}, {"fig": row(new)}, seeds or {})
    return {v.name: v.kind for v in verdicts}


def test_each_number_is_found_and_judged():
    published = {
        "a": 1.0,
        "b": [1, {"c": 2.0}],
        "text": "x",
        "nan": float("nan"),
        "kernel": 3.0,
        "kernel_error": 0.1,
    }
    new = {
        "a": 1.0 + 1e-8,
        "b": [1, {"c": 2.5}],
        "text": "y",
        "nan": float("nan"),
        "kernel": 3.2,
        "kernel_error": 0.1,
    }
    found = kinds(published, new)
    assert found == {
        "a": "same", "b[0]": "same", "b[1].c": "unjudged", "nan": "same",
        "kernel": "within", "kernel_error": "same",
    }  # fmt: skip
    assert kinds(published, new | {"kernel": 3.4})["kernel"] == "outside"  # 0.277 is allowed
    # t sqrt(2) s with t = 12.71 for two runs, s = their difference / sqrt(2): 0.5 is allowed below
    assert kinds(published, new, {"fig: b[1].c": [2.0, 2.039]})["b[1].c"] == "outside"
    assert kinds(published, new, {"fig: b[1].c": [2.0, 2.040]})["b[1].c"] == "within"


def test_times_are_not_judged():
    assert kinds({"training seconds": 1.0, "x": 1}, {"training seconds": 9.0, "x": 1}) == {
        "x": "same"
    }


def test_seeds_hold_the_difference_of_two_runs_as_often_as_they_say():
    rng, held = np.random.default_rng(0), []
    for _ in range(2000):
        a, b, *others = rng.normal(5, 2, 5)
        values = tool.across([{"f": row({"x": x})} for x in others])["numbers"]["f: x"]
        held.append(abs(a - b) <= tool.allowed_by_seeds(values))
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)


def test_seeds_are_what_differs_and_what_made_it():
    one, two = (
        {"f": row({"x": 1.23456789 * k, "same": 1, "nan": float("nan"), "text": "a"}, seed=k)}
        for k in (1, 2)
    )
    two["g"] = row({"y": 1}, seed=2, commit="d")  # not in the other run
    found = tool.across([one, two])
    assert found["numbers"] == {"f: x": [1.2345679, 2.4691358]}
    assert found["runs"] == [
        {"seed": ["1"], "commit": ["c"]},
        {"seed": ["2"], "commit": ["c", "d"]},
    ]
    with pytest.raises(ValueError, match="two runs"):
        tool.across([one])


def write(folder, rows):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(rows))
    return folder


def test_the_command_says_whether_the_runs_agree(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, "SEEDS", tmp_path / "seeds.json")
    published = (
        write(tmp_path / "a", {"f": row({"x": 1.0, "x_error": 0.1}), "gone": row({})})
        / "manifest.json"
    )
    write(tmp_path / "run" / "03", {"f": row({"x": 1.2, "x_error": 0.1}, seed=1)})
    assert tool.main([str(tmp_path / "run"), "--published", str(published)]) == 0
    printed = capsys.readouterr().out
    assert "within    f: x  1 -> 1.2" in printed and "gone: not in the new run" in printed
    assert "seed: 0 published, 1 here" in printed and "the runs agree" in printed
    write(tmp_path / "far" / "03", {"f": row({"x": 2.0, "x_error": 0.1})})
    assert tool.main([str(tmp_path / "far"), "--published", str(published)]) == 1
    assert "outside   f: x  1 -> 2, 3.6 times" in capsys.readouterr().out
    runs = [str(tmp_path / name) for name in ("run", "far")]
    assert tool.main(["--seeds", *runs]) == 0
    assert json.loads((tmp_path / "seeds.json").read_text())["numbers"]["f: x"] == [1.2, 2.0]
    assert (
        tool.main([str(tmp_path / "far"), "--published", str(published)]) == 0
    )  # now it is within


def test_what_cannot_be_compared_is_an_error(tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2 and "no manifest" in capsys.readouterr().err
    with pytest.raises(ValueError, match="profile"):
        tool.compare({"f": row({})}, {"f": row({}, profile="gpu")}, {})


def test_a_run_is_put_beside_what_was_committed_and_not_beside_itself(
    tmp_path, monkeypatch, capsys
):
    def git(*arguments):
        call = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(call, check=True, capture_output=True)

    file = tmp_path / "figures" / "manifest.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"fig": row({"x": 1.0})}))
    monkeypatch.setattr(tool, "REPO", tmp_path)
    monkeypatch.setattr(tool, "PUBLISHED", file)
    monkeypatch.setattr(tool, "SEEDS", tmp_path / "none.json")
    assert tool.main([str(file)]) == 0  # outside git the file itself
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "published")
    file.write_text(json.dumps({"fig": row({"x": 2.0})}))  # what a run leaves there
    tool.main([str(file)])
    assert "fig: x  1 -> 2" in capsys.readouterr().out


def test_two_runs_without_a_common_number_do_not_agree(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).write_text(json.dumps({name: row({"x": 1.0})}))
    assert tool.main([str(tmp_path / "a"), "--published", str(tmp_path / "b")]) == 1
    assert "nothing was compared" in capsys.readouterr().out
