import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as make has it: the bits depend on the number, and two workers share


def pytest_collectstart(collector):
    if collector.path and collector.path.suffix == ".ipynb":
        collector.skip_compare += ("stderr", "application/vnd.ddpm.record+json")
