// @ts-check
// The schedules and grids of ddpm.schedule and ddpm.grids: x_t = signal(t) x0 + noise(t) eps, for real times 0 to T.

/** @typedef {"trailing" | "karras" | "log_snr"} Spacing */

/** From here up sigma = noise / signal counts as noise alone. */
const NOISE_ALONE = 160;

class Schedule {
  /** @param {number} T the last time */
  constructor(T) {
    this.T = T;
  }

  /**
   * @param {number} t
   * @returns {[signal: number, noise: number]}
   */
  signalAndNoise(t) {
    throw new Error(`a schedule has no signal at ${t}`);
  }

  /** @param {number} t */
  signal(t) {
    return this.signalAndNoise(t)[0];
  }

  /** @param {number} t */
  noise(t) {
    return this.signalAndNoise(t)[1];
  }

  /** Standard deviation of x_t for data of variance 1. @param {number} t */
  scale(t) {
    return Math.hypot(...this.signalAndNoise(t));
  }

  /** noise / signal, infinite where no signal is left. @param {number} t */
  sigma(t) {
    const [signal, noise] = this.signalAndNoise(t);
    return noise / signal;
  }

  /** The angle phi with tan phi = noise / signal. @param {number} t */
  angle(t) {
    const [signal, noise] = this.signalAndNoise(t);
    return Math.atan2(noise, signal);
  }

  /** The time at which noise / signal is sigma. @param {number} sigma @returns {number} */
  sigmaToT(sigma) {
    throw new Error(`a schedule has no time at which sigma is ${sigma}`);
  }

  /** The variance that the step from s up to t adds. @param {number} t @param {number} s */
  beta(t, s) {
    return this.noise(t) ** 2 - ((this.signal(t) / this.signal(s)) * this.noise(s)) ** 2;
  }

  /**
   * Standard deviation of q(x_s given x_t and x0), Song et al. (2021), eq. 16 with eta = 1.
   * @param {number} t
   * @param {number} s
   */
  posteriorStd(t, s) {
    return (this.noise(s) / this.noise(t)) * Math.sqrt(this.beta(t, s));
  }

  /**
   * n + 1 times that decrease strictly from `start` to 0.
   * @param {number} n
   * @param {Spacing} [spacing]
   * @param {number} [start]
   */
  timesteps(n, spacing = "trailing", start = this.T) {
    if (spacing === "trailing") return Array.from({ length: n + 1 }, (_, i) => roundHalfToEven((start * (n - i)) / n));
    const [highest, lowest] = [Math.min(this.sigma(start), NOISE_ALONE), this.sigma(1)];
    const [warp, unwarp] =
      spacing === "karras"
        ? [(/** @type {number} */ sigma) => sigma ** (1 / 7), (/** @type {number} */ root) => root ** 7]
        : [Math.log, Math.exp];
    const from = warp(highest);
    const step = n > 1 ? (warp(lowest) - from) / (n - 1) : 0;
    const inner = Array.from({ length: n - 1 }, (_, i) => this.sigmaToT(unwarp(from + (i + 1) * step)));
    return [start, ...inner, 0];
  }
}

/** Python's round. @param {number} x */
function roundHalfToEven(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

/** A number with so many digits behind the point. @param {number} value @param {number} digits */
function rounded(value, digits) {
  return Number(value.toFixed(digits));
}

/** A table of alpha_bar for the times 0 to T. Between them its log is interpolated; where it ends in 0, the signal. */
class Table extends Schedule {
  /** @param {number[]} alphaBar */
  constructor(alphaBar) {
    super(alphaBar.length - 1);
    this.logAlphaBar = alphaBar.map(Math.log);
  }

  /** @param {number} t @returns {[number, number]} */
  signalAndNoise(t) {
    const below = Math.min(Math.floor(t), this.T - 1);
    const [from, to] = this.logAlphaBar.slice(below, below + 2);
    const log = to > -Infinity ? from + (t - below) * (to - from) : from + 2 * Math.log(this.T - t);
    return [Math.exp(log / 2), Math.sqrt(-Math.expm1(log))];
  }

  /** @param {number} sigma */
  sigmaToT(sigma) {
    if (this.signal(this.T) === 0 && sigma > this.sigma(this.T - 1))
      return this.T - 1 / Math.hypot(1, sigma) / this.signal(this.T - 1);
    const log = -Math.log1p(sigma ** 2);
    const above = this.logAlphaBar.findIndex((value) => value < log);
    if (above < 0) return this.T;
    const [from, to] = this.logAlphaBar.slice(above - 1, above + 1);
    return above - 1 + (log - from) / (to - from);
  }
}

/** Ho et al. (2020): beta rises evenly from 1e-4 to 0.02. */
class Linear extends Table {
  constructor() {
    const alphaBar = [1];
    for (let i = 0; i < 1000; i++) alphaBar.push(alphaBar[i] * (1 - (1e-4 + (0.0199 * i) / 999)));
    super(alphaBar);
  }
}

/** The path of flow matching: x_t = (1 - t / T) x0 + (t / T) eps. */
class Straight extends Schedule {
  constructor() {
    super(1000);
  }

  /** @param {number} t @returns {[number, number]} */
  signalAndNoise(t) {
    return [(this.T - t) / this.T, t / this.T];
  }

  /** @param {number} sigma */
  sigmaToT(sigma) {
    return sigma > 0 ? this.T / (1 + 1 / sigma) : 0;
  }
}
