import contextlib
import math
import re
import warnings
from functools import partial
from itertools import pairwise
from typing import get_args

import pytest
import torch
from tqdm import tqdm

from ddpm import langevin, samplers, sampling
from ddpm.autoencoder import AutoencoderConfig
from ddpm.denoiser import Wrapper
from ddpm.noise import PerSampleNoise
from ddpm.oracles import Gaussian
from ddpm.samplers import Step, ancestral, ddim, final
from ddpm.sampling import LatentModel, sample, watched
from ddpm.schedule import cosine, exploding, linear, straight
from ddpm.settings import SamplerName
from ddpm.targets import Prediction
from ddpm.unet import UNet, UNetConfig
from ddpm.walks import SAMPLERS, Walk, default_walk, sampler_named

SCHEDULE = linear()


class Images(Wrapper):
    """A Gaussian of images, which counts its calls and the walks that it is made ready for."""

    def __init__(self, shape=(1, 4, 4)):
        super().__init__(Gaussian(0.0, 0.5, SCHEDULE))
        self.image_shape = shape
        self.calls, self.walks = 0, 0

    def many_calls(self):
        self.walks += 1
        return contextlib.nullcontext()

    def __call__(self, x, t):
        self.calls += 1
        return super().__call__(x, t)


class Student(Images):
    """One that was distilled for four calls."""

    def __init__(self):
        super().__init__()
        self.distilled_for = 4


def drawn(denoise, n=3, *arguments, **options):
    return sample(denoise, n, *arguments, **{"progress": False, **options})


# The names.


def test_the_samplers_are_those_that_the_settings_name():
    assert tuple(SAMPLERS) == get_args(SamplerName)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_the_function_of_its_name(name):
    assert sampler_named(name) in (getattr(samplers, name, None), getattr(langevin, name, None))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dim", "ddim"), ("ddmi", "ddim"), ("DDIM", "ddim"), ("euler", "ddim"), ("eulr", "ddim (euler)"),
        ("huen", "heun"), ("ddpm", "ancestral"), ("ancestor", "ancestral"),
        ("dpm++", "dpm_solver_pp"), ("dpmpp_2m", "dpm_solver_pp"),
        ("dpm-solver", "dpm_solver_pp"), ("dpm++2m", "dpm_solver_pp (dpm++)"), ("annealed", "annealed_langevin"),
        ("dppm", "ancestral (ddpm)"), ("dpm", "dpm_solver_pp"), ("dpmpp", "dpm_solver_pp (dpmpp_2m)"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_refused_with_the_nearest_right_one(name, near):
    with pytest.raises(ValueError, match=f"legal are ancestral, ddim, .*; did you mean {re.escape(near)}\\?$"):
        sampler_named(name)


def test_a_name_that_is_like_none_is_refused_without_a_guess():
    """The nearest to unipc is heun, by a likeness of 0.44."""
    with pytest.raises(ValueError, match="sampler is 'unipc'; legal are ancestral, .*, flow_and_langevin$"):
        sampler_named("unipc")


@pytest.mark.parametrize("name", [None, 3, ["ddim"]])
def test_what_is_neither_a_name_nor_a_function_is_refused(name):
    with pytest.raises(TypeError, match="sampler is .*; it must be a function or a name: ancestral, ddim"):
        sampler_named(name)


# What is drawn.


def test_samples_are_those_of_the_sampler_itself():
    """A walk from per-sample noise down the grid, with the sampler's own options."""
    randn_like = PerSampleNoise(5)
    x = randn_like(torch.empty(3, 1, 4, 4))
    expected = final(ancestral(Images(), x, SCHEDULE.timesteps(4, "karras"), variance="large", randn_like=randn_like))
    images = drawn(Images(), 3, "ancestral", 4, 5, spacing="karras", chunk=3, variance="large")
    assert torch.equal(images, expected)


def test_a_sampler_may_be_given_as_a_function():
    """One of the package, one of one's own, and one whose option is bound."""

    def halving(denoise, x, timesteps, *, share=0.5, randn_like=None):
        for _, s in pairwise(timesteps):
            x = share * x
            yield Step(x, s, Prediction(x, x))

    assert sampler_named(halving) is halving
    by_name = drawn(Images(), 3, "ddim", 4, 5, eta=1.0)
    assert torch.equal(drawn(Images(), 3, ddim, 4, 5, eta=1.0), by_name)
    assert torch.equal(drawn(Images(), 3, partial(ddim, eta=1.0), 4, 5), by_name)
    noise = PerSampleNoise(5)(torch.empty(16, 1, 4, 4))
    assert torch.equal(drawn(Images(), 3, halving, 4, 5), noise[:3] / 16)
    assert torch.equal(drawn(Images(), 3, halving, 4, 5, share=1.0), noise[:3])

    def passing(denoise, x, timesteps, **options):
        yield from ddim(denoise, x, timesteps, **options)

    assert torch.equal(drawn(Images(), 3, passing, 4, 5, eta=1.0), by_name)
    with pytest.raises(TypeError, match="^eta is no option of the sampler halving, which has share; it is one of ddim"):
        drawn(Images(), 3, halving, 4, 5, eta=1.0)
    with pytest.raises(TypeError, match="^sampler is 3; it must be a function or a name: ancestral"):
        drawn(Images(), 3, 3)


def test_a_sampler_that_ends_before_the_grid_is_refused():
    def short(denoise, x, timesteps, *, randn_like=None):
        for state in ddim(denoise, x, timesteps):
            if state.t > 0:
                yield state

    for one in (short, partial(short)):
        with pytest.raises(
            ValueError, match="^the last Step of the sampler short is of time 250, and the grid ends at 0: "
        ):
            drawn(Images(), 3, one, 4, 5)


def test_what_a_sampler_of_ones_own_returns_is_what_sample_promises():
    def doubled(denoise, x, timesteps, *, randn_like=None):
        yield from ddim(denoise, x.double(), timesteps)

    def first(denoise, x, timesteps, *, randn_like=None):
        yield from ddim(denoise, x[:1], timesteps)

    def forgetful(denoise, x, timesteps, *, randn_like=None):
        pass

    assert drawn(Images(), 3, doubled, 4, 5).dtype == torch.float32
    with pytest.raises(ValueError, match=r"^the sampler first answers \(1, 1, 4, 4\) at x of shape \(512, 1, 4, 4\);"):
        drawn(Images(), 3, first, 4, 5)
    with pytest.raises(TypeError, match="^the sampler forgetful returns NoneType; it must yield a Step after every"):
        drawn(Images(), 3, forgetful, 4, 5)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("guidance", "ddpm.denoiser.Guided is a denoiser with guidance"),
        ("labels", r"denoise.given\(labels\) is told its classes"),
        ("batch_size", "did you mean chunk, or n, which is how many samples are drawn"),
        ("num_inference_steps", "did you mean steps"),
    ],
)
def test_an_option_of_another_library_is_refused_with_what_does_the_same(option, hint):
    with pytest.raises(TypeError, match=f"^{option} is no option of the sampler dpm_solver_pp, which has none; {hint}"):
        drawn(Images(), 3, **{option: 2})


def test_samples_of_a_seed_are_the_same_whatever_n_is():
    many, few = (drawn(Images(), n, "ancestral", 4, 5) for n in (21, 3))  # two chunks of 16, and one
    assert many.shape == (21, 1, 4, 4)
    assert torch.equal(many[:3], few)


@pytest.mark.parametrize("chunk", [1, 2, 5, 7])
def test_samples_of_a_seed_agree_at_any_chunk(chunk):
    whole, chunked = drawn(Images(), 5, "ancestral", 4, 5), drawn(Images(), 5, "ancestral", 4, 5, chunk=chunk)
    assert chunked.shape == whole.shape
    assert torch.allclose(chunked, whole, atol=1e-4)


def test_another_seed_draws_other_samples():
    assert not torch.allclose(drawn(Images(), seed=0), drawn(Images(), seed=1), atol=0.1)


def test_samples_have_the_oracles_distribution():
    images = drawn(Gaussian(0.3, 0.5, SCHEDULE), 4000, "heun", 40, spacing="karras", shape=(2,), chunk=4000)
    error = 0.5 / math.sqrt(images.numel())
    assert images.mean().item() == pytest.approx(0.3, abs=4 * error)
    assert images.std().item() == pytest.approx(0.5, abs=4 * error / math.sqrt(2))


def test_the_shape_of_a_sample_is_the_denoisers():
    assert drawn(Images()).shape == (3, 1, 4, 4)


def test_a_grid_that_begins_where_the_image_still_shows_is_warned_of():
    words = r"timesteps begin at 501, where 8% of the variance is still the image's"
    with pytest.warns(UserWarning, match=words) as warned:
        sample(Images(), 1, "ddim", 2, spacing="leading", progress=False)
    assert [warning.filename for warning in warned] == [__file__]  # the caller's line


@pytest.mark.parametrize("schedule", [straight(), exploding()], ids=["straight", "exploding"])
def test_noise_alone_has_the_scale_of_its_schedule(schedule):
    oracle = Gaussian(0.5, 0.2, schedule)
    grid = schedule.timesteps(20)
    noise = PerSampleNoise(0)(torch.empty(16, 2))
    expected = final(samplers.ddim(oracle, schedule.scale(1000) * noise, grid))
    assert torch.equal(sample(oracle, 16, "ddim", 20, shape=(2,), progress=False), expected)


OWN = Walk("dpm_solver_pp", 12, "log_snr")


def wrapped_student():
    return Wrapper(Student())


@pytest.mark.parametrize(
    ("kind", "given", "walk"),
    [
        (Images, {}, OWN),
        (Images, {"sampler": OWN.sampler}, (OWN.sampler, 50, "trailing")),
        (Images, {"steps": 7}, (OWN.sampler, 7, OWN.spacing)),
        (Images, {"spacing": "karras"}, (OWN.sampler, OWN.steps, "karras")),
        (Images, {"sampler": "ddim"}, ("ddim", 50, "trailing")),
        (Images, {"sampler": "heun", "steps": 3, "spacing": "karras"}, ("heun", 3, "karras")),
        (Student, {}, ("ddim", 4, "trailing")),
        (wrapped_student, {"steps": 2}, ("ddim", 2, "trailing")),
        (Student, {"sampler": "heun"}, ("heun", 4, "trailing")),
    ],
    ids=lambda part: getattr(part, "__name__", None) or str(part),
)
@pytest.mark.filterwarnings("ignore:this model was distilled")
def test_what_is_not_given_is_filled_in(kind, given, walk):
    denoise = kind()
    assert default_walk(denoise, **given) == walk
    sampler, steps, spacing = walk
    assert torch.equal(drawn(denoise, 1, **given), drawn(denoise, 1, sampler, steps, spacing=spacing))


def test_no_walk_makes_more_moves_than_there_are_times():
    few = Gaussian(0.0, 0.5, cosine(5))
    assert default_walk(few).steps == 5
    with pytest.raises(ValueError, match="^steps is 6; legal are integers from 1 to T = 5$"):
        drawn(few, steps=6, shape=(2,))


def test_an_option_of_another_sampler_is_refused_and_its_owner_named():
    message = "eta is no option of the sampler dpm_solver_pp, which has none; it is one of ddim"
    with pytest.raises(TypeError, match=message):
        drawn(Images(), eta=0.5)
    with pytest.raises(
        TypeError, match="weight is no option of the sampler ddim, which has eta; it is one of flow_and"
    ):
        drawn(Images(), sampler="ddim", weight=1)
    for name in ("strength", "x", "timesteps", "randn_like"):
        with pytest.raises(TypeError, match=f"{name} is no option of the sampler heun, which has coordinates, churn$"):
            drawn(Images(), sampler="heun", **{name: 1})


def test_a_student_draws_in_its_own_number_of_calls_and_nothing_is_warned_of():
    student = Student()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(student, 1)
        drawn(Student(), 1, partial(ddim, eta=0.0))
    assert student.calls == 4


@pytest.mark.parametrize("how", [{"steps": 5}, {"sampler": "heun"}, {"spacing": "karras"}], ids=str)
def test_a_student_away_from_its_own_times_is_warned_of(how):
    asked = {"steps": 4, "sampler": "ddim", "spacing": "trailing"} | how
    words = f"distilled for 4 moves of ddim on a trailing grid; {asked['steps']} of {asked['sampler']} on a"
    with pytest.warns(UserWarning, match=words) as warned:
        sample(Student(), 1, progress=False, **asked)
    assert [warning.filename for warning in warned] == [__file__]


def test_a_shape_that_is_given_goes_before_the_denoisers():
    assert drawn(Images(), shape=(2, 8)).shape == (3, 2, 8)


def test_without_a_shape_nothing_is_drawn():
    with pytest.raises(ValueError, match="shape is not given, and this denoiser does not know the shape of one sample"):
        drawn(Gaussian(0.0, 0.5, SCHEDULE))


def test_on_a_cpu_sixteen_images_are_drawn_together_and_more_of_what_is_smaller():
    for shape, together in (((1, 32, 32), 16), ((3, 64, 64), 16), ((1, 16, 16), 64), ((2,), 512)):
        denoise = Images(shape)
        drawn(denoise, together + 1, steps=1)
        assert denoise.calls == 2
        drawn(denoise, together, steps=1)
        assert denoise.calls == 3


def test_a_denoiser_is_made_ready_once_for_all_chunks():
    denoise = Images()
    drawn(denoise, 5, steps=2, chunk=1)
    assert denoise.walks == 1


def test_samples_hold_no_graph():
    class Learning(Images):
        def __init__(self):
            super().__init__()
            self.weight = torch.ones((), requires_grad=True)

        def __call__(self, x, t):
            return super().__call__(self.weight * x, t)

    assert not drawn(Learning()).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0; it must be an integer from 1 up"),
        ({"n": 2.5}, "n is 2.5; it must be an integer from 1 up"),
        ({"steps": 0}, "steps is 0; it must be an integer from 1 up"),
        ({"steps": 2.5}, "steps is 2.5; it must be an integer from 1 up"),
        ({"steps": 1001}, "legal are integers from 1 to T = 1000"),
        ({"chunk": 0}, "chunk is 0; it must be an integer from 1 up"),
        ({"chunk": 1.5}, "chunk is 1.5; it must be an integer from 1 up"),
        ({"seed": -1}, "seed is -1; it must be an integer from 0 up"),
        ({"spacing": "even"}, "spacing is 'even'; legal are trailing, leading"),
        ({"sampler": "ddim", "eta": 2.0}, r"eta is 2.0; it must be in \[0, 1\]"),
        ({"sampler": "ddim", "eta": math.nan}, r"eta is nan; it must be in \[0, 1\]"),
        ({"sampler": "dddim"}, "did you mean ddim"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        drawn(Images(), **arguments)


@pytest.mark.parametrize(
    "thing", [UNet(UNetConfig(base_channels=8, head_channels=8)), "fashion-mnist", None, lambda x, t: x]
)
def test_what_is_no_denoiser_is_refused_in_one_line(thing):
    with pytest.raises(TypeError) as error:
        drawn(thing)
    said = f"denoise is {type(thing).__name__}; it must be a ddpm.denoiser.interface.Denoiser"
    maker = {UNet: ": ddpm.denoiser.NetworkDenoiser makes one of a network and its schedule"}
    maker[str] = ": ddpm.load makes one of a name or a folder"
    assert str(error.value) == said + maker.get(type(thing), "")


# Models that draw an image in one call.


class Doubled:
    """Its image is its code, twice as large."""

    latent_dim, device = 3, torch.device("cpu")

    def __init__(self):
        self.batches = []

    def decode(self, z):
        self.batches.append(len(z))
        return 2 * z[:, :, None, None]


def test_a_latent_model_is_known_by_what_it_has():
    assert isinstance(Doubled(), LatentModel)
    assert not isinstance(Images(), LatentModel)


def test_a_latent_model_decodes_the_noise_of_every_sample():
    for chunk in (None, 2):
        expected = 2 * PerSampleNoise(7)(torch.empty(5, 3))[:, :, None, None]
        assert torch.equal(sample(Doubled(), 5, seed=7, chunk=chunk), expected)


def test_a_latent_model_decodes_chunks_that_are_all_full():
    model = Doubled()
    assert len(sample(model, 5, chunk=2)) == 5
    assert model.batches == [2, 2, 2]
    sample(model, 501)
    assert model.batches[3:] == [500, 500]


def test_a_plain_autoencoder_draws_with_a_warning_and_a_variational_one_without():
    for variational, words in ((False, ["a plain autoencoder has no density of codes"]), (True, [])):
        model = AutoencoderConfig((1, 8, 8), 4, (1, 2), 3, variational).network().eval()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            sample(model, 2)
        assert [str(each.message).split(";")[0] for each in said] == words


def test_a_denoiser_of_codes_walks_though_it_can_decode():
    class OfCodes(Images):
        latent_dim = 16

        def decode(self, z):
            raise AssertionError("its codes are not drawn from N(0, I)")

    denoise = OfCodes()
    assert drawn(denoise, 2, steps=3).shape == (2, 1, 4, 4)
    assert denoise.calls == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampler", "heun"), ("steps", 20), ("spacing", "karras"), ("eta", 1.0), ("shape", (1, 32, 32)),
        ("watch", print), ("variance", "large"),
    ],
)  # fmt: skip
def test_a_latent_model_takes_nothing_of_a_walk(name, value):
    with pytest.raises(ValueError, match=f"^{name} is .*; this model draws an image in one call and takes none"):
        sample(Doubled(), 2, **{name: value})


@pytest.mark.parametrize("name", ["n", "chunk"])
def test_a_latent_model_counts_in_integers(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be an integer from 1 up"):
        sample(Doubled(), **{"n": 2, name: 0})


# A walk that is watched.


class Bar:
    """A bar that counts."""

    def __init__(self):
        self.n = 0

    def update(self, moves):
        self.n += moves


def test_a_watched_walk_yields_its_states_as_they_come():
    grid, seen = SCHEDULE.timesteps(4), []
    walk = ddim(Images(), torch.ones(2, 1, 4, 4), grid)
    states = list(watched(walk, grid[0], Bar(), seen.append))
    assert [state.t for state in states] == grid[1:]
    assert [id(state) for state in seen] == [id(state) for state in states]


@pytest.mark.parametrize(("name", "states"), [("ddim", 4), ("annealed_langevin", 4 * 5 + 1)])
def test_a_bar_moves_on_when_the_time_does(name, states):
    """Annealed Langevin yields several states at one time."""
    bar, grid = Bar(), SCHEDULE.timesteps(4)
    walk = SAMPLERS[name](Images(), torch.ones(2, 1, 4, 4), grid)
    assert len(list(watched(walk, grid[0], bar))) == states
    assert bar.n == 4


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_is_shown_where_it_is_asked_for(shown, monkeypatch):
    bars = []

    class Recorded(tqdm):
        def __init__(self, **options):
            bars.append(options)
            super().__init__(**options)

    monkeypatch.setattr(sampling, "tqdm", Recorded)
    drawn(Images(), 3, "ddim", 4, chunk=2, progress=shown)
    ((total, disabled),) = [(options["total"], options["disable"]) for options in bars]
    assert (total, disabled) == (2 * 4, not shown)


def test_watch_sees_every_state_of_every_chunk():
    seen = []
    images = drawn(Images(), 3, "ddim", 4, chunk=2, watch=lambda state: seen.append(state))
    assert [state.t for state in seen] == 2 * list(SCHEDULE.timesteps(4)[1:])
    assert torch.equal(torch.cat([seen[3].x, seen[7].x])[:3], images)
    assert all(a.t > b.t for a, b in pairwise(seen[:4]))


# What is asked for and cannot be drawn.


@pytest.mark.parametrize("shape", [32, (1, 0, 4), (1, 4.0, 4), "4", [-1]])
def test_a_shape_is_made_of_sizes(shape):
    with pytest.raises(ValueError, match="shape is .*; it must be a list of integers from 1 up"):
        drawn(Images(), shape=shape)


def test_a_sample_may_be_one_number():
    assert drawn(Gaussian(0.0, 0.5, SCHEDULE), shape=()).shape == (3,)


@pytest.mark.parametrize("name", ["n", "steps", "chunk", "seed"])
@pytest.mark.parametrize("value", [math.nan, "3", True, [3]])
def test_a_count_is_an_integer(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; it must be an integer from"):
        drawn(Images(), **{name: value})


def test_a_denoiser_without_a_schedule_is_named():
    class Mine(Images):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"^Mine\.schedule is NoneType; a denoiser must have a NoiseSchedule"):
        drawn(Mine())
