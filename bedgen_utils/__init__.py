"""Diffusion models and GANs on pictures of bedrooms: the small package behind the notebooks.

Read in this order: ``diffusion`` (the equations), ``unet`` and ``gan`` (the networks), ``augment``, ``train`` (the two
training loops), ``metrics`` (Fréchet distance and friends), ``toys`` (mixtures where everything is known), then what
surrounds them: ``data``, ``released``, ``checkpoint``, ``run`` and ``figures``.
"""

__version__ = "0.1.0"
