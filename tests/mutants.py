"""One-line mutants of the package, and which test notices each: python -m tests.mutants.

Every mutant changes one place in one line of `ddpm/`, so that something is wrong. A mutant that no test notices is a
blind spot of the tests. `tests/notebooks/test_mutants.py` has the mutants of another gate, the chapters' own numbers.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tests.checkout import ROOT

RESULTS = ROOT / "_build" / "mutants.jsonl"
#: What is run against a mutant: the tests nearest to it; or these, and then all that make test runs but chapters
#: and book; or chapters, book and slow tests, too.
SCOPES = ("nearest", "tests", "all")
QUICK, SLOWER = "not long and not slow and not browser", "long and not slow and not browser"
PATIENCE = 1800  # seconds, after which a mutant counts as noticed, since it hangs
OF_ALL = ("tests/notebooks/", "tests/book/")  # what the scope "tests" leaves out
NEVER = ("tests/test_mutants_apply.py", "tests/notebooks/test_mutants.py", "tests/browser/")
BEFORE = (  # slow imports, which every run of pytest finds done
    "torch", "torchvision", "torchdiffeq", "torchmetrics", "accelerate", "einops", "safetensors.torch", "typer",
    "pytest", "hypothesis", "anyio.pytest_plugin", "nbval.plugin", "xdist.plugin",
)  # fmt: skip


class Mutant(NamedTuple):
    """A change that a test must notice."""

    file: str  # below ddpm/
    right: str  # what stands there: a part of one line, which occurs once in the file
    wrong: str  # what takes its place
    broken: str  # what is wrong then, in words


def mutated(folder, file, right, wrong):
    """Put `wrong` in the place of `right` in a file below ddpm/ of a copy, and return the file's path."""
    path = Path(folder) / "ddpm" / file
    source = path.read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{right!r} occurs {source.count(right)} times in {file}"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    return path


#: file: (what stands there, what takes its place, what is wrong then)
CHANGES = {
    "schedule/table.py": [
        ("if not 0 <= value < before:", "if not 0 <= value:", "a table that rises somewhere is taken"),
        ("2 * math.log(self.T - t) if", "math.log(self.T - t) if", "the signal's fall to 0, for a number"),
        ("+ 2 * torch.log1p(-fraction)", "+ torch.log1p(-fraction)", "the signal's fall to 0, for a tensor"),
        ("hypot(1, sigma) / self.signal(self.T - 1)", "hypot(1, sigma)", "the time of a sigma in that last step"),
        ("math.sqrt(self.beta(t, s))", "self.beta(t, s)", "a standard deviation without its root"),
        ("if not (low > 0 and high", "if not (low >= 0 and high", "a score at time 0"),
        ("torch.float64 if t.dtype == torch.float64 else torch.float32", "torch.float32", "times in float64"),
        ("* self.scale(t) ** 2", "* self.scale(t)", "the variance that a step adds off the unit circle"),
        ("return type(self) is type(other) and", "return", "two schedules with one table of alpha_bar"),
        ("return -2 * math.log(sigma)", "return -math.log(sigma)", "the square in log SNR"),
    ],
    "schedule/paths.py": [
        (
            "return (self.T - t) / self.T, t / self.T",
            "return t / self.T, (self.T - t) / self.T",
            "the straight path, from its wrong end",
        ),
        ("return self.T / (1 + 1 / sigma)", "return self.T / (1 + sigma)", "the time of a sigma on the straight path"),
        (
            "return math.hypot(*self.signal_and_noise(t))",
            "return 1.0",
            "the scale of a path that does not keep the variance",
        ),
        ("torch.where(t < 1, self.lowest * t, growing)", "growing", "exploding noise below time 1, for a tensor"),
    ],
    "schedule/named.py": [
        ("np.linspace(1e-4 * 1000 / T, last, T)", "np.linspace(1e-4, last, T)", "the first beta at another T"),
        ("if last >= 1:", "if last > 1:", "a linear schedule whose last beta is 1"),
        ("(u + 0.008) / 1.008", "(u + 0.08) / 1.08", "the offset of the cosine schedule"),
        ("- 1 / (1 + np.exp(3)), T)", "- 1 / (1 + np.exp(4)), T)", "where the sigmoid schedule ends"),
        ("values[:-1], 0.999))", "values[:-1], 0.99))", "the largest beta"),
        ("(first / (first - last))", "(1 / (1 - last))", "the scale of a schedule of zero terminal SNR"),
        ("lowest: float = 0.01", "lowest: float = 0.02", "the default of the least noise that explodes"),
        ("highest: float = NOISE_ALONE", "highest: float = 80.0", "the default of the most noise that explodes"),
    ],
    "grids.py": [
        ("if n > 1 and not lowest < highest:", "if False:", "a grid of noise alone"),
        ("NOISE_ALONE = 160.0", "NOISE_ALONE = 80.0", "the sigma from which x counts as noise alone"),
        ("round(top * k / n)", "top * k // n", "trailing times rounded down"),
        ("np.linspace(top, 1, n)", "np.linspace(top, top / n, n)", "where a linspace grid ends"),
        (
            "np.linspace(highest ** (1 / 7), lowest ** (1 / 7), n) ** 7",
            "np.linspace(highest ** (1 / 5), lowest ** (1 / 5), n) ** 5",
            "rho of the grid of Karras et al.",
        ),
        ("min(schedule.sigma(top), NOISE_ALONE)", "schedule.sigma(top)", "a Karras grid begins at any sigma"),
        ("if not t > s:", "if t < s:", "two equal times, or nan, in a grid"),
        ("if left > 0.01:", "if left > 0.1:", "a warning where a grid begins too low"),
        ("math.log(highest), math.log(lowest), n", "math.log(highest), 0.0, n", "where a grid in log SNR ends"),
        (
            "1 / (1 + schedule.sigma(timesteps[0]) ** 2)",
            "1 / (1 + schedule.sigma(timesteps[0]))",
            "what is left of an image",
        ),
    ],
    "samplers.py": [
        ('if variance == "small" else large', 'if variance == "large" else large', "the two variances, exchanged"),
        ('"large"] = "small",', '"large"] = "large",', "the default variance of ancestral sampling"),
        ('0 <= number("eta", eta) <= 1:', '0 <= number("eta", eta):', "an eta above 1"),
        ("std = eta * schedule", "std = eta**2 * schedule", "every eta but 0 and 1"),
        ("eta: float = 0.0,", "eta: float = 1.0,", "the default eta of ddim"),
        ("(prediction.eps + at_end.eps) / 2", "(3 * prediction.eps + at_end.eps) / 4", "the mean of Heun's two slopes"),
        ("churn / (len(timesteps) - 1)", "churn / len(timesteps)", "the share of churn that a move gets"),
        (
            "(1 + gamma) * schedule.sigma(t), schedule",
            "(1 + gamma) ** 2 * schedule.sigma(t), schedule",
            "churned noise",
        ),
        ("if t > start:", "if t > start > 500:", "when churn adds noise"),
        ("(schedule.angle(s) - schedule.angle(t)) / 2 *", "(schedule.angle(s) - schedule.angle(t)) *", "half a move"),
        (
            "(schedule.signal(s) * eps - schedule.noise(s) * x0)",
            "(schedule.signal(t) * eps - schedule.noise(t) * x0)",
            "the end at which Heun's correction is v",
        ),
        (
            "math.sqrt(beta) * schedule.scale(s) / schedule.scale(t)",
            "math.sqrt(beta)",
            "the large variance where the scale changes",
        ),
        ("and schedule.signal(timesteps[0]) == 0:", "and False:", "a sigma that is infinite"),
        ("r = last_h / h", "r = h / last_h", "the ratio of two steps in DPM-Solver++"),
        ("last_x0, last_h = prediction.x0, h", "last_x0, last_h = x0, h", "which x0 a multistep method remembers"),
        ("s if s > 0 else min(1, t)", "t", "the end of a move at which inversion asks for the noise"),
        ("s if s > 0 else min(1, t)", "max(s, 1)", "inversion below time 1"),
        ("predict(denoise, x, t), s, t)", "predict(denoise, x, t), t, s)", "the direction of Heun's way up"),
        (
            "max(0.0, schedule.noise(s) ** 2 - std**2)",
            "schedule.noise(s) ** 2 - std**2",
            "a direction that rounding makes imaginary",
        ),
        (
            "(torch.isfinite(prediction.x0) & torch.isfinite(prediction.eps)).all()",
            "(torch.isfinite(prediction.x0) & torch.isfinite(prediction.eps)).any()",
            "a NaN in part of a prediction",
        ),
        ("if not torch.isfinite(x).all():", "if not torch.isfinite(x).any():", "a NaN in part of the last state"),
    ],
    "langevin.py": [
        ("not (x.abs() < bound).all()", "not (x.abs() < bound).any()", "a chain of which a part diverges"),
        ("flat(to - origin - step_size / 2 * slope)", "flat(to - origin)", "a proposal without its drift"),
        (
            "log_proposal(x, to, slope_to) - log_p - log_proposal(to, x, slope)",
            "log_proposal(to, x, slope) - log_p - log_proposal(x, to, slope_to)",
            "the two proposals in a ratio, exchanged",
        ),
        ("torch.where(pick, slope_to, slope)", "slope_to", "the slope after a rejected proposal"),
        ("log_p = torch.where(accepted, log_p_to, log_p)", "log_p = log_p_to", "the density after a rejected proposal"),
        ("if not (torch.isfinite(log_p).all() and", "if not (torch.isfinite(log_p).any() and", "a NaN in one chain"),
        ("delta = step_size * schedule.noise(t) ** 2", "delta = step_size * schedule.noise(t)", "a level's step size"),
        ("x = signal(s) / signal(t) * x", "x = signal(t) / signal(s) * x", "the rescaling from level to level"),
        (
            "max(schedule.signal(t), least_signal * schedule.scale(t))",
            "schedule.signal(t)",
            "the rescaling of noise alone",
        ),
        ("least_signal * schedule.scale(t)", "least_signal", "the unit of noise alone"),
        ("schedule.beta(t, s) * unit**2", "schedule.beta(t, s)", "a Langevin step where the scale changes"),
        ("schedule.noise(t) * unit, randn_like", "schedule.noise(t), randn_like", "a score where the scale changes"),
        ("steps_per_level: int = 5,", "steps_per_level: int = 2,", "the default of steps a level"),
        (
            "step_size * schedule.noise(s) ** 2, schedule.noise(s)",
            "step_size * schedule.noise(t) ** 2, schedule.noise(s)",
            "the noise level of a corrector's step",
        ),
        ("range(corrector_steps if s > 0 else 0)", "range(1 if s > 0 else 0)", "the number of a corrector's steps"),
        ("step_size: float = 0.1,", "step_size: float = 0.2,", "the default step of a corrector"),
        ("weight * schedule.beta(t, s)", "weight**2 * schedule.beta(t, s)", "every weight but 0 and 1"),
        ("limit = 4 / max(shares)", "limit = 2 / max(shares)", "the largest legal weight"),
        ('number("step_size", step_size) < limit', 'number("step_size", step_size) <= limit', "a step of just 4"),
        ("corrector_steps: int = 1", "corrector_steps: int = 2", "the default of a corrector's steps"),
        (" | (log_p_to == -math.inf)", "", "a proposal that has neither density nor score"),
    ],
    "round_trip.py": [
        ("or step.t > top.t:", "or step.t >= top.t:", "the top of a trip that stays at a time"),
        ("elif one_shot is None:", "else:", "which prediction is the one-shot mean"),
        (
            "timesteps, sampler=sampler, randn_like=randn_like, **options)",
            "timesteps, sampler=sampler, randn_like=randn_like)",
            "a sampler's options in repeated trips",
        ),
        ("else (invert_heun, heun)", "else (invert, heun)", "the way up of the second order"),
    ],
    "edict.py": [
        (
            "pair: Tensor, timesteps: Grid, *, mixing: float = 0.93",
            "pair: Tensor, timesteps: Grid, *, mixing: float = 0.9",
            "the default mixing of EDICT",
        ),
        ("schedule.noise(s) - a * schedule.noise(t)", "schedule.noise(s) - schedule.noise(t)", "EDICT's DDIM move"),
        (
            "schedule.signal(timesteps[0]) / schedule.scale(timesteps[0])",
            "schedule.signal(timesteps[0])",
            "the unit of the signal that EDICT needs",
        ),
        ("LEAST_SIGNAL = 1e-3", "LEAST_SIGNAL = 1e-5", "the signal below which EDICT needs float64"),
        ('0 < number("mixing", mixing)', '0 <= number("mixing", mixing)', "a mixing of 0"),
    ],
    "likelihood.py": [
        ("1 + 1 / (levels - 1)).all()", "1).all()", "a grey level that rounding has moved past the end"),
        ("if not least <= number", "if not 0 < number", "a tolerance below rounding"),
        ("with denoise.many_calls():", "if True:", "weights that a bound converts in every call"),
        ("(schedule.noise(grid[0]) / scale) ** 2", "schedule.noise(grid[0]) ** 2", "the unit of the prior's variance"),
        ("dimensions * math.log(scale_at_x)", "0", "the unit of a density"),
        ("variance - 1 - math.log(variance)", "variance - 1 + math.log(variance)", "the prior's term of a bound"),
        ("half = 1 / (levels - 1)", "half = 1 / levels", "half the width of a grey level"),
        ("x0 < -1 + half", "x0 < -1", "the open tail of the lowest grey level"),
        (
            "torch.where(below > 0, -above, below), torch.where(below > 0, -below, above)",
            "below, above",
            "the accurate tail of a normal distribution",
        ),
        ("math.log(std * math.sqrt(2 * math.pi))", "math.log(std * math.sqrt(math.pi))", "a Gaussian's constant"),
        ("math.log(draws) - torch.stack", "-torch.stack", "the mean of the importance weights"),
        ("(e.square() + log_variance - z.square())", "(e.square() - log_variance - z.square())", "a code's density"),
        (
            'VariationalAutoencoder).config.loss == "bce"',
            'VariationalAutoencoder).config.loss == ""',
            "a check of the loss",
        ),
        ("noise * (trace - noise * dimensions)", "noise * (trace - dimensions)", "the flow's own divergence"),
        ("_summed(gradient * probe)", "_summed(gradient)", "Hutchinson's estimate"),
        ("if not torch.isfinite(trace).all():", "if not torch.isfinite(trace).any():", "a NaN in one sample's flow"),
        ("if not torch.isfinite(bound.total).all():", "if not torch.isfinite(bound.total).any():", "a NaN in a bound"),
        ('if not 0 < number("t", t) < schedule.T:', 'if not 0 < number("t", t) <= schedule.T:', "a flow of no length"),
        (
            "if denoise.in_bfloat16(x.device)",
            "if not denoise.in_bfloat16(x.device)",
            "bfloat16 in a density",
        ),
        ("math.log2((levels - 1) / 2)", "math.log2(levels / 2)", "the width of a grey level, in bits"),
        ("t: float = 1.0", "t: float = 2.0", "the default time of a density"),
    ],
    "targets.py": [
        ("else signal * eps - noise * x0", "else noise * eps - signal * x0", "v"),
        ("return eps - x0 if", "return x0 - eps if", "the sign of the flow"),
        (
            "return Prediction(x - noise * output, x +",
            "return Prediction(x - signal * output, x +",
            "x0 read from the flow",
        ),
        ("if not off < 1e-5:", "if off > 1.0:", "a target that its schedule cannot have"),
        (".abs().max().item() if", ".abs().min().item() if", "one time of several at which a target cannot be"),
        ("schedule.alpha_bar[-1] > 0", "True", "eps where no signal is left"),
        ('"v": schedule.preserves_variance', '"v": True', "v where the variance is not kept"),
        ("isinstance(schedule, Straight)", "True", "the flow away from the straight path"),
    ],
    "distillation.py": [
        ("choose_threads(read_json", "print(read_json", "the threads of the students that are to come"),
        ("if tuple(dataset.shape) != facts.image_shape:", "if False:", "a teacher of other images"),
        ("[self.times[self.at_once * move + k] for", "[self.times[move + k] for", "a student told the teacher's times"),
        (
            "self.ddim_step(halfway, seen, middle, s)",
            "self.ddim_step(halfway, seen, t, s)",
            "the teacher's second move",
        ),
        ("x_t, x_s, times[0], times[-1])", "x_t, x_s, times[0], times[1])", "the end of a student's move"),
        ("(noise_t * x_s - noise_s * x_t)", "(noise_t * x_s - noise_t * x_t)", "the image behind a move"),
        ("if first not in legal:", "if first > T:", "calls that no students lead to"),
        ("own is not None and own not in legal:", "False:", "calls that a student's own do not lead to"),
        (
            "self.ddim_step(x, seen, t, s) if",
            "self.ddim_step(halfway, seen, t, s) if",
            "where the midpoint rule begins",
        ),
        ("midpoint=taught_by.distilled_for is None", "midpoint=True", "a student followed by the midpoint rule"),
        ("while teachers <= T:", "while teachers <= T * at_once:", "more moves than times"),
        ('if facts.config.target == "eps":', 'if facts.config.target == "":', "a teacher of eps"),
        ("        teacher = folder.resolve()", "        pass", "a student that does not teach the next"),
        ("!= (teacher, moves,", "!= (found[0], moves,", "a student of another teacher"),
        ("moves, at_once * moves):", "moves, found[2]):", "a student of other calls"),
        ("facts.classes != tuple(dataset.classes):", "not dataset.classes:", "a teacher of other classes"),
    ],
    "denoiser/interface.py": [
        ("torch.arange(first, first + count,", "torch.arange(0, count,", "the labels of a later chunk"),
        ("self.labels.to(x.device).expand(len(x))", "self.labels[:1].to(x.device).expand(len(x))", "several labels"),
    ],
    "denoiser/network.py": [
        ("self.network = network.eval()", "self.network = network", "dropout while denoising"),
        ("if t >= 1 else self", "if t > 0 else self", "what a network sees below time 1"),
        (
            "self._carried_down(x, t.clamp(max=1), t",
            "self._carried_down(x, t, t",
            "tensors of times on both sides of 1",
        ),
        ("eps = noise / signal / sigma_1", "eps = noise / signal", "the score below time 1"),
        (", times - 1, *", ", times, *", "the time that a network is told"),
        ('answer_like("network", output, x).to(x.dtype)', "output.to(x.dtype)", "the check of a network's answer"),
    ],
    "denoiser/wrappers.py": [
        ("if guide.distilled_for != denoise.distilled_for:", "if False:", "a student as guide of another model"),
        ("self.image_shape = denoise.image_shape", "self.image_shape = None", "a wrapper's image_shape"),
        (
            'return prediction_of("x0", x0, x, *self.schedule.coefficients(t, x))',
            "return Prediction(x0, self.denoise(x, t).eps)",
            "the eps of a clipped x0",
        ),
        ("if not self.low < self.high:", "if not self.low <= self.high:", "clipping to one number"),
        ("push = float(self.weight - 1)", "push = float(self.weight)", "the weight of a guide, w for 1 + w"),
        (
            "return push if low <= self.schedule.sigma(t) <= high else 0.0",
            "return push",
            "a guide outside its interval",
        ),
        ("(low <= sigma) & (sigma <= high)", "low <= sigma", "a guide above its interval, at several times"),
        ("self.guide.of_samples(first, count)", "self.guide", "the labels of a guide"),
        ("if not 1 <= self.weight < math.inf:", "if not 0 <= self.weight < math.inf:", "a weight below 1"),
        (
            "if not _alike(schedule_of(guide), denoise.schedule):",
            "if guide.schedule.T != denoise.schedule.T:",
            "a guide on another schedule",
        ),
        ("shapes[0] != shapes[1]:", "len(shapes[0]) != len(shapes[1]):", "a guide of images of another size"),
        (
            'return "auto" if self.guide.precision == "auto" else self.denoise.precision',
            "return self.denoise.precision",
            "the coarser of two precisions",
        ),
        (
            "with self.denoise.many_calls(), self.guide.many_calls():",
            "with self.denoise.many_calls():",
            "a guide's weights, converted once",
        ),
    ],
    "oracles.py": [
        ("torch.float32, copy=True)", "torch.float32)", "images that somebody changes"),
        ("(signal * self.stds.to(x) ** 2 / variance)", "(signal * self.stds.to(x) / variance)", "a mixture's gain"),
        ("-(log_joint.softmax(1)", "-(log_joint.softmax(0)", "the axis of a mixture's shares"),
        ("masked_fill(~is_labelled, -math.inf)", "masked_fill(~is_labelled, -1.0)", "the components that are not told"),
        ("chosen = self.labels.expand(n)", "chosen = self.labels[:1].expand(n)", "the components of several labels"),
        ("self.stds[chosen, None] * normal", "self.stds[0] * normal", "the width of a drawn component"),
        (
            "((self.weights > 0) & self.weights.isfinite()).all()",
            "((self.weights > 0) & self.weights.isfinite()).any()",
            "a negative weight",
        ),
        ("constant = rows.shape[1] * torch.log", "constant = torch.log", "the dimension in a density of images"),
        ("torch.cat(sums) - math.log(len(self.images))", "torch.cat(sums)", "the weight of each of n images"),
        ("torch.randint(len(self.images), (", "torch.randint(len(self.images) - 1, (", "the last image of a data set"),
        ("times = _times(t, x).expand(len(x))", "times = _times(t, x)[:1].expand(len(x))", "a time for each image"),
    ],
    "diffusion.py": [
        ("snr.clamp(max=", "snr.clamp(min=", "which weights min-SNR cuts off"),
        ('config.weighting == "min_snr" and', 'config.weighting == "" and', "a weight of 0 at T"),
        (
            "randomness.uniform() < self.config.label_dropout",
            "randomness.uniform() < 0",
            "labels that are never dropped",
        ),
        (
            "is_dropped.to(labels.device), self.classes)",
            "is_dropped.to(labels.device), 0)",
            "the null label in training",
        ),
        ("(t - 1).to(images)", "t.to(images)", "the time that a network in training is told"),
        ('answer_like("network", answer, x_t)', "answer", "an answer of another shape, in training"),
        ("images = images.float()", "pass", "images that a network made in bfloat16"),
        (".square().flatten(1).mean(1)", ".square().flatten(1).sum(1)", "the mean over an image's values"),
        ("self.loss_weights[t].to(", "self.loss_weights[t - 1].to(", "the weight of a time"),
        ('"eps": noise / signal', '"eps": signal / noise', "the bound's weights of eps"),
        ('"v": noise', '"v": signal', "the bound's weights of v"),
        ('"flow": noise', '"flow": signal', "the bound's weights of the flow"),
        ("1 + snr[1:2]", "snr[1:2]", "the bound's weight at t = 1"),
        ("snr[2:]]) * schedule.T / 2", "snr[2:]]) * schedule.T", "the half in the bound's weights"),
        (
            "torch.lerp(lognormal, uniform, config.uniform_share)",
            "torch.lerp(uniform, lognormal, config.uniform_share)",
            "the share of uniform times",
        ),
        ("(log_sigma[1:] + log_sigma[:-1]) / 2", "log_sigma[1:]", "where a time's mass ends"),
    ],
    "noise.py": [
        ("(x), x).to(x)", "(x), x)", "noise of another dtype"),
        ("fold_in(self.seed, self.first_index + i)", "fold_in(self.seed, i)", "a sample's number in a later chunk"),
        ("STEP, ORDER, DROPOUT = 1, 2, 3", "STEP, ORDER, DROPOUT = 1, 1, 1", "streams that must differ"),
        ("self._generators[: len(x)]", "self._generators[-len(x) :]", "which generators a smaller batch uses"),
        ("+ self.uniform()) /", "+ self.uniform()[:1]) /", "times that are independent within their strata"),
        ("self._calls += 1", "self._calls += 0", "the next numbers of a step"),
        ("= self._drawn[self._calls]", "= self._drawn[-1]", "which numbers of a step a later piece of a batch gets"),
        (
            "return numbers[self.rows]",
            "return numbers[: self.count]",
            "whose label is dropped in a later process",
        ),
        ("slice(first, first + self.count)", "slice(0, self.count)", "the rows of a later process"),
    ],
    "unet/blocks.py": [
        ("of_time if of_labels is None else of_time + of_labels", "of_time", "labels that no block sees"),
        ("device=t.device) / half", "device=t.device) / (half - 1)", "the frequencies of the time's embedding"),
        ("self.norm2(h) * (1 + scale) + shift", "self.norm2(h) * scale + shift", "a scale that begins at 1"),
        ("scale, shift = self.time", "shift, scale = self.time", "which half is the scale"),
        ("nn.Dropout(config.dropout)", "nn.Dropout(0.0)", "dropout"),
        ("self.heads = channels // config.head_channels", "self.heads = 1", "the heads of attention"),
        (" / math.sqrt(q.shape[-1])", "", "the scale of attention, in training"),
        ('"b (h w) c -> b c h w"', '"b (w h) c -> b c h w"', "where a token's pixel is"),
        ("super().forward(x.to(self.weight.dtype))", "super().forward(x)", "GroupNorm in float32"),
        (
            "torch.autocast(x.device.type, enabled=False)",
            "torch.autocast(x.device.type, enabled=True)",
            "the first convolution in float32",
        ),
    ],
    "unet/network.py": [
        ("self.config.classes, dtype=torch.int64", "0, dtype=torch.int64", "the label where none is told"),
        ("nn.init.zeros_(self.labels.weight[-1])", "pass", "what the null label adds at the start"),
        (
            "self.middle_out(self.middle_attention(h), embedding)",
            "self.middle_out(h, embedding)",
            "attention in the middle",
        ),
        ("nn.init.zeros_(self.conv_out.weight)", "pass", "a network that begins at zero"),
        ("nn.init.zeros_(module.conv2.weight)", "nn.init.zeros_(module.conv1.weight)", "a branch that begins at zero"),
        ("Float32Conv2d if level == 0 else nn.Conv2d", "nn.Conv2d if level == 0 else nn.Conv2d", "a block in float32"),
        ("if t.ndim != 1 or len(t) not in (1, len(x)):", "if t.ndim != 1:", "a wrong number of times"),
        (
            "nn.Upsample(scale_factor=2.0), nn.Conv2d(before_doubling",
            'nn.Upsample(scale_factor=2.0, mode="bilinear"), nn.Conv2d(before_doubling',
            "how a map is doubled",
        ),
    ],
    "unet/sizes.py": [
        ("return max(sides)", "return sides[0]", "the largest receptive field behind a doubling"),
        ("sum(p.numel() for p in weights)", "len(weights)", "the number of weights"),
        ('and not (way == "up" and config.resample_last)', "", "where a level that doubles first is read"),
        (
            "channel_multipliers=(1, 1, 2, 2, 4, 4)",
            "channel_multipliers=(1, 2, 2, 2, 4, 4)",
            "the widths of convention C",
        ),
        ("attention_levels=(4,)", "attention_levels=(5,)", "where convention C has attention"),
        (
            '"middle_in", "middle_attention", "middle_out"]',
            '"middle_in", "middle_out"]',
            "the middle's attention in its operations",
        ),
        ('("middle", last + config.resample_last,', '("middle", last,', "the middle's size by algebra"),
    ],
    "unet/config.py": [
        ("math.gcd(self.base_channels // 4, 32)", "math.gcd(self.base_channels // 4, 16)", "the groups of GroupNorm"),
        (
            "for width in (self.widths[level], self.up_widths[level])",
            "for width in (self.widths[level],)",
            "heads on the way up",
        ),
        ("len(self.channel_multipliers) - 1 + self.resample_last", "len(self.channel_multipliers) - 1", "the halvings"),
        ("{below} or {below + self.divisor}", "{below} or {below * 2}", "the sizes that a message names"),
        ('"dropout", at_least=0, below=1)', '"dropout", at_least=0, at_most=1)', "a dropout of 1"),
    ],
    "autoencoder.py": [
        ("(x + 1) / 2, reduction", "x, reduction", "grey levels as probabilities"),
        ("log_sigma = (mean / pixels).log() / 2", "log_sigma = (mean / pixels).log()", "a deviation from a variance"),
        ("lerp_(log_sigma, 0.02)", "lerp_(log_sigma, 0.2)", "how slowly sigma follows"),
        ("mean = errors.detach().mean()", "mean = errors.mean()", "a gradient through sigma"),
        ("errors / (2 * torch.exp(2 * log_sigma))", "errors / torch.exp(2 * log_sigma)", "half a squared error"),
        ("half, scale = 1 / 255,", "half, scale = 1 / 256,", "half the width of a grey level"),
        ("x < half - 1, -math.inf", "x < -1, -math.inf", "the open tail of the lowest grey level"),
        ("torch.log(-torch.expm1(below - above))", "0", "the difference of two sigmoids"),
        ("self.config.beta * kl", "kl", "the weight of the divergence"),
        ("log_variance.exp() - 1 - log_variance", "log_variance.exp() - log_variance", "a divergence that can be 0"),
        ("if self.training and len(x):", "if len(x):", "sigma, while nothing is trained"),
        ("return losses.mean() /", "return losses.sum() /", "a loss for each value"),
        ("check_range(images)", "pass", "images beyond [-1, 1]"),
        ("mean /= distributed.get_world_size()", "mean /= 1", "sigma over several processes"),
    ],
    "gan.py": [
        ('if game == "minimax"', 'if game != "minimax"', "the two games, exchanged"),
        ("self.config.r1 / 2 *", "self.config.r1 *", "the weight of the penalty"),
        (".flatten(1).sum(1).mean()", ".flatten(1).mean()", "the norm of a gradient"),
        ("create_graph=True", "retain_graph=True", "the gradient of the penalty"),
        ("nn.LeakyReLU(0.2)", "nn.LeakyReLU(0.02)", "the slope of a leaky ReLU"),
        ("nn.Sequential(*layers[:-1])", "nn.Sequential(*layers)", "the last layer of an mlp"),
    ],
    "network_calls.py": [
        ("_counted(denoise.guide, counting)", "denoise.guide", "the network calls of a guide"),
        ("denoise.weight, denoise.interval)", "denoise.weight)", "network calls outside of an interval"),
    ],
    "sampling.py": [
        ("max(16, 2**14", "max(64, 2**14", "the chunk"),
        ("and not isinstance(model, Denoiser)", "", "a denoiser that can decode"),
        ("randn_like = PerSampleNoise(seed, first)", "randn_like = PerSampleNoise(seed)", "the noise of later chunks"),
        ("PerSampleNoise(seed, first)(empty)", "PerSampleNoise(seed)(empty)", "the codes of later chunks"),
        ("scale * x, timesteps", "x, timesteps", "how strong noise alone is"),
        ("check_start(timesteps, schedule)", "pass", "a warning where a grid begins too low"),
        ("bar.update(state.t != t)", "bar.update(1)", "a bar that Langevin's steps overfill"),
        ("timesteps, randn_like=randn_like, **options", "timesteps, randn_like=randn_like", "a sampler's options"),
        (
            ".unflatten(0, (processes, each)).transpose(0, 1)",
            ".unflatten(0, (each, processes))",
            "the order of several processes' images",
        ),
        ("@torch.no_grad()", "@torch.enable_grad()", "a graph that grows with a walk"),
        ("not (progress and share.is_main)", "False", "a bar that nobody asked for"),
    ],
    "walks.py": [
        ("if callable(name):", "if False:", "a sampler of one's own"),
        ("min(own.steps, T)", "own.steps", "a default of more moves than there are times"),
        ("Walk(sampler, 50, ", "Walk(sampler, 20, ", "the default of steps"),
        ('sampler or "ddim"', '"ddim"', "a student's sampler"),
        ('"euler": "ddim"', '"euler": "heun"', "a sampler by another library's name"),
        ('"dpm_solver_pp", 12, "log_snr"', '"dpm_solver_pp", 20, "log_snr"', "the steps of the default walk"),
    ],
    "fast.py": [
        ("if not torch.is_grad_enabled():", "if True:", "a call with gradients is played from the recording"),
        ("self._calls[key] > self.FIRST_CALLS", "self._calls[key] >= self.FIRST_CALLS", "recorded a call too early"),
        ("(each.shape, each.dtype, each.device) for", "(each.dtype, each.device) for", "one recording for all shapes"),
        ('precision == "auto" and has', 'precision != "none" and has', "float32 where it is asked for"),
        ("return any(getattr(torch.cpu", "return all(getattr(torch.cpu", "which CPUs have bfloat16"),
        ("if not form.walks:", "if form.walks:", "when a prepared network is dropped"),
        (
            "    if type(part) in (nn.Conv2d, nn.Linear):",
            "    if isinstance(part, nn.Conv2d | nn.Linear):",
            "a convolution that stays in float32",
        ),
        ("(id(weight), _version(weight), _place(weight)", "(id(weight), weight.dtype", "weights that change in place"),
        ("_place(weight), weight.dtype", "weight.dtype", "data that are assigned to a weight"),
        ('or "forward" in vars(module)', "", "a module whose forward was replaced"),
    ],
    "files.py": [
        ("error.filename = str(path)", "pass", "which file a full disk has no room for"),
        ("beside.unlink(missing_ok=True)", "pass", "a half-written file that stays"),
        ("hexdigest() not in sha256", "hexdigest() in ()", "a hash that is not compared"),
        ("if value.shape != own.shape or", "if value.numel() != own.numel() or", "weights of another shape"),
        ("if not value.isfinite().all():", "if not value.isfinite().any():", "a NaN among weights"),
        ("                folder.rmdir()", "                pass", "empty folders on the way to one that failed"),
        ("if first is not None:", "if first is None:", "a folder that holds something"),
        ("if not part.exists():", "if part.exists():", "what goes back when a move fails"),
        ("value.clone() if memory in seen else value", "value", "weights that are tied"),
    ],
    "model_files.py": [
        ("if isinstance(name_or_path, str) and name", "if str(name_or_path) in _names() or name", "a path like a name"),
        ("elif checkpoint_manifest(value) is not None:", "elif False:", "a checkpoint to start a training from"),
        ("elif or_file and os.path.isfile(path):", "elif os.path.isfile(path):", "a file as a teacher"),
    ],
    "pretrained.py": [
        ("trained.eval().to(", "trained.to(", "a loaded model in training mode"),
        ('check_weights(Path("network"), weights, config.network().state_dict())', "pass", "what a network to save is"),
        ("load_tensors(weights_file, *_hashes(record))", "load_tensors(weights_file)", "the hash of a model's weights"),
        ('in ("sha256", "replaced") if', 'in ("sha256",) if', "a model that is being replaced"),
        ("check_weights(files.weights_file, weights, trained.state_dict())", "pass", "the check of a model's weights"),
        (".requires_grad_(False)", ".requires_grad_(True)", "gradients of a loaded model"),
        ('torch.device("meta")', 'torch.device("cpu")', "random numbers that saving draws"),
        ('precision: Precision = "auto"', 'precision: Precision = "float32"', "the default precision of a model"),
    ],
    "settings.py": [
        ("if threads > MOST_THREADS:", "if False:", "threads without number"),
        ("or operator.index(value) < 1:", "or operator.index(value) < 0:", "a positive number that is 0"),
        ("if seed >= 2**64:", "if seed > 2**64:", "the largest seed"),
        ("and above < value < below", "and above <= value <= below", "open limits"),
        ("return not isinstance(value, bool)", "return True", "True as a number"),
        (
            '"at most": at_most, "below": below}',
            '"at most": below, "below": at_most}',
            "the limit that a message names",
        ),
    ],
    "model_settings.py": [
        ("if channels != self.unet.channels:", "if channels < self.unet.channels:", "images of too many channels"),
        ("tuple(shape) != image_shape:", "len(shape) != len(image_shape):", "a record of two shapes"),
        ("log_sigma_mean: float = -0.9", "log_sigma_mean: float = -1.2", "the mean of lognormal times"),
        ("r1: float = 1.0", "r1: float = 10.0", "the default penalty of a GAN"),
        (
            'if self.weighting == "bound" and self.times != "uniform":',
            'if self.weighting == "" and self.times != "uniform":',
            "a bound over other times",
        ),
        ('"label_dropout", at_least=0, at_most=1)', '"label_dropout", at_least=0, below=1)', "a share of 1"),
    ],
    "arguments.py": [
        ('device="cpu").clone()', 'device="cpu")', "a table that somebody changes"),
        ("{name.lower(): number for", "{name: number for", "a class's name in another case"),
        ("labels.min() <= labels.max() <= highest", "labels.min() <= labels.max()", "a label that is too high"),
        ("if not values.isfinite().all():", "if not values.isfinite().any():", "a NaN among values"),
        ("t.shape not in ((), (1,), x.shape[:1]):", "t.ndim > 1:", "a wrong number of times"),
        (
            "not in (torch.float32, torch.float64):",
            "not in (torch.float16, torch.float32, torch.float64):",
            "a walk in 16 bits",
        ),
        ("if answer.shape != x.shape:", "if answer.numel() != x.numel():", "an answer of another shape"),
    ],
    "extras.py": [
        ('.partition(".")[0] != package', " != package", "a part of a package that is missing"),
        ("if find_spec(package) is None:", "if False:", "an extra that is looked for before it is used"),
    ],
    "threads.py": [
        (
            'free_cores() // int(os.environ.get("LOCAL_WORLD_SIZE") or "1")',
            "free_cores()",
            "cores that processes share",
        ),
        ("threads = min(own, _choice)", "threads = _choice", "more threads than torch has"),
        ("return int(cores + 0.5)", "return int(cores)", "a core that is nearly busy"),
        ("torch.set_num_threads(before)", "torch.set_num_threads(threads)", "the number of threads afterwards"),
    ],
    "data/reading.py": [
        ("6: Image.Transpose.ROTATE_270", "6: Image.Transpose.ROTATE_90", "a picture held on its side"),
        ("5: Image.Transpose.TRANSPOSE", "5: Image.Transpose.TRANSVERSE", "a picture held on its side and mirrored"),
        ("Image.Resampling.LANCZOS", "Image.Resampling.NEAREST", "how pictures shrink"),
        ("(height - image.height) // 2)", "0)", "the middle of a frame"),
        ("levels = white - levels", "pass", "a file in which 0 is white"),
        (
            "whites, slack = [255, 4095, 65535], 0.0",
            "whites, slack = [255, 4095, 65535], 0.01",
            "a level just above white",
        ),
        ('image.size, "black")', 'image.size, "white")', "what transparent pictures are laid on"),
        (".permute(2, 0, 1)", ".permute(2, 1, 0)", "height and width"),
    ],
    "data/scaling.py": [
        ("* 127.5).round()", "* 127.5)", "grey levels rounded to the nearest"),
        ("low >= -1 and high <= 1", "low >= -1 or high <= 1", "images beyond [-1, 1] on one side"),
    ],
    "data/sets.py": [
        ("if len(content) != promised:", "if len(content) < header:", "an IDX file that is cut"),
        ("hexdigest() != _SHA256[name, split]", 'hexdigest() == ""', "the hash of a data set"),
        ("((0, 0), (2, 2), (2, 2))", "((0, 0), (4, 0), (4, 0))", "garments in the middle of their frame"),
        ('train=split == "train"', "train=True", "the split of torchvision's sets"),
        ("images.permute(0, 3, 1, 2)", "images.permute(0, 3, 2, 1)", "colour pictures, transposed"),
        ('file[f"{split}_labels"]', 'file["train_labels"]', "the labels of the test split"),
        (
            "F.pad(images[:, None], (2, 2, 2, 2))",
            "F.pad(images[:, None], (4, 0, 4, 0))",
            "digits in the middle of their frame",
        ),
        ('str(name).split(" - ")[0]', "str(name)", "the names of MNIST's classes"),
        ("if low >= 0:", "if False:", "floats that are grey levels"),
        ('check_finite("images", images)', "pass", "floats that are not finite"),
    ],
    "data/toys.py": [
        ("row = 2 * rng.integers(2, size=n) + column % 2", "row = 2 * rng.integers(2, size=n)", "the checkerboard"),
        ("0.04 * rng.standard_normal", "0.4 * rng.standard_normal", "the width of the ring's Gaussians"),
        ("np.sqrt(rng.random(n))", "rng.random(n)", "how dense the spiral is"),
    ],
    "data/pictures.py": [
        ("label_of[parts[0]] if names else 0", "0", "the class of a picture"),
        ("if all(len(parts) > 1 for parts in inside) else []", "if inside else []", "a picture in no subfolder"),
        ("_UNREADABLE = 0.05", "_UNREADABLE = 0.5", "the legal share of damaged files"),
        ("if path.relative_to(folder).as_posix() not in reading.problems]", "]", "pictures that cannot be read"),
        ("self.labels[i]", "self.labels[0]", "the label beside a picture"),
        ("reading.try_again(folder, shape)", "pass", "pictures that could not be read once"),
    ],
    "data/finding.py": [
        ("path.suffix.lower()", "path.suffix", "pictures whose endings are in capitals"),
    ],
    "data/workers.py": [
        ("raise answer.error", "return answer.error", "an error in another process"),
        ("    ignore_signals()", "    pass", "a signal to the processes that read"),
    ],
    "metrics/comparison.py": [
        ("torch.randint(n, (n,), generator=generator,", "torch.randperm(n, generator=generator,", "the bootstrap"),
        (".std().item()", ".var().item()", "the spread of resamples without its root"),
        ("range(20)", "range(3)", "the number of resamples"),
        ("{measured}; {self.floor_is},", "{measured}; floor,", "what a perfect model's value is called"),
    ],
    "metrics/distances.py": [
        ("if not FEATURES < n <= 60_000:", "if not FEATURES <= n <= 60_000:", "as few images as features"),
        ("(n - 1) * covariance", "n * covariance", "a covariance of n samples"),
        ('stored["test.mean"]', 'stored["train.mean"]', "which split images are compared with"),
        ("_test_moments() if real is None", "_test_moments() if True", "other images to compare with"),
        ("1000 * poly_mmd(others,", "100 * poly_mmd(others,", "the unit of the kernel distance"),
        (
            "floor=_distance(real_train_features(n), others)",
            "floor=_distance(real_test_features(), others)",
            "the floor of a distance",
        ),
        (
            "else measure(train)",
            "else measure(generated)",
            "the floor of a kernel distance",
        ),
        ("spread=bootstrap_sd(generated, measure)", "spread=0.0", "the spread of a kernel distance"),
    ],
    "metrics/judge.py": [
        ("return x + changed", "return changed", "the sum around a mixer"),
        (".cpu().clamp(-1, 1).split", ".cpu().split", "clipping before a class is seen"),
        ("len(data.CLASSES) - 1)", "len(data.CLASSES))", "a class that there is not"),
    ],
    "metrics/features.py": [
        ("(self.body(images) - self.mean) @", "self.body(images) @", "features with mean 0"),
        ("self.head(F.relu(self.body(images)))", "self.head(self.body(images))", "the classifier"),
        ("images = images.clamp(-1, 1)", "pass", "clipping before features are made"),
        ("own.eval()", "pass", "the mode of a network that makes features"),
        ("data.check_range(images)", "pass", "real images on another scale"),
    ],
    "metrics/fidelity.py": [
        ("ratio(a, b, data_range=2.0", "ratio(a, b, data_range=1.0", "the range in PSNR"),
        ("measure(a, b, data_range=2.0", "measure(a, b, data_range=1.0", "the range in SSIM"),
        ("rank=1 + (distances < own).sum(1)", "rank=1 + (distances < own).sum(0)", "the axis of a rank"),
        ("fidelity(back, others)", "fidelity(originals, others)", "what a random pair is"),
        ("fidelity(one_shot, originals)", "fidelity(back, originals)", "the one-shot means in a table"),
    ],
    "metrics/precision_recall.py": [
        ('floor_is="ceiling"', 'floor_is="floor"', "what a perfect model's share is called"),
        ("kthvalue(neighbours + 1, dim=1)", "kthvalue(neighbours, dim=1)", "the k-th neighbour"),
        ("<= radius).any(dim=1)", "<= radius[:, None]).any(dim=1)", "whose radius it is"),
        (
            "precision = _share_inside(generated, others,",
            "precision = _share_inside(others, generated,",
            "precision, which is recall",
        ),
        ("math.sqrt(value * (1 - value) / n)", "math.sqrt(value * (1 - value))", "the spread of n draws"),
        (
            "else _share_inside(train, others, neighbours)",
            "else _share_inside(others, train, neighbours)",
            "the ceiling of precision, which is recall's",
        ),
        (
            "else _share_inside(others, train, neighbours)",
            "else _share_inside(train, others, neighbours)",
            "the ceiling of recall, which is precision's",
        ),
    ],
    "metrics/copies.py": [
        ("(of_generated[:, None] < of_test)", "(of_generated[:, None] > of_test)", "which image is the nearer one"),
        ("real_test_features() if real is None", "real_test_features() if True", "copying beside other real images"),
        ("spread=bootstrap_sd(of_generated, measure)", "spread=0.0", "the spread of copying"),
    ],
    "training/loop.py": [
        ("torch.manual_seed(config.seed)", "pass", "the seed of the initial weights"),
        (
            "(step + 1) % config.checkpoint_every == 0",
            "step % config.checkpoint_every == 0",
            "when a checkpoint is due",
        ),
        ("min(config.checkpoint_every, config.steps)", "1", "the mean loss since a checkpoint"),
        ("recent.extend(run.resume(", "print(run.resume(", "the losses before a stop inside an interval"),
        (" if is_due else None", "", "the loss of a checkpoint that a stop leaves"),
        (" or (is_last and signals.name is not None)", "", "a signal after the last step's vote"),
    ],
    "training/step.py": [
        ("(part.parameters(), config.clip)", "(part.parameters(), math.inf)", "the clipping of gradients"),
        ("piece.share * scalar_loss", "1 / len(pieces) * scalar_loss", "pieces of a batch that are not equally large"),
        ("piece is pieces[-1]", "piece is pieces[0]", "when processes exchange their gradients"),
        ("uniform() < 0.5", "uniform() < 0", "images that are mirrored"),
        ("if images.dtype == torch.uint8:", "if True:", "floats that are learnt as they are"),
        ("images.flip(-1)", "images.flip(-2)", "along which axis images are mirrored"),
        ("fold_in(DROPOUT, config.seed, step,", "fold_in(DROPOUT, config.seed, 0,", "dropout of every step"),
        ("(math.isfinite(loss) and", "(math.isfinite(loss) or", "a gradient that is not finite"),
        ("check_loss_finite(name, step, mean_loss, mean_norm)", "pass", "a loss that is not finite"),
        ("averages.update(state.weights, step)", "averages.update(state.weights, step + 1)", "the average's warm-up"),
        (
            "state.step(name, config.rate(step))",
            "state.step(name, config.rate(step + 1))",
            "the learning rate of a step",
        ),
        ("share_stopping > 0", "share_stopping >= 1", "a signal that one process has heard"),
        ("state.zero_grad()", "pass", "gradients of one part in another"),
        ("step, accelerator.process_index", "step, 0", "dropout of every process"),
    ],
    "training/launcher.py": [
        ('("parallelism_config", state.get("parallelism_config"), None),', "", "an Accelerator that spreads a network"),
        ("if accelerator.is_main_process:", "if True:", "a line of every process"),
    ],
    "training/preparation.py": [
        (
            "weights = of_labels | files.load_tensors(init)",
            "weights = files.load_tensors(init) | of_labels",
            "embeddings of labels that a file has",
        ),
        (".min())", ".max())", "the threads of several processes"),
        ("    if isinstance(dataset, Dataset):", "    if False:", "the images that a run is of"),
    ],
    "training/state.py": [
        (
            'if label not in tensors and label.rpartition(".")[0] not in tensors:',
            "if not tensors:",
            "a state that lacks something",
        ),
        ('copy_weights(tensors, self.weights, "weights.")', "pass", "the weights of a resumed training"),
    ],
    "training/config.py": [
        ("tuple(float(real(", "tuple((real(", "an average of decay 0"),
        ("len(decays) > 1 else", "several else", "one decay in a list"),
        (
            "self.learning_rate * (step + 1) / self.warmup",
            "self.learning_rate * step / self.warmup",
            "the warm-up's first step",
        ),
        (
            "share = (step - self.warmup) / max(1, self.steps - self.warmup)",
            "share = step / self.steps",
            "where the decay begins",
        ),
        ("momentum: float = 0.9", "momentum: float = 0.99", "the default momentum"),
        ("weight_decay: float = 0.01", "weight_decay: float = 0.1", "the default weight decay"),
        ("tuple[float, ...] = 0.999", "tuple[float, ...] = 0.99", "the default decay of the averages"),
        ("or len(set(decays)) < len(decays):", ":", "two equal decays"),
    ],
    "training/recipes.py": [
        ('"optimiser": "adam", "momentum": 0.0', '"optimiser": "adam", "momentum": 0.5', "a GAN's momentum"),
        ('"uniform_share": 0.1', '"uniform_share": 0.0', "the recipe's share of uniform times"),
        ('"decay": "linear"', '"decay": "cosine"', "how a student's learning rate falls"),
        ("settings_class(**chosen)  #", "pass  #", "how soon wrong settings are refused"),
    ],
    "training/optimisers.py": [
        ("betas = (float(momentum), 0.999)", "betas = (float(momentum), 0.99)", "beta 2"),
        ("nesterov=True", "nesterov=False", "Nesterov's momentum in Muon"),
        ("torch.optim.SGD(parameters, momentum=momentum,", "torch.optim.SGD(parameters,", "the momentum of sgd"),
        ("torch.optim.Adam(parameters, betas=betas,", "torch.optim.Adam(parameters,", "the momentum of adam"),
        ("torch.empty_like(parameter, requires_grad=False).copy_(value)", "value", "the memory layout of a state"),
    ],
    "training/averages.py": [
        ("(1 + step) / (10 + step)", "(1 + step) / (20 + step)", "how an average warms up"),
        ("{name: value.clone() for", "{name: value for", "an average that is the weights themselves"),
        ("average[name].copy_(weights[name])", "pass", "a count in an average"),
    ],
    "training/batches.py": [
        ("dataset.labels[images_of_step(seed, step,", "dataset.labels[images_of_step(seed, 0,", "the labels of a step"),
        ("_order(seed, e, n)", "_order(seed, 0, n)", "an order of every epoch's own"),
        ("len(dataset))[rows] for", "len(dataset)) for", "the rows of one process"),
    ],
    "training/trackers.py": [
        ("with suppress(OSError):  # the error", "if True:  # the error", "which error a full disk is told by"),
        ('"purge_step": step + 1', '"purge_step": step', "the step that TensorBoard keeps"),
        ("if step == 0 or not path.exists():", "if True:", "a run that goes on at wandb"),
        (" and self.accelerator.is_main_process", "", "how many processes name a run at wandb"),
    ],
    "training/run.py": [
        ('or not isinstance(line.get("step"), int)', "", "a line of the log without a step"),
        ("lock.acquire()", "pass", "the lock of a run's folder"),
        ("!= self._seen:", "is None:", "a training that came in between"),
        ("HALF_WRITTEN.fullmatch(path.name)", "path.name", "files of other programs"),
        ('if line["step"] <= step:', 'if line["step"] < step:', "the last line of a log"),
        ("if illegible:", "if False:", "a line in the middle of a log that cannot be read"),
        (
            '(replaced := _sha256(folder / "model.safetensors"))',
            "(replaced := None)",
            "a kill while a model is published",
        ),
        ('elif (folder / "model.safetensors").exists():', "elif folder is None:", "a model without a checkpoint"),
        ('if line.endswith(b"\\n")', "if False", "another program's log"),
    ],
    "own_parts.py": [
        ('"own_network": getattr(task, "own_network", None)', '"own_network": None', "a network of one's own"),
        ("schedule and schedule_entry", "None and schedule_entry", "a schedule of one's own"),
        ("type(task).__name__ if is_own else None", "None", "a loss of one's own"),
        ("if own is not None and network is None:", "if own is None and network is None:", "a network that load lacks"),
        ("if network is not None and own is None:", "if False:", "a network that load cannot use"),
        ("if schedule_entry(schedule) != own:", "if False:", "another schedule of the same class"),
    ],
    "training/record.py": [
        ("len(decays) == 1:", "not decays:", "one decay in a list, of an earlier version"),
        ("if each.default is not MISSING}", "}", "a setting without a default"),
        ("TrainingConfig.keep", "config.keep", "a run that keeps more checkpoints"),
        ('training["steps"] >= step', "True", "a run of fewer steps than it has done"),
        ("hashlib.sha256(Path(init).read_bytes()).hexdigest()", "str(init)", "which weights a run began with"),
        (
            "{_in_short(there)} there and {_in_short(value)} here",
            "{_in_short(value)} there and {_in_short(there)} here",
            "what a message says is where",
        ),
    ],
    "training/checkpoint.py": [
        ('if sealed(manifest)["seal"] != seal or', "if", "a manifest that was changed"),
        ('".safetensors"), manifest["sha256"])', '".safetensors"))', "tensors that were changed"),
        ("return min(losses", "return max(losses", "which checkpoint is the best"),
        ("sound[-keep:]", "sound[:keep]", "which checkpoints are kept"),
        (" if _by_step(path) <= _by_step(_path(folder, step))]", "]", "damaged checkpoints beyond the step"),
        ("key=_by_step, reverse=True)", "reverse=True)", "which checkpoint is the newest"),
        ("ema[0] if isinstance", "ema[-1] if isinstance", "which average is the run's own"),
        (
            "if version != VERSION:",
            "if version is None:",
            "another version's checkpoint",
        ),
    ],
    "training/signals.py": [
        ("if signal.getsignal(number) is not signal.SIG_IGN:", "if number:", "a signal that the program ignores"),
        ("        if number == signal.SIGINT:", "        if number == signal.SIGTERM:", "a second Ctrl-C"),
        ("signal.signal(number, handler)", "pass", "the handlers afterwards"),
    ],
    "interop/weights.py": [
        ("UNet(unet_config(model)).float()", "UNet(unet_config(model))", "weights that another default type rounds"),
        ("labels is None else labels - 1", "labels is None else labels", "the null label of a model of diffusers"),
        ("channel_multipliers[0]) != 1:", "channel_multipliers[0]) < 1:", "a first level that diffusers lacks"),
        ('"attention_head_dim": config.head_channels', '"attention_head_dim": 8', "the heads in diffusers"),
        ('"dropout": config.dropout', '"dropout": 0.0', "the dropout in diffusers"),
    ],
    "interop/schedulers.py": [
        ('timestep_spacing="trailing"', 'timestep_spacing="leading"', "the grid of an exported scheduler"),
        ("clip_sample=False", "clip_sample=True", "an exported scheduler that clips"),
        ("np.linspace(start**0.5, end**0.5, T) ** 2", "np.linspace(start, end, T)", "the scaled linear schedule"),
        ("np.linspace(-6, 6, T)", "np.linspace(-3, 3, T)", "diffusers' sigmoid schedule"),
    ],
    "interop/pipelines.py": [
        ("image_shape, classes, distilled_for)", "image_shape, classes)", "a student that was exported"),
        ("expanded(directory)", "Path(directory)", "an export into the home"),
        ("height if height == width else (height, width)", "height", "images that are not square, exported"),
        (
            "config.in_channels, sides[0], sides[1]",
            "config.in_channels, sides[1], sides[0]",
            "height and width, imported",
        ),
        ("count -= 1", "count -= 0", "the classes of a model of diffusers"),
        ("if null_label or not model", "if True or not model", "a model of diffusers without a null label"),
        ("network.requires_grad_(False)", "pass", "gradients of an imported network"),
        ("new.float().load_state_dict", "new.load_state_dict", "a first convolution that another default type rounds"),
        ("network.to(place, torch.float32,", "network.to(place,", "an imported network under another default type"),
        ("self.labels - 1, dtype", "0, dtype", "what a model of diffusers is told where no class is"),
        ("answer[:, : x.shape[1]]", "answer[:, -x.shape[1] :]", "which half of the answer is the noise"),
    ],
    "interop/parts.py": [
        ("check_file_finite(folder, model.state_dict())", "pass", "a NaN among diffusers' weights"),
        ("copy.deepcopy(pipeline.unet)", "pipeline.unet", "a pipeline in memory, which is not changed"),
    ],
    "interop/onnx.py": [
        ("path = expanded(path)", "path = Path(path)", "a file in the home"),
        ("model.metadata_props.add(key=name, value=json.dumps(value))", "pass", "what an exported network says"),
    ],
    "interop/card.py": [
        ("denoise.distilled_for or min(50, denoise", "min(50, denoise", "the calls of a student, on its card"),
    ],
    "cli/__init__.py": [
        ("(_numpy_first(command))", "(command)", "Ctrl-C while numpy is imported"),
        ("2 if error.errno in WRONG_PATH else 1)", "2)", "the exit code of a full disk"),
        ("_stop(first_line(error), 1)", "_stop(str(error), 2)", "the exit code of a loss that is not finite"),
    ],
    "cli/launch.py": [
        ('typer.echo(f"{stopped}; the same', 'str(f"{stopped}; the same', "how a stopped training goes on"),
    ],
    "cli/options.py": [
        ("if sampler not in (None, owner):", "if not owner:", "an option that the sampler lacks"),
        ("if out.is_dir():", "if not out.name:", "a folder in the picture's place"),
    ],
    "cli/round_trip.py": [
        ("PerSampleNoise(seed, FRESH + 16 * i)", "PerSampleNoise(seed, FRESH)", "the noise of the 17th picture"),
        (
            "randn_like=PerSampleNoise(seed, FRESH +",
            "randn_like=PerSampleNoise(seed,",
            "noise that a drawing came from",
        ),
        ('order=1 if sampler == "ddim" else 2', "order=1", "an inversion by Heun's method"),
        ("trip.back - trip.originals", "trip.originals - trip.back", "the sign of the difference"),
        (
            "for x in (trip.originals, trip.back))",
            "for x in (trip.back, trip.originals))",
            "what a picture looked like",
        ),
    ],
    "cli/sample.py": [
        ("if rows > down:", "if False:", "a film of too many rows"),
        ("if n > most:", "if False:", "a film too large for its format"),
        ("if shape[0] not in (1, 3):", "if False:", "latents, which are no picture"),
        (
            "[label for label in rows for _ in range(each)]",
            "[label for _ in range(each) for label in rows]",
            "the class of a row",
        ),
        ("range(each - 1, -1,", "range(each - 2, -1,", "the last frame of a film"),
    ],
    "cli/drawing.py": [
        ("if not 1 <= guiding.guidance < math.inf:", "if guiding.guidance < 1:", "guidance that is no number"),
        ("WEIGHT = 1.6", "WEIGHT = 1.3", "the default weight of a guide"),
        ("worse.given(labels) if labels and worse.classes else worse", "worse", "the class that a guide is told"),
        (
            "if labels and worse.classes and worse.classes != trained",
            "if False and trained",
            "a guide of other classes",
        ),
    ],
    "cli/evaluate.py": [
        ("        check_frechet(n)", "        pass", "too few images, before they are drawn"),
        ("[i % len(classes) for i in range(n)]", "[0 for i in range(n)]", "the classes that are told in turn"),
        ("tuple(classes) == CLASSES", "not classes", "how often the class that was told is seen"),
        ("sampler, steps, seed, **options)", "sampler, steps, 0, **options)", "the seed of what is measured"),
    ],
    "cli/train.py": [
        ("**chosen | of_data)", "**chosen)", "the size of pictures, before they are read"),
        ('if "image_shape" in settings:', "if False:", "a shape in a file"),
        ("in_file | given)", "given | in_file)", "an option against a file"),
    ],
    "cli/config_file.py": [
        ('training.pop("threads", None)', "pass", "the threads of another machine"),
    ],
    "cli/job.py": [
        (
            "(3 if job.channels is None else job.channels,",
            "(1 if job.channels is None else job.channels,",
            "pictures in colour",
        ),
        ("[x, model.decode(model.encode(x))]", "[x, x]", "reconstructions in the picture of a training"),
        ("if model.classes:", "if False:", "classes in the picture of a training"),
    ],
    "cli/settings.py": [
        ("RECIPES[kind].get(name, field.default)", "field.default", "the defaults that --help shows"),
    ],
    "cli/chapters.py": [
        ("force=force, weights", "weights", "--force of a marking"),
        ("weights=weights_of(weight or [])", "weights={}", "--weight of a marking"),
        ("parameters, force, threads, jobs)", "parameters, force, threads)", "--jobs"),
    ],
    "companion/checks.py": [
        (
            "if _enforced and not low <= measured <= high:",
            "if _enforced and (measured < low or measured > high):",
            "a number that is NaN",
        ),
    ],
    "companion/answering.py": [
        ("if all(is_blank(function) for", "if not all(is_blank(function) for", "a practical that is not written"),
        ("return None if is_blank(function) else NOTHING", "return None", "a function without a return"),
        ("except UNREADABLE as error:", "except SyntaxError as error:", "a cell that is nested without end"),
        ("_replace(changes=each.changes - imported)", "_replace(changes=set())", "a table that another cell fills"),
    ],
    "companion/exercises/grading.py": [
        ("rel_tol=1e-4, abs_tol=1e-9", "rel_tol=1e-2, abs_tol=1e-9", "an answer that is nearly right"),
        ("return all(_close(", "return any(_close(", "an answer that is right at one point"),
    ],
    "companion/exercises/blank_page.py": [
        ("if share.min() < 0.25", "if share.min() < 0.0", "a blob that is left out"),
        ("    if not steps:", "    if steps is None:", "points without a training"),
    ],
    "companion/exercises/practicals.py": [
        ("if not max(abs(each.item()) for each in off) < 0.1:", "if not off:", "noise that is not fresh"),
        ("rtol=1e-4, atol=0", "rtol=1, atol=0", "a loss that is nearly right"),
        ("    if not value.requires_grad:", "    if value is None:", "a loss without a gradient"),
        ("(eps.pow(4).mean() - 3).abs() < 0.6", "(eps.pow(4).mean() - 3).abs() < 6", "noise that is no N(0, 1)"),
        (".abs().mean() < 0.01:", ".abs().mean() < 0:", "the same noise in every call"),
    ],
    "companion/exercises/loss_with_labels.py": [
        (
            "elif abs(share - dropout) > 0.02:",
            "elif abs(share - dropout) > 2:",
            "another share of labels that are dropped",
        ),
        ("_share(a) * _share(b) + 0.02", "_share(a) * _share(b) + 2", "the same labels that are dropped in every call"),
        ("(told != labels) & (told != null_label)", "(told != labels) & (told < 0)", "another class that is told"),
        ("if torch.equal(x_t[t == 1], x0[t == 1]):", "if torch.equal(x_t, x0):", "times that are counted from 1"),
    ],
    "companion/exercises/flow_loss.py": [
        ("elif tau.min() < 0 or tau.max() > 1:", "elif tau.min() < 0:", "times that run to T"),
        ("x0 - eps,", "eps - 2 * x0,", "the hint for a velocity of the other sign"),
    ],
    "companion/exercises/two_samplers.py": [
        ("    if len(calls) != moves:", "    if len(calls) < moves:", "a sampler of two calls a move"),
        ("if not torch.equal(given, x):", "if not given.shape:", "a sampler that changes what it is given"),
        ("rtol=1e-5, atol=1e-6", "rtol=1e-2, atol=1e-2", "a move that is nearly right"),
    ],
    "companion/claims.py": [
        ("if name not in MEASURED]", "if not name]", "a verdict without its number"),
        ("if c.chapter == chapter]", "if c.chapter >= chapter]", "the claims of a chapter"),
        ("if not self.evidence:", "if self.evidence is None:", "a claim without evidence"),
    ],
    "companion/results.py": [
        (
            '"cpu": str(m),',
            '"cpu": m.claim,',
            "the columns of the page of results",
        ),
    ],
    "companion/long_runs.py": [
        ("lines.append(line | {", "lines.append(own[0] | {", "a mean over the seeds"),
    ],
    "companion/ledger.py": [
        (
            "elif not any(pattern.fullmatch(name) for pattern in checked):",
            "elif not name:",
            "a number that no cell checks",
        ),
        ("(slow|skip|browser|xfail)", "(skip|browser|xfail)", "evidence that make test leaves out"),
        ('any(cell.get("execution_count") for cell', "any(True for cell", "evidence that did not run"),
        (
            'if isinstance(node, ast.Assign) and "pytestmark"',
            'if False and "pytestmark"',
            "evidence in a file that make test leaves out",
        ),
        (
            'or path.read_text(encoding="utf-8") != text:',
            'or not path.read_text(encoding="utf-8"):',
            "a page that is out of date",
        ),
    ],
    "companion/marking.py": [
        ("return not seeds <=", "return seeds <", "a cell that names another seed"),
        ("if (name in PRACTICALS) == practical}", "if name}", "right functions that are read beside a practical"),
        ("hidden = int(sha256[:8], 16)", "hidden = seed", "a table of the answers at a copy's own points"),
        ("if force else _kept(record", "if not record else _kept(record", "a marking that is forced"),
        ("published, _code_of_marking()])", "published])", "marks by exercises that were corrected since"),
        ("published, _code_of_marking()])", "_code_of_marking()])", "marks by chapters that were corrected since"),
        ("not in (None, edition_of(published))", "is not None", "a copy of the same edition"),
        ("check_weights(weights or {}, asked)", "pass", "a weight of an exercise that is not marked"),
        ("if len(students) > 1:", "if len(students) > 99:", "chapters of several students"),
    ],
    "companion/outputs.py": [
        (
            'if (copy["id"], copy["source"]) != (cell["id"], cell["source"]):',
            "if not copy:",
            "outputs of another source",
        ),
        ('joined[-1]["text"] += output["text"]', "joined.append(output)", "what was printed in pieces"),
    ],
    "companion/notebook.py": [
        ("kmeans=1, ", "", "the colours of lines"),
    ],
    "companion/unpacking.py": [
        ("if path.stat().st_size > MOST:", "if path.stat().st_size < 0:", "a zip that is too large"),
        ("if len(files) > 1:", "if len(files) > 99:", "a chapter that is there twice"),
        ("if i < MOST_OTHERS else", "if i >= 0 else", "a zip of very many notebooks"),
    ],
    "companion/marks.py": [
        ('.replace("`", "\'")', "", "a backtick that ends a cell of a report"),
        ("if not 0 < weight < math.inf:", "if weight < 0:", "a weight of 0"),
        ("most = sum(weights.get(name, 1) for", "most = sum(1 for", "the most that a weighted hand-in can have"),
        ('startswith(("=", "+", "-", "@"))', 'startswith(("=",))', "formulas in a sheet"),
    ],
    "companion/sandbox.py": [
        ('{"PATH": "/usr/bin:/bin", "HOME": "/tmp"}', "dict(os.environ)", "a teacher's variables"),
        ('"--unshare-all"', '"--unshare-al"', "walls that do not stand"),
        ("if home.is_relative_to(Path(path).resolve())]", "if not path]", "a home beside the interpreter"),
    ],
    "companion/hand_in.py": [
        ("copy.unlink(missing_ok=True)", "pass", "copies that a full disk cut short"),
        ("hexdigest()[:6]", "hexdigest()[:7]", "the numbers of copies that are handed out already"),
        (
            "[copy for copy in copies if copy.exists()]",
            "[copy for copy in copies if not copy]",
            "a student's work, written over",
        ),
        (
            'guess if guess != published.get("guess") else',
            'guess if guess == published.get("guess") else',
            "whose prediction it is",
        ),
        ("preset, only, force=True", "preset, only, force=False", "an earlier run of what is handed in"),
        ("sha256(finished.read_bytes())", 'sha256(b"")', "the hash of what is handed in"),
        ("[cell, *_caption_below(cell)]", "[*_caption_below(cell), cell]", "a caption above its figure"),
        ("sha256(json.dumps(code)", 'sha256(json.dumps("")', "the hash of the chapter that it is a copy of"),
    ],
    "companion/book.py": [
        ("html.exists()", "html.is_file()", "solutions stay where a book without them is built"),
        ("ROOT if executed is None else stage", "stage", "the book without solutions lies where nobody looks"),
        (" and their solutions on", " and their solution on", "a chapter promises solutions that were left out"),
    ],
    "companion/runner.py": [
        (
            'before.get("fingerprint") == fingerprint',
            'before.get("fingerprint") is not None',
            "a chapter that has changed",
        ),
        ("return not any(outcome.error", "return not all(outcome.error", "a chapter that failed"),
    ],
    "companion/chapters.py": [
        ("if tagged != 1:", "if tagged < 1:", "two cells of parameters"),
    ],
    "companion/chapter_record.py": [
        ('b"\\0" + path.read_bytes())', 'b"\\0")', "a package that has changed"),
    ],
    "companion/provenance.py": [
        (
            'checks.enforce(self.preset != "smoke")',
            'checks.enforce(self.preset == "cpu")',
            "the checks of the gpu tier",
        ),
        (
            'if not Path(git("rev-parse", "--show-toplevel")).samefile(root):',
            "if not root:",
            "another project's commit",
        ),
    ],
    "companion/figures.py": [
        ("vmin=-1, vmax=1", "vmin=0, vmax=1", "the black of a picture"),
        ("boxes[level], boxes[-1 - level]", "boxes[level], boxes[len(skips) + level]", "where a skip leads"),
        ("max(height, last + apart)", "height", "names that overlap"),
        ("line.get_transform()", "axes.transData", "where a level across the whole figure ends"),
        ('image_size, "resampled")', 'image_size, "block")', "the sizes at a drawing's arrows"),
    ],
}
MUTANTS = [Mutant(file, *change) for file, changes in CHANGES.items() for change in changes]

#: Tests near to a module beside those in the file of its own name, nearest first.
NEAREST = {
    "schedule/table.py": ["test_schedule.py", "test_samplers.py", "test_every_schedule.py"],
    "schedule/paths.py": ["test_schedule.py", "test_samplers.py", "test_every_schedule.py"],
    "schedule/named.py": ["test_schedule.py", "test_samplers.py", "test_every_schedule.py"],
    "grids.py": ["test_schedule.py", "test_samplers.py"],
    "samplers.py": ["parity/test_schedulers.py", "test_every_schedule.py", "test_round_trip.py"],
    "edict.py": ["test_round_trip.py"],
    "langevin.py": ["test_every_schedule.py"],
    "likelihood.py": ["test_every_schedule.py", "test_fast.py"],
    "files.py": ["test_pretrained.py"],
    "own_parts.py": ["training/test_own_parts.py"],
    "companion/exercises/practicals.py": [
        "companion/exercises/test_flow_loss.py",
        "companion/exercises/test_loss_with_labels.py",
    ],
    "model_files.py": ["test_pretrained.py", "test_distillation.py"],
    "pretrained.py": ["training/test_own_parts.py"],
    "training/record.py": ["training/test_run.py", "training/test_own_parts.py"],
    "fast.py": ["test_bits.py"],
    "model_settings.py": ["training/test_record.py", "test_settings.py", "test_gan.py", "test_diffusion.py"],
    "arguments.py": [
        "test_settings.py",
        "test_conditional.py",
        "test_denoiser.py",
        "test_oracles.py",
        "test_likelihood.py",
    ],
    "unet/blocks.py": ["test_networks.py", "test_conditional.py", "test_unet.py", "parity/test_unet.py"],
    "unet/network.py": ["test_conditional.py", "test_networks.py", "test_unet.py", "parity/test_unet.py"],
    "unet/sizes.py": ["test_networks.py", "test_unet.py"],
    "unet/config.py": ["test_unet.py"],
    "data/scaling.py": ["data/test_sets.py"],
    "data/toys.py": ["data/test_sets.py"],
    "metrics/features.py": ["metrics/test_own_features.py", "metrics/test_distances.py"],
    "metrics/comparison.py": ["metrics/test_distances.py", "metrics/test_own_features.py"],
    "metrics/distances.py": ["metrics/test_own_features.py"],
    "metrics/precision_recall.py": ["metrics/test_distances.py", "metrics/test_own_features.py"],
    "metrics/copies.py": ["metrics/test_distances.py", "metrics/test_own_features.py"],
    "training/loop.py": ["training/test_step.py"],
    "training/preparation.py": ["training/test_refusals.py", "training/test_loop.py", "training/test_several.py"],
    "training/step.py": ["training/test_refusals.py", "training/test_loop.py", "training/test_several.py"],
    "training/config.py": ["training/test_record.py"],
    "training/launcher.py": ["training/test_several.py"],
    "training/recipes.py": ["training/test_config.py", "test_architecture.py"],
    "interop/weights.py": ["parity/test_unet.py", "parity/test_folders.py"],
    "interop/schedulers.py": ["parity/test_schedulers.py", "parity/test_folders.py"],
    "interop/card.py": ["parity/test_unet.py", "parity/test_folders.py"],
    "interop/pipelines.py": ["parity/test_folders.py", "parity/test_in_memory.py", "parity/test_unet.py"],
    "interop/parts.py": ["parity/test_folders.py", "parity/test_in_memory.py", "parity/test_unet.py"],
    "interop/onnx.py": ["parity/test_onnx.py", "parity/test_folders.py"],
    "cli/__init__.py": ["cli/test_help.py", "cli/test_sample.py", "cli/test_train.py"],
    "cli/launch.py": ["training/test_survival.py", "training/test_several.py"],
    "cli/options.py": ["cli/test_sample.py", "cli/test_round_trip.py", "cli/test_help.py"],
    "cli/sample.py": ["cli/test_drawing.py"],
    "cli/drawing.py": ["cli/test_evaluate.py", "cli/test_drawing.py", "cli/test_sample.py"],
    "cli/evaluate.py": ["cli/test_evaluate.py"],
    "cli/round_trip.py": ["cli/test_drawing.py"],
    "cli/config_file.py": ["cli/test_train.py"],
    "cli/job.py": ["cli/test_train.py", "data/test_pictures.py"],
    "cli/train.py": ["data/test_pictures.py"],
    "sampling.py": ["training/test_several.py"],
    "walks.py": ["test_sampling.py"],
    "cli/settings.py": ["cli/test_help.py", "cli/test_train.py"],
    "targets.py": ["test_denoiser.py"],
    "denoiser/interface.py": ["test_denoiser.py", "test_conditional.py", "test_networks.py"],
    "denoiser/network.py": ["test_denoiser.py", "test_conditional.py", "test_networks.py"],
    "denoiser/wrappers.py": ["test_denoiser.py", "test_conditional.py", "test_networks.py"],
    "oracles.py": ["test_conditional.py", "test_by_hand.py"],
    "diffusion.py": ["test_conditional.py", "test_by_hand.py"],
    "noise.py": ["test_by_hand.py"],
    "autoencoder.py": ["test_networks.py"],
    "gan.py": ["test_networks.py"],
    "companion/answering.py": ["companion/test_marking.py"],
    "companion/sandbox.py": ["companion/test_marking.py"],
    "companion/unpacking.py": ["companion/test_unpacking.py", "companion/test_marking.py"],
    "cli/chapters.py": ["cli/test_chapters.py", "companion/test_execution.py"],
    "companion/results.py": ["companion/test_ledger.py", "book/test_results.py"],
    "companion/long_runs.py": ["companion/test_long_runs.py", "book/test_results.py"],
    "companion/chapters.py": ["companion/test_runner.py"],
    "companion/chapter_record.py": ["companion/test_runner.py"],
    "companion/provenance.py": ["companion/test_checks.py", "companion/test_runner.py"],
}


def nearest(file):
    """The tests nearest to a file of the package."""
    mirrored = Path(file).with_name(f"test_{Path(file).name}").as_posix()
    return [f"tests/{test}" for test in (mirrored, *NEAREST.get(file, [])) if (ROOT / "tests" / test).is_file()]


def rounds(file, scope):
    """The runs of pytest that a mutant of this file has to pass, one by one: (files, marks, other arguments)."""
    near = nearest(file)
    yield near, QUICK, []
    yield near, SLOWER, []
    if scope == "nearest":
        return
    others = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    others = [path for path in others if path not in near and not path.startswith(NEVER)]
    others.sort(key=lambda path: Path(path).parent.name != Path(file).parent.name and "bits" not in path)
    few = [path for path in others if not path.startswith(OF_ALL)]
    yield few, QUICK, []
    yield few, SLOWER, []
    if scope == "all":
        yield [*(path for path in others if path not in few), "notebooks"], "not slow and not browser", ["--nbval"]
        yield [*near, *others], "slow", []


def copy_of_tree(folder):
    """Copy the tracked and the new files of the working tree, and make a repository of the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    by = ["-c", "user.name=mutants", "-c", "user.email=mutants@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*by, "commit", "--quiet", "--message", "a copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


class Watcher:
    """A plugin of pytest that notes what fails."""

    def __init__(self):
        self.failed = []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)

    pytest_collectreport = pytest_runtest_logreport


def _test(folder, arguments, answers):
    """In a process of its own, which has what is slow to import already: run pytest in a copy of the tree."""
    import pytest

    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "ddpm", "conftest")]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    watcher = Watcher()
    code = pytest.main([*arguments, "-q", "-p", "no:cacheprovider"], plugins=[watcher])
    answers.send((int(code), watcher.failed))


def failures(folder, files, marks, others, without=(), *, first=True):
    """The tests that fail in a copy of the tree, only the first of them if so wanted."""
    deselected = [argument for test in without for argument in ("--deselect", test)]
    arguments = [*files, "-m", marks, *others, *deselected, *(["-x"] if first else [])]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_test, args=(folder, arguments, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(PATIENCE):
            return ["it hangs"]
        code, failed = receiver.recv()
        return failed if code in (0, 1, 5) or failed else [f"pytest ends with {code}"]
    except EOFError:
        return ["the process of the tests dies"]
    finally:
        if process.is_alive():
            process.join(5)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except (ProcessLookupError, PermissionError):
                break
            time.sleep(0.2)
        process.join()


class Tree:
    """A copy of the working tree in which mutants are tried, one at a time."""

    def __init__(self, folder):
        self.folder = folder
        self._sound = {}
        copy_of_tree(folder)
        content = [path.read_bytes() for part in ("ddpm", "tests") for path in sorted((folder / part).rglob("*.py"))]
        self.digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:12]

    def killer(self, mutant, scope):
        """The test that notices a mutant, and passes without it; None where none does."""
        for files, marks, others in rounds(mutant.file, scope):
            while failed := self._failures_with(mutant, files, marks, others):
                tried_before = failed[0] in self._sound
                if self._passes_without(failed[0]):
                    return failed[0]
                if tried_before:  # a file that cannot be collected cannot be left out either
                    break
        return None

    def _failures_with(self, mutant, files, marks, others):
        unsound = [test for test, sound in self._sound.items() if not sound]
        path = self.folder / "ddpm" / mutant.file
        source = path.read_bytes()
        try:
            mutated(self.folder, *mutant[:3])
            return failures(self.folder, files, marks, others, unsound)
        finally:
            path.write_bytes(source)

    def _passes_without(self, test):
        """Whether a test passes where no mutant is, tried once; what is no test's name, such as a hang, counts."""
        name = test.partition("[")[0]
        if not name.startswith(("tests/", "notebooks/")):
            return True
        if test not in self._sound:
            marks, others = ("", ["--nbval"] if name.startswith("notebooks/") else [])
            self._sound[test] = test not in failures(self.folder, [name], marks, others, first=False)
            if not self._sound[test]:
                tqdm.write(f"fails without a mutant and does not count: {test}")
        return self._sound[test]


def settled(record, scope, digest):
    """Whether a mutant need not be tried again: some test noticed it, or these very files did not."""
    wide_enough = SCOPES.index(record["scope"]) >= SCOPES.index(scope)
    return record["by"] is not None or (record["tree"] == digest and wide_enough)


def read_results(path):
    """The last result of every mutant."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(line["file"], line["right"], line["wrong"]): line for line in map(json.loads, lines)}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--only", nargs="+", default=[""], help="take the mutants with one of these in file or words")
    parser.add_argument("--nearest", action="store_true", help="try no tests but the nearest ones")
    parser.add_argument("--all", action="store_true", help="try the chapters, the book and the slow tests, too")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="file of the results, which a second call resumes"
    )
    parser.add_argument("--list", action="store_true", help="say what is known of every mutant, and try none")
    options = parser.parse_args()
    scope = "nearest" if options.nearest else "all" if options.all else "tests"
    chosen = [mutant for mutant in MUTANTS if any(word in " ".join(mutant) for word in options.only)]
    if not options.list:
        try_all(chosen, scope, options.results)
    known = read_results(options.results)
    results = [(mutant, known.get(mutant[:3])) for mutant in chosen]
    for mutant, result in results:
        by = "not tried" if result is None else result["by"] or f"SURVIVES ({result['scope']})"
        print(f"{mutant.file}: {mutant.broken}: {by}")
    killed = sum(bool(result and result["by"]) for _, result in results)
    tried = sum(result is not None for _, result in results)
    print(f"{len(results)} mutants, {tried} tried, {killed} noticed")


def try_all(mutants, scope, results):
    """Try these mutants, and write what becomes of each to a file at once."""
    os.nice(15)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs ends, too
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in BEFORE:
        import_module(name)
    results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as scratch:
        tree = Tree(Path(scratch, "tree"))
        os.environ["PYTHONPATH"] = str(tree.folder)  # for processes that tests start
        known = read_results(results)
        todo = [m for m in mutants if m[:3] not in known or not settled(known[m[:3]], scope, tree.digest)]
        for mutant in (bar := tqdm(todo, unit="mutant")):
            if (tree.folder / "ddpm" / mutant.file).read_text(encoding="utf-8").count(mutant.right) != 1:
                tqdm.write(f"{mutant.file}: {mutant.broken}: its line is no longer there")
                continue
            start = time.monotonic()
            by = tree.killer(mutant, scope)
            tqdm.write(f"{mutant.file}: {mutant.broken}: " + (f"killed by {by}" if by else "SURVIVES"))
            line = {**mutant._asdict(), "by": by, "scope": scope, "tree": tree.digest}
            line["seconds"] = round(time.monotonic() - start, 1)
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            bar.refresh()


if __name__ == "__main__":
    main()
