"""studies/: every study lists its jobs, tries its path, adds rows as promised; peers are what they
are called.

Small runs by ``--smoke``, in profile smoke's numbers. Originals of peers that are not installed are
skipped: pip install --no-deps -r studies/requirements.txt brings them.
"""

import ast
import copy
import importlib.util
import math
import multiprocessing
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import peers
import pytest
import study
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from bedgen_utils.data import to_float
from bedgen_utils.diffusion import GaussianDiffusion

REPO = Path(__file__).resolve().parents[1]
STUDIES = REPO / "studies"
SCRIPTS = sorted(p.stem for p in STUDIES.glob("*.py") if p.stem not in ("study", "peers"))
# (table, row) of committed rows that are no job any more; studies/README.md says why.
EXPLAINED: set[tuple[str, str]] = set()
SMOKE = {  # a job of each table
    "released": ["GAN-of-profile-cpu_seed-0_n-3000_test"],
    "samplers": ["DPM-Solver-2M-times-by-noise-guided_evaluations-10"],
    "recipes": ["linear-schedule-L_hybrid-loss-unweighted_seed-0"],
    "mode_collapse": ["ring-of-8_WGAN-GP"],
    "equal_time": ["DDPM_seed-0", "GAN_seed-0"],
    "gan_equal_time": ["ours-minimax_seed-0", "DCGAN_seed-0"],
    "gan_augmentation": ["adaptive-geometry_seed-0"],
    "feature_speed": ["efficientnet"],
    "preparation": ["images-30000"],
    "processes": ["GAN_cpu_processes-2_threads-1"],
}


def script(name):
    """The study's module, as a process of its own loads it."""
    study._options.out, study._options.smoke = study.RESULTS, False
    spec = importlib.util.spec_from_file_location(f"study_{name}", STUDIES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(module):
    return [value for value in vars(module).values() if isinstance(value, study.Study)]


@pytest.fixture(autouse=True)
def own_options():
    """What a command line has set is taken back, and so is the number of threads."""
    before, threads = vars(study._options).copy(), torch.get_num_threads()
    yield
    vars(study._options).update(before)
    torch.set_num_threads(threads)


# ---- the scripts


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_study_opens_with_its_question_and_stands_alone(name):
    tree = ast.parse((STUDIES / f"{name}.py").read_text(encoding="utf-8"))
    question, _, rest = ast.get_docstring(tree).partition("\n\n")
    assert question.endswith("?") and "Writes results/" in rest
    assert re.search("hour|minute|second", rest)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not imported & set(SCRIPTS) and "study" in imported
    assert f"`{name}.py`" in (STUDIES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_jobs_are_unique_and_every_committed_row_is_one(name, capsys):
    module = script(name)
    study.main(module.__doc__, *tables(module), arguments=["--list"])
    listed = capsys.readouterr().out.splitlines()
    assert max(Counter(listed).values()) == 1
    assert all(job == study.words(job) for job in listed)  # a word in a shell, a file's name
    study.main(module.__doc__, *tables(module), arguments=["--missing"])
    missing = capsys.readouterr().out.splitlines()
    committed = 0
    for table in tables(module):
        rows = study.rows(study.RESULTS / f"{table.name}.csv")
        of_jobs = [row for job in table.jobs if (row := table.find(job))]
        strangers = [row for row in rows if row not in of_jobs]
        assert {(table.name, next(iter(row.values()))) for row in strangers} <= EXPLAINED
        assert all(row["commit"] for row in rows)
        committed += len(of_jobs)
    assert set(missing) <= set(listed) and len(missing) == len(listed) - committed


def test_every_table_belongs_to_a_study_and_is_kept_to_the_byte(tmp_path):
    names = {table.name for name in SCRIPTS for table in tables(script(name))}
    stored = sorted(study.RESULTS.glob("*.csv"))
    assert {path.stem for path in stored} == names
    for path in stored:  # adding a row writes the file anew
        study.write(tmp_path / path.name, study.rows(path))
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def smoke(name, beginning, out):
    module = script(name)
    jobs = [study.job_name(job) for table in tables(module) for job in table.jobs]
    job = next(job for job in jobs if job.startswith(beginning))
    study.main(module.__doc__, *tables(module), arguments=[job, "--smoke", "--out", str(out)])


CASES = [(name, job) for name, jobs in SMOKE.items() for job in jobs]
QUICK = ("gan_augmentation",)


def case(name, job):
    quick = name in QUICK or job.startswith(QUICK)
    return pytest.param(name, job, marks=[] if quick else pytest.mark.slow, id=f"{name}-{job}")


def test_a_smoke_is_there_for_every_study():
    assert set(SMOKE) == set(SCRIPTS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "job"), [case(*c) for c in CASES])
def test_a_row_is_measured_once(name, job, tmp_path, capsys):
    before = {path: path.read_bytes() for path in study.RESULTS.glob("*.csv")}
    smoke(name, job, tmp_path)
    (path, *_) = sorted(tmp_path.glob("*.csv"))
    rows = study.rows(path)
    assert rows[-1]["commit"] and rows[-1]["torch"] == torch.__version__
    assert rows[-1]["profile"] in ("smoke", "cpu", "released") and rows[-1]["device"]
    old = study.rows(study.RESULTS / path.name)[0]
    assert set(old) <= set(rows[-1])  # what notebooks read is still measured
    smoke(name, job, tmp_path)
    assert "is there" in capsys.readouterr().out and study.rows(path) == rows
    assert before == {path: path.read_bytes() for path in study.RESULTS.glob("*.csv")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_photographs_come_from_a_folder(tmp_path, monkeypatch):
    from PIL import Image

    from bedgen_utils.data import load_bedrooms

    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, image in enumerate(load_bedrooms(limit=48)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="BEDGEN_PHOTOGRAPHS"):
        smoke("gan_augmentation", "none_seed-0_epochs-300_real_bedrooms", out)
    monkeypatch.setenv("BEDGEN_PHOTOGRAPHS", str(folder))
    smoke("gan_augmentation", "none_seed-0_epochs-300_real_bedrooms", out)
    (row,) = study.rows(out / "gan_photographs.csv")
    assert (row["train images"], row["reference"]) == ("36", "12")


@pytest.mark.slow
def test_the_command_line_runs_what_is_missing_and_goes_on_behind_it(tmp_path):
    call = [sys.executable, str(STUDIES / "mode_collapse.py")]
    options = ["--smoke", "--out", str(tmp_path)]
    listed = subprocess.run([*call, "--list"], capture_output=True, text=True, check=True).stdout
    first = listed.splitlines()[0]
    subprocess.run([*call, first, *options], check=True, capture_output=True)
    left = subprocess.run([*call, "--missing", *options], capture_output=True, text=True).stdout
    assert left.splitlines() == listed.splitlines()[1:]
    wrong = subprocess.run([*call, "no-such-job"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "--list" in wrong.stderr
    unsafe = subprocess.run([*call, first, "--smoke"], capture_output=True, text=True)
    assert unsafe.returncode == 2 and "--out" in unsafe.stderr


# ---- tables


def test_old_rows_stay_as_they_are_when_a_column_is_new(tmp_path):
    study._options.out = tmp_path
    path = tmp_path / "table.csv"
    study.add(path, {"name": "a, b", "x": 1})
    study.add(path, {"name": "c", "x": 2, "torch": "2.9"})
    assert study.rows(path) == [
        {"name": "a, b", "x": "1", "torch": ""},
        {"name": "c", "x": "2", "torch": "2.9"},
    ]
    assert not list(tmp_path.glob("*.tmp"))


def _add_some(path, name):
    study._options.out = path.parent
    for i in range(10):
        study.add(path, {"name": name, "i": i})


@pytest.mark.parametrize(
    "text",
    [
        "name,d\n<<<<<<< HEAD\na,1\n=======\na,2\n>>>>>>> theirs\n",
        "name;d\na;1,5\n",
        "name,d\na,1,5\n",
        "name,d\na,1\nb",
    ],
)
def test_a_table_that_is_damaged_is_not_added_to(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"table\.csv is no table"):
        study.add(path, {"name": "c", "d": 3})
    assert path.read_text() == text


def test_a_byte_order_mark_is_no_part_of_a_columns_name(tmp_path):
    (tmp_path / "table.csv").write_text("\ufeffname,d\na,1\n", encoding="utf-8")
    assert study.rows(tmp_path / "table.csv") == [{"name": "a", "d": "1"}]


def test_rows_added_side_by_side_are_all_there(tmp_path):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    path = tmp_path / "table.csv"
    workers = [context.Process(target=_add_some, args=(path, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = Counter((row["name"], row["i"]) for row in study.rows(path))
    assert len(found) == 30 and set(found.values()) == {1}


def test_a_row_measured_before_a_column_existed_means_what_absent_says(tmp_path):
    study._options.out = tmp_path
    jobs = [{"set": "a", "split": split} for split in ("validation", "test")]
    table = study.Study("t", jobs, lambda job: {}, absent={"split": "validation"})
    study.add(table.path, {"set": "a", "x": 1})
    assert table.find(jobs[0]) and not table.find(jobs[1])


# ---- peers: counts as in the tables, shapes, and one step against the original


def count(network):
    return sum(q.numel() for q in network.parameters())


def measured(table, contestant, column):
    rows = study.rows(study.RESULTS / f"{table}.csv")
    return int(next(row[column] for row in rows if row["contestant"] == contestant))


@pytest.mark.parametrize("name", peers.GANS)
def test_a_peer_gan_has_the_parameters_of_the_tables_and_their_shapes(name):
    g, d = peers.GANS[name].networks()
    assert count(g) == measured("gan_equal_time", name, "parameters of G")
    assert count(d) == measured("gan_equal_time", name, "parameters of D")
    made = g(torch.randn(3, peers.GANS[name].latent))
    assert made.shape == (3, 3, 32, 32) and d(made).shape == (3,)
    assert name == "R3GAN" or made.abs().max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.GANS)
def test_a_step_of_a_peer_moves_both_networks(name):
    torch.manual_seed(0)
    peer = peers.GANS[name]
    g, d = peer.networks()
    before = [copy.deepcopy(network.state_dict()) for network in (g, d)]
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    step, sampled = peer.stepper(g, d, peers.batches(images, 2, 0))
    assert step(0.5) == (10 if name == "SNGAN" else 2)
    for network, old in zip((g, d), before, strict=True):
        # Of a residual block of R3GAN the last layer alone: it begins at zero (Fixup).
        assert sum(not torch.equal(old[k], v) for k, v in network.state_dict().items()) > 3
        assert all(q.requires_grad for q in network.parameters())
    assert sampled(torch.randn(2, peer.latent)).isfinite().all()


def test_a_step_of_dcgan_is_that_of_the_paper():
    """Radford et al.: D on a real and a generated batch, then G by -log D, each by Adam(2e-4,
    0.5)."""
    torch.manual_seed(0)
    g, d = peers.dcgan()
    g2, d2 = copy.deepcopy(g), copy.deepcopy(d)
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    real = next(peers.batches(images, 4, 0))
    step, _ = peers.dcgan_stepper(g, d, iter([real]), augment=lambda x: x)
    torch.manual_seed(1)
    step(0.0)

    torch.manual_seed(1)
    adams = [torch.optim.Adam(m.parameters(), lr=2e-4, betas=(0.5, 0.999)) for m in (g2, d2)]
    bce, ones, zeros = F.binary_cross_entropy_with_logits, torch.ones(4), torch.zeros(4)
    fake = g2(torch.randn(4, 100))
    (bce(d2(real), ones) + bce(d2(fake.detach()), zeros)).backward()
    adams[1].step()
    loss = bce(d2(fake), ones)
    adams[0].zero_grad()
    loss.backward()
    adams[0].step()
    by_hand = [*g2.parameters(), *d2.parameters()]
    for mine, theirs in zip([*g.parameters(), *d.parameters()], by_hand, strict=True):
        # A first step of Adam is one of 2e-4 up or down: where a gradient is all but 0, rounding
        # says which.
        assert ((mine - theirs).abs() > 1e-6).float().mean() < 1e-3


def test_diff_augment_shifts_and_cuts_and_keeps_gradients():
    torch.manual_seed(0)
    x = torch.rand(200, 3, 32, 32, requires_grad=True)
    y = peers.diff_augment(x)
    black = (y == 0).all(1).float().mean((1, 2))
    # A square of side 16, its corner evenly between -8 and 24: cut at the edge (3/4)², a quarter in
    # all, where it fits; the shift leaves up to an eighth of each side.
    assert 0.05 < black.mean() < 0.35 and black.min() > 0
    y.sum().backward()
    assert x.grad.abs().sum() > 0


def original_sngan():
    pytest.importorskip("torch_mimicry", reason="torch_mimicry is not installed")
    from torch_mimicry.nets.sngan import sngan_32

    return sngan_32


def test_sngan_is_mimicrys(monkeypatch):
    original = original_sngan()
    from torch_mimicry.modules import resblocks

    # The paper's code repeats pixels; mimicry interpolates, and says so.
    interpolate = resblocks.F.interpolate
    monkeypatch.setattr(resblocks.F, "interpolate", lambda x, **_: interpolate(x, scale_factor=2))
    torch.manual_seed(0)
    theirs, (mine, _) = original.SNGANGenerator32().eval(), peers.sngan()
    mine.eval()
    blocks = list(zip(mine[2:5], (theirs.block2, theirs.block3, theirs.block4), strict=True))
    pairs = [(mine[0], theirs.l1), (mine[5], theirs.b5), (mine[7], theirs.c5)]
    for a, b in blocks:
        pairs += [(a.convs[0], b.c1), (a.convs[1], b.c2), (a.skip, b.c_sc)]
        pairs += [(a.norms[0], b.b1), (a.norms[1], b.b2)]
    for a, b in pairs:
        a.load_state_dict(b.state_dict())
    assert count(mine) == count(theirs)
    z = torch.randn(3, 128)
    assert_close(mine(z), theirs(z), rtol=1e-4, atol=1e-5)


def test_the_critic_of_sngan_is_mimicrys():
    """But for its last bias, which the paper's critic has not got. Without the norms, which are
    torch's in both."""
    theirs, (_, mine) = original_sngan().SNGANDiscriminator32(), peers.sngan()
    assert count(mine) == count(theirs) - 1
    pairs = [(mine.last, theirs.l5)]
    blocks = (theirs.block1, theirs.block2, theirs.block3, theirs.block4)
    for a, b in zip(mine.body[:4], blocks, strict=True):
        b.activation = torch.nn.ReLU()  # in place, as there, it changes what the shortcut sees
        pairs += [(a.convs[0], b.c1), (a.convs[1], b.c2)]
        pairs += [(a.skip, b.c_sc)] if hasattr(b, "c_sc") else []
        assert hasattr(b, "c_sc") == (not isinstance(a.skip, torch.nn.Identity))
    for a, b in pairs:
        torch.nn.utils.remove_spectral_norm(b)
        torch.nn.utils.parametrize.remove_parametrizations(a, "weight")
        a.weight.data.copy_(b.weight.data)
        if a.bias is None:
            b.bias.data.zero_()
        else:
            a.bias.data.copy_(b.bias.data)
    x = torch.randn(2, 3, 32, 32)
    assert_close(mine(x), theirs(x).squeeze(1), rtol=1e-4, atol=1e-4)


def rooms(n):
    return torch.randint(256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.slow
def test_the_network_of_diffusers_is_theirs_and_counts_from_one():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    mine = peers.Diffusers().eval()
    assert count(mine) == measured("equal_time", "diffusers", "parameters")
    theirs = diffusers.UNet2DModel.from_config(mine.net.config).eval()
    theirs.load_state_dict(mine.net.state_dict())
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([1, 1000])
    with torch.no_grad():
        assert_close(mine(x, t), theirs(x, t - 1).sample)
    assert mine.size == 32


@pytest.mark.slow
def test_the_tutorial_descends_the_loss_of_the_process_it_returns(monkeypatch):
    """Seven steps as by hand with our own process: warm-up in the first, then half a cosine, and
    an average that begins as the weights do."""
    pytest.importorskip("diffusers")
    monkeypatch.setattr(peers, "best_precision", lambda: "no")
    torch.manual_seed(0)
    network = peers.Diffusers()
    by_hand = copy.deepcopy(network)
    torch.manual_seed(1)
    ddpm = peers.tutorial_of_diffusers(network, rooms(16), 7, 0)
    assert ddpm.diffusion.prediction == "eps" and ddpm.diffusion.T == 1000

    torch.manual_seed(1)
    data = peers.batches(rooms(16), 16, 0)
    adam = torch.optim.AdamW(by_hand.parameters(), lr=0.0)
    average = copy.deepcopy(by_hand)
    for k in range(7):
        # 0.16 of 7 steps is one of warm-up, which goes with rate 0; then (1 + cos) / 2 falls.
        adam.param_groups[0]["lr"] = 1e-4 * (1 + math.cos(math.pi * (k - 1) / 6)) / 2 * (k > 0)
        x0 = next(data)
        noise, t = torch.randn(x0.shape), torch.randint(0, 1000, (16,)) + 1
        loss = ddpm.diffusion.training_loss(by_hand, x0, t, noise).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        adam.step()
        for mean, now in zip(average.parameters(), by_hand.parameters(), strict=True):
            mean.data.lerp_(now.data, (1 + k) ** -0.75)
    for mine, theirs in zip(network.parameters(), average.parameters(), strict=True):
        assert_close(mine, theirs, rtol=1e-4, atol=3e-6)


@pytest.mark.slow
def test_a_step_of_ddpm_pytorch_is_that_of_its_trainer(monkeypatch):
    monkeypatch.setattr(peers, "best_precision", lambda: "no")
    package = pytest.importorskip(
        "denoising_diffusion_pytorch", reason="denoising-diffusion-pytorch is not installed"
    )
    pytest.importorskip("ema_pytorch", reason="ema-pytorch is not installed")
    torch.manual_seed(0)
    network = peers.DdpmPytorch()
    assert count(network) == measured("equal_time", "ddpm-pytorch", "parameters")
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([1, 1000])
    with torch.no_grad():
        assert_close(network.eval()(x, t), network.net(x, t - 1))
    theirs = package.GaussianDiffusion(copy.deepcopy(network.net), image_size=32)
    torch.manual_seed(1)
    ddpm = peers.trainer_of_ddpm_pytorch(network.train(), rooms(16), 1, 0)

    torch.manual_seed(1)
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-4, betas=(0.9, 0.99))
    loss = theirs((next(peers.batches(rooms(16), 16, 0)) + 1) / 2)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    adam.step()
    for mine, other in zip(network.net.parameters(), theirs.model.parameters(), strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-7)
    # What is sampled from: their process in our tables, of which entry 0 is no step.
    assert isinstance(ddpm.diffusion, GaussianDiffusion) and ddpm.diffusion.prediction == "v"
    assert_close(ddpm.diffusion.abar[1:].float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)
    noise, at = torch.randn(16, 3, 32, 32), torch.randint(1, 1001, (16,))
    x0 = to_float(rooms(16))
    assert_close(
        ddpm.diffusion.q_sample(x0, at, noise),
        theirs.q_sample(x0, at - 1, noise),
        rtol=1e-3,
        atol=1e-4,
    )
    assert_close(
        ddpm.diffusion.velocity(x0, noise, at),
        theirs.predict_v(x0, at - 1, noise),
        rtol=1e-3,
        atol=1e-4,
    )
