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
# Notebooks 01 and 02 turned rooms into noise and asked what it takes to undo it. The answer was one function: given a noisy image and its time, say what the image is. Here a network learns that function. We write the network, the training loop and the sampler, and watch a small one learn for a few minutes. Then the
# package's version learns in full.
#
# **After it you can**
#
# * write a residual block, a U-Net, a training loop and a sampler, and say what each line is for;
# * work out the loss of a network that knows nothing, and read a loss curve against it;
# * choose a sampler and its number of steps, and measure what a step buys;
# * recognise the same network as a score model, as a flow, and under guidance;
# * say how good samples are: above which floor, with which error, and at which sample size.
#
# **You need** Eq. 1.6 and the schedule of [notebook 01](01_forward_noising.ipynb), and of [notebook 02](02_posterior_and_bound.ipynb) the posterior (Eq. 9 to 11), the velocity (Eq. 2.16, 2.17), the bound (Eq. 4) and DDIM (Eq. 2.29). **It takes** an hour and a half to read, with five exercises. In profile `cpu` it runs
# for 10 to 30 minutes on two cores, much of them training; in `released` for about a minute.
#
# **The report** took the U-Net of a tutorial, with 128 x 128 pixels, and trained it for three epochs on 5 % of its data. It was not satisfied with the samples (its Fig. 2 and 3) and blamed the time. It also noticed that the predicted noise had become darker (its Fig. 4). Sections 2, 7 and 8 take this up.
#
# Before: [02 · Posterior and bound](02_posterior_and_bound.ipynb). Next: [04 · Training a GAN](04_gan_training.ipynb).

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released", "gpu" or "lsun"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import copy
import time
import warnings
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import nn

from bedgen_utils import exercises
from bedgen_utils.checks import check, check_fails, check_mean, claim
from bedgen_utils.data import load_bedrooms, to_float, to_uint8
from bedgen_utils.metrics import SmallSampleWarning
from bedgen_utils.models import DDPM, load, save
from bedgen_utils.report import save_figure, save_table, show_images, use_style
from bedgen_utils.run import start
from bedgen_utils.train import DDPMRecipe, train_ddpm

run = start("03", profile, seed, out)
use_style()
cfg = run.p
g = torch.Generator().manual_seed(seed)
warnings.filterwarnings("ignore", category=SmallSampleWarning)  # every distance below says its N

# %% [markdown]
# ## 1. Rooms from noise
#
# The repository brings a diffusion model for rooms of 64 x 64 pixels. From 16 images of pure noise it makes 16 rooms, in ten steps each.

# %%
released = load("ddpm")
fig, ax = plt.subplots(figsize=(9.5, 2.5))
show_images(ax, released.sample(16, seed=seed, steps=10), columns=8)
plt.show()

# %% [markdown]
# All that it has learned is to tell a room from the noise over it. By the end of section 6 you will have built and trained a small one yourself.
#
# ## 2. What the report could afford
#
# Count the images that its network saw. We take the data to be LSUN's 3,033,042 bedrooms (the report does not say); it learned from a twentieth of them, three times over, in 6 to 7 hours an epoch. The model of [Ho et al. (2020)](https://arxiv.org/abs/2006.11239) for the same images saw about 154 million.

# %%
epoch_report = round(0.05 * 3_033_042)
seen_report, seen_paper = 3 * epoch_report, 154_000_000
milliseconds = 6.5 * 3600 / epoch_report * 1000  # for each image
print(f"{seen_report:,} images, {milliseconds:.0f} ms each; Ho et al.: {seen_paper:,}")
claim(
    run.profile,
    "Ho et al. showed theirs more than 300 times as many; 150 ms an image; most of a year",
    seen_paper > 300 * seen_report
    and abs(milliseconds - 150) < 10
    and 240 < seen_paper * milliseconds / 1000 / 86_400 < 320,
)

# %% [markdown]
# Ho et al. showed their network more than 300 times as many images. At 150 ms an image, as many would have taken the report most of a year. There are two ways out: a longer computation, or a cheaper task. On two cores it must be the cheaper task: 32 x 32 pixels, a small network, and a recipe that makes
# each step count.

# %%
recipe = DDPMRecipe(**cfg.ddpm, seed=seed)
train_images = load_bedrooms(cfg.source, "train", cfg.size, limit=cfg.train_images or None)
few = 16 * cfg.n_look if run.profile == "smoke" else None
validation_images = load_bedrooms(cfg.source, "validation", cfg.size, limit=few)
print(
    f"{len(train_images):,} training and {len(validation_images):,} validation images of "
    f"{cfg.size} x {cfg.size} pixels; the full training below sees {recipe.images:,}"
)

# %% [markdown]
# ## 3. The task of the network
#
# Take an image $x_0$ with $D$ values in $[-1, 1]$, a time $t$ and noise $\epsilon \sim \mathcal N(0, \mathbf I)$, and mix them by Eq. 1.6: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$. A network $f_\theta(x_t, t)$ with weights $\theta$ sees the mixture and the time. What should it answer? By notebook 02, any of
# $\epsilon$, $x_0$ and $v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$ gives the other two.
#
# They differ in what an error costs. Near $t = T$ the mixture is nearly all noise: to name $\epsilon$ is then trivial and says nothing of the room, while $v \approx -x_0$. Near $t = 1$ it is nearly all image: to name $x_0$ is trivial, while $v \approx \epsilon$. So $v$ asks something useful at every $t$
# ([Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512)). We minimise its squared error, each time with a weight $w_t$:
#
# <!-- eq:3.1 -->
# $$L(\theta) = \mathbb E_{x_0,\,\epsilon,\,t}\; w_t\,\tfrac1D\,\big\|f_\theta(x_t, t) - v\big\|^2 \tag{3.1}$$

# %%
untrained, diffusion = recipe.build()  # the package's network, and the cosine schedule of Eq. 1.8
T = diffusion.T
signal = diffusion.abar.sqrt().float()  # of Eq. 1.6, for t = 0 ... T
spread = (1 - diffusion.abar).sqrt().float()


def mix(x0, noise, t):
    """x_t of Eq. 1.6 and v of Eq. 2.16, for images (N, 3, S, S) and times (N,)."""
    a, b = (table[t][:, None, None, None] for table in (signal, spread))
    return a * x0 + b * noise, a * noise - b * x0


def loss_of(network, x0, t, noise, weight):
    """The loss of each image, (N,): Eq. 3.1 before the average."""
    x_t, v = mix(x0, noise, t)
    return weight[t] * (network(x_t, t) - v).square().flatten(1).mean(1)


# %% [markdown]
# **What does a network that knows nothing score?** Ours begin with a last layer of zeros, so they answer 0. Since $x_0$ and $\epsilon$ are independent, and $\epsilon$ has mean 0 and variance 1, with $w_t = 1$
#
# <!-- eq:3.2 -->
# $$\mathbb E\,\tfrac1D\,\|0 - v\|^2 = \bar\alpha_t + (1-\bar\alpha_t)\;\mathbb E\,\tfrac1D\|x_0\|^2 \tag{3.2}$$
#
# A loss that stays at this value has learned nothing. One far above it at the first step points to an error: images in $[0, 255]$, say.

# %%
rooms = to_float(train_images[:512])
t = torch.randint(1, T + 1, (len(rooms),), generator=g)
noise = torch.randn(rooms.shape, generator=g)
even = torch.ones(T + 1)  # w_t = 1


def any_answer(x, t):
    return 0.5 * x


mine = loss_of(any_answer, rooms, t, noise, even)
theirs = diffusion.training_loss(any_answer, rooms, t, noise)
check("eq:3.1", mine, theirs, 1e-5, "our loss and the package's, for an invented answer")
with torch.no_grad():
    of_zero = loss_of(untrained, rooms, t, noise, even)
power = rooms.square().flatten(1).mean(1)
expected = diffusion.abar[t] + (1 - diffusion.abar[t]) * power
check_mean("eq:3.2", of_zero - expected, 0.0, "loss of the untrained network minus the formula")
check_fails(
    "eq:3.2",
    lambda: check_mean("eq:3.2", of_zero - 1, 0.0, "loss minus 1"),
    "1, what an answer of 0 scores if the noise is asked for",
)
claim(run.profile, "the power of the images is about a fifth", abs(power.mean() - 0.2) < 0.05)

# %% [markdown]
# **Which errors matter?** Since $x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v$, an error in $v$ makes one in $\hat x_0$ that is $\sqrt{1-\bar\alpha_t}$ times as large. With $w_t = 1$ small times count for much: a fifth of the trained network's loss then lies at $t \le 50$, mostly grain. And where nearly all is noise, even a large error in $x_0$ is excusable; the signal-to-noise ratio weighs that.
# [Hang et al. (2023)](https://arxiv.org/abs/2303.09556) weight the error in $x_0$ by $\min(\mathrm{SNR}_t, 5)$, where $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$. Written for $v$:
#
# <!-- eq:3.3 -->
# $$\min(\mathrm{SNR}_t, 5)\,\|\hat x_0 - x_0\|^2 = w_t\,\|f_\theta(x_t,t) - v\|^2, \qquad w_t = \min\!\big(\bar\alpha_t,\;5\,(1-\bar\alpha_t)\big) \tag{3.3}$$
#
# It is a hump: next to nothing for images that are nearly clean and for those that are nearly noise, most in between. Without the cap, $w_t$ is $\bar\alpha_t$: the error in $\epsilon$, which counts grain in full.

# %%
weight = torch.minimum(diffusion.abar, 5 * (1 - diffusion.abar)).float()
answer = mix(rooms, noise, t)[1] + 0.1 * torch.randn(rooms.shape, generator=g)  # any will do
x_t, v = mix(rooms, noise, t)
x0_hat = diffusion.predict_xstart_from_v(x_t, t, answer)
x0_error = (x0_hat - rooms).square().flatten(1).mean(1)
right_hand = loss_of(lambda x, t: answer, rooms, t, noise, weight)
check("eq:3.3", diffusion.snr.clamp(max=5)[t] * x0_error, right_hand, 1e-5, "both sides, 512 rooms")
check("eq:3.3", diffusion.loss_weights("min_snr")[1:], weight[1:], 1e-6, "the package's weights")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6, 2.5))
ax.plot(range(1, T + 1), weight[1:], label="min-SNR")
ax.axhline(1, color="C1", ls="--", label="all alike")
ax.set(xlabel="time t", ylabel="weight $w_t$ of the error in v", ylim=(0, 1.15))
ax.legend(fontsize=9)
save_figure(
    run,
    fig,
    "nb03_weight",
    "How much an error in v counts at each t (cosine schedule, T = 1000).",
    {"largest": weight.max().item(), "at_t": int(weight.argmax())},
)

# %% [markdown]
# ## 4. The network
#
# ### The time
#
# The network must know how noisy its input is. A single number $t$ between 1 and 1000 is hard to digest. So it becomes a vector of waves, from fast to slow:
#
# <!-- eq:3.4 -->
# $$e(t) = \big(\cos\omega_k t,\;\sin\omega_k t\big)_{k=0,\ldots,K-1}, \qquad \omega_k = 10{,}000^{-k/K} \tag{3.4}$$
#
# The vector has `width` $= 2K$ numbers. The fast waves tell near times apart, the slow ones far times. The product of two such vectors depends on the distance of their times alone: $e(t)\cdot e(s) = \sum_k \cos\omega_k(t-s)$. (The idea comes from [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), where it marks the place of a word.)

# %% [markdown] tags=["exercise"]
# **Exercise 03-1** · medium · 10 minutes
#
# Write `waves(t, width)` for times `t` of shape (N,). It returns a tensor (N, width): all cosines of Eq. 3.4 first, then all sines. The cell after this exercise holds a solution.


# %% tags=["exercise"]
def waves(t, width): ...  # K is width // 2


exercises.check("03-1", waves)


# %% tags=["solution"]
def waves(t, width):
    frequencies = 10_000.0 ** (-torch.arange(width // 2) / (width // 2))
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


exercises.check("03-1", waves)


# %%
def embed(t, width=64):
    """Times (N,) as waves (N, width), Eq. 3.4."""
    frequencies = 10_000.0 ** (-torch.arange(width // 2) / (width // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


early, late = torch.randint(1, T + 1, (2, 200), generator=g)
k = torch.arange(32, dtype=torch.float64)
by_distance = (((late - early)[:, None] * 10_000.0 ** (-k / 32)).cos()).sum(1)
check("eq:3.4", (embed(early) * embed(late)).sum(1), by_distance, 5e-3, "products of 200 pairs")

# %% [markdown]
# ### A residual block
#
# A block takes a map $h$: channels of numbers laid out like an image. It computes a correction and adds it to what came in. That is a *residual* block: where it has nothing to say, it leaves the map as it is. With $\mathrm{GN}$ for group normalisation, $\mathrm{Conv}$ for a convolution with 3 x 3 filters, and
# $\varphi(r) = r/(1+e^{-r})$, a function called SiLU:
#
# <!-- eq:3.5 -->
# $$h \;\mapsto\; h + \mathrm{Conv}_2\,\varphi\Big(\mathrm{GN}_2\big(\mathrm{Conv}_1\,\varphi(\mathrm{GN}_1 h)\big)\,(1 + g) + b\Big), \qquad (g, b) = A\,\tau(t) \tag{3.5}$$
#
# *Group normalisation* brings each group of 8 channels to mean 0 and variance 1, within one image, then gives each channel a learned scale and shift. The time enters here: a small network makes $\tau(t)$ from the waves, and a matrix $A$ with an offset makes of it a scale $g$ and a shift $b$ for each channel. The last convolution begins with zeros, so that each block begins as the identity.

# %%
C_TIME = 128  # numbers in tau


def conv(c_in, c_out, **more):
    return nn.Conv2d(c_in, c_out, 3, padding=1, **more)


def zeroed(layer):
    """The layer with all its weights at 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // 8, channels)
        self.conv1 = conv(channels, channels)
        self.time = nn.Linear(C_TIME, 2 * channels)
        self.norm2 = nn.GroupNorm(channels // 8, channels)
        self.conv2 = zeroed(conv(channels, channels))

    def forward(self, h, tau):
        scale, shift = self.time(tau)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm2(self.conv1(F.silu(self.norm1(h))))
        return h + self.conv2(F.silu(inner * (1 + scale) + shift))


# %% [markdown]
# ### The U-Net
#
# Where a bed may stand is a question for the whole room; where its edge runs, one for a few pixels. A U-Net looks at both scales. On the way down the map shrinks and its channels grow. On the way up it is the other way round. What was computed on the way down is added back where the sizes agree: these are the *skips*.


# %%
class SmallUNet(nn.Module):
    def __init__(self, widths=(32, 64, 96)):
        super().__init__()
        pairs = [*pairwise(widths)]
        self.tau = nn.Sequential(nn.Linear(64, C_TIME), nn.SiLU(), nn.Linear(C_TIME, C_TIME))
        self.first = conv(3, widths[0])
        self.down = nn.ModuleList(Block(c) for c in widths)
        self.shrink = nn.ModuleList(conv(a, b, stride=2) for a, b in pairs)
        self.middle = Block(widths[-1])
        self.grow = nn.ModuleList(conv(b, a) for a, b in pairs)
        self.up = nn.ModuleList(Block(c) for c in widths)
        self.norm = nn.GroupNorm(widths[0] // 8, widths[0])
        self.last = zeroed(conv(widths[0], 3))

    def forward(self, x, t, keep=1.0):  # keep = 0 silences the skips
        tau, h, skips = F.silu(self.tau(embed(t))), self.first(x), []
        for i, block in enumerate(self.down):
            h = block(self.shrink[i - 1](h) if i else h, tau)
            skips.append(h)
        h = self.middle(h, tau)
        for i in reversed(range(len(self.up))):
            h = self.up[i](h + keep * skips.pop(), tau)
            if i:
                h = F.interpolate(self.grow[i - 1](h), scale_factor=2)
        return self.last(F.silu(self.norm(h)))


# %% [markdown]
# The last skip put on the list is the first to be used: `pop` takes from the end. The next figure shows what happens to one noisy room. The network knows nothing yet, so the maps are what random filters make of it.

# %% tags=["hide-input"]
from matplotlib.patches import FancyArrowPatch

PLACES = {  # name: (attribute, x, y, side of the map in the drawing)
    "$x_t$": (None, 0.03, 0.68, 0.24),
    "down, full size": ("down.0", 0.17, 0.68, 0.24),
    "down, half": ("down.1", 0.27, 0.36, 0.18),
    "down, quarter": ("down.2", 0.36, 0.11, 0.13),
    "middle": ("middle", 0.475, 0.11, 0.13),
    "up, quarter": ("up.2", 0.59, 0.11, 0.13),
    "up, half": ("up.1", 0.65, 0.36, 0.18),
    "up, full size": ("up.0", 0.72, 0.68, 0.24),
    "answer": ("last", 0.87, 0.68, 0.24),
}


def activations(network, x, t):
    """What each stage of the drawing gives for one noisy image."""
    kept, handles = {None: x}, []
    for name, part in network.named_modules():
        if name in {place[0] for place in PLACES.values()}:
            note = partial(lambda name, module, inputs, output: kept.update({name: output}), name)
            handles.append(part.register_forward_hook(note))
    with torch.no_grad():
        network(x, t)
    for handle in handles:
        handle.remove()
    return kept


def arrow(fig, start, end, colour="0.3", text="", curve=0.0):
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "color": colour, "lw": 1.6}
    way = f"arc3,rad={curve}"
    fig.add_artist(FancyArrowPatch(start, end, connectionstyle=way, **style))
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.012)
        fig.text(*middle, text, ha="center", va="bottom", color=colour, fontsize=10)


def draw_unet(network, x, t):
    fig = plt.figure(figsize=(10, 4.3))
    fig.set_layout_engine("none")
    maps, wide = activations(network, x, t), 4.3 / 10
    for name, (stage, left, bottom, side) in PLACES.items():
        ax = fig.add_axes((left, bottom, side * wide, side))
        h = maps[stage][0]
        if len(h) == 3:
            ax.imshow(to_uint8(h / 3 if name == "answer" else h).permute(1, 2, 0))
        else:  # the channel that varies most
            ax.imshow(h[h.flatten(1).std(1).argmax()], cmap="gray")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        shape = " x ".join(map(str, h.shape))
        ax.set_title(f"{name}\n{shape}", fontsize=9)
    arrow(fig, (0.137, 0.8), (0.167, 0.8))
    arrow(fig, (0.828, 0.8), (0.866, 0.8))
    arrow(fig, (0.19, 0.67), (0.267, 0.46))
    arrow(fig, (0.285, 0.35), (0.355, 0.18))
    arrow(fig, (0.42, 0.175), (0.47, 0.175))
    arrow(fig, (0.535, 0.175), (0.585, 0.175))
    arrow(fig, (0.652, 0.18), (0.695, 0.35))
    arrow(fig, (0.732, 0.46), (0.77, 0.67))
    arrow(fig, (0.28, 0.8), (0.715, 0.8), "#D55E00", "skip: added")
    arrow(fig, (0.355, 0.45), (0.645, 0.45), "#D55E00", "skip")
    arrow(fig, (0.42, 0.12), (0.585, 0.12), "#D55E00", "", 0.25)
    fig.text(0.5, 0.015, "skip", ha="center", va="bottom", color="#D55E00", fontsize=10)
    return fig


torch.manual_seed(seed)
small = SmallUNet().to(memory_format=torch.channels_last)
one_room = to_float(load_bedrooms(cfg.source, "validation", 32, limit=4))[:1]
one_time = torch.tensor([200])
one_noisy, _ = mix(one_room, torch.randn(one_room.shape, generator=g), one_time)
count = sum(q.numel() for q in small.parameters())
fig = draw_unet(small, one_noisy, one_time)
save_figure(
    run,
    fig,
    "nb03_unet_drawn",
    "The small U-Net at t = 200, before training: channels x height x width of each stage, and of "
    "each map the channel that varies most; the answer divided by 3. Orange: skips.",
    {"parameters": count},
)
print(f"{count:,} weights")

# %% [markdown] tags=["exercise"]
# **Exercise 03-2** · easy · 5 minutes
#
# Our U-Net adds its skips. Most U-Nets concatenate them: the channels of the skip stand beside those that come up, and the next convolution mixes them. Write `join(h, skip)`. `h` is a map (N, C, H, W) from below, `skip` one of (N, C', 2H, 2W). Let `h` grow by repeating each value 2 x 2 times, then put the channels of
# `skip` behind its own.


# %% tags=["exercise"]
def join(h, skip): ...  # (N, C + C', 2H, 2W)


exercises.check("03-2", join)


# %% tags=["solution"]
def join(h, skip):
    return torch.cat([F.interpolate(h, scale_factor=2), skip], dim=1)


exercises.check("03-2", join)

# %% [markdown]
# ## 5. The sampler
#
# The way back is a loop. Start from pure noise at $t = T$. Ask the network for $v$. It gives $\hat x_0$ by Eq. 2.17, the network's guess of the clean image, and we know that pixels lie in $[-1, 1]$: values beyond are cut off. Then mix $\hat x_0$ with the noise that belongs to it for a smaller time $s < t$. That is a
# step of DDIM, Eq. 2.29 with $\sigma = 0$; section 9 compares it with others.


# %%
def ddim(x, x0, abar_t, abar_s):
    """From x_t and a guess of x_0 to x_s, without fresh noise (Eq. 2.29)."""
    eps = (x - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    return abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * eps


@torch.no_grad()
def sample(network, x, times, step=ddim):
    """From noise x (N, 3, S, S) down the times, from T to 0, to images in [-1, 1]."""
    for t, s in pairwise(times):
        abar_t, abar_s = float(diffusion.abar[t]), float(diffusion.abar[s])
        v = network(x, torch.full((len(x),), t))
        x0 = (abar_t**0.5 * x - (1 - abar_t) ** 0.5 * v).clamp(-1, 1)
        x = step(x, x0, abar_t, abar_s)
    return x


def even_times(steps):
    return [round(T * (1 - i / steps)) for i in range(steps + 1)]


print(even_times(4))

# %% [markdown]
# The list ends with 0, a time at which the network is never asked: the last step goes *to* time 0.
#
# ## 6. A few minutes of training
#
# Draw images, times and noise; compute the loss; step down its gradient. Four details decide whether that works. First, the learning rate rises over the first 50 steps, when the optimizer knows little of the gradient yet, and falls over the last 40 % of the run, so that the noise of single steps dies down. Second, a gradient longer than 1 is
# shortened to 1: one bad batch can otherwise ruin the network. Third, we do not sample from the weights $\theta_k$ after step $k$, but from their moving average $\bar\theta_k$, since single steps overshoot:
#
# <!-- eq:3.6 -->
# $$\bar\theta_k = d_k\,\bar\theta_{k-1} + (1-d_k)\,\theta_k, \qquad d_k = \min\!\Big(d,\ \frac{1+k}{10+k}\Big), \qquad r_k = \prod_{j=1}^{k} d_j \tag{3.6}$$
#
# Here $r_k$ is the share that the random weights of the start still have in the average. The decay *warms up*: $d_k$ is small at first, so that this share is soon gone, and rises until it stays at a chosen $d$. That is the fourth detail.

# %% [markdown] tags=["exercise"]
# **Exercise 03-3** · easy · 5 minutes
#
# Leave out that warm-up and take the decay $d = 0.9999$ from the first step on, as recipes for long runs do. What is the share of the initial weights after 10,000 steps?

# %% tags=["exercise"]
share = ...  # a number from 0 to 1
exercises.check("03-3", share)

# %% tags=["solution"]
share = 0.9999**10_000  # each step multiplies what is left of the start by the decay
exercises.check("03-3", share)

# %% [markdown]
# Our full training below takes some 2,600 steps. With that decay, three quarters of its average would still be the random start.

# %% tags=["hide-input"]
claim(run.profile, "three quarters", abs(0.9999 ** (recipe.images / recipe.batch) - 0.75) < 0.05)


# %%
@torch.no_grad()
def blend(average, network, k, decay=0.99):
    """Takes the weights after step k into their average, Eq. 3.6."""
    d = min(decay, (1 + k) / (10 + k))
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1 - d)


def rate(k, steps, peak):
    """The learning rate of step k: up over 50 steps, flat, down over the last 40 %."""
    return peak * min(1, k / 50, 0.05 + 0.95 * (steps - k) / (0.4 * steps))


# %% [markdown]
# Now the loop. It is a generator: after each step it yields, and whoever calls it can look at the loss, make images, or stop.


# %%
def train(network, images, steps, batch=16, peak=1e-3):
    """Trains the network; yields the loss of each step and the averaged network."""
    draws = torch.Generator().manual_seed(seed)
    average = copy.deepcopy(network)
    adam = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    for k in range(1, steps + 1):
        x0 = to_float(images[torch.randint(len(images), (batch,), generator=draws)])
        t = torch.randint(1, T + 1, (batch,), generator=draws)
        noise = torch.randn(x0.shape, generator=draws)
        loss = loss_of(network, x0, t, noise, weight).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.param_groups[0]["lr"] = rate(k, steps, peak)
        adam.step()
        blend(average, network, k)
        yield loss.item(), average


# %%
loss_of_zero = diffusion.abar + (1 - diffusion.abar) * float(power.mean())  # Eq. 3.2, each t
know_nothing = float((weight * loss_of_zero)[1:].mean())  # the weighted loss of the answer 0

steps = cfg.lesson_steps
lesson_rooms = load_bedrooms(cfg.source, "train", 32, limit=16 * steps)
pure_noise = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
began, lesson_losses, grown = time.monotonic(), [], {}
for k, (loss, average) in enumerate(train(small, lesson_rooms, steps), 1):
    lesson_losses.append(loss)
    if k in (steps // 8, steps // 2, steps):
        grown[k] = to_uint8(sample(average, pure_noise, even_times(20)))
lesson_seconds = time.monotonic() - began
print(f"{steps} steps, {16 * steps:,} images, {lesson_seconds:.0f} s")

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 4, figsize=(10.5, 2.6), width_ratios=(1.3, 1, 1, 1))
width = max(1, steps // 30)
means = np.convolve(lesson_losses, np.ones(width) / width, "valid")
axes[0].plot(np.arange(len(means)) + width, means)
axes[0].axhline(know_nothing, color="0.4", ls=":", lw=1.5)
axes[0].text(steps, know_nothing, "knows nothing (Eq. 3.2)", ha="right", va="bottom", fontsize=9)
axes[0].set(xlabel="step", ylabel=f"loss, mean of {width} steps", yscale="log")
axes[0].set_yticks([0.05, 0.1, 0.2], ["0.05", "0.1", "0.2"])
axes[0].minorticks_off()
for ax, (k, images) in zip(axes[1:], grown.items(), strict=True):
    show_images(ax, images, columns=4, title=f"after {k} steps")
save_figure(
    run,
    fig,
    "nb03_lesson",
    "The small diffusion model learns: its weighted loss, and 16 samples always from the same "
    "noise, not selected (20 steps of DDIM, 32 x 32 pixels).",
    {
        "steps": steps,
        "seconds": lesson_seconds,
        "know_nothing": know_nothing,
        "last_losses": float(np.mean(lesson_losses[-3 * width :])),
    },
)
fig = draw_unet(average, one_noisy, one_time)
save_figure(
    run,
    fig,
    "nb03_unet_inside",
    "The same as in section 4 after training: the averaged network at t = 200.",
)

# %% [markdown]
# In these few minutes the network learns the colours of rooms, light, and smooth surfaces. How a room is laid out it has yet to learn: there are patches where walls and a bed should stand. The loss does not tell. It fell below a fifth of what knowing nothing costs, and most of that fall came in the first 100 steps. But layout is
# decided at large $t$, where little of the loss lies, and it comes last. Section 7 goes on for longer, and rooms appear. (Profile `released` stops after 25 steps, too soon for anything.)
#
# **What do the skips carry?** The report argues that the U-Net helps because noise does not pass its narrow middle. Silence the skips of our trained network and look.

# %%
at_300 = torch.full((64,), 300)
some_rooms = to_float(lesson_rooms[:64])
x_300, v_300 = mix(some_rooms, torch.randn(some_rooms.shape, generator=g), at_300)
with torch.no_grad():
    misses = {
        keep: float((average(x_300, at_300, keep) - v_300).square().mean() / v_300.square().mean())
        for keep in (1.0, 0.0)
    }
print({f"skips times {keep:g}": f"{miss:.2f} of v is missed" for keep, miss in misses.items()})
last_loss = np.mean(lesson_losses[-3 * width :])
at_100 = np.mean(lesson_losses[min(80, steps // 2) : 121])
claim(
    run.profile,
    "the loss falls below a fifth of knowing nothing, most of it in the first 100 steps",
    last_loss < know_nothing / 5 and know_nothing - at_100 > 0.7 * (know_nothing - last_loss),
)
claim(
    run.profile,
    "with skips little more than a tenth of v is missed, without them nearly all or more",
    0.08 < misses[1.0] < 0.15 and misses[0.0] > 0.9,
)

# %% [markdown]
# With its skips the network misses little more than a tenth of the power of $v$, and at $t = 300$ most of $v$ is noise. Without them it does about as badly as an answer of 0: this network sends the noise around its middle. That does not show that a middle could not carry it: ours holds 96 x 8 x 8 numbers, twice as many as the image; that of the tutorial holds a sixth of its image. But the argument of the report forgets the skips. The whole network must name the noise, pixel by pixel.
#
# ## 7. The package, and training in full
#
# The package's `ResBlock`, `training_loss`, `diffusion.sample`, `EMA` and `learning_rate` do what we just wrote. From the same weights and draws they must give the same numbers.

# %%
from bedgen_utils.diffusion import ddim_step
from bedgen_utils.optim import EMA, learning_rate
from bedgen_utils.unet import ResBlock, timestep_embedding

theirs = ResBlock(32, C_TIME, attention=False)
theirs.load_state_dict(average.down[0].state_dict())
h, tau = torch.randn(4, 32, 8, 8, generator=g), torch.randn(4, C_TIME, generator=g)
with torch.no_grad():
    check("eq:3.5", average.down[0](h, tau), theirs(h, tau), 1e-4, "our block, and ResBlock")
check("eq:3.4", embed(t), timestep_embedding(t, 64), 1e-3, "our waves, and the package's")
batch = (some_rooms[:16], t[:16], torch.randn(16, 3, 32, 32, generator=g))
losses = (
    loss_of(small, *batch, weight).mean(),
    diffusion.training_loss(small, *batch, weighting="min_snr").mean(),
)
weights = [*small.parameters()]
mine, theirs = (
    torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]) for loss in losses
)
miss = (mine - theirs).norm() / theirs.norm()
check("eq:3.1", miss, 0, 1e-3, "gradient by our loss and by the package's, relative difference")

# %%
few_times = even_times(5)
there = diffusion.sample(average, pure_noise[:4], ddim_step, few_times)
check(
    "sampler", sample(average, pure_noise[:4], few_times), there, 1e-3, "five steps, ours, theirs"
)
toy, ours = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
nn.init.ones_(toy.weight)  # the start; from the first step on all weights are 0,
nn.init.ones_(ours.weight)  # so that the average is the share of the start
theirs, zero = EMA(toy, 0.7), zeroed(nn.Linear(1, 1, bias=False))
for k in range(1, 31):
    theirs.update(zero, k)
    blend(ours, zero, k, decay=0.7)
shares = [theirs.average.weight.item(), ours.weight.item()]
left = np.prod([min(0.7, (1 + j) / (10 + j)) for j in range(1, 31)])
check("eq:3.6", np.array(shares) / left, 1, 1e-5, "share of the start after 30 steps, over r_30")
rates = [(rate(k, 600, 1e-3), learning_rate(k, 600, 1e-3, 50)) for k in range(1, 601)]
check("rate", *zip(*rates, strict=True), 1e-12, "the rate of 600 steps, ours and the package's")

# %% [markdown]
# Where the package differs, it does so to learn more in a minute. Its U-Net has no blocks at full size on the way down, where a block costs most; attention in the small maps, so that each place sees all others; and a direct path that adds a multiple $c(t)\,x_t$ of the input to the answer, since $v$ has a part along $x_t$. Its filters are
# stepped by Muon (Appendix B). Half of the rooms are mirrored, and a mirrored room is a room.
#
# **Which times?** Many $t$ have a small weight. Drawn evenly, they take as many images as the others and count for little. So each $t$ is drawn with a probability $\pi_t$ in proportion to its weight, and its loss is divided by how much likelier it was made. For any losses $\ell_t$ the average stays what it was:
#
# <!-- eq:3.7 -->
# $$\frac1T\sum_{t=1}^{T} w_t\,\ell_t = \sum_{t=1}^{T}\pi_t\,\frac{w_t\,\ell_t}{T\,\pi_t}, \qquad \pi_t = \frac{w_t}{\sum_s w_s} \tag{3.7}$$
#
# This is *importance sampling*. Now $w_t/\pi_t$ is the same for all $t$: every drawn image counts alike. The times of one batch are also spread evenly over the probabilities, so that no batch is all easy or all hard.

# %%
from bedgen_utils.train import TimesByWeight

draw_times = TimesByWeight(diffusion, "min_snr")
dice = torch.Generator().manual_seed(seed)
batches = []
for _ in range(500):
    chosen, likelier = draw_times(16, dice)
    batches.append(float((weight[chosen] * loss_of_zero[chosen] / likelier).mean()))
check_mean("eq:3.7", batches, know_nothing, "500 batches drawn by weight, and the even mean")
light = weight[1:] < 0.2 * weight.max()
drawn = torch.cat([draw_times(16, dice)[0] for _ in range(500)])
print(
    f"Times of less than a fifth of the largest weight: {light.double().mean():.0%} of all, "
    f"{light[drawn - 1].double().mean():.0%} of those drawn"
)

# %% [markdown]
# While it trains we look in at fixed numbers of images: samples from the same noise, the loss on training and on validation images, and the *Fréchet distance* of samples to validation images. That is a distance between two clouds of features of a network trained on photographs, and smaller is better. [Notebook 06](06_evaluation.ipynb) derives it.
# It is not an FID, which is made with other features. Samples take ten steps (section 9), guided by an early network (Appendix A). Until that one stops, at 4,200 images, guidance changes nothing.

# %%
from bedgen_utils.metrics import compare, moments

reference = moments(validation_images, cache=True)


@torch.no_grad()
def losses_of(network):
    """The loss on n_look training and validation images, at fixed times and noise."""
    where, losses = next(network.parameters()).device, []
    for images in (train_images[: cfg.n_look], validation_images[: cfg.n_look]):
        fixed = torch.Generator().manual_seed(seed)
        t = torch.randint(1, T + 1, (cfg.n_look,), generator=fixed)
        noise = torch.randn(cfg.n_look, *images.shape[1:], generator=fixed)
        batch = (to_float(images).to(where), t.to(where), noise.to(where))
        losses.append(diffusion.training_loss(network, *batch, weighting=recipe.weighting))
    known, unseen = losses
    return {
        "train_loss": known.mean().item(),
        "validation_loss": unseen.mean().item(),
        "gap_error": (unseen - known).std().item() / cfg.n_look**0.5,
    }


def look():
    """Samples from fixed noise, their distance, and two losses."""
    made = ddpm.sample(cfg.n_look, seed=1)
    distance = compare(made, reference, split="validation").distance
    row = {"distance": distance, "n": cfg.n_look, "made": made[:16].tolist()}
    return row | losses_of(ddpm.network)


# %% [markdown]
# Then the training itself. `train_ddpm` is a generator of rows, as ours. An interrupted run resumes from its last checkpoint. In profile `released` nothing is trained: the weights come from the repository, with the rows of their training.

# %%
if cfg.train:
    ddpm = DDPM.from_recipe(recipe)
    ddpm.steps = cfg.steps  # what `sample` takes unless told otherwise
    rows = train_ddpm(
        ddpm,
        train_images,
        recipe,
        run.own,
        evaluate=look,
        evaluate_at=cfg.looks,
        log_every=50 * recipe.batch,
    )
    ddpm.history = list(rows)  # training happens here
    ddpm.samples = {
        row["images"]: torch.tensor(row.pop("made"), dtype=torch.uint8)
        for row in ddpm.history
        if "made" in row
    }
    save(ddpm, run.own / "weights" / "ddpm.safetensors", run.provenance())
ddpm = load("ddpm", run)  # as on disk: rounded to float16
diffusion, history = ddpm.diffusion, ddpm.history
minutes = history[-1]["seconds"] / 60
print(f"weights {ddpm.source}: {history[-1]['images']:,} images, {minutes:.1f} minutes of training")

# %% [markdown]
# A Fréchet distance between finite sets is not 0 even if both come from the same place. So we always measure its *floor*: as many training images, against the same validation images. What counts is the *excess* over the floor.

# %%
order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(seed))
looks = [row for row in history if "distance" in row]
n_look = min(looks[-1]["n"], len(train_images))
floor_look = compare(train_images[order[:n_look]], reference, split="validation").distance
excess = {row["images"]: row["distance"] - floor_look for row in looks}
print({seen: f"{value:.0f} above the floor" for seen, value in excess.items()})

# %% tags=["hide-input"]
losses = [row for row in history if "loss" in row]
fig, (left_ax, right_ax) = plt.subplots(1, 2, figsize=(9, 3))
left_ax.plot([r["images"] for r in losses], [r["loss"] for r in losses], label="while training")
if "validation_loss" in looks[0]:
    for name, mark in (("train", "o"), ("validation", "x")):
        left_ax.plot(
            [r["images"] for r in looks],
            [r[f"{name}_loss"] for r in looks],
            mark,
            ms=7,
            label=f"averaged network, {name}",
        )
left_ax.set(xlabel="images seen", ylabel="weighted loss", yscale="log")
left_ax.set_yticks([0.03, 0.04, 0.06, 0.1], ["0.03", "0.04", "0.06", "0.1"])
left_ax.minorticks_off()
right_ax.plot([r["images"] for r in looks], [r["distance"] for r in looks], "o-", label="samples")
right_ax.axhline(floor_look, color="0.4", ls=":", lw=1.5, label="floor: training images")
right_ax.set(xlabel="images seen", ylabel=f"Fréchet distance (N = {n_look})", ylim=(0, None))
for ax in (left_ax, right_ax):
    ax.locator_params(axis="x", nbins=4)
    ax.legend(fontsize=9)
save_figure(
    run,
    fig,
    "nb03_training",
    f"Loss, and Fréchet distance of {n_look} samples (guided once the early network has stopped) "
    "to the validation images, over the images seen. One training, one seed.",
    {
        "loss": [[r["images"], r["loss"]] for r in losses],
        "distance": [[r["images"], r["distance"]] for r in looks],
        "floor": floor_look,
        "excess": [[seen, value] for seen, value in excess.items()],
        "looks": [{k: v for k, v in r.items() if k != "made"} for r in looks],
        "seconds": losses[-1]["seconds"],
    },
    reference.protocol(n_look, split="validation"),
)

# %% [markdown]
# Fig. 2 and 3 are, as in the report, 16 samples after the first and after the third epoch. All images at the same place of the grid grow from the same noise.

# %% tags=["hide-input"]
for epochs, figure_id in ((1, "fig02_ddpm_epoch_1"), (3, "fig03_ddpm_epoch_3")):
    seen = min(ddpm.samples, key=lambda n, e=epochs: abs(n - e * len(train_images)))
    done = seen / len(train_images)
    fig, ax = plt.subplots(figsize=(4.2, 4.4))
    show_images(ax, ddpm.samples[seen], 4, f"epoch {done:.3g} ({seen:,} images seen)")
    save_figure(
        run,
        fig,
        figure_id,
        f"Sixteen samples of the DDPM after {seen:,} images seen, epoch {done:.3g}.",
        {
            "images_seen": seen,
            "epochs": done,
            "distance": next(r["distance"] for r in looks if r["images"] == seen),
            "floor": floor_look,
            "n": n_look,
        },
        reference.protocol(n_look, split="validation"),
    )
fig, axes = plt.subplots(1, len(ddpm.samples), figsize=(1.7 * len(ddpm.samples), 4))
for ax, (seen, images) in zip(np.atleast_1d(axes), ddpm.samples.items(), strict=True):
    show_images(ax, images[:10], 2, f"{seen:,}")
fig.suptitle("images seen", fontsize=11)
save_figure(
    run,
    fig,
    "nb03_growth",
    "The same ten noises at growing numbers of images seen.",
    {"images_seen": list(ddpm.samples)},
)

# %% [markdown]
# After three epochs the samples are rooms. So three epochs are not too few as such: it depends on how large the images are, on the recipe, and on the data (rendered rooms vary less than photographs, and the report's epoch was 12.6 times ours). Between the first and the third epoch the excess falls to less than half, while the loss falls by about a tenth (seeds 0 to 2). The loss has a floor of its own, for a part of $v$ cannot be known from
# $x_t$. We do not know this floor, so a loss that hardly moves says little: watch the samples. (From 25,200 images on the learning rate falls, too.)

# %%
if len(looks) > 2 and "validation_loss" in looks[0]:
    first, third = (looks[i] for i in (1, 2))
    claim(
        run.profile,
        "from the first to the third epoch: excess to less than half, loss by about a tenth",
        excess[third["images"]] < 0.5 * excess[first["images"]]
        and 0.86 < third["validation_loss"] / first["validation_loss"] < 0.94,
    )

# %% [markdown]
# ## 8. Why predicted noise "gets darker"
#
# The report shows the noise that its network predicts before and after training, and finds that it became darker, its values halved. Is that a fault? Let $\hat\epsilon(x_t) = \mathbb E[\epsilon\mid x_t]$ be the best answer in squared error. Its error $\epsilon - \hat\epsilon$ is uncorrelated with every function of $x_t$ (else adding a multiple of that function would make it smaller), so with
# $\hat\epsilon$ itself:
#
# <!-- eq:3.8 -->
# $$\mathbb E\,\hat\epsilon\cdot\epsilon = \mathbb E\,|\hat\epsilon|^2 \quad\Longrightarrow\quad
# \sqrt{\frac{\mathbb E\,|\hat\epsilon|^2}{\mathbb E\,|\epsilon|^2}} = \operatorname{corr}(\hat\epsilon,\epsilon) \tag{3.8}$$
#
# The best answer is weaker than the noise exactly as far as it is uncertain. The check uses data for which it is known: if $x_0$ is normal with mean 0 and variance 1/4, then $\hat\epsilon = \sqrt{1-\bar\alpha_t}\,x_t/(\bar\alpha_t/4 + 1 - \bar\alpha_t)$.

# %%
x0, eps = torch.randn(2, 200_000, generator=g, dtype=torch.float64)
x0, abar_t = 0.5 * x0, 0.7
x_t = abar_t**0.5 * x0 + (1 - abar_t) ** 0.5 * eps
best = (1 - abar_t) ** 0.5 * x_t / (abar_t * 0.25 + 1 - abar_t)
check_mean("eq:3.8", best * eps - best**2, 0.0, "product with the noise minus square, normal data")
ratio = (best.square().mean() / eps.square().mean()).sqrt()
correlation = torch.corrcoef(torch.stack([best, eps]))[0, 1]
check("eq:3.8", ratio, correlation, 5 / len(best) ** 0.5, "ratio of norms, and correlation")
unbiased = eps + 0.5 * x0  # as strong as the noise or stronger, and no better for it
check_fails(
    "eq:3.8",
    lambda: check_mean("eq:3.8", unbiased * eps - unbiased**2, 0.0, "product minus square"),
    "an answer that is not shrunken",
)


# %% tags=["hide-input"]
def noise_answer(model, t_value, images):
    """x_t, the true noise, and the noise that the network's v implies, for one t."""
    x0 = to_float(images)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    t = torch.full((len(x0),), t_value)
    xt = diffusion.q_sample(x0, t, eps)
    with torch.no_grad():
        x0_hat = diffusion.predict_xstart(model(xt, t), xt, t)
    return xt, eps, diffusion.predict_eps_from_xstart(xt, t, x0_hat)


trained = copy.deepcopy(ddpm.network).cpu()
unseen = validation_images[:32]
some_times = [max(1, int(f * T)) for f in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)]
ratios, correlations = [], []
for t_value in some_times:
    _, eps, eps_hat = noise_answer(trained, t_value, unseen)
    ratios.append((eps_hat.norm() / eps.norm()).item())
    pair = torch.stack([eps_hat.flatten(), eps.flatten()])
    correlations.append(torch.corrcoef(pair)[0, 1].item())

fig = plt.figure(figsize=(10, 4.6))
pictures, curve = fig.subfigures(1, 2, width_ratios=(1.25, 1))
axes = pictures.subplots(3, 4)
for i, row in enumerate(axes):
    t_value = some_times[2 * i + 1]
    xt, eps, before = noise_answer(untrained.eval(), t_value, unseen[:1])
    _, _, after = noise_answer(trained, t_value, unseen[:1])
    shown = {"$x_t$": xt, "true noise": eps / 3, "before training": before / 3}
    for ax, (title, x) in zip(row, (shown | {"after training": after / 3}).items(), strict=True):
        show_images(ax, to_uint8(x), 1, None if i else title)
    row[0].text(-0.12, 0.5, f"t = {t_value}", transform=row[0].transAxes, rotation=90, va="center")
ax = curve.subplots()
ax.plot(some_times, ratios, "o-", label="norm of ε̂ / norm of ε")
ax.plot(some_times, correlations, "s--", label="correlation of ε̂ and ε")
ax.set(xlabel="time t", ylabel="after training", ylim=(0, 1.05))
ax.legend(loc="lower right", fontsize=9)
save_figure(
    run,
    fig,
    "fig04_predicted_noise",
    "True noise, and the noise that the network's answer implies before and after training, all on "
    "one scale (grey is 0, three standard deviations to each side). Right: its norm and its "
    f"correlation with the truth, {len(unseen)} validation images.",
    {"t": some_times, "norm_ratio": ratios, "correlation": correlations},
)

# %% [markdown]
# Our trained network does as Eq. 3.8 asks: from $t = 50$ on, norm and correlation agree within a few hundredths. Where there is little noise, at $t = 20$, its answer is weaker than the best would be; our loss hardly weights such errors. So a darker prediction is no fault in itself. Whether the report's was one depends on its
# correlation with the true noise, which the report does not give. (Before training our network answers $v = 0$. That is $\hat\epsilon = \sqrt{1-\bar\alpha_t}\,x_t$, weaker than after training: the other way round than in the report.)

# %%
gaps = np.abs(np.array(ratios) - np.array(correlations))
claim(
    run.profile,
    "norm and correlation within 0.04 from t = 50 on; weaker than its correlation at t = 20",
    gaps[1:].max() < 0.04 and ratios[0] < correlations[0] - 0.03,
)

# %% [markdown]
# ## 9. Samplers, and what a step buys
#
# All samplers are the loop of section 5. They differ in the step, and in where their times lie.
#
# **DDPM** draws from the posterior of Eq. 11 with $\hat x_0$ for $x_0$. A leap from $t$ to $s$ is one step with $\alpha = \bar\alpha_t/\bar\alpha_s$ and $\beta = 1 - \alpha$: Eq. 9 and 10 become
#
# <!-- eq:3.9 -->
# $$x_s = \frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\,\hat x_0+\frac{\sqrt{\alpha}\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,x_t+\sqrt{\tilde\beta}\;z,\qquad \tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta,\quad z\sim\mathcal N(0,\mathbf I) \tag{3.9}$$


# %%
def ddpm_from(draws):
    """A step of DDPM whose noise comes from the generator draws."""

    def step(x, x0, abar_t, abar_s):
        alpha = abar_t / abar_s
        mean = abar_s**0.5 * (1 - alpha) * x0 + alpha**0.5 * (1 - abar_s) * x
        variance = (1 - abar_s) / (1 - abar_t) * (1 - alpha)  # 0 if s = 0
        noise = torch.randn(x.shape, generator=draws, dtype=x.dtype)
        return mean / (1 - abar_t) + variance**0.5 * noise

    return step


x0, eps = torch.randn(2, 100_000, generator=g, dtype=torch.float64)
leapt = ddpm_from(g)(0.3**0.5 * x0 + 0.7**0.5 * eps, x0, 0.3, 0.8)
rest = leapt - 0.8**0.5 * x0  # must be noise of variance 1 - 0.8, whatever x0
moments_of_rest = torch.stack([rest, rest**2, rest * x0, rest * eps], 1)
kept = (0.3 / 0.8) ** 0.5 * 0.2 / 0.7**0.5  # of the old noise; a step of DDIM keeps more
right = [0, 0.2, 0, kept]
check_mean("eq:3.9", moments_of_rest, right, "a leap with the true x_0: Eq. 8 at time s")

# %%
from bedgen_utils.diffusion import ddpm_step

few_times, begin = diffusion.timesteps(10), torch.randn(4, 3, cfg.size, cfg.size, generator=g)
mine = sample(trained, begin, few_times, ddpm_from(torch.Generator().manual_seed(1)))
theirs = diffusion.sample(
    trained, begin, ddpm_step, few_times, generator=torch.Generator().manual_seed(1)
)
check("eq:3.9", mine, theirs, 2e-3, "four rooms in ten steps, by ours and by the package")

# %% [markdown] tags=["exercise"]
# **Exercise 03-4** · medium · 15 minutes
#
# Ho et al. also use the larger variance $\beta$ in place of $\tilde\beta$. Write that step. `abar` is the table of $\bar\alpha$ with `abar[0] = 1`, `t` and `s` are indices, `z` is the noise. Mind the last step: it must add none. (Why does this not take care of itself, as it does with $\tilde\beta$?)


# %% tags=["exercise"]
def large_step(x, x0, t, s, abar, z): ...  # x_s


exercises.check("03-4", large_step)


# %% tags=["solution"]
def large_step(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[s]
    mean = abar[s].sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - abar[s]) * x
    mean = mean / (1 - abar[t])
    # At s = 0 beta-tilde is 0, but beta is 1 - abar[t].
    return mean + (1 - alpha).sqrt() * z if s > 0 else mean


exercises.check("03-4", large_step)

# %% [markdown]
# **DDIM** is the step of section 5: no fresh noise. **DPM-Solver++** ([Lu et al., 2022](https://arxiv.org/abs/2211.01095)) adds none either. DDIM holds $\hat x_0$ fixed during a step; this solver, of second order, extrapolates the last two $\hat x_0$ to the middle of the step. Its first and last steps are DDIM's.
#
# **Where do the times lie?** Evenly spread times leave one large gap at the start, where most of the room is still open. Look instead at $\varsigma_t = \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$, the noise per unit of image, and take the $n$ times whose $\varsigma_t$ come nearest to ([Karras et al., 2022](https://arxiv.org/abs/2206.00364))
#
# <!-- eq:3.10 -->
# $$\Big(\varsigma_{\max}^{1/\rho} + \tfrac{i}{n-1}\,\big(\varsigma_{\min}^{1/\rho} - \varsigma_{\max}^{1/\rho}\big)\Big)^{\rho}, \qquad i = 0,\ldots,n-1 \tag{3.10}$$
#
# The first time is always $T$, since the sampler starts from pure noise; the formula sets the others. The larger $\rho$, the more of them lie where there is little noise. We take $\rho = 3$, $\varsigma_{\min} = 0.05$, and $\varsigma_{\max} = 20$ at 32 pixels, twice that at 64. These were chosen by trial on validation images.

# %%
rho, sigma_max = 3.0, 20 * cfg.size / 32
sigma = ((1 - diffusion.abar) / diffusion.abar).sqrt()
by_noise = diffusion.timesteps(10, rho, sigma_max)
ends = sigma_max ** (1 / rho), 0.05 ** (1 / rho)
formula = np.linspace(*ends, 10) ** rho
nearest_sigma = [float(sigma[1:][(sigma[1:] - s).abs().argmin()]) for s in formula]
check("eq:3.10", sigma[by_noise[1:-1]], nearest_sigma[1:], 1e-12, "noise at the package's times")
even_ten = diffusion.timesteps(10)
print("even:    ", even_ten, f"first step ends at sigma = {sigma[even_ten[1]]:.1f}")
print("by noise:", by_noise, f"first step ends at sigma = {sigma[by_noise[1]]:.1f}")

# %% [markdown]
# First by eye: four rooms of the released network, from the same noise by each sampler, in few steps and in many.

# %%
from bedgen_utils.diffusion import dpmpp_2m_step

SAMPLERS = {
    "DDPM": (ddpm_step, None),
    "DDIM": (ddim_step, None),
    "DPM-Solver++": (dpmpp_2m_step, None),
    "DPM-Solver++, times by noise": (dpmpp_2m_step, rho),
}
by_eye = {
    (name, n): released.sample(4, seed=5, steps=n, guidance=1, sampler=step, rho=spacing)
    for name, (step, spacing) in SAMPLERS.items()
    for n in cfg.eye_steps
}

# %% tags=["hide-input"]
columns = len(cfg.eye_steps)
fig, axes = plt.subplots(len(SAMPLERS), columns, figsize=(1.75 * columns + 0.6, 7.4))
for i, (row, name) in enumerate(zip(axes, SAMPLERS, strict=True)):
    for ax, n in zip(row, cfg.eye_steps, strict=True):
        show_images(ax, by_eye[name, n], 2, None if i else f"{n} steps")
    label = name.replace(", ", ",\n")
    row[0].text(-0.08, 0.5, label, transform=row[0].transAxes, rotation=90, va="center", ha="right")
save_figure(
    run,
    fig,
    "nb03_steps_by_eye",
    "Four rooms by the released network (64 x 64 pixels, without guidance), always from the same "
    "noise: four samplers, and the number of steps.",
)

# %% [markdown]
# The same to play with (this needs a running kernel). Which sampler shows the final room first? Which one changes its mind?

# %% tags=["hide-input"]
import io

import ipywidgets as widgets
from PIL import Image


def png(images):
    tiles = torch.cat([*images], dim=2).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    size = (2 * tiles.shape[1], 2 * tiles.shape[0])
    Image.fromarray(tiles).resize(size, Image.Resampling.NEAREST).save(buffer, "png")
    return buffer.getvalue()


frames = {key: png(images) for key, images in by_eye.items()}
picture = widgets.Image(format="png", width=512)
which = widgets.Dropdown(options=list(SAMPLERS), value="DDIM", description="sampler")
count_of = widgets.SelectionSlider(options=cfg.eye_steps, description="steps")


def update(_=None):
    picture.value = frames[which.value, count_of.value]


for control in (which, count_of):
    control.observe(update, "value")
update()
display(widgets.VBox([which, count_of, picture]))

# %% [markdown]
# Now by number, for the network of this run. Each sampler draws as many images from the same noise. We hold them against validation images by the *kernel distance* ([notebook 06](06_evaluation.ipynb)). It compares the same features as the Fréchet distance, its expectation for two sets from the same place is 0 at any sample size, and it comes
# with an error.

# %%
from bedgen_utils.features import features
from bedgen_utils.metrics import kernel_distance

f_validation = features(validation_images)
against = f_validation[:1000]
solver_rows = []
for name, (step, spacing) in SAMPLERS.items():
    for n in cfg.solver_steps:
        began = time.monotonic()
        made = ddpm.sample(cfg.n_solver, seed=2, steps=n, guidance=1, sampler=step, rho=spacing)
        took = time.monotonic() - began
        measured = kernel_distance(features(made), against)
        solver_rows.append(
            {
                "sampler": name,
                "network evaluations": len(diffusion.timesteps(n, spacing, sigma_max)) - 1,
                "kernel distance": measured.value,
                "± kernel": measured.error,
                "seconds per 1,000": took / cfg.n_solver * 1000,
            }
        )
floor_solver = kernel_distance(features(train_images[order[: cfg.n_solver]]), against)

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7.6, 3.4))
for name, mark in zip(SAMPLERS, "os^D", strict=True):
    part = [r for r in solver_rows if r["sampler"] == name]
    ax.errorbar(
        [r["network evaluations"] for r in part],
        [r["kernel distance"] for r in part],
        [2 * r["± kernel"] for r in part],
        fmt=mark + "-",
        ms=5,
        capsize=3,
        label=name,
    )
low, high = (floor_solver.value + k * floor_solver.error for k in (-2, 2))
ax.axhspan(low, high, color="0.75", lw=0, label="training images (floor)")
ax.axhline(0, color="0.5", lw=0.8)
ax.set(xlabel="network evaluations per image", ylabel=f"kernel distance (N = {cfg.n_solver})")
ax.set(xscale="log")
ax.set_xticks(cfg.solver_steps, cfg.solver_steps)
ax.minorticks_off()
ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
save_figure(
    run,
    fig,
    "nb03_samplers",
    f"Kernel distance of {cfg.n_solver} samples to {len(against)} validation images, by sampler "
    "and network evaluations, without guidance; bars and band are two standard errors. The "
    "samplers share their noise and the validation images.",
    {"rows": solver_rows, "floor": floor_solver.value, "± floor": floor_solver.error},
    reference.protocol(cfg.n_solver, split="validation"),
)

# %% [markdown]
# At every number of evaluations DDPM is the farthest from real rooms. Its fresh noise has the variance $\tilde\beta$, as if $\hat x_0$ were the image. Eq. 2.14 asks for more, most of all in long steps: so few steps make pale, plain rooms. (DDIM loses variance, too, but less.) With five and with ten evaluations, the
# second-order solver with times by noise is the nearest. With 20, the three samplers without noise are within two standard errors of each other: most of what is left is the fault of the network.
#
# About the widget: the solver with times by noise is first, nearly there in five steps. DDPM makes other rooms with another number of steps, since it draws fresh noise at each. The others draw nothing after the start and refine one room.
#
# In the row with times by noise, two steps leave grain: the second, at a small $t$ that our loss hardly weights, starts from a blur unlike any training image. With more steps the last starts at the same $t$, but from a room.

# %%
by_name = {
    name: [r["kernel distance"] for r in solver_rows if r["sampler"] == name] for name in SAMPLERS
}
others = {name: values for name, values in by_name.items() if name != "DDPM"}
claim(
    run.profile,
    "DDPM is the farthest at every number; with 5 and 10, the solver by noise is the nearest",
    all(far > max(near) for far, *near in zip(by_name["DDPM"], *others.values(), strict=True))
    and all(min(by_name, key=lambda q: by_name[q][i]) == list(by_name)[-1] for i in (0, 1)),
)
most = [
    (r["kernel distance"], r["± kernel"])
    for r in solver_rows
    if r["network evaluations"] == cfg.solver_steps[-1] and r["sampler"] != "DDPM"
]
claim(
    run.profile,
    "with 20, those without noise are within two standard errors of each other",
    max(most)[0] - min(most)[0] < 2 * min(error for _, error in most),
)

# %% [markdown]
# **As far as all steps.** How good would the samples be with the patience for all 1000 steps? A study did it once, with the weights of profile `cpu` that come with the repository (`studies/samplers.py`). All its sets begin with the same noise, so that differences between samplers have smaller errors than the distances themselves.

# %% tags=["hide-input"]
from bedgen_utils.features import EfficientNetLite0
from bedgen_utils.metrics import PREPARED, Protocol
from bedgen_utils.report import read_study

long_runs = read_study("samplers")
assert len(long_runs[["seed", "samples", "threads", "weights"]].drop_duplicates()) == 1
floor_500 = float(long_runs.loc[long_runs["evaluations"] == 0, "distance"].iloc[0])
long_runs = long_runs[long_runs["evaluations"] > 0].copy()
draws = {i: np.array(text.split(), float) for i, text in long_runs["resampled"].items()}
long_runs["excess"] = long_runs["distance"] - floor_500
patient = long_runs.loc[long_runs["evaluations"].idxmax()]
assert patient["evaluations"] == 1000
long_runs["± excess"] = [(draws[i] - draws[patient.name]).std(ddof=1) for i in long_runs.index]
of_study = Protocol(
    500,
    3_000,
    "validation",
    PREPARED,
    f"images 32x32 px, {EfficientNetLite0.resize}",
    "efficientnet-lite0",
    EfficientNetLite0.sha256,
)
fig, ax = plt.subplots(figsize=(8.6, 3.6))
LONG = {  # names in the study, in the order and colours of the figure above
    "ancestral": "DDPM",
    "DDIM": "DDIM",
    "DPM-Solver++(2M)": "DPM-Solver++",
    "DPM-Solver++(2M), times by noise": "DPM-Solver++, times by noise",
    "DPM-Solver++(2M), times by noise, guided": "the same, guided (Appendix A)",
}
for mark, (name, label) in zip("os^Dv", LONG.items(), strict=True):
    part = long_runs[long_runs["sampler"] == name].sort_values("evaluations")
    bars = 2 * part["± excess"]
    ax.errorbar(part["evaluations"], part["excess"], bars, fmt=mark + "-", capsize=2, label=label)
ax.axhline(0, color="0.4", ls=":", lw=1.5, label=f"floor: {floor_500:.0f}")
ax.set(xlabel="network evaluations per image", ylabel="Fréchet distance, excess over the floor")
ax.set(xscale="log", ylim=(-40, None))
ax.set_xticks([5, 10, 25, 100, 1000], ["5", "10", "25", "100", "1000"])
ax.minorticks_off()
ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
save_figure(
    run,
    fig,
    "nb03_samplers_long",
    "Excess of the Fréchet distance of 500 samples over that of 500 training images; bars: two "
    "standard errors of the difference to 1,000 steps of DDPM. A guided step asks two networks. "
    f"One seed; study at commit {patient['commit']}.",
    {
        "rows": long_runs.drop(columns="resampled").to_dict("records"),
        "floor": floor_500,
    },
    of_study,
    study="samplers",
)

# %% [markdown]
# With 8 evaluations the second-order solver with times by noise has little more than half the excess that DDPM keeps after 1000. It can be better than the patient sampler, since neither draws from the distribution of the data: both follow a network that errs. For the same reason more evaluations need not be better; from 8 on the solver gets worse
# again. Judge a sampler with the network at hand, not in general. (The spacing of the times and the best number were chosen on these same validation images: the lead is an upper estimate.)

# %% tags=["hide-input"]
solver = long_runs[long_runs["sampler"] == "DPM-Solver++(2M), times by noise"]
best_solver = solver.loc[solver["excess"].idxmin()]
error_of_last = (draws[solver.index[-1]] - draws[best_solver.name]).std(ddof=1)
claim(
    run.profile,
    "best with 8 evaluations, little more than half the excess of 1000 steps; then worse",
    best_solver["evaluations"] == 8
    and 0.45 < best_solver["excess"] / patient["excess"] < 0.65
    and solver["excess"].iloc[-1] - best_solver["excess"] > 2 * error_of_last,
)

# %% [markdown]
# ## 10. The same network under other names
#
# Notebook 02 showed the first two of these views in an exact world.
#
# **Scores, and two equations of motion.** By Eq. 2.31 the network knows the gradient of the log density of noisy images, the *score*: $\nabla\log q(x_t) = -\hat\epsilon/\sqrt{1-\bar\alpha_t}$. For a single step from $t$ to $t - 1$, where $\beta_t$ is small, put $\bar\alpha_{t-1} = \bar\alpha_t/(1-\beta_t)$ into both samplers and keep what is linear in $\beta_t$, as in $1/\sqrt{1-\beta_t} = 1 + \beta_t/2 + O(\beta_t^2)$:
#
# <!-- eq:3.11 -->
# $$\begin{aligned}\text{DDIM:}\quad x_{t-1} - x_t &= \tfrac{\beta_t}2\,\big(x_t + \nabla\log q(x_t)\big) + O(\beta_t^2)\\
# \text{DDPM:}\quad \mathbb E\,x_{t-1} - x_t &= \tfrac{\beta_t}2\,\big(x_t + 2\,\nabla\log q(x_t)\big) + O(\beta_t^2)\end{aligned} \tag{3.11}$$
#
# Both climb towards likely images. DDPM follows the score twice as far, and adds noise of variance $\beta_t$, which undoes the surplus. In the limit of small steps DDPM follows a stochastic differential equation; DDIM follows the *probability-flow ODE*, which has the same densities and no noise ([Song et al., 2021](https://arxiv.org/abs/2011.13456)).

# %%
at_400 = torch.full((4,), 400)
abar_t, abar_s = float(diffusion.abar[400]), float(diffusion.abar[399])
beta = float(diffusion.betas[400])
x = diffusion.q_sample(to_float(unseen[:4]), at_400, torch.randn(begin.shape, generator=g))
with torch.no_grad():
    v = trained(x, at_400).double()
x = x.double()
x0_hat = diffusion.predict_xstart_from_v(x, at_400, v)
score = -diffusion.predict_eps_from_xstart(x, at_400, x0_hat) / (1 - abar_t) ** 0.5
moved = ddim(x, x0_hat, abar_t, abar_s) - x
check("eq:3.11", moved / (beta / 2), x + score, 0.05, "DDIM at t = 400, per beta/2")
mean = diffusion.q_posterior_mean_variance(x0_hat, x, at_400)[0]
check("eq:3.11", (mean - x) / (beta / 2), x + 2 * score, 0.05, "DDPM at t = 400, per beta/2")

# %% [markdown]
# **Flow matching.** Walk from image to noise on a straight line, $x_u = (1-u)\,x_0 + u\,\epsilon$ with $u$ from 0 to 1, and let the network answer the direction $\epsilon - x_0$. That is what Eq. 2.35 calls another schedule and another target. Our network can do it without any new training. Rescale $x_t$, and step along the direction by Euler's method:
#
# <!-- eq:3.12 -->
# $$x_u = \frac{x_t}{\sqrt{\bar\alpha_t}+\sqrt{1-\bar\alpha_t}},\qquad u = \frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}+\sqrt{1-\bar\alpha_t}},\qquad x_{u'} = x_u + (u'-u)\,(\hat\epsilon-\hat x_0) \tag{3.12}$$
#
# On a straight line Euler's method makes no error but that of the answer. So the step is that of DDIM, exactly. For straight lines, what differs is schedule, target and weights in training, not the sampler.

# %% [markdown] tags=["exercise"]
# **Exercise 03-5** · medium · 10 minutes
#
# A network answers $v$ for $x_t$. Which direction $\hat\epsilon - \hat x_0$ does it give? `abar_t` is a number.


# %% tags=["exercise"]
def direction(x, v, abar_t): ...  # from Eq. 2.17


exercises.check("03-5", direction)


# %% tags=["solution"]
def direction(x, v, abar_t):
    eps = (1 - abar_t) ** 0.5 * x + abar_t**0.5 * v
    x0 = abar_t**0.5 * x - (1 - abar_t) ** 0.5 * v
    return eps - x0


exercises.check("03-5", direction)


# %%
@torch.no_grad()
def sample_by_flow(network, x, times):
    """Euler's method on the straight line, Eq. 3.12: x is x_T, the images are x_u at u = 0."""
    size = [float(a**0.5 + (1 - a) ** 0.5) for a in diffusion.abar[times]]
    u = [float((1 - a) ** 0.5) / s for a, s in zip(diffusion.abar[times], size, strict=True)]
    x_u = x / size[0]
    for i, t in enumerate(times[:-1]):
        abar_t, x_t = float(diffusion.abar[t]), size[i] * x_u
        v = network(x_t, torch.full((len(x),), t))
        x0 = (abar_t**0.5 * x_t - (1 - abar_t) ** 0.5 * v).clamp(-1, 1)
        eps = (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
        x_u = x_u + (u[i + 1] - u[i]) * (eps - x0)
    return x_u


flown = sample_by_flow(trained, begin, few_times)
check("eq:3.12", flown, sample(trained, begin, few_times), 2e-3, "ten steps of Euler, and of DDIM")

# %% [markdown]
# **Guidance by a classifier.** Suppose we want rooms with a property $y$, a red wall, and have a classifier that reads $y$ from *noisy* images: $p(y\mid x_t)$. By Bayes' rule $\log q(x_t\mid y) = \log q(x_t) + \log p(y\mid x_t)$ up to a constant. Take gradients, and turn scores into noise by Eq. 2.31 ([Dhariwal & Nichol, 2021](https://arxiv.org/abs/2105.05233)):
#
# <!-- eq:3.13 -->
# $$\hat\epsilon_y = \hat\epsilon - \sqrt{1-\bar\alpha_t}\;\nabla_{x_t}\log p(y\mid x_t) \tag{3.13}$$
#
# So the network need not be trained anew. Often the gradient is multiplied by a weight above 1, which trades variety for fidelity. *Classifier-free* guidance ([Ho & Salimans, 2022](https://arxiv.org/abs/2207.12598)) spares the classifier: one network learns $\hat\epsilon_y$ and $\hat\epsilon$, and the step takes
# $\hat\epsilon + \gamma\,(\hat\epsilon_y - \hat\epsilon)$ with $\gamma > 1$, which lies beyond $\hat\epsilon_y$. Our rooms have no labels in training; Appendix A goes beyond the network in another direction. The check uses two classes of normal data, for which all is known.

# %%
a, s2, means = 0.5, 0.04, torch.tensor([0.6, -0.4], dtype=torch.float64)  # of two classes
x = torch.linspace(-2, 2, 41, dtype=torch.float64).requires_grad_(True)
variance = a * s2 + 1 - a  # of x_t within a class
log_joint = torch.tensor([0.3, 0.7]).log() - (x[:, None] - a**0.5 * means) ** 2 / (2 * variance)
log_p = log_joint.log_softmax(1)  # the best classifier of noisy data
(slope,) = torch.autograd.grad(log_p[:, 0].sum(), x)
eps_of_class = (1 - a) ** 0.5 * (x[:, None] - a**0.5 * means) / variance  # E[eps | x_t, y]
eps_of_both = (log_p.exp() * eps_of_class).sum(1)  # E[eps | x_t]
guided_eps = eps_of_both - (1 - a) ** 0.5 * slope
check("eq:3.13", guided_eps, eps_of_class[:, 0], 1e-12, "noise given the first class, 41 places")
check_fails(
    "eq:3.13",
    lambda: check("eq:3.13", eps_of_both - slope, eps_of_class[:, 0], 1e-3, "noise"),
    "without the root",
)

# %% [markdown]
# ## 11. How good are the rooms?
#
# We draw samples as the package does it by default: the second-order solver, times by noise, guided by an early network (Appendix A).

# %%
began = time.monotonic()
final = ddpm.sample(cfg.n_final, seed=3, steps=cfg.steps)
sampling_seconds = (time.monotonic() - began) / len(final) * 1000
f_final = features(final)
f_train = features(train_images[order[: cfg.n_final]])

# %% tags=["hide-input"]
from bedgen_utils.metrics import frechet_from_features, precision_recall

quality, protocols = [], {}
for n in sorted({max(4, cfg.n_final // 4), max(4, cfg.n_final // 2), cfg.n_final}):
    distance = frechet_from_features(f_final[:n], reference)
    floor = frechet_from_features(f_train[:n], reference)
    kernel = kernel_distance(f_final[:n], f_validation)
    pr = precision_recall(f_validation[:n], f_final[:n])
    pr_real = precision_recall(f_validation[:n], f_train[:n])
    protocols[f"N = {n}"] = reference.protocol(n, split="validation")
    quality.append(
        {
            "N": n,
            "Fréchet distance": round(distance, 1),
            "floor": round(floor, 1),
            "excess": round(distance - floor, 1),
            "kernel distance": round(kernel.value, 3),
            "± kernel": round(kernel.error, 3),
            "precision": pr.precision,
            "recall": pr.recall,
            "precision, real": pr_real.precision,
            "recall, real": pr_real.recall,
        }
    )
fig, ax = plt.subplots(figsize=(8, 4.2))
show_images(ax, final[:32], 8)
save_figure(
    run,
    fig,
    "nb03_samples",
    f"32 samples, not selected; {cfg.steps} steps each, guided.",
    {
        "distance": quality[-1]["Fréchet distance"],
        "floor": quality[-1]["floor"],
        "kernel distance": quality[-1]["kernel distance"],
        "± kernel": quality[-1]["± kernel"],
        "n": len(final),
        "steps": cfg.steps,
        "seconds_per_1000": sampling_seconds,
        "parameters": sum(q.numel() for q in ddpm.network.parameters()),
    },
    reference.protocol(len(final), split="validation"),
)
save_table(
    run,
    quality,
    "nb03_quality",
    "The first N samples against the validation images, and the same of training images (floor, "
    "real). Precision and recall: against N validation images. ±: one standard error. One "
    "training.",
    protocols,
)

# %% [markdown]
# The Fréchet distance nearly halves from the first row to the last, and the model is the same: most of a raw distance is the sample size. Its ratio to the floor rises from 1.3 to about 2 meanwhile. The excess changes far less: in three runs (seeds 0 to 2) it rose by 47 to 81, since the bias of a model is not quite that of real rooms. The kernel distance does not change beyond its errors.
#
# These two tell how good the model is. At $N = 1000$ the excess is about 300 to 340 in the three runs, and the
# kernel distance 3.8 to 4.5 where real rooms have 0. The samples are as likely as real rooms to lie among real ones (precision), but they cover only about half as many of them (recall).

# %% tags=["hide-input"]
small_n, large_n = quality[0], quality[-1]
claim(
    run.profile,
    "distance nearly halves, excess rises a quarter as much or less; kernel 3.8 to 4.5",
    large_n["Fréchet distance"] < 0.6 * small_n["Fréchet distance"]
    and 1.24 < small_n["Fréchet distance"] / small_n["floor"] < 1.34
    and 1.8 < large_n["Fréchet distance"] / large_n["floor"] < 2.1
    and 0
    < large_n["excess"] - small_n["excess"]
    < 0.25 * (small_n["Fréchet distance"] - large_n["Fréchet distance"])
    and 280 < large_n["excess"] < 360
    and 3.6 < large_n["kernel distance"] < 4.8
    and abs(large_n["kernel distance"] - small_n["kernel distance"]) < 3 * small_n["± kernel"],
)
claim(
    run.profile,
    "precision as of real rooms, recall about half",
    large_n["precision"] > large_n["precision, real"] - 0.06
    and 0.4 < large_n["recall"] / large_n["recall, real"] < 0.58,
)

# %% [markdown]
# ## 12. The bound in bits
#
# `diffusion.vlb` sums the bound of Eq. 4 for validation images. In bits per dimension it says how many bits a lossless code built on this model would need for each colour value. Storing the bytes as they are takes 8.
#
# The bound wants the variance of $p_\theta$ as well, which we did not train. Notebook 02 gave two choices: $\tilde\beta_t$ and $\beta_t$. We take the network alone, since a guided deterministic sampler is no draw from this $p_\theta$. To save time, neighbouring terms are thinned: a random one stands for all of its group, which leaves the sum unbiased. The
# images come in groups that draw their own terms, and Student's $t$ over the means of the groups gives the interval.

# %%
from bedgen_utils.diffusion import GaussianDiffusion
from bedgen_utils.report import mean_interval

device = next(ddpm.network.parameters()).device
scored = to_float(validation_images[: cfg.n_bound]).to(device)
bounds = {}
for variance in ("small", "large"):
    scorer = GaussianDiffusion(diffusion.betas, diffusion.prediction, variance)
    dice = torch.Generator().manual_seed(seed)
    bounds[variance] = [
        scorer.vlb(ddpm.network, part, dice, thin=cfg.bound_thin)
        for part in scored.split(cfg.bound_group)
    ]

# %% tags=["hide-input"]
LABELS = {"small": r"$\tilde\beta_t$", "large": r"$\beta_t$"}
fig, ax = plt.subplots(figsize=(6, 3))
edges = np.unique(np.geomspace(1, T, 25).round().astype(int))
bits, bit_rows = {}, []
for (variance, parts), line in zip(bounds.items(), ("-", "--"), strict=True):
    totals = np.array([float(b.total.mean()) for b in parts])
    interval = mean_interval(totals)
    pieces = {
        name: torch.cat([getattr(b, name).reshape(len(b.total), -1).sum(1) for b in parts])
        .mean()
        .item()
        for name in ("L_0", "L_t", "L_T")
    }
    error = {"standard_error": totals.std(ddof=1) / len(totals) ** 0.5}
    ends = {"low": interval.low, "high": interval.high}
    bits[variance] = {"total": interval.value} | error | ends | pieces
    bit_rows.append({"variance": variance} | {k: round(v, 3) for k, v in bits[variance].items()})
    terms = torch.cat([b.terms for b in parts])[:, 1:-1]
    spans = [terms[:, a - 1 : b - 1].mean().item() for a, b in pairwise(edges)]
    ax.stairs(spans, edges + 1, baseline=None, lw=2, ls=line, label=f"variance {LABELS[variance]}")
ax.set(xscale="log", yscale="log", xlabel="time t", ylabel="$L_{t-1}$ / bits per dimension")
ax.legend(fontsize=9)
save_figure(
    run,
    fig,
    "nb03_bits",
    "The terms of the bound over t, for two variances of the same network's reverse step, "
    f"{cfg.n_bound} validation images.",
    bits | {"images": cfg.n_bound},
)
save_table(
    run,
    bit_rows,
    "nb03_bound",
    f"The bound in bits per dimension, {cfg.n_bound} validation images in groups of "
    f"{cfg.bound_group}; low and high: 95 % interval of Student's t over the groups.",
)

# %% [markdown]
# With $\beta_t$ the bound is about 4.6 bits, with $\tilde\beta_t$ clearly more (the table's $L_t$ sums all terms between $L_0$ and $L_T$). Most of the bits are spent at the smallest times, on the last grain. Our loss hardly weights these (Eq. 3.3), so this is not the lowest bound that such a network can reach. Appendix C shows what a lower one costs in distance.

# %% tags=["hide-input"]
claim(
    run.profile,
    "about 4.6 bits with beta, clearly more with beta-tilde",
    abs(bits["large"]["total"] - 4.6) < 0.25 and bits["small"]["low"] > bits["large"]["high"],
)

# %% [markdown]
# ## 13. Learnt, or memorised?
#
# A network that knows its training images by heart has a lower loss on them than on new ones. And its samples lie close to training images. We look at both: the loss at each $t$, and for each sample the nearest training image, by root mean squared difference of pixels, mirrored images included. Validation rooms are the yardstick: the network
# cannot have copied them.


# %%
def loss_at(images, t_value):
    """The loss (all times alike) of each image at one time, with fixed noise."""
    fixed = torch.Generator().manual_seed(seed)
    x0 = to_float(images)
    noise = torch.randn(x0.shape, generator=fixed)
    with torch.no_grad():
        return diffusion.training_loss(trained, x0, torch.full((len(x0),), t_value), noise)


m = min(4 * cfg.n_bound, len(final), len(train_images), len(validation_images))
known = [loss_at(train_images[:m], t) for t in some_times]
new = [loss_at(validation_images[:m], t) for t in some_times]
both_ways = torch.cat([train_images, train_images.flip(-1)])
flat = both_ways.flatten(1).float()


def nearest(images):
    """Distance to the nearest training image in grey levels, and which it is."""
    found = torch.cdist(images.flatten(1).float(), flat).min(1)
    return found.values / flat.shape[1] ** 0.5, found.indices


of_samples, index = nearest(final[:m])
of_validation, _ = nearest(validation_images[:m])
closer = of_validation.mean() - of_samples.mean()
closer_error = ((of_samples.var() + of_validation.var()) / m) ** 0.5
print(f"nearest of all: sample {of_samples.min():.1f}, validation image {of_validation.min():.1f}")

# %% tags=["hide-input"]
fig, (left_ax, right_ax) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=(1, 1.7))
gaps = []
for a, b in zip(known, new, strict=True):
    ratio = b.mean() / a.mean()
    gaps.append((float(ratio - 1), float(((b.var() + ratio**2 * a.var()) / m) ** 0.5 / a.mean())))
gap, gap_error = np.transpose(gaps)
left_ax.errorbar(some_times, 100 * gap, 200 * gap_error, fmt="o", ms=4, capsize=4)
left_ax.axhline(0, color="0.4", ls=":", lw=1.5)
left_ax.set(xlabel="time t", ylabel="validation loss above\ntraining loss / %")
pairs = torch.cat([final[:8], both_ways[index[:8]]])
show_images(right_ax, pairs, 8, "samples (top), nearest training images (below)")
save_figure(
    run,
    fig,
    "nb03_memorising",
    f"By how much the loss on {m} validation images exceeds that on {m} training images, bars are "
    "two standard errors (left). The first eight samples, and the training image nearest to each "
    "(right).",
    {
        "t": some_times,
        "train": [float(v.mean()) for v in known],
        "validation": [float(v.mean()) for v in new],
        "nearest_rms_samples": of_samples.mean().item(),
        "nearest_rms_validation": of_validation.mean().item(),
        "closest_rms_samples": of_samples.min().item(),
        "closest_rms_validation": of_validation.min().item(),
    },
)

# %% [markdown]
# The losses on validation images are higher at every time, by 8 % at most and 2 to 4 % on average (seeds 0 to 2), each by no more than about two standard errors. These are the same images throughout: if the validation rooms happen to be harder, all eight gaps show it. And so it seems. In the figure of section 7 the two losses are about as far apart after 3,008 images, when the network has seen none twice, as at the end.
#
# A copy would show in the nearest sample of all: it is about as far from a training image as the nearest of as many new rooms. On average, too, samples are no nearer. There is no sign of copying. After three and a half epochs of 12,000 images that is no surprise; 300 epochs of 1,000 images would be another matter. [Notebook 06](06_evaluation.ipynb) looks closer.

# %% tags=["hide-input"]
claim(
    run.profile,
    "losses higher at every time, 2 to 4 % on average; each gap within about two of its errors",
    0 < gap.min()
    and gap.max() < 0.095
    and 0.015 < gap.mean() < 0.046
    and (gap < 2.3 * gap_error).all(),
)
apart = [r["validation_loss"] / r["train_loss"] - 1 for r in looks if "train_loss" in r]
claim(
    run.profile,
    "the two losses of section 7: as far apart after 3,008 images as at the end",
    len(apart) > 1 and abs(apart[0] - apart[-1]) < 0.006,
)
claim(
    run.profile,
    "the nearest sample is not much nearer; on average samples are not, by two standard errors",
    of_samples.min() > 0.7 * of_validation.min() and closer < 2 * closer_error,
)

# %% [markdown]
# ## Summary
#
# * A diffusion model is a network that answers $v$, a loop that trains it on Eq. 3.1, and a loop that samples. Written out they take about 100 lines. In a few minutes on two cores a small one learns colours, light and surfaces; rooms take longer. The package's versions give the same numbers from the same weights.
# * An untrained network with a last layer of zeros has the loss of Eq. 3.2. The loss has a floor that no one knows: watch the samples.
# * Trained in full at 32 pixels, the excess over the floor falls to less than half between the first epoch and the third, and ends at about 300 to 340 for 1,000 samples. Three epochs are not too few as such.
# * The best prediction of the noise is weaker than the noise, by its correlation with it (Eq. 3.8). A "darker" prediction is no fault in itself.
# * In one trained network, 8 evaluations of the second-order solver with times by noise leave little more than half the excess that DDPM has after 1000.
# * DDIM is Euler's method on the probability-flow ODE, and on the straight line of flow matching (Eq. 3.11, 3.12).
# * The bound is about 4.6 bits per dimension. There is no sign that samples copy.
#
# <details><summary><b>Six questions, with answers</b></summary>
#
# *A friend trains as we do, but asks for $\epsilon$ in place of $v$, and the loss stays at 1.0. What does the network answer?* Nothing: $\mathbb E\,|\epsilon|^2/D = 1$ is the loss of the answer 0.
#
# *Another friend's images lie in $[0, 1]$, and the sampler clamps $\hat x_0$ to $[-1, 1]$. What goes wrong?* The clamp lets negative values pass that no image has. The images have a mean of about a half, which the network must learn as if it were content, and a quarter of the variance, so that at each $t$ they drown in more noise than the schedule meant. Converted as if from
# $[-1, 1]$, the samples look pale: black becomes mid-grey.
#
# *Training tells the network $t - 1$ where the sampler tells it $t$. Does it show?* Hardly by eye: each answer is right for a time one step away. Notebook 02, section 11, has a test that sees it.
#
# *What would Fig. 4 show for a network that knows its training images by heart?* On them, noise of nearly full strength and correlation 1: it knows the image, so it knows the noise. In a new image it takes for noise all that sets it apart from the rooms it knows: at small $t$ the strength rises far above 1, and the correlation falls.
#
# *Which of $\epsilon$, $x_0$ and $v$ has a target of the same power at every $t$?* $\epsilon$ (power 1) and $x_0$ (ours about a fifth), always. $v$ only if the images have power 1, by Eq. 3.2: for ours it falls from 1 to a fifth.
#
# *Why does mirroring not hurt here, and where would it?* A mirrored room is as likely as the room. A mirrored page of text is not.
#
# </details>
#
# ## Appendix A. Guidance by an early network
#
# The network still errs when training ends. In which direction? `train_ddpm` keeps a second average of the weights that stops early: the *early network*. It has the same form and learned from the same images for a tenth of the time. So we may hope that it errs in the same direction, only farther. Then the truth lies beyond the final network, seen from the
# early one ([Karras et al., 2024](https://arxiv.org/abs/2406.02507)):
#
# <!-- eq:3.14 -->
# $$\hat x_0^{\,\gamma} = \hat x_0^{\text{early}} + \gamma\,\big(\hat x_0 - \hat x_0^{\text{early}}\big), \qquad \gamma = 1:\ \text{the final network alone} \tag{3.14}$$
#
# On images that neither has seen, the mean squared error of $\hat x_0^{\,\gamma}$ is a parabola in $\gamma$. Its lowest point is
#
# <!-- eq:3.15 -->
# $$\gamma^* = \frac{\mathbb E\,(x_0-\hat x_0^{\text{early}})\cdot(\hat x_0-\hat x_0^{\text{early}})}{\mathbb E\,|\hat x_0-\hat x_0^{\text{early}}|^2} \tag{3.15}$$
#
# With $m=\mathbb E[x_0\mid x_t]$, let $\delta=m-\hat x_0$ and $\delta_{\text{early}}=m-\hat x_0^{\text{early}}$ be the errors that could be avoided. The rest, $x_0-m$, is uncorrelated with every function of $x_t$ and drops out:
#
# <!-- eq:3.16 -->
# $$\gamma^*-1=\frac{\mathbb E\,\delta\cdot(\delta_{\text{early}}-\delta)}{\mathbb E\,|\delta_{\text{early}}-\delta|^2} \tag{3.16}$$
#
# So $\gamma^* > 1$ says what we hoped for: the early network errs more than the final one, in the direction of the final one's error.

# %%
from bedgen_utils.diffusion import guided

e, across, rest = torch.randn(3, 4000, 3, dtype=torch.float64, generator=g)  # invented errors
e_early = 1.5 * e + 0.3 * across  # partly in the same direction
apart = (e_early - e).square().sum(1).mean()
terms = ((rest + e_early) * (e_early - e)).sum(1) / apart - 1
from_errors = (e * (e_early - e)).sum(1).mean() / apart
check_mean("eq:3.16", terms, float(from_errors), "from images by Eq. 3.15, and from their errors")


@torch.no_grad()
def three_answers(t_value, draws):
    """x_0 of the final, the early and the guided network, and the rooms."""
    rooms = to_float(validation_images[: cfg.n_guided]).to(device)
    at = torch.full((len(rooms),), t_value, device=device)
    xt = diffusion.q_sample(rooms, at, torch.randn(rooms.shape, generator=draws).to(device))
    beyond = guided(ddpm.network, ddpm.early, ddpm.guidance)
    models = (ddpm.network, ddpm.early, beyond)
    return [diffusion.predict_xstart(f(xt, at), xt, at).double() for f in models] + [rooms.double()]


# %%
draws, best_w = torch.Generator().manual_seed(seed), []
for t_value in cfg.guided_times:
    x0_final, x0_early, x0_beyond, rooms_seen = three_answers(t_value, draws)
    ahead = x0_final - x0_early
    check(
        "eq:3.14",
        (x0_beyond - x0_early - ddpm.guidance * ahead).abs().max(),
        0,
        1e-4 if device.type == "cpu" else 2e-3,  # a GPU may round its products to 11 bits
        f"t = {t_value}: x_0 of the package's guided network, and the formula",
    )
    above = ((rooms_seen - x0_early) * ahead).flatten(1).sum(1)
    below = ahead.square().flatten(1).sum(1)
    w_star = float(above.sum() / below.sum())
    measured = [float((rooms_seen - x0_early - w * ahead).square().mean()) for w in (0, 1, 2)]
    second, first, _ = np.polyfit([0, 1, 2], measured, 2)
    check("eq:3.15", -first / (2 * second), w_star, 1e-6, "and the lowest point of the error")
    spread_w = float((above - w_star * below).std()) * len(rooms_seen) ** 0.5
    best_w.append({"t": t_value, "w": w_star, "error": spread_w / float(below.sum())})

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6, 3))
bars = [2 * r["error"] for r in best_w]
ax.errorbar([r["t"] for r in best_w], [r["w"] for r in best_w], bars, fmt="o-", capsize=3)
ax.axhline(1, color="0.4", ls=":", lw=1.5)
ax.text(0, 0.99, "final network alone", va="top", fontsize=9)
ax.axhline(ddpm.guidance, color="C1", ls="--", lw=1.5)
ax.text(0, ddpm.guidance, "used in sampling", va="bottom", color="C1", fontsize=9)
ax.set(xlabel="time t", ylabel=r"best weight $\gamma^*$")
save_figure(
    run,
    fig,
    "nb03_guidance",
    f"The weight with the least error of denoising {len(rooms_seen)} validation images; bars are "
    "two standard errors over images (another training would add its own scatter).",
    {"w_star": best_w, "early": recipe.early},
)
n = cfg.n_guide_samples
floor_n = frechet_from_features(f_train[:n], reference)
f_guided = {
    w: features(ddpm.sample(n, seed=3, steps=cfg.steps, guidance=w)) for w in cfg.guide_weights
} | {ddpm.guidance: f_final[:n]}
f_guided = {f"weight {w:g}": f_guided[w] for w in sorted(f_guided)}
guide_rows = []
for name, f in (f_guided | {"training images": f_train[:n]}).items():
    kernel, pr = kernel_distance(f, f_validation), precision_recall(f_validation[:n], f)
    guide_rows.append(
        {
            "samples": name,
            "excess": round(frechet_from_features(f, reference) - floor_n, 1),
            "kernel distance": round(kernel.value, 3),
            "± kernel": round(kernel.error, 3),
            "precision": pr.precision,
            "recall": pr.recall,
        }
    )
save_table(
    run,
    guide_rows,
    "nb03_guidance_samples",
    f"{n} samples in {cfg.steps} steps by the weight of guidance (1: the network alone), against "
    f"the validation images; precision and recall against {n} of them. ±: one standard error.",
    reference.protocol(n, split="validation"),
)

# %% [markdown]
# At the two smallest times the hope holds in each of three runs (seeds 0 to 2), by more than three standard errors. From 200 to 900 $\gamma^*$ is between 0.99 and 1.18. At the last three times the seed decides: in each run $\gamma^*$ is 1.7 to 1.8 at one of them and below 0.95 at another, but which ones differs. The bars do not show this scatter. At most times $\gamma^*$ is so close to 1 that a weight of 1.35 makes the squared error *larger*. Yet the samples get better: in the study of section 9, the best guided run within
# 20 evaluations has about three fifths of the excess of the best run without guidance.
#
# So denoising real rooms does not explain it. In the table, a weight of 1.35 raises recall and lowers both distances, while precision falls by 0.03 to 0.04 in the three runs. At 1.7 recall rises further, but precision falls by another 0.03 to 0.09, and the kernel distance does not change beyond its errors. A sampler meets images of its own making, and their errors build up along the way. Why guidance helps is open here; that it helps is measured, for a weight chosen on validation images.

# %%
from_one = {r["t"]: (r["w"] - 1) / r["error"] for r in best_w}  # in standard errors
middle_w, late_w = ([r["w"] for r in part] for part in (best_w[2:-3], best_w[-3:]))
claim(
    run.profile,
    "above 1 by three errors at the two smallest t; near 1 up to 900; then both below 0.95 and 1.7",
    all(from_one[t] > 3 for t in cfg.guided_times[:2])
    and all(0.9 < w < 1.28 for w in middle_w)
    and 0.7 < min(late_w) < 0.95
    and 1.5 < max(late_w) < 1.9,
)
claim(
    run.profile,
    "so close to 1 at most times that the weight in use has a larger error than 1",
    sum(r["w"] < (1 + ddpm.guidance) / 2 for r in best_w) > len(best_w) / 2,
)
within = long_runs[long_runs["evaluations"] <= 20]
with_guide = within["sampler"].str.contains("guided")
share = within[with_guide]["excess"].min() / within[~with_guide]["excess"].min()
claim(run.profile, "three fifths of the excess within 20 evaluations", 0.55 < share < 0.65)

# %%
alone, usual, strong = guide_rows[:3]  # weights 1, 1.35, 1.7
error = np.hypot(usual["± kernel"], [alone["± kernel"], strong["± kernel"]])
claim(
    run.profile,
    "1.35: recall up, distances down by three standard errors, precision down by less than 0.06",
    usual["recall"] > alone["recall"] + 0.08
    and alone["kernel distance"] - usual["kernel distance"] > 3 * error[0]
    and usual["excess"] < 0.8 * alone["excess"]
    and 0 < alone["precision"] - usual["precision"] < 0.06,
)
claim(
    run.profile,
    "1.7: recall up further, precision down, kernel distance within two standard errors",
    strong["recall"] > usual["recall"] + 0.02
    and 0 < usual["precision"] - strong["precision"] < 0.13
    and abs(strong["kernel distance"] - usual["kernel distance"]) < 2 * error[1],
)

# %% [markdown]
# ## Appendix B. Muon
#
# The filters of a convolution are a matrix $W$: it multiplies the patch that a filter sees, written as a vector. A step $\Delta$ changes the loss, to first order, by $\langle M, \Delta\rangle = \sum_{ij} M_{ij}\Delta_{ij}$, where $M$ is the gradient (in training, a running mean of gradients). Which step is steepest depends on how its length is measured. What matters is how far the answer moves at most,
# for a patch of length 1: the largest singular value $\|\Delta\|$.
#
# Write $M = U\Lambda V^\top = \sum_i \lambda_i\,U_i V_i^\top$ with singular values $\lambda_i$ and columns $U_i$, $V_i$ of length 1. For all steps with $\|\Delta\| \le 1$
#
# <!-- eq:3.17 -->
# $$\langle M, \Delta\rangle = \sum_i \lambda_i\,U_i^\top\Delta\,V_i \;\ge\; -\sum_i \lambda_i, \qquad\text{with equality for } \Delta = -U V^\top \tag{3.17}$$
#
# No $U_i^\top\Delta\,V_i$ is below $-\|\Delta\|$. The steepest step is minus the gradient with all singular values set to 1. Plain descent keeps them, and a few large ones use up the step. To find $UV^\top$ without a decomposition, Muon ([Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/)) divides $M$ by the root of the sum of its squared entries, so that no $\lambda$ exceeds 1, and applies five times
#
# <!-- eq:3.18 -->
# $$\psi(X) = 3.4445\,X - 4.7750\,(X X^\top) X + 2.0315\,(X X^\top)^2 X = U\,\psi(\Lambda)\,V^\top \tag{3.18}$$
#
# On each $\lambda$ it acts as $\psi(\lambda) = 3.4445\,\lambda - 4.7750\,\lambda^3 + 2.0315\,\lambda^5$: small ones grow fast, and all but the tiniest end between 0.65 and 1.25.

# %%
from bedgen_utils.optim import orthogonalize


def shortened(D):
    """The step cut to the set of those with largest singular value 1 or less."""
    U, s, Vt = torch.linalg.svd(D, full_matrices=False)
    return U @ s.clamp(max=1).diag() @ Vt


A = torch.randn(6, 10, generator=g, dtype=torch.float64)
D = torch.zeros_like(A)
for _ in range(400):  # a search that knows nothing of the answer: steps downhill, then cut
    D = shortened(D - 0.1 * A)
values = torch.linalg.svdvals(A)
check("eq:3.17", (A * D).sum(), -values.sum(), 1e-9, "the lowest that a search finds")
plain = -A / values[0]  # the gradient itself, of length 1
check_fails(
    "eq:3.17",
    lambda: check("eq:3.17", (A * plain).sum(), -values.sum(), 1e-3, "the lowest"),
    "the gradient's own direction is the steepest",
)


# %%
def five_times(s):
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


noise_64 = torch.randn(some_rooms.shape, generator=g)
at_64 = torch.randint(1, T + 1, (len(some_rooms),), generator=g)
loss = loss_of(small, some_rooms, at_64, noise_64, weight).mean()
(M,) = torch.autograd.grad(loss, [small.up[0].conv1.weight])  # of a layer of section 6
M = M.flatten(1).double()
U, S, Vt = torch.linalg.svd(M, full_matrices=False)
by_parts = U @ five_times(S / M.norm()).diag() @ Vt
check("eq:3.18", orthogonalize(M), by_parts, 1e-9, "the package's, and ψ on the singular values")
random_steps = torch.randn(100, *M.shape, generator=g, dtype=torch.float64)
tries = torch.cat([-M[None], -M.sign()[None], random_steps])
tries = tries / torch.linalg.matrix_norm(tries, 2)[:, None, None]
gains = -(tries * M).sum((1, 2)) / S.sum()  # shares of the best decrease
names = ("gradient", "sign", "best of 100 random")
muon_gains = dict(zip(names, (gains[0], gains[1], gains[2:].max()), strict=True))
print({name: f"{float(gain):.0%}" for name, gain in muon_gains.items()})

# %% tags=["hide-input"]
s = torch.logspace(-4, 0, 2000, dtype=torch.float64)
fig, (left_ax, right_ax) = plt.subplots(1, 2, figsize=(9, 2.8))
left_ax.semilogx(s, five_times(s))
left_ax.axhline(1, color="0.6", lw=0.8)
left_ax.set(xlabel="singular value before", ylabel="after five times ψ", ylim=(0, 1.3))
number = range(1, len(S) + 1)
right_ax.semilogy(number, S / M.norm(), "o", ms=3, label="gradient, scaled")
right_ax.semilogy(number, torch.linalg.svdvals(orthogonalize(M)), "s", ms=3, label="after")
right_ax.set(xlabel="number of the singular value", ylabel="singular value")
right_ax.legend(fontsize=9)
save_figure(
    run,
    fig,
    "nb03_muon",
    "Five times the polynomial ψ, on one singular value (left) and on the gradient of one layer "
    "of the small U-Net (right).",
    {f"gain of {name}": float(gain) for name, gain in muon_gains.items()},
)

# %% [markdown]
# At equal largest singular value, the gradient itself and its sign (what Adam's first step takes) reach between a fifth and a half of the best decrease, and random steps less than a tenth. By this measure of length $-UV^\top$ wins by construction; by the largest entry the sign would. Which one trains best only a trial can say: the row *AdamW alone* of Appendix C.

# %% tags=["hide-input"]
claim(
    run.profile,
    "gradient and sign: between a fifth and a half of the best decrease; random under a tenth",
    all(0.2 < muon_gains[name] < 0.5 for name in ("gradient", "sign"))
    and muon_gains["best of 100 random"] < 0.1,
)

# %% [markdown]
# ## Appendix C. The recipe, in equal minutes
#
# A study (`studies/recipes.py`) trains one network after another with the recipe of profile `cpu`, but for the one thing or few that a row's name says (*batch 8* also lowers the rate). All get the same wall-clock time, not the same number of images. *Loss unweighted* is $w_t = 1$; *folded by 2* makes every 2 x 2 pixels one place with 12 channels; *eps, linear schedule, loss unweighted* is the choice of Ho et al. Then 500 samples (ten steps, times by noise, no
# guidance) are held against the validation images, and the bound of section 12 is summed, with $\beta_t$ unless the variance is learned.
#
# There are two seeds a recipe. Suppose that the logarithm $E$ of the excess scatters equally in all recipes. Then all together tell the scatter. Let $E_{ri}$ be that of recipe $r$ and seed $i$, $\bar E_r$ the mean over its $n_r$ seeds, and $r = 0$ the recipe of the profile:
#
# <!-- eq:3.19 -->
# $$S^2=\frac1\nu\sum_{r,i}(E_{ri}-\bar E_r)^2,\quad \nu=\sum_r(n_r-1),\qquad
# \text{ratio of the excesses:}\ \exp\!\Big(\bar E_r-\bar E_0 \pm q_\nu\,S\,\sqrt{\tfrac1{n_r}+\tfrac1{n_0}}\Big) \tag{3.19}$$
#
# with $q_\nu$ the 97.5 % point of Student's $t$ with $\nu$ degrees of freedom. The check invents studies with a known truth. What many do instead, the scatter of two recipes alone and 1.96 for $q$, must fail.

# %%
from scipy import stats


def pooled(logs, base):
    """The common scatter, and for each recipe its mean less the base's, with its half-width."""
    nu = sum(len(v) - 1 for v in logs.values())
    scatter = (sum(((v - v.mean()) ** 2).sum() for v in logs.values()) / nu) ** 0.5
    q, zero = stats.t.ppf(0.975, nu), logs[base]
    return scatter, {
        name: (v.mean() - zero.mean(), q * scatter * (1 / len(v) + 1 / len(zero)) ** 0.5)
        for name, v in logs.items()
    }


def log_excess(rows):
    return np.log(rows["distance"].to_numpy() - floor_500)


study = read_study("recipes")
assert len(study[["minutes", "threads", "scored"]].drop_duplicates()) == 1
recipes = dict(list(study.groupby("recipe", sort=False)))
DEFAULT = "profile cpu"
scatter, ratios = pooled({name: log_excess(rows) for name, rows in recipes.items()}, DEFAULT)
print(f"Seeds of one recipe scatter by {scatter:.0%}")

# %%
dice, held, held_normal, held_alone = np.random.default_rng(seed), [], [], []
for _ in range(6000):
    truth = dice.normal(0, 0.3, len(recipes))
    invented = {i: dice.normal(m, 0.08, 2) for i, m in enumerate(truth)}
    middle, half = pooled(invented, 0)[1][1]
    miss = abs(middle - (truth[1] - truth[0]))
    held.append(float(miss <= half))
    held_normal.append(float(miss <= half * 1.96 / stats.t.ppf(0.975, len(recipes))))
    two = sum(invented[i].var(ddof=1) / 2 for i in (0, 1)) ** 0.5
    held_alone.append(float(miss <= 1.96 * two))
check_mean("eq:3.19", held, 0.95, "share of invented studies whose interval holds the truth")
for shares, what in (
    (held_alone, "the scatter of two recipes alone, and 1.96"),
    (held_normal, "1.96 for the quantile of Student's t"),
):
    check_fails("eq:3.19", lambda a=shares: check_mean("eq:3.19", a, 0.95, "share"), what)

# %% tags=["hide-input"]
recipe_rows = []
for name in sorted(recipes, key=lambda name: ratios[name][0]):
    rows, (middle, half) = recipes[name], ratios[name]
    recipe_rows.append(
        {
            "recipe": name,
            "images": round(rows["images"].mean()),
            "excess": ", ".join(f"{d - floor_500:.0f}" for d in rows["distance"]),
            "ratio of the excess": "1"
            if name == DEFAULT
            else f"{np.exp(middle):.2f} [{np.exp(middle - half):.2f}, {np.exp(middle + half):.2f}]",
            "bits/dim": ", ".join(f"{bits:.2f}" for bits in rows["bits/dim"]),
        }
    )
first_row = study.iloc[0]
display(
    save_table(
        run,
        recipe_rows,
        "nb03_recipes",
        f"Recipes after {first_row['minutes']:g} minutes each on {first_row['threads']} core, two "
        "seeds: images seen (mean), excess of the Fréchet distance of 500 samples over the floor "
        f"of {floor_500:.0f}, its ratio to the profile's with its 95 % interval, and the bound "
        f"({first_row['scored']} validation images). Study at commits "
        f"{', '.join(sorted(study['commit'].unique()))}.",
        of_study,
        study="recipes",
    )
)
fig, ax = plt.subplots(figsize=(7.5, 0.27 * len(recipe_rows) + 0.9))
for y, row in enumerate(recipe_rows):
    middle, half = ratios[row["recipe"]]
    if row["recipe"] == DEFAULT:
        ax.plot(1, y, "kD", ms=5)
    else:
        value = np.exp(middle)
        bars = [[value - np.exp(middle - half)], [np.exp(middle + half) - value]]
        ax.errorbar(value, y, xerr=bars, fmt="o", ms=4, capsize=2, color="C0")
ax.axvline(1, color="k", lw=0.8, ls=":")
ax.set_yticks(range(len(recipe_rows)), [row["recipe"] for row in recipe_rows])
ax.set_ylim(len(recipe_rows) - 0.5, -0.5)
ax.set(xlabel="excess / excess of profile cpu (95 % interval)", xscale="log")
ax.set_xticks([0.8, 1, 1.5, 2, 3], ["0.8", "1", "1.5", "2", "3"])
ax.minorticks_off()
save_figure(
    run,
    fig,
    "nb03_recipes_ratios",
    "What each change of the recipe does to the excess over the floor in equal minutes; left of "
    "the line is better. Two seeds a recipe.",
    {
        "scatter": scatter,
        "ratios": {
            n: [float(np.exp(m + k * h)) for k in (0, -1, 1)] for n, (m, h) in ratios.items()
        },
    },
    of_study,
    study="recipes",
)

# %% [markdown]
# No change is clearly better than the profile's recipe, and most are clearly worse. Mind the *winner's curse*: the profile's recipe was chosen by trials on these same validation images, so it profits from its luck there, and its lead is an upper estimate. There are 13 intervals that lean on the same two runs: some will miss, and several at once if these two were lucky. A recipe
# that starts slowly may also win in hours.
#
# **Bits and images.** Bits and distance are two rulers. Most bits go to the last grain, which the eye does not see. So whoever trains for bits weights small $t$ fully and lets the variance be learned (*L_hybrid*, Eq. 2.28); whoever trains for images does not.

# %% tags=["hide-input"]
SHOWN = [
    DEFAULT,
    "loss unweighted",
    "L_hybrid, loss unweighted",
    "linear schedule, loss unweighted",
    "linear schedule, L_hybrid, loss unweighted",
    "eps, linear schedule, loss unweighted",
]
SHOWN = [name for name in SHOWN if name in recipes]
fig, (left_ax, right_ax) = plt.subplots(1, 2, figsize=(8.5, 4))
others = study[~study["recipe"].isin([*SHOWN, "x0"])]
grey = {"ms": 4, "color": "0.6", "label": "other recipes"}
left_ax.plot(others["bits/dim"], others["distance"] - floor_500, "o", **grey)
for i, name in enumerate(SHOWN):
    rows = recipes[name]
    options = {"ms": 6, "color": f"C{i}", "label": name}
    left_ax.plot(rows["bits/dim"], rows["distance"] - floor_500, "os^Dvx"[i], **options)
    spent = np.mean([np.array(text.split(), float) for text in rows["terms"]], axis=0)
    height = spent * np.diff(edges) / np.diff(np.log(edges + 1))
    line = {"color": f"C{i}", "ls": "-" if i < 3 else "--", "lw": 1.6}
    right_ax.stairs(height, edges + 1, baseline=None, **line)
x0_bits = recipes["x0"]["bits/dim"].tolist() if "x0" in recipes else []
if x0_bits:
    text = "x0: " + ", ".join(f"{b:.1f}" for b in x0_bits) + " bits →"
    height = recipes["x0"]["distance"].mean() - floor_500
    place = {"ha": "right", "va": "center", "transform": left_ax.get_yaxis_transform()}
    left_ax.text(0.99, height, text, fontsize=9, **place)
left_ax.set(xlabel="bound / bits per dimension", ylabel="excess over the floor", yscale="log")
left_ax.set_yticks([700, 1000, 1500, 2000], ["700", "1000", "1500", "2000"])
left_ax.minorticks_off()
right_ax.set(xlabel="time t", ylabel="bits per factor e of t", xscale="log", ylim=(0, None))
fig.legend(*left_ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
save_figure(
    run,
    fig,
    "nb03_bits_and_distance",
    "Left: bound and excess of the Fréchet distance, each run a mark; further left and further "
    "down is better. Right: where six of the recipes spend their bits (the area under a line is "
    "its bits without L_0 and L_T). Marks and lines share their colours.",
    {
        name: {"bits": rows["bits/dim"].tolist(), "excess": (rows["distance"] - floor_500).tolist()}
        for name, rows in recipes.items()
    },
    of_study,
    study="recipes",
)

# %% [markdown]
# An unweighted loss saves 0.8 bits and raises the excess by a third or so. *L_hybrid* saves a little more.
#
# One row is worse than storing raw bytes: a network that answers $x_0$ needs 11.7 and 12.9 bits. Why? By Eq. 2.23 the bound weights an error in $x_0$ by the fall of the signal-to-noise ratio over a step, which is enormous at small $t$. There the image stands in $x_t$ to within the noise, at $t = 1$ less than one grey level. A network that answers $v$ uses it: an
# error in $v$ is multiplied by $\sqrt{1-\bar\alpha_t}$ before it reaches $\hat x_0$. One that answers $x_0$ has no such factor: it must give every pixel as exactly as that. Its samples suffer far less, since no one sees an error of a few grey levels.

# %% tags=["hide-input"]
mean_bits = {name: rows["bits/dim"].mean() for name, rows in recipes.items()}
saved = mean_bits[DEFAULT] - mean_bits["loss unweighted"]
claim(
    run.profile,
    "no recipe has its whole interval below 1, most have it above",
    all(m + h > 0 for m, h in ratios.values())
    and sum(m - h > 0 for m, h in ratios.values()) > len(ratios) / 2,
)
claim(
    run.profile,
    "unweighted: 0.8 bits less, excess up by a third or so; L_hybrid a little less still",
    abs(saved - 0.8) < 0.1
    and abs(np.exp(ratios["loss unweighted"][0]) - 1.34) < 0.1
    and 0 < mean_bits["loss unweighted"] - mean_bits["L_hybrid, loss unweighted"] < 0.3,
)
claim(
    run.profile,
    "x0: 11.7 and 12.9 bits, all others below 8; less than one grey level of noise at small t",
    sorted(round(b, 1) for b in x0_bits) == [11.7, 12.9]
    and max(b for name, b in mean_bits.items() if name != "x0") < 8
    and 127.5 * float(sigma[1]) < 1,
)

# %% [markdown]
# ## References
#
# * Ho, Jain & Abbeel (2020), *Denoising Diffusion Probabilistic Models*, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239).
# * Ronneberger, Fischer & Brox (2015), *U-Net: Convolutional Networks for Biomedical Image Segmentation*, [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
# * Vaswani et al. (2017), *Attention Is All You Need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): waves for positions.
# * Wu & He (2018), *Group Normalization*, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).
# * Nichol & Dhariwal (2021), *Improved Denoising Diffusion Probabilistic Models*, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): the cosine schedule, bits, learned variances.
# * Song, Meng & Ermon (2021), *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502).
# * Song et al. (2021), *Score-Based Generative Modeling through Stochastic Differential Equations*, [arXiv:2011.13456](https://arxiv.org/abs/2011.13456).
# * Dhariwal & Nichol (2021), *Diffusion Models Beat GANs on Image Synthesis*, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233): guidance by a classifier.
# * Salimans & Ho (2022), *Progressive Distillation for Fast Sampling of Diffusion Models*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): the velocity.
# * Ho & Salimans (2022), *Classifier-Free Diffusion Guidance*, [arXiv:2207.12598](https://arxiv.org/abs/2207.12598).
# * Lu et al. (2022), *DPM-Solver++*, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095).
# * Karras et al. (2022), *Elucidating the Design Space of Diffusion-Based Generative Models*, [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): times by noise.
# * Lipman et al. (2023), *Flow Matching for Generative Modeling*, [arXiv:2210.02747](https://arxiv.org/abs/2210.02747).
# * Hang et al. (2023), *Efficient Diffusion Training via Min-SNR Weighting Strategy*, [arXiv:2303.09556](https://arxiv.org/abs/2303.09556).
# * Karras et al. (2024), *Guiding a Diffusion Model with a Bad Version of Itself*, [arXiv:2406.02507](https://arxiv.org/abs/2406.02507).
# * Jordan et al. (2024), *Muon: An optimizer for hidden layers in neural networks*, [kellerjordan.github.io/posts/muon](https://kellerjordan.github.io/posts/muon/).
#
# Before: [02 · Posterior and bound](02_posterior_and_bound.ipynb). Next: [04 · Training a GAN](04_gan_training.ipynb).
