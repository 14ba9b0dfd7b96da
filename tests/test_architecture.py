"""What the design fixes: which module may import which, and how large the files that ship may grow."""

import ast
import importlib
import subprocess
import sys

import pytest

from ddpm._moved import MOVED
from tests.checkout import ROOT

PACKAGE = ROOT / "ddpm"
LAYERS = [  # each may import from those before it
    {"arguments", "settings", "shapes", "files", "messages", "fast", "extras", "_moved"},
    {"grids"},
    {"noise", "schedule", "threads", "unet"},
    {"targets"},
    {"model_settings", "denoiser"},
    {"data"},
    {"autoencoder"},
    {"gan", "diffusion"},
    {"oracles", "samplers", "interop", "metrics"},
    {"edict", "langevin", "likelihood"},
    {"walks"},
    {"sampling"},
    {"round_trip", "network_calls"},
    {"own_parts", "model_files"},
    {"training"},
    {"pretrained"},
    {"distillation"},
    {"__init__", "assets", "companion"},
    {"cli"},
    {"__main__"},
]
# These import nothing but how settings and arguments are checked and samples laid out, and schedule its grids.
STAND_ALONE = {"grids", "unet", "noise", "schedule", "threads", "files", "fast"}
NETWORKS = {"autoencoder", "gan"}  # these know nothing of diffusion


EVERY_MODULE = {path.stem for path in PACKAGE.iterdir()}


def imports(path):
    """Names of the package's modules a file imports, at its top and inside functions.

    What the package itself offers, such as `ddpm.sample`, comes from its `__init__`.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ddpm":
            parts = node.module.split(".")
            names = {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
            found |= {name if name in EVERY_MODULE else "__init__" for name in names}
        elif isinstance(node, ast.Import):
            found |= {
                a.name.split(".")[1] if "." in a.name else "__init__"
                for a in node.names
                if a.name.split(".")[0] == "ddpm"
            }
    return found


def layer(module):
    level = next((i for i, names in enumerate(LAYERS) if module in names), None)
    assert level is not None, f"{module} is in no layer: name it in LAYERS of tests/test_architecture.py"
    return level


FOLDERS = (".", "denoiser", "schedule", "unet", "data", "training", "metrics", "interop", "cli")
FILES = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).glob("*.py"))]


def module_of(path):
    """The first name below `ddpm`: a folder's files are one module."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_imports_run_downward_only():
    modules = {module_of(path) for path in FILES}
    for path in FILES:
        layer(module_of(path))
        for name in (imports(path) & (modules | {"companion"})) - {module_of(path)}:
            assert layer(name) < layer(module_of(path)), f"{path} imports {name}"
        if module_of(path) in STAND_ALONE:
            its_own = {"grids"} if module_of(path) == "schedule" else set()
            assert imports(path) <= {module_of(path), "settings", "arguments", "shapes"} | its_own, path
        if module_of(path) in NETWORKS:
            checks = {"arguments", "model_settings", "settings"}
            assert imports(path) <= checks | {"autoencoder", "data", "noise", "unet"}, path


def test_only_the_command_line_knows_the_companion_and_only_when_asked():
    for path in FILES:
        tree = ast.parse(path.read_text())
        top = ast.unparse(ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], []))
        assert "companion" not in top
        assert module_of(path) == "cli" or "companion" not in imports(path)


def test_the_command_line_asks_for_torch_only_when_a_command_runs():
    program = "import sys, ddpm.cli; print([name for name in ('torch', 'numpy', 'accelerate') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("kind", "setting"), [("diffusion", "schedule='foo'"), ("autoencoder", "latent_dim=0"), ("gan", "games='x'")]
)
def test_a_recipe_refuses_wrong_settings_before_it_loads_torch(kind, setting):
    program = f"import sys; from ddpm.training.recipes import recipe\ntry: recipe({kind!r}, {setting})\n"
    program += "except ValueError: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_drawing_from_the_command_line_imports_nothing_slow_beside_torch(tmp_path):
    command = f"'sample', '--n', '1', '--sampler', 'ddim', '--steps', '1', '--out', {str(tmp_path / 'one.png')!r}"
    program = f"import sys, ddpm.cli; ddpm.cli.app([{command}], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "torch" in imported
    assert not imported & {"accelerate", "diffusers", "matplotlib", "pandas", "scipy", "torchvision"}


MODULES = [path for path in [*FILES, *sorted(PACKAGE.glob("companion/*.py"))] if path.stem != "__main__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_offers(path):
    """`__all__` names things that are there, each once."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    module = importlib.import_module(".".join(("ddpm", *(part for part in parts if part != "__init__"))))
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_modules_of_version_0_1_are_found_under_their_old_names():
    for old, new in MOVED.items():
        assert importlib.import_module(old) is importlib.import_module(new)
        assert importlib.import_module(new).__spec__.name == new


OLD_PLACES = [  # where names stood in versions 0.1.0 and 0.2.0, and where they stand now
    ("ddpm.denoiser", "ddpm.targets", ["TARGETS", "Prediction", "Target", "prediction_of", "target_of"]),
    ("ddpm.metrics.distances", "ddpm.metrics.comparison", ["Distance"]),
    ("ddpm.schedule", "ddpm.grids", ["NOISE_ALONE", "SPACINGS", "Spacing", "check_grid", "check_start"]),
    ("ddpm.round_trip", "ddpm.edict", ["coupled_round_trip", "edict", "invert_edict"]),
    ("ddpm.round_trip", "ddpm.samplers", ["invert_heun"]),
    ("ddpm.sampling", "ddpm.walks", ["SAMPLERS", "sampler_named"]),
]


@pytest.mark.parametrize(("old", "new", "names"), OLD_PLACES)
def test_names_of_earlier_versions_are_found_in_their_old_places(old, new, names):
    for name in names:
        assert getattr(importlib.import_module(old), name) is getattr(importlib.import_module(new), name)


def test_what_ships_stays_small():
    assert max(p.stat().st_size for p in (PACKAGE / "assets").rglob("*") if p.is_file()) <= 16 * 2**20
    assert (PACKAGE / "assets" / "fashion-mnist-embedded.npz").stat().st_size <= 6e6
