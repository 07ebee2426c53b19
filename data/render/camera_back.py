"""Path tracing of a room with Mitsuba, denoising with Open Image Denoise, and development to 8
bits.

Each worker runs on one thread: images then depend on the seed alone, not on how work was shared
out. Mitsuba's compiled variant needs LLVM 15 or newer (Debian: libllvm19); set DRJIT_LIBLLVM_PATH
to the library when Dr.Jit does not find it by itself.
"""

from __future__ import annotations

import glob
import os

import numpy as np

if "DRJIT_LIBLLVM_PATH" not in os.environ:  # the newest one Debian's packages put beside the others
    _found = sorted(glob.glob("/usr/lib/*/libLLVM.so.[12]?.?"))
    if _found:
        os.environ["DRJIT_LIBLLVM_PATH"] = _found[-1]

os.environ.setdefault("OIDN_NUM_THREADS", "1")
os.environ.setdefault("OIDN_SET_AFFINITY", "0")

import drjit as dr
import mitsuba as mi

VARIANT = "llvm_ad_rgb"
DEPTH = 3  # two surfaces between light and eye; the flash fills in for further bounces


def setup():
    """Once per process: variant, one thread."""
    if mi.variant() != VARIANT:
        mi.set_variant(VARIANT)
        dr.set_thread_count(1)


def linear(srgb):
    """sRGB in [0, 1] to linear light."""
    srgb = np.asarray(srgb, np.float32)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


BUCKETS = {"matte": 512, "mirror": 16, "window": 256, "lamp": 256}  # atlas side, pixels


def _same_structure(meshes):
    """Fills absent buckets: a missing light takes half of the other's triangles, so that no sample
    is wasted; a mirror hides below."""
    hidden = (
        np.array([[0, 0, -9], [0.01, 0, -9], [0, 0.01, -9]], np.float32),
        np.array([[0, 1, 2]], np.uint32),
        np.zeros((3, 2), np.float32),
        np.zeros((2, 2, 3), np.float32),
    )
    for missing, other in (("lamp", "window"), ("window", "lamp")):
        if missing not in meshes and other in meshes and len(meshes[other][1]) > 1:
            v, f, uv, image = meshes[other]
            meshes[missing], meshes[other] = (v, f[::2], uv, image), (v, f[1::2], uv, image)
    return {bucket: meshes.get(bucket, hidden) for bucket in ("matte", "mirror", "window", "lamp")}


def _empty_scene(size, spp):
    """One scene per process, its content replaced for each room: loading anew would compile kernels
    anew."""

    def mesh(bucket, props):
        p = mi.Properties()
        for name, value in props.items():
            p[name] = mi.load_dict(value)
        m = mi.Mesh(bucket, 3, 1, props=p, has_vertex_texcoords=True)
        q = mi.traverse(m)
        q["vertex_positions"] = mi.Float([0, 0, -9, 0.01, 0, -9, 0, 0.01, -9])
        q["vertex_texcoords"] = mi.Float([0] * 6)
        q["faces"] = mi.UInt32([0, 1, 2])
        q.update()
        return m

    def bitmap(bucket):
        return {
            "type": "bitmap",
            "bitmap": mi.Bitmap(np.zeros((BUCKETS[bucket],) * 2 + (3,), np.float32)),
            "raw": True,
        }

    def value(x):
        return {"type": "rgb", "value": x}

    black = {"type": "diffuse", "reflectance": value(0.0)}
    surfaces = {
        "matte": {
            "bsdf": {
                "type": "twosided",
                "inner": {"type": "diffuse", "reflectance": bitmap("matte")},
            }
        },
        "mirror": {
            "bsdf": {
                "type": "twosided",
                "inner": {
                    "type": "conductor",
                    "material": "none",
                    "specular_reflectance": value(0.85),
                },
            }
        },
        "window": {"bsdf": black, "light": {"type": "area", "radiance": bitmap("window")}},
        "lamp": {"bsdf": black, "light": {"type": "area", "radiance": bitmap("lamp")}},
    }
    return mi.load_dict(
        {
            "type": "scene",
            **{k: mesh(k, v) for k, v in surfaces.items()},
            "integrator": {
                "type": "aov",
                "aovs": "albedo:albedo,normal:sh_normal",
                "path": {"type": "path", "max_depth": DEPTH, "rr_depth": 64},
            },
            "flash": {"type": "point", "position": [0, 0, 0], "intensity": value([1.0, 1.0, 1.0])},
            "sensor": {
                "type": "perspective",
                "fov": 60.0,
                "near_clip": 0.05,
                "film": {
                    "type": "hdrfilm",
                    "width": size,
                    "height": size,
                    "rfilter": {"type": "box"},
                    "pixel_format": "rgb",
                    "component_format": "float32",
                },
                "sampler": {"type": "multijitter", "sample_count": spp},
            },
        }
    )


KEYS = {
    "matte": "matte.bsdf.brdf_0.reflectance.data",
    "window": "window.emitter.radiance.data",
    "lamp": "lamp.emitter.radiance.data",
}
_scenes = {}


def build(room, size, spp):
    """The Mitsuba scene of a room."""
    if (size, spp) not in _scenes:
        scene = _empty_scene(size, spp)
        _scenes[size, spp] = scene, mi.traverse(scene)
    scene, p = _scenes[size, spp]
    c = room.camera
    for bucket, (v, f, uv, image) in _same_structure(room.meshes()).items():
        side = BUCKETS[bucket]
        atlas = np.zeros((side, side, 3), np.float32)
        n = image.shape[0]
        if n > side:
            raise RuntimeError(
                f"seed {room.seed}: the atlas of '{bucket}' needs {n} px, BUCKETS allows {side}; "
                "enlarge it in "
                "camera_back.py"
            )
        atlas[:n, :n] = image if bucket in ("window", "lamp") else linear(image)
        p[f"{bucket}.vertex_positions"] = mi.Float(v.ravel())
        p[f"{bucket}.vertex_texcoords"] = mi.Float((uv * (n / side)).astype(np.float32).ravel())
        p[f"{bucket}.faces"] = mi.UInt32(f.ravel())
        if bucket != "mirror":
            p[KEYS[bucket]] = mi.TensorXf(atlas)
    p["flash.position"] = mi.Point3f(room.flash[0])
    p["flash.intensity.value"] = mi.Color3f(room.flash[1])
    p["sensor.x_fov"] = mi.Float(c["fov"])
    p["sensor.to_world"] = mi.Transform4f().look_at(
        mi.Point3f(*map(float, c["origin"])),
        mi.Point3f(*map(float, c["target"])),
        mi.Point3f(float(np.sin(np.radians(c["roll"]))), 0.0, 1.0),
    )
    p.update()
    return scene


def denoise(image, albedo, normal):
    """Open Image Denoise in HDR mode on float32 arrays (h, w, 3), led by albedo and normals."""
    import pyoidn

    return pyoidn.denoise(image, albedo, normal, hdr=True)


def develop(image, finish, seed):
    """Linear radiance (h, w, 3) to uint8: white balance, exposure to a mean, shoulder, sRGB, lens
    and sensor."""
    rng = np.random.default_rng([seed, 1])
    h, w, _ = image.shape
    grey = image.reshape(-1, 3).mean(0)
    cast = (
        grey.mean() / np.maximum(grey, 1e-6)
    ) ** 0.55  # the camera's own balance takes out half of the cast
    x = image * cast * np.exp([finish["warm"], finish["tint"], -1.3 * finish["warm"]])
    luma = x @ np.array([0.2126, 0.7152, 0.0722])
    x = luma[..., None] + finish["saturation"] * (x - luma[..., None])
    yy, xx = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    x = np.maximum(x, 0) * (1 - finish["vignette"] * (xx**2 + yy**2) / 2)[..., None]
    p = np.pad(
        x, [(1, 1), (1, 1), (0, 0)], mode="edge"
    )  # lens blur below 0, sharpening above, as cameras do
    soft = (p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] + 2 * x) / 6
    x = np.clip(x + finish["sharpen"] * (x - soft), 0.3 * x, 2 * x + 1e-6)
    x = (x / max(np.median(x), 1e-6)) ** finish["contrast"]

    def tone(exposure):
        y = x * exposure
        y = y * (1 + y / finish["white"] ** 2) / (1 + y)
        y = np.clip(y, 0, 1)
        return np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)

    lo, hi = -6.0, 6.0
    for _ in range(14):  # exposure that gives the wanted mean luma
        mid = (lo + hi) / 2
        lo, hi = (
            (mid, hi)
            if (tone(2.0**mid) @ np.array([0.299, 0.587, 0.114])).mean() < finish["mean"]
            else (lo, mid)
        )
    y = tone(2.0**hi) + finish["noise"] * rng.normal(size=x.shape)
    return (np.clip(y, 0, 1) * 255 + 0.5).astype(np.uint8)


def photograph(room, size=64, spp=12):
    """Renders a room: uint8 (size, size, 3)."""
    setup()
    scene = build(room, size, spp)
    seed = int(np.random.default_rng([room.seed, 2]).integers(2**31))
    frame = np.nan_to_num(np.array(mi.render(scene, spp=spp, seed=seed), np.float32), posinf=0)
    del scene
    rgb, albedo, normal = (np.ascontiguousarray(frame[..., k : k + 3]) for k in (0, 3, 6))
    return develop(denoise(rgb, albedo, normal), room.finish, room.seed)
