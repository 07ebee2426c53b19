"""Deliberate errors in the package, one at a time: do its tests notice each?

    python -m tools.mutants                    # all of MODULES; exit status 1 if one survives
    python -m tools.mutants diffusion --jobs 4
    python -m tools.mutants diffusion:12 diffusion:40    # these alone, with what pytest printed

Each mutant replaces pieces of a module's source, each of which must occur exactly once. A forked
child imports the module with these replaced and runs the module's tests until the first failure;
some children run at a time. What is known is kept in runs/mutants: a run that is stopped goes on
where it was, and only what a change of the module, of its tests or of the rest of the package
concerns is tried again. Needs os.fork (Linux, macOS).
"""

import argparse
import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGE = "bedgen_utils"
KNOWN = REPO / "runs" / "mutants"
LIMIT = 900  # seconds; a mutant that loops for ever is caught

Mutant = tuple[str, ...]  # what is wrong, the right code, the wrong code, more right and wrong code


@dataclass(frozen=True)
class Module:
    """A module's mutants and the tests that should notice them."""

    tests: tuple[str, ...]
    mutants: tuple[Mutant, ...]


DIFFUSION: tuple[Mutant, ...] = (
    (
        "linear schedule runs backwards",
        "torch.linspace(beta_1, beta_T, T",
        "torch.linspace(beta_T, beta_1, T",
    ),
    ("scaled by T/1000", "beta * 1000 / T", "beta * T / 1000"),
    ("cosine without its square", "(1 + s)) ** 2", "(1 + s))"),
    ("cosine without its offset", "/ T + s) / (1 + s)", "/ T) / (1 + s)"),
    (
        "cosine without its cap",
        "(1 - f[1:] / f[:-1]).clamp(max=max_beta)",
        "(1 - f[1:] / f[:-1])",
    ),
    ("divergence: variances swapped", "0.5 * (logvar2 - logvar1 +", "0.5 * (logvar1 - logvar2 +"),
    (
        "divergence: constant -1 dropped",
        "torch.expm1(logvar1 - logvar2)",
        "torch.exp(logvar1 - logvar2)",
    ),
    ("divergence: distance not squared", "(mean1 - mean2) ** 2 *", "(mean1 - mean2).abs() *"),
    (
        "divergence: other variance under the distance",
        "(mean1 - mean2) ** 2 * torch.exp(-logvar2)",
        "(mean1 - mean2) ** 2 * torch.exp(-logvar1)",
    ),
    ("bins too narrow", "h, sigma = 1 / (bins - 1)", "h, sigma = 1 / bins"),
    (
        "variance taken for standard deviation in L_0",
        "torch.exp(0.5 * logvar)\n    a =",
        "torch.exp(logvar)\n    a =",
    ),
    (
        "lowest bin closed",
        "torch.where(x0 < -1 + h, -math.inf, (x0 - h - mean) / sigma)",
        "(x0 - h - mean) / sigma",
    ),
    (
        "highest bin closed",
        "torch.where(x0 > 1 - h, math.inf, (x0 + h - mean) / sigma)",
        "(x0 + h - mean) / sigma",
    ),
    ("upper tail not mirrored", "upper = a + b > 0", "upper = a + b > math.inf"),
    ("abar from beta", "torch.cumprod(self.alphas, 0)", "torch.cumprod(self.betas, 0)"),
    (
        "abar_{t-1} is abar_t",
        "abar_before = torch.cat([self.abar[:1], self.abar[:-1]])",
        "abar_before = self.abar",
    ),
    ("posterior variance is beta", "(1 - abar_before) / noise * beta  # Eq. 9", "beta"),
    (
        "posterior variance has sqrt(beta)",
        "(1 - abar_before) / noise * beta  # Eq. 9",
        "(1 - abar_before) / noise * beta.sqrt()",
    ),
    (
        "posterior: abar_t for abar_{t-1} at x_0",
        "abar_before.sqrt() * beta / noise",
        "self.abar.sqrt() * beta / noise",
    ),
    (
        "posterior: root dropped at x_0",
        "abar_before.sqrt() * beta / noise",
        "abar_before * beta / noise",
    ),
    (
        "posterior: sqrt(abar) for sqrt(alpha) at x_t",
        "self.alphas.sqrt() * (1 - abar_before)",
        "self.abar.sqrt() * (1 - abar_before)",
    ),
    (
        "posterior: root dropped at x_t",
        "self.alphas.sqrt() * (1 - abar_before)",
        "self.alphas * (1 - abar_before)",
    ),
    (
        "SNR upside down",
        "self.snr = self.abar / (1 - self.abar)",
        "self.snr = (1 - self.abar) / self.abar",
    ),
    (
        "log of beta-tilde_1 = 0",
        "small[:2] = small[2] if self.T > 1 else beta[1]",
        "small[0] = 1",
    ),
    (
        "small and large variances exchanged",
        "self.log_small, self.log_large = small",
        "self.log_large, self.log_small = small",
    ),
    ("scale of eps: root dropped", '"eps": (self.abar / noise).sqrt()', '"eps": self.abar / noise'),
    ("scale of v upside down", '"v": noise.rsqrt()', '"v": noise.sqrt()'),
    ("t = 0 let through", "not 1 <= int(t.min())", "not 0 <= int(t.min())"),
    ("t = T + 1 let through", "<= int(t.max()) <= self.T:", "<= int(t.max()) <= self.T + 1:"),
    (
        "tables in float32",
        "getattr(self, table).to(x.dtype)",
        "getattr(self, table).float().to(x.dtype)",
    ),
    ("every table read one step early", "[t].reshape(-1", "[t - 1].reshape(-1"),
    (
        "marginal mean without root",
        'return self._at("sqrt_abar", t, x0) * x0, self',
        'return self._at("abar", t, x0) * x0, self',
    ),
    (
        "marginal variance is a standard deviation",
        'self._at("noise_variance", t, x0)',
        'self._at("sqrt_noise", t, x0)',
    ),
    (
        "noise scaled by its variance",
        'self._at("sqrt_noise", t, x0) * noise',
        'self._at("noise_variance", t, x0) * noise',
    ),
    (
        "noise of a single step",
        'self._at("sqrt_noise", t, x0) * noise',
        'self._at("betas", t, x0).sqrt() * noise',
    ),
    (
        "x_0 from eps: divided by abar",
        '* eps) / self._at("sqrt_abar", t, xt)',
        '* eps) / self._at("abar", t, xt)',
    ),
    (
        "x_0 from eps: the report's Eq. 12",
        'return (xt - self._at("sqrt_noise", t, xt) * eps) / self._at("sqrt_abar", t, xt)',
        'return (xt - self._at("betas", t, xt) / self._at("sqrt_noise", t, xt) * eps)'
        ' / self._at("alphas", t, xt).sqrt()',
    ),
    (
        "eps from x_0: sign",
        '(xt - self._at("sqrt_abar", t, xt) * x0)',
        '(xt + self._at("sqrt_abar", t, xt) * x0)',
    ),
    (
        "velocity: sign",
        '* eps - self._at("sqrt_noise", t, x0) * x0',
        '* eps + self._at("sqrt_noise", t, x0) * x0',
    ),
    (
        "x_0 from v: sign",
        '* xt - self._at("sqrt_noise", t, xt) * v',
        '* xt + self._at("sqrt_noise", t, xt) * v',
    ),
    (
        "x_0 from the mean: coefficients exchanged",
        'rest = mean - self._at("posterior_coef_xt", t, xt) * xt',
        'rest = mean - self._at("posterior_coef_x0", t, xt) * xt',
    ),
    ("learned range not halved", "(1 + v) / 2", "1 + v"),
    (
        "mean and variance channels exchanged",
        "prediction, v = output.chunk",
        "v, prediction = output.chunk",
    ),
    (
        "learned range reversed",
        "small + self._split(output, x)[1] * (large - small)",
        "large + self._split(output, x)[1] * (small - large)",
    ),
    (
        "clamp forgotten in p_mean_variance",
        "x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat\n        small",
        "small",
    ),
    (
        "clamp always on in p_mean_variance",
        "x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat\n        small",
        "x0_hat = x0_hat.clamp(-1, 1)\n        small",
    ),
    ("L_0 at t = 2", "torch.where((t == 1).reshape", "torch.where((t == 2).reshape"),
    (
        "density without its constant",
        "0.5 * (math.log(2 * math.pi) + logvar +",
        "0.5 * (logvar +",
    ),
    (
        "terms summed over dimensions",
        "L.reshape(len(L), -1).mean(1)",
        "L.reshape(len(L), -1).sum(1)",
    ),
    (
        "prior at T - 1",
        "torch.full((len(x0),), self.T, device=x0.device)",
        "torch.full((len(x0),), max(self.T - 1, 1), device=x0.device)",
    ),
    ("block weight dropped", "n * self._L", "self._L"),
    ("blocks overlap", "first += n", "first += max(1, n - 1)"),
    ("blocks of equal length", "max(1, first // (thin or self.T))", "thin or 1"),
    (
        "last block runs past T",
        "min(max(1, first // (thin or self.T)), self.T + 1 - first)",
        "min(max(1, first // (thin or self.T)), self.T + 2 - first)",
    ),
    (
        "first of each block, not a random one",
        "t_ = first + int(torch.randint(n, (1,), generator=generator, device=device))",
        "t_ = first",
    ),
    ("nats, not bits", "terms = terms / math.log(2)", "terms = terms * 1"),
    (
        "bound with uniform noise",
        "self.q_sample(x0, t, normal_like(x0, generator))",
        "self.q_sample(x0, t, torch.rand(x0.shape, generator=generator, dtype=x0.dtype))",
    ),
    ("terms filed under the next index", "terms[:, t_ - 1] =", "terms[:, t_ % self.T] ="),
    ("L_T left out", "terms[:, self.T] = self.prior_kl(x0)", "terms[:, self.T] = 0"),
    ("min-SNR turned into max-SNR", "self.snr.clamp(max=5)", "self.snr.clamp(min=5)"),
    ("min-SNR: square dropped", "self.target_scale**2", "self.target_scale"),
    ("hybrid loss without T", "hybrid * self.T *", "hybrid *"),
    (
        "hybrid loss trains the mean",
        "torch.cat([prediction.detach(),",
        "torch.cat([prediction,",
    ),
    (
        "guidance towards the early network",
        "early(x, t), model(x, t), w)",
        "model(x, t), early(x, t), w)",
    ),
    (
        "noise levels begin beyond T's",
        "sigma.clamp(0.05, sigma_max)",
        "sigma.clamp(0.05, 500.0)",
    ),
    (
        "power of noise forgotten",
        "steps, dtype=torch.float64) ** rho",
        "steps, dtype=torch.float64)",
    ),
    ("last noise level left out", "nearest[1:].tolist()", "nearest[1:-1].tolist()"),
    (
        "timesteps rounded down",
        "-(-self.T * (steps - i) // steps)",
        "self.T * (steps - i) // steps",
    ),
    (
        "noise at the last step",
        "    if step.s == 0:\n        return mean\n",
        "",
        "std = small**0.5 * (beta / small) ** (0.5 * step.fraction)",
        "std = beta**0.5",
    ),
    ("noise scaled by its variance in the sampler", "std = small**0.5 *", "std = small *"),
    (
        "uniform noise in the sampler",
        "std * normal_like(step.x, step.generator)",
        "std * torch.rand(step.x.shape, dtype=step.x.dtype)",
    ),
    (
        "no noise between steps",
        "return mean + std * normal_like",
        "return mean + 0 * std * normal_like",
    ),
    ("large variance widened twice", "** (0.5 * step.fraction)", "** (1.0 * step.fraction)"),
    (
        "clamp forgotten in the sampler",
        "x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat\n            if callback",
        "if callback",
    ),
    (
        "network told the next t",
        "at = torch.full((len(x),), t, device=x.device)\n            output = model(x, at)",
        "at = torch.full((len(x),), t, device=x.device)\n"
        "            output = model(x, at * 0 + max(s, 1))",
    ),
    ("second order: step ratio doubled", "(2 * (at_t - at_r))", "(at_t - at_r)"),
    (
        "second order: extrapolates backwards",
        "* (step.x0_hat - step.before.x0_hat)",
        "* (step.before.x0_hat - step.x0_hat)",
    ),
    (
        "second order: never taken",
        "if step.before is None or step.s == 0:",
        "if step.before is None or step.s >= 0:",
    ),
    (
        "sampler's noise direction from the wrong time",
        "eps_hat = (step.x - abar_t**0.5 * step.x0_hat)",
        "eps_hat = (step.x - abar_s**0.5 * step.x0_hat)",
    ),
    (
        "DDIM's noise scaled by its variance",
        "(1 - abar_s) ** 0.5 * eps_hat",
        "(1 - abar_s) * eps_hat",
    ),
    (
        "DDPM's step: alpha of the whole way",
        "alpha = abar_t / abar_s\n",
        "alpha = abar_t\n",
    ),
    (
        "generator ignored in the sampler",
        "std * normal_like(step.x, step.generator)",
        "std * normal_like(step.x)",
    ),
    (
        "one generator for all samples where each has its own",
        "normal_like(x[i], g) for i, g in",
        "normal_like(x[i], generator[0]) for i, g in",
    ),
)

MODULES = {  # the table to extend
    "diffusion": Module(("tests/test_diffusion.py",), DIFFUSION),
}


def source_of(module: str) -> Path:
    return REPO / PACKAGE / f"{module}.py"


def mutate(source: str, mutant: Mutant) -> str:
    """``source`` with the error in it. ValueError where it does not fit the source."""
    what, *pieces = mutant
    for right, wrong in zip(pieces[::2], pieces[1::2], strict=True):
        if source.count(right) != 1:
            raise ValueError(f"{what}: occurs {source.count(right)} times, not once: {right}")
        source = source.replace(right, wrong)
    return source


# ---- one mutant, in a child


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module as if its file held another source."""

    source = ""

    def get_code(self, fullname: str):
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module, by a ``Loader`` with this source."""

    def __init__(self, module: str, source: str):
        self.name, self.path, self.source = f"{PACKAGE}.{module}", source_of(module), source

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        loader = Loader(name, str(self.path))
        loader.source = self.source
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def start(module: str, source: str, show: bool) -> tuple[int, int]:
    """Run the module's tests on ``source`` in a child; its process id, and where it will tell how
    they went."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    signal.alarm(LIMIT)
    text = io.StringIO()
    try:
        import pytest

        sys.meta_path.insert(0, Finder(module, source))
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=line"]
            tests = [str(REPO / test) for test in MODULES[module].tests]
            status = int(pytest.main([*options, "--rootdir", str(REPO), *tests]))
    except BaseException as error:  # a mutant that cannot even be imported is caught too
        status = 1
        text.write(f"\nFAILED import: {error!r}")
    lines = text.getvalue().splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "")
    if show:
        os.write(2, text.getvalue().encode())
    os.write(write, f"{status} {failed.split('::')[-1][:90]}".encode())
    os._exit(0)


def caught(module: str, sources: dict[str, str], jobs: int, show: bool) -> Iterator[tuple]:
    """Yields (name, was it caught, by which test, seconds) for each of the named sources as it
    ends."""
    waiting = dict(sources)
    running: dict[int, tuple[str, int, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = next(iter(waiting))
            child, read = start(module, waiting.pop(name), show)
            running[child] = name, read, time.monotonic()
        child, ended = os.wait()
        name, read, began = running.pop(child)
        status, _, test = os.read(read, 4096).decode().partition(" ")
        os.close(read)
        if os.WIFSIGNALED(ended):
            status, test = "1", f"ended by signal {os.WTERMSIG(ended)}"
        # 5: no tests were run, which notices nothing.
        yield name, status not in ("0", "5"), test, round(time.monotonic() - began)


# ---- all of a module


def try_module(module: str, numbers: list[int], jobs: int) -> list[dict]:
    """A row for each mutant (of these numbers, else of all). Prints them as they end."""
    source = source_of(module).read_text(encoding="utf-8")
    mutants = MODULES[module].mutants
    chosen = numbers or range(1, len(mutants) + 1)
    mutated = {str(i): mutate(source, mutants[i - 1]) for i in chosen}
    path = KNOWN / f"{module}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    around = surroundings(module)
    keys = {
        name: hashlib.sha256((around + text).encode()).hexdigest()
        for name, text in ({"0": source} | mutated).items()
    }
    todo = {name: mutated[name] for name in mutated if numbers or keys[name] not in known}
    if todo and keys["0"] not in known:
        (unmutated,) = caught(module, {"0": source}, 1, bool(numbers))
        if unmutated[1]:
            raise SystemExit(f"{module}: without any mutation {unmutated[2]} fails")
        known[keys["0"]] = list(unmutated[1:])
    for name, dead, test, seconds in caught(module, todo, jobs, bool(numbers)):
        known[keys[name]] = [dead, test, seconds]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(known, indent=0), encoding="utf-8")
        os.replace(temporary, path)
        what = mutants[int(name) - 1][0]
        print(
            f"{module}:{name:3} {'caught  ' if dead else 'SURVIVED'} {what}  [{test}]", flush=True
        )
    row = ("caught", "test", "seconds")
    return [
        {"number": int(name), "what": mutants[int(name) - 1][0]}
        | dict(zip(row, known[keys[name]], strict=True))
        for name in mutated
    ]


def surroundings(module: str) -> str:
    """A checksum of all that decides, beside the module itself, whether a mutant is caught."""
    files = [path for path in (REPO / PACKAGE).glob("*.py") if path != source_of(module)]
    files += [REPO / test for test in MODULES[module].tests] + [REPO / "tests" / "conftest.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="*", default=list(MODULES), help="MODULE or MODULE:NUMBER")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="children at a time")
    given = parser.parse_args()
    chosen: dict[str, list[int]] = {}
    for name, _, number in (which.partition(":") for which in given.which):
        if name not in MODULES:
            parser.error(f"no mutants of {name!r}; there are {', '.join(MODULES)}")
        chosen.setdefault(name, []).extend([int(number)] if number else [])

    import diffusers  # noqa: F401  imported once, so that children do not
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    torch.set_num_threads(1)  # a forked child must not inherit worker threads
    sys.path.insert(0, str(REPO))
    table = {name: try_module(name, numbers, given.jobs) for name, numbers in chosen.items()}
    print("\n| module | mutants | caught | survived | seconds |\n|---|---|---|---|---|")
    for name, rows in table.items():
        dead, seconds = sum(row["caught"] for row in rows), sum(row["seconds"] for row in rows)
        print(f"| {name} | {len(rows)} | {dead} | {len(rows) - dead} | {seconds} |")
    survivors = [
        f"{name}:{row['number']} {row['what']}"
        for name, rows in table.items()
        for row in rows
        if not row["caught"]
    ]
    print("\n".join(["", "survived:", *survivors]) if survivors else "\nnone survived")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
