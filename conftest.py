import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as make has it: the bits depend on the number, and two workers share
os.environ.pop("MPLBACKEND", None)  # the gate's kernels draw into the notebook


def pytest_configure(config):
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the numbers and bits that tests compare with are a CPU's
    config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "notebooks" / "sanitize.cfg")  # from any folder


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is not None:
        import torch  # after pytest_configure, as torch reads the variable once

        if not torch.cuda.is_available():
            end = pytest.fail if item.config.option.markexpr == "gpu" else pytest.skip
            end("needs a GPU")


def pytest_collectstart(collector):
    if collector.path and collector.path.suffix == ".ipynb":
        collector.skip_compare += ("stderr", "application/vnd.ddpm.record+json")  # of nbval: they differ by machine
