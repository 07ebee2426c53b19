"""Train the released classifier of scene factors on the rendered training images.

    python data/weights/train_factors.py [--threads 2] [--out data/weights/factors.safetensors]

Ten minutes of one core. It prints the accuracy on the test images, factor by factor, beside that
of the commonest class.
"""

import argparse
from pathlib import Path

import torch

from bedgen_utils.data import load_bedrooms
from bedgen_utils.factors import CLASSIFIER, FACTORS, SIZE, labels, save_classifier, train_factors
from bedgen_utils.run import code_version
from bedgen_utils.sources import dataset_sha256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=CLASSIFIER)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = train_factors(load_bedrooms("rendered", "train", SIZE), labels("train"), seed=0)
    made_by = {"script": "data/weights/train_factors.py", "seed": 0, "commit": code_version()}
    made_by |= {"data_sha256": dataset_sha256("rendered")}
    save_classifier(network, options.out, made_by)
    truth, answers = labels("test"), network.read(load_bedrooms("rendered", "test", SIZE))
    for k, name in enumerate(FACTORS):
        commonest = truth[:, k].bincount().max().item() / len(truth)
        right = (answers[:, k] == truth[:, k]).float().mean().item()
        print(f"{name:18s} {right:.3f}, commonest class {commonest:.3f}")


if __name__ == "__main__":
    main()
