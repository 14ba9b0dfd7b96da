// @ts-check
// The random numbers of ddpm.noise, up to the last roundings: sample i of a seed is the same here and there.

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4). */
const SHA256_CONSTANTS = (() => {
  /** @type {number[]} */
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  return primes.map((prime) => Math.floor((Math.cbrt(prime) % 1) * 2 ** 32));
})();

/**
 * SHA-256 of a short text in ASCII (FIPS 180-4), of up to 55 characters.
 * @param {string} text
 * @returns {Uint32Array} eight words
 */
function sha256(text) {
  if (text.length > 55) throw new RangeError(`text has ${text.length} characters; legal are up to 55`);
  const words = new Uint32Array(64);
  [...text, "\x80"].forEach((letter, i) => (words[i >> 2] |= letter.charCodeAt(0) << (24 - 8 * (i % 4))));
  words[15] = 8 * text.length;
  const turn = (/** @type {number} */ word, /** @type {number} */ by) => (word >>> by) | (word << (32 - by));
  for (let i = 16; i < 64; i++) {
    const [early, late] = [words[i - 15], words[i - 2]];
    const first = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
    const second = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
    words[i] = words[i - 16] + first + words[i - 7] + second;
  }
  const start = Uint32Array.of(
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  );
  let [a, b, c, d, e, f, g, h] = start;
  for (let i = 0; i < 64; i++) {
    const one = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + SHA256_CONSTANTS[i] + words[i];
    const two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    [a, b, c, d, e, f, g, h] = [(one + two) | 0, a, b, c, (d + one) | 0, e, f, g];
  }
  return start.map((word, i) => word + [a, b, c, d, e, f, g, h][i]);
}

/**
 * `ddpm.noise.fold_in` of a seed and a sample's number, as far as torch's generator looks at it: the low 32 bits.
 * @param {number} seed
 * @param {number} index
 */
function foldIn(seed, index) {
  const [low, high] = sha256(`(${seed}, ${index})`).slice(0, 2).map(swapBytes); // the digest is read as little endian
  return ((low >>> 1) | (high << 31)) >>> 0;
}

/** @param {number} word */
function swapBytes(word) {
  return ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff0000) | (word << 24)) >>> 0;
}

/** torch's generator on a CPU, MT19937 of Matsumoto & Nishimura (1998), and its normal numbers in float32. */
class TorchGenerator {
  /** @param {number} seed of 32 bits */
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
    this.next = 624;
    /** @type {number | null} the second of two normal numbers that are made at once */
    this.kept = null;
  }

  /** 32 random bits. */
  bits() {
    if (this.next === 624) this.#renew();
    let word = this.state[this.next++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #renew() {
    const { state } = this;
    for (let i = 0; i < 624; i++) {
      const word = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  /**
   * Standard normal numbers, as torch.randn draws so many.
   * @param {number} count
   */
  randn(count) {
    return count < 16 ? Float32Array.from({ length: count }, () => this.#one()) : this.#many(count);
  }

  /** A number of 53 random bits in [0, 1). */
  #uniform() {
    const high = this.bits() & 0x1fffff;
    return (high * 2 ** 32 + this.bits()) / 2 ** 53;
  }

  /** One by one: Box & Muller (1958) in float64. */
  #one() {
    if (this.kept !== null) {
      const kept = this.kept;
      this.kept = null;
      return kept;
    }
    const [angle, radius] = [2 * Math.PI * this.#uniform(), Math.sqrt(-2 * Math.log1p(-this.#uniform()))];
    this.kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** @param {number} count */
  #many(count) {
    const found = Float32Array.from({ length: count }, () => (this.bits() & 0xffffff) / 2 ** 24);
    const sixteen = (/** @type {number} */ start) => {
      for (let i = start; i < start + 8; i++) {
        const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - found[i])), 2 * Math.PI * found[i + 8]];
        [found[i], found[i + 8]] = [radius * Math.cos(angle), radius * Math.sin(angle)];
      }
    };
    for (let start = 0; start <= count - 16; start += 16) sixteen(start);
    if (count % 16) {
      for (let i = count - 16; i < count; i++) found[i] = (this.bits() & 0xffffff) / 2 ** 24;
      sixteen(count - 16);
    }
    return found;
  }
}

/**
 * `ddpm.noise.PerSampleNoise`: noise with a stream of its own for every sample.
 * @param {number} seed
 * @param {number} each how many numbers a sample has
 * @param {number} first the number of the first sample
 * @returns {(x: ArrayLike<number>) => Float64Array} x (samples x each) -> standard normal of as many numbers
 */
function perSampleNoise(seed, each, first = 0) {
  /** @type {TorchGenerator[]} */
  const generators = [];
  return (x) => {
    const noise = new Float64Array(x.length);
    for (let i = 0; i < x.length / each; i++) {
      generators[i] ??= new TorchGenerator(foldIn(seed, first + i));
      noise.set(generators[i].randn(each), i * each);
    }
    return noise;
  };
}
