"""Every test draws the same numbers whichever ran before it, and on how many cores.

With pytest-xdist each worker computes on one thread: two workers on two cores, and neither waits
for the other.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_collection_modifyitems(items):
    """The longest group first: the other worker does the rest meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
