def pytest_collectstart(collector):
    if collector.path and collector.path.suffix == ".ipynb":
        collector.skip_compare += ("stderr", "application/vnd.ddpm.record+json")
