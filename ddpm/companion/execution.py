"""Execute one notebook by papermill, in a kernel of this very interpreter, whatever a machine's Jupyter is set to."""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import papermill
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError
from papermill.exceptions import PapermillExecutionError
from traitlets import default

__all__ = ["Unfinished", "end_kernels", "executed"]

PATIENCE = 300  # seconds in which a kernel starts on a busy machine
LOG = "log"
_kernels: list[AsyncKernelManager] = []  # of this process, whether they still run or not
logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it says is said here, in one line


class Unfinished(Exception):
    """A notebook did not come to its end; the message follows "NAME failed"."""


def executed(
    notebook: Path,
    target: Path,
    parameters: Mapping[str, Any],
    threads: int | None = None,
    at_cell: Callable[[], None] = lambda: None,
) -> Any:
    """A notebook that was executed, in the folder it lies in, and saved.

    Args:
        notebook: the file.
        target: where it is saved after every cell, so that the outputs of one that fails are there, too.
        parameters: values for its parameters cell.
        threads: threads of the CPU that its kernel computes with; None leaves them to the notebook.
        at_cell: called when a cell starts.

    Raises:
        Unfinished: a cell has raised an error, the kernel has died or not started, or the disk is full.
    """
    place = ": the kernel did not start"

    def remember(cell: Any, cell_index: int) -> None:
        nonlocal place
        at_cell()
        first_line = (cell["source"].splitlines() or [""])[0]
        place = f": the kernel died in cell {cell_index}, {first_line!r}"

    with tempfile.TemporaryDirectory(prefix="ddpm-kernel-", ignore_cleanup_errors=True) as own:
        try:
            result = papermill.execute_notebook(
                _literal(notebook), _literal(target), parameters=parameters,
                kernel_name="python3", language="python", start_timeout=PATIENCE, on_cell_start=remember,
                kernel_manager_class=kernel_manager(Path(own), threads, notebook.parent), progress_bar=False,
            )  # fmt: skip
        except PapermillExecutionError as error:
            traceback = error.traceback or [f"{error.ename}: {error.evalue}"]
            raise Unfinished("\n".join([f" in cell {error.cell_index}:", error.source, *traceback])) from error
        except RuntimeError as error:  # of nbclient and jupyter_client
            why = last_words(Path(own)) or "without a word, as one does that needs more memory than there is"
            raise Unfinished(f"{place}: {why}") from error
        except (OSError, CellTimeoutError) as error:
            raise Unfinished(f": {error}") from error
    _check_finished(result)
    return result


def _literal(path: Path) -> str:
    """A path as papermill takes it, which fills in what stands in braces."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def _check_finished(notebook: Any) -> None:
    """Raise `Unfinished` if a cell has not run: papermill takes `sys.exit()` for a good end."""
    for number, cell in enumerate(notebook["cells"]):
        skipped = "skip-execution" in cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and cell["source"].strip() and not skipped and cell["execution_count"] is None:
            raise Unfinished(f": it ended before cell {number}")


class ThisInterpreter(KernelSpecManager):
    """Finds the kernel of `sys.executable` under every name, and none that a person or a site has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel."""
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def kernel_manager(folder: Path, threads: int | None, cwd: Path) -> type[AsyncKernelManager]:
    """A class by which nbclient starts this interpreter as a kernel.

    A chapter's provenance names the versions of this interpreter, so no other may run it. Figures go into the notebook
    whatever MPLBACKEND is. Neither a person's profile of IPython nor a home folder is used.

    Args:
        folder: an empty folder for the files of one kernel: its profile, and what it prints outside cells.
        threads: threads of the CPU that the kernel computes with, by which `ddpm.threads` abides; None leaves them to
            the notebook.
        cwd: the folder that the kernel works in. papermill's argument of this name changes that of this process, which
            may have several kernels.
    """

    class OwnKernelManager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _this_interpreter(self) -> KernelSpecManager:
            return ThisInterpreter()

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            variables = {
                **os.environ,
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                "IPYTHONDIR": str(folder),
                "JUPYTER_RUNTIME_DIR": str(folder),
            }
            if threads is not None:
                variables["OMP_NUM_THREADS"] = str(threads)
            options["cwd"] = str(cwd.absolute())
            with open(folder / LOG, "w", encoding="utf-8") as log:
                await super().start_kernel(env=variables, stdout=log, stderr=log, **options)
            _kernels.append(self)

    return OwnKernelManager


def end_kernels() -> None:
    """Kill the kernels of this process that still run; what they execute then raises `Unfinished`."""
    for kernel in _kernels:
        if (process := getattr(kernel.provisioner, "process", None)) is not None:
            process.kill()


def last_words(folder: Path) -> str:
    """The last line that the kernel of a folder printed outside cells, such as the error that ended it; "" if none."""
    log = folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    said = [line for line in lines if line.strip() and not line.startswith("[IPKernelApp]")]
    return said[-1] if said else ""
