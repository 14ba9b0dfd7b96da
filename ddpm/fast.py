"""What is done for speed: everything that depends on the machine is decided here, or named here.

- **bfloat16** for convolutions and products, where the device multiplies it in hardware (`has_fast_bfloat16`). Weights,
  optimiser and averages stay float32.
- **float32 where bfloat16 hurts**: the first two convolutions, where little noise still lies on a large image
  (`unet.blocks.Float32Conv2d`), and GroupNorm, whose backward in bfloat16 is up to four times slower on a CPU
  (`unet.blocks.GroupNorm`). On a GPU torch lets cuDNN round what a float32 convolution multiplies to TF32, unless
  `torch.backends.cudnn.allow_tf32` is False, as the chapters set it.
- **Weights converted once a walk**, not in every call (`prepared`, through `NetworkDenoiser.many_calls`).
- **Kernels recorded once a walk** on a GPU and replayed in every further call (`Recorded`, through the same): Python
  takes longer to launch a small network's kernels one by one than the GPU takes to run them.
- **Channels-last memory**, which convolutions are written for (`network` of every configuration).
- **Attention** by the fused kernel, but by the plain formula in training on a CPU, where the fused kernel's backward is
  ten times slower in bfloat16 (`unet.blocks.attention`).
- **Freed memory is kept** in training on a CPU (`keep_freed_memory`).
- **No waiting in a loop**: coefficients are Python floats; a training step waits only for its loss, to check that it is
  finite.

What each is worth, on which machine: `benchmarks/speed.py`.
"""

import ctypes
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = [
    "Recorded", "chosen_device", "computes_in_bfloat16", "has_fast_bfloat16", "in_walk", "keep_freed_memory",
    "prepared",
]  # fmt: skip


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware, faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether convolutions and matrix products of this precision, "auto" or "float32", are bfloat16 on this device."""
    return precision == "auto" and has_fast_bfloat16(device)


def chosen_device(device: str | torch.device) -> torch.device:
    """The device of this name; "auto" is a GPU with CUDA where there is one.

    Raises:
        ValueError: torch knows no such device, or finds none here.
    """
    if device != "auto":
        try:
            torch.empty(0, dtype=torch.float32, device=torch.device(device))
            return torch.device(device)
        except (RuntimeError, TypeError, AssertionError, ImportError) as error:  # which depends on torch's build
            raise ValueError(
                f"device is {device!r}, which torch does not find here; legal are auto and what it finds, such as cpu"
            ) from error
    own = os.environ.get("LOCAL_RANK")  # a launcher's process has a GPU of its own
    return torch.device(("cuda" if own is None else f"cuda:{own}") if torch.cuda.is_available() else "cpu")


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for this process's next use; returns whether there is a glibc to ask."""
    m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2  # malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # macOS, Windows, musl
        return False
    return all(mallopt(*setting) for setting in ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**26)))


_one_recording = threading.Lock()  # of a process at a time


class Recording:
    """A network's kernels for one shape of input, in a CUDA graph.

    Args:
        network: its answer must be a tensor, and it may not wait for the device.
        inputs: images on a GPU, as they will be given, their times, and their labels where there are any.
    """

    def __init__(self, network: nn.Module, *inputs: Tensor) -> None:
        x = inputs[0]
        self.inputs = [each.clone() for each in inputs]
        self.graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(x.device)
        before = torch.cuda.current_stream(x.device)
        with _one_recording, torch.cuda.device(x.device):
            try:
                with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                    self.answer: Tensor = network(*self.inputs)
            finally:
                torch.cuda.set_stream(before)  # which a recording that cannot begin leaves behind

    def __call__(self, *inputs: Tensor) -> Tensor:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.answer.clone()


class Recorded:
    """A network on a GPU that records its kernels and replays them (CUDA graphs), for every shape of input anew.

    The first calls of a shape go to the network itself, which also makes what libraries make at first use. So do calls
    that gradients are asked of, and all calls of a network that cannot be recorded, such as one that looks at a value.
    """

    FIRST_CALLS = 2  # of a shape, before it is recorded

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._calls: Counter[Any] = Counter()
        self._recordings: dict[Any, Recording | None] = {}  # None for what cannot be recorded
        self._lock = threading.Lock()  # a recording has one place for its input and its answer

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Images (batch, channels, height, width), times (batch,) and labels, if any -> what the network answers."""
        if not torch.is_grad_enabled():
            with self._lock:
                recording = self._recording(inputs)
                if recording is not None:
                    return recording(*inputs)
        return cast(Tensor, self.network(*inputs))

    def _recording(self, inputs: Sequence[Tensor]) -> Recording | None:
        """The recording for inputs of these shapes, if there is one by now."""
        x = inputs[0]
        kind = x.device.type
        key = (
            *((each.shape, each.dtype, each.device) for each in inputs), torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind),
            torch.cuda.current_stream(x.device) if kind == "cuda" and torch.cuda.is_initialized() else None,
        )  # fmt: skip
        self._calls[key] += 1
        if key not in self._recordings and self._calls[key] > self.FIRST_CALLS:
            try:
                self._recordings[key] = Recording(self.network, *inputs)
            except RuntimeError:  # it looked at a value, or there is no memory for it
                self._recordings[key] = None
        return self._recordings.get(key)


class _Prepared:
    """A network's form for walks, made where it is first asked for and again where the weights have changed since."""

    def __init__(self, network: nn.Module, in_bfloat16: bool) -> None:
        self.network, self.in_bfloat16 = network, in_bfloat16
        self.layers = [module for module in network.modules() if module._parameters or module._buffers]
        self.left_alone = any(map(_is_bound, network.modules()))
        self.walks = 0  # that are under way
        self._made: nn.Module | Recorded = network
        self._made_of: list[tuple[Any, ...]] = []

    def latest(self) -> "nn.Module | Recorded":
        """What a walk calls now."""
        kept = (each for layer in self.layers for each in (*layer._parameters.values(), *layer._buffers.values()))
        weights = [weight for weight in kept if weight is not None]
        state = [(id(weight), _version(weight), _place(weight), weight.dtype, weight.device) for weight in weights]
        if not self.left_alone and state != self._made_of:
            form = self.network
            if self.in_bfloat16:
                with torch.enable_grad():  # gradients of a walk reach the network's own weights
                    form = _in_bfloat16(self.network, {})
            on_gpu = any(weight.device.type == "cuda" for weight in weights)
            self._made, self._made_of = Recorded(form) if on_gpu else form, state
        return self._made


_prepared: dict[tuple[nn.Module, bool], _Prepared] = {}
_lock = threading.Lock()


@contextmanager
def prepared(network: nn.Module, in_bfloat16: bool) -> Iterator[None]:
    """A context for a walk: in it `in_walk` answers a network's form for many calls.

    In bfloat16 this has bfloat16 weights in convolutions and linear layers. Under autocast it computes, bit for bit,
    what the network itself does, and leaves autocast no weights to convert. It is a second network over the same
    tensors, of which only the converted weights are copies. On a GPU the form is `Recorded`. All walks share it, in
    whichever thread, and the last one drops it; the network stays as it is. Layers of a derived class, such as
    `unet.blocks.Float32Conv2d`, are left alone. So is a network that is compiled or has hooks: these know the modules
    that they were made for.
    """
    key = network, in_bfloat16
    with _lock:
        form = _prepared.setdefault(key, _Prepared(network, in_bfloat16))
        form.walks += 1
    try:
        yield
    finally:
        with _lock:
            form.walks -= 1
            if not form.walks:
                del _prepared[key]


def in_walk(network: nn.Module, in_bfloat16: bool) -> "nn.Module | Recorded":
    """What to call for a network, in bfloat16 under autocast: its prepared form while a walk is under way."""
    with _lock:
        form = _prepared.get((network, in_bfloat16))
        return network if form is None else form.latest()


def _is_bound(module: nn.Module) -> bool:
    """Whether a call of this module runs what was made for it alone: hooks, a compiled form, a `forward` of its own."""
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return compiled or bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in vars(module)


def _version(weight: Tensor) -> int:
    """A number that every change in place raises."""
    return 0 if weight.is_inference() else weight._version


def _place(weight: Tensor) -> int:
    """Where it lies in memory, which an assignment to `weight.data` changes; 0 for a tensor without values."""
    try:
        return weight.data_ptr()
    except RuntimeError:
        return 0


def _in_bfloat16(part: Any, done: dict[int, Any]) -> Any:
    """A module over rounded weights. By id, `done` holds what is made already, as parts may be shared."""
    if part is None or id(part) in done:
        return done.get(id(part))
    done[id(part)] = new = object.__new__(type(part))
    new.__dict__.update(part.__dict__)
    new.__dict__["_modules"] = {name: _in_bfloat16(child, done) for name, child in part._modules.items()}
    if type(part) in (nn.Conv2d, nn.Linear):
        new.__dict__["_parameters"] = {name: _rounded(weight, done) for name, weight in part._parameters.items()}
    return new


def _rounded(weight: Tensor | None, done: dict[int, Any]) -> Tensor | None:
    if weight is None or weight.dtype != torch.float32:
        return weight
    if id(weight) not in done:
        done[id(weight)] = weight.to(torch.bfloat16)
    return cast(Tensor, done[id(weight)])
