"""What the design fixes: which module may import which, and how long a file may grow."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ddpm"
LAYERS = [  # each may import from those before it
    {"noise", "schedule", "unet", "files", "fast", "optimisers", "signals", "averages"},
    {"denoiser", "data", "checkpoint", "training_config"},
    {"pictures", "run"},
    {"autoencoder"},
    {"gan"},
    {"oracles", "samplers", "interop", "features"},
    {"langevin", "likelihood"},
    {"round_trip", "sampling"},
    {"diffusion", "fidelity", "metrics"},
    {"batches", "pretrained"},
    {"training"},
    {"recipes"},
    {"__init__", "assets", "companion"},
    {"cli"},
    {"__main__"},
]
STAND_ALONE = {"unet", "noise", "schedule", "files", "fast", "optimisers"}


def imports(path):
    """Names of the package's modules a file imports, at its top and inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ddpm":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                a.name.split(".")[1] if "." in a.name else "__init__"
                for a in node.names
                if a.name.split(".")[0] == "ddpm"
            }
    return found


def layer(module):
    (level,) = [i for i, names in enumerate(LAYERS) if module in names]
    return level


FILES = [path for folder in (".", "unet", "interop", "cli") for path in sorted((PACKAGE / folder).glob("*.py"))]


def module_of(path):
    """The first name below `ddpm`: a folder's files are one module."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_imports_run_downward_only():
    modules = {module_of(path) for path in FILES}
    for path in FILES:
        for name in (imports(path) & (modules | {"companion"})) - {module_of(path)}:
            assert layer(name) < layer(module_of(path)), f"{path} imports {name}"
        if module_of(path) in STAND_ALONE:
            assert imports(path) <= {module_of(path)}, path
        if module_of(path) in ("autoencoder", "gan"):  # they know nothing of diffusion
            assert imports(path) <= {"autoencoder", "data", "noise", "unet"}, path


def test_only_the_command_line_knows_the_companion_and_only_when_asked():
    for path in FILES:
        tree = ast.parse(path.read_text())
        top = ast.unparse(ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], []))
        assert "companion" not in top
        assert module_of(path) == "cli" or "companion" not in imports(path)


def test_files_stay_small():
    def lines(*paths):
        return sum(len(path.read_text().splitlines()) for path in paths)

    assert lines(*FILES) < 5700
    assert lines(*PACKAGE.glob("companion/*.py"), *PACKAGE.glob("assets/*.py")) < 1200
    assert lines(PACKAGE / "samplers.py", PACKAGE / "langevin.py") < 400
    assert all(lines(path) < 250 for path in PACKAGE.glob("unet/*.py"))
    assert lines(PACKAGE / "training.py", PACKAGE / "checkpoint.py") < 350
    assert max(p.stat().st_size for p in (PACKAGE / "assets").rglob("*") if p.is_file()) <= 16 * 2**20
    assert (PACKAGE / "assets" / "fashion-mnist-embedded.npz").stat().st_size <= 6e6
