"""Every sampler, wrapper, loss and oracle on devices that this machine need not have, and under torch's other defaults.

A GPU is stood for by torch's fake tensors, which have a device, a shape and a type but no values. So the tests see, on
any machine, whether a value is asked for, for which a GPU would be waited for; and whether anything there is float64,
which Apple's MPS does not have.
"""

import ast
import contextlib
import copy
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ddpm
from ddpm import edict, langevin, likelihood, round_trip, samplers
from ddpm.autoencoder import AutoencoderConfig
from ddpm.denoiser import Clipped, Guided, NetworkDenoiser
from ddpm.diffusion import DiffusionConfig
from ddpm.distillation import Distillation
from ddpm.gan import GANConfig
from ddpm.metrics.features import feature_network
from ddpm.metrics.fidelity import fidelity, psnr, ssim
from ddpm.metrics.judge import judge
from ddpm.noise import PerSampleNoise, StepRandomness
from ddpm.oracles import EmpiricalData, Gaussian, GaussianMixture
from ddpm.sampling import sample
from ddpm.schedule import SCHEDULES, exploding, linear, straight, zero_terminal_snr
from ddpm.targets import TARGETS
from ddpm.training import recipe, train
from ddpm.unet import UNet, UNetConfig
from ddpm.walks import SAMPLERS
from tests.defaults import default
from tests.forked import in_a_fork
from tests.networks import stirred

SMALL = UNetConfig(1, 4, (1, 2), 1, attention_levels=(), head_channels=8)
SCHEDULE = linear()
GRID = SCHEDULE.timesteps(3)
GAUSSIAN = Gaussian(0.0, 0.5, SCHEDULE)


class Accelerator(TorchDispatchMode):
    """A device without values and without float64, which counts how often the program waits for its values.

    It is "cuda" under torch's fake tensors, or the meta device, which can also go backward on a machine without CUDA.
    Whatever is asked of it, the answer is yes or one. On the CPU a value can be read without waiting.
    """

    def __init__(self, device):
        super().__init__()
        self.device, self.waits = device, 0
        self.fake = FakeTensorMode(allow_non_fake_inputs=True) if device == "cuda" else contextlib.nullcontext()

    def __enter__(self):
        self.fake.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.fake.__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        is_there = any(tensor.device.type == self.device for tensor in tensors_of((args, kwargs)))
        if operation is torch.ops.aten._local_scalar_dense.default and (is_there or self.device == "cuda"):
            self.waits += is_there
            return args[0].dtype == torch.bool or 1.0
        out = operation(*args, **(kwargs or {}))
        for made in tensors_of(out):
            self.waits += is_there and made.device.type == "cpu"
            if made.device.type == self.device and made.dtype == torch.float64:
                raise TypeError(f"cannot make a float64 tensor on this device ({operation})")
        return out


def tensors_of(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def move(thing, device):
    """Put a network's weights on the device, or those of all networks in a denoiser."""
    if not isinstance(thing, torch.nn.Module):
        for name in ("denoise", "guide", "network"):
            if hasattr(thing, name):
                move(getattr(thing, name), device)
        return thing
    for module in thing.modules():
        for kept in (module._parameters, module._buffers):
            for name, value in kept.items():
                if value is not None:
                    there = torch.zeros_like(value, device=device)
                    is_weight = isinstance(value, torch.nn.Parameter)
                    kept[name] = torch.nn.Parameter(there, value.requires_grad) if is_weight else there
    return thing


# What is done there. Each is called on the CPU, where it makes what has values; what that returns is called there.


def images(device):
    return torch.zeros(2, 1, 8, 8, device=device)


def network_denoiser(target="v"):
    schedule = straight() if target == "flow" else SCHEDULE
    return NetworkDenoiser(UNet(SMALL).requires_grad_(False), schedule, target, "auto", (1, 8, 8))


def there(work):
    """Something that needs nothing from the CPU."""
    return lambda: work


def walk(sampler, *arguments, **options):
    return there(lambda device: list(sampler(GAUSSIAN, images(device), GRID, *arguments, **options)))


def answers(make):
    """All that a denoiser knows: at a time, below time 1, and at a time for each image."""

    def on_cpu():
        denoise = make()

        def everything(device):
            x = images(device).reshape(2, *move(denoise, device).image_shape)
            several = torch.tensor([1, 1000], device=device), torch.tensor([0.5, 1000.0], device=device)
            calls = [getattr(denoise, name) for name in ("__call__", "score", "log_density") if hasattr(denoise, name)]
            return [call(x, t) for call, t in itertools.product(calls, (500, 0.5, *several))]

        return everything

    return on_cpu


def losses(make_task):
    """The losses of a training step; with their gradients where this machine can go backward on the device."""

    def on_cpu():
        task = make_task()

        def step(device):
            for network in (*task.parts.values(), *([task.teacher] if isinstance(task, Distillation) else ())):
                move(network, device)
            for name, part in task.parts.items():
                loss = task.loss(name, images(device), StepRandomness(0, 1, 2))
                if device == "meta":
                    loss.backward()
                    assert all(weight.grad is not None for weight in part.parameters())

        return step

    return on_cpu


def latent(config, work):
    """Something that is done with a model of codes."""

    def on_cpu():
        model = config.network().eval()
        return lambda device: work(move(model, device), device)

    return on_cpu


def drawn(make, n, **options):
    def on_cpu():
        model = make()
        return lambda device: sample(move(model, device), n, progress=False, **options)

    return on_cpu


def chain(metropolis):
    def moves(device):
        score = langevin.score_at(GAUSSIAN, 5)
        options = {"step_size": 0.1, "steps": 5, "randn_like": PerSampleNoise(0)}
        if metropolis:
            walk = langevin.metropolis_langevin(lambda x: GAUSSIAN.log_density(x, 5), score, images(device), **options)
        else:
            walk = langevin.langevin(score, images(device), **options)
        return list(walk)

    return moves


def parameters_there(device):
    """Oracles whose parameters are there, too."""
    ones = torch.ones(2, device=device)
    mixture = GaussianMixture(ones, torch.zeros(2, 64, device=device), ones, SCHEDULE)
    gaussian = Gaussian(torch.zeros(1, 8, 8, device=device), 0.5, SCHEDULE)
    return mixture(images(device).flatten(1), 5), gaussian(images(device), 5)


def data_there(device):
    data = EmpiricalData(torch.zeros(5, 1, 8, 8, device=device), SCHEDULE)
    return answers(lambda: data)()(device), data.sample(3)


def schedule_there(device):
    x, t = images(device), torch.tensor([1, 1000], device=device)
    return SCHEDULE.add_noise(x, t, x), SCHEDULE.add_noise(x, 5, x), SCHEDULE.signal(t), SCHEDULE.noise(t.float())


AUTOENCODERS = {
    f"{'variational ' * variational}autoencoder, {loss}": AutoencoderConfig((1, 8, 8), 8, (1, 2), 3, variational, loss)
    for variational, loss in itertools.product((False, True), ("mse", "bce", "logistic"))
}
GANS = {
    f"{architecture} GAN, {game}, r1 {r1}": GANConfig((1, 8, 8), architecture, 8, (1, 2), 3, game, r1)
    for architecture, game, r1 in itertools.product(("convolutional", "mlp"), ("non-saturating", "minimax"), (0.0, 1.0))
}
DIFFUSIONS = {
    f"diffusion, {target}, {' '.join(map(str, settings.values()))}": DiffusionConfig(
        SMALL, "straight" if target == "flow" else "linear", target=target, **settings
    )
    for target, settings in itertools.product(
        TARGETS, ({}, {"weighting": "bound"}, {"times": "lognormal", "uniform_share": 0.1}, {"weighting": "min_snr"})
    )
    if settings.get("weighting") != "min_snr" or target != "flow"
}
VAE, GAN = AUTOENCODERS["variational autoencoder, mse"], GANS["convolutional GAN, non-saturating, r1 1.0"]
STUDENT = DiffusionConfig(SMALL, target="v", distilled_for=2, distilled_from=8)
STUDENTS = {
    f"student, {rule}": losses(lambda midpoint=midpoint: Distillation(STUDENT, STUDENT.network(), midpoint))
    for rule, midpoint in {"midpoint rule": True, "moves of DDIM": False}.items()
}
KINDS = DIFFUSIONS | AUTOENCODERS | GANS
TRAININGS = {name: losses(config.task) for name, config in KINDS.items()} | STUDENTS
WORK = {
    **{name: walk(sampler) for name, sampler in SAMPLERS.items()},
    "ancestral, large": walk(samplers.ancestral, variance="large"),
    "ddim, eta 1": walk(samplers.ddim, eta=1.0),
    "heun, sigma": walk(samplers.heun, coordinates="sigma"),
    "heun, churn": walk(samplers.heun, churn=10.0),
    "every sample's own noise": walk(samplers.ancestral, randn_like=PerSampleNoise(3)),
    "invert": walk(samplers.invert),
    "invert_heun": walk(samplers.invert_heun),
    "round_trip": walk(round_trip.round_trip),
    "cycles": walk(round_trip.cycles, 2),
    "inverted_round_trip": walk(round_trip.inverted_round_trip),
    "inverted_round_trip, order 2": walk(round_trip.inverted_round_trip, order=2),
    "coupled_round_trip": walk(edict.coupled_round_trip),
    **{f"network, {target}": answers(lambda target=target: network_denoiser(target)) for target in TARGETS},
    "clipped": answers(lambda: Clipped(network_denoiser())),
    "guided": answers(lambda: Guided(network_denoiser(), network_denoiser(), 2)),
    "gaussian": answers(lambda: Gaussian(torch.zeros(1, 8, 8), 0.5, SCHEDULE)),
    "mixture": answers(lambda: GaussianMixture([1.0, 2.0], torch.zeros(2, 64), [0.0, 0.1], SCHEDULE)),
    "schedule": there(schedule_there),
    "code of an image": latent(VAE, lambda model, device: model.encode(images(device))),
    "image of a code": latent(VAE, lambda model, device: model.decode(torch.zeros(2, 3, device=device))),
    "sample of a latent model, three chunks": drawn(lambda: GAN.network().eval(), 6, chunk=2),
    "data there": there(data_there),
    "langevin": there(chain(metropolis=False)),
    "metropolis": there(chain(metropolis=True)),
    "final": there(lambda device: samplers.final(samplers.ddim(GAUSSIAN, images(device), GRID))),
    "sample, three chunks": drawn(network_denoiser, 6, steps=1, chunk=2),
    "variational_bound": there(lambda device: likelihood.variational_bound(GAUSSIAN, images(device), GRID, levels=256)),
    "importance_bound": latent(
        VAE, lambda model, device: likelihood.importance_bound(model, images(device), 2, levels=256)
    ),
    "bits_per_dimension": there(lambda device: likelihood.bits_per_dimension(torch.ones(2, device=device), 5)),
    "psnr": there(lambda device: psnr(images(device), images(device))),
    "ssim": there(lambda device: ssim(images(device), images(device))),
}
TO_CPU = {  # what goes to the CPU, which a meta tensor cannot
    "parameters there": there(parameters_there),
    "fidelity": there(lambda device: fidelity(images(device), images(device))),
}
#: What waits for the device by design, how often, and why. No walk, no denoiser and no loss does.
WAITS = {
    "data there": (1, "the images must be finite, which is asked once, when they are taken"),
    "langevin": (2, "whether the start is finite, and whether it diverged, which is asked after the last move"),
    "metropolis": (4, "the chain, its density and its score must be finite where it begins, and no NaN by its end"),
    "final": (1, "the last state must be finite, as the states before are not looked at"),
    "sample, three chunks": (3, "`final`, once a chunk"),
    "variational_bound": (2, "the images must be finite, and so must the bound"),
    "importance_bound": (3, "the images must be finite, and so must the bound; sigma is read once"),
    "bits_per_dimension": (1, "a NaN must not go on as a figure"),
    "psnr": (2, "both images must be finite"),
    "ssim": (2, "both images must be finite"),
    "parameters there": (4, "parameters are kept on the CPU in float64, to which they go when they are given"),
    "fidelity": (4, "both images must be finite, and go to the CPU to be compared"),
}


@pytest.mark.parametrize("make", [network_denoiser, lambda: GAUSSIAN])
@in_a_fork
def test_times_on_the_cpu_go_with_images_elsewhere(make):
    denoise = make()
    with Accelerator("cuda"):
        move(denoise, "cuda")
        for t in (torch.tensor([1, 1000]), torch.tensor([0.5, 1000.0])):
            assert denoise(images("cuda"), t).eps.device.type == "cuda"


@pytest.mark.parametrize(
    ("name", "where"), [(name, "cuda") for name in (*WORK, *TO_CPU)] + [(name, "meta") for name in WORK]
)
@in_a_fork
def test_only_what_must_wait_waits_for_a_device_and_nothing_there_is_float64(name, where):
    work = (WORK | TO_CPU)[name]()
    with Accelerator(where) as device:
        work(where)
    assert device.waits == WAITS.get(name, (0, ""))[0]


@pytest.mark.parametrize(
    ("name", "where"),
    [(name, "meta") for name in TRAININGS] + [(name, "cuda") for name in TRAININGS if "r1 1" not in name],
)
@in_a_fork
def test_a_training_step_waits_for_nothing_and_has_no_float64(name, where):
    """On "cuda" without the gradient penalty, for which torch must go backward on a GPU that is there."""
    step = TRAININGS[name]()
    with Accelerator(where) as device:
        step(where)
    assert device.waits == 0


@in_a_fork
def test_the_density_is_found_without_float64(monkeypatch):
    """The solver's time in float32, as on a device without float64, here on the CPU and under a mode that sees it."""

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            out = operation(*args, **(kwargs or {}))
            assert not any(made.dtype == torch.float64 for made in tensors_of(out)), operation
            return out

    torch.manual_seed(0)
    x = torch.randn(2, 1, 8, 8)
    denoise = NetworkDenoiser(UNet(SMALL).requires_grad_(False), SCHEDULE, "v")
    torch.nn.init.normal_(denoise.network.conv_out.weight, std=0.3)
    exact = likelihood.flow_nll(denoise, x, 300, randn_like=PerSampleNoise(0))
    monkeypatch.setattr(likelihood, "_type_of_time", lambda x: torch.float32)
    with NoFloat64():
        found = likelihood.flow_nll(denoise, x, 300, randn_like=PerSampleNoise(0))
    assert (found - exact).abs().max() < 1e-2
    assert (exact[0] - exact[1]).abs() > 1


def test_the_solvers_time_is_float64_on_a_cpu_and_where_the_images_are():
    types = {
        (device, dtype): likelihood._type_of_time(torch.empty(1, dtype=dtype, device=device))
        for device, dtype in itertools.product(("cpu", "meta"), (torch.float32, torch.float64))
    }
    assert [key for key, of_time in types.items() if of_time != torch.float64] == [("meta", torch.float32)]


@pytest.mark.parametrize("schedule", [*(SCHEDULES[name]() for name in SCHEDULES), exploding()])
def test_coefficients_without_float64_are_those_of_float64(schedule):
    """What a device without float64 computes for a time of each image, here on the CPU."""
    times = torch.tensor([0.01, 0.5, 1.0, 3.25, 500.0, 700.5, 999.0, 999.5, 1000.0])
    in_float32 = copy.copy(schedule)
    in_float32._checked = lambda t: t.float()
    signal, noise = in_float32.signal_and_noise(times)
    for found, exact in ((signal, schedule.signal(times)), (noise, schedule.noise(times))):
        assert found.dtype == torch.float32
        assert torch.allclose(found, exact.flatten(), rtol=2e-6, atol=0)


@pytest.mark.parametrize("schedule", [linear(), zero_terminal_snr(linear())])
@pytest.mark.parametrize("t", [1, 10, 100, 500, 1000])
def test_a_data_sets_denoiser_without_float64_is_that_of_float64(schedule, t):
    """Near t = 0 the nearest image is told from the others by small differences of large squares."""
    generator = torch.Generator().manual_seed(0)
    data = 2 * torch.rand(50, 1, 16, 16, generator=generator) - 1
    near = data[0] + 0.01 * torch.randn(50, 1, 16, 16, generator=generator)  # all alike but for the noise of t = 1
    for kept in (data, near):
        oracle, x = (
            EmpiricalData(kept, schedule),
            schedule.add_noise(kept[:9], t, torch.randn(9, 1, 16, 16, generator=generator)),
        )
        exact, density = oracle(x, t), oracle.log_density(x, t)
        oracle.images = oracle.images.float()
        found = oracle(x, t)
        assert found.x0.dtype == torch.float32
        assert (found.x0 - exact.x0).abs().max() < 2e-4
        assert (found.eps - exact.eps).abs().max() < 2e-4 / schedule.noise(t)
        assert (oracle.log_density(x, t) - density).abs().max() < 2e-2
        times = torch.full((9,), float(t))
        assert torch.allclose(oracle(x, times).x0, found.x0, atol=1e-5)


# Under torch's other defaults.


X = 2 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
POINTS = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
TIMES = torch.tensor([0.5, 3.0, 1000.0])


def step_of(config):
    """A training step's losses and gradients, of a model made before."""
    task = config.task()
    for part in task.parts.values():
        stirred(part)

    def step():
        made = []
        for name, part in task.parts.items():
            part.zero_grad()
            loss = task.loss(name, X, StepRandomness(0, 1, 3))
            loss.backward()
            made += [loss.detach(), *(weight.grad.clone() for weight in part.parameters())]
        return made

    return step


def all_that_oracles_know():
    schedule = linear()
    mixture = GaussianMixture([1, 2], [[0.0, 1.0], [1.0, 2.0]], 0.3, schedule)
    made = []
    for oracle in (mixture, Gaussian(POINTS[0], 0.5, schedule), EmpiricalData(POINTS, schedule)):
        for t in (5, TIMES):
            made += [*oracle(POINTS, t), oracle.score(POINTS, t), oracle.log_density(POINTS, t)]
        made.append(oracle.sample(4, torch.Generator("cpu").manual_seed(0)))
    return made


def density(x):
    return -x.square().flatten(1).sum(1) / 2


def last_of(chain):
    return list(chain)[-1]


def under_defaults():
    """What is made the same under every default, by name; networks are made before, as they follow torch's defaults."""
    denoise = NetworkDenoiser(stirred(UNet(SMALL)).requires_grad_(False), SCHEDULE, "v", "float32", (1, 8, 8))
    models = {name: stirred(config.network()).eval() for name, config in (("VAE", VAE), ("GAN", GAN))}
    own, score = PerSampleNoise, langevin.score_at(denoise, 5)
    chain = {"step_size": 0.1, "steps": 2}
    return {
        **{
            f"samples by {name}": lambda name=name: [sample(denoise, 3, name, 4, 1, progress=False)]
            for name in SAMPLERS
        },
        **{
            f"samples of a {name}": lambda model=model: [sample(model, 3, seed=1).detach()]
            for name, model in models.items()
        },
        **{f"a step of {name}": step_of(config) for name, config in (DIFFUSIONS | AUTOENCODERS | GANS).items()},
        "noise": lambda: [own(0)(X), own(0)(X.double()), StepRandomness(0, 1, 3).normal(2)],
        "strata": lambda: [StepRandomness(0, 1, 3).stratified()],
        "schedules": lambda: [SCHEDULES[name](50).alpha_bar for name in SCHEDULES],
        "coefficients": lambda: [linear().signal(TIMES), linear().noise(TIMES), *linear().coefficients(TIMES, X)],
        "a time for each image": lambda: [*denoise(X, TIMES)],
        "oracles": all_that_oracles_know,
        "langevin": lambda: [last_of(langevin.langevin(score, X, **chain, randn_like=own(0)))],
        "metropolis": lambda: [
            *last_of(langevin.metropolis_langevin(density, torch.neg, X, **chain, randn_like=own(0)))
        ],
        "a density": lambda: [likelihood.flow_nll(denoise, X, 300, tolerance=1e-3, randn_like=own(0))],
        "a bound": lambda: [*likelihood.variational_bound(denoise, X, GRID, levels=256, randn_like=own(0))],
        "a tighter bound": lambda: [likelihood.importance_bound(models["VAE"], X, 2, randn_like=own(0))],
        "similarity": lambda: [ssim(X, X.flip(0)), *fidelity(X, X.flip(0))[-3:-1]],
        "a shipped model": lambda: [sample(ddpm.load("equal-gan", "float32", "cpu"), 2, chunk=2)],
    }


UNDER_DEFAULTS = under_defaults()


@in_a_fork
def test_a_run_leaves_the_same_files_under_every_default(tmp_path):
    """The weights that it begins with and its optimiser follow torch's defaults, unless they are held."""
    full = ddpm.data.load("fashion-mnist-embedded", "train", quiet=True)
    images = replace(full, images=full.images[:8], labels=full.labels[:8])
    model, config = recipe("diffusion", base_channels=8, head_channels=8, steps=2, batch_size=2, precision="float32")
    kinds, files = ("float32", "float64", "meta"), ("model.safetensors", "checkpoints/step-00000002.safetensors")
    for kind in kinds:
        with default(kind if kind == "meta" else getattr(torch, kind)):
            train(model, images, config, tmp_path / kind, progress=False)
            assert torch.get_default_dtype() == (torch.float64 if kind == "float64" else torch.float32)
    for file in files:
        plain, *others = ((tmp_path / kind / file).read_bytes() for kind in kinds)
        assert all(other == plain for other in others), file


MAKERS = {"arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm",
          "tensor", "zeros"}  # fmt: skip
OF_DEFAULT_TYPE = {"empty", "eye", "full", "linspace", "ones", "rand", "randn", "zeros"}
PACKAGE = Path(ddpm.__file__).parent


def makers_without_a_place(path):
    """Calls of a file that make a tensor on torch's default device, or of its default type.

    Tensors of a module may follow both, as its weights do; and a block under a device has that for its default.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    excused = set()
    for node in ast.walk(tree):
        is_buffer = isinstance(node, ast.Call) and ast.unparse(node.func) == "self.register_buffer"
        has_device = isinstance(node, ast.With) and "torch.device(" in ast.unparse(node.items[0])
        excused |= set(ast.walk(node)) if is_buffer or has_device else set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and call not in excused:
            name, given = ast.unparse(call.func), {keyword.arg for keyword in call.keywords}
            maker = name.removeprefix("torch.") if name.startswith("torch.") else ""
            needed = "device" not in given or (maker in OF_DEFAULT_TYPE and "dtype" not in given)
            if (maker in MAKERS and needed) or (maker == "Generator" and not call.args):
                yield f"{path.name}, line {call.lineno}: {ast.unparse(call)}"


def test_whatever_makes_a_tensor_says_where_and_of_what_type():
    # The tensors of an exercise meet those of a student, which follow torch's defaults.
    others = {PACKAGE / "assets" / "build.py", *(PACKAGE / "companion" / "exercises").glob("*.py")}
    files = set(PACKAGE.rglob("*.py")) - others
    assert [call for path in files for call in makers_without_a_place(path)] == []


@pytest.mark.parametrize("name", UNDER_DEFAULTS)
@in_a_fork
def test_torchs_defaults_change_no_bit(name):
    expected = UNDER_DEFAULTS[name]()
    for kind in (torch.float64, torch.float16, "meta"):
        with default(kind):
            made = UNDER_DEFAULTS[name]()
        for ours, plain in zip(made, expected, strict=True):
            assert (ours.dtype, ours.device) == (plain.dtype, plain.device), kind
            assert torch.equal(ours, plain), kind


@pytest.mark.parametrize("made", [feature_network, judge])
@pytest.mark.parametrize("kind", [torch.float64, "meta"], ids=str)
def test_the_frozen_networks_are_the_same_under_every_default(made, kind):
    plain = made.__wrapped__().state_dict()  # of the function that is cached
    with default(kind):
        other = made.__wrapped__().state_dict()
    for name, value in plain.items():
        assert (other[name].dtype, other[name].device) == (value.dtype, value.device), name
        assert torch.equal(other[name], value), name
