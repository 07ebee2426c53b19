"""Checkpoints in one safetensors file: tensors of networks and optimizers, and everything else as JSON in its header.

A checkpoint is written beside the old one and put in its place in one step; the one before is kept. A process that is
killed at any moment, or a file that was cut short, costs at most the work since the checkpoint before.
"""

import json
import os
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .run import replace_atomically


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write ``tensors`` (any dtype, on any device) and the JSON-able ``meta`` to ``path`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    on_cpu = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    # Shared storage is refused by the format, and a view of the live weight could change while it is written.
    replace_atomically(
        path, lambda t: save_file({k: v.clone() for k, v in on_cpu.items()}, t, {"meta": json.dumps(meta)})
    )


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what ``save_tensors`` wrote. Raises ValueError, with the file's name, if it is cut short or not ours."""
    try:
        with safe_open(str(path), framework="pt") as f:
            return {k: f.get_tensor(k) for k in f.keys()}, json.loads(f.metadata()["meta"])  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a whole checkpoint of this project ({error}); delete it to start over"
        ) from error


def save_training(
    path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], meta: dict
) -> None:
    """Write the state of ``modules`` and ``optimizers``; the checkpoint that stood there is kept as *.previous."""
    tensors = {f"{name}/{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{slot}": torch.as_tensor(v) for slot, v in slots.items()}
    if path.exists():
        # A hard link, so that at no moment there is no file under the plain name.
        previous, link = path.with_suffix(".previous"), path.with_suffix(".link")
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)
            os.replace(link, previous)
        except OSError:  # file systems without hard links (some mounted drives): the older copy is a luxury
            pass
    save_tensors(path, tensors, meta)


def resume_training(
    path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> dict | None:
    """Load the newest whole checkpoint at ``path`` into ``modules`` and ``optimizers``; return its meta, or None."""
    for candidate in (path, path.with_suffix(".previous")):
        if not candidate.exists():
            continue
        try:
            tensors, meta = load_tensors(candidate)
        except ValueError as error:
            warnings.warn(f"{error}. Going on from the checkpoint before it, if there is one.", stacklevel=2)
            continue
        for name, module in modules.items():
            module.load_state_dict({k: tensors[f"{name}/{k}"] for k in module.state_dict()})
        for name, optimizer in optimizers.items():
            slots: dict[int, dict] = {}
            parameters = [q for group in optimizer.param_groups for q in group["params"]]
            for key, value in tensors.items():
                if key.startswith(f"{name}/"):
                    _, index, slot = key.split("/")
                    # A fused optimizer walks through memory: its averages must lie in the order of the parameter
                    # (channels_last, say), while the file holds them in the plain one.
                    like = parameters[int(index)]
                    value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                    slots.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        return meta
    return None
