// @ts-check
// What the plane's bench computes: walks from noise to a mixture, how far they end from it, a link, the same in Python.

/**
 * Everything that a link holds. `sampler` is a name in SAMPLERS or "langevin", which needs no grid; `told` is the
 * number of the bump that the model is told, as a class, or "".
 * @typedef {{
 *   bumps: Bump[], sampler: string, schedule: string, spacing: Spacing, steps: number, eta: number, lambda: number,
 *   stepSize: number, delta: number, told: string, weight: number, points: number, seed: number, trails: boolean
 * }} Setup
 * @typedef {{x: Float64Array, t: number}[]} Walk
 */

const DIRECTIONS = 32; // along which a distance between two sets of points is measured
const SETS = 8; // of true points, which lie at different distances from the density, too
const MOST_BUMPS = 8;

/** @type {Record<string, Schedule>} */
const SCHEDULES = { linear: new Linear(), straight: new Straight() };

/** Smallest and largest value of every number in a setup. @type {Record<string, [number, number]>} */
const LIMITS = {
  steps: [1, 200],
  eta: [0, 1],
  lambda: [0, 2],
  stepSize: [0.05, 1],
  delta: [0.005, 0.1],
  weight: [1, 8],
  points: [50, 2000],
  seed: [0, 9999],
};
const WHOLE = ["steps", "points", "seed"]; // of these, integers alone

/** @type {Record<string, string[]>} */
const CHOICES = {
  sampler: [...Object.keys(SAMPLERS), "langevin"],
  schedule: Object.keys(SCHEDULES),
  spacing: ["trailing", "karras", "log_snr"],
  told: ["", ...Array.from({ length: MOST_BUMPS }, (_, i) => String(i))],
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
    bumps: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => {
      const angle = (i * Math.PI) / 4;
      return bump(0.1, rounded(2 * Math.cos(angle), 2), rounded(2 * Math.sin(angle), 2), 0.15);
    }),
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
  delta: 0.05,
  told: "",
  weight: 2,
  points: 500,
  seed: 0,
  trails: true,
};

/** Whether a number of a setup may have this value. @param {string} name @param {number} value */
function isLegal(name, value) {
  const [low, high] = LIMITS[name];
  return value >= low && value <= high && (Number.isInteger(value) || !WHOLE.includes(name));
}

/** @param {Bump} bump */
function isBump({ weight, mean, std }) {
  const far = Math.max(...mean.map(Math.abs));
  return weight > 0 && weight <= 1 && far <= 3 && std >= 0.05 && std <= 1;
}

/**
 * The density that is drawn from, and the model that is asked: the mixture, or one bump of it, guided or not.
 * @param {Setup} setup
 * @returns {{target: GaussianMixture, model: GaussianMixture | Guided}}
 */
function modelOf(setup) {
  const mixture = new GaussianMixture(setup.bumps, SCHEDULES[setup.schedule]);
  if (setup.told === "") return { target: mixture, model: mixture };
  const target = mixture.given(Number(setup.told));
  return { target, model: setup.weight > 1 ? new Guided(target, mixture, setup.weight) : target };
}

const AT_ONCE = 30; // milliseconds that a walk computes before the page may do something else

/**
 * Every state of a walk, the noise where it begins first, and how many calls of a model it took.
 * @param {Setup} setup
 * @param {() => boolean} isStale whether nobody wants the walk any more; it is then left where it is
 * @returns {Promise<{walk: Walk, calls: number}>}
 */
async function walked(setup, isStale = () => false) {
  let due = performance.now() + AT_ONCE;
  const breathe = async () => {
    if (performance.now() < due) return;
    await new Promise((done) => setTimeout(done));
    due = performance.now() + AT_ONCE;
  };
  const { sampler, steps, points, seed, spacing, eta, lambda: weight, stepSize, delta } = setup;
  const { target, model } = modelOf(setup);
  const { schedule } = model;
  const randnLike = perSampleNoise(seed, 2);
  const noise = randnLike(new Float64Array(2 * points));
  if (sampler === "langevin") {
    const walk = [{ x: noise, t: 0 }];
    for await (const step of langevin(target, noise, { stepSize: delta, steps, randnLike })) {
      walk.push(step);
      await breathe();
      if (isStale()) break;
    }
    return { walk, calls: steps };
  }
  let calls = 0;
  const counted = {
    schedule,
    predict: (/** @type {Float64Array} */ x, /** @type {number} */ t) => {
      calls += model instanceof Guided ? 2 : 1;
      return model.predict(x, t);
    },
  };
  const grid = schedule.timesteps(steps, spacing);
  const x = combine([schedule.scale(grid[0]), noise]);
  /** @type {Walk} */
  const walk = [{ x, t: grid[0] }];
  const options = { eta, weight, stepSize, randnLike };
  for await (const { x: next, t } of SAMPLERS[sampler].walk(counted, x, grid, options)) {
    walk.push({ x: next, t });
    await breathe();
    if (isStale()) break;
  }
  return { walk, calls };
}

/**
 * Points projected on lines in all directions, and sorted on each.
 * @param {Float64Array} x
 */
function projected(x) {
  return Array.from({ length: DIRECTIONS }, (_, k) => {
    const [cos, sin] = [Math.cos((k * Math.PI) / DIRECTIONS), Math.sin((k * Math.PI) / DIRECTIONS)];
    return Float64Array.from({ length: x.length / 2 }, (_, i) => cos * x[2 * i] + sin * x[2 * i + 1]).sort();
  });
}

/**
 * The sliced Wasserstein distance of points to a set of several times as many, both `projected`: on every line each point
 * is compared with the ones of its rank (Rabin et al. 2012).
 * @param {Float64Array[]} points
 * @param {Float64Array[]} others
 */
function slicedDistance(points, others) {
  const times = others[0].length / points[0].length;
  const far = others.map((line, k) => {
    return line.reduce((sum, value, i) => sum + Math.abs(value - points[k][Math.floor(i / times)]), 0) / line.length;
  });
  return far.reduce((sum, value) => sum + value, 0) / DIRECTIONS;
}

/** What the ends of walks were compared with last, and of which density. */
const compared = { with: "", truth: /** @type {Float64Array[]} */ ([]), floor: [0, 0] };

/**
 * Ten times as many true points as there are points, projected, and how far the nearest and the furthest of several sets
 * of as many true points lie from them. They are drawn anew only if they are of another density, or of other numbers.
 * @param {Setup} setup
 */
function truthOf(setup) {
  const wanted = JSON.stringify([setup.bumps, setup.told, setup.points]);
  if (compared.with !== wanted) {
    const { target } = modelOf(setup);
    const truth = projected(target.sample(10 * setup.points, new TorchGenerator(1)));
    const others = Array.from({ length: SETS }, (_, i) => target.sample(setup.points, new TorchGenerator(2 + i)));
    const floors = others.map((points) => slicedDistance(projected(points), truth));
    Object.assign(compared, { with: wanted, truth, floor: [Math.min(...floors), Math.max(...floors)] });
  }
  return compared;
}

/**
 * How far the end of a walk lies from true points, and how far other true points do.
 * @param {Setup} setup
 * @param {Float64Array} x
 */
function distanceTo(setup, x) {
  const { truth, floor } = truthOf(setup);
  return { distance: slicedDistance(projected(x), truth), floor };
}

/**
 * The share of points that lie nearest to each bump.
 * @param {Bump[]} bumps
 * @param {Float64Array} x
 */
function sharesOf(bumps, x) {
  const shares = bumps.map(() => 0);
  for (let i = 0; i < x.length; i += 2) {
    const far = bumps.map(({ mean }) => Math.hypot(x[i] - mean[0], x[i + 1] - mean[1]));
    shares[far.indexOf(Math.min(...far))] += 2 / x.length;
  }
  return shares;
}

/** The place for a new bump: of a few the one furthest from all bumps. @param {Bump[]} bumps @returns {Bump} */
function newBump(bumps) {
  const lines = [-1.5, 0, 1.5];
  const places = lines.flatMap((y) => lines.map((x) => ({ x, y })));
  const far = places.map(({ x, y }) => Math.min(...bumps.map(({ mean }) => Math.hypot(x - mean[0], y - mean[1]))));
  const { x, y } = places[far.indexOf(Math.max(...far))];
  return bump(0.3, x, y, 0.25);
}

/** A setup as the query of a link. @param {Setup} setup */
function linkOf(setup) {
  const rest = Object.entries(setup).filter(([name]) => name !== "bumps");
  const all = [["bumps", bumpsText(setup.bumps)], ...rest.map(([name, value]) => [name, String(value)])];
  return `?${new URLSearchParams(all)}`;
}

/** Bumps as a link writes them. @param {Bump[]} bumps */
function bumpsText(bumps) {
  return bumps.map(({ weight, mean, std }) => [weight, ...mean, std].join("_")).join("*");
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
    if (typeof first === "boolean") return ["true", "false"].includes(value) ? value === "true" : first;
    return value !== "" && isLegal(name, Number(value)) ? Number(value) : first;
  };
  const read = Object.entries(FIRST).map(([name, first]) => [name, name === "bumps" ? first : legal(name, first)]);
  const setup = Object.fromEntries(read);
  const four = (/** @type {string} */ text) => text.split("_").map((number) => rounded(Number(number), 3));
  const numbers = (given.get("bumps") ?? "").split("*").map(four);
  const bumps = numbers.map(([weight, x, y, std]) => bump(weight, x, y, std));
  const complete = numbers.every(({ length }) => length === 4);
  if (complete && bumps.length <= MOST_BUMPS && bumps.every(isBump)) setup.bumps = bumps;
  if (Number(setup.told) >= setup.bumps.length) setup.told = "";
  return setup;
}

/** The parts of a link's query that are not legal, and so are as at first. @param {string} query */
function ignoredIn(query) {
  const setup = setupOf(query);
  return [...new URLSearchParams(query)].filter(([name, value]) => {
    if (!(name in FIRST)) return true;
    if (name === "bumps") return setup.bumps === FIRST.bumps && value !== bumpsText(FIRST.bumps);
    const read = setup[/** @type {keyof Setup} */ (name)];
    return String(read) !== value && read !== Number(value);
  }).map(([name, value]) => `${name}=${value}`);
}

/** The same walk with the package. @param {Setup} setup */
function pythonOf(setup) {
  const chain = setup.sampler === "langevin";
  const guided = setup.told !== "" && setup.weight > 1 && !chain; // a chain goes by one score
  const told = setup.told === "" ? "mixture" : `mixture.given(${setup.told})`;
  /** @type {Record<string, string>} */
  const options = {
    ddim: `, eta=${setup.eta}`,
    flow_and_langevin: `, weight=${setup.lambda}`,
    annealed_langevin: `, step_size=${setup.stepSize}`,
  };
  const lines = [
    chain ? "import torch\n" : "import ddpm",
    ...(guided ? ["from ddpm.denoiser import Guided"] : []),
    ...(chain ? ["from ddpm.langevin import langevin", "from ddpm.noise import PerSampleNoise"] : []),
    "from ddpm.oracles import GaussianMixture",
    `from ddpm.schedule import ${setup.schedule}\n`,
    `weights = [${setup.bumps.map(({ weight }) => weight).join(", ")}]`,
    `means = [${setup.bumps.map(({ mean }) => `[${mean.join(", ")}]`).join(", ")}]`,
    `stds = [${setup.bumps.map(({ std }) => std).join(", ")}]`,
    `mixture = GaussianMixture(weights, means, stds, ${setup.schedule}())`,
    `model = ${guided ? `Guided(${told}, mixture, ${setup.weight})` : told}`,
  ];
  if (chain) {
    lines.push(
      `randn_like = PerSampleNoise(${setup.seed})`,
      `points = randn_like(torch.empty(${setup.points}, 2)).double()`,
      "score = lambda x: model.score(x, 0)",
      `how = {"step_size": ${setup.delta}, "steps": ${setup.steps}, "randn_like": randn_like}`,
      "for points in langevin(score, points, **how):",
      "    pass",
    );
  } else {
    const how = `"${setup.sampler}", ${setup.steps}, ${setup.seed}, spacing="${setup.spacing}"`;
    lines.push(`points = ddpm.sample(model, ${setup.points}, ${how}${options[setup.sampler] ?? ""})`);
  }
  return lines.join("\n");
}
