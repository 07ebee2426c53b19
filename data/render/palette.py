"""Colours and how often they occur: sRGB reflectances with weights, set against the photographs."""

import numpy as np

# Probabilities, the way they were counted or measured on the 401 photographs at 64 px:
# the upper middle of a picture has median sRGB (.67, .61, .54), 10-90 % from (.47, .41, .32) to
# (.81, .77, .74).
WALLS = {  # name: (sRGB reflectance, weight)
    "white": ((0.90, 0.89, 0.86), 20),
    "cream": ((0.90, 0.85, 0.74), 20),
    "beige": ((0.82, 0.75, 0.64), 18),
    "grey": ((0.76, 0.76, 0.75), 13),
    "pale yellow": ((0.92, 0.85, 0.62), 7),
    "tan": ((0.72, 0.61, 0.47), 6),
    "gold": ((0.87, 0.70, 0.40), 5),
    "taupe": ((0.62, 0.55, 0.48), 4),
    "pale blue": ((0.72, 0.80, 0.86), 4),
    "sage": ((0.70, 0.75, 0.60), 3),
    "blue": ((0.30, 0.42, 0.56), 2.5),
    "orange": ((0.88, 0.58, 0.32), 2),
    "burgundy": ((0.45, 0.16, 0.16), 1),
    "lilac": ((0.74, 0.70, 0.83), 1.5),
    "charcoal": ((0.33, 0.33, 0.34), 1.5),
}
CARPETS = {
    "beige": ((0.72, 0.64, 0.53), 45),
    "grey": ((0.62, 0.60, 0.57), 28),
    "brown": ((0.48, 0.38, 0.29), 14),
    "white": ((0.84, 0.81, 0.75), 10),
    "burgundy": ((0.45, 0.20, 0.20), 2),
    "blue": ((0.36, 0.42, 0.50), 2),
}
WOODS = {
    "pale": ((0.80, 0.64, 0.44), 16),
    "honey": ((0.70, 0.46, 0.24), 24),
    "oak": ((0.58, 0.39, 0.22), 18),
    "cherry": ((0.44, 0.19, 0.10), 18),
    "walnut": ((0.32, 0.19, 0.11), 18),
    "ebony": ((0.13, 0.09, 0.07), 14),
    "white": ((0.90, 0.89, 0.86), 10),
}
CLOTHS = {
    "white": ((0.92, 0.91, 0.88), 28),
    "cream": ((0.90, 0.84, 0.72), 14),
    "beige": ((0.76, 0.66, 0.52), 12),
    "gold": ((0.72, 0.54, 0.28), 6),
    "brown": ((0.36, 0.24, 0.16), 8),
    "burgundy": ((0.44, 0.10, 0.13), 7),
    "red": ((0.70, 0.14, 0.14), 3),
    "blue": ((0.32, 0.44, 0.64), 7),
    "navy": ((0.13, 0.17, 0.30), 5),
    "grey": ((0.56, 0.56, 0.57), 10),
    "charcoal": ((0.17, 0.17, 0.18), 6),
    "green": ((0.38, 0.44, 0.27), 5),
    "teal": ((0.28, 0.50, 0.52), 3),
    "purple": ((0.38, 0.24, 0.42), 4),
    "pink": ((0.82, 0.56, 0.60), 3),
    "orange": ((0.80, 0.36, 0.14), 2),
}
BED_SIZES = {
    "twin": (0.99, 1.90, 1),
    "full": (1.37, 1.90, 2),
    "queen": (1.53, 2.03, 5),
    "king": (1.93, 2.03, 3),
}  # width, length, weight
BED_STYLES = {
    "panel": 26,
    "sleigh": 10,
    "posts": 9,
    "canopy": 4,
    "slats": 12,
    "metal": 9,
    "upholstered": 12,
    "arched": 9,
    "platform": 4,
    "none": 8,
}
SUN = np.array([1.0, 0.97, 0.92])
SKY = np.array([0.90, 0.96, 1.0])
WARM = np.array([1.0, 0.70, 0.40])  # 2800 K bulb seen at a daylight balance, linear


def weighted(rng, table):
    """Draws a key of a table whose values end in a weight."""
    keys = list(table)
    w = np.array([v[-1] if isinstance(v, tuple) else v for v in table.values()], float)
    return keys[int(rng.choice(len(keys), p=w / w.sum()))]


def jitter(rng, colour, amount=0.05):
    """The same colour, a little lighter or darker and a little off in hue."""
    return np.clip(
        np.asarray(colour) * rng.normal(1, amount) + rng.normal(0, amount * 0.35, 3), 0.03, 0.95
    )


def lit_from_outside(light, rng):
    """Radiance scale and colour of the world outside by time of day."""
    if light == "day":
        return rng.uniform(3, 11) * SKY
    if light == "evening":
        return rng.uniform(0.5, 2) * np.array([0.95, 0.75, 0.80])
    return rng.uniform(0.01, 0.06) * np.array([0.4, 0.55, 1.0])
