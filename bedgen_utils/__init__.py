"""Diffusion models and GANs on images of bedrooms: the small package behind the notebooks.

Read in this order; each module uses only those before it (``train`` also names the types that
``models`` holds: a denoiser or a generator, with its recipe).

- The models: ``sources`` (where images lie), ``data`` (images in), ``diffusion`` (the equations),
  ``unet`` and ``gan`` (the networks), ``augment``, ``optim`` (how weights move), ``train`` (recipes
  and two training loops).
- What they are worth: ``run`` (profile, seed, where results come from), ``models`` (sample, save,
  load), ``features`` and ``metrics`` (distances between sets of images), ``factors`` (what is in a
  room).
- Where everything is known: ``exact`` (a world with the exact denoiser), ``games`` (mode collapse
  on the plane), ``interpolate`` (paths through latents).
- On paper: ``checks`` (under the equations), ``exercises`` (answers of students), ``report``
  (figures, tables, intervals).
"""

__version__ = "0.2.0"
