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
# # 08 · The report, with its conclusions drawn from numbers
#
# Seven notebooks have explained and trained two generative models of bedrooms. This one puts them side by side under one protocol and asks, sentence by sentence, which
# conclusions of the original report hold. Every number below is measured when the notebook runs, or read from the training history that travels
# with the weights, from a study's table, or from what notebooks 03 and 07 of this run have left in their manifests. In
# profile `cpu` it takes about two and a half minutes on two cores.
#
# After reading you can say what each model costs, what it gives, and what such a comparison does *not* show.

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released" or "gpu"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import time
import warnings
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display

from bedgen_utils.data import load_bedrooms
from bedgen_utils.factors import FACTORS, KIND, combined, load_classifier, total_variation
from bedgen_utils.features import EfficientNetLite0
from bedgen_utils.metrics import PREPARED, Protocol, SmallSampleWarning, evaluate
from bedgen_utils.models import RELEASED, load
from bedgen_utils.report import (
    STUDIES,
    mean_interval,
    numbers_from_run,
    read_manifest,
    read_study,
    save_figure,
    save_table,
    show_images,
    use_style,
)
from bedgen_utils.run import start

run = start("08", profile, seed, out)
use_style()
p = run.p
# Every N is printed, and the floor stands beside it.
warnings.filterwarnings("ignore", category=SmallSampleWarning)

train_images = load_bedrooms(p.source, "train", p.size, limit=p.train_images or None)
validation_images = load_bedrooms(p.source, "validation", p.size, limit=p.test_images or None)
test_images = load_bedrooms(p.source, "test", p.size, limit=p.test_images or None)
ddpm, gan = load("ddpm", run), load("gan", run)
print(f"DDPM: {ddpm.source}\nGAN:  {gan.source}")

# %% [markdown]
# ## 1. The same ruler for both
#
# Both models paint the same number of images; both are held against the same test images, on which neither was trained and by which nothing was chosen (the times of the DDPM's sampler and the weight of its *early network*, an early copy of the network that is asked at every step and extrapolated away from, were chosen by trial on validation images at 32 px, notebook 03, section 8). Four numbers, each explained in notebook 06:
#
# * the **Fréchet distance** between the clouds of EfficientNet-Lite0 features (lower is better; not an FID, whose network is another);
# * the **kernel distance** in the same features, unbiased in the number of samples;
# * **precision**, the share of samples that lie where test images lie (are they rooms?), and **recall**, the share of test images that lie where samples do (are all kinds of rooms there?).
#   Neither means much alone: samples crowded into the middle of the cloud score a *higher* precision than real rooms, and a low recall.
#
# A last row of *training* images is the floor: real rooms, as many, no model at all. Much of a Fréchet distance comes from there being so few samples and falls as they grow in number (notebook 06); so a second column gives what lies *above the floor*, where most of that part cancels.

# %%
n = p.n_samples


def timed(function):
    began = time.monotonic()
    return function(), (time.monotonic() - began) / n * 1000


ddpm_images, ddpm_seconds = timed(lambda: ddpm.sample(n, seed=11, steps=p.steps))
gan_images, gan_seconds = timed(lambda: gan.sample(n, seed=11))
order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(seed))[:n]
sets = {"DDPM": ddpm_images, "GAN": gan_images, "training images": train_images[order]}

evaluations = {name: evaluate(images, test_images, split="test") for name, images in sets.items()}
shared = evaluations["training images"].protocol
for evaluation in evaluations.values():
    shared.require(evaluation.protocol)  # or nothing below may be compared
results = {
    name: {k: v for k, v in asdict(e).items() if k != "protocol"} for name, e in evaluations.items()
}
print(shared)


# %%
def last(history, key):
    return next(row[key] for row in reversed(history) if key in row)


models = {
    "DDPM": (ddpm.network, ddpm.history, ddpm_seconds),
    "GAN": (gan.generator, gan.history, gan_seconds),
}
of_bound = (numbers_from_run(run, "nb03_bits") or {}).get("large")  # as notebook 03 measured it
rows = []
for name, r in results.items():
    network, history, seconds = models.get(name, (None, None, None))
    bound = of_bound if name == "DDPM" else None
    rows.append(
        {
            "": name,
            "Fréchet distance": round(r["distance"], 1),
            "above the floor": round(r["distance"] - results["training images"]["distance"], 1),
            "kernel distance": f"{r['kernel']:.3f} ± {2 * r['kernel_error']:.3f}",
            "precision": round(r["precision"], 3),
            "recall": round(r["recall"], 3),
            "bits/dim": f"{bound['total']:.2f} ± {2 * bound['standard_error']:.2f}"
            if bound
            else "",
            "parameters / 10⁶": round(sum(q.numel() for q in network.parameters()) / 1e6, 2)
            if network
            else "",
            "learnt from": {
                "DDPM": f"{len(train_images):,}",
                "GAN": f"{p.gan_images or len(train_images):,}",
            }.get(name, ""),
            "images seen": f"{last(history, 'images'):,}" if history else "",
            "training / minutes": round(last(history, "seconds") / 60, 1) if history else "",
            "seconds per 1,000 samples": round(seconds, 1) if seconds is not None else "",
        }
    )
display(
    save_table(
        run,
        rows,
        "nb08_models",
        f"Both models at {p.size} x {p.size} pixels, {n:,} samples each against "
        f"{len(test_images):,} test images, precision and recall against "
        f"{min(n, len(test_images)):,} of them; ± is two standard "
        "errors. Learnt from: different images; seen: with repetitions. Bits per dimension: the "
        "bound of notebook 03, section 10, with variance β_t, of the network without its early "
        "network; a GAN gives no density. The generator alone is counted for the GAN, the network "
        "without its equally large early network for the DDPM.",
        shared,
    )
)

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 4.1))
for ax, (name, images) in zip(axes, sets.items(), strict=True):
    show_images(ax, images[:36], 6, name)
save_figure(
    run, fig, "nb08_side_by_side", "The first 36 images of each set, not selected.", results, shared
)
plt.show()

# %% [markdown]
# What kinds of rooms are there? A network reads scene factors from the images (notebook 05, section 6, says how well, and why answers are compared with answers). We count the combinations of five factors (view, window behind the bed, lamps, footboard, floor) that each set shows; say how evenly, by $e^H$ with the entropy $H = -\sum_c q_c \log q_c$ of their shares $q_c$, the number of equally frequent combinations with the same entropy (notebook 05); and measure
# the total variation distance, $\tfrac12\sum_c |q_c - p_c|$, of the shares to those $p_c$ of test images, for the combinations and, apart from these, for the colour of the wall. Real images are not at 0 either, so the last row is the yardstick. The network has learnt from the training images; that row is therefore of other *test* images.

# %%
reader, k_wall = load_classifier(), list(FACTORS).index("wall_colour")
m = min(n, len(test_images) // 3)
mixed = torch.randperm(len(test_images), generator=torch.Generator().manual_seed(seed))
others, of_reference = reader.read(test_images[mixed[:m]]), reader.read(test_images[mixed[m:]])
in_reference, count = combined(of_reference, KIND)
kinds, kind_rows = {}, []
for name, answers in {
    "DDPM": reader.read(ddpm_images[:m]),
    "GAN": reader.read(gan_images[:m]),
    "other test images": others,
}.items():
    mine, _ = combined(answers, KIND)
    q = mine.bincount(minlength=count).double() / m
    kinds[name] = {
        "found": int((q > 0).sum()),
        "variation": total_variation(mine, in_reference, count),
    }
    wall = total_variation(answers[:, k_wall], of_reference[:, k_wall], len(FACTORS["wall_colour"]))
    kind_rows.append(
        {
            "": name,
            f"combinations found, of {count}": kinds[name]["found"],
            "effective number $e^H$": round(torch.special.entr(q).sum().exp().item(), 1),
            "total variation, combinations": round(kinds[name]["variation"], 2),
            "total variation, wall": round(wall, 2),
        }
    )
display(
    save_table(
        run,
        kind_rows,
        "nb08_kinds",
        f"What {m:,} images of each set show, as a network reads it, against "
        f"{len(of_reference):,} test images.",
    )
)
display(
    Markdown(
        "Total variation, combinations / wall: "
        + "; ".join(
            f"{row['']} {row['total variation, combinations']:.2f} / "
            f"{row['total variation, wall']:.2f}"
            for row in kind_rows
        )
        + ". The last is what another draw of real images gives."
    )
)

# %% [markdown]
# ## 2. Against the clock
#
# The report gave its diffusion model three epochs of six to seven hours and its GAN about fourteen hours (270 training epochs of 2 minutes, 30 evaluations of 10). The one had a twentieth of a large data set, the other about a thousand images, and the machines need not be the same: no comparison at equal cost either. Here are both curves
# against minutes of training on the machine that trained each (evaluation not counted). The distances are to validation images, as training measured them. The DDPM's points are guided samples (notebook 03, section 8). The legend says how many samples a point rests on; compare points of the two curves only where those are equal.

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.4))
curves = {}
for name, history, marker in (("DDPM", ddpm.history, "o-"), ("GAN", gan.history, "s--")):
    points = [row for row in history if "distance" in row]
    curves[name] = [[row["seconds"] / 60, row["distance"], row.get("n")] for row in points]
    ax.plot(
        [row["seconds"] / 60 for row in points],
        [row["distance"] for row in points],
        marker,
        ms=4,
        label=f"{name} ({points[-1].get('n', '?')} samples a point)",
    )
for k, style in zip(
    sorted({min(curve[-1][2], n) for curve in curves.values()}), (":", "-."), strict=False
):
    ax.axhline(
        evaluate(train_images[order[:k]], validation_images, split="validation").distance,
        color="0.4",
        lw=0.9,
        ls=style,
        label=f"real rooms ({k} of them)",
    )
ax.set(xlabel="minutes of training", ylabel="Fréchet distance to validation images", ylim=(0, None))
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb08_equal_time",
    "Distance to the validation images against minutes of training, both models; one run each, "
    "without an error.",
    {"minutes_distance_n": curves},
    {
        name: replace(
            shared,
            n_generated=curve[-1][2],
            n_reference=len(validation_images),
            split="validation",
        )
        for name, curve in curves.items()
    },
)
plt.show()


def than(samples):
    """A distance from fewer samples is larger (notebook 06)."""
    return "as" if samples == n else "hence larger than" if samples < n else "hence smaller than"


end = min(curves["DDPM"][-1][0], curves["GAN"][-1][0])
at = {
    name: np.interp(end, [c[0] for c in curve], [c[1] for c in curve])
    for name, curve in curves.items()
}
better = min(at, key=at.get)
longer = max(curves, key=lambda name: curves[name][-1][0])
same_n = curves["DDPM"][-1][2] == curves["GAN"][-1][2]
display(
    Markdown(
        f"At {end:.1f} minutes, the longest time both were given (read off the straight lines "
        f"between measured points), the {better} is ahead: DDPM {at['DDPM']:.0f}, GAN "
        f"{at['GAN']:.0f} (at {curves['GAN'][-1][2]} samples a point, "
        f"{than(curves['GAN'][-1][2])} in the table)"
        + (
            ". "
            if same_n
            else " (from unequal numbers of samples, which shifts the distance: not to be "
            "compared closely). "
        )
        + f"The {longer} had not finished then: its learning rate had not come to the end of its "
        "fall. "
        + (
            f"The GAN learnt from {p.gan_images:,} images, as the report's did, the DDPM from "
            f"{len(train_images):,}; so this"
            if p.gan_images
            else f"Both learnt from the same {len(train_images):,} images, but with networks and "
            "rates of their own; this"
        )
        + " compares two recipes, not two principles."
    )
)

# %% [markdown]
# ### Over seeds: as many images, as many seconds
#
# The two runs above differ in more than the game, and one run is an anecdote. A study (`studies/both_models.py`) therefore trains both from nothing with several seeds, on the *same* 12,000 images of 32 pixels, more briefly: the DDPM for one epoch; the GAN once for one epoch too, *as many images*; and
# once for the whole number of epochs that comes nearest to the seconds of the DDPM's training with that seed, *as many seconds*. Networks, rates and augmentation are those that profile `cpu` had when the study was made (a batch of the DDPM held 8 images, its sampler's times began at $\sigma = 50$); the fall of the learning rate ends with each run. Both recipes were chosen for longer training (the DDPM's then for 54,000 images, the GAN's for 300,000) and differ in network, optimiser and guidance: this compares recipes at one budget. The validation images are parted at random for each seed: the samples are held against two thirds of them, and the other third is the
# yardstick, "real images". The bound in bits per dimension (notebook 03, section 10; of the network without its early network, with variance $\tilde\beta_t$, so not to be set beside the $\beta_t$ of section 1; on average above $-\log_2 p(x_0)$ per colour value) exists for the DDPM alone: a GAN gives no density.

# %%
seeded = read_study("both_models")
seeded["set"] = seeded["set"].str.replace("pictures", "images")  # the study's word for them
settings = seeded[["epochs", "n", "reference", "threads"]].drop_duplicates().to_dict("records")
if len(settings) > 1 or settings[0]["epochs"] != 1:
    raise ValueError(
        "both_models.csv must hold runs of one epoch, with one n, reference and number of "
        f"threads, not {settings}"
    )
names = ["DDPM", "GAN, as many images", "GAN, as many seconds", "real images"]
by_name = {name: seeded[seeded["set"] == name].set_index("seed") for name in names}
seeds = sorted(set.intersection(*(set(rows.index) for rows in by_name.values())))
if len(seeds) < 2:
    raise ValueError(
        "both_models.csv needs all four rows of two seeds at least; python studies/both_models.py "
        "adds them"
    )


def interval(values):
    """Mean and half the 95 % interval of Student's t."""
    middle, low, _ = mean_interval(values)
    return middle, middle - low


def over_seeds(values, form):
    middle, half = interval(values)
    return f"{middle:{form}} ± {half:{form}}"


def column(name, key):
    return by_name[name].loc[seeds, key].to_numpy(float)


columns = {
    "Fréchet distance": ("distance", ".0f"),
    "kernel distance": ("kernel", ".2f"),
    "precision": ("precision", ".2f"),
    "recall": ("recall", ".2f"),
    f"kinds of rooms, of {count}": ("kinds", ".1f"),
    "total variation, kinds": ("total variation", ".2f"),
    "bits/dim (variance β̃_t)": ("bits/dim", ".2f"),
    "images seen": ("images", ",.0f"),
    "training / s": ("training seconds", ",.0f"),
    "seconds per 1,000 samples": ("seconds per 1,000", ".1f"),
    "parameters / 10⁶": ("parameters", ""),
}


def cell(name, key, form):
    first = column(name, key)[0]
    if np.isnan(first) or (first == 0 and key in ("images", "training seconds", "parameters")):
        return ""
    if key == "parameters":
        return f"{column(name, key)[0] / 1e6:.2f}"
    return (
        f"{column(name, key).mean():{form}}"
        if key == "images" and np.ptp(column(name, key)) == 0
        else over_seeds(column(name, key), form)
    )


display(
    save_table(
        run,
        [
            {"": name} | {head: cell(name, *what) for head, what in columns.items()}
            for name in names
        ],
        "nb08_seeds",
        f"Means over {len(seeds)} seeds and 95 % intervals (Student's t), {settings[0]['n']:,} "
        f"samples of each against {settings[0]['reference']:,} validation images, 32 x 32 pixels; "
        "each run on one core, with another beside it. Real images: random splits of the same "
        "images, which overlap, so their interval is too narrow. With so few seeds an interval "
        "of Student's t may leave the possible range; seconds for sampling depend on what else "
        f"ran. From commit {', '.join(sorted(set(seeded['commit'])))}.",
        of_seeds := Protocol(
            settings[0]["n"],
            settings[0]["reference"],
            "validation, less those of the yardstick",
            PREPARED,
            f"images 32x32 px, {EfficientNetLite0.resize}",
            "efficientnet-lite0",
            EfficientNetLite0.sha256,
        ),
        study="both_models",
    )
)
shown = {
    "Fréchet distance (lower is better)": "distance",
    "precision (higher)": "precision",
    "recall (higher)": "recall",
    "kinds of rooms (higher)": "kinds",
}
fig, axes = plt.subplots(1, len(shown), figsize=(11, 2.9))
for ax, (label, key) in zip(axes, shown.items(), strict=True):
    for x, name in enumerate(names):
        ax.plot(
            x + 0.12 * np.linspace(-1, 1, len(seeds)),
            column(name, key),
            "o",
            color="0.5" if name == "real images" else f"C{x}",
            alpha=0.7,
        )
    top = max(column(name, key).max() for name in names)
    ax.set_title(label, fontsize=9)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(-0.04 * top, 1.08 * top))
    ax.set_xticks(range(len(names)), ["DDPM", "GAN:\nimages", "GAN:\nseconds", "real"], fontsize=8)
save_figure(
    run,
    fig,
    "nb08_seeds_points",
    "Each seed a point: both models after as many images and after as many seconds, beside real "
    "images.",
    {key: {name: column(name, key).tolist() for name in names} for key in shown.values()},
    of_seeds,
    study="both_models",
)
plt.show()


def ahead_over_seeds(key, form, other):
    """Who is ahead, seed by seed, if the interval of the differences says so."""
    middle, half = interval(column(other, key) - column("DDPM", key))
    if abs(middle) <= half:
        return f"undecided ({middle:+{form}} ± {half:{form}})"
    return f"{'lower' if middle < 0 else 'higher'} for the GAN ({middle:+{form}} ± {half:{form}})"


display(
    Markdown(
        f"GAN minus DDPM, seed by seed ({len(seeds)} seeds): 95 % intervals of Student's t, which "
        "takes the differences for normal. There are eight: that one of them misses the truth "
        "would be no surprise. "
        + " ".join(
            f"After {other.split(', ')[1]}: distance "
            f"{ahead_over_seeds('distance', '.0f', other)}, precision "
            f"{ahead_over_seeds('precision', '.2f', other)}, recall "
            f"{ahead_over_seeds('recall', '.2f', other)}, kinds of rooms "
            f"{ahead_over_seeds('kinds', '.1f', other)}."
            for other in names[1:3]
        )
    )
)

# %% [markdown]
# ## 3. Is it the recipe or the network?
#
# The report followed a well-known library's tutorial, and its diffusion model failed. Would that tutorial do better on our small rooms in our short time, and would another library? A study (`make studies`) gives each contestant the same
# images, the same two cores and, as nearly as a timed start can foresee, the same minutes:
#
# * *diffusers*: the tutorial's kind of network, cut to three levels and made narrower for 32 pixels, in the tutorial's recipe ($\epsilon$-prediction, linear schedule, AdamW whose rate rises to $10^{-4}$ over 500 steps and then falls, batches of 16, no average of the weights);
# * *ddpm-pytorch*: another library's network, made about as large as ours, in the defaults of its trainer ($v$, sigmoid schedule, Adam at $10^{-4}$, batches of 16, an average of the weights);
# * such a network *in our recipe* (notebook 03: $v$, cosine schedule, weighted loss, Muon, rates, batches of 16, average, early network).
#
# Two rows that share a network compare recipes, two that share a recipe compare networks. All are judged by the same sampler, DPM-Solver++(2M) with times by noise, with as many evaluations (an early network's count too). (These begin at $\sigma = 20$; in the libraries' own recipes the distance after 20 evaluations is from an earlier day, when they began at 50.) It suits our side: the sampler's times and the early network's weight were chosen by trial on these validation images with our network, and our
# recipe was developed on the training images; none of that was done for the others, whose libraries would sample differently.
#
# *Share of the peak* says how well a network uses the machine: the floating-point operations a second of a bare step at batch 16 (forward, backward, AdamW; the best of 25), over what the fastest of several $3\times3$ convolutions, forward and backward, reaches in the same process. In training, with all that belongs to it, the share is smaller: it follows from the column *images/s*.

# %%
study = read_study("equal_time").query("seed == 0")
full = np.where(study["contestant"].str.endswith("a fifth of the time"), 4, 20)
contest = study[study["minutes"] == full].set_index("contestant", drop=False).to_dict("index")
named = {
    "ours": "ours",
    "ours, a fifth of the time": "ours, a fifth of the time",
    "diffusers": "diffusers",
    "ddpm-pytorch": "ddpm-pytorch",
    "diffusers, our recipe": "diffusers in our recipe",
    "ddpm-pytorch, our recipe": "ddpm-pytorch in our recipe",
}
peer = min(
    ("diffusers", "ddpm-pytorch"),
    key=lambda name: contest[name]["distance"] if name in contest else float("inf"),
)
if (
    missing := {
        "ours",
        "ours, a fifth of the time",
        "diffusers",
        "ddpm-pytorch",
        f"{peer}, our recipe",
    }
    - contest.keys()
):
    raise ValueError(
        f"equal_time.csv lacks {', '.join(sorted(missing))}; python studies/equal_time.py adds "
        "what is missing"
    )
named = {name: label for name, label in named.items() if name in contest}
contest = {name: contest[name] for name in named}
of_contest = Protocol(
    500,
    3_000,
    "validation",
    PREPARED,
    f"images 32x32 px, {EfficientNetLite0.resize}",
    "efficientnet-lite0",
    EfficientNetLite0.sha256,
)
floor_500 = contest["ours"]["floor"]
late = [r["seconds"] / (60 * r["minutes"]) - 1 for r in contest.values()]
peaks = [r["peak GFLOP/s"] for r in contest.values()]
display(
    save_table(
        run,
        [
            {
                "": named[name],
                "training / s": r["seconds"],
                "images seen": f"{r['images seen']:,}",
                "images/s": round(r["images seen"] / r["seconds"], 1),
                "Fréchet distance": r["distance"],
                "above the floor": r["distance"] - floor_500,
                "parameters / 10⁶": round(r["parameters"] / 1e6, 2),
                "GFLOP an image": r["GFLOP an image"],
                "images/s, step at batch 16": r["images/s at batch 16"],
                "share of the peak": r["share of peak"],
                "seconds per 1,000 samples": r["seconds for 1,000 samples"],
                "memory / MB": r["memory MB"],
            }
            for name, r in contest.items()
        ],
        "nb08_libraries",
        f"Denoisers after {contest['ours']['minutes']:g} minutes (a fifth: "
        f"{contest['ours, a fifth of the time']['minutes']:g}) on {contest['ours']['threads']} "
        f"cores, 32 x 32 pixels, float32; the plan was missed by {min(late):+.0%} to "
        f"{max(late):+.0%}. 500 samples each, 20 evaluations a sample; the floor, as many "
        f"training images, is {floor_500}. "
        f"GFLOP: of a training step. The peak was measured as {min(peaks)} to {max(peaks)} "
        "GFLOP/s. Memory: the largest resident set of the process. One run each; from commit "
        f"{', '.join(sorted({r['commit'] for r in contest.values()}))}.",
        of_contest,
        study="equal_time",
    )
)

fig, axes = plt.subplots(len(named), 1, figsize=(9, 0.85 * len(named)))
for ax, (name, r) in zip(axes, contest.items(), strict=True):
    file = f"{name.replace(', ', '-').replace(' ', '-')}-{r['seed']}.png"
    sheet = plt.imread(STUDIES / "equal_time" / file)
    ax.imshow(sheet[:32])
    ax.set_axis_off()
    ax.set_title(f"{named[name]}: distance {r['distance']}", fontsize=9, loc="left")
save_figure(
    run,
    fig,
    "nb08_libraries_samples",
    "The first 16 samples of each denoiser of the table, not selected, all from the same noise.",
    {name: r["distance"] for name, r in contest.items()},
    of_contest,
    study="equal_time",
)
plt.show()

# %%
quality = read_study("equal_quality").query("seed == 0").to_dict("records")
# 20 evaluations, more samples:
many = {row["contestant"]: row for row in quality if row["samples"] != 500}
quality = [row for row in quality if row["samples"] == 500]
distance = {name: r["distance"] for name, r in contest.items()}
# The same weights and noise with 20 evaluations are in the first table.
for name in dict.fromkeys(r["contestant"] for r in quality):
    quality.append(
        {
            "contestant": name,
            "evaluations": 20,
            "distance": distance[name],
            "seconds for 1,000": contest[name]["seconds for 1,000 samples"],
        }
    )
network = min((name for name in contest if name.endswith("our recipe")), key=distance.get)
priced = next(
    (name for name in dict.fromkeys(r["contestant"] for r in quality) if name != "ours"), None
)
if priced is None:
    raise ValueError(
        "equal_quality.csv lacks a network beside ours; python studies/equal_quality.py adds it"
    )


def cheapest(name, target):
    """The row with the fewest evaluations whose distance is at most ``target``, if any."""
    return min(
        (r for r in quality if r["contestant"] == name and r["distance"] <= target),
        key=lambda r: r["evaluations"],
        default=None,
    )


fig, ax = plt.subplots(figsize=(6.5, 3.2))
for name, marker in zip(("ours", priced), "os", strict=True):
    mine = sorted((r for r in quality if r["contestant"] == name), key=lambda r: r["evaluations"])
    ax.plot(
        [r["seconds for 1,000"] for r in mine],
        [r["distance"] for r in mine],
        marker + "-",
        ms=5,
        label=named[name],
    )
ax.axhline(floor_500, color="0.5", lw=0.8, ls=":")
ax.set(
    xlabel="seconds for 1,000 samples on two cores",
    ylabel="Fréchet distance (500 samples)",
    xscale="log",
    ylim=(0, None),
)
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb08_libraries_cost",
    f"What samples cost: two of the denoisers, {named['ours']} and {named[priced]}, with 4, 6, 10 "
    "and 20 evaluations; dotted, the floor.",
    {"rows": quality},
    of_contest,
    study="equal_quality",
)
plt.show()
target = 1.05 * distance[priced]
mine, its = cheapest("ours", target), cheapest(priced, target)
own = ("diffusers", "ddpm-pytorch")
tutorial_steps = contest["diffusers"]["images seen"] // 16
in_ours = [name for name in contest if name == "ours" or name.endswith("our recipe")]


def above(name):
    return distance[name] - floor_500


display(
    Markdown(
        "In their own recipes the libraries come to "
        + " and ".join(f"{distance[name]} ({name})" for name in own)
        + (
            ". That is no room yet, as the strips show, and which of the two is ahead means "
            "nothing. "
            if min(distance[name] for name in own) > 3 * distance["ours"]
            else ". "
        )
        + (
            f"The tutorial had time for {tutorial_steps} steps, fewer than the 500 over which its "
            "rate rises: its row shows how that recipe begins, not what it can reach. "
            if tutorial_steps < 500
            else ""
        )
        + f"Ours comes to {distance['ours']}, {distance['ours'] / distance[peer]:.2f} times the "
        f"nearer one, and in a fifth of the time to {distance['ours, a fifth of the time']}"
        + (
            ", already closer than either after all of it.\n\n"
            if distance["ours, a fifth of the time"] <= distance[peer]
            else ", not yet as close.\n\n"
        )
        + f"In our recipe, above the floor of {floor_500} below which no model of 500 samples "
        "should come (seconds, images): "
        + "; ".join(
            f"{named[name]} {above(name)} ({contest[name]['seconds']:,} s, "
            f"{contest[name]['images seen']:,})"
            for name in in_ours
        )
        + (
            ". So at this budget the recipe as a whole decides whether rooms appear; which part "
            "of it does, notebook 03 asks. "
            if max(distance[name] for name in in_ours) < 0.5 * min(distance[name] for name in own)
            else ". "
        )
        + f"Ours against {named[network]}: {distance['ours'] / distance[network]:.2f} times the "
        f"distance, {above('ours') / above(network):.2f} times what is above the floor"
        + (
            f", with {contest['ours']['images seen'] / contest[network]['images seen']:.1f} times "
            "as many images in its minutes"
            if contest["ours"]["images seen"] > contest[network]["images seen"]
            else ""
        )
        + ". One run each: chance is in all of them."
        + (
            f" With {many['ours']['samples']:,} samples, where the floor is "
            f"{many['ours']['floor']}: ours {many['ours']['distance']}, {named[priced]} "
            f"{many[priced]['distance']}, ratio "
            f"{many['ours']['distance'] / many[priced]['distance']:.2f}."
            if {"ours", priced} <= many.keys()
            else ""
        )
        + "\n\n"
        + f"At equal quality: within 5 % of the {distance[priced]} that {named[priced]} reaches "
        f"with 20 evaluations, 1,000 samples cost it {its['seconds for 1,000']:,.0f} s "
        f"({its['evaluations']} evaluations, {its['distance']}) and ours "
        + (
            f"{mine['seconds for 1,000']:,.0f} s ({mine['evaluations']} evaluations, "
            f"{mine['distance']})."
            if mine
            else "does not come so close with the evaluations that were tried."
        )
    )
)

# %% [markdown]
# ## 4. What the report concludes and claims, one by one
#
# Verdicts need rules. *Satisfactory* is a model with at least half the precision of real rooms: half as many of its samples lie among the rooms. Variety is not part of that. A model *covers* the variety if its recall is at least 80 % of that of real rooms. Both limits are ours; the report names none.

# %%
g = [row for row in gan.history if "distance" in row]
first, final = g[0]["distance"], g[-1]["distance"]
tail = [row["distance"] for row in g[-5:]]
minutes = {name: last(history, "seconds") / 60 for name, (_, history, _) in models.items()}
d, a = results["DDPM"], results["GAN"]
floor = results["training images"]


def verdict(holds, text):
    return f"**{'Holds' if holds else 'Does not hold'} here.** {text}"


def good_enough(r):
    return r["precision"] >= 0.5 * floor["precision"]


def covers(r):
    return r["recall"] >= 0.8 * floor["recall"]


def standing(r):
    return (
        f"{r['distance']:.0f} (floor {floor['distance']:.0f}), precision {r['precision']:.2f}, "
        f"recall {r['recall']:.2f}"
    )


trials = read_study("gan_augmentation").query("epochs == 300")
trials = trials.pivot(index="seed", columns="augment", values="distance")
paired = np.log(trials["adaptive"] / trials["none"]).dropna()
middle, half = interval(paired)

conclusions = [
    (
        "A DDPM is too expensive to train to a satisfactory result.",
        verdict(
            not good_enough(d),
            f"After {minutes['DDPM']:.1f} minutes (on the machine that made the weights): "
            f"distance {standing(d)} (precision of real rooms: {floor['precision']:.2f}). Section "
            f"3, at 32 pixels: distance {distance['diffusers']} with a tutorial's recipe after "
            f"{contest['diffusers']['minutes']:g} minutes of two cores, "
            f"{distance[f'{peer}, our recipe']} with the network of {peer} in ours. So the cost "
            "lies in the recipe. The report's own network, photographs and hours are not tested "
            "here.",
        ),
    ),
    (
        "The GAN learnt to generate images resembling bedrooms.",
        verdict(
            good_enough(a),
            f"Precision {a['precision']:.2f} against {floor['precision']:.2f} for real rooms. "
            f"Recall {a['recall']:.2f} against {floor['recall']:.2f}: variety is another matter.",
        ),
    ),
    (
        "Augmentation was necessary to train the GAN on so few images.",
        (
            "**It helps; without it the GAN still learns here.** "
            if middle + half < 0
            else "**Not decided here.** "
        )
        + f"Over {len(paired)} seeds of 300 epochs on 1,000 images the distance with adaptive "
        f"augmentation is {np.exp(middle):.2f} times that without (95 %: "
        f"[{np.exp(middle - half):.2f}, {np.exp(middle + half):.2f}]; notebook 04, section 7). "
        "Our game has a penalty on the slope of D besides, which the report's had not.",
    ),
    (
        "Only the GAN meets the requirements.",
        verdict(
            good_enough(a) and not good_enough(d),
            f"GAN: distance {standing(a)}. DDPM: {standing(d)}. What the report required it does "
            "not say; this is our rule.",
        ),
    ),
    (
        "The falling FID curve shows that the GAN has, more or less, converged.",
        f"**Cannot be decided from the curve.** Its distance, at {g[-1].get('n', '?')} samples an "
        f"evaluation and to validation images ({than(g[-1].get('n', n))} the {a['distance']:.0f} "
        f"at {n:,} samples above), goes from {first:.0f} to {final:.0f}; over the last five "
        f"evaluations it changes by {100 * (tail[-1] / tail[0] - 1):+.0f} %. "
        "Our learning rate falls over the last 40 % of the run, which flattens any curve, and a "
        "game can circle for ever at a small distance (notebook 05). Neither a falling nor a flat "
        "curve tells convergence from these.",
    ),
    (
        "74 is still much larger than the perfect score of 0.",
        "**A score of 0 is perfect in the limit, not at this N.** Real rooms, as many as the "
        f"samples, score {floor['distance']:.0f}: both sets are samples, and few for {1_280:,} "
        "features (notebook 06, section 4). A perfect model would score about that; 0 takes "
        "infinitely many samples on both sides, or copies of the reference.",
    ),
]
walks, edges = (numbers_from_run(run, i) for i in ("nb07_strength", "nb07_midpoints_gan"))
if walks and edges and "halving_less_cross_fade_95" in walks:
    low, high = walks["halving_less_cross_fade_95"]
    alone, edges = (
        walks["correlation_95_independent"],
        {row["images"]: row for row in edges["rows"]},
    )
    mid, end = edges["GAN, middle of straight lines"], edges["GAN, ends"]
    far = mid["kernel distance"] - end["kernel distance"] > 2 * np.hypot(
        mid["± kernel"], end["± kernel"]
    )
    apart = (
        "lies farther from real rooms than the ends do"
        if far
        else "lies no farther from real rooms than the ends do, within two errors"
    )
    conclusions.append(
        (
            "The transition between two rooms is smooth, but perhaps not strong enough, because "
            "the rooms are alike.",
            (
                "**Smooth: undecided.** "
                if low < 0 < high
                else "**Not as smooth as a cross-fade.** "
                if low >= 0
                else "**Smoother than a cross-fade.** "
            )
            + "On great circles, in steps half as long, the largest step shrinks to "
            f"{walks['halving_mean']:.2f} of its size (0.5: smooth and resolved; "
            f"{walks['halving_unrelated']:.2f}: unrelated steps; 1: a jump), that of a cross-fade of the same ends to "
            f"{walks['halving_cross_fade']:.2f} (difference, 95 %: [{low:.2f}, {high:.2f}]). "
            + (
                "**Weak because alike: compatible with it, half of it unexplained.** "
                if alone[1] > 0
                else "**Weak because alike: not seen.** "
            )
            + "Over independent pairs the distance of the ends goes with "
            f"{100 * alone[0] ** 2:.0f} % of the variance of the walk's length (correlation "
            f"{alone[0]:.2f}, 95 %: [{alone[1]:.2f}, {alone[2]:.2f}]; some of it forced, as no "
            "walk is shorter than the distance of its ends). One pair, as in the report, cannot "
            "decide it, and that few training images are the reason is not tested. "
            + f"On the straight line, which the report walked, the middle {apart}: kernel "
            f"distance {mid['kernel distance']:.1f}; on the great circle "
            f"{edges['GAN, middle of great circles']['kernel distance']:.1f}, at the ends "
            f"{end['kernel distance']:.1f} (notebook 07).",
        )
    )
else:
    print(
        "notebook 07 has not been run in this folder: the conclusion on interpolation is left out"
    )
asked = [
    (
        "The GAN covers the variety of bedrooms.",
        verdict(
            covers(a),
            f"Recall {a['recall']:.2f} for the GAN, {floor['recall']:.2f} for real rooms; the "
            f"DDPM, with {d['recall']:.2f}, {'passes' if covers(d) else 'fails too'}. Kinds of "
            "rooms that a network can read: "
            + ", ".join(
                f"{name} {r['found']} (total variation {r['variation']:.2f})"
                for name, r in kinds.items()
            )
            + ". Where these are close, what recall misses is variety within kinds, or details "
            "that are painted wrongly."
            + (
                f" And this GAN learnt from {p.gan_images:,} images alone; from 12,000 (section "
                "2, as many seconds) its recall is "
                f"{over_seeds(column('GAN, as many seconds', 'recall'), '.2f')}, the DDPM's "
                f"{over_seeds(column('DDPM', 'recall'), '.2f')}."
                if p.gan_images
                else ""
            ),
        ),
    ),
    (
        "Sampling is where the GAN wins.",
        verdict(
            gan_seconds < ddpm_seconds,
            f"1,000 images take {gan_seconds:.1f} s with the GAN and {ddpm_seconds:.0f} s with "
            f"the DDPM, {p.steps} steps of two evaluations each, of the network and of its early "
            "network.",
        ),
    ),
]


def listed(claims, start=1):
    return "\n\n".join(f"{i}. *{claim}* {text}" for i, (claim, text) in enumerate(claims, start))


display(
    Markdown(
        listed(conclusions)
        + "\n\nThat training made the predicted noise darker is answered in notebook 03, section "
        "7.\n\nTwo statements often made about such models (the report makes neither):\n\n"
        + listed(asked, 1 + len(conclusions))
    )
)

# %% [markdown]
# ## 5. Every figure and table of the report
#
# What this run has made so far, from the manifests that the figures write themselves into.

# %%
manifest = {}
for path in sorted(run.folder.glob("*/manifest.json")):
    manifest |= read_manifest(path)
report_ids = [
    "fig01_forward_noising",
    "fig02_ddpm_epoch_1",
    "fig03_ddpm_epoch_3",
    "fig04_predicted_noise",
    "fig05_generator",
    "fig06_discriminator",
    "fig07_augmentation",
    "fig08_fid_curve",
    "fig09_gan_samples",
    "fig10_interpolation",
    "tab01_epoch_times",
]
table = [
    {
        "figure": i,
        "notebook": manifest[i]["notebook"] if i in manifest else "",
        "what it shows": manifest[i]["caption"] if i in manifest else "not made in this run folder",
    }
    for i in report_ids
]
display(save_table(run, table, "nb08_figures", "The report's ten figures and its table."))
print(f"{sum(i in manifest for i in report_ids)} of {len(report_ids)} are in this run folder")

# %% [markdown]
# ## 6. The released networks
#
# What do larger networks, trained on a GPU, reach? Those at 64 x 64 pixels that come with the repository learnt from all 12,000 training images, for a few minutes of one data-centre GPU each (`tools/train.py`). Beside them lie those of profile `cpu`, 32 x 32 pixels: the DDPM from all
# training images, the GAN from 1,000. A study (`studies/released.py`) has measured 3,000 samples of each against as many real images, of the split that the table names; *times the floor* compares with as many of the training images, real rooms of the same size. Distances of images of different sizes may not be set beside each other, nor may these beside those of section 1, which
# come from fewer samples.

# %%
N_STUDY = 3_000
study = read_study("released").query("n == @N_STUDY")
study["set"] = study["set"].str.replace("pictures", "images")  # the study's word for them
# Rows without a split are of the time when what is now validation was called test.
study["split"] = study["split"].fillna("validation") if "split" in study else "validation"
split = "test" if study["split"].eq("test").sum() == study["set"].nunique() else "validation"
measured = study[study["split"] == split].set_index("set").to_dict("index")
FLOORS = {64: "training images", 32: "training images, 32 px"}
STUDIED = {
    "DDPM": 64,
    "GAN": 64,
    FLOORS[64]: 64,
    "DDPM of profile cpu": 32,
    "GAN of profile cpu": 32,
    FLOORS[32]: 32,
}  # pixels a side
if missing := STUDIED.keys() - measured.keys():
    raise ValueError(
        f"the study lacks {', '.join(missing)} with {N_STUDY} images; python studies/released.py "
        "adds them"
    )
released = {"DDPM": load("ddpm"), "GAN": load("gan")}
made_here = {
    f"{kind} of profile cpu": load(kind.lower(), path=RELEASED / f"{kind.lower()}32.safetensors")
    for kind in released
}
of_floor = {
    name: measured[name]["distance"] / measured[FLOORS[side]]["distance"]
    for name, side in STUDIED.items()
}
released_rows = []
for name, side in STUDIED.items():
    row, model = measured[name], (released | made_here).get(name)
    released_rows.append(
        {
            "": name,
            "pixels": side,
            "Fréchet distance": round(row["distance"]),
            "times the floor": round(of_floor[name], 2),
            "kernel distance": f"{row['kernel']:.4f} ± {2 * row['kernel error']:.4f}",
            "precision": row["precision"],
            "recall": row["recall"],
            "seconds per 1,000 samples": round(row["seconds per 1,000"], 1) if model else "",
            "parameters / 10⁶": round(
                sum(
                    q.numel()
                    for q in (
                        model.network if name.startswith("DDPM") else model.generator
                    ).parameters()
                )
                / 1e6,
                2,
            )
            if model
            else "",
            "images seen": f"{last(model.history, 'images'):,}" if model else "",
            "training / minutes": round(last(model.history, "seconds") / 60, 1) if model else "",
        }
    )
of_released = {
    f"{side} px": Protocol(
        N_STUDY,
        3_000,
        split,
        PREPARED,
        f"images {side}x{side} px, {EfficientNetLite0.resize}",
        "efficientnet-lite0",
        EfficientNetLite0.sha256,
    )
    for side in FLOORS
}
display(
    save_table(
        run,
        released_rows,
        "nb08_released_measured",
        f"The networks that come with the repository, {N_STUDY:,} images of each set against "
        f"3,000 {split} images; the DDPM at 64 pixels in 20 steps, at 32 in 10; ± is two standard "
        "errors. Samples were drawn on one core. The larger networks were trained on a GPU that "
        "both and other runs shared, the smaller on two cores. "
        f"From commit {', '.join(sorted({measured[name]['commit'] for name in STUDIED}))}.",
        of_released,
        study="released",
    )
)
fig, axes = plt.subplots(1, 2, figsize=(10, 4))
for ax, (name, model) in zip(axes, released.items(), strict=True):
    show_images(
        ax,
        model.sample(24, seed=0),
        6,
        f"{name}, 64 px",
    )
save_figure(
    run,
    fig,
    "nb08_released",
    "The first 24 samples of each released network at 64 pixels (seed 0, not selected).",
    {"rows": released_rows},
    of_released,
    study="released",
)
plt.show()
display(
    Markdown(
        " ".join(
            f"At {side} pixels the {min(pair, key=of_floor.get)[:4].strip()} is closer to the "
            f"{split} images: "
            + ", ".join(
                f"{name} {measured[name]['distance']:.0f} ({of_floor[name]:.2f} times the floor)"
                for name in pair
            )
            + "."
            for side, pair in ((64, list(released)), (32, list(made_here)))
        )
        + " (At 32 pixels the GAN learnt from a twelfth of the images.)"
    )
)

# %% [markdown]
# ## 7. Limits
#
# * **Rendered rooms.** The default images come from a path tracer and a procedural scene. They vary less than photographs; a model that does well here would need more
#   capacity and more images for photographs. The data card gives the distance between the two.
# * **Small images.** At 32 pixels a side a bed is about twenty pixels wide; ranks of models may change with size.
# * **Not FID.** EfficientNet-Lite0 is a smaller network than the 2015 Inception, seen through other eyes. The numbers here compare with each other and with nothing in the literature.
# * **Clocks.** Minutes of training are those of the machine that made the weights. Two runs compare by them only where the load was the same: the larger networks of section 6 shared a GPU with other runs; those of the study in section 2 ran two at a time, a core each.
# * **Few seeds.** Sections 1, 3 and 4 rest on one training run each; shorter runs with several seeds stand in section 2, those of the GAN on 1,000 images in notebook 04, section 7.
#
# ## Summary


# %%
def compared(key):
    """Which model has the higher share, unless two standard errors (binomial) hide it."""
    x, y = d[key], a[key]
    half = 2 * np.sqrt((x * (1 - x) + y * (1 - y)) / min(n, len(test_images)))
    return (
        f"{key} does not tell them apart ({x:.2f} and {y:.2f})"
        if abs(x - y) <= half
        else f"{key} is higher for the {'DDPM' if x > y else 'GAN'} ({x:.2f} and {y:.2f})"
    )


near = min(("DDPM", "GAN"), key=lambda name: results[name]["distance"])
ratio = ddpm_seconds / gan_seconds
display(
    Markdown(
        f"After {minutes['DDPM']:.1f} minutes (DDPM) and {minutes['GAN']:.1f} (GAN) of training, "
        f"on the machine that made the weights, the {near} is closer to the test images (DDPM "
        f"{d['distance']:.0f}, GAN {a['distance']:.0f}; real rooms {floor['distance']:.0f}); "
        f"of DDPM and GAN, {compared('precision')}, {compared('recall')}. Per image the GAN "
        f"samples about {round(ratio, 1 - len(str(int(ratio)))):,.0f} times as fast (one "
        "timing).\n\n"
        "The report's claims: "
        + " ".join(f"*{claim}* {' '.join(text.split('**')[1::2])}" for claim, text in conclusions)
    )
)

# %% [markdown]
# **To think about.** (1) Which of the table's columns would you show to someone who has to choose, and which would mislead them? (2) In profile `cpu` the GAN saw fewer different images: how would
# you test whether that, and not the game, limits its recall? (3) What would have to be equal for "diffusion against GAN" to be a fair question?
