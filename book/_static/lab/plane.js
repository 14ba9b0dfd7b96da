// @ts-check
// What the plane's bench computes: walks from noise to a mixture, how far they end from it, a link, the same in Python.

/**
 * Everything that a link holds. `told` is the bump that the model is told, as a class, or "".
 * @typedef {{
 *   bumps: Bump[], sampler: keyof typeof SAMPLERS, schedule: "linear" | "straight", spacing: Spacing, steps: number,
 *   eta: number, lambda: number, stepSize: number, told: string, weight: number, points: number, seed: number,
 *   trails: boolean
 * }} Setup
 * @typedef {{x: Float64Array, t: number}[]} Walk
 */

const DIRECTIONS = 32; // along which a distance between two sets of points is measured

/** The samplers by the package's names: how they are called, and which knobs they have. */
const SAMPLERS = {
  ddim: { title: "DDIM", knobs: ["eta"] },
  ancestral: { title: "ancestral (DDPM)", knobs: [] },
  heun: { title: "Heun", knobs: [] },
  dpm_solver_pp: { title: "DPM-Solver++(2M)", knobs: [] },
  flow_and_langevin: { title: "flow + λ Langevin", knobs: ["lambda"] },
  annealed_langevin: { title: "annealed Langevin", knobs: ["stepSize"] },
  langevin: { title: "Langevin at no noise", knobs: ["stepSize"] },
};

/** @param {number} weight @param {number} x @param {number} y @param {number} std @returns {Bump} */
const bump = (weight, x, y, std) => ({ weight, mean: [x, y], std });

/** @type {Record<string, {title: string, bumps: Bump[]}>} */
const SHAPES = {
  three: {
    title: "three bumps",
    bumps: [bump(0.2, -1.5, -0.8, 0.25), bump(0.3, 1.5, -0.8, 0.25), bump(0.5, 0, 1.5, 0.25)],
  },
  two: { title: "two bumps", bumps: [bump(0.3, -1, 0, 0.3), bump(0.7, 1, 0, 0.3)] },
  overlapping: { title: "two that overlap", bumps: [bump(0.5, -1, 0, 0.5), bump(0.5, 1, 0, 0.5)] },
  ring: {
    title: "a ring of eight",
    bumps: [0, 1, 2, 3, 4, 5, 6, 7].map((i) =>
      bump(0.125, round(2 * Math.cos((i * Math.PI) / 4), 2), round(2 * Math.sin((i * Math.PI) / 4), 2), 0.15),
    ),
  },
  one: { title: "one wide bump", bumps: [bump(1, 0.5, 0.5, 0.8)] },
};

/** @type {Setup} */
const FIRST = {
  bumps: SHAPES.three.bumps,
  sampler: "ddim",
  schedule: "linear",
  spacing: "trailing",
  steps: 20,
  eta: 0,
  lambda: 0.5,
  stepSize: 0.5,
  told: "",
  weight: 2,
  points: 500,
  seed: 0,
  trails: true,
};

const MOST_BUMPS = 8;

/** Smallest and largest value of every number in a setup. @type {Record<string, [number, number]>} */
const LIMITS = {
  steps: [1, 200],
  eta: [0, 1],
  lambda: [0, 2],
  stepSize: [0.05, 1],
  weight: [1, 8],
  points: [50, 2000],
  seed: [0, 9999],
};

const WHOLE = ["steps", "points", "seed"]; // of these, integers alone

/** @type {Record<string, string[]>} */
const CHOICES = {
  sampler: Object.keys(SAMPLERS),
  schedule: ["linear", "straight"],
  spacing: ["trailing", "karras", "log_snr"],
  told: ["", ...Array.from({ length: MOST_BUMPS }, (_, i) => String(i))],
};

/** Whether a number of a setup may have this value. @param {string} name @param {number} value */
function isLegal(name, value) {
  const [low, high] = LIMITS[name];
  return value >= low && value <= high && (Number.isInteger(value) || !WHOLE.includes(name));
}

/** @param {number} value @param {number} digits */
function round(value, digits) {
  return Number(value.toFixed(digits));
}

/** @param {Setup} setup */
function scheduleOf(setup) {
  return setup.schedule === "linear" ? new Linear() : new Straight();
}

/**
 * The density that is drawn from, and the model that is asked: the mixture, or one bump of it, guided or not.
 * @param {Setup} setup
 * @returns {{target: GaussianMixture, model: GaussianMixture | Guided}}
 */
function modelOf(setup) {
  const mixture = new GaussianMixture(setup.bumps, scheduleOf(setup));
  if (setup.told === "") return { target: mixture, model: mixture };
  const target = mixture.given(Number(setup.told));
  return { target, model: setup.weight > 1 ? new Guided(target, mixture, setup.weight) : target };
}

/**
 * Every state of a walk, the noise where it begins first, and how many calls of a model it took.
 * @param {Setup} setup
 * @returns {Promise<{walk: Walk, calls: number}>}
 */
async function walked(setup) {
  const { target, model } = modelOf(setup);
  const { schedule } = model;
  let calls = 0;
  const counted = {
    schedule,
    predict: (/** @type {Float64Array} */ x, /** @type {number} */ t) => {
      calls += model instanceof Guided ? 2 : 1;
      return model.predict(x, t);
    },
  };
  const randnLike = perSampleNoise(setup.seed, 2);
  const grid = schedule.timesteps(setup.steps, setup.spacing);
  const x = sum([schedule.scale(grid[0]), randnLike(new Float64Array(2 * setup.points))]);
  const { eta, lambda: weight, stepSize, steps } = setup;
  /** @type {() => AsyncGenerator<{x: Float64Array, t: number}>} */
  const walk = {
    ddim: () => ddim(counted, x, grid, { eta, randnLike }),
    ancestral: () => ancestral(counted, x, grid, { randnLike }),
    heun: () => heun(counted, x, grid),
    dpm_solver_pp: () => dpmSolverPp(counted, x, grid),
    flow_and_langevin: () => flowAndLangevin(counted, x, grid, { weight, randnLike }),
    annealed_langevin: () => annealedLangevin(counted, x, grid, { stepSize, randnLike }),
    langevin: () => langevin(target, x, { stepSize: stepSize / 10, steps, randnLike }),
  }[setup.sampler];
  /** @type {Walk} */
  const states = [{ x, t: setup.sampler === "langevin" ? 0 : grid[0] }];
  for await (const { x, t } of walk()) states.push({ x, t });
  return { walk: states, calls: setup.sampler === "langevin" ? steps : calls };
}

/**
 * The sliced Wasserstein distance of points to a set of several times as many: both are projected on lines and sorted
 * there, and each point is compared with the ones of its rank (Rabin et al. 2012).
 * @param {Float64Array} points
 * @param {Float64Array} others
 */
function slicedDistance(points, others) {
  const times = others.length / points.length;
  let total = 0;
  for (let k = 0; k < DIRECTIONS; k++) {
    const [cos, sin] = [Math.cos((k * Math.PI) / DIRECTIONS), Math.sin((k * Math.PI) / DIRECTIONS)];
    const along = (/** @type {Float64Array} */ x) =>
      Float64Array.from({ length: x.length / 2 }, (_, i) => cos * x[2 * i] + sin * x[2 * i + 1]).sort();
    const ours = along(points);
    const apart = along(others).map((value, i) => Math.abs(value - ours[Math.floor(i / times)]));
    total += apart.reduce((sum, value) => sum + value, 0) / apart.length;
  }
  return total / DIRECTIONS;
}

/**
 * How far the end of a walk lies from ten times as many true points, and how far as many true points do.
 * @param {Setup} setup
 * @param {Float64Array} x
 */
function distanceTo(setup, x) {
  const { target } = modelOf(setup);
  const truth = target.sample(10 * setup.points, new TorchGenerator(1));
  const others = target.sample(setup.points, new TorchGenerator(2));
  return { distance: slicedDistance(x, truth), floor: slicedDistance(others, truth) };
}

/** A setup as the query of a link. @param {Setup} setup */
function linkOf(setup) {
  const bumps = setup.bumps.map(({ weight, mean, std }) => [weight, ...mean, std].map((v) => round(v, 3)).join("_"));
  const rest = Object.entries(setup).filter(([name]) => name !== "bumps");
  return `?${new URLSearchParams([["bumps", bumps.join("*")], ...rest.map(([name, value]) => [name, String(value)])])}`;
}

/**
 * The setup of a link's query; what is missing or not legal in it is as at first.
 * @param {string} query
 * @returns {Setup}
 */
function setupOf(query) {
  const given = new URLSearchParams(query);
  const legal = (/** @type {string} */ name, /** @type {any} */ first) => {
    const value = given.get(name);
    if (value === null) return first;
    if (name in CHOICES) return CHOICES[name].includes(value) ? value : first;
    if (typeof first === "boolean") return value === "true";
    return value !== "" && isLegal(name, Number(value)) ? Number(value) : first;
  };
  const bumps = (given.get("bumps") ?? "").split("*").map((text) => text.split("_").map(Number));
  const sound = bumps.length <= MOST_BUMPS && bumps.every(isBump);
  const read = Object.entries(FIRST).map(([name, first]) => [name, name === "bumps" ? first : legal(name, first)]);
  const setup = Object.fromEntries(read);
  if (sound) setup.bumps = bumps.map(([weight, x, y, std]) => bump(weight, x, y, std));
  if (Number(setup.told) >= setup.bumps.length) setup.told = "";
  return setup;
}

/** @param {number[]} numbers */
function isBump(numbers) {
  const [weight, x, y, std] = numbers;
  const far = Math.max(Math.abs(x), Math.abs(y));
  return numbers.length === 4 && weight > 0 && weight <= 1 && far <= 3 && std >= 0.05 && std <= 1;
}

/** The same walk with the package. @param {Setup} setup */
function pythonOf(setup) {
  const list = (/** @type {number[]} */ values) => `[${values.map((value) => round(value, 3)).join(", ")}]`;
  const guided = setup.told !== "" && setup.weight > 1 && setup.sampler !== "langevin"; // a chain goes by one score
  const model = setup.told === "" ? "mixture" : `mixture.given(${setup.told})`;
  /** @type {Record<string, string>} */
  const options = {
    ddim: `, eta=${setup.eta}`,
    flow_and_langevin: `, weight=${setup.lambda}`,
    annealed_langevin: `, step_size=${setup.stepSize}`,
  };
  const chain = setup.sampler === "langevin";
  const head = [
    ...(chain ? ["import torch", ""] : ["import ddpm"]),
    ...(guided ? ["from ddpm.denoiser import Guided"] : []),
    ...(chain ? ["from ddpm.langevin import langevin", "from ddpm.noise import PerSampleNoise"] : []),
    "from ddpm.oracles import GaussianMixture",
    `from ddpm.schedule import ${setup.schedule}`,
    "",
    `weights = ${list(setup.bumps.map(({ weight }) => weight))}`,
    `means = [${setup.bumps.map(({ mean }) => list(mean)).join(", ")}]`,
    `stds = ${list(setup.bumps.map(({ std }) => std))}`,
    `mixture = GaussianMixture(weights, means, stds, ${setup.schedule}())`,
    `model = ${guided ? `Guided(${model}, mixture, ${setup.weight})` : model}`,
  ];
  if (chain) {
    const stepSize = round(setup.stepSize / 10, 4);
    return [
      ...head,
      `randn_like = PerSampleNoise(${setup.seed})`,
      `x = randn_like(torch.empty(${setup.points}, 2)).double()`,
      "score = lambda x: model.score(x, 0)",
      `chain = langevin(score, x, step_size=${stepSize}, steps=${setup.steps}, randn_like=randn_like)`,
      "for x in chain:",
      "    pass",
    ].join("\n");
  }
  const how = `"${setup.sampler}", ${setup.steps}, ${setup.seed}, spacing="${setup.spacing}", chunk=${setup.points}`;
  return [...head, `points = ddpm.sample(model, ${setup.points}, ${how}${options[setup.sampler] ?? ""})`].join("\n");
}
