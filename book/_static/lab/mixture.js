// @ts-check
// ddpm.oracles.GaussianMixture and ddpm.denoiser.Guided in the plane: what a perfect model says of a few round bumps.

/** @typedef {{weight: number, mean: [number, number], std: number}} Bump */
/** @typedef {{x0: Float64Array, eps: Float64Array}} Prediction points one behind the other: x, y, x, y, ... */

class GaussianMixture {
  /**
   * @param {Bump[]} bumps
   * @param {Schedule} schedule
   */
  constructor(bumps, schedule) {
    const sum = bumps.reduce((total, bump) => total + bump.weight, 0);
    this.bumps = bumps.map((bump) => ({ ...bump, weight: bump.weight / sum }));
    this.schedule = schedule;
  }

  /** The mixture's bump alone, which is a class of it. @param {number} index */
  given(index) {
    return new GaussianMixture([this.bumps[index]], this.schedule);
  }

  /**
   * Each bump's share of the density at one point, and the log of the whole.
   * @param {number} x
   * @param {number} y
   * @param {number} t
   */
  at(x, y, t) {
    const [signal, noise] = this.schedule.signalAndNoise(t);
    const logs = this.bumps.map(({ weight, mean, std }) => {
      const variance = (signal * std) ** 2 + noise ** 2;
      const squared = (x - signal * mean[0]) ** 2 + (y - signal * mean[1]) ** 2;
      return Math.log(weight) - squared / (2 * variance) - Math.log(2 * Math.PI * variance);
    });
    const highest = Math.max(...logs);
    const sum = logs.reduce((total, log) => total + Math.exp(log - highest), 0);
    return { shares: logs.map((log) => Math.exp(log - highest) / sum), logDensity: highest + Math.log(sum) };
  }

  /**
   * The exact posterior means of x0 and eps.
   * @param {Float64Array} x
   * @param {number} t
   * @returns {Prediction}
   */
  predict(x, t) {
    const [signal, noise] = this.schedule.signalAndNoise(t);
    const [x0, eps] = [new Float64Array(x.length), new Float64Array(x.length)];
    for (let i = 0; i < x.length; i += 2) {
      const { shares } = this.at(x[i], x[i + 1], t);
      this.bumps.forEach(({ mean, std }, k) => {
        const variance = (signal * std) ** 2 + noise ** 2;
        for (const axis of [0, 1]) {
          const residual = x[i + axis] - signal * mean[axis];
          x0[i + axis] += shares[k] * (mean[axis] + ((signal * std ** 2) / variance) * residual);
          eps[i + axis] += (shares[k] * noise * residual) / variance;
        }
      });
    }
    return { x0, eps };
  }

  /**
   * The gradient of the log density.
   * @param {Float64Array} x
   * @param {number} t
   */
  score(x, t) {
    const [signal, noise] = this.schedule.signalAndNoise(t);
    const score = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += 2) {
      const { shares } = this.at(x[i], x[i + 1], t);
      this.bumps.forEach(({ mean, std }, k) => {
        const variance = (signal * std) ** 2 + noise ** 2;
        for (const axis of [0, 1]) score[i + axis] -= (shares[k] * (x[i + axis] - signal * mean[axis])) / variance;
      });
    }
    return score;
  }

  /**
   * n clean points.
   * @param {number} n
   * @param {TorchGenerator} generator
   */
  sample(n, generator) {
    const points = new Float64Array(2 * n);
    for (let i = 0; i < n; i++) {
      let left = generator.bits() / 2 ** 32;
      const bump = this.bumps.find(({ weight }) => (left -= weight) < 0) ?? this.bumps[0]; // the first, by a rounding
      const normal = generator.randn(2);
      for (const axis of [0, 1]) points[2 * i + axis] = bump.mean[axis] + bump.std * normal[axis];
    }
    return points;
  }
}

/** A model pushed away from what a less informed one says; weight 1 is the model alone. */
class Guided {
  /**
   * @param {GaussianMixture} denoise
   * @param {GaussianMixture} guide
   * @param {number} weight
   */
  constructor(denoise, guide, weight) {
    this.denoise = denoise;
    this.guide = guide;
    this.weight = weight;
    this.schedule = denoise.schedule;
  }

  /**
   * @param {Float64Array} x
   * @param {number} t
   * @returns {Prediction}
   */
  predict(x, t) {
    const [better, worse] = [this.denoise.predict(x, t), this.guide.predict(x, t)];
    const push = (/** @type {"x0" | "eps"} */ name) => sum([this.weight, better[name]], [1 - this.weight, worse[name]]);
    return { x0: push("x0"), eps: push("eps") };
  }
}
