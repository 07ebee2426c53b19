"""What stands, lies and hangs in a room.  Each function draws its part, places it and notes the
factors.

Wall frames (see ``Room.put``): x along the wall, y out of the wall into the room, z up; metres.
"""

from __future__ import annotations

import numpy as np
import shapes as sh
from palette import CLOTHS, WALLS, WARM, WOODS, jitter, lit_from_outside, weighted

WHITE, METAL, BRASS, BLACK = (
    (0.90, 0.89, 0.86),
    (0.22, 0.21, 0.20),
    (0.58, 0.44, 0.22),
    (0.06, 0.06, 0.06),
)


class Lights:
    """Which lights burn, and how bright: radiance of shades, domes and panes."""

    def __init__(self, rng, light):
        self.outside = lit_from_outside(light, rng)
        on = {"day": 0.45, "evening": 0.8, "night": 0.92}[light]
        self.lamps = bool(rng.random() < on * 0.85)
        self.ceiling = bool(rng.random() < (on if light == "day" else 0.6)) or (
            light == "night" and not self.lamps
        )
        self.shade = rng.uniform(1.5, 6) * (
            WARM if rng.random() < 0.8 else np.array([1, 0.85, 0.65])
        )
        self.dome = rng.uniform(6, 18) * np.array([1, 0.80, 0.55])


def cloth(rng):
    return jitter(rng, CLOTHS[weighted(rng, CLOTHS)][0], 0.06)


def bed(room, rng, f, bx, bw, bl):
    """Frame, mattress, blanket, pillows, throw and skirt; returns points that span the bed
    (world)."""
    style, wood = f["bed_style"], room.tile(sh.wood(rng, room.wood))
    frame = (
        room.tile(
            jitter(rng, METAL if rng.random() < 0.6 else (BRASS if rng.random() < 0.5 else WHITE))
        )
        if style == "metal"
        else wood
    )
    if style == "upholstered":
        frame = room.tile(
            jitter(
                rng,
                CLOTHS[str(rng.choice(["beige", "grey", "charcoal", "brown", "cream", "white"]))][
                    0
                ],
            )
        )
    top = float(rng.uniform(0.52, 0.78)) if style != "platform" else float(rng.uniform(0.38, 0.5))
    w, y0, y1 = bw / 2, 0.07, bl + 0.07
    head = top + rng.uniform(0.45, 0.85)
    foot = top + rng.uniform(-0.2, 0.14)
    f["headboard"] = style not in ("none", "platform") or bool(rng.random() < 0.3)
    f["footboard"] = bool(
        style in ("sleigh", "posts", "canopy")
        or (style in ("panel", "slats", "metal", "arched") and rng.random() < 0.38)
    )

    def put(mesh, tile=frame):
        room.put(mesh, tile, "back", (bx, 0, 0))

    def board(y, z, thick, end):
        if style in ("slats", "metal"):
            bar = 0.03 if style == "metal" else 0.05
            for zz in (z - bar, top - 0.25):
                put(sh.box(-w, w, y, y + thick, zz, zz + bar * 1.6))
            for x in np.linspace(-w, w - bar, int(2 * w / rng.uniform(0.1, 0.16))):
                put(sh.box(x, x + bar * 0.7, y, y + thick * 0.7, top - 0.25, z))
        elif style == "sleigh":
            t = np.linspace(0, 1, 7)
            curl = (-0.16 if end == "head" else 0.16) * (t**3)
            put(
                sh.grid(
                    2,
                    7,
                    lambda u, v: (
                        -w - 0.04 + u * (2 * w + 0.08),
                        y + np.interp(v, t, curl),
                        0.12 + v * (z - 0.12),
                    ),
                )
            )
            put(
                sh.move(
                    sh.move(sh.lathe([(0.055, -w - 0.04), (0.055, w + 0.04)], 9), tilt=np.pi / 2),
                    0,
                    y + curl[-1],
                    z,
                    turn=np.pi / 2,
                )
            )
            put(sh.box(-w - 0.04, w + 0.04, y - 0.02, y + 0.05, 0.1, top))
        elif style == "arched":
            rise = rng.uniform(0.10, 0.26) * (1 if end == "head" else 0.4)
            put(
                sh.grid(
                    15,
                    2,
                    lambda u, v: (
                        -w + 2 * w * u,
                        y + 0 * u,
                        0.1 + v * (z - 0.1 + rise * np.sin(np.pi * u)),
                    ),
                )
            )
            put(
                sh.grid(
                    15,
                    2,
                    lambda u, v: (
                        -w + 2 * w * u,
                        y + thick + 0 * u,
                        0.1 + v * (z - 0.1 + rise * np.sin(np.pi * u)),
                    ),
                )
            )
            put(
                sh.grid(
                    15,
                    2,
                    lambda u, v: (-w + 2 * w * u, y + thick * v, z + rise * np.sin(np.pi * u)),
                )
            )
        elif style == "upholstered":
            put(sh.soft_box(0, y + 0.04, (z + 0.1) / 2, w + 0.04, 0.07, (z - 0.1) / 2, 0.15))
        else:
            put(sh.box(-w - 0.03, w + 0.03, y, y + thick, 0.1, z))
            put(sh.box(-w - 0.06, w + 0.06, y - 0.015, y + thick + 0.025, z - 0.02, z + 0.04))
            if rng.random() < 0.6:
                for x in np.linspace(-w, w, 4)[:-1]:
                    put(
                        sh.box(
                            x + 0.06, x + 2 * w / 3 - 0.06, y, y + thick + 0.015, top - 0.1, z - 0.1
                        )
                    )

    if f["headboard"]:
        board(0.01, head, 0.05, "head")
    if f["footboard"]:
        board(y1 + 0.04, foot if style != "sleigh" else max(foot, top + 0.04), 0.05, "foot")
    if style in ("posts", "canopy"):
        tall = float(rng.uniform(1.5, 2.1)) if style == "posts" else float(rng.uniform(1.95, 2.15))
        r = rng.uniform(0.03, 0.055)
        profile = [
            (r, 0),
            (r, top),
            (r * 0.7, top + 0.1),
            (r * 1.3, top + 0.3),
            (r * 0.8, top + 0.5),
            (r, tall - 0.15),
            (r * 1.5, tall - 0.08),
            (0.01, tall),
        ]
        for x in (-w - 0.02, w + 0.02):
            for y in (0.05, y1 + 0.05):
                put(sh.move(sh.lathe(profile, 7), x, y))
        if style == "canopy":
            for x in (-w - 0.02, w + 0.02):
                put(sh.box(x - 0.025, x + 0.025, 0.03, y1 + 0.07, tall - 0.12, tall - 0.06))
            for y in (0.03, y1 + 0.03):
                put(sh.box(-w - 0.02, w + 0.02, y, y + 0.05, tall - 0.12, tall - 0.06))
    # side rails, skirt, mattress
    f["bed_skirt"] = bool(rng.random() < 0.35 and style not in ("platform",))
    rail = (
        room.tile(cloth(rng) if rng.random() < 0.4 else np.array(CLOTHS["white"][0]))
        if f["bed_skirt"]
        else frame
    )
    if f["bed_skirt"]:
        for side in (-1, 1):
            put(
                sh.grid(
                    60,
                    2,
                    lambda u, v: (
                        side * (w - 0.01 + 0.012 * np.sin(90 * u)),
                        y0 + u * (y1 - y0),
                        0.01 + v * (top - 0.25),
                    ),
                ),
                rail,
            )
        put(
            sh.grid(
                40,
                2,
                lambda u, v: (
                    -w + 2 * w * u,
                    y1 - 0.01 + 0.012 * np.sin(70 * u),
                    0.01 + v * (top - 0.25),
                ),
            ),
            rail,
        )
    elif rng.random() < 0.8 or style == "platform":
        put(sh.box(-w - 0.02, w + 0.02, y0, y1 + 0.03, 0.14, max(top - 0.24, 0.2)), rail)
    else:  # bare box spring
        put(sh.box(-w, w, y0, y1, 0.16, top - 0.2), room.tile(jitter(rng, WHITE)))
    white = room.tile(jitter(rng, CLOTHS["white"][0], 0.03))
    put(sh.soft_box(0, (y0 + y1) / 2, top - 0.13, w, (y1 - y0) / 2, 0.13, 0.12, 9), white)
    # blanket
    f["blanket"] = str(
        rng.choice(
            ["plain", "stripes", "checks", "floral", "quilt", "damask"],
            p=[0.38, 0.12, 0.05, 0.22, 0.07, 0.16],
        )
    )
    f["blanket_colour"] = weighted(rng, CLOTHS)
    base = jitter(rng, CLOTHS[f["blanket_colour"]][0], 0.06)
    accent, third = cloth(rng), cloth(rng)
    if rng.random() < 0.5:
        accent = np.clip(
            base * rng.uniform(0.4, 0.75) if base.mean() > 0.4 else base * 2.2, 0, 0.95
        )
    spread = sh.fabric(rng, f["blanket"], base, accent, third)
    drop = float(rng.uniform(0.16, top - 0.06))
    start = y0 if rng.random() < 0.25 else y0 + rng.uniform(0.3, 0.75)
    cover = room.tile(spread)
    put(
        sh.blanket(
            bw,
            start,
            y1 - (0.0 if not f["footboard"] else 0.03),
            top,
            drop,
            rng,
            rng.uniform(0.015, 0.07),
            rng.uniform(0.008, 0.045),
            foot=not f["footboard"],
        ),
        cover,
    )
    if start > y0 + 0.2 and rng.random() < 0.6:  # sheet turned down
        put(
            sh.blanket(
                bw,
                start - 0.05,
                start + rng.uniform(0.12, 0.35),
                top + 0.035,
                min(drop, 0.3),
                rng,
                0.02,
                0.01,
                foot=False,
                n=15,
            ),
            room.tile(cloth(rng) if rng.random() < 0.3 else jitter(rng, CLOTHS["white"][0], 0.03)),
        )
    f["throw"] = bool(rng.random() < 0.3)
    if f["throw"]:
        a = y1 - rng.uniform(0.45, 0.8)
        put(
            sh.blanket(
                bw,
                a,
                a + rng.uniform(0.3, 0.6) - (0.1 if f["footboard"] else 0),
                top + 0.035,
                min(drop + 0.05, top - 0.05),
                rng,
                0.05,
                0.02,
                foot=False,
                n=21,
            ),
            room.tile(
                sh.fabric(
                    rng, str(rng.choice(["plain", "stripes", "checks"])), accent, third, base, 48
                )
            ),
        )
    # pillows: a row or two against the headboard, then cushions
    count = 1 if bw < 1.1 else 2 if bw < 1.8 else int(rng.choice([2, 3]))
    f["pillows"] = 0
    y = 0.16
    cases = [
        room.tile(jitter(rng, CLOTHS["white"][0], 0.03) if rng.random() < 0.6 else base),
        room.tile(sh.fabric(rng, f["blanket"], base, accent, third, 40))
        if rng.random() < 0.6
        else room.tile(accent),
        room.tile(third),
        room.tile(cloth(rng)),
    ]
    lying = rng.random() < 0.3
    for row in range(int(rng.choice([1, 2, 3], p=[0.4, 0.45, 0.15]))):
        pw = min(bw / count * 1.0, 0.78) * (1 - 0.08 * row)
        ph = rng.uniform(0.42, 0.56) * (1 - 0.08 * row)
        for k in range(count):
            mesh = sh.pillow(pw, ph, rng.uniform(0.17, 0.26), rng)
            x = (k - (count - 1) / 2) * (bw / count) * 0.97
            if lying and row == 0:
                put(
                    sh.move(
                        mesh,
                        x,
                        y0 + 0.28,
                        top + 0.12,
                        tilt=-np.pi / 2 + 0.15,
                        turn=rng.normal(0, 0.05),
                    ),
                    cases[row],
                )
            else:
                put(
                    sh.move(
                        mesh,
                        x,
                        y + 0.10,
                        top + 0.03 + ph * 0.46,
                        tilt=0.38 + 0.1 * rng.normal(),
                        turn=rng.normal(0, 0.07),
                    ),
                    cases[row],
                )
            f["pillows"] += 1
        y += rng.uniform(0.13, 0.2)
    f["cushions"] = (
        int(rng.choice([0, 1, 2, 3], p=[0.45, 0.22, 0.22, 0.11]))
        if bw > 1.1
        else int(rng.choice([0, 1]))
    )
    for k in range(f["cushions"]):
        size = rng.uniform(0.28, 0.42)
        put(
            sh.move(
                sh.pillow(size * rng.choice([1, 1, 1.5]), size, 0.16, rng, 9),
                (k - (f["cushions"] - 1) / 2) * size * 1.15 + rng.normal(0, 0.05),
                y + 0.14,
                top + 0.04 + size * 0.46,
                tilt=0.5,
                turn=rng.normal(0, 0.15),
            ),
            cases[2 + k % 2],
        )
    room.stand("back", bx - w - 0.05, bx + w + 0.05, 0, y1 + 0.1)
    room.busy["back"].append((bx - w, bx + w))
    D = room.depth
    return np.array(
        [[bx + sx * w, D - y, z] for sx in (-1, 1) for y in (y0, y1) for z in (0.1, top + 0.05)]
        + [[bx, D - 0.1, top + 0.35]]
    )


def lamp(room, rng, lights, wall, x, y, z, scale=1.0):
    """Table lamp (or, on the floor, a standing lamp's top) with a lathe foot and a shade that glows
    when on."""
    h = rng.uniform(0.22, 0.36) * scale
    r = rng.uniform(0.11, 0.17) * scale
    foot = room.tile(
        jitter(rng, METAL if rng.random() < 0.35 else (BRASS if rng.random() < 0.3 else cloth(rng)))
    )
    room.put(
        sh.lathe(
            [
                (0.07 * scale, 0),
                (0.075 * scale, 0.02),
                (0.02, 0.05),
                (rng.uniform(0.03, 0.08), h * 0.5),
                (0.02, h * 0.9),
                (0.012, h + 0.05),
            ],
            9,
        ),
        foot,
        wall,
        (x, y, z),
    )
    shade = sh.lathe(
        [(r, h), (r * rng.uniform(0.45, 0.9), h + rng.uniform(0.17, 0.25) * scale)], 13
    )
    room.put(
        shade,
        room.tile(lights.shade, "lamp")
        if lights.lamps
        else room.tile(jitter(rng, CLOTHS["cream"][0], 0.06)),
        wall,
        (x, y, z),
    )


def chest(room, rng, wall, x0, width, depth, height, rows, columns, tone=None):
    """Case with drawer fronts; legs on some."""
    tone = room.wood if tone is None else tone
    case = room.tile(tone)
    leg = rng.uniform(0, 0.14) if rng.random() < 0.5 else 0.0
    room.put(sh.box(x0, x0 + width, 0.02, depth, leg, height), case, wall)
    room.put(
        sh.box(x0 - 0.015, x0 + width + 0.015, 0.0, depth + 0.02, height - 0.025, height),
        case,
        wall,
    )
    front = room.tile(sh.drawers(rng, tone, rows, columns, METAL if tone.mean() > 0.3 else BRASS))
    y = depth + 0.006
    room.put(
        sh.quad(
            (x0 + width, y, leg),
            (x0, y, leg),
            (x0, y, height - 0.025),
            (x0 + width, y, height - 0.025),
        ),
        front,
        wall,
    )
    if leg:
        for x in (x0, x0 + width - 0.04):
            room.put(sh.box(x, x + 0.04, depth - 0.05, depth, 0, leg), case, wall)
    room.stand(wall, x0, x0 + width, 0, depth)


def clutter(room, rng, wall, x0, x1, y, z):
    """Books, vases and boxes on a top."""
    for x in rng.uniform(x0 + 0.06, max(x1 - 0.06, x0 + 0.07), int(rng.integers(0, 4))):
        tile = room.tile(jitter(rng, cloth(rng), 0.1))
        if rng.random() < 0.5:
            r = rng.uniform(0.03, 0.07)
            room.put(
                sh.lathe(
                    [(r * 0.6, 0), (r, 0.1), (r * 0.4, rng.uniform(0.14, 0.25)), (r * 0.6, 0.27)], 8
                ),
                tile,
                wall,
                (x, y, z),
            )
        else:
            room.put(
                sh.box(x - 0.08, x + 0.08, y - 0.06, y + 0.06, z, z + rng.uniform(0.03, 0.18)),
                tile,
                wall,
            )


def bedside(room, rng, f, bx, bw, bl, lights):
    """Nightstands with lamps beside the bed, pictures or nothing above it."""
    f["nightstands"], f["lamps"] = 0, 0
    both, with_lamp = rng.random() < 0.8, rng.random() < 0.85
    width, depth, height = rng.uniform(0.42, 0.68), rng.uniform(0.36, 0.48), rng.uniform(0.5, 0.72)
    for side in (-1, 1):
        gap = rng.uniform(0.06, 0.16)
        x0 = bx + side * (bw / 2 + gap) - (width if side < 0 else 0)
        if x0 < 0.04 or x0 + width > room.width - 0.04 or not both and side == 1:
            continue
        chest(room, rng, "back", x0, width, depth, height, int(rng.integers(1, 4)), 1)
        room.busy["back"].append((x0, x0 + width))
        f["nightstands"] += 1
        if with_lamp and rng.random() < 0.93:
            lamp(
                room,
                rng,
                lights,
                "back",
                x0 + width / 2,
                depth / 2,
                height,
                rng.uniform(0.85, 1.25),
            )
            f["lamps"] += 1
        if rng.random() < 0.5:
            clutter(room, rng, "back", x0, x0 + width, depth * 0.7, height)
    f["lamps_on"] = bool(lights.lamps and f["lamps"])


def window(room, rng, f, wall, x0, x1, z0, z1, lights, dressing, trim, colour):
    """A pane that shines, with frame, muntins, sill and curtains, blinds or a valance."""
    view = sh.outside(rng) * lights.outside
    y = 0.012
    closed = {
        "blinds": rng.uniform(0.25, 0.9),
        "vertical": rng.uniform(0.3, 0.9),
        "sheer": rng.uniform(0.5, 0.9),
    }.get(dressing, 0)
    if closed:  # cloth or slats let light through; drawn in the pane's radiance
        n = len(view)
        slat = 0.75 + 0.25 * np.sin(np.linspace(0, 2 * np.pi * 10, n))
        slat = slat[:, None] if dressing == "blinds" else slat[None, :]
        veil = (
            (0.62 * lights.outside.max() + 0.05)
            * np.array([1, 0.97, 0.92])
            * (slat[..., None] if dressing != "sheer" else 0.9)
        )
        view = (1 - closed) * view + closed * np.broadcast_to(veil, view.shape)
    room.put(
        sh.quad((x1, y, z0), (x0, y, z0), (x0, y, z1), (x1, y, z1)), room.tile(view, "window"), wall
    )
    b, d = 0.055, 0.035
    for a in (
        (x0 - b, x1 + b, z0 - b, z0),
        (x0 - b, x1 + b, z1, z1 + b),
        (x0 - b, x0, z0, z1),
        (x1, x1 + b, z0, z1),
    ):
        room.put(sh.box(a[0], a[1], 0, d, a[2], a[3]), trim, wall)
    columns = int(rng.choice([1, 2, 3])) if x1 - x0 < 1.5 else int(rng.choice([2, 3, 4]))
    for k in range(1, columns):
        x = x0 + (x1 - x0) * k / columns
        room.put(sh.box(x - 0.017, x + 0.017, 0, 0.03, z0, z1), trim, wall)
    for k in range(1, int(rng.choice([1, 2, 3]))):
        z = z0 + (z1 - z0) * k / 2 if k == 1 else z0 + (z1 - z0) * 0.75
        room.put(sh.box(x0, x1, 0, 0.03, z - 0.017, z + 0.017), trim, wall)
    if z0 > 0.2:
        room.put(sh.box(x0 - 0.08, x1 + 0.08, 0, 0.09, z0 - b - 0.02, z0 - b + 0.02), trim, wall)
    if dressing in ("curtains", "valance", "sheer"):
        tile = room.tile(colour)
        top, width = min(z1 + 0.15, room.height - 0.03), (x1 - x0) * rng.uniform(0.2, 0.34)
        bottom = 0.03 if rng.random() < 0.7 or z0 < 0.3 else z0 - 0.2
        tied = bool(rng.random() < 0.4)
        if dressing != "valance" or rng.random() < 0.2:
            for x in (x0 - 0.1 + width / 2 - 0.05, x1 + 0.1 - width / 2 + 0.05):
                room.put(sh.curtain(width, top - bottom, rng, tied), tile, wall, (x, 0, bottom))
        if dressing == "valance" or rng.random() < 0.25:
            h = rng.uniform(0.25, 0.4)
            room.put(
                sh.curtain(x1 - x0 + 0.25, h, rng),
                tile,
                wall,
                ((x0 + x1) / 2, 0.03, top - h + 0.02),
            )
        else:
            room.put(sh.box(x0 - 0.2, x1 + 0.2, 0.08, 0.1, top, top + 0.02), room.tile(METAL), wall)


def windows(room, rng, f, bx, bw, lights):
    """One to three windows on the back and side walls, dressed alike."""
    f["windows"] = 0
    dressing = str(
        rng.choice(
            ["curtains", "blinds", "vertical", "sheer", "valance", "none"],
            p=[0.3, 0.24, 0.07, 0.1, 0.1, 0.19],
        )
    )
    f["window_dressing"] = dressing
    trim = room.trim if rng.random() < 0.8 else room.tile(room.wood)
    colour = cloth(rng) if rng.random() < 0.75 else jitter(rng, WALLS[f["wall_colour"]][0])
    if rng.random() < 0.25:
        colour = sh.fabric(
            rng, str(rng.choice(["stripes", "floral"])), colour, cloth(rng), cloth(rng), 48
        )
    head = min(rng.uniform(2.0, 2.25), room.height - 0.2)
    sides = [str(s) for s in rng.permutation(["left", "right"])]
    plan = [(sides[0], 0.82), (sides[1], 0.35), ("back", 0.5), ("front", 0.12)]
    for wall, chance in plan:
        if rng.random() > chance:
            continue
        door = wall not in ("back",) and rng.random() < 0.16  # sliding glass door
        width = rng.uniform(1.5, 2.2) if door else rng.uniform(0.7, 1.9)
        z0 = 0.06 if door else rng.uniform(0.55, 1.05)
        if wall == "back":
            above = rng.random() < 0.35
            z0 = 1.35 if above else z0
            width = rng.uniform(0.5, 0.95) if not above else rng.uniform(0.8, 1.6)
            spots = (
                [bx - width / 2]
                if above
                else [
                    bx - bw / 2 - 0.2 - width - rng.uniform(0, 0.2),
                    bx + bw / 2 + 0.2 + rng.uniform(0, 0.2),
                ]
            )
            spots = [s for s in spots if s > 0.1 and s + width < room.width - 0.1]
            z0 = max(z0, 0.85) if not above else z0
        else:
            pairs = 2 if rng.random() < 0.18 and not door else 1
            width = min(width, (room.depth - 0.8) / pairs - 0.2)
            first = room.free(
                rng, wall, width * pairs + 0.2 * (pairs - 1), 0.3, room.span(wall) - 0.2
            )
            spots = [] if first is None else [first + k * (width + 0.2) for k in range(pairs)]
        for x in spots:
            window(
                room,
                rng,
                f,
                wall,
                x,
                x + width,
                z0,
                max(head, z0 + 0.4),
                lights,
                dressing,
                trim,
                colour,
            )
            f["windows"] += 1
            if wall == "back":
                f["window_behind_bed"] = True
    f.setdefault("window_behind_bed", False)


def walls(room, rng, f, bx, bw):
    """Door, closet, pictures and mirror."""
    f["door"] = f["closet"] = f["mirror"] = False
    f["pictures"] = 0
    for wall in rng.permutation(["left", "right", "front"]):
        wall = str(wall)
        if rng.random() < 0.55 and not f["door"]:
            x = room.free(rng, wall, 0.92)
            if x is not None:
                f["door"] = True
                leaf = sh.panels(jitter(rng, WHITE, 0.03) if rng.random() < 0.7 else room.wood)
                if rng.random() < 0.35:  # stands open: the next room, dim or bright
                    leaf = (
                        np.linspace(0.25, 0.7, 8)[:, None, None]
                        * rng.uniform(0.5, 1.2)
                        * np.array([0.95, 0.85, 0.7])
                    )
                    leaf = np.broadcast_to(np.clip(leaf, 0, 0.9), (8, 8, 3))
                room.put(
                    sh.quad(
                        (x + 0.86, 0.02, 0),
                        (x + 0.06, 0.02, 0),
                        (x + 0.06, 0.02, 2.03),
                        (x + 0.86, 0.02, 2.03),
                    ),
                    room.tile(leaf),
                    wall,
                )
                for a in (
                    (x, x + 0.07, 0, 2.1),
                    (x + 0.85, x + 0.92, 0, 2.1),
                    (x, x + 0.92, 2.03, 2.1),
                ):
                    room.put(sh.box(a[0], a[1], 0, 0.035, a[2], a[3]), room.trim, wall)
        if rng.random() < 0.22 and not f["closet"]:
            width = rng.uniform(1.4, 2.2)
            x = room.free(rng, wall, width)
            if x is not None:
                f["closet"] = True
                glass = rng.random() < 0.45
                f["mirror"] |= bool(glass)
                tile = (
                    ("mirror", room.tile((0.9, 0.9, 0.9), "mirror")[1])
                    if glass
                    else room.tile(
                        sh.panels(jitter(rng, WHITE, 0.03), 4, 1 if rng.random() < 0.5 else 9)
                    )
                )
                room.put(
                    sh.quad(
                        (x + width, 0.03, 0.03),
                        (x, 0.03, 0.03),
                        (x, 0.03, 2.05),
                        (x + width, 0.03, 2.05),
                    ),
                    tile,
                    wall,
                )
                for a in (x - 0.03, x + width / 2 - 0.02, x + width - 0.02):
                    room.put(
                        sh.box(a, a + 0.045, 0, 0.045, 0, 2.08),
                        room.trim if rng.random() < 0.6 else room.tile(BRASS),
                        wall,
                    )
                room.put(sh.box(x - 0.03, x + width + 0.03, 0, 0.05, 2.04, 2.1), room.trim, wall)
    frame = room.tile(
        room.wood if rng.random() < 0.5 else jitter(rng, BLACK if rng.random() < 0.5 else BRASS)
    )
    if not f["window_behind_bed"] and rng.random() < 0.7:
        n = int(rng.choice([1, 1, 2, 3]))
        w, h = (
            (rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.7))
            if n == 1
            else (rng.uniform(0.3, 0.45), rng.uniform(0.35, 0.55))
        )
        z = rng.uniform(1.5, 1.65)
        for k in range(n):
            hang(room, rng, f, "back", bx + (k - (n - 1) / 2) * (w + 0.12) - w / 2, w, z, h, frame)
    for wall in ("left", "right", "back"):
        for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))):
            w = rng.uniform(0.3, 0.7)
            x = room.free(rng, wall, w)
            if x is not None:
                hang(room, rng, f, wall, x, w, rng.uniform(1.3, 1.55), rng.uniform(0.3, 0.6), frame)
                room.busy[wall].pop()  # furniture may stand under a picture


def hang(room, rng, f, wall, x, w, z, h, frame):
    """One picture, or (rarely) a mirror or a flat television, in a frame."""
    h = min(h, room.height - z - 0.1)
    b, kind = rng.uniform(0.02, 0.05), rng.random()
    if kind < 0.08:
        tile, f["mirror"] = room.tile((0.9, 0.9, 0.9), "mirror"), True
    else:
        tile = (
            room.tile(np.array(BLACK))
            if kind < 0.16 and wall != "back"
            else room.tile(sh.picture(rng))
        )
        f["pictures"] += 1
    room.put(sh.box(x - b, x + w + b, 0, 0.025, z - b, z + h + b), frame, wall)
    room.put(
        sh.quad((x + w, 0.03, z), (x, 0.03, z), (x, 0.03, z + h), (x + w, 0.03, z + h)), tile, wall
    )


def free_standing(room, rng, f, bx, bw, bl):
    """Dresser, wardrobe, chair, bench, plant, rug."""
    for name in ("dresser", "wardrobe", "chair", "bench", "plant", "rug", "television"):
        f[name] = False
    hi = room.depth - 0.9
    for wall in rng.permutation(["left", "right"]):
        wall = str(wall)
        room_beside = (bx if wall == "left" else room.width - bx) - bw / 2
        if rng.random() < 0.55 and room_beside > 1.0 and not f["dresser"]:
            width, depth, height = (
                rng.uniform(0.9, 1.7),
                rng.uniform(0.42, 0.52),
                rng.uniform(0.75, 1.25),
            )
            x = room.free(rng, wall, width, 0.1, hi + 0.6)
            if x is not None:
                f["dresser"] = True
                chest(
                    room,
                    rng,
                    wall,
                    x,
                    width,
                    depth,
                    height,
                    int(rng.integers(3, 6)),
                    int(rng.integers(1, 4)),
                )
                if rng.random() < 0.3:
                    f["television"] = True
                    room.put(
                        sh.box(
                            x + 0.15,
                            min(x + 1.05, x + width),
                            0.15,
                            0.2,
                            height + 0.05,
                            height + 0.6,
                        ),
                        room.tile(BLACK),
                        wall,
                    )
                else:
                    clutter(room, rng, wall, x, x + width, depth / 2, height)
                if rng.random() < 0.25:
                    f["mirror"] = True
                    room.put(
                        sh.box(x + 0.1, x + width - 0.1, 0.0, 0.05, height, height + 0.95),
                        room.tile(room.wood),
                        wall,
                    )
                    room.put(
                        sh.quad(
                            (x + width - 0.15, 0.055, height + 0.05),
                            (x + 0.15, 0.055, height + 0.05),
                            (x + 0.15, 0.055, height + 0.9),
                            (x + width - 0.15, 0.055, height + 0.9),
                        ),
                        room.tile((0.9, 0.9, 0.9), "mirror"),
                        wall,
                    )
        elif rng.random() < 0.25 and room_beside > 1.1 and not f["wardrobe"]:
            width = rng.uniform(0.8, 1.3)
            x = room.free(rng, wall, width, 0.1, hi + 0.6)
            if x is not None:
                f["wardrobe"] = True
                chest(
                    room,
                    rng,
                    wall,
                    x,
                    width,
                    0.55,
                    rng.uniform(1.5, 2.0),
                    int(rng.integers(2, 6)),
                    2,
                )
        elif rng.random() < 0.35 and room_beside > 1.0 and not f["chair"]:
            x = room.free(rng, wall, 0.75, 0.3, hi + 0.3)
            if x is not None:
                f["chair"] = True
                armchair(room, rng, wall, x + 0.37, 0.5)
    if rng.random() < 0.22:
        f["bench"] = True
        w, y = min(bw * 0.8, 1.4) / 2, bl + 0.35
        seat = room.tile(cloth(rng)) if rng.random() < 0.7 else room.tile(room.wood)
        room.put(sh.soft_box(bx, y + 0.22, 0.42, w, 0.21, 0.09, 0.25), seat, "back")
        for x in (bx - w + 0.04, bx + w - 0.08):
            for yy in (y + 0.05, y + 0.35):
                room.put(sh.box(x, x + 0.05, yy, yy + 0.05, 0, 0.38), room.tile(room.wood), "back")
        room.stand("back", bx - w, bx + w, y, y + 0.45)
    if rng.random() < 0.22:
        wall = str(rng.choice(["left", "right"]))
        x = room.free(rng, wall, 0.5, 0.3, room.depth - 0.1)
        if x is not None:
            f["plant"] = True
            plant(room, rng, wall, x + 0.25, 0.28)
    if rng.random() < 0.28:
        f["rug"] = True
        w, d = bw / 2 + rng.uniform(0.2, 0.6), rng.uniform(1.3, 2.2)
        image = sh.fabric(
            rng,
            str(rng.choice(["plain", "stripes", "damask", "floral", "checks"])),
            cloth(rng),
            cloth(rng),
            cloth(rng),
            64,
        )
        y = bl * 0.55 if rng.random() < 0.6 else bl + 0.3
        d = min(d, room.depth - y - 0.1)
        room.put(
            sh.box(max(bx - w, 0.05), min(bx + w, room.width - 0.05), y, y + d, 0.002, 0.012),
            room.tile(image),
            "back",
        )


def armchair(room, rng, wall, x, y):
    """Upholstered armchair, or a wooden chair with slats."""
    if rng.random() < 0.6:
        tile, h = room.tile(cloth(rng)), rng.uniform(0.85, 1.0)
        parts = [
            sh.soft_box(0, 0, 0.26, 0.36, 0.36, 0.2, 0.2, 9),
            sh.soft_box(0, -0.3, h / 2 + 0.08, 0.36, 0.1, h / 2 - 0.06, 0.25, 9),
        ]
        parts += [sh.soft_box(s * 0.34, 0.02, 0.36, 0.08, 0.34, 0.25, 0.25, 9) for s in (-1, 1)]
    else:
        tile = room.tile(room.wood)
        parts = [sh.box(-0.22, 0.22, -0.2, 0.22, 0.43, 0.47)] + [
            sh.box(a, a + 0.04, b, b + 0.04, 0, 0.45) for a in (-0.22, 0.18) for b in (-0.2, 0.18)
        ]
        parts += [
            sh.box(a, a + 0.03, -0.21, -0.18, 0.45, 0.95) for a in np.linspace(-0.22, 0.19, 5)
        ] + [sh.box(-0.23, 0.23, -0.215, -0.175, 0.9, 0.98)]
    room.put(sh.move(sh.join(*parts), x, y, turn=rng.normal(0, 0.45)), tile, wall)
    room.stand(wall, x - 0.4, x + 0.4, y - 0.4, y + 0.4)


def plant(room, rng, wall, x, y):
    """Pot with arching leaves."""
    r, h = rng.uniform(0.11, 0.17), rng.uniform(0.22, 0.36)
    room.put(
        sh.lathe([(r * 0.7, 0), (r, h), (r * 0.8, h)], 10),
        room.tile(jitter(rng, cloth(rng))),
        wall,
        (x, y, 0),
    )
    leaves = []
    for _ in range(int(rng.integers(26, 50))):
        reach, rise, turn = (
            rng.uniform(0.12, 0.36),
            rng.uniform(0.25, 1.0),
            rng.uniform(0, 2 * np.pi),
        )
        wide = rng.uniform(0.03, 0.07)
        leaf = sh.grid(
            3,
            5,
            lambda u, v: (
                reach * v * 1.1,
                wide * (2 * u - 1) * np.sin(np.pi * (0.12 + 0.88 * v)),
                rise * (v - 0.45 * v * v),
            ),
        )
        leaves.append(sh.move(leaf, 0, 0, h * 0.9, turn=turn))
    room.put(
        sh.join(*leaves),
        room.tile(jitter(rng, (0.20, 0.32, 0.12), 0.2)),
        wall,
        (x, max(y, 0.45), 0),
    )
    room.stand(wall, x - 0.25, x + 0.25, 0, 0.6)


def overhead(room, rng, f, bx, lights):
    """Ceiling fan with a light kit, a flush dome, recessed cans, beams or nothing."""
    f["overhead"] = str(rng.choice(["fan", "dome", "cans", "none"], p=[0.52, 0.2, 0.1, 0.18]))
    if room.height < 2.4 and f["overhead"] == "fan" and rng.random() < 0.3:
        f["overhead"] = "dome"
    x = float(np.clip(bx + rng.normal(0, 0.4), 0.9, room.width - 0.9))
    y = float(np.clip(room.depth - rng.uniform(1.3, 2.4), 1.0, room.depth - 1.0))
    z = float(room.ceiling(x))
    lamp_tile = (
        room.tile(lights.dome, "lamp")
        if lights.ceiling
        else room.tile(np.array([0.93, 0.92, 0.88]))
    )
    on = lights.ceiling
    if f["overhead"] == "fan":
        drop = rng.uniform(0.22, 0.38) + (z - room.height) * 0.5
        metal = room.tile(
            jitter(rng, METAL if rng.random() < 0.4 else (BRASS if rng.random() < 0.4 else WHITE))
        )
        blade = room.tile(
            jitter(rng, WHITE) if rng.random() < 0.4 else WOODS[weighted(rng, WOODS)][0]
        )
        room.put(
            sh.lathe(
                [
                    (0.11, -drop),
                    (0.13, -drop + 0.08),
                    (0.05, -drop + 0.16),
                    (0.02, -drop + 0.18),
                    (0.02, -0.06),
                    (0.07, 0),
                ],
                10,
            ),
            metal,
            at=(x, y, z),
        )
        turn, length = rng.uniform(0, 6.28), rng.uniform(0.5, 0.68)
        count = int(rng.choice([4, 5, 5, 5]))
        for k in range(count):
            b = sh.move(sh.box(0.12, length, -0.065, 0.065, -0.005, 0.005), tilt=0.2)
            room.put(sh.move(b, x, y, z - drop + 0.05, turn=turn + 2 * np.pi * k / count), blade)
        n = int(rng.choice([1, 3, 4]))
        for k in range(n):
            r, off = (0.10, 0) if n == 1 else (0.055, 0.12)
            a = turn + 2 * np.pi * k / n
            room.put(
                sh.lathe([(0.01, -0.1), (r * 0.8, -0.07), (r, 0), (r * 0.5, 0.03)], 8),
                lamp_tile,
                at=(x + off * np.cos(a), y + off * np.sin(a), z - drop - 0.03),
            )
    elif f["overhead"] == "dome":
        r = rng.uniform(0.13, 0.2)
        room.put(
            sh.lathe([(0.01, -0.12), (r * 0.7, -0.09), (r, -0.02), (r, 0)], 12),
            lamp_tile,
            at=(x, y, z),
        )
    elif f["overhead"] == "cans":
        for px in (room.width * 0.25, room.width * 0.75):
            for py in (room.depth * 0.3, room.depth * 0.75):
                room.put(
                    sh.lathe([(0.0, -0.012), (0.08, -0.01), (0.08, 0)], 9),
                    lamp_tile,
                    at=(px, py, float(room.ceiling(px))),
                )
    else:
        on = False
    f["ceiling_light_on"] = bool(on)
