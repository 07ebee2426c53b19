"""With pytest-xdist each worker computes on one thread: two workers on two cores, and neither waits for the other."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    torch.set_num_threads(1)
