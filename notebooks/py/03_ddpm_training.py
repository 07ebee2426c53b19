# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Training a diffusion model
#
# After this notebook you can
#
# * say what a denoiser is asked to do, and build a small U-Net for it;
# * train it from scratch on two CPU cores until it paints bedrooms, and read its curves;
# * take up two questions about the report: how far a lack of training explains the failure of its diffusion model, and whether it is a fault that the noise it predicted
#   "got darker";
# * draw images with three samplers and say what each network evaluation buys, and what guidance by an early network adds.
#
# You need notebooks 01 and 02: $q(x_t \mid x_0)$ (Eq. 8), the posterior (Eq. 10), the parameterisations $\epsilon$, $x_0$ and $v$, and the
# bound $L_{\text{vlb}}$ (Eq. 4). In profile `cpu` the notebook trains for about four minutes on two cores that multiply
# bfloat16 numbers and for thirteen on two that do not, and measures for two to seven; the run you see says how long its training took.

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released" or "gpu"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import copy
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib.ticker import LogLocator
from scipy import stats

from bedgen_utils.checks import check, check_fails, check_mean
from bedgen_utils.data import load_bedrooms, to_float, to_uint8
from bedgen_utils.diffusion import (
    GaussianDiffusion,
    ddim_step,
    ddpm_step,
    dpmpp_2m_step,
    guided,
)
from bedgen_utils.features import EfficientNetLite0, features
from bedgen_utils.metrics import (
    PREPARED,
    Protocol,
    SmallSampleWarning,
    compare,
    frechet_bootstrap,
    moments,
    precision_recall,
)
from bedgen_utils.models import DDPM, load, save
from bedgen_utils.optim import EMA, learning_rate, orthogonalize
from bedgen_utils.report import read_study, save_figure, save_table, show_images, use_style
from bedgen_utils.run import start
from bedgen_utils.train import DDPMRecipe, train_ddpm

run = start("03", profile, seed, out)
use_style()
p = run.p
recipe = DDPMRecipe(**p.ddpm, seed=seed)
# Some distances below come from few images; each says how many, and is only compared with others
# from as many.
warnings.filterwarnings("ignore", category=SmallSampleWarning)

train_images = load_bedrooms(p.source, "train", p.size, limit=p.train_images or None)
validation_images = load_bedrooms(
    p.source, "validation", p.size, limit=(16 * p.n_look if run.profile == "smoke" else None)
)
print(
    f"{len(train_images):,} training images, {len(validation_images):,} kept apart for "
    f"validation, {p.size} x {p.size} pixels each"
)

# %% [markdown]
# ## 1. What went wrong in the report
#
# The report took 5 % of its data, could afford three epochs of six to seven hours, was not satisfied with what came out and blames the training time. It followed
# Hugging Face's tutorial, which has a large U-Net at 128 x 128 pixels. Count what that time bought. We take the data to be LSUN's 3,033,042 bedrooms (the report does not say); a
# twentieth, three times over, is then what the network saw. The model of Ho et al. (2020) for the same images saw about 154 million.

# %%
seen_report, seen_paper = 3 * round(0.05 * 3_033_042), 154_000_000
display(
    Markdown(
        f"The report's network then saw **{seen_report:,}** images, the published one "
        f"{seen_paper:,}: **{seen_paper / seen_report:.0f} "
        f"times** as many. And it took about {6.5 * 3600 / (seen_report / 3) * 1000:.0f} ms for "
        f"each. This notebook, in profile `{run.profile}`, shows its network "
        f"{recipe.images:,}."
    )
)

# %% [markdown]
# The number alone is not the whole reason: in profile `cpu` our network sees fewer still, but smaller images, with another recipe. What counts is how much training the task needs
# against how much one can pay. So there are two ways out: a longer computation, or a cheaper one. On two CPU cores it must be the cheaper one: small images, a small network,
# a prediction target, a weighting of the loss and a learning rate that make every step count.

# %% [markdown]
# ## 2. The task of the network
#
# Take an image $x_0$ with values in $[-1, 1]$, a time $t \in \{1, \dots, T\}$ and noise $\epsilon \sim \mathcal N(0, I)$, and mix them as Eq. 8 says,
# $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1-\bar\alpha_t}\, \epsilon$. A network $f_\theta(x_t, t)$ with parameters $\theta$ sees the mixture and the
# time, and is asked for the *velocity* (Salimans & Ho, 2022)
#
# <!-- eq:03-velocity -->
# $$ v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\, x_0 , \qquad
#    L_v(\theta) = \mathbb E_{x_0, \epsilon, t}\; \tfrac1d \,\| f_\theta(x_t, t) - v \|^2 , $$
#
# where $d = 3 S^2$ is the number of values in an image of side $S$. Any of $\epsilon$, $x_0$, $v$ gives the other two (notebook 02). They
# differ in what a small error costs. Near $t = T$ the mixture *is* the noise: predicting $\epsilon$ is then trivial and says nothing
# about the room, while $v \approx -x_0$ there. Near $t = 1$ the mixture is the image: predicting $x_0$ is then trivial, while $v \approx \epsilon$. $v$ asks a useful question at every $t$.
#
# A network whose last layer starts at zero, as ours does, returns $0$ before it has learnt anything. Its loss can therefore be worked out
# before training: $x_0$ and $\epsilon$ are independent and $\epsilon$ has mean 0 and variance 1, so
#
# <!-- eq:03-first-loss -->
# $$ \mathbb E\,\tfrac1d\|0 - v\|^2 = \bar\alpha_t + (1 - \bar\alpha_t)\, \mathbb E\,\tfrac1d\|x_0\|^2 . $$

# %%
untrained, diffusion = recipe.build()  # a U-Net; the cosine schedule, prediction of v

rooms = to_float(train_images[:512])
g = torch.Generator().manual_seed(seed)
t = torch.randint(1, diffusion.T + 1, (len(rooms),), generator=g)
noise = torch.randn(rooms.shape, generator=g)
x_t = diffusion.q_sample(rooms, t, noise)
v = diffusion.velocity(rooms, noise, t)
x0_again = diffusion.predict_xstart_from_v(x_t, t, v)
check("eq:03-velocity", x0_again, rooms, 1e-5, "x_0 from x_t and v, float32")
with torch.no_grad():
    first_losses = diffusion.training_loss(untrained, rooms, t, noise)
expected = diffusion.abar[t] + (1 - diffusion.abar[t]) * rooms.square().flatten(1).mean(1)
check_mean(
    "eq:03-first-loss",
    first_losses - expected,
    0.0,
    "loss of the untrained network minus the formula",
)

# %% [markdown]
# **Which errors matter?** $L_v$ counts an error in $v$ the same at every $t$. That is one choice among many. ($L_{simple}$ of notebook 02, an equal weight for errors in $\epsilon$, is another:
# the error in $\epsilon$ is $\sqrt{\bar\alpha_t}$ times that in $v$, so it weighs an error in $v$ by $\bar\alpha_t$.) Because $x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v$,
# an error in $v$ is an error in $x_0$ divided by $\sqrt{1-\bar\alpha_t}$. Little noise (small $t$) then counts for much: the last touch of grain, which no one sees, takes more than its share of
# the loss. With $\text{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$, the signal-to-noise ratio of Eq. 8, Hang et al. (2023) weigh the error in $x_0$ by
# $\min(\text{SNR}_t, \gamma)$, $\gamma = 5$. Written for $v$:
#
# <!-- eq:03-weight -->
# $$ \min(\text{SNR}_t, \gamma)\, \|\hat x_0 - x_0\|^2 = w_t\, \| f_\theta(x_t, t) - v \|^2 , \qquad w_t = \min\!\big(\bar\alpha_t,\; \gamma\,(1-\bar\alpha_t)\big) . $$
#
# It is a hump: next to nothing for images that are nearly clean and for those that are nearly noise, most in between. What it does to the images in equal minutes,
# section 11 measures.

# %%
w = torch.minimum(diffusion.abar, 5 * (1 - diffusion.abar))
check(
    "eq:03-weight",
    diffusion.loss_weights("min_snr")[1:],
    w[1:],
    1e-9,
    "the weights that training uses",
)
g = torch.Generator().manual_seed(seed)
answer = v + 0.1 * torch.randn(v.shape, generator=g)  # any answer will do
x0_error = (diffusion.predict_xstart_from_v(x_t, t, answer) - rooms).square().flatten(1).mean(1)
check(
    "eq:03-weight",
    diffusion.snr.clamp(max=5)[t] * x0_error,
    w[t] * (answer - v).square().flatten(1).mean(1),
    1e-5,
    "error in x_0 and error in v, weighted",
)
check(
    "eq:03-weight",
    diffusion.training_loss(lambda x, t: answer, rooms, t, noise, weighting="min_snr"),
    w[t] * (answer - v).square().flatten(1).mean(1),
    1e-6,
    "the loss that training uses",
)
fig, ax = plt.subplots(figsize=(6, 2.6))
ax.plot(range(1, diffusion.T + 1), w[1:], label="min-SNR, γ = 5")
ax.axhline(1, color="C1", ls="--", label="$L_v$: all alike")
ax.set(xlabel="time t", ylabel="weight $w_t$ of the error in v", ylim=(0, 1.15))
ax.legend()
save_figure(
    run,
    fig,
    "nb03_weight",
    "How much an error in v counts at each t.",
    {"largest": w.max().item(), "at_t": int(w.argmax())},
)
plt.show()

# %% [markdown]
# ## 3. The network
#
# A U-Net looks at the image on several scales: on the way down the map shrinks and the channels grow, on the way up it is the other way round, and
# what was computed on the way down is added back in where the sizes agree (*skip connections*). Coarse maps decide where a bed may stand; fine ones, where
# its edge runs. The report argued that the narrow middle cannot carry noise, which helps. Look at the skips before you believe it: they carry the full
# resolution around the bottleneck, noise included. What the coarse levels bring is a view of the whole room at little cost.
#
# `unet.py` is short; read it. Some choices in it make a step cheaper, one makes it teach more. The skips **add** where most U-Nets concatenate, so that the blocks on the way up have
# half the inputs. At full size, where a block costs most, there is **none on the way down**. And a **direct path** adds $c_t\,x_t$ to the answer, one learned number $c_t$ for each time: images
# have less power than the noise, and then $v$ has a part along $x_t$ itself (next equation; none if both had power 1), which the blocks need not carry. The first layer can also **fold** each 2 x 2 pixels into channels (`fold=2`), so that no
# convolution runs at full size at all; but a cheaper step may teach less. Section 11 compares, in equal minutes; profile `cpu` does not fold.
#
# How large should $c_t$ be? If all the network could do were to scale $x_t$, and $\sigma^2 = \mathbb E\,\tfrac1d\|x_0\|^2$ is the power of the images, least squares would give
#
# <!-- eq:03-direct -->
# $$ c_t = \frac{\mathbb E\langle v, x_t\rangle}{\mathbb E\|x_t\|^2} = \frac{\sqrt{\bar\alpha_t(1-\bar\alpha_t)}\;(1-\sigma^2)}{\bar\alpha_t\,\sigma^2 + 1-\bar\alpha_t} ,
#    \qquad \mathbb E\,\tfrac1d\|c_t x_t - v\|^2 = \frac{\sigma^2}{\bar\alpha_t\,\sigma^2 + 1-\bar\alpha_t} . $$
#
# What remains for the blocks is the second expression; without the path it would be the loss of the untrained network above.

# %%
power = float(rooms.square().mean())
signal = diffusion.abar * power + 1 - diffusion.abar
best_direct = (diffusion.abar * (1 - diffusion.abar)).sqrt() * (1 - power) / signal
for t_value in (100, 500, 900):
    z = torch.randn(rooms.shape, generator=g)
    at = torch.full((len(rooms),), t_value)
    x_at, v_at = diffusion.q_sample(rooms, at, z), diffusion.velocity(rooms, z, at)
    c, a = float(best_direct[t_value]), float(diffusion.abar[t_value])
    # How bright each image is: mean 0, taken out so as not to blur the comparison.
    own = rooms.square().flatten(1).mean(1) - power
    check_mean(
        "eq:03-direct",
        ((v_at - c * x_at) * x_at).flatten(1).mean(1) + ((a * (1 - a)) ** 0.5 + c * a) * own,
        0.0,
        f"t = {t_value}: what is left of v has no part along x_t",
    )
    check_mean(
        "eq:03-direct",
        (v_at - c * x_at).square().flatten(1).mean(1) - ((1 - a) ** 0.5 + c * a**0.5) ** 2 * own,
        power / float(signal[t_value]),
        "the power of that",
    )

# %%
from torch.utils.flop_counter import FlopCounterMode

rows, handles = [], []


def note(name):
    def hook(module, inputs, output):
        rows.append(
            {
                "stage": name,
                "channels": output.shape[1],
                "map": f"{output.shape[2]} x {output.shape[3]}",
                "parameters": sum(q.numel() for q in module.parameters()),
            }
        )

    return hook


stages = [("first convolution", untrained.first)]
stages += [
    (f"down {i + 2}, block {j + 1}", b)
    for i, level in enumerate(untrained.down)
    for j, b in enumerate(level)
]
stages += [("middle", untrained.middle)]
stages += [
    (f"up {i + 1}, block {j + 1}", b)
    for i, level in reversed(list(enumerate(untrained.up)))
    for j, b in enumerate(level)
]
stages += [("last convolution", untrained.last)]
handles = [module.register_forward_hook(note(name)) for name, module in stages]
with FlopCounterMode(display=False) as flops:
    untrained(x_t[:1], t[:1]).sum().backward()
for handle in handles:
    handle.remove()
parameters = sum(q.numel() for q in untrained.parameters())
gigaflop = flops.get_total_flops() / 1e9
untrained.zero_grad()
display(
    save_table(
        run,
        rows,
        "nb03_unet",
        f"The U-Net from pixels to velocity: {parameters / 1e6:.2f} million parameters, of which "
        "the rest sit in the time "
        f"embedding and between the levels; {gigaflop:.2f} GFLOP an image for a training step.",
    )
)

# %% [markdown]
# ## 4. The recipe
#
# **Which way to step.** A convolution's filters are a matrix $W$: a row for each channel that comes out, a column for each number that a filter looks at. Let $M$ be the gradient of
# the loss in $W$, a matrix of the same shape; a step $D$ changes the loss, to first order, by $\langle M, D\rangle = \sum_{ij} M_{ij} D_{ij}$. Which step is steepest depends on how the length of a step is measured. The entries of $D$ say
# little about what it does. At each place of the map the filters see one patch, written as a vector, and multiply it by $W$; how far the answer there moves at most, for a patch of length 1, is the *largest singular value* of $D$, $\|D\|$.
#
# Every matrix can be written $M = U S V^\top = \sum_i s_i\, u_i v_i^\top$ with orthonormal columns $u_i$ of $U$ and $v_i$ of $V$ and *singular values* $s_1 \ge s_2 \ge \dots \ge 0$, the diagonal of $S$. So, for all steps with $\|D\| \le 1$,
#
# <!-- eq:03-steepest -->
# $$ \langle M, D\rangle = \sum_i s_i\, u_i^\top D\, v_i \;\ge\; -\sum_i s_i , \qquad \text{with equality for } D = -U V^\top : $$
#
# for unit vectors $|u_i^\top D\, v_i| \le \|D v_i\| \le \|D\| \le 1$; and $-U V^\top$, whose singular values are all 1, has $u_i^\top D\, v_i = -1$. A steepest step is minus the gradient with its singular values set to 1.
# Plain gradient descent keeps them, and a few large ones then use up the step. To step along $-U V^\top$ instead is the idea of **Muon** (Jordan et al., 2024).
#
# It needs $U V^\top$ at every step, and a few matrix products come near enough. Divide by $\|M\|_F = (\sum_i s_i^2)^{1/2}$, the root of the sum of squared entries: $X = M / \|M\|_F$ has the same $U$ and $V$ and singular values $s_i \le 1$ (from here on $s_i$ and $S$ are those of $X$).
# Then apply five times
#
# <!-- eq:03-newton-schulz -->
# $$ f(X) = a X + b\,(X X^\top) X + c\,(X X^\top)^2 X = U f(S)\, V^\top , \qquad f(s) = a s + b s^3 + c s^5 , $$
#
# with $(a, b, c) = (3.4445, -4.7750, 2.0315)$, chosen so that small $s$ grow fast and all but the tiniest end near 1, not on it.
#
# Training uses not $M$ itself but its running mean $\bar M_k = 0.95\,\bar M_{k-1} + 0.05\,M_k$, looked at one step ahead, $0.95\,\bar M_k + 0.05\,M_k$. If $W$ is $m \times n$, the entries of $U V^\top$ have the root mean square $1/\sqrt{\max(m, n)}$; the step is
# $0.2\,\eta\sqrt{\max(m, n)}$ times $-U V^\top$, so that the entries move by about $0.2\,\eta$, as they do with Adam at the rate $\eta$ (Liu et al., 2025). So the rest (biases, normalisations, the time embedding, the layers from and to three channels), which AdamW steps,
# can have the same rate. Besides, both shrink the weights by the factor $1 - 0.01\,\eta$ a step.

# %%
dice = torch.Generator().manual_seed(seed)
# Ten steps on few images: the last layer begins at zero, and until it has moved no gradient
# passes through it.
begun = copy.deepcopy(untrained)
adam = torch.optim.AdamW(begun.parameters(), 1e-3)
for i in range(11):
    adam.zero_grad()
    few = torch.randint(len(rooms), (16,), generator=dice)
    diffusion.training_loss(begun, rooms[few], t[few], noise[few]).mean().backward()
    if i < 10:
        adam.step()
M = begun.up[0][0].conv1.weight.grad.flatten(1)
U, S, Vt = torch.linalg.svd(M.double(), full_matrices=False)
check(
    "eq:03-steepest",
    (M.double() * -(U @ Vt)).sum(),
    -S.sum(),
    1e-12,
    "what a step along -U Vᵀ gains, to first order",
)


def shortened(D):
    return D / torch.linalg.matrix_norm(D, 2)[:, None, None]


tries = shortened(
    torch.cat(
        [
            torch.randn(100, *M.shape, generator=dice, dtype=torch.float64),
            -M.double()[None],
            -M.double().sign()[None],
        ]
    )
)
gains = -(tries * M).sum((1, 2)) / S.sum()
assert float(gains.max()) < 1
display(
    Markdown(
        "Of what $-UV^\\top$ gains at this layer, the gradient itself, shortened to $\\|D\\| = "
        f"1$, gains {100 * float(gains[-2]):.0f} %, its signs (what Adam's first step would "
        "take), shortened likewise, "
        f"{100 * float(gains[-1]):.0f} %, and the best of {len(gains) - 2} random steps "
        f"{100 * float(gains[:-2].max()):.1f} %. By this measure of length $-UV^\\top$ wins by "
        "construction; by the largest entry of $D$ the signs would."
    )
)


def five_times(s):
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


scaled = S / M.double().norm()
check(
    "eq:03-newton-schulz",
    orthogonalize(M.double()),
    U @ five_times(scaled).diag() @ Vt,
    1e-12,
    "five times f, as training does it, against the decomposition",
)
s = torch.logspace(-4, 0, 2000, dtype=torch.float64)
after = five_times(s)
start = s[after < 0.68].max()  # the largest that does not arrive
low, high = after[s > start].min(), after.max()
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
left.semilogx(s, after)
left.axhline(1, color="0.6", lw=0.8)
left.set(
    xlabel="singular value s before",
    ylabel="after five times f",
    ylim=(0, 1.3),
    title="What becomes of a singular value",
)
right.semilogy(range(1, len(S) + 1), scaled, "o", ms=3, label="gradient, scaled")
right.semilogy(
    range(1, len(S) + 1),
    torch.linalg.svdvals(orthogonalize(M.double())),
    "s",
    ms=3,
    label="after five times f",
)
right.set(
    xlabel="number of the singular value, by size",
    ylabel="singular value",
    title="One layer after ten steps",
)
right.legend()
save_figure(
    run,
    fig,
    "nb03_muon",
    "Five times the polynomial f on one singular value (left) and on the gradient of one layer "
    "(right).",
    {
        "largest_s_that_does_not_arrive": start.item(),
        "lowest": low.item(),
        "highest": high.item(),
        "gain_of_gradient": gains[-2].item(),
        "gain_of_signs": gains[-1].item(),
    },
)
plt.show()
display(
    Markdown(
        f"Every $s$ above {start:.4f} ends between {low:.2f} and {high:.2f}. The step that gains "
        "most to first order need not be the one that trains best; "
        "section 11 compares in equal minutes (its rows *profile cpu* and *AdamW alone*)."
    )
)

# %% [markdown]
# **Learning rate.** It rises over the first steps (the averages of the gradient are not to be trusted yet), stays high, and falls over the last 40 % of the run, so that
# the noise of the single steps dies down at the end.
#
# **Averaged weights.** We never sample from $\theta$ itself but from a moving average, $\theta^{\text{ema}}_k = d_k\, \theta^{\text{ema}}_{k-1} + (1-d_k)\, \theta_k$
# after step $k$, from $\theta^{\text{ema}}_0 = \theta_0$. With a constant decay $d$ the random weights $\theta_0$ of the start keep the share
#
# <!-- eq:03-ema -->
# $$ r_0(k) = d^{\,k} , \qquad\text{with a warm-up } d_j = \min\!\Big(d, \tfrac{1+j}{10+j}\Big): \quad r_0(k) = \prod_{j=1}^{k} d_j , $$
#
# and for a short run that share decides whether the samples look like anything at all.

# %%
steps_in_all = -(-recipe.images // recipe.batch)
k = np.arange(1, steps_in_all + 1)
rate = [learning_rate(int(i), steps_in_all, recipe.rate, recipe.warmup) for i in k]
share_constant, share_0_9999 = recipe.ema**k, 0.9999**k
share_warm = np.cumprod(np.minimum(recipe.ema, (1 + k) / (10 + k)))

# The class that training uses, on one weight that starts at 1 and is 0 from the first step on:
# its average is the share itself.
toy = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
torch.nn.init.ones_(toy.weight)
average = EMA(copy.deepcopy(toy), 0.7)  # so low that the cap d is reached, after 20 steps
torch.nn.init.zeros_(toy.weight)
for i in range(1, 31):
    average.update(toy, i)
check(
    "eq:03-ema",
    average.average.weight.item(),
    np.prod([min(0.7, (1 + j) / (10 + j)) for j in range(1, 31)]),
    1e-12,
    "share of the start after 30 steps",
)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
left.plot(k, np.array(rate) * 1e3)
left.set(xlabel="training step", ylabel="learning rate / 10⁻³", title="Learning rate")
right.semilogy(k, np.maximum(share_0_9999, 1e-9), label="constant 0.9999")
right.semilogy(k, np.maximum(share_constant, 1e-9), label=f"constant {recipe.ema}")
right.semilogy(k, np.maximum(share_warm, 1e-9), label=f"{recipe.ema} with warm-up")
right.set(
    xlabel="training step",
    ylabel="share of the initial weights",
    ylim=(1e-9, 2),
    title="What the average still holds of the start",
)
right.legend()
save_figure(
    run,
    fig,
    "nb03_recipe",
    "Learning rate over the run (left); share of the random initial weights in the moving "
    "average (right).",
    {"steps": steps_in_all, "share_0.9999": share_0_9999[-1], "share_warm": share_warm[-1]},
)
plt.show()
display(
    Markdown(
        f"After the {steps_in_all:,} steps of this profile a constant decay of 0.9999, common for "
        "long runs, would still hold "
        f"{100 * share_0_9999[-1]:.0f} % of the random start; ours with its warm-up holds "
        f"{100 * share_warm[-1]:.2g} % (its decay is then at "
        f"{min(recipe.ema, (1 + steps_in_all) / (10 + steps_in_all)):.4f})."
    )
)

# %% [markdown]
# **Which times.** Many $t$ have a small weight (section 2). Drawn evenly they would take as many images as the others and count for little. So each $t$ is drawn with a probability $p_t$
# in proportion to its weight, and counted back: for any losses $\ell_t$
#
# <!-- eq:03-times -->
# $$ \frac1T\sum_{t=1}^{T} w_t\,\ell_t = \sum_{t=1}^{T} p_t\,\frac{w_t\,\ell_t}{T\,p_t} = \bar w\sum_{t=1}^{T} p_t\,\ell_t , \qquad p_t = \frac{w_t}{\sum_s w_s},\quad \bar w = \frac1T\sum_t w_t , $$
#
# the same loss on average; the cell counts how many images go where. The times of one batch are *stratified* besides: one random offset, and the batch spread evenly over the probabilities, so that no
# batch is all easy or all hard.

# %%
w = diffusion.loss_weights(recipe.weighting)[1:]
share = w / w.sum()
# The loss of the untrained network, as an example.
loss_of_zero = diffusion.abar[1:] + (1 - diffusion.abar[1:]) * power
dice = torch.Generator().manual_seed(seed)
# 2,000 batches, drawn as train_ddpm draws them.
u = (torch.rand(2000, 1, generator=dice) + torch.arange(recipe.batch) / recipe.batch) % 1
drawn = torch.searchsorted(share.cumsum(0), u.double()).clamp(max=diffusion.T - 1)
counted_back = (w * loss_of_zero / (diffusion.T * share))[drawn].mean(1)
check_mean(
    "eq:03-times",
    counted_back,
    float((w * loss_of_zero).mean()),
    "batches drawn by weight and counted back, against the even mean",
)
light = w < 0.2 * w.max()
display(
    Markdown(
        f"{100 * light.double().mean():.0f} % of all times weigh less than a fifth of the "
        f"heaviest. Drawn evenly they would take {100 * light.double().mean():.0f} % of the "
        "images; "
        f"drawn by weight they take {100 * light[drawn].double().mean():.0f} %."
    )
)

# %% [markdown]
# **The rest.** Gradients clipped at norm 1; each image mirrored half of the time (a mirrored room is a room).
#
# ## 5. Training
#
# Every so often the averaged network paints from the same starting noise and we measure the Fréchet distance to the validation images in EfficientNet-Lite0
# features (notebook 06 explains it; smaller is better; it is *not* an FID). How it paints is the matter of section 8: there a second average of the weights, kept from early in the training, is asked too: the *early network*.
# Until that average is kept the two are one and it changes nothing; afterwards it falls ever farther behind, so the distances below hold its growing effect too. An interrupted run resumes from its last checkpoint.

# %%
reference = moments(validation_images, cache=True)


@torch.no_grad()
def losses_of(network):
    """The weighted loss on n_look training and as many validation images.

    At times and with noise that are always the same.
    """
    where, losses = next(network.parameters()).device, []
    for images in (train_images[: p.n_look], validation_images[: p.n_look]):
        g = torch.Generator().manual_seed(seed)
        t = torch.randint(1, diffusion.T + 1, (p.n_look,), generator=g)
        noise = torch.randn(p.n_look, *images.shape[1:], generator=g)
        losses.append(
            diffusion.training_loss(
                network,
                to_float(images).to(where),
                t.to(where),
                noise.to(where),
                weighting=recipe.weighting,
            )
        )
    known, unseen = losses
    return {
        "train_loss": known.mean().item(),
        "validation_loss": unseen.mean().item(),
        "gap_error": (unseen - known).std().item() / p.n_look**0.5,
    }


def look():
    """Sixteen images from fixed noise, the distance of the first n_look, and two losses."""
    made = ddpm.sample(p.n_look, seed=1)
    score = compare(made, reference, split="validation")
    return {
        "distance": score.distance,
        "n": p.n_look,
        "made": made[:16].tolist(),
        **losses_of(ddpm.network),
    }


if p.train:
    ddpm = DDPM.from_recipe(recipe)
    ddpm.steps = p.steps  # what `sample` takes by default, from here on and in the file
    rows = train_ddpm(
        ddpm,
        train_images,
        recipe,
        run.own,
        evaluate=look,
        evaluate_at=p.looks,
        log_every=50 * recipe.batch,
    )
    ddpm.history = list(rows)  # training happens here
    ddpm.samples = {
        row["images"]: torch.tensor(row.pop("made"), dtype=torch.uint8)
        for row in ddpm.history
        if "made" in row
    }
    save(ddpm, run.own / "weights" / "ddpm.safetensors", run.provenance())
# From here on everything is measured on the weights as they are on disk, rounded to float16.
ddpm = load("ddpm", run)
diffusion, history = ddpm.diffusion, ddpm.history
print(
    f"weights: {ddpm.source}; {history[-1]['images']:,} images seen in "
    f"{history[-1]['seconds'] / 60:.1f} minutes of training"
)

# %%
losses = [row for row in history if "loss" in row]
looks = [row for row in history if "distance" in row]
seconds, seen = losses[-1]["seconds"], losses[-1]["images"]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.plot([r["images"] for r in losses], [r["loss"] for r in losses], label="while training")
if "validation_loss" in looks[0]:
    left.plot(
        [r["images"] for r in looks],
        [r["train_loss"] for r in looks],
        "o",
        label="averaged network, training images",
    )
    left.plot(
        [r["images"] for r in looks],
        [r["validation_loss"] for r in looks],
        "x",
        ms=8,
        label="averaged network, validation images",
    )
    left.legend(fontsize=8)
left.set(
    xlabel="images seen",
    ylabel="weighted loss (mean of the last steps)",
    yscale="log",
    title="Loss",
)
right.plot([r["images"] for r in looks], [r["distance"] for r in looks], "o-")
right.set(
    xlabel="images seen",
    ylabel=f"Fréchet distance ({looks[-1]['n']} samples)",
    ylim=(0, None),
    title="Distance to the validation images",
)
save_figure(
    run,
    fig,
    "nb03_training",
    "The weighted loss (left) and the Fréchet distance of samples (right) over the images seen.",
    {
        "loss": [[r["images"], r["loss"]] for r in losses],
        "distance": [[r["images"], r["distance"]] for r in looks],
        "looks": [{k: v for k, v in r.items() if k != "made"} for r in looks],
        "seconds": seconds,
    },
    reference.protocol(looks[0]["n"], split="validation"),
)
plt.show()
earlier = looks[-2]
then = min(losses, key=lambda r: abs(r["images"] - earlier["images"]))
display(
    Markdown(
        f"From {earlier['images']:,} to {looks[-1]['images']:,} images seen the loss changes by "
        f"{100 * (losses[-1]['loss'] / then['loss'] - 1):+.0f} %, the distance of the images by "
        f"{100 * (looks[-1]['distance'] / earlier['distance'] - 1):+.0f} %. A part of $v$ cannot "
        "be predicted from $x_t$, so the loss has a floor that we do not know; the distance has "
        "one too (section 9 "
        "measures it). Neither percentage says how far there is to go; in the last 40 % of the "
        f"run the falling learning rate has its share in both. Training took {seconds / 60:.1f} "
        f"minutes, {seen / seconds:.0f} images a second; "
        f"the report's took {6.5 * 3600 / (seen_report / 3) * seen / seconds:.1f} times as long "
        f"for each (of {128**2 / p.size**2:.0f} times the pixels)."
    )
)

# %% [markdown]
# ## 6. What the report showed, done again
#
# Fig. 2 and Fig. 3 are sixteen samples after the first and after the third epoch, as in the report. An epoch here is one pass over the training images. All
# images with the same place in the grid grow from the same noise.

# %%
epoch = len(train_images)


def after(epochs):
    """The look nearest to so many epochs."""
    return min(ddpm.samples, key=lambda n: abs(n - epochs * epoch))


for epochs, figure_id in ((1, "fig02_ddpm_epoch_1"), (3, "fig03_ddpm_epoch_3")):
    n = after(epochs)
    fig, ax = plt.subplots(figsize=(4.2, 4.4))
    distance = next(r["distance"] for r in looks if r["images"] == n)
    show_images(ax, ddpm.samples[n], 4, f"epoch {n / epoch:.3g} ({n:,} images seen)")
    save_figure(
        run,
        fig,
        figure_id,
        f"Sixteen samples of the DDPM after {n:,} images seen, epoch {n / epoch:.3g}.",
        {"images_seen": n, "epochs": n / epoch, "distance": distance, "n": looks[0]["n"]},
        reference.protocol(looks[0]["n"], split="validation"),
    )
    plt.show()

# %%
fig, axes = plt.subplots(1, len(ddpm.samples), figsize=(1.7 * len(ddpm.samples), 4))
for ax, (n, images) in zip(np.atleast_1d(axes), ddpm.samples.items(), strict=True):
    show_images(ax, images[:10], 2, f"{n:,}")
fig.suptitle("images seen")
save_figure(
    run,
    fig,
    "nb03_growth",
    "The same ten noises at growing numbers of images seen.",
    {"images_seen": list(ddpm.samples)},
)
plt.show()

# %% [markdown]
# ## 7. Why predicted noise "gets darker"
#
# The report shows the noise its model predicted before and after training beside the true noise, and notes that training made it darker, its values halved. What an untrained network
# returns depends on how it starts; the comparison that means something is with the true noise. Is a prediction weaker than that a fault? Let
# $\hat\epsilon(x_t)$ be the best possible answer in squared error, the conditional mean $\mathbb E[\epsilon \mid x_t]$. Its error is uncorrelated with any function of $x_t$,
# hence with $\hat\epsilon$ itself, and so
#
# <!-- eq:03-shrink -->
# $$ \mathbb E\,\langle \hat\epsilon, \epsilon\rangle = \mathbb E\,\|\hat\epsilon\|^2
#    \qquad\Longrightarrow\qquad \frac{\sqrt{\mathbb E\|\hat\epsilon\|^2}}{\sqrt{\mathbb E\|\epsilon\|^2}} = \operatorname{corr}(\hat\epsilon, \epsilon) . $$
#
# (corr runs over all values of all images; $\epsilon$, and so $\hat\epsilon$, has mean 0.) The best prediction is never stronger than the noise, and weaker exactly as far as it is
# uncertain. Check it first where all is known: for $x_0 \sim \mathcal N(0, s^2)$ the
# conditional mean is $\hat\epsilon = \sqrt{1-\bar\alpha_t}\; x_t / (\bar\alpha_t s^2 + 1 - \bar\alpha_t)$.

# %%
g = torch.Generator().manual_seed(seed + 1)
s, abar_t = 0.5, diffusion.abar[diffusion.T // 3].item()
x0_toy, eps_toy = (
    s * torch.randn(200_000, generator=g, dtype=torch.float64),
    torch.randn(200_000, generator=g, dtype=torch.float64),
)
xt_toy = abar_t**0.5 * x0_toy + (1 - abar_t) ** 0.5 * eps_toy
best = (1 - abar_t) ** 0.5 * xt_toy / (abar_t * s**2 + 1 - abar_t)
check_mean("eq:03-shrink", best * eps_toy - best**2, 0.0, "⟨ε̂, ε⟩ − |ε̂|² for Gaussian data")
# The standard error of a correlation is at most 1/√n; five of them are allowed.
check(
    "eq:03-shrink",
    (best.square().mean() / eps_toy.square().mean()).sqrt(),
    torch.corrcoef(torch.stack([best, eps_toy]))[0, 1],
    5 / len(best) ** 0.5,
    "ratio of norms, and correlation",
)


# %%
def noise_answer(model, t_value, images, seed):
    """x_t, the true noise, and the noise implied by the network's v, for one t."""
    g = torch.Generator().manual_seed(seed)
    x0 = to_float(images)
    eps = torch.randn(x0.shape, generator=g)
    t = torch.full((len(x0),), t_value)
    xt = diffusion.q_sample(x0, t, eps)
    with torch.no_grad():
        x0_hat = diffusion.predict_xstart(model(xt, t), xt, t)
    return xt, eps, diffusion.predict_eps_from_xstart(xt, t, x0_hat)


device = next(ddpm.network.parameters()).device
trained = copy.deepcopy(ddpm.network).cpu()
rooms_seen = validation_images[:32]
times = [max(1, int(f * diffusion.T)) for f in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)]
ratios, correlations = [], []
for t_value in times:
    _, eps, eps_hat = noise_answer(trained, t_value, rooms_seen, seed)
    ratios.append((eps_hat.norm() / eps.norm()).item())
    correlations.append(
        torch.corrcoef(torch.stack([eps_hat.flatten(), eps.flatten()]))[0, 1].item()
    )

show_t = [times[1], times[3], times[5]]
fig = plt.figure(figsize=(10, 5.2))
grid = fig.add_gridspec(3, 6, width_ratios=[1, 1, 1, 1, 0.15, 2.4])


def as_image(x):
    return to_uint8(x / 3)  # one scale for all: three standard deviations to each side


for row, t_value in enumerate(show_t):
    xt, eps, before = noise_answer(untrained.eval(), t_value, rooms_seen[:1], seed)
    _, _, after_training = noise_answer(trained, t_value, rooms_seen[:1], seed)
    for column, (image, title) in enumerate(
        [
            (to_uint8(xt), "$x_t$"),
            (as_image(eps), "true noise"),
            (as_image(before), "before training"),
            (as_image(after_training), "after training"),
        ]
    ):
        ax = fig.add_subplot(grid[row, column])
        ax.imshow(image[0].permute(1, 2, 0))
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        if row == 0:
            ax.set_title(title)
        if column == 0:
            ax.set_ylabel(f"t = {t_value}")
ax = fig.add_subplot(grid[:, 5])
ax.plot(times, ratios, "o-", label="norm of ε̂ / norm of ε")
ax.plot(times, correlations, "s--", label="correlation of ε̂ and ε")
ax.set(xlabel="time t", ylabel="ratio", ylim=(0, 1.05), title="Trained network")
ax.legend(loc="lower right")
save_figure(
    run,
    fig,
    "fig04_predicted_noise",
    "True noise, and the noise the network's answer implies before and after training, all on "
    "one grey scale. Right: "
    "its norm and its correlation with the truth, over t.",
    {"t": times, "norm_ratio": ratios, "correlation": correlations},
)
plt.show()
display(
    Markdown(
        f"At t = {times[0]} the predicted noise is {ratios[0]:.2f} times as strong as the true "
        f"noise and its correlation with it is {correlations[0]:.2f}; at t = {times[-1]}, "
        f"{ratios[-1]:.2f} and {correlations[-1]:.2f}. Over all t shown the two curves differ by "
        f"at most {max(abs(np.array(ratios) - np.array(correlations))):.2f}, "
        f"at t = {times[int(np.argmax(abs(np.array(ratios) - np.array(correlations))))]}; for the "
        "best answer they would agree, and small t is where the loss hardly weighs an error "
        "(section 2). So a "
        "shrunken prediction is not a fault in itself: it is what the best answer looks like "
        "where the noise cannot be told from the image. "
        "(Before training our network returns v = 0, which amounts to the answer $\\hat\\epsilon "
        "= \\sqrt{1-\\bar\\alpha_t}\\,x_t$, image and all: weaker than after training, so here "
        "training went the other way than in the report.) Whether the report's was a fault "
        "depends on its correlation with the true noise."
    )
)

# %% [markdown]
# ## 8. Sampling
#
# All samplers are one loop (`GaussianDiffusion.sample`) that calls a function for each step: the network's answer gives $\hat x_0$, and with $x_t$ a noise $\hat\epsilon$; mix the two anew in the
# proportions of a smaller $t$ (Eq. 8), perhaps with fresh noise for a part of $\hat\epsilon$. **Ancestral** sampling (DDPM) adds as much as the posterior of Eq. 11 has, **DDIM** adds none, **DPM-Solver++(2M)** adds none
# and extrapolates $\hat x_0$ from the last two answers, linearly in $\tfrac12\log\mathrm{SNR}$. Each evaluation of the network costs the same, so the question is what quality so many evaluations buy.
#
# It also matters *where* the few evaluations lie. Evenly spread times are one choice. Another looks at the noise itself, $\sigma_t=\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ (noise per unit of image), and takes
# $n$ times whose $\sigma$ are nearest to
#
# <!-- eq:03-times-by-noise -->
# $$ \sigma_i = \Big(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1}\,\big(\sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho}\big)\Big)^{\rho}, \qquad i = 0,\dots,n-1 , $$
#
# with $\sigma_{\min}=0.05$ (Karras et al., 2022, Eq. 5, who take $\rho=7$ and other ends). We take $\sigma_{\max}=20$ at 32 pixels a side and twice that at twice the side: a thing that covers four times the pixels, each with its own noise, drowns in twice the noise. The larger $\rho$, the more of the times lie where there is little noise; the smaller, the more at the start, where
# most of the image is still open. Even times are sparse there: the cell prints where the first step of ten ends. The first time by noise is replaced by $t=T$, where sampling begins. ($\rho$ and both ends were chosen by trial,
# with 250 and 500 samples each against the validation images.)

# %%
rho, sigma_max = 3.0, 20 * p.size / 32  # what DDPM.sample takes unless told otherwise
sigma = ((1 - diffusion.abar) / diffusion.abar).sqrt()
by_noise = diffusion.timesteps(10, rho, sigma_max)
formula = (
    sigma_max ** (1 / rho) + np.arange(10) / 9 * (0.05 ** (1 / rho) - sigma_max ** (1 / rho))
) ** rho
nearest_sigma = [sigma[1:][(sigma[1:] - s).abs().argmin()].item() for s in formula]
check(
    "eq:03-times-by-noise",
    sigma[by_noise[1:-1]].tolist(),
    nearest_sigma[1:],
    1e-12,
    "noise at the chosen times: the nearest there is to the formula's",
)
print("even:    ", diffusion.timesteps(10))
print(
    "by noise:",
    by_noise,
    f"\nthe first even step ends at sigma = {sigma[diffusion.timesteps(10)[1]]:.1f}, the first by "
    f"noise at {sigma[by_noise[1]]:.1f}",
)

# %%
SAMPLERS = {
    "ancestral (DDPM)": (ddpm_step, None),
    "DDIM": (ddim_step, None),
    "DPM-Solver++(2M)": (dpmpp_2m_step, None),
    "DPM-Solver++(2M), times by noise": (dpmpp_2m_step, rho),
}
solver_rows = []
for name, (sampler, spread) in SAMPLERS.items():
    for steps in p.solver_steps:
        began = time.monotonic()
        made = ddpm.sample(p.n_solver, seed=2, steps=steps, guidance=1, sampler=sampler, rho=spread)
        took = time.monotonic() - began
        solver_rows.append(
            {
                "sampler": name,
                "network evaluations": len(diffusion.timesteps(steps, spread, sigma_max)) - 1,
                "Fréchet distance": compare(made, reference, split="validation").distance,
                "seconds per 1,000": took / p.n_solver * 1000,
            }
        )
fig, ax = plt.subplots(figsize=(6, 3.2))
for name, marker in zip(SAMPLERS, "os^D", strict=True):
    mine = [r for r in solver_rows if r["sampler"] == name]
    ax.plot(
        [r["network evaluations"] for r in mine],
        [r["Fréchet distance"] for r in mine],
        marker + "-",
        label=name,
    )
ax.set(
    xlabel="network evaluations per image",
    ylabel=f"Fréchet distance ({p.n_solver} samples)",
    xscale="log",
    ylim=(0, None),
)
ax.set_xticks(p.solver_steps, [str(s) for s in p.solver_steps])
ax.minorticks_off()
ax.legend()
save_figure(
    run,
    fig,
    "nb03_samplers",
    "Quality against cost for three samplers, one of them with two ways to spread its times, "
    f"{p.n_solver} samples each from the same noise.",
    {"rows": solver_rows},
    reference.protocol(p.n_solver, split="validation"),
)
plt.show()
cheap = min(
    (r for r in solver_rows if r["network evaluations"] == p.solver_steps[0]),
    key=lambda r: r["Fréchet distance"],
)
display(
    Markdown(
        f"With {p.solver_steps[0]} evaluations {cheap['sampler']} does best, at "
        f"{cheap['Fréchet distance']:.0f}. "
        f"(Each of these numbers is from {p.n_solver} samples alone. So few make it scatter and "
        "also raise it, as notebook 06 shows: compare the numbers of this figure with one "
        "another, not with those of sections 5 and 9.)"
    )
)

# %% [markdown]
# **As far as all the steps.** How good could the samples of such a network be, had one the patience for all $T$ steps of the ancestral sampler? A notebook has not. A *study*, a long computation that runs apart from
# the notebooks (`make studies`), did it once, with the weights of profile `cpu` that come with the repository (`studies/samplers.py`; without guidance, which is the matter of the next part, unless a row says so). All its sets of samples begin with the same noise (the ancestral sampler adds its own on the way), and all
# are resampled alike, so that the difference of two distances has a standard error of its own: the scatter of the differences over the resamples. A guided step asks two networks and counts as two evaluations.

# %%
long_runs = read_study("samplers")
long_runs["draws"] = [np.array(draws.split(), float) for draws in long_runs["resampled"]]
patient = long_runs.loc[long_runs[long_runs["sampler"] == "ancestral"]["evaluations"].idxmax()]
real = long_runs[long_runs["evaluations"] == 0].iloc[0]
assert patient["evaluations"] == 1000  # all the steps
# Rows of other seeds, numbers of samples, threads or weights would not compare.
assert len(long_runs[["seed", "samples", "threads", "weights"]].drop_duplicates()) == 1
of_study = Protocol(
    500,
    3_000,
    "validation",
    PREPARED,
    f"images 32x32 px, {EfficientNetLite0.resize}",
    "efficientnet-lite0",
    EfficientNetLite0.sha256,
)
costs = long_runs[long_runs["evaluations"] > 0].rename(
    columns={
        "evaluations": "network evaluations",
        "distance": "Fréchet distance",
        "seconds for 1,000": "seconds per 1,000",
    }
)
costs["to the patient one"] = costs["Fréchet distance"] / patient["distance"]
costs["error"] = [
    (draws - patient["draws"]).std(ddof=1) / patient["distance"] for draws in costs["draws"]
]
costs = costs[
    [
        "sampler",
        "network evaluations",
        "Fréchet distance",
        "to the patient one",
        "error",
        "seconds per 1,000",
    ]
]
by_sampler = costs.sort_values("network evaluations").groupby("sampler", sort=False)
fig, ax = plt.subplots(figsize=(7.5, 3.6))
for i, name in enumerate(costs["sampler"].unique()):
    mine = by_sampler.get_group(name)
    ax.errorbar(
        mine["network evaluations"],
        mine["Fréchet distance"],
        2 * mine["error"] * patient["distance"],
        fmt="os^Dv"[i] + "-",
        ms=4,
        capsize=2,
        label=name,
    )
ax.axhline(
    1.05 * patient["distance"],
    color="k",
    lw=0.8,
    ls="--",
    label=f"5 % above {patient['evaluations']:,} ancestral steps",
)
ax.axhline(real["distance"], color="0.5", lw=0.8, ls=":", label="training images (floor)")
ax.set(
    xlabel="network evaluations per image",
    ylabel=f"Fréchet distance ({patient['samples']} samples)",
    xscale="log",
    yscale="log",
)
ax.yaxis.set_minor_locator(LogLocator(subs=(1.2, 1.5, 2, 3, 6, 8)))
for formatted in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
    formatted("{x:.0f}")
ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
save_figure(
    run,
    fig,
    "nb03_samplers_long",
    f"Quality against cost up to all steps of the ancestral sampler, {patient['samples']} samples "
    "each; bars: two standard errors of the difference to that sampler. Of the study from commit "
    f"{patient['commit']}.",
    {"rows": costs.to_dict("records"), "floor": real["distance"]},
    of_study,
    study="samplers",
)
plt.show()


def cheapest(rows):
    """The least evaluations tried whose distance is at most 5 % above the patient sampler's.

    Fewer than that sampler's, and as words.
    """
    enough = rows[
        (rows["to the patient one"] <= 1.05)
        & (rows["network evaluations"] < patient["evaluations"])
    ]
    if enough.empty:
        return "does not come so near with any number tried"
    r = enough.loc[enough["network evaluations"].idxmin()]
    return (
        f"comes there with {r['network evaluations']} ({r['Fréchet distance']:.0f}, "
        f"{100 * (r['to the patient one'] - 1):+.1f} ± {200 * r['error']:.1f} %, "
        f"{r['seconds per 1,000']} instead of "
        f"{patient['seconds for 1,000']} seconds for 1,000 images)"
    )


display(
    Markdown(
        f"All {patient['evaluations']:,} ancestral steps end at {patient['distance']:.0f} "
        f"(training images: {real['distance']:.0f}). Which is the smallest number tried, below "
        f"{patient['evaluations']:,}, that ends at most 5 % above? "
        + "; ".join(
            f"**{name}** {cheapest(by_sampler.get_group(name))}"
            for name in costs["sampler"].unique()
        )
        + f". (On {patient['threads']} core. ±: two standard errors of the difference; where they "
        "reach across +5 %, the answer may be another number. Negative by more than its ±: a "
        "sampler that does better than the patient one. That can be, for the two draw from "
        "different distributions, and neither from that of the data.) More evaluations need not "
        "be better either: "
        + "; ".join(
            f"{r['sampler']} is best with {r['network evaluations']:,}"
            for _, r in costs.loc[
                costs.groupby("sampler", sort=False)["Fréchet distance"].idxmin()
            ].iterrows()
        )
        + ", of those tried."
    )
)

# %% [markdown]
# ### Guidance by an early network
#
# The network still errs when the training ends. In which direction? Beside the average that is sampled from, `train_ddpm` keeps another that stopped early (`early` in the recipe, a share of all steps). It has the same
# architecture and learned from the same source of images for a fraction of the time, so we may hope that it errs in the same direction, only farther. Then the truth lies beyond the final network, seen from the early one (Karras et al., 2024, "autoguidance"):
#
# <!-- eq:03-guide -->
# $$ \hat x_0^{\,w} = \hat x_0^{\text{early}} + w\,\big(\hat x_0 - \hat x_0^{\text{early}}\big), \qquad w=1:\ \text{the final network alone}. $$
#
# The hope can be tested. Over images $x_0$ that neither network has seen, the mean squared error of $\hat x_0^{\,w}$ is a parabola in $w$; setting its derivative to zero gives its lowest point,
#
# <!-- eq:03-guide-w -->
# $$ w^* = \frac{\mathbb E\,\big\langle x_0-\hat x_0^{\text{early}},\ \hat x_0-\hat x_0^{\text{early}}\big\rangle}{\mathbb E\,\big\|\hat x_0-\hat x_0^{\text{early}}\big\|^2} . $$
#
# What does it tell? With $m=\mathbb E[x_0\mid x_t]$ the rest $x_0-m$ is uncorrelated with every function of $x_t$ (section 7), so it adds the same error at every $w$. Write $e=m-\hat x_0$ and $e_{\text{early}}=m-\hat x_0^{\text{early}}$ for the errors that could be
# avoided. Then $\hat x_0-\hat x_0^{\text{early}}=e_{\text{early}}-e$, and
#
# <!-- eq:03-guide-errors -->
# $$ w^*-1=\frac{\mathbb E\langle e,\,e_{\text{early}}-e\rangle}{\mathbb E\|e_{\text{early}}-e\|^2} . $$
#
# So $w^*>1$ says just what we hoped for, $\mathbb E\langle e,e_{\text{early}}\rangle>\mathbb E\|e\|^2$: along the error of the final network the early one errs farther. $w^*=1$ would say that nothing is to be gained on this line, not that the network is free of error.
# (All this without the clipping of $\hat x_0$ to $[-1,1]$ that the samplers do.)

# %%
# Invented errors: e_early partly along e. The rest x_0 - m is drawn apart from both.
e, across, x0_m = torch.randn(
    3, 4000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
)
e_early = 1.5 * e + 0.3 * across
terms = ((x0_m + e_early) * (e_early - e)).sum(1) / (e_early - e).square().sum(1).mean() - 1
check_mean(
    "eq:03-guide-errors",
    terms,
    ((e * (e_early - e)).sum() / (e_early - e).square().sum()).item(),
    "w* - 1 from the images, against the same from the errors",
)

validation_rooms = to_float(validation_images[: p.n_guided]).to(device)
draws = torch.Generator().manual_seed(seed)
best_w, worst_miss = [], 0.0
with torch.no_grad():
    for t in p.guided_times:
        t_ = torch.full((len(validation_rooms),), t, device=device)
        xt = diffusion.q_sample(
            validation_rooms, t_, torch.randn(validation_rooms.shape, generator=draws).to(device)
        )
        x0_final, x0_early = (
            diffusion.predict_xstart(network(xt, t_), xt, t_).double()
            for network in (ddpm.network, ddpm.early)
        )
        beyond = diffusion.predict_xstart(
            guided(ddpm.network, ddpm.early, ddpm.guidance)(xt, t_), xt, t_
        )
        worst_miss = max(
            worst_miss,
            (beyond - x0_early - ddpm.guidance * (x0_final - x0_early)).abs().max().item(),
        )
        above = ((validation_rooms - x0_early) * (x0_final - x0_early)).flatten(1).sum(1)
        below = (x0_final - x0_early).square().flatten(1).sum(1)
        w_star = (above.sum() / below.sum()).item()
        error_at = [
            (validation_rooms - x0_early - w * (x0_final - x0_early)).square().mean().item()
            for w in (w_star - 1, w_star + 1, w_star, 1)
        ]
        check(
            "eq:03-guide-w",
            error_at[0],
            error_at[1],
            1e-9,
            f"t = {t}: the measured error is the same on both sides of w*",
        )
        # The error is that of a ratio of sums, to first order.
        best_w.append(
            {
                "t": t,
                "w": w_star,
                "gain": 1 - error_at[2] / error_at[3],
                "error": (above - w_star * below).std().item()
                * len(validation_rooms) ** 0.5
                / below.sum().item(),
            }
        )
check(
    "eq:03-guide",
    worst_miss,
    0,
    1e-5 if device.type == "cpu" else 2e-3,
    "x_0 from the guided output, minus the formula, at all times and places (a GPU may round its "
    "products to 11 bits)",
)

# The last pair spends on the network alone as many evaluations as guidance needs.
validation_features, guide_rows = features(validation_images), []
for w, steps in (*((w, p.steps) for w in p.guide_weights), (1.0, 2 * p.steps)):
    made = features(ddpm.sample(p.n_guide_samples, seed=4, steps=steps, guidance=w))
    spread = frechet_bootstrap(made, validation_features, draws=20)
    pr = precision_recall(validation_features[: p.n_guide_samples], made)
    guide_rows.append(
        {
            "w": w,
            "steps": steps,
            "distance": spread.value,
            "error": spread.error,
            "precision": pr.precision,
            "recall": pr.recall,
        }
    )
*by_weight, equal = guide_rows
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.errorbar(
    [r["t"] for r in best_w],
    [r["w"] for r in best_w],
    [2 * r["error"] for r in best_w],
    fmt="o-",
    capsize=2,
)
left.axhline(1, color="k", lw=0.8, ls=":")
left.set(xlabel="time t", ylabel="$w^*$ (± 2 standard errors)", title="Least error of denoising")
right.errorbar(
    [r["w"] for r in by_weight],
    [r["distance"] for r in by_weight],
    [2 * r["error"] for r in by_weight],
    fmt="o-",
    capsize=2,
    label=f"{p.steps} steps",
)
right.errorbar(
    [1],
    [equal["distance"]],
    [2 * equal["error"]],
    fmt="s",
    capsize=2,
    label=f"alone, {2 * p.steps} steps",
)
right.set(
    xlabel="weight w of the guidance",
    ylabel=f"Fréchet distance ({p.n_guide_samples} samples)",
    ylim=(0, None),
    title="Samples (± 2 bootstrap errors)",
)
right.legend()
save_figure(
    run,
    fig,
    "nb03_guidance",
    f"Left: where the error of denoising {len(validation_rooms)} validation images is lowest on "
    "the line through the early and the final network. Right: the distance of samples made with "
    "one weight w at all times.",
    {"w_star": best_w, "samples": guide_rows, "early": recipe.early},
    reference.protocol(p.n_guide_samples, split="validation"),
)
plt.show()
plain, used = (min(by_weight, key=lambda r: abs(r["w"] - w)) for w in (1.0, ddpm.guidance))
display(
    Markdown(
        f"$w^*$ runs from {min(r['w'] for r in best_w):.2f} to {max(r['w'] for r in best_w):.2f} "
        "and lies more than two standard errors above 1 at "
        f"{sum(r['w'] - 2 * r['error'] > 1 for r in best_w)} of {len(best_w)} times "
        "(the same images serve every t, so these are not independent looks, and the errors do "
        "not hold what another training would change); "
        f"the largest is at t = {max(best_w, key=lambda r: r['w'])['t']}. Moving to $w^*$ would "
        f"save at most {100 * max(r['gain'] for r in best_w):.1f} % of the squared error. With w "
        f"= {used['w']:g} at all times the distance of "
        f"{p.n_guide_samples} samples goes from {plain['distance']:.0f} to {used['distance']:.0f} "
        f"(the network alone with as many evaluations, {2 * p.steps} steps: "
        f"{equal['distance']:.0f}), precision from "
        f"{plain['precision']:.2f} to {used['precision']:.2f}, recall from {plain['recall']:.2f} "
        f"to {used['recall']:.2f}. A parabola is symmetric about its lowest point: w = "
        f"{used['w']:g} has a larger squared error than w = 1 wherever "
        f"$w^*$ is below {(1 + used['w']) / 2:g}, here at "
        f"{sum(r['w'] < (1 + used['w']) / 2 for r in best_w)} of the {len(best_w)} times. The "
        "images behind the left figure are real rooms with noise; a sampler comes to others of "
        "its own "
        "making, so the left figure alone does not decide what the right one shows. The price is "
        "a second network to ask at every step, and a weight that was chosen by trial on these "
        "very validation images."
    )
)

# %% [markdown]
# ## 9. How good are the images?
#
# The distance of samples from the validation images is never zero, not even for perfect samples: both sets are finite. So we put beside it the distance of equally many
# *training* images from the same validation images, the floor.

# %%
began = time.monotonic()
final = ddpm.sample(p.n_final, seed=3, steps=p.steps)
sampling_seconds = time.monotonic() - began
score = compare(final, reference, split="validation")
order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(seed))[
    : p.n_final
]
floor = compare(train_images[order], reference, split="validation")
print(score)
print("floor:", floor)
fig, ax = plt.subplots(figsize=(8, 4.4))
show_images(ax, final[:32], 8)
save_figure(
    run,
    fig,
    "nb03_samples",
    f"32 samples, not selected; {p.steps} steps each, guided.",
    {
        "distance": score.distance,
        "floor": floor.distance,
        "n": len(final),
        "steps": p.steps,
        "seconds_per_1000": 1000 * sampling_seconds / len(final),
        "parameters": parameters,
    },
    score.protocol,
)
plt.show()
display(
    Markdown(
        f"Fréchet distance of {len(final):,} samples **{score.distance:.0f}**, of as many "
        f"training images {floor.distance:.0f}: "
        f"{score.distance / floor.distance:.2f} times the floor. "
        f"{1000 * sampling_seconds / len(final):.0f} seconds for 1,000 images."
    )
)

# %% [markdown]
# ## 10. The bound in bits
#
# `GaussianDiffusion.vlb` sums Eq. 4 for validation images: the code that notebook 02 held against an exact likelihood. In bits per dimension, an upper bound on what
# a lossless code built on this model would need for each colour value; storing the bytes as they are takes 8.
#
# The bound needs the variance of $p_\theta$ too, which we did not train. Two fixed choices are usual (Ho et al., 2020, section 3.2): $\tilde\beta_t$ of Eq. 9, exact if the data
# were a single image, and $\beta_t$, exact if they were $\mathcal N(0, I)$. The network without guidance (a guided, deterministic sampler is no draw from this
# $p_\theta$), same noise, both choices:

# %%
LABELS = {"small": r"$\tilde\beta_t$", "large": r"$\beta_t$"}
rooms = to_float(validation_images[: p.n_bound]).to(device)
bits = {}
fig, ax = plt.subplots(figsize=(6, 3))
for variance, marker in zip(LABELS, ("-", "--"), strict=True):
    scorer = GaussianDiffusion(diffusion.betas, diffusion.prediction, variance)
    # Terms are thinned: of the neighbours t … t + t/`bound_thin` a random one stands for all. Each
    # group of images draws its own, so that the scatter of the groups' means holds both kinds of
    # chance: which images, and which terms.
    draws = torch.Generator().manual_seed(seed)
    parts = [
        scorer.vlb(ddpm.network, part, draws, thin=p.bound_thin)
        for part in rooms.split(p.bound_group)
    ]
    totals = torch.stack([b.total.mean() for b in parts])
    bits[variance] = {
        "total": totals.mean().item(),
        "standard_error": totals.std().item() / len(parts) ** 0.5,
    }
    bits[variance] |= {
        name: torch.cat([getattr(b, name).reshape(len(b.total), -1).sum(1) for b in parts])
        .mean()
        .item()
        for name in ("L_0", "L_t", "L_T")
    }
    terms = torch.cat([b.terms for b in parts])[:, 1:-1]
    # The mean term between each two of these times is drawn.
    edges = np.unique(np.geomspace(1, diffusion.T, 25).round().astype(int))
    means = [
        terms[:, a - 1 : b - 1].mean().item() for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    ax.stairs(
        means, edges + 1, baseline=None, lw=2, ls=marker, label=f"variance {LABELS[variance]}"
    )
ax.set(
    xscale="log",
    yscale="log",
    xlabel="time t",
    ylabel="$L_{t-1}$ / bits per dimension",
    title="Where the bits are spent",
)
ax.legend()
save_figure(
    run,
    fig,
    "nb03_bits",
    "The terms of the bound over t, for two variances of the same network's reverse step.",
    bits | {"images": p.n_bound},
)
plt.show()
best = min(bits, key=lambda k: bits[k]["total"])
display(
    Markdown(
        " ".join(
            f"With variance {LABELS[k]}: {b['total']:.2f} ± {2 * b['standard_error']:.2f} "
            f"bits/dim, of which $L_0$ {b['L_0']:.2f}, "
            f"$\\sum L_{{t-1}}$ {b['L_t']:.2f}, $L_T$ {b['L_T']:.1e}."
            for k, b in bits.items()
        )
        + f" ({p.n_bound} validation images; ± is two standard errors.) The loss we trained with "
        "does not weigh the terms as the bound does: it cares for what one sees, so "
        f"{bits[best]['total']:.2f} is not the lowest that such a network can reach."
    )
)

# %% [markdown]
# ## 11. Which recipe? Equal minutes
#
# Sections 2 to 4 chose a target, a weighting, a schedule, a network, a way to step, a batch, a rate. Most choices came with a reason; how good they are, only a trial can say. Another study (`studies/recipes.py`) trains one network after another with
# the recipe of profile `cpu`, but for the one thing, or the few, that its name says (another batch brings its own rate and average; *loss unweighted*: all $t$ alike, which is $L_v$ for $v$ and $L_{simple}$ for *eps*; *eps, linear schedule, loss unweighted* is the choice of Ho et al., 2020). All are given the same wall-clock time (a short trial
# says how many images fit into it), not the same number of images: a wider network is shown fewer. In each the fall of the learning rate ends with the time. Then 500 samples (the solver of section 8 with 10 steps and times by noise, without guidance) are held against the validation images, and the bound of section 10 is summed (with
# variance $\beta_t$ where none is learned).
#
# A few seeds say little about how widely the results of one recipe scatter. Suppose that the logarithms of the distances scatter equally in all recipes; then all together say more. Let $\ell_{ri}$ be the logarithm for recipe $r$ and seed $i$,
# $\bar\ell_r$ its mean over the $n_r$ seeds of this recipe, and $r=0$ the recipe of the profile. Then
#
# <!-- eq:03-pooled -->
# $$ s^2=\frac1\nu\sum_r\sum_i(\ell_{ri}-\bar\ell_r)^2,\quad \nu=\sum_r(n_r-1), \qquad
#    \text{ratio of the distances:}\quad \exp\!\Big(\bar\ell_r-\bar\ell_0\ \pm\ q_\nu\, s\,\sqrt{\tfrac1{n_r}+\tfrac1{n_0}}\,\Big) , $$
#
# $q_\nu$ being the 97.5 % point of Student's $t$ distribution with $\nu$ degrees of freedom. If the $\ell_{ri}$ are independent and normal with one variance, such an interval holds the true ratio in 95 of 100 studies. The cell tries that on invented studies, and also
# what many do instead: the scatter of the two recipes alone, and 1.96 in place of $q$. (In the study equal seeds share the order of the images, which if anything makes the intervals too wide; a recipe that scatters more than the rest gets one too narrow.)

# %%
study = read_study("recipes")
# Rows of other minutes, threads or images would not compare.
assert len(study[["minutes", "threads", "scored"]].drop_duplicates()) == 1
recipes = dict(list(study.groupby("recipe", sort=False)))
DEFAULT = "profile cpu"


def pooled(logs):
    """The common scatter s; each recipe's log ratio to the default with its 95 % half-width."""
    freedom = sum(len(values) - 1 for values in logs.values())
    s = (sum(((values - values.mean()) ** 2).sum() for values in logs.values()) / freedom) ** 0.5
    q, base = stats.t.ppf(0.975, freedom), logs[DEFAULT]
    return s, {
        name: (values.mean() - base.mean(), q * s * (1 / len(values) + 1 / len(base)) ** 0.5)
        for name, values in logs.items()
    }


other, dice, held, held_alone = (
    next(name for name in recipes if name != DEFAULT),
    np.random.default_rng(seed),
    [],
    [],
)
# Every recipe with a mean of its own, all with the scatter 0.08; the truth is known.
for _ in range(4000):
    means = dict(zip(recipes, dice.normal(0, 0.3, len(recipes)), strict=True))
    invented = {name: dice.normal(means[name], 0.08, len(rows)) for name, rows in recipes.items()}
    middle, half = pooled(invented)[1][other]
    two = [invented[name] for name in (other, DEFAULT)]
    truth = means[other] - means[DEFAULT]
    held.append(abs(middle - truth) <= half)
    held_alone.append(abs(middle - truth) <= 1.96 * sum(v.var(ddof=1) / len(v) for v in two) ** 0.5)
check_mean(
    "eq:03-pooled",
    np.array(held, float),
    0.95,
    "share of invented studies whose interval holds the truth",
)
check_fails(
    "eq:03-pooled",
    lambda: check_mean(
        "eq:03-pooled",
        np.array(held_alone, float),
        0.95,
        "with 1.96 and the scatter of two recipes",
    ),
    "the scatter of two recipes alone, and 1.96",
)

# %%
s, ratios = pooled({name: np.log(rows["distance"].to_numpy()) for name, rows in recipes.items()})
recipe_rows = []
for name, rows in sorted(recipes.items(), key=lambda item: ratios[item[0]][0]):
    middle, half = ratios[name]
    recipe_rows.append(
        {
            "recipe": name,
            "images": round(rows["images"].mean()),
            "distances": ", ".join(f"{d:.0f}" for d in rows["distance"]),
            "ratio": "1"
            if name == DEFAULT
            else f"{np.exp(middle):.2f} [{np.exp(middle - half):.2f}, {np.exp(middle + half):.2f}]",
            "bits/dim": ", ".join(f"{bits:.2f}" for bits in rows["bits/dim"]),
        }
    )
first, kept = study.iloc[0], study["seconds"] / 60
display(
    save_table(
        run,
        recipe_rows,
        "nb03_recipes",
        f"Recipes after {first['minutes']:g} minutes each (kept: {kept.min():.1f} to "
        f"{kept.max():.1f}) on {first['threads']} core: images seen (mean), Fréchet distances of "
        "500 samples (one a seed), their ratio to the profile's with its 95 % "
        f"interval, bits per dimension (bound, {first['scored']} validation images). From commit "
        f"{', '.join(sorted(study['commit'].unique()))}.",
        of_study,
        study="recipes",
    )
)
fig, ax = plt.subplots(figsize=(7, 0.25 * len(recipe_rows) + 0.9))
for y, row in enumerate(recipe_rows):
    middle, half = ratios[row["recipe"]]
    if row["recipe"] == DEFAULT:
        ax.plot(1, y, "kD", ms=4)
    else:
        ax.errorbar(
            np.exp(middle),
            y,
            xerr=[
                [np.exp(middle) - np.exp(middle - half)],
                [np.exp(middle + half) - np.exp(middle)],
            ],
            fmt="o",
            ms=4,
            capsize=2,
            color="C0",
        )
ax.axvline(1, color="k", lw=0.8, ls=":")
ax.set_yticks(range(len(recipe_rows)), [row["recipe"] for row in recipe_rows])
ax.set_ylim(len(recipe_rows) - 0.5, -0.5)
ax.set(xlabel="Fréchet distance / that of profile cpu (95 % interval)", xscale="log")
ax.xaxis.set_minor_locator(LogLocator(subs=(1.2, 1.5, 2, 3, 5, 7, 8, 9)))
for formatted in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
    formatted("{x:g}")
save_figure(
    run,
    fig,
    "nb03_recipes_ratios",
    "What each change of the recipe does to the Fréchet distance in equal minutes; left of the "
    "line is better.",
    {
        "s": s,
        "ratios": {
            name: [float(np.exp(m + k * h)) for k in (0, -1, 1)] for name, (m, h) in ratios.items()
        },
    },
    of_study,
    study="recipes",
)
plt.show()


def names(holds):
    return (
        ", ".join(
            f"*{row['recipe']}*"
            for row in recipe_rows
            if row["recipe"] != DEFAULT and holds(*ratios[row["recipe"]])
        )
        or "none"
    )


display(
    Markdown(
        f"Seeds of one recipe scatter by {100 * s:.0f} % (one standard deviation). Better than "
        f"profile `cpu`, the whole interval below 1: {names(lambda m, h: m + h < 0)}. Worse, the "
        f"whole interval above 1: {names(lambda m, h: m - h > 0)}. "
        f"Not to be told apart with so few seeds: {names(lambda m, h: abs(m) <= h)}. There are "
        f"{len(recipe_rows) - 1} intervals here: on average one in twenty misses, and since all "
        "lean on the same runs of profile `cpu`, they tend to miss together. And the table "
        "speaks of so many minutes on such a machine: "
        "a recipe that begins slowly may win in hours."
    )
)

# %% [markdown]
# ### Better bits, better images?
#
# The bound and the distance are two rulers. The bound adds up $L_{t-1}$ over all $t$, and section 10 showed where: a large part of the bits is spent on the last grain, at small $t$, of which the eye and the features see little. So whoever trains for bits should weigh small $t$ fully, let
# the variance be learned ($L_{hybrid}$ of notebook 02, section 8, here with $L_v$ for $L_{simple}$), and perhaps take another schedule; whoever trains for images should not spend the network on grain. (The solver of the study is deterministic: a learned variance enters the bound, but no sample. And its times were chosen by trial for
# the recipe of the profile, which favours it.) The left figure puts both rulers on every run of the table; the right one shows for some recipes where on the way the bits are spent, after Nichol & Dhariwal (2021), who draw the terms themselves.

# %%
SHOWN = [
    name
    for name in (
        DEFAULT,
        "loss unweighted",
        "L_hybrid, loss unweighted",
        "linear schedule, loss unweighted",
        "linear schedule, L_hybrid, loss unweighted",
        "eps, linear schedule, loss unweighted",
    )
    if name in recipes
]
edges = np.unique(np.geomspace(1, 1000, 25).round().astype(int))  # the study's spans of t
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=[1, 1.25])
others = study[~study["recipe"].isin(SHOWN)]
left.plot(others["bits/dim"], others["distance"], "o", ms=4, color="0.6", label="other recipes")
for i, name in enumerate(SHOWN):
    left.plot(
        recipes[name]["bits/dim"], recipes[name]["distance"], "os^Dvx"[i], ms=6, color=f"C{i}"
    )
    spent = np.mean([np.array(terms.split(), float) for terms in recipes[name]["terms"]], axis=0)
    right.stairs(
        spent * np.diff(edges) / np.diff(np.log(edges + 1)),
        edges + 1,
        baseline=None,
        lw=1.6,
        color=f"C{i}",
        ls="-" if i < 3 else "--",
        label=name,
    )
left.set(
    xlabel="bound / bits per dimension",
    ylabel="Fréchet distance (500 samples)",
    xscale="log",
    yscale="log",
    title="Two rulers: further left, further down is better",
)
for axis in (left.xaxis, left.yaxis):
    axis.set_minor_locator(LogLocator(subs=(1.3, 1.6, 2, 3, 4, 5, 7)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}")
left.legend(fontsize=8)
right.set(
    xlabel="time t",
    ylabel="bits per dimension for each factor e of t",
    xscale="log",
    ylim=(0, None),
    title="Where the bits are spent: areas are bits",
)
right.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb03_bits_and_pictures",
    "Left: bound and Fréchet distance of every run of the study; the marks of the recipes on the "
    "right have their colours. Right: the terms of the bound in spans of t, so scaled that the "
    "area under a line is its bits without L_0 and L_T.",
    {
        name: {"bits": rows["bits/dim"].tolist(), "distance": rows["distance"].tolist()}
        for name, rows in recipes.items()
    },
    of_study,
    study="recipes",
)
plt.show()
mean_bits = study.groupby("recipe", sort=False)["bits/dim"].mean().to_dict()
mean_distance = {name: np.exp(np.log(rows["distance"]).mean()) for name, rows in recipes.items()}
by_bits, by_distance = min(mean_bits, key=mean_bits.get), min(mean_distance, key=mean_distance.get)


def beside(a, b):
    """What b changes of a, on both rulers; the ratio of the distances with its 95 % interval."""
    middle = np.log(mean_distance[b] / mean_distance[a])
    half = (
        stats.t.ppf(0.975, len(study) - len(recipes))
        * s
        * (1 / len(recipes[a]) + 1 / len(recipes[b])) ** 0.5
    )
    low, high = np.exp(middle - half), np.exp(middle + half)
    return (
        f"from *{a}* to *{b}*: {mean_bits[b] - mean_bits[a]:+.2f} bits/dim, "
        f"distance × {np.exp(middle):.2f} [{low:.2f}, {high:.2f}]"
    )


pairs = [
    (a, b)
    for a, b in (
        (DEFAULT, "loss unweighted"),
        ("loss unweighted", "L_hybrid, loss unweighted"),
        ("loss unweighted", "linear schedule, loss unweighted"),
        ("linear schedule, loss unweighted", "linear schedule, L_hybrid, loss unweighted"),
    )
    if a in recipes and b in recipes
]
rank = stats.spearmanr(
    *([table[name] for name in recipes] for table in (mean_bits, mean_distance))
).statistic
display(
    Markdown(
        f"The lowest mean bound has *{by_bits}*, {mean_bits[by_bits]:.2f} bits/dim with a "
        f"distance of {mean_distance[by_bits]:.0f}; the lowest mean distance *{by_distance}*, "
        f"{mean_bits[by_distance]:.2f} bits/dim with {mean_distance[by_distance]:.0f}. "
        f"Over all {len(recipes)} recipes the two orders have the rank correlation {rank:+.2f} "
        "(1: the same order, -1: the opposite; of these recipes, which we chose, not of recipes "
        "at large). Step by step: " + "; ".join(beside(a, b) for a, b in pairs) + "."
    )
)

# %% [markdown]
# ## 12. Did it learn, or memorise?
#
# Section 5 showed the loss on training and on validation images while the network learnt: a network that learns its images by heart goes on improving on them alone, and the two part. Two more looks. First, the loss at each $t$ on training images and on validation images: a network that knows its training images by heart does better on them. Second, for
# samples, the nearest training image (by mean squared difference of pixels, mirrored ones included).


# %%
def loss_by_time(images, times):
    g = torch.Generator().manual_seed(seed)
    x0, rows = to_float(images), []
    for t_value in times:
        with torch.no_grad():
            losses = diffusion.training_loss(
                trained, x0, torch.full((len(x0),), t_value), torch.randn(x0.shape, generator=g)
            )
        rows.append((losses.mean().item(), losses.std().item() / len(losses) ** 0.5))
    return np.array(rows)


m = min(4 * p.n_bound, len(train_images))
by_train, by_validation = (
    loss_by_time(train_images[:m], times),
    loss_by_time(validation_images[:m], times),
)
flat = torch.cat([train_images, train_images.flip(-1)]).flatten(1).float()


def nearest(images):
    d = torch.cdist(images.flatten(1).float(), flat) / flat.shape[1] ** 0.5
    best = d.min(1)
    return best.values, best.indices


n_near = 8
of_samples, index = nearest(final[: 4 * n_near])
of_validation, _ = nearest(validation_images[: 4 * n_near])

fig = plt.figure(figsize=(10, 3.2))
left, right = fig.subplots(1, 2, width_ratios=[1, 1.6])
left.errorbar(times, by_train[:, 0], 2 * by_train[:, 1], fmt="o-", ms=3, label="training images")
left.errorbar(
    times, by_validation[:, 0], 2 * by_validation[:, 1], fmt="s--", ms=3, label="validation images"
)
left.set(
    xlabel="time t", ylabel="loss", yscale="log", title=f"Loss ± 2 standard errors ({m} images)"
)
left.legend()
show_images(
    right,
    torch.cat([final[:n_near], torch.cat([train_images, train_images.flip(-1)])[index[:n_near]]]),
    n_near,
    "samples (top) and the nearest training image (below)",
)
save_figure(
    run,
    fig,
    "nb03_memorising",
    "Loss on training and validation images (left); samples and their nearest training images "
    "(right).",
    {
        "t": times,
        "train": by_train[:, 0].tolist(),
        "validation": by_validation[:, 0].tolist(),
        "nearest_rms_samples": of_samples.mean().item(),
        "nearest_rms_validation": of_validation.mean().item(),
    },
)
plt.show()
gap = (by_validation[:, 0] - by_train[:, 0]) / np.hypot(by_validation[:, 1], by_train[:, 1])
display(
    Markdown(
        (
            "While it learnt, the loss on validation images less that on training images was "
            + ", ".join(
                f"{r['validation_loss'] - r['train_loss']:+.4f} ± {2 * r['gap_error']:.4f} "
                f"({r['images']:,} images seen)"
                for r in looks
            )
            + f" of {looks[-1]['train_loss']:.4f} at the end (± two standard errors; other "
            "images, so not 0 even for a network that has seen neither). "
            if "validation_loss" in looks[0]
            else ""
        )
        + f"The loss on validation images is the higher one at {(gap > 0).sum()} of {len(gap)} "
        f"times; the largest difference, validation minus training, is {gap.max():+.1f} standard "
        "errors (the same images serve every t, so these are not independent looks). A sample is "
        f"on average {of_samples.mean():.1f} grey levels (root mean square) away from its "
        "nearest training image; a *validation* image, which the network cannot have copied "
        f"from, is {of_validation.mean():.1f} away from its own. "
        + (
            "Less than a fifth closer, the limit we set, and smooth images are closer to "
            "everything: no sign of copying here."
            if of_samples.mean() > 0.8 * of_validation.mean()
            else "The samples are clearly closer to training images than new rooms are. Smooth "
            "images are closer to everything, so look at the pairs before you call it copying."
        )
    )
)

# %% [markdown]
# ## Summary
#
# * The report's diffusion model saw a small fraction of the images that the published one saw. What a small U-Net, $v$-prediction, a weighted loss, small batches and a
#   falling learning rate make of the minutes of this profile, section 9 shows and measures.
# * A part of $v$ cannot be predicted, so the loss has a floor that we do not know; watch the images and their distance beside it.
# * The best prediction of the noise is weaker than the noise, by as much as it is uncertain (Fig. 4).
# * What a network evaluation buys in sampling depends on the solver, on where its times lie and on whether an early network is asked too; section 8 measures it.
#
# **To think about.** (1) What would Fig. 4 show for a network that has memorised its training images, on training and on validation images? (2) Which of $\epsilon$, $x_0$ and $v$ has a
# target of constant norm, and for which data? (3) Why does mirroring images never hurt here, and where would it? (4) The bound spends most of its bits where $t$ is small. What would a
# model trained on the bound itself paint better, and what worse?
