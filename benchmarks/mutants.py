"""Deliberate errors in diffusion.py, one at a time: does tests/test_diffusion.py notice each?

    PYTHONPATH=. python benchmarks/mutants.py            # all; exit status 1 if one survives
    PYTHONPATH=. python benchmarks/mutants.py 12 40      # these only, with what pytest printed

Each mutant replaces one piece of the source, which must occur exactly once. A forked child puts the mutated module in
the place of the real one and runs the tests until the first failure. Needs os.fork (Linux, macOS).
"""

import contextlib
import io
import os
import sys
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "bedgen_utils" / "diffusion.py"
TESTS = ROOT / "tests" / "test_diffusion.py"

MUTANTS = [  # (what is wrong, the right code, the wrong code)
    ("linear schedule runs backwards", "torch.linspace(beta_1, beta_T, T", "torch.linspace(beta_T, beta_1, T"),
    ("scaled by T/1000", "β * 1000 / T", "β * T / 1000"),
    ("cosine without its square", "(1 + s)) ** 2", "(1 + s))"),
    ("cosine without its offset", "/ T + s) / (1 + s)", "/ T) / (1 + s)"),
    ("cosine without its cap", "(1 - f[1:] / f[:-1]).clamp(max=max_beta)", "(1 - f[1:] / f[:-1])"),
    ("divergence: variances swapped", "0.5 * (logvar2 - logvar1 +", "0.5 * (logvar1 - logvar2 +"),
    ("divergence: constant -1 dropped", "torch.expm1(logvar1 - logvar2)", "torch.exp(logvar1 - logvar2)"),
    ("divergence: distance not squared", "(mean1 - mean2) ** 2 *", "(mean1 - mean2).abs() *"),
    ("divergence: other variance under the distance", "(mean1 - mean2) ** 2 * torch.exp(-logvar2)",
     "(mean1 - mean2) ** 2 * torch.exp(-logvar1)"),
    ("bins too narrow", "h, σ = 1 / (bins - 1)", "h, σ = 1 / bins"),
    ("variance taken for standard deviation in L_0",
     "torch.exp(0.5 * logvar)\n    a =",
     "torch.exp(logvar)\n    a ="),
    ("lowest bin closed", "torch.where(x0 < -1 + h, -math.inf, (x0 - h - mean) / σ)", "(x0 - h - mean) / σ"),
    ("highest bin closed", "torch.where(x0 > 1 - h, math.inf, (x0 + h - mean) / σ)", "(x0 + h - mean) / σ"),
    ("upper tail not mirrored", "upper = a + b > 0", "upper = a + b > math.inf"),
    ("abar from beta", "torch.cumprod(self.alphas, 0)", "torch.cumprod(self.betas, 0)"),
    ("abar_{t-1} is abar_t", "ᾱ_prev = torch.cat([ᾱ[:1], ᾱ[:-1]])", "ᾱ_prev = ᾱ"),
    ("posterior variance is beta", "(1 - ᾱ_prev) / noise * β  # Eq. 9", "β"),
    ("posterior variance has sqrt(beta)",
     "(1 - ᾱ_prev) / noise * β  # Eq. 9",
     "(1 - ᾱ_prev) / noise * β.sqrt()"),
    ("posterior: abar_t for abar_{t-1} at x_0", "ᾱ_prev.sqrt() * β / noise", "ᾱ.sqrt() * β / noise"),
    ("posterior: root dropped at x_0", "ᾱ_prev.sqrt() * β / noise", "ᾱ_prev * β / noise"),
    ("posterior: sqrt(abar) for sqrt(alpha) at x_t",
     "self.alphas.sqrt() * (1 - ᾱ_prev)",
     "ᾱ.sqrt() * (1 - ᾱ_prev)"),
    ("posterior: root dropped at x_t", "self.alphas.sqrt() * (1 - ᾱ_prev)", "self.alphas * (1 - ᾱ_prev)"),
    ("SNR upside down", "self.snr = ᾱ / (1 - ᾱ)", "self.snr = (1 - ᾱ) / ᾱ"),
    ("log of beta-tilde_1 = 0", "small[:2] = small[2] if self.T > 1 else β[1]", "small[0] = 1"),
    ("small and large variances exchanged",
     "self.log_small, self.log_large = small",
     "self.log_large, self.log_small = small"),
    ("scale of eps: root dropped", '"eps": (ᾱ / noise).sqrt()', '"eps": ᾱ / noise'),
    ("scale of v upside down", '"v": noise.rsqrt()', '"v": noise.sqrt()'),
    ("t = 0 let through", "int(t.min()) < 1", "int(t.min()) < 0"),
    ("t = T + 1 let through", "int(t.max()) > self.T", "int(t.max()) > self.T + 1"),
    ("tables in float32", "table.to(x.dtype)", "table.float().to(x.dtype)"),
    ("every table read one step early", "[t].reshape(-1", "[t - 1].reshape(-1"),
    ("marginal mean without root",
     "return self._at(self.abar.sqrt(), t, x0) * x0, self",
     "return self._at(self.abar, t, x0) * x0, self"),
    ("marginal variance is a standard deviation",
     "self._at(1 - self.abar, t, x0)",
     "self._at((1 - self.abar).sqrt(), t, x0)"),
    ("noise scaled by its variance", "(1 - self.abar).sqrt(), t, x0) * noise", "1 - self.abar, t, x0) * noise"),
    ("noise of a single step", "(1 - self.abar).sqrt(), t, x0) * noise", "self.betas.sqrt(), t, x0) * noise"),
    ("x_0 from eps: divided by abar",
     "* eps) / self._at(self.abar.sqrt(), t, xt)",
     "* eps) / self._at(self.abar, t, xt)"),
    ("x_0 from eps: the report's Eq. 12",
     "return (xt - self._at((1 - self.abar).sqrt(), t, xt) * eps) / self._at(self.abar.sqrt(), t, xt)",
     "return (xt - self._at(self.betas / (1 - self.abar).sqrt(), t, xt) * eps) / self._at(self.alphas.sqrt(), t, xt)"),
    ("eps from x_0: sign",
     "(xt - self._at(self.abar.sqrt(), t, xt) * x0)",
     "(xt + self._at(self.abar.sqrt(), t, xt) * x0)"),
    ("velocity: sign",
     "* eps - self._at((1 - self.abar).sqrt(), t, x0) * x0",
     "* eps + self._at((1 - self.abar).sqrt(), t, x0) * x0"),
    ("x_0 from v: sign",
     "* xt - self._at((1 - self.abar).sqrt(), t, xt) * v",
     "* xt + self._at((1 - self.abar).sqrt(), t, xt) * v"),
    ("x_0 from the mean: coefficients exchanged", "return (mean - self._at(self.posterior_coef_xt, t, xt) * xt)",
     "return (mean - self._at(self.posterior_coef_x0, t, xt) * xt)"),
    ("learned range not halved", "(1 + range_) / 2", "1 + range_"),
    ("mean and variance channels exchanged",
     "prediction, range_ = output.chunk",
     "range_, prediction = output.chunk"),
    ("learned range reversed",
     "small + self._split(output, x)[1] * (large - small)",
     "large + self._split(output, x)[1] * (small - large)"),
    ("clamp forgotten in p_mean_variance", "x̂0 = x̂0.clamp(-1, 1) if clip else x̂0\n        small", "small"),
    ("clamp always on in p_mean_variance",
     "x̂0 = x̂0.clamp(-1, 1) if clip else x̂0\n        small",
     "x̂0 = x̂0.clamp(-1, 1)\n        small"),
    ("L_0 at t = 2", "torch.where((t == 1).reshape", "torch.where((t == 2).reshape"),
    ("density without its constant", "0.5 * (math.log(2 * math.pi) + logvar +", "0.5 * (logvar +"),
    ("terms summed over dimensions", "L.reshape(len(L), -1).mean(1)", "L.reshape(len(L), -1).sum(1)"),
    ("prior at T - 1",
     "torch.full((len(x0),), self.T, device=x0.device)",
     "torch.full((len(x0),), max(self.T - 1, 1), device=x0.device)"),
    ("block weight dropped", "n * self._L", "self._L"),
    ("blocks overlap", "first += n", "first += max(1, n - 1)"),
    ("blocks of equal length", "max(1, first // (thin or self.T))", "thin or 1"),
    ("last block runs past T", "min(max(1, first // (thin or self.T)), self.T + 1 - first)",
     "min(max(1, first // (thin or self.T)), self.T + 2 - first)"),
    ("first of each block, not a random one", "t_ = first + int(torch.randint(n, (1,), **draw))", "t_ = first"),
    ("nats, not bits", "terms = terms / math.log(2)", "terms = terms * 1"),
    ("bound with uniform noise",
     "torch.randn(x0.shape, **draw, dtype=x0.dtype)",
     "torch.rand(x0.shape, **draw, dtype=x0.dtype)"),
    ("terms filed under the next index", "terms[:, t_ - 1] =", "terms[:, t_ % self.T] ="),
    ("L_T left out", "terms[:, self.T] = self.prior_kl(x0)", "terms[:, self.T] = 0"),
    ("min-SNR turned into max-SNR", "self.snr.clamp(max=gamma)", "self.snr.clamp(min=gamma)"),
    ("min-SNR: square dropped", "self.target_scale**2", "self.target_scale"),
    ("hybrid loss without T", "hybrid * self.T *", "hybrid *"),
    ("hybrid loss trains the mean", "torch.cat([prediction.detach(),", "torch.cat([prediction,"),
    ("guidance towards the guide", "guide(x, t), model(x, t), w)", "model(x, t), guide(x, t), w)"),
    ("noise levels begin beyond T's", "σ.clamp(0.05, sigma_max)", "σ.clamp(0.05, 500.0)"),
    ("power of noise forgotten", "steps, dtype=torch.float64) ** rho", "steps, dtype=torch.float64)"),
    ("last noise level left out", "nearest[1:].tolist()", "nearest[1:-1].tolist()"),
    ("timesteps rounded down", "-(-self.T * (steps - i) // steps)", "self.T * (steps - i) // steps"),
    ("noise at the last step",
     "std = σ2**0.5 * (β / σ2 * eta**2) ** (0.5 * self._split(output, x)[1])",
     "std = β**0.5 * eta",
     "if eta > 0 and s > 0:",
     "if eta > 0:"),
    ("noise scaled by its variance in the sampler", "std = σ2**0.5 *", "std = σ2 *"),
    ("uniform noise in the sampler", "std * torch.randn(", "std * torch.rand("),
    ("no noise between steps", "x = x + std * torch", "x = x + 0 * std * torch"),
    ("large variance widened twice",
     "** (0.5 * self._split(output, x)[1])",
     "** (1.0 * self._split(output, x)[1])"),
    ("clamp forgotten in the sampler", "x̂0 = D = x̂0.clamp(-1, 1) if clip else x̂0", "D = x̂0"),
    ("network told the next t",
     "t_ = torch.full((len(x),), t, device=x.device)\n            output",
     "t_ = torch.full((len(x),), max(s, 1), device=x.device)\n            output"),
    ("second order: step ratio doubled", "(2 * (λ[t] - λ[r]).item())", "(λ[t] - λ[r]).item()"),
    ("second order: extrapolates backwards", "* (x̂0 - x̂0_before)", "* (x̂0_before - x̂0)"),
    ("eta not squared", "σ2 = eta**2 * (1 - ᾱ_s)", "σ2 = eta * (1 - ᾱ_s)"),
    ("sampler's noise direction from the wrong time", "ε = (x - ᾱ_t**0.5 * D)", "ε = (x - ᾱ_s**0.5 * D)"),
    ("room for the noise not made", "max(1 - ᾱ_s - σ2, 0.0) ** 0.5", "(1 - ᾱ_s) ** 0.5"),
    ("generator ignored in the sampler",
     "draw = dict(generator=generator, device=generator.device if generator is not None else device)",
     "draw = dict(generator=None, device=device)"),
]


def mutate(source, pairs):
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        if source.count(old) != 1:
            raise SystemExit(f"occurs {source.count(old)} times, not once: {old}")
        source = source.replace(old, new)
    return source


def caught(source, show):
    """Do the tests fail with this source of diffusion.py (in a forked child), and which is the first that does?"""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        text = io.StringIO()
        try:
            import pytest

            module = types.ModuleType("bedgen_utils.diffusion")
            sys.modules["bedgen_utils.diffusion"] = module
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                exec(compile(source, "diffusion.py (mutant)", "exec"), module.__dict__)
                options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=line"]
                status = int(pytest.main([*options, str(TESTS)]))
        except BaseException as error:  # a mutant that cannot even be imported is caught too
            status = 1
            text.write(f"FAILED import: {error!r}")
        failed = next((line for line in text.getvalue().splitlines() if line.startswith(("FAILED", "ERROR"))), "")
        os.write(write, f"{status} {failed.split('::')[-1][:90]}".encode())
        if show:
            os.write(2, text.getvalue().encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    status, _, name = os.read(read, 4096).decode().partition(" ")
    os.close(read)
    return status not in ("0", "5"), name


def main():
    import diffusers  # noqa: F401  imported once, so that children do not
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    torch.set_num_threads(1)  # a forked child must not inherit worker threads
    source = SOURCE.read_text(encoding="utf-8")
    chosen = [int(a) for a in sys.argv[1:]] or list(range(1, len(MUTANTS) + 1))
    mutated = {i: mutate(source, MUTANTS[i - 1][1:]) for i in chosen}
    if caught(source, True)[0]:
        raise SystemExit("the tests fail without any mutation")
    survivors, began = [], time.monotonic()
    for i in chosen:
        dead, name = caught(mutated[i], len(sys.argv) > 1)
        print(f"{i:3d} {'caught  ' if dead else 'SURVIVED'} {MUTANTS[i - 1][0]}  [{name}]", flush=True)
        survivors += [] if dead else [MUTANTS[i - 1][0]]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants caught in {time.monotonic() - began:.0f} s")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
