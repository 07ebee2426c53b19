"""The playground: its modules against the package, its networks against PyTorch, its page in a
browser.
"""

import html
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile

import browser
import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from bedgen_utils import diffusion as df
from bedgen_utils.data import to_uint8
from bedgen_utils.interpolate import slerp
from bedgen_utils.models import load
from bedgen_utils.run import REPO
from tools import playground

NODE = shutil.which("node")
STEPS = {"ddpm": df.ddpm_step, "ddim": df.ddim_step, "dpmpp_2m": df.dpmpp_2m_step}
# On the scale of images, [-1, 1]: the largest difference between a room that the browser sampled
# and the one that PyTorch samples from the same noise. Of 62 rooms (each sampler, 5 to 50 steps,
# guidance 1 to 2, up to eight seeds) the worst was 5.7e-5 off, half were within 5e-6, and the mean
# over a room was 2.1e-6 at most. One of 255 levels is 7.8e-3.
ROOM_BOUND = 1e-4

needs_node = pytest.mark.skipif(not NODE, reason="Node.js runs the page's modules")


@pytest.fixture(scope="module")
def ddpm():
    model = load("ddpm")
    model.network.cpu()
    model.early.cpu()
    return model


@pytest.fixture(scope="module")
def gan():
    model = load("gan")
    model.generator.cpu()
    return model


# ---- what needs no build


def test_table_is_what_sample_uses(ddpm, gan, monkeypatch):
    """Times, guidance and schedule of `load("ddpm").sample`, caught on their way."""
    caught = {}

    def catch(model, x, sampler, times, **_):
        caught.update(model=model, x=x, sampler=sampler, times=times)
        return x

    monkeypatch.setattr(ddpm.diffusion, "sample", catch)
    ddpm.sample(1, seed=3)
    table = playground.table(ddpm, gan)["ddpm"]
    d = df.GaussianDiffusion(ddpm.diffusion.betas)
    assert table["abar"] == d.abar.tolist() and table["size"] == caught["x"].shape[-1]
    assert caught["times"] == d.timesteps(table["steps"], table["rho"], table["sigma_max"])
    assert caught["sampler"] is df.dpmpp_2m_step  # the first choice of the page
    assert re.search(r'id="sampler">\s*<option value="dpmpp_2m"', page_text())
    x, t = torch.randn(1, 3, 64, 64), torch.tensor([400])
    expected = df.guided(ddpm.network, ddpm.early, table["guidance"])(x, t)
    torch.testing.assert_close(caught["model"](x, t), expected)
    assert playground.table(ddpm, gan)["gan"] == {"size": 64, "latent": gan.generator.latent}


def page_text():
    return (playground.PAGE / "index.html").read_text(encoding="utf-8")


def equations():
    """(number, TeX) of each numbered equation on the page."""
    for number, inside in re.findall(r'data-eq="([\d.]+)">(.*?)</div>', page_text(), re.DOTALL):
        assert f'.html#eq-{number.replace(".", "-")}">({number})</a>' in inside
        for tex in re.findall(r"<annotation[^>]*>(.*?)</annotation>", inside):
            yield number, html.unescape(tex)


def test_equations_are_those_of_the_notebooks():
    sources = {
        p.name[:2]: re.sub(r"\n#?\s*", " ", p.read_text(encoding="utf-8"))
        for p in (REPO / "notebooks" / "py").glob("*.py")
    }
    found = list(equations())
    for number, tex in found:
        chapter = sources[f"{int(number.split('.')[0]):02d}"]
        (stated,) = [e for e in re.findall(r"\$\$(.*?)\$\$", chapter) if rf"\tag{{{number}}}" in e]
        assert tex in stated, number
    assert {n for n, _ in found} == {
        "1.6", "2.17", "2.29", "3.9", "3.10", "3.14", "7.6", "7.8", "7.10",
    }  # fmt: skip


def test_the_book_states_the_bounds():
    said = (REPO / "book" / "measured.md").read_text(encoding="utf-8")
    assert ROOM_BOUND == 1e-4 and "may differ by $10^{-4}$" in said
    assert playground.BOUND == 2e-5 and r"may differ by $2\times10^{-5}$" in said
    assert round(2 / 255 / ROOM_BOUND, -1) == 80 and "80 times" in said


def test_page_names_no_other_host():
    """An address of another host could only stand there to be asked for."""
    for path in playground.PAGE.iterdir():
        if path.is_file():
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+|https?://[\w.-]+", text)) <= {
                "http://localhost"
            }, path


def test_controls_have_names():
    """Each field stands inside its label; each canvas says what it shows."""
    text = page_text()
    outside = re.sub(r"<label>.*?</label>", "", text, flags=re.DOTALL)
    assert not re.findall(r"<(?:input|select)", outside)
    assert len(re.findall(r"<canvas", text)) == len(re.findall(r"<canvas[^>]*aria-label=", text))
    assert len(re.findall(r"<progress", text)) == len(re.findall(r"<progress[^>]*aria-label", text))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = re.findall(r'\$\("([\w-]+)"\)', (playground.PAGE / "page.js").read_text())
    assert set(used) <= set(ids)


# ---- what is made, without its makers: the exporter, the runtime, npm


@pytest.fixture
def models(tmp_path, monkeypatch, ddpm, gan):
    """`write_models` into a folder, and the networks that it exported."""

    def write():
        exported.clear()
        playground.write_models(tmp_path / "models")
        return exported

    def export(network, shapes, path):
        path.write_bytes(path.name.encode() * 1000)
        exported.append(path.stem)

    exported = []
    monkeypatch.setattr(playground, "load", {"ddpm": ddpm, "gan": gan}.get)
    monkeypatch.setattr(playground, "export", export)
    monkeypatch.setattr(playground, "difference", lambda *_: 1e-6)
    return write


def test_networks_are_exported_where_they_are_not_right(models, tmp_path):
    """Kept as they are, and made again where one byte of a file or of the table is another."""
    assert models() == ["gan", "ddpm", "ddpm_early"] and models() == []
    folder = tmp_path / "models"
    right = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(right) == {"gan.onnx", "ddpm.onnx", "ddpm_early.onnx", "table.json"}
    table = right["table.json"]
    other = {
        "gan.onnx": [right["gan.onnx"][:-1], right["gan.onnx"][:-1] + b"!", None],
        "table.json": [table[:-9], table.replace(b'"latent": ', b'"latent": 1'), b"[]", None],
    }
    for name, contents in other.items():
        for content in contents:
            assert content != right[name]
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
            assert len(models()) == 3, (name, content and content[:60])
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == right


def test_networks_of_other_weights_are_exported(models, monkeypatch):
    models()
    monkeypatch.setattr(playground, "sha256", lambda path: f"another of {path.name}")
    assert len(models()) == 3


@pytest.mark.parametrize("difference", [1e-4, float("nan")])
def test_unfit_networks_are_not_written(models, tmp_path, monkeypatch, difference):
    monkeypatch.setattr(playground, "difference", lambda *_: difference)
    with pytest.raises(ValueError, match=f"gan: 0.0 MB, at most {difference:.1e} from PyTorch"):
        models()
    assert not (tmp_path / "models").exists()


def test_a_difference_that_is_no_number_is_seen(tmp_path, monkeypatch):
    class Session:
        def __init__(self, *_, **__):
            pass

        def run(self, _, feed):
            return [np.where(feed["z"] > 0, np.nan, feed["z"])]

    class Runtime:
        InferenceSession = Session

    monkeypatch.setitem(sys.modules, "onnxruntime", Runtime)
    assert np.isnan(playground.difference(nn.Identity(), {"z": [1, 4]}, tmp_path))


def archive(path, files):
    with tarfile.open(path, "w:gz") as package:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(data)
            package.addfile(entry, io.BytesIO(data))
    return path


def test_what_npm_brings_is_checked(tmp_path, monkeypatch):
    files = {name: np.random.bytes(5000) for name in playground.RUNTIME_FILES}
    sums = {name: playground.hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(playground, "RUNTIME_FILES", sums)
    folder, tgz = tmp_path / "ort", tmp_path / "runtime.tgz"
    monkeypatch.setattr(playground, "packed", lambda _: tgz)
    first = next(iter(files))
    for given in ({**files, first: b"other"}, {first: files[first]}):
        archive(tgz, given)
        with pytest.raises(ValueError, match=f"{first} of|damaged .*not found"):
            playground.write_runtime(folder)
    whole = archive(tgz, files).read_bytes()
    for cut in (0, 10, 3000, len(whole) // 2):
        tgz.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="runtime.tgz, as npm fetched it, is damaged"):
            playground.write_runtime(folder)
    assert not folder.exists()
    tgz.write_bytes(whole)
    playground.write_runtime(folder)
    tgz.unlink()
    playground.write_runtime(folder)  # npm is not asked for what is right
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    (folder / first).write_bytes(files[first][:100])
    with pytest.raises(FileNotFoundError, match="runtime.tgz"):
        playground.write_runtime(folder)


def test_npm_that_fails_is_said(tmp_path, monkeypatch):
    said = "npm error code ENOTFOUND"
    failed = subprocess.CompletedProcess([], 1, "", f"{said}\nnpm error and much more")
    monkeypatch.setattr(playground.shutil, "which", lambda name: name)
    monkeypatch.setattr(playground.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(OSError, match=rf"npm pack .* failed \({said}\): is there a network"):
        playground.packed(tmp_path)
    monkeypatch.setattr(playground.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="npm is needed for .*install Node.js"):
        playground.packed(tmp_path)


def test_what_fails_is_said_in_a_line(tmp_path, monkeypatch):
    def call():
        monkeypatch.setattr("sys.argv", ["playground", str(tmp_path / "site")])
        playground.main()

    monkeypatch.setattr(playground, "write_runtime", lambda _: None)
    monkeypatch.setattr(playground, "RELEASED", REPO / "data" / "weights" / "gone")
    gone = REPO / "data" / "weights" / "gone" / "ddpm.safetensors"
    with pytest.raises(SystemExit, match=f"error: {gone} is missing: `git checkout {gone}`"):
        call()
    with pytest.raises(SystemExit, match="is missing"):  # the folder is ours by now
        call()
    shutil.rmtree(tmp_path / "site")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    with pytest.raises(SystemExit, match="error: .*site holds something else: give a new folder"):
        call()
    assert [p.name for p in (tmp_path / "site").iterdir()] == ["index.html"]


# ---- the modules, in Node, with a formula for a network


def in_node(job: str, **given):
    done = subprocess.run(
        [NODE, REPO / "tests" / "playground.mjs"],
        input=json.dumps({"job": job, **given}), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def d():
    return df.GaussianDiffusion(df.cosine_beta_schedule(1000))


@needs_node
def test_times(d):
    ways = [(None, 20.0), (3.0, 40.0), (3.0, 20.0), (7.0, 40.0)]
    wanted = [(n, *way) for n in [*range(1, 61), 100, 250, 1000] for way in ways]
    asked = [{"steps": n, "rho": rho, "sigmaMax": s} for n, rho, s in wanted]
    assert in_node("timesteps", abar=d.abar.tolist(), wanted=asked) == [
        d.timesteps(*one) for one in wanted
    ]


@needs_node
def test_times_from_the_middle(d):
    """A process that ends at t is a process of its own, and the page takes its times."""
    wanted = [(n, t) for n in (1, 5, 10, 40) for t in (1, 2, 40, 400, 999)]
    asked = [{"steps": n, "from": t, "rho": 3.0, "sigmaMax": 40} for n, t in wanted]
    for (n, t), ours in zip(
        wanted, in_node("timesteps", abar=d.abar.tolist(), wanted=asked), strict=True
    ):
        shorter = df.GaussianDiffusion(d.betas[: t + 1])
        assert ours == shorter.timesteps(min(n, t), 3.0, 40.0), (n, t)


@needs_node
@pytest.mark.parametrize("gamma", [1, 1.35])
@pytest.mark.parametrize("name", STEPS)
def test_samplers(d, name, gamma):
    """From the same noise the page's samplers and the package's make the same image."""

    def network(x, t):
        return torch.sin(3 * x + t.reshape(-1, 1, 1, 1) / 500)

    def early(x, t):
        return torch.cos(2 * x - t.reshape(-1, 1, 1, 1) / 300)

    times = d.timesteps(12, 3.0, 40.0)
    x = torch.randn(1, 3, 6, 6)
    model = network if gamma == 1 else df.guided(network, early, gamma)
    draws = torch.Generator().manual_seed(5)
    theirs = d.sample(model, x, STEPS[name], times, generator=draws)
    draws = torch.Generator().manual_seed(5)
    noises = [torch.randn(x.shape, generator=draws).flatten().tolist() for _ in times]
    ours = in_node(
        "sample", abar=d.abar.tolist(), x=x.flatten().tolist(), times=times, step=name,
        gamma=gamma, noises=noises,
    )  # fmt: skip
    torch.testing.assert_close(torch.tensor(ours), theirs.flatten(), atol=2e-4, rtol=0)


@needs_node
def test_noising(d):
    x, noise = torch.randn(2, 1, 3, 4, 4)
    ours = in_node(
        "qSample", x=x.flatten().tolist(), abar=float(d.abar[400]), noise=noise.flatten().tolist()
    )
    theirs = d.q_sample(x, torch.tensor([400]), noise)
    torch.testing.assert_close(torch.tensor(ours), theirs.flatten(), atol=1e-6, rtol=0)


@needs_node
def test_walk():
    corners = torch.randn(4, 128)
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (0.3, 0.8), (0.5, 0.5)]
    for four in (corners, corners[[0, 0, 1, 1]]):  # two corners may be one
        for ours, (r, c) in zip(
            in_node("square", corners=four.tolist(), places=places), places, strict=True
        ):
            top, bottom = slerp(four[0:1], four[1:2], c), slerp(four[2:3], four[3:4], c)
            theirs = slerp(top, bottom, r)[0]
            torch.testing.assert_close(torch.tensor(ours), theirs, atol=1e-4, rtol=0)


@needs_node
def test_random_numbers_are_normal():
    seeds, n = [0, 1, 2, 4294967295], 20_000
    x = np.array(in_node("normals", seeds=seeds, n=n))
    assert np.abs(x.mean(1)).max() < 4 / n**0.5 and np.abs(x.std(1) - 1).max() < 4 / (2 * n) ** 0.5
    assert np.abs((x**4).mean(1) - 3).max() < 4 * (96 / n) ** 0.5
    far = (np.abs(x) > 3).mean()
    assert 0.0020 < far < 0.0035  # 0.0027
    with_next = (x[:, 1:] * x[:, :-1]).mean(1)
    between = np.corrcoef(x)[np.triu_indices(4, 1)]
    assert np.abs([*with_next, *between]).max() < 4.5 / n**0.5
    assert len(np.unique(x)) > 0.99 * x.size  # seeds share no stretch of numbers


@needs_node
def test_pixels():
    x = torch.randn(3, 5, 5)
    ours = torch.tensor(in_node("pixels", x=x.flatten().tolist())).reshape(5, 5, 4)
    assert (ours[..., 3] == 255).all()
    difference = ours[..., :3].permute(2, 0, 1) - to_uint8(x).int()
    assert difference.abs().max() == 0


@needs_node
def test_shrinking():
    pixels = torch.randint(0, 256, (24, 24, 4))
    ours = in_node("shrink", pixels=pixels.flatten().tolist(), size=6, factor=4)
    theirs = nn.functional.avg_pool2d(pixels[..., :3].permute(2, 0, 1).float(), 4) / 127.5 - 1
    torch.testing.assert_close(torch.tensor(ours), theirs.flatten(), atol=1e-5, rtol=0)


# ---- the built page, with the released networks, in a browser


@pytest.fixture(scope="module")
def site():
    """The playground's folder, made by its tool if it is not there."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} (extra book) writes or runs the networks")
    folder = playground.BUILT
    if not shutil.which("npm") and not (folder / "ort").exists():
        pytest.skip("npm fetches onnxruntime-web")
    done = subprocess.run(
        [sys.executable, "-m", "tools.playground", folder], cwd=REPO, capture_output=True, text=True
    )
    if "npm" in done.stderr and "pack" in done.stderr:
        pytest.skip("npm could not fetch onnxruntime-web (no network?)")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    if not browser.find():
        pytest.skip("no Chromium is installed")
    with browser.Server(site) as server:
        yield f"{server.address}/index.html"


READY = "document.documentElement.dataset.ready"
together = pytest.mark.xdist_group("playground")


@pytest.mark.slow
@together
def test_export_equals_pytorch(site, ddpm, gan):
    table = json.loads((site / "models" / "table.json").read_text())
    for name, (network, shapes) in playground.networks(ddpm, gan).items():
        path = site / "models" / f"{name}.onnx"
        assert table["networks"][name]["bytes"] == path.stat().st_size < playground.LARGEST_FILE
        assert playground.difference(network, shapes, path, n=3) < playground.BOUND
        for folder in (b"site-packages", str(REPO).encode()):  # of the machine that exported
            assert folder not in path.read_bytes()


@pytest.mark.slow
def test_the_page_knows_how_large_its_runtime_is(site):
    said = re.search(r"RUNTIME_BYTES = ([\d_]+)", (site / "models.js").read_text())[1]
    assert int(said) == (site / "ort" / "ort-wasm-simd-threaded.wasm").stat().st_size


@pytest.mark.slow
@together
@pytest.mark.parametrize("width", [1400, 390])
def test_page_opens(address, tmp_path, width):
    with browser.Page(tmp_path, width) as page:
        page.open(address, READY)
        assert page.errors == []
        assert all(r.startswith(("http://127", "data:")) for r in page.requests)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            "[...document.querySelectorAll('.equation')]"
            ".filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.dataset.eq)"
        )
        assert cut == []
        assert page.evaluate("document.getElementById('cannot').hidden")
        heights = page.evaluate(
            "[...document.querySelectorAll('math')].filter(m => m.checkVisibility())"
            ".map(m => m.getBoundingClientRect().height)"
        )
        assert len(heights) > 8 and min(heights) > 10


@pytest.mark.slow
@together
def test_without_webassembly(address, tmp_path):
    with browser.Page(tmp_path, before="delete globalThis.WebAssembly") as page:
        page.open(address)
        said = page.evaluate("document.getElementById('cannot').innerText")
        assert "WebAssembly" in said and page.errors == []
        assert page.evaluate("document.getElementById('gan-start').matches(':disabled')")


# Runs the page's own modules on numbers of the test's. {...} are its parameters.
IN_PAGE = """
(async ({name, gamma, step, times, x, noises, abar}) => {
  const models = await import("./models.js");
  const { sample, SAMPLERS, guided } = await import("./sampler.js");
  const table = await (await fetch("models/table.json")).json();
  const network = (name) => models.network(name, table.networks[name]);
  if (name === "gan") return [...await (await network("gan"))(Float32Array.from(x))];
  const asked = gamma === 1 ? await network("ddpm")
    : guided(await network("ddpm"), await network("ddpm_early"), gamma);
  const noise = () => Float32Array.from(noises.shift());
  const how = { abar: table.ddpm.abar, times, step: SAMPLERS[step], noise };
  let end;
  const network_at = (x, t) => asked(x, Float32Array.of(t));
  for await (const { next } of sample(network_at, Float32Array.from(x), how)) end = next;
  return [...end];
})
"""


def in_page(page, **given) -> Tensor:
    return torch.tensor(page.evaluate(f"{IN_PAGE}({json.dumps(given)})", timeout=600))


@pytest.mark.slow
@together
def test_rooms_equal_pytorch(address, tmp_path, ddpm, gan):
    """The page's room is `load("ddpm").sample`'s from the same noise: by the default sampler in its
    default steps, by the others in fewer.
    """
    seed, largest = 4, {}
    with browser.Page(tmp_path) as page:
        page.open(address, READY)
        z = torch.randn(1, gan.generator.latent, generator=torch.Generator().manual_seed(seed))
        ours = in_page(page, name="gan", x=z.flatten().tolist())
        with torch.no_grad():
            theirs = gan.generator(z)
        assert (ours - theirs.flatten()).abs().max() < playground.BOUND  # one run of a network
        for name, step in STEPS.items():
            n = ddpm.steps if name == "dpmpp_2m" else 5
            times = ddpm.diffusion.timesteps(n, 3.0, 40.0)
            x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
            draws = torch.Generator().manual_seed(seed * 1_000_003 + 1)
            noises = [torch.randn(3, 64, 64, generator=draws).flatten().tolist() for _ in times]
            ours = in_page(
                page, name="ddpm", gamma=ddpm.guidance, step=name, times=times,
                x=x.flatten().tolist(), noises=noises if name == "ddpm" else [],
            ).reshape(1, 3, 64, 64)  # fmt: skip
            theirs = ddpm.sample(1, seed=seed, steps=n, sampler=step)
            assert (to_uint8(ours).int() - theirs.int()).abs().max() <= 1, name
            # Once more before it is rounded.
            draws = torch.Generator().manual_seed(seed * 1_000_003 + 1)
            model = df.guided(ddpm.network, ddpm.early, ddpm.guidance)
            floats = ddpm.diffusion.sample(model, x, step, times, generator=[draws])
            largest[name] = float((ours - floats).abs().max())
        assert page.errors == []
        other = in_page(
            page, name="ddpm", gamma=ddpm.guidance + 0.01, step=name, times=times,
            x=x.flatten().tolist(), noises=[],
        )  # fmt: skip
        assert (other.reshape(x.shape) - floats).abs().max() > ROOM_BOUND  # a difference is seen
    print("largest differences:", largest)
    assert max(largest.values()) < ROOM_BOUND, largest


class Reader:
    """Hands on the playground's page, and what they see."""

    def __init__(self, page: browser.Page):
        self.page = page

    def click(self, name: str) -> None:
        self.page.evaluate(f"document.getElementById('{name}').click()")

    def set(self, name: str, value, event: str = "change") -> None:
        self.page.evaluate(
            f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('{event}')) }})"
            f"(document.getElementById('{name}'))"
        )

    def says(self, name: str) -> str:
        return self.page.evaluate(f"document.getElementById('{name}').textContent")

    def wait(self, name: str, words: str) -> None:
        text = f"document.getElementById('{name}').textContent"
        self.page.wait(f"{text}.includes({json.dumps(words)})")

    def forgive(self) -> None:
        """The console was told what the page says."""
        self.page.evaluate("new Promise((go) => setTimeout(go, 200))")
        assert self.page.errors
        self.page.errors.clear()

    def canvas(self, name: str) -> Tensor:
        """What a canvas shows, int (3, 64, 64)."""
        context = f"document.getElementById('{name}').getContext('2d')"
        rgba = self.page.evaluate(f"[...{context}.getImageData(0, 0, 64, 64).data]")
        return torch.tensor(rgba).reshape(64, 64, 4)[..., :3].permute(2, 0, 1)

    def normals(self, seed: int, *sizes: int) -> list[Tensor]:
        """The first numbers of a seed, drawn in parts of these sizes, as the page draws them."""
        drawn = self.page.evaluate(
            f"import('./random.js').then(({{ normals }}) => {{ const draw = normals({seed});"
            f" return {list(sizes)}.map((n) => [...draw(n)]) }})"
        )
        return [torch.tensor(numbers) for numbers in drawn]


@pytest.fixture
def reader(address, tmp_path):
    """At the open page; who leaves it has caused no error and asked no other host."""
    with browser.Page(tmp_path / "profile") as page:
        page.open(address, READY)
        yield Reader(page)
        assert page.errors == []
        asked = [r for r in page.requests if not r.startswith(("data:", "blob:"))]
        assert len(asked) > 10 and all(r.startswith(address[:-10]) for r in asked), asked


def off_by(ours: Tensor, theirs: Tensor) -> int:
    """Levels of 255 by which a canvas differs from an image that PyTorch made."""
    return int((ours - to_uint8(theirs).int()).abs().max())


@pytest.mark.slow
@together
def test_whom_the_pointer_overtakes_wanders_no_more(reader):
    place = "document.getElementById('r').value"
    reader.click("gan-start")
    reader.wait("gan-says", "r = 0.50, c = 0.50")
    pressed = "document.getElementById('wander').getAttribute('aria-pressed') === 'true'"
    middle = reader.page.evaluate(
        "(b => [b.x + b.width / 2, b.y + b.height / 2])"
        "(document.getElementById('walk').getBoundingClientRect())"
    )
    for take_over in (lambda: reader.page.move(*middle), lambda: reader.set("r", 0.5, "input")):
        reader.page.move(0, 0)
        reader.click("wander")
        reader.page.wait(f"{place} != 0.5")
        assert reader.page.evaluate(pressed)
        take_over()
        reader.page.wait(f"Math.abs({place} - 0.5) < 0.02")
        reader.page.evaluate("new Promise((go) => setTimeout(go, 100))")
        assert not reader.page.evaluate(pressed)
        assert reader.page.evaluate(f"Math.abs({place} - 0.5) < 0.02")


@pytest.mark.slow
@together
def test_walk_follows_pointer_and_sliders(reader, gan):
    """What is shown is PyTorch's room at the place that the sliders say."""

    def check(seed, r, c):
        reader.wait("gan-says", f"r = {r:.2f}, c = {c:.2f}")
        z00, z01, z10, z11 = (z[None] for z in reader.normals(seed, 128, 128, 128, 128))
        with torch.no_grad():
            room = gan.generator(slerp(slerp(z00, z01, c), slerp(z10, z11, c), r))[0]
            corner = gan.generator(z10)[0]
        assert off_by(reader.canvas("walk"), room) <= 1
        assert off_by(reader.canvas("corner-2"), corner) <= 1

    reader.click("gan-start")
    check(0, 0.5, 0.5)
    box = reader.page.evaluate(
        "(b => [b.x, b.y, b.width, b.height])"
        "(document.getElementById('walk').getBoundingClientRect())"
    )
    reader.page.move(box[0] + 0.25 * box[2], box[1] + 0.75 * box[3])
    for name, place in (("r", 0.75), ("c", 0.25)):  # to a pixel
        reader.page.wait(f"Math.abs(document.getElementById('{name}').value - {place}) < 0.02")
    reader.page.move(0, 0)
    reader.set("r", 0.1, "input")
    reader.set("c", 1, "input")
    check(0, 0.1, 1)
    # To its end: the line under the room says the same place as before.
    reader.page.evaluate("document.getElementById('gan-next').onclick()")
    assert reader.page.evaluate("document.getElementById('gan-seed').value") == "1"
    check(1, 0.1, 1)


@pytest.mark.slow
@together
@pytest.mark.parametrize("name, gamma", [("dpmpp_2m", 2), ("ddim", 1), ("ddpm", 1.35)])
def test_controls_sample_what_they_say(reader, ddpm, name, gamma):
    n = 4
    reader.set("steps", n)
    reader.set("sampler", name)
    reader.set("gamma", gamma)
    reader.set("ddpm-seed", 7)
    size = reader.says("ddpm-size")
    assert f"{n} steps, {n if gamma == 1 else 2 * n} runs" in size and "Loads" in size
    reader.click("ddpm-run")
    reader.wait("ddpm-says", f"done: {n} steps")
    assert "Loads" not in reader.says("ddpm-size")
    assert reader.page.evaluate("document.getElementById('strip').children.length") == n
    x, *noises = (part.reshape(1, 3, 64, 64) for part in reader.normals(7, *[3 * 64 * 64] * n))
    drawn = iter(noises)  # the last step draws none
    times = ddpm.diffusion.timesteps(n, 3.0, 40.0)
    model = ddpm.network if gamma == 1 else df.guided(ddpm.network, ddpm.early, gamma)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(df, "normal_like", lambda *_: next(drawn))
        room = ddpm.diffusion.sample(model, x, STEPS[name], times)[0]
    assert off_by(reader.canvas("xt"), room) <= 1
    assert off_by(reader.canvas("x0"), room) <= 1


@pytest.mark.slow
@together
def test_another_room_is_one_press_away(reader):
    reader.set("steps", 1)
    reader.set("gamma", 1)
    rooms = []
    for button in ("ddpm-run", "ddpm-run", "ddpm-next"):
        reader.page.evaluate("document.getElementById('ddpm-says').textContent = ''")
        reader.click(button)
        reader.wait("ddpm-says", "done: 1 steps")
        rooms.append(reader.canvas("xt"))
    assert (rooms[0] == rooms[1]).all() and (rooms[0] != rooms[2]).any()
    assert reader.page.evaluate("document.getElementById('ddpm-seed').value") == "1"


@pytest.mark.slow
@together
@pytest.mark.parametrize(
    "name, typed, taken",
    [
        ("gamma", 9, "3"), ("gamma", 1.35, "1.35"), ("gamma", "", "1.35"), ("own-steps", 0, "1"),
        ("steps", 2000, "1000"), ("steps", 7.6, "8"), ("ddpm-seed", -3, "0"),
    ],
)  # fmt: skip
def test_a_field_shows_what_is_taken_for_it(reader, name, typed, taken):
    reader.set(name, typed)
    assert reader.page.evaluate(f"document.getElementById('{name}').value") == taken


@pytest.mark.slow
@together
def test_weights_come_with_a_bar_and_sampling_can_be_stopped(reader):
    """At a megabyte a second the bar is seen to grow; Stop ends the download, and later the steps;
    what was stopped is no room to be taken.
    """
    page = reader.page
    table = page.evaluate("fetch('models/table.json').then((r) => r.json())")["networks"]
    total = table["ddpm"]["bytes"] + table["ddpm_early"]["bytes"]
    total += page.evaluate("import('./models.js').then((m) => m.RUNTIME_BYTES)")
    page.evaluate("globalThis.seen = []")
    page.evaluate(
        "new MutationObserver(() => { const bar = document.getElementById('ddpm-progress');"
        " if (!bar.hidden) seen.push([bar.value, bar.max]) }).observe("
        "document.getElementById('ddpm-progress'), { attributes: true })"
    )
    slow = {"offline": False, "latency": 0, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", downloadThroughput=2e6, **slow)
    reader.click("ddpm-run")
    page.wait("seen.filter(([value]) => value > 0).length > 2")
    assert reader.says("ddpm-run") == "Stop"
    reader.click("ddpm-run")
    page.wait("document.getElementById('ddpm-run').textContent === 'Sample a room'", timeout=5)
    assert reader.says("ddpm-says") == "stopped: Loading the denoiser."
    assert page.evaluate("document.getElementById('ddpm-progress').hidden")
    page.evaluate("seen.length = 0")
    page.call("Network.emulateNetworkConditions", downloadThroughput=2e7, **slow)
    reader.set("steps", 1000)
    reader.click("ddpm-run")
    reader.wait("ddpm-says", "√ᾱ = ")
    reader.click("ddpm-run")
    reader.wait("ddpm-says", "stopped: step")
    seen = page.evaluate("seen")
    values = [value for value, _ in seen]
    assert {most for _, most in seen} == {total} and values == sorted(values)
    assert len(set(values)) > 10 and values[-1] == total
    assert page.evaluate("document.getElementById('take-ddpm').disabled")


@pytest.mark.slow
@together
def test_stop_leaves_the_download_to_who_still_waits(reader):
    """Two parts wait for one network: the first to stop goes alone, the last ends the download."""
    page, asked = reader.page, lambda: sum("ddpm.onnx" in r for r in reader.page.requests)
    how = {"offline": False, "latency": 0, "uploadThroughput": -1}
    reader.click("take-gan")  # loads the generator by itself
    reader.wait("own-says", "t = 400")
    reader.set("gamma", 1)
    reader.set("own-steps", 2)
    page.call("Network.emulateNetworkConditions", downloadThroughput=1e6, **how)
    for name in ("ddpm", "own"):
        reader.click(f"{name}-run")
        page.wait(f"document.getElementById('{name}-progress').value > 0")
    for name in ("ddpm", "own"):
        reader.click(f"{name}-run")
        page.wait(f"document.getElementById('{name}-progress').hidden")
        assert reader.says(f"{name}-says") == "stopped: Loading the denoiser."
    assert asked() == 1
    for name in ("ddpm", "own"):
        reader.click(f"{name}-run")
        page.wait(f"document.getElementById('{name}-progress').value > 0")
    reader.click("ddpm-run")
    page.call("Network.emulateNetworkConditions", downloadThroughput=-1, **how)
    reader.wait("own-says", "back in 2 steps")
    assert asked() == 2 and reader.says("ddpm-run") == "Sample a room"


@pytest.fixture
def damaged(site, tmp_path):
    """A copy of the site, without what is large; `put` gives a file of it another content."""
    copy = tmp_path / "site"
    shutil.copytree(site, copy, ignore=shutil.ignore_patterns("*.onnx", "*.wasm"))
    for path in [*site.glob("*/*.onnx"), *site.glob("*/*.wasm")]:
        (copy / path.relative_to(site)).symlink_to(path)

    def put(name, kept):
        path = copy / name
        text = path.read_bytes()
        path.unlink()
        if kept:
            path.write_bytes(text[: int(kept * len(text))])

    with browser.Server(copy) as server, browser.Page(tmp_path / "profile") as page:
        yield put, Reader(page), f"{server.address}/index.html"


@pytest.mark.slow
@together
@pytest.mark.parametrize(
    "name, kept",
    [("sampler.js", 0.7), ("walk.js", 0), ("page.js", 0), ("page.js", 0.9),
     ("models/table.json", 0), ("models/table.json", 0.5)],
)  # fmt: skip
def test_a_page_that_is_not_whole_says_so(damaged, name, kept):
    put, reader, address = damaged
    put(name, kept)
    reader.page.open(address)
    reader.page.wait("!document.getElementById('cannot').hidden", timeout=10)
    assert "did not load whole" in reader.says("cannot")
    assert name != "models/table.json" or name in reader.says("cannot")
    live = "document.querySelectorAll('main :is(button, input):enabled').length"
    assert reader.page.evaluate(live) == 0


@pytest.mark.slow
@together
@pytest.mark.parametrize(
    "name, kept",
    [("ort.wasm.min.mjs", 0), ("ort-wasm-simd-threaded.wasm", 0),
     ("ort-wasm-simd-threaded.wasm", 0.5), ("ort-wasm-simd-threaded.mjs", 0)],
)  # fmt: skip
def test_a_missing_runtime_is_named(damaged, name, kept):
    put, reader, address = damaged
    put(f"ort/{name}", kept)
    reader.page.open(address, READY)
    assert reader.page.evaluate("document.getElementById('cannot').hidden")
    for output, button in (("gan-says", "gan-start"), ("ddpm-says", "ddpm-run")):
        reader.click(button)
        reader.wait(output, "That did not work: ort/")
        assert name in reader.says(output)
        assert "Try again, or load the page anew" in reader.says(output)
        assert not reader.page.evaluate(f"document.getElementById('{button}').disabled")


@pytest.mark.slow
@together
@pytest.mark.parametrize("prefers", ["light", "dark"])
@pytest.mark.parametrize("chosen", ["light", "dark", "auto", None])
def test_light_is_that_of_the_book(reader, address, chosen, prefers):
    page = reader.page
    if chosen:
        page.evaluate(f"localStorage.setItem('theme', '{chosen}')")
    page.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": prefers}]
    )
    page.open(address, READY)
    page.evaluate("globalThis.style = getComputedStyle(document.body)")
    ground, scheme = page.evaluate("[style.backgroundColor.match(/\\d+/)[0], style.colorScheme]")
    dark = (chosen if chosen in ("light", "dark") else prefers) == "dark"
    assert scheme == ("dark" if dark else "light") and (int(ground) < 50) == dark


@pytest.mark.slow
@together
def test_without_a_network_it_is_said_and_later_it_works(reader):
    page = reader.page
    off = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **off)
    reader.click("gan-start")
    reader.wait("gan-says", "Try again, or load the page anew")
    reader.forgive()
    page.call("Network.emulateNetworkConditions", offline=False, **off)
    reader.click("gan-start")
    reader.wait("gan-says", "r = 0.50, c = 0.50")


@pytest.mark.slow
@together
def test_an_image_of_ones_own_comes_back(reader, tmp_path, ddpm):
    """A wide file is cut to its square and shrunk, noised and brought back as PyTorch does it."""
    page, wide = reader.page, np.zeros((512, 1024, 3), np.uint8)
    room = load("ddpm").sample(1, seed=2, steps=5)[0].permute(1, 2, 0).numpy()
    wide[:, 256:768] = room.repeat(8, 0).repeat(8, 1)
    PIL.Image.fromarray(wide).save(tmp_path / "wide.png")
    (tmp_path / "notes.txt").write_text("no image")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "notes.txt")])
    reader.wait("own-says", "notes.txt is no image")
    reader.forgive()
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "wide.png")])
    reader.wait("own-says", "t = 400")
    mine = reader.canvas("own-x0")
    assert (mine - torch.from_numpy(room).permute(2, 0, 1).int()).abs().max() <= 1

    reader.set("t", 60, "input")
    reader.set("own-seed", 3, "input")
    reader.set("own-steps", 4)
    x0 = (mine / 127.5 - 1)[None]
    (noise,) = reader.normals(3, 3 * 64 * 64)
    xt = ddpm.diffusion.q_sample(x0, torch.tensor([60]), noise.reshape(x0.shape))
    assert off_by(reader.canvas("own-xt"), xt[0]) <= 1
    reader.click("own-run")
    reader.wait("own-says", "back in 4 steps")
    times = df.GaussianDiffusion(ddpm.diffusion.betas[:61]).timesteps(4, 3.0, 40.0)
    with torch.no_grad():
        back = ddpm.diffusion.sample(ddpm.network, xt, df.ddim_step, times)[0]
    assert off_by(reader.canvas("own-back"), back) <= 2  # x0 was rounded when it was read
    far = 127.5 * float((back - x0[0]).square().mean().sqrt())
    assert abs(int(re.search(r"changed: (\d+)", reader.says("own-says"))[1]) - far) <= 1
    noisy = 127.5 * float((xt - x0).square().mean().sqrt())
    assert far < noisy / 2


@pytest.mark.slow
@together
@pytest.mark.parametrize(
    "change",
    [lambda r: r.set("t", 60, "input"), lambda r: r.set("own-seed", 3, "input"),
     lambda r: r.set("own-steps", 3, "input"), lambda r: r.click("take-gan")],
    ids=["t", "seed", "steps", "image"],
)  # fmt: skip
def test_what_came_back_goes_with_what_it_was_made_of(reader, change):
    """The image that came back is cleared, and one on its way back is stopped."""
    reader.click("take-gan")
    reader.wait("own-says", "t = 400")
    reader.set("own-steps", 2)
    reader.click("own-run")
    reader.wait("own-says", "back in 2 steps")
    assert reader.canvas("own-back").any()
    change(reader)
    assert not reader.canvas("own-back").any()
    assert reader.says("own-says").startswith("t = ")
    reader.set("own-steps", 100)
    reader.click("own-run")
    reader.wait("own-says", "step 1 of")
    change(reader)
    assert reader.says("own-run") == "Bring it back"
    reader.page.evaluate("new Promise((go) => setTimeout(go, 500))")
    assert not reader.canvas("own-back").any()
    assert reader.says("own-says").startswith("t = ")
