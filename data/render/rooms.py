"""A bedroom from a seed: scene factors, geometry, camera and light.

``sample_room(seed)`` draws everything from ``numpy.random.default_rng(seed)`` and needs numpy
alone. Lengths are metres; x runs along the bed's wall, y towards that wall (y = depth), z up.  The
room is kept in a few meshes ("buckets"), one per kind of surface, each with one texture atlas: few,
constant scene structure is what lets Mitsuba's compiled kernels serve every room.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import furniture as fu
import numpy as np
import shapes as sh
from palette import BED_SIZES, BED_STYLES, CARPETS, SUN, WALLS, WOODS, jitter, weighted


@dataclass
class Room:
    """What a renderer needs: factors, meshes by bucket, camera, light and the settings of the
    'camera back'."""

    seed: int
    width: float = 0.0
    depth: float = 0.0
    height: float = 0.0
    ridge: tuple = ()  # ceiling: knots (x, z)
    factors: dict = field(default_factory=dict)
    atlases: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)
    footprints: list = field(default_factory=list)  # (x0, x1, y0, y1) of what stands on the floor
    busy: dict = field(default_factory=lambda: {w: [] for w in ("back", "left", "right", "front")})
    camera: dict = field(default_factory=dict)
    finish: dict = field(default_factory=dict)
    flash: tuple = ()

    def tile(self, image, bucket="matte"):
        return bucket, self.atlases.setdefault(bucket, sh.Atlas()).add(image)

    def put(self, mesh, tile, wall=None, at=(0.0, 0.0, 0.0)):
        """Adds a mesh; ``wall`` gives it in that wall's frame: x along the wall, y out of it, z
        up."""
        v, f = mesh[0] + at, mesh[1]
        if wall is not None:
            x, y, z = v.T
            v = np.stack(
                {
                    "back": (x, self.depth - y, z),
                    "front": (x, y, z),
                    "left": (y, x, z),
                    "right": (self.width - y, x, z),
                }[wall],
                -1,
            )
            if wall in ("back", "left"):  # these two frames mirror: keep normals outward
                f = f[:, ::-1]
        self.parts.setdefault(tile[0], []).append((v, f, mesh[2], tile[1]))

    def stand(self, wall, x0, x1, y0, y1):
        """Marks floor as taken, in a wall's frame."""
        self.footprints.append(
            {
                "back": (x0, x1, self.depth - y1, self.depth - y0),
                "front": (x0, x1, y0, y1),
                "left": (y0, y1, x0, x1),
                "right": (self.width - y1, self.width - y0, x0, x1),
            }[wall]
        )

    def span(self, wall):
        return self.width if wall in ("back", "front") else self.depth

    def ceiling(self, x):
        return np.interp(x, [k[0] for k in self.ridge], [k[1] for k in self.ridge])

    def free(self, rng, wall, size, lo=0.05, hi=None, margin=0.05):
        """A free stretch of ``size`` along a wall, marked as taken; None if ten tries find none."""
        hi = (self.span(wall) if hi is None else hi) - 0.05
        for _ in range(10):
            if hi - lo <= size:
                return None
            a = rng.uniform(lo, hi - size)
            if all(a + size + margin <= b0 or a - margin >= b1 for b0, b1 in self.busy[wall]):
                self.busy[wall].append((a, a + size))
                return a
        return None

    def meshes(self):
        """{bucket: (V, F, UV, atlas image)} with one mesh per bucket, texture coordinates in the
        atlas."""
        out = {}
        for bucket, parts in self.parts.items():
            image, rect = self.atlases[bucket].pack()
            v, f, uv = sh.join(*[(v, f, rect[t, :2] + u * rect[t, 2:]) for v, f, u, t in parts])
            out[bucket] = (v.astype(np.float32), f.astype(np.uint32), uv.astype(np.float32), image)
        return out

    def project(self, points):
        """Image coordinates (n, 2) in [0, 1] (y downwards) and depths (n,) of world points."""
        c = self.camera
        forward = np.array(c["target"]) - c["origin"]
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        d = np.asarray(points) - c["origin"]
        z = np.maximum(d @ forward, 1e-3)
        t = np.tan(np.radians(c["fov"]) / 2)
        return np.stack(
            [0.5 + d @ right / z / t / 2, 0.5 - d @ np.cross(right, forward) / z / t / 2], -1
        ), d @ forward


def shell(room, rng, f):
    """Walls, ceiling, floor, skirting, crown."""
    W, D, H = room.width, room.depth, room.height
    room.ridge = ((0.0, H), (W, H))
    f["ceiling"] = str(rng.choice(["flat", "shed", "gable"], p=[0.76, 0.12, 0.12]))
    if f["ceiling"] == "shed":
        ends = (H, H + rng.uniform(0.5, 1.3))
        room.ridge = (
            ((0.0, ends[0]), (W, ends[1])) if rng.random() < 0.5 else ((0.0, ends[1]), (W, ends[0]))
        )
    elif f["ceiling"] == "gable":
        room.ridge = ((0.0, H), (W / 2, H + rng.uniform(0.4, 1.1)), (W, H))
    f["wall_colour"] = weighted(rng, WALLS)
    wall = jitter(rng, WALLS[f["wall_colour"]][0])
    f["wall_rgb"] = "#" + "".join(f"{int(round(255 * c)):02x}" for c in wall)
    ceiling = jitter(rng, (0.92, 0.91, 0.89), 0.03) if rng.random() < 0.85 else wall
    trim = (
        jitter(rng, (0.90, 0.89, 0.86), 0.03)
        if rng.random() < 0.8
        else jitter(rng, WOODS["oak"][0])
    )
    room.trim = room.tile(trim)
    room.wall_tile = room.tile(wall)
    accent = room.wall_tile
    f["accent_wall"] = bool(rng.random() < 0.08)
    if f["accent_wall"]:
        accent = room.tile(
            jitter(
                rng,
                WALLS[str(rng.choice(["blue", "taupe", "burgundy", "charcoal", "gold", "sage"]))][
                    0
                ],
            )
        )
    knots = list(room.ridge)
    for (x0, z0), (x1, z1) in zip(knots[:-1], knots[1:], strict=False):
        room.put(sh.quad((x0, 0, z0), (x1, 0, z1), (x1, D, z1), (x0, D, z0)), room.tile(ceiling))
        room.put(sh.quad((x0, D, 0), (x1, D, 0), (x1, D, z1), (x0, D, z0)), accent)
        room.put(sh.quad((x0, 0, 0), (x1, 0, 0), (x1, 0, z1), (x0, 0, z0)), room.wall_tile)
    for x, z in (knots[0], knots[-1]):
        room.put(sh.quad((x, 0, 0), (x, D, 0), (x, D, z), (x, 0, z)), room.wall_tile)
    f["floor"] = str(rng.choice(["carpet", "wood", "tiles"], p=[0.62, 0.32, 0.06]))
    if f["floor"] == "carpet":
        f["floor_colour"] = weighted(rng, CARPETS)
        image = sh.carpet(rng, jitter(rng, CARPETS[f["floor_colour"]][0], 0.07))
    elif f["floor"] == "wood":
        f["floor_colour"] = str(
            rng.choice(
                ["pale", "honey", "oak", "cherry", "walnut"], p=[0.18, 0.36, 0.2, 0.12, 0.14]
            )
        )
        image = sh.planks(rng, jitter(rng, WOODS[f["floor_colour"]][0], 0.07), across=int(D / 0.11))
        if rng.random() < 0.5:
            image = image.transpose(1, 0, 2)
    else:
        f["floor_colour"] = str(rng.choice(["beige", "grey", "white"]))
        image = sh.tiles(rng, jitter(rng, CARPETS[f["floor_colour"]][0], 0.07), count=int(D / 0.42))
    room.put(sh.quad((0, 0, 0), (W, 0, 0), (W, D, 0), (0, D, 0)), room.tile(image))
    skirting = rng.uniform(0.07, 0.15)
    for w in room.busy:
        room.put(sh.box(0, room.span(w), 0, 0.015, 0, skirting), room.trim, w)
    f["crown"] = bool(f["ceiling"] == "flat" and rng.random() < 0.25)
    if f["crown"]:
        for w in room.busy:
            room.put(sh.box(0, room.span(w), 0, 0.07, H - 0.1, H), room.trim, w)


def aim(room, rng, f, bed_points):
    """Finds a camera: inside the room, clear of furniture, the bed well in frame.  Falls back to
    the best try."""
    W, D = room.width, room.depth
    centre = bed_points.mean(0)
    want = np.clip(
        rng.normal(0.68, 0.17), 0.34, 1.0
    )  # width of the bed in the frame, judged on the photographs
    best = None
    for k in range(160):
        azimuth = rng.choice([-1, 1]) * np.radians(np.clip(rng.normal(42, 22), 0, 88))
        direction = np.array([np.sin(azimuth), -np.cos(azimuth)])
        position = centre[:2] + direction * rng.uniform(2.2, 5.8)
        if not (0.22 < position[0] < W - 0.22 and 0.22 < position[1] < D - 0.22):
            continue
        if any(
            x0 - 0.3 < position[0] < x1 + 0.3 and y0 - 0.3 < position[1] < y1 + 0.3
            for x0, x1, y0, y1 in room.footprints
        ):
            continue
        z = float(np.clip(rng.normal(1.5, 0.13), 1.1, 1.8))
        lens = float(np.clip(rng.normal(22, 4.5), 18, 35))
        tilt = np.radians(np.clip(rng.normal(-3, 3.5), -13, 5))
        turn = np.radians(rng.normal(0, 7)) + np.arctan2(*(centre[:2] - position)[::-1])
        origin = np.array([*position, z])
        room.camera = {
            "origin": origin,
            "target": origin + [np.cos(turn), np.sin(turn), np.tan(tilt)],
            "fov": float(2 * np.degrees(np.arctan(12 / lens))),
            "roll": float(rng.normal(0, 0.5)),
        }
        p, depth = room.project(bed_points)
        if depth.min() < 0.25:
            continue
        lo, hi = p.min(0), p.max(0)
        seen = np.clip(hi, 0, 1) - np.clip(lo, 0, 1)
        share = seen / np.maximum(hi - lo, 1e-6)
        cost = (
            abs(seen[0] - want)
            + 1.6 * max(0, 0.80 - share[0])
            + 1.4 * max(0, 0.72 - share[1])
            + 0.7 * abs((lo[1] + hi[1]) / 2 - 0.70)
        )
        if best is None or cost < best[0]:
            inside = float(((p > 0) & (p < 1)).all(1).mean())
            best = (
                cost,
                dict(room.camera),
                seen,
                inside,
                azimuth,
                np.linalg.norm(position - centre[:2]),
                lens,
                tilt,
                z,
            )
        if best[0] < 0.12 and k > 8:
            break
    if best is None:
        return False
    _, room.camera, seen, inside, azimuth, distance, lens, tilt, z = best
    f.update(
        camera_height=round(float(z), 3),
        camera_distance=round(float(distance), 3),
        camera_angle=round(float(np.degrees(azimuth)), 1),
        camera_tilt=round(float(np.degrees(tilt)), 1),
        lens_mm=round(float(lens), 1),
        bed_in_frame=round(inside, 3),
        bed_frame_width=round(float(seen[0]), 3),
    )
    return bool(inside >= 0.3 and seen[0] >= 0.3)


def sample_room(seed):
    """The room of a seed.  A layout in which no camera sees the bed is drawn again, from the same
    stream."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        room = Room(seed)
        f = room.factors
        f["seed"] = int(seed)
        f["bed_size"], f["bed_style"] = weighted(rng, BED_SIZES), weighted(rng, BED_STYLES)
        bw, bl, _ = BED_SIZES[f["bed_size"]]
        room.width = float(max(bw + rng.uniform(1.5, 3.4), 3.0))
        room.depth = float(bl + rng.uniform(1.6, 3.8))
        room.height = float(np.clip(rng.normal(2.55, 0.16), 2.3, 3.1))
        f.update(
            room_width=round(room.width, 3),
            room_depth=round(room.depth, 3),
            room_height=round(room.height, 3),
        )
        f["light"] = str(rng.choice(["day", "evening", "night"], p=[0.76, 0.13, 0.11]))
        shell(room, rng, f)
        wood = weighted(rng, WOODS)
        f["furniture_wood"] = wood
        room.wood = jitter(rng, WOODS[wood][0], 0.06)
        half = room.width / 2
        bx = float(np.clip(rng.normal(half, 0.45), bw / 2 + 0.12, room.width - bw / 2 - 0.12))
        lights = fu.Lights(rng, f["light"])
        points = fu.bed(room, rng, f, bx, bw, bl)
        fu.bedside(room, rng, f, bx, bw, bl, lights)
        fu.windows(room, rng, f, bx, bw, lights)
        fu.walls(room, rng, f, bx, bw)
        fu.free_standing(room, rng, f, bx, bw, bl)
        fu.overhead(room, rng, f, bx, lights)
        if aim(room, rng, f, points):
            break
    else:
        raise RuntimeError(
            f"seed {seed}: no camera sees the bed in 20 layouts; "
            "widen the room or the search in aim()"
        )
    # Fill flash from above the camera, often bounced: a point light has no noise.
    o = room.camera["origin"]
    top = float(room.ceiling(o[0])) - 0.35
    flash = {"day": rng.uniform(2, 14), "evening": rng.uniform(1, 9), "night": rng.uniform(0.3, 6)}[
        f["light"]
    ]
    room.flash = (
        (float(o[0]), float(o[1]), float(rng.uniform(o[2] + 0.15, max(top, o[2] + 0.2)))),
        tuple(map(float, flash * SUN)),
    )
    # Finish, from the photographs: mean luma .54 +- .10; red over green .057 +- .048, green over
    # blue .050 +- .045.
    room.finish = {
        "mean": float(np.clip(rng.normal(0.545, 0.095), 0.30, 0.74)),
        "white": float(rng.uniform(2.2, 8)),
        "warm": float(rng.normal(0.02, 0.06)),
        "tint": float(rng.normal(0, 0.02)),
        "vignette": float(rng.uniform(0, 0.35)),
        "sharpen": float(rng.uniform(-0.3, 0.9)),
        "contrast": float(np.clip(rng.normal(1.32, 0.17), 1.0, 1.75)),
        "saturation": float(rng.uniform(0.72, 1.1)),
        "noise": float(rng.uniform(0, 0.006)),
    }
    f["flash"] = round(float(flash), 2)
    f["mean_luma_target"] = round(room.finish["mean"], 3)
    return room
