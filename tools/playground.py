"""Make the playground's folder: the page, the released networks as ONNX, and what runs them.

    python -m tools.playground [FOLDER]           FOLDER is book/_build/html/playground by default
    python -m http.server -d book/_build/html     then open localhost:8000/playground

Needs the extra `book`, and npm for onnxruntime-web. Into FOLDER go

    *.html, *.js, *.css                           as they stand in book/playground
    models/*.onnx                                 the networks of data/weights
    models/table.json                             their sizes and inputs, and what the sampler needs
    ort/                                          three files of onnxruntime-web, and its licence

What is already there and right, by its checksum, is kept; the rest is written whole or not at all.
Weights are released as float16; they stay float16 in the files, and are cast when a network is
loaded: half the bytes, and the same numbers. Each network is run by onnxruntime and by PyTorch on
the same inputs, and the largest difference may be BOUND.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn

from bedgen_utils.models import DDPM, GAN, RELEASED, load
from bedgen_utils.run import REPO

from .pipeline import one_line_errors, put, read_json, sha256

PAGE = REPO / "book" / "playground"
BUILT = REPO / "book" / "_build" / "html" / "playground"
OPSET = 18
BOUND = 2e-5  # of outputs of size 1 to 4, in float32
LARGEST_FILE = 25_000_000  # bytes: what hosts of static pages take without ado
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_FILES = {  # of its folder dist
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}


def networks(ddpm: DDPM, gan: GAN) -> dict[str, tuple[nn.Module, dict[str, list[int]]]]:
    """{name: (network, {input: shape})}; all inputs are float32, the time t as well."""
    if ddpm.early is None:
        raise ValueError("the released denoiser has no early network, which the page guides by")
    noisy = {"x": [1, 3, ddpm.size, ddpm.size], "t": [1]}
    return {
        "gan": (gan.generator, {"z": [1, gan.generator.latent]}),
        "ddpm": (ddpm.network, noisy),
        "ddpm_early": (ddpm.early, noisy),
    }


def inputs(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """Normal numbers, and a time of the process for t."""
    g = torch.Generator().manual_seed(seed)
    t = torch.randint(1, 1001, (1,), generator=g).float()
    return {k: t if k == "t" else torch.randn(shape, generator=g) for k, shape in shapes.items()}


def export(network: nn.Module, shapes: dict[str, list[int]], path: Path) -> None:
    """Write ``network`` to ``path`` as ONNX, weights in float16 where that loses nothing.

    The exporter's optimiser is left out: it would multiply batch normalisation into the
    convolutions before it, and the products are no float16 numbers. The runtime does the same when
    it loads the network.
    """
    import onnx

    example = inputs(shapes, seed=0)
    plain = network.cpu().to(memory_format=torch.contiguous_format)
    program = torch.onnx.export(
        plain, tuple(example.values()), input_names=list(example), output_names=["output"],
        opset_version=OPSET, dynamo=True, optimize=False, verbose=False,
    )  # fmt: skip
    model = halved(program.model_proto)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def halved(model):
    """``model`` with its float32 weights in float16 and a cast, where that loses nothing.

    Without what the exporter notes of each node: a runtime has no use for it, and it names the
    folders of the machine that exported.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        value = numpy_helper.to_array(weight)
        half = value.astype(np.float16) if weight.data_type == TensorProto.FLOAT else None
        if half is None or value.size < 64 or not np.array_equal(half.astype(np.float32), value):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    for noted in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del noted.metadata_props[:]
        noted.doc_string = ""
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    return model


@torch.no_grad()
def difference(network: nn.Module, shapes: dict[str, list[int]], path: Path, n: int = 8) -> float:
    """The largest difference of ``n`` outputs by PyTorch and, from ``path``, by onnxruntime; NaN
    where one is no number.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = torch.tensor(0.0)
    for seed in range(1, n + 1):
        feed = inputs(shapes, seed)
        (theirs,) = session.run(None, {k: v.numpy() for k, v in feed.items()})
        ours = network.cpu()(*feed.values())
        largest = torch.maximum(largest, (ours - torch.from_numpy(theirs)).abs().max())
    return float(largest)


def table(ddpm: DDPM, gan: GAN) -> dict:
    """What ``DDPM.sample`` and ``GAN.sample`` know beside their networks."""
    if ddpm.diffusion.prediction != "v" or ddpm.diffusion.variance != "small":
        raise ValueError("sampler.js knows networks that predict v, with the variance of Eq. 9")
    return {
        "ddpm": {
            "size": ddpm.size,
            "steps": ddpm.steps,
            "guidance": ddpm.guidance,
            "rho": 3.0,
            "sigma_max": 20 * ddpm.size / 32,
            "abar": ddpm.diffusion.abar.tolist(),
        },
        "gan": {"size": gan.size, "latent": gan.generator.latent},
    }


def write_models(folder: Path) -> None:
    """The networks as ONNX and table.json, unless these weights and this file made them.
    ValueError for a network that is not fit to be published; then nothing is written.
    """
    sources = [RELEASED / "ddpm.safetensors", RELEASED / "gan.safetensors", Path(__file__)]
    made_from = {path.name: sha256(path) for path in sources}
    if are_right(folder, made_from):
        return
    ddpm, gan = load("ddpm"), load("gan")
    assert isinstance(ddpm, DDPM) and isinstance(gan, GAN)
    known = table(ddpm, gan) | {"made_from": made_from, "networks": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name, (network, shapes) in networks(ddpm, gan).items():
            path = Path(temporary, f"{name}.onnx")
            export(network, shapes, path)
            known["networks"][name] = row(network, shapes, path)
        for path in Path(temporary).iterdir():
            put(folder / path.name, path.read_bytes())
    put(folder / "table.json", json.dumps(known | {"sha256": sum_of(known)}).encode())


def are_right(folder: Path, made_from: dict[str, str]) -> bool:
    """Whether table.json and all networks are there as they were written from ``made_from``."""
    known = read_json(folder / "table.json")
    if not isinstance(known, dict) or known.pop("sha256", "") != sum_of(known):
        return False
    rows = known["networks"].values()
    files = all(is_right(folder / row["file"], row["sha256"]) for row in rows)
    return known["made_from"] == made_from and files


def sum_of(table: dict) -> str:
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def row(network: nn.Module, shapes: dict[str, list[int]], path: Path) -> dict:
    """What table.json says of ``path``; ValueError where it is too large or too far from
    ``network``.
    """
    far, size = difference(network, shapes, path), path.stat().st_size
    said = f"{path.stem}: {size / 1e6:.1f} MB, at most {far:.1e} from PyTorch"
    if not (far <= BOUND and size <= LARGEST_FILE):
        raise ValueError(f"{said}, which may be {LARGEST_FILE / 1e6:.0f} MB and {BOUND}")
    print(said, flush=True)
    return {
        "file": path.name,
        "bytes": size,
        "sha256": sha256(path),
        "difference": far,
        "inputs": [{"name": k, "shape": shape} for k, shape in shapes.items()],
    }


def write_runtime(folder: Path) -> None:
    """onnxruntime-web's files, fetched by npm where they are missing, checked by their sha256.
    OSError or ValueError where they cannot be had.
    """
    if all(is_right(folder / name, digest) for name, digest in RUNTIME_FILES.items()):
        return
    with tempfile.TemporaryDirectory() as temporary:
        files = unpacked(packed(Path(temporary)))
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != RUNTIME_FILES[name]:
            raise ValueError(f"{name} of {RUNTIME} is not the file that this page was tested with")
    for name, data in files.items():
        put(folder / name, data)


def packed(folder: Path) -> Path:
    """RUNTIME's archive, fetched into ``folder``; OSError where there is no npm or it fails."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError(f"npm is needed for {RUNTIME}: install Node.js, which brings it")
    pack = [npm, "pack", "--loglevel=error", "--fetch-retries=1", RUNTIME]
    done = subprocess.run(pack, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0]
        raise OSError(f"npm pack {RUNTIME} failed ({said}): is there a network?")
    return folder / f"{RUNTIME.replace('@', '-')}.tgz"


def unpacked(archive: Path) -> dict[str, bytes]:
    """RUNTIME_FILES from npm's archive; ValueError where it is cut or has no such files."""
    try:
        with tarfile.open(archive) as package:
            return {
                name: package.extractfile(f"package/dist/{name}").read()  # type: ignore[union-attr]
                for name in RUNTIME_FILES
            }
    except (tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"{archive.name}, as npm fetched it, is damaged ({error})") from error


def is_right(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def is_ours(folder: Path) -> bool:
    """Whether ``folder`` is a playground."""
    return (folder / "sampler.js").exists()


def write_page(folder: Path) -> None:
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)


def write_networks(folder: Path) -> None:
    """What the page in ``folder`` loads."""
    write_runtime(folder / "ort")
    write_models(folder / "models")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=BUILT)
    folder = parser.parse_args().folder
    with one_line_errors():
        if folder.is_dir() and any(folder.iterdir()) and not is_ours(folder):
            raise ValueError(f"{folder} holds something else: give a new folder")
        write_page(folder)
        write_networks(folder)


if __name__ == "__main__":
    main()
