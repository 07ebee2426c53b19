"""Mesh primitives, small procedural textures and the texture atlas.

A primitive returns ``(V, F, UV)``: vertices in metres ``(n, 3)``, triangles ``(m, 3)`` and texture
coordinates in [0, 1] ``(n, 2)``.  Textures are sRGB arrays ``(h, w, 3)`` in [0, 1].  Everything
random comes from the generator handed in, so a scene depends on its seed alone.
"""

from __future__ import annotations

import numpy as np

_CUBE_FACES = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)

# u along the horizontal edge of a face, v upwards (the last two faces lie flat)
_UNIT = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
_CUBE_UV = np.concatenate(
    [
        _UNIT[face][:, axes]
        for face, axes in zip(_CUBE_FACES, [[1, 2]] * 2 + [[0, 2]] * 2 + [[0, 1]] * 2, strict=False)
    ]
)


# --- meshes ---------------------------------------------------------------------------------
def join(*parts):
    """One mesh from several."""
    v, f, u, offset = [], [], [], 0
    for part in parts:
        v.append(part[0])
        f.append(part[1] + offset)
        u.append(part[2])
        offset += len(part[0])
    return np.concatenate(v), np.concatenate(f), np.concatenate(u)


def quad(a, b, c, d):
    """Quadrilateral a-b-c-d; texture origin at a, u towards b, v towards d; normal by the
    right-hand rule."""
    return (
        np.array([a, b, c, d], float),
        np.array([[0, 1, 2], [0, 2, 3]]),
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float),
    )


def box(x0, x1, y0, y1, z0, z1):
    """Axis-parallel box, every face textured with the whole tile."""
    corners = np.array([[x, y, z] for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)], float)
    v = corners[_CUBE_FACES].reshape(-1, 3)
    f = np.concatenate(
        [[[4 * i, 4 * i + 1, 4 * i + 2], [4 * i, 4 * i + 2, 4 * i + 3]] for i in range(6)]
    )
    return v, f, _CUBE_UV


def grid(nu, nv, position):
    """Surface over the unit square; ``position(u, v)`` maps arrays to points ``(..., 3)``."""
    u, v = np.meshgrid(np.linspace(0, 1, nu), np.linspace(0, 1, nv))
    points = np.stack(np.broadcast_arrays(*position(u, v)), -1).reshape(-1, 3)
    i = np.arange(nu * nv).reshape(nv, nu)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])
    return points, faces, np.stack([u, v], -1).reshape(-1, 2)


def soft_box(cx, cy, cz, sx, sy, sz, exponent=0.3, n=13):
    """Superellipsoid with half-widths s: a cushion-like box (exponent near 0: sharp; 1:
    ellipsoid)."""

    def power(t):
        return np.sign(t) * np.abs(t) ** exponent

    def surface(u, v):
        a, b = 2 * np.pi * u, np.pi * (v - 0.5)
        return (
            cx + sx * power(np.cos(b)) * power(np.cos(a)),
            cy + sy * power(np.cos(b)) * power(np.sin(a)),
            cz + sz * power(np.sin(b)),
        )

    return grid(2 * n - 1, n, surface)


def pillow(width, height, thick, rng, n=13):
    """Pillow standing in the x-z plane, centred: thick in the middle, thin seams, corners pulled
    out."""

    def half(sign):
        wrinkle = smooth_noise(rng, n, n, 4) * 0.12

        def surface(u, v):
            s, t = 2 * u - 1, 2 * v - 1
            puff = ((1 - s**4) * (1 - t**4)) ** 0.5 * (1 - 0.25 * (s * s + t * t)) + wrinkle * (
                1 - s**2
            ) * (1 - t**2)
            return (
                width / 2 * s * (1 - 0.10 * (1 - t * t)),
                sign * thick / 2 * puff,
                height / 2 * t * (1 - 0.10 * (1 - s * s)),
            )

        return grid(n, n, surface)

    return join(half(1), half(-1))


def blanket(width, y0, y1, top, drop, rng, puff=0.03, fold=0.03, foot=True, n=33):
    """Cloth over a mattress of ``width``, from y0 (head side) to y1 (foot), hanging ``drop`` over
    sides and foot."""
    w = width / 2
    tail = drop if foot else 0.0
    bumps = smooth_noise(rng, n, n, 7)
    phase, waves = rng.uniform(0, 6.28, 3), rng.uniform(9, 17)

    def surface(u, v):
        x = (2 * u - 1) * (w + drop)
        y = y0 + v * (y1 - y0 + tail)
        qx, qy = np.clip(x, -w, w), np.minimum(y, y1)
        dx, dy = x - qx, y - qy
        d = np.hypot(dx, dy)
        hang = np.minimum(d, drop)
        along = np.where(np.abs(dx) > dy, y, x)  # folds run along the hem
        out = 0.04 + fold * (hang / max(drop, 1e-6)) * (
            1.2 + np.sin(waves * along + phase[0]) + 0.4 * np.sin(1.9 * waves * along + phase[1])
        )
        nx, ny = dx / np.maximum(d, 1e-6), dy / np.maximum(d, 1e-6)
        flat = d < 1e-6
        edge = np.minimum(np.minimum(w - np.abs(qx), y1 - qy + (0 if foot else 9)) / 0.12, 1)
        z = top + np.where(
            flat, puff * (1 + bumps) * (0.35 + 0.65 * np.clip(edge, 0, 1)), puff * 0.35 - hang
        )
        return (qx + np.where(flat, 0, nx * out), qy + np.where(flat, 0, ny * out), z)

    return grid(n, n, surface)


def curtain(width, height, rng, tied=False):
    """Pleated cloth in the x-z plane from z = 0 to height, centred on x = 0, towards +y."""
    pleats = rng.uniform(8, 13) * width
    phase, lean = rng.uniform(0, 6.28), rng.choice([-1, 1])

    def surface(u, v):
        pinch = 1 - 0.6 * np.exp(-(((v - 0.38) / 0.22) ** 2)) if tied else 1 - 0.1 * v * (1 - v)
        x = width * ((u - 0.5) * pinch + (lean * 0.5 * (1 - pinch) if tied else 0))
        return x, 0.07 + 0.035 * np.sin(2 * np.pi * pleats * u + phase), height * v

    return grid(int(5 * pleats) + 5, 9 if tied else 3, surface)


def lathe(profile, n=12):
    """Solid of revolution about z; ``profile`` is a list of (radius, z)."""
    profile = np.asarray(profile, float)

    def surface(u, v):
        r = np.interp(v, np.linspace(0, 1, len(profile)), profile[:, 0])
        z = np.interp(v, np.linspace(0, 1, len(profile)), profile[:, 1])
        return r * np.cos(2 * np.pi * u), r * np.sin(2 * np.pi * u), z

    return grid(n + 1, len(profile), surface)


def move(mesh, dx=0.0, dy=0.0, dz=0.0, turn=0.0, tilt=0.0):
    """Tilt about x, then turn about z (radians), then translate."""
    v = mesh[0].copy()
    c, s = np.cos(tilt), np.sin(tilt)
    v[:, 1], v[:, 2] = c * v[:, 1] - s * v[:, 2], s * v[:, 1] + c * v[:, 2]
    c, s = np.cos(turn), np.sin(turn)
    v[:, 0], v[:, 1] = c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1]
    return v + [dx, dy, dz], mesh[1], mesh[2]


# --- textures -------------------------------------------------------------------------------
def smooth_noise(rng, h, w, cells):
    """Bilinear value noise in [-1, 1], ``cells`` knots across."""
    knots = rng.uniform(-1, 1, (cells + 1, cells + 1))
    y, x = np.linspace(0, cells - 1e-6, h), np.linspace(0, cells - 1e-6, w)
    i, j = y.astype(int)[:, None], x.astype(int)[None]
    a, b = (y % 1)[:, None], (x % 1)[None]
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    return (
        (1 - a) * (1 - b) * knots[i, j]
        + (1 - a) * b * knots[i, j + 1]
        + a * (1 - b) * knots[i + 1, j]
        + a * b * knots[i + 1, j + 1]
    )


def shade(colour, field):
    """A colour times (1 + field), as a texture."""
    return np.clip(np.asarray(colour)[None, None] * (1 + field[..., None]), 0, 1)


def planks(rng, colour, n=160, across=34):
    """Floor boards: rows of boards with staggered joints, each of its own tone, with grain."""
    rows = np.arange(n) * across // n
    tone = rng.normal(0, 0.10, (across, 8))
    joint = np.arange(n)[None] / n * 4 + rng.uniform(0, 1, across)[rows][:, None]
    field = tone[rows[:, None], joint.astype(int) % 8] + smooth_noise(rng, n, n, 40) * 0.04
    gap = (np.arange(n) * across % n < across)[:, None] | (joint % 1 < 0.02)
    return shade(colour, field - 0.16 * gap)


def carpet(rng, colour, n=96):
    return shade(colour, 0.05 * rng.normal(size=(n, n)) + 0.05 * smooth_noise(rng, n, n, 6))


def tiles(rng, colour, n=160, count=11):
    k = np.arange(n) * count // n
    field = (
        rng.normal(0, 0.04, (count, count))[k[:, None], k[None]]
        + smooth_noise(rng, n, n, 24) * 0.05
    )
    line = (np.arange(n) * count % n) < count * 1.2
    return shade(colour, field - 0.22 * (line[:, None] | line[None]))


def wood(rng, colour, n=32):
    return shade(
        colour,
        0.10 * smooth_noise(rng, n, n, 3)
        + 0.06 * smooth_noise(rng, n, 1, 14)
        + 0.03 * rng.normal(size=(n, n)),
    )


def drawers(rng, colour, rows, columns, knob, h=48, w=48):
    """Front of a chest: gaps between drawers and one or two knobs on each."""
    image = shade(colour, 0.05 * smooth_noise(rng, h, w, 4))
    y, x = np.arange(h) * rows / h, np.arange(w) * columns / w
    gap = ((y % 1) < rows * 2 / h)[:, None] | ((x % 1) < columns * 2 / w)[None]
    image[gap] *= 0.55
    dots = (np.abs(y % 1 - 0.5) < rows * 1.5 / h)[:, None] & (
        (np.abs(x % 1 - 0.3) < columns * 1.2 / w) | (np.abs(x % 1 - 0.7) < columns * 1.2 / w)
    )[None]
    image[dots] = knob
    return image


def panels(colour, columns=2, rows=3, h=48, w=24):
    """Panelled door: recessed fields drawn as darker edges."""
    y, x = (np.arange(h) * rows / h) % 1, (np.arange(w) * columns / w) % 1
    edge = ((np.abs(y - 0.5) < 0.36)[:, None] & (np.abs(x - 0.5) < 0.36)[None]) & ~(
        (np.abs(y - 0.5) < 0.29)[:, None] & (np.abs(x - 0.5) < 0.27)[None]
    )
    return shade(colour, -0.14 * edge)


def fabric(rng, kind, base, accent, third, n=128):
    """Bed cloth: plain, stripes, checks, floral, quilt or damask."""
    base, accent, third = (np.asarray(c, float) for c in (base, accent, third))
    y, x = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    image = np.broadcast_to(base, (n, n, 3)).copy()
    if kind == "stripes":
        t = (x if rng.random() < 0.6 else y) * rng.integers(5, 13)
        image[t % 1 < rng.uniform(0.25, 0.55)] = accent
        image[np.abs(t % 1 - 0.75) < 0.08] = third
    elif kind == "checks":
        k = rng.integers(4, 11)
        a, b = (x * k % 1 < 0.5), (y * k % 1 < 0.5)
        image[a ^ b] = (base + accent) / 2 if rng.random() < 0.5 else accent
        image[a & b] = accent if rng.random() < 0.5 else third
    elif kind == "floral":
        k = int(rng.integers(18, 36))
        for colour, level in ((accent, 0.25), (third, 0.45)):
            bloom = np.clip((smooth_noise(rng, n, n, k) - level) * 5, 0, 0.85)[..., None]
            image = image * (1 - bloom) + colour * bloom
    elif kind == "damask":
        k = rng.integers(4, 9)
        r = np.sin(np.pi * k * x) * np.sin(np.pi * k * y) + 0.45 * np.cos(
            3 * np.pi * k * (x + y)
        ) * np.cos(3 * np.pi * k * (x - y))
        image[r > 0.2] = 0.6 * accent + 0.4 * base
    elif kind == "quilt":
        k = rng.integers(4, 8)
        cell = np.stack([base, accent, third, 0.5 * (base + accent)])
        pick = rng.integers(0, 4, (k, k))
        image = cell[pick[(y * k).astype(int).clip(0, k - 1), (x * k).astype(int).clip(0, k - 1)]]
        image = np.where((np.abs((x - y) * k % 1 - 0.5) < 0.12)[..., None], base, image)
    wrinkle = 0.05 * smooth_noise(rng, n, n, 9) + 0.04 * smooth_noise(rng, n, n, 23)
    return np.clip(image * (1 + wrinkle[..., None]), 0, 1)


def picture(rng, n=20):
    """A framed print: mat, then a landscape, an abstract or a print in few colours."""
    image = np.empty((n, n, 3))
    a, b, c = rng.uniform(0.1, 0.9, (3, 3)) * 0.3 + 0.7 * rng.uniform(0.15, 0.85, (3, 1))
    t = smooth_noise(rng, n, n, int(rng.integers(2, 7)))
    if rng.random() < 0.5:  # land under a sky
        horizon = np.linspace(1, -1, n)[:, None] + 0.5 * t
        image[:] = np.where((horizon > 0)[..., None], a * 0.4 + 0.5, b * 0.6)
    else:
        image[:] = np.where((t > 0.25)[..., None], a, np.where((t < -0.3)[..., None], b, c))
    if rng.random() < 0.6:
        m = int(rng.integers(2, 5))
        mat = np.array([0.88, 0.86, 0.8]) * rng.uniform(0.75, 1)
        image[:m], image[-m:], image[:, :m], image[:, -m:] = mat, mat, mat, mat
    return image


def outside(rng, n=40):
    """View from a window, v upwards: greenery below, sky above, some buildings or fence."""
    v = np.linspace(0, 1, n)[:, None]
    line = rng.uniform(0.25, 0.8) + 0.18 * smooth_noise(rng, n, n, 5)
    sky = np.array([0.75, 0.86, 1.0]) if rng.random() < 0.6 else np.array([0.95, 0.96, 1.0])
    green = np.array([0.16, 0.24, 0.08]) * rng.uniform(0.6, 2.2)
    leaves = shade(green, 0.55 * smooth_noise(rng, n, n, 9) + 0.3 * smooth_noise(rng, n, n, 18))
    image = np.where((v > line)[..., None], sky, leaves)
    if rng.random() < 0.4:
        h = rng.uniform(0.15, 0.5)
        image[(v[:, 0] < h)] = np.array([0.45, 0.40, 0.34]) * rng.uniform(0.6, 1.3)
    return image


# --- atlas ----------------------------------------------------------------------------------
class Atlas:
    """Packs many small textures in one square image, so that a whole room is one mesh with one
    texture."""

    def __init__(self):
        self.images, self.known = [], {}

    def add(self, image):
        """Takes a colour (3,) or an image (h, w, 3); returns the number of its tile."""
        image = np.asarray(image, np.float32)
        key = image.tobytes() if image.ndim == 1 else None
        if key in self.known:
            return self.known[key]
        self.images.append(np.broadcast_to(image, (2, 2, 3)) if image.ndim == 1 else image)
        if key is not None:
            self.known[key] = len(self.images) - 1
        return len(self.images) - 1

    def pack(self):
        """Returns the image (s, s, 3) and each tile's (u0, v0, width, height) inside its border
        pixels' centres."""
        area = sum((i.shape[0] + 1) * (i.shape[1] + 1) for i in self.images)
        size = 1 << int(
            np.ceil(
                np.log2(max(np.sqrt(area * 1.15), max(max(i.shape[:2]) for i in self.images) + 1))
            )
        )
        while True:
            rects, x, y, row = {}, 0, 0, 0
            for k in sorted(range(len(self.images)), key=lambda k: (-self.images[k].shape[0], k)):
                h, w = self.images[k].shape[:2]
                if x + w > size:
                    x, y, row = 0, y + row, 0
                rects[k] = (x, y, w, h)
                x, row = x + w, max(row, h)
            if y + row <= size:
                break
            size *= 2
        image = np.zeros((size, size, 3), np.float32)
        uv = np.empty((len(self.images), 4))
        for k, (x, y, w, h) in rects.items():
            image[y : y + h, x : x + w] = self.images[k]
            uv[k] = (x + 0.5) / size, (y + 0.5) / size, (w - 1) / size, (h - 1) / size
        return image, uv
