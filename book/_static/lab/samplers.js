// @ts-check
// The samplers of ddpm.samplers and ddpm.langevin, name for name. Each walks a grid of times and yields every state.

/**
 * @typedef {{schedule: Schedule, predict: (x: Float64Array, t: number) => Prediction | Promise<Prediction>}} Denoiser
 * @typedef {{x: Float64Array, t: number, prediction: Prediction}} Step
 * @typedef {(x: Float64Array) => Float64Array} RandnLike
 */

/**
 * The sum of arrays, each with its factor.
 * @param {...[factor: number, values: Float64Array]} terms
 */
function combine(...terms) {
  const total = new Float64Array(terms[0][1].length);
  for (const [factor, values] of terms) for (let i = 0; i < total.length; i++) total[i] += factor * values[i];
  return total;
}

/**
 * Each time of a grid with the next.
 * @param {number[]} timesteps
 * @returns {[t: number, s: number][]}
 */
function pairwise(timesteps) {
  return timesteps.slice(0, -1).map((t, i) => [t, timesteps[i + 1]]);
}

/**
 * A clean point and a noise, mixed for time t.
 * @param {Schedule} schedule
 * @param {Prediction} prediction
 * @param {number} t
 */
function addNoise(schedule, { x0, eps }, t) {
  const [signal, noise] = schedule.signalAndNoise(t);
  return combine([signal, x0], [noise, eps]);
}

/**
 * Ancestral sampling of Ho et al. (2020), algorithm 2, with the posterior's variance.
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps
 * @param {{randnLike: RandnLike}} options
 * @returns {AsyncGenerator<Step>}
 */
async function* ancestral(denoise, x, timesteps, { randnLike }) {
  const { schedule } = denoise;
  for (const [t, s] of pairwise(timesteps)) {
    const prediction = await denoise.predict(x, t);
    const kept = schedule.signal(t) / schedule.signal(s);
    const beta = schedule.beta(t, s);
    const over = schedule.noise(t) ** 2;
    const mean = [(schedule.signal(s) * beta) / over, (kept * schedule.noise(s) ** 2) / over]; // eq. 7
    x = combine([mean[0], prediction.x0], [mean[1], x]);
    if (s > 0) x = combine([1, x], [schedule.posteriorStd(t, s), randnLike(x)]);
    yield { x, t: s, prediction };
  }
}

/**
 * DDIM of Song et al. (2021): deterministic at eta 0, ancestral sampling with the small variance at 1.
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps
 * @param {{eta?: number, randnLike: RandnLike}} options
 * @returns {AsyncGenerator<Step>}
 */
async function* ddim(denoise, x, timesteps, { eta = 0, randnLike }) {
  const { schedule } = denoise;
  for (const [t, s] of pairwise(timesteps)) {
    const prediction = await denoise.predict(x, t);
    const std = eta * schedule.posteriorStd(t, s); // eq. 16
    const direction = Math.sqrt(schedule.noise(s) ** 2 - std ** 2);
    x = combine([schedule.signal(s), prediction.x0], [direction, prediction.eps]); // eq. 12
    if (std > 0) x = combine([1, x], [std, randnLike(x)]);
    yield { x, t: s, prediction };
  }
}

/**
 * Heun's method in the angle: a move of DDIM, corrected by the prediction where it ends.
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps
 * @returns {AsyncGenerator<Step>}
 */
async function* heun(denoise, x, timesteps) {
  const { schedule } = denoise;
  for (const [t, s] of pairwise(timesteps)) {
    const prediction = await denoise.predict(x, t);
    x = addNoise(schedule, prediction, s);
    if (s > 0) {
      const atEnd = await denoise.predict(x, s);
      const half = (schedule.angle(s) - schedule.angle(t)) / 2;
      const [signal, noise] = schedule.signalAndNoise(s);
      const x0 = combine([1, atEnd.x0], [-1, prediction.x0]);
      const eps = combine([1, atEnd.eps], [-1, prediction.eps]);
      x = combine([1, x], [half * signal, eps], [-half * noise, x0]);
    }
    yield { x, t: s, prediction };
  }
}

/**
 * DPM-Solver++(2M), Lu et al. (2022), algorithm 2: second order at one call a move, from the move before.
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps
 * @returns {AsyncGenerator<Step>}
 */
async function* dpmSolverPp(denoise, x, timesteps) {
  const { schedule } = denoise;
  /** @type {{x0: Float64Array, h: number} | null} */
  let last = null; // the move before: its x0, and its length in -log sigma
  for (const [t, s] of pairwise(timesteps)) {
    const prediction = await denoise.predict(x, t);
    let { x0 } = prediction;
    if (s > 0) {
      const h = Math.log(schedule.sigma(t) / schedule.sigma(s));
      if (last) {
        const r = last.h / h;
        x0 = combine([1 + 1 / (2 * r), x0], [-1 / (2 * r), last.x0]); // extrapolated to the middle of this move
      }
      x = combine([schedule.noise(s) / schedule.noise(t), x], [-schedule.signal(s) * Math.expm1(-h), x0]);
      last = { x0: prediction.x0, h };
    } else x = x0;
    yield { x, t: s, prediction };
  }
}

/**
 * x + delta / 2 score + sqrt(delta) z, with the score -eps / std of a prediction.
 * @param {Prediction} prediction
 * @param {Float64Array} x
 * @param {number} delta
 * @param {number} std
 * @param {RandnLike} randnLike
 */
function langevinMove(prediction, x, delta, std, randnLike) {
  return combine([1, x], [-delta / (2 * std), prediction.eps], [Math.sqrt(delta), randnLike(x)]);
}

/**
 * Langevin dynamics among clean points: `ddpm.langevin.langevin` with the score at time 0. A chain that diverges is an
 * error.
 * @param {GaussianMixture} denoise
 * @param {Float64Array} x
 * @param {{stepSize: number, steps: number, randnLike: RandnLike}} options
 * @returns {AsyncGenerator<{x: Float64Array, t: number}>}
 */
async function* langevin(denoise, x, { stepSize, steps, randnLike }) {
  const bound = 1e6 * x.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  for (let step = 1; step <= steps; step++) {
    x = combine([1, x], [stepSize / 2, denoise.score(x, 0)], [Math.sqrt(stepSize), randnLike(x)]);
    if (!x.every((value) => Math.abs(value) < bound))
      throw new RangeError(`the chain diverged by step ${step}: its steps are too long for so narrow a bump`);
    yield { x, t: 0 };
  }
}

/**
 * Song & Ermon (2019), algorithm 1: five moves of Langevin at each time of the grid, highest first.
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps
 * @param {{stepSize: number, randnLike: RandnLike}} options
 * @returns {AsyncGenerator<Step>}
 */
async function* annealedLangevin(denoise, x, timesteps, { stepSize, randnLike }) {
  const { schedule } = denoise;
  const leastSignal = 1 / Math.hypot(1, NOISE_ALONE);
  const signal = (/** @type {number} */ u) => Math.max(schedule.signal(u), leastSignal * schedule.scale(u));
  for (const [t, s] of pairwise(timesteps)) {
    const delta = stepSize * schedule.noise(t) ** 2;
    for (let i = 0; i < 5; i++) {
      const prediction = await denoise.predict(x, t);
      x = langevinMove(prediction, x, delta, schedule.noise(t), randnLike);
      yield { x, t, prediction };
    }
    if (s > 0) {
      x = combine([signal(s) / signal(t), x]);
    } else {
      const prediction = await denoise.predict(x, t);
      yield { x: prediction.x0, t: s, prediction };
    }
  }
}

/**
 * A move of the flow and `weight` times one of Langevin (Karras et al. 2022, eq. 6).
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps
 * @param {{weight?: number, randnLike: RandnLike}} options
 * @returns {AsyncGenerator<Step>}
 */
async function* flowAndLangevin(denoise, x, timesteps, { weight = 1, randnLike }) {
  const { schedule } = denoise;
  for (const [t, s] of pairwise(timesteps)) {
    const prediction = await denoise.predict(x, t);
    x = addNoise(schedule, prediction, s);
    if (s > 0 && weight > 0) {
      const unit = schedule.scale(s) / schedule.scale(t); // of x at s, in units of x_t
      const delta = weight * schedule.beta(t, s) * unit ** 2;
      x = langevinMove(prediction, x, delta, schedule.noise(t) * unit, randnLike);
    }
    yield { x, t: s, prediction };
  }
}

/**
 * DDIM walked upward, from a clean x0 to the noise from which `ddim` returns to it in the limit of small steps.
 * @param {Denoiser} denoise
 * @param {Float64Array} x
 * @param {number[]} timesteps the same descending grid
 * @returns {AsyncGenerator<Step>}
 */
async function* invert(denoise, x, timesteps) {
  const { schedule } = denoise;
  for (const [t, s] of pairwise(timesteps).reverse()) {
    const { eps } = await denoise.predict(x, Math.max(s, 1));
    const [signal, noise] = schedule.signalAndNoise(s);
    const prediction = { x0: combine([1 / signal, x], [-noise / signal, eps]), eps };
    x = addNoise(schedule, prediction, t);
    yield { x, t, prediction };
  }
}

/**
 * The samplers that walk a grid, by the package's names: how they are called, and which knobs they have.
 * @typedef {{eta: number, weight: number, stepSize: number, randnLike: RandnLike}} Options
 * @typedef {(denoise: Denoiser, x: Float64Array, grid: number[], options: Options) => AsyncGenerator<Step>} Sampler
 * @type {Record<string, {title: string, knobs: string[], walk: Sampler}>}
 */
const SAMPLERS = {
  ddim: { title: "DDIM", knobs: ["eta"], walk: ddim },
  ancestral: { title: "ancestral (DDPM)", knobs: [], walk: ancestral },
  heun: { title: "Heun", knobs: [], walk: heun },
  dpm_solver_pp: { title: "DPM-Solver++(2M)", knobs: [], walk: dpmSolverPp },
  flow_and_langevin: { title: "flow + λ Langevin", knobs: ["lambda"], walk: flowAndLangevin },
  annealed_langevin: { title: "annealed Langevin", knobs: ["stepSize"], walk: annealedLangevin },
};
