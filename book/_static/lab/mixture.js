// @ts-check
// ddpm.oracles.GaussianMixture in the plane, what a perfect model says of a few round bumps; and ddpm.denoiser.Guided.

/** @typedef {{weight: number, mean: [number, number], std: number}} Bump */
/** @typedef {{x0: Float64Array, eps: Float64Array}} Prediction points one behind the other: x, y, x, y, ... */

class GaussianMixture {
  /**
   * @param {Bump[]} bumps
   * @param {Schedule} schedule
   */
  constructor(bumps, schedule) {
    const total = bumps.reduce((weight, bump) => weight + bump.weight, 0);
    this.bumps = bumps.map((bump) => ({ ...bump, weight: bump.weight / total }));
    this.schedule = schedule;
  }

  /** The mixture's bump alone, which is a class of it. @param {number} index */
  given(index) {
    return new GaussianMixture([this.bumps[index]], this.schedule);
  }

  /**
   * The bumps of p_t: each one's middle and variance, the log of its weight over its normalisation, and its gain, which
   * says how much of a point's distance from the middle is the clean point's.
   * @param {number} t
   */
  at(t) {
    const [signal, noise] = this.schedule.signalAndNoise(t);
    return this.bumps.map(({ weight, mean, std }) => {
      const variance = (signal * std) ** 2 + noise ** 2;
      return {
        mean,
        middle: [signal * mean[0], signal * mean[1]],
        variance,
        log: Math.log(weight) - Math.log(2 * Math.PI * variance),
        gain: (signal * std ** 2) / variance,
      };
    });
  }

  /**
   * Each bump's share of the density at a point, and the log of the whole.
   * @param {ReturnType<GaussianMixture["at"]>} bumps
   * @param {number} x
   * @param {number} y
   */
  static shares(bumps, x, y) {
    const logs = bumps.map(({ middle, variance, log }) => {
      const squared = (x - middle[0]) ** 2 + (y - middle[1]) ** 2;
      return log - squared / (2 * variance);
    });
    const highest = Math.max(...logs);
    const total = logs.reduce((sum, log) => sum + Math.exp(log - highest), 0);
    return { shares: logs.map((log) => Math.exp(log - highest) / total), logDensity: highest + Math.log(total) };
  }

  /**
   * The exact posterior means of x0 and eps.
   * @param {Float64Array} x
   * @param {number} t
   * @returns {Prediction}
   */
  predict(x, t) {
    const [bumps, noise] = [this.at(t), this.schedule.noise(t)];
    const [x0, eps] = [new Float64Array(x.length), new Float64Array(x.length)];
    for (let i = 0; i < x.length; i += 2) {
      const { shares } = GaussianMixture.shares(bumps, x[i], x[i + 1]);
      bumps.forEach(({ mean, middle, variance, gain }, k) => {
        for (const axis of [0, 1]) {
          const residual = x[i + axis] - middle[axis];
          x0[i + axis] += shares[k] * (mean[axis] + gain * residual);
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
    const bumps = this.at(t);
    const score = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += 2) {
      const { shares } = GaussianMixture.shares(bumps, x[i], x[i + 1]);
      bumps.forEach(({ middle, variance }, k) => {
        for (const axis of [0, 1]) score[i + axis] -= (shares[k] * (x[i + axis] - middle[axis])) / variance;
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
   * @param {Denoiser} denoise
   * @param {Denoiser} guide
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
   * @returns {Promise<Prediction>}
   */
  async predict(x, t) {
    const [better, worse] = [await this.denoise.predict(x, t), await this.guide.predict(x, t)];
    return {
      x0: combine([this.weight, better.x0], [1 - this.weight, worse.x0]),
      eps: combine([this.weight, better.eps], [1 - this.weight, worse.eps]),
    };
  }
}
