"""Train the released classifier of scene factors on the 12,000 rendered training pictures: ten minutes of one core.

    python data/weights/train_factors.py [--threads 2] [--out data/weights/factors.safetensors]

It prints the accuracy on the 3,000 test pictures, factor by factor, beside that of the commonest class.
"""

import argparse
from pathlib import Path

import torch

from bedgen_utils.checkpoint import save_tensors
from bedgen_utils.data import dataset_sha256, load_bedrooms
from bedgen_utils.factors import FACTORS, SIZE, labels, train_factors
from bedgen_utils.run import REPO, code_version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=REPO / "data" / "weights" / "factors.safetensors")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = train_factors(load_bedrooms("rendered", "train", SIZE), labels("train"), seed=0)
    made_by = {"script": "data/weights/train_factors.py", "seed": 0, "commit": code_version()}
    made_by |= {"data_sha256": dataset_sha256("rendered")}
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_tensors(options.out, tensors, {"network": network.config, "factors": FACTORS, "made_by": made_by})
    truth, answers = labels("test"), network.read(load_bedrooms("rendered", "test", SIZE))
    for k, name in enumerate(FACTORS):
        commonest = truth[:, k].bincount().max().item() / len(truth)
        right = (answers[:, k] == truth[:, k]).float().mean().item()
        print(f"{name:18s} {right:.3f}, commonest class {commonest:.3f}")


if __name__ == "__main__":
    main()
