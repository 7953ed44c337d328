/**
 * Reverse-mode differentiation of scalars in float64: small, and without a tensor library. A gradient is available as
 * numbers, or as nodes of the tape that can be differentiated again.
 */

/** The chain rule as nodes: from the derivative with respect to a node to that with respect to a parent. */
type ChainRule = (slope: number, place: number) => number;

export class ScalarTape {
  readonly #values: number[] = [];
  /** The parents of all nodes end to end, and the derivative with respect to each. */
  readonly #parents: number[] = [];
  readonly #slopes: number[] = [];
  /** Where the parents of a node end. */
  readonly #ends: number[] = [];
  readonly #rules: ChainRule[] = [];

  constant(value: number): number {
    return this.#push(value, [], [], (slope) => slope);
  }
  valueOf(node: number): number {
    return this.#values[node]!;
  }
  add(...nodes: number[]): number {
    let sum = 0;
    for (const node of nodes) sum += this.#values[node]!;
    return this.#push(sum, nodes, [], (slope) => slope);
  }
  multiply(a: number, b: number): number {
    const [x, y] = [this.valueOf(a), this.valueOf(b)];
    return this.#push(x * y, [a, b], [y, x], (slope, place) =>
      this.multiply(slope, place === 0 ? b : a),
    );
  }
  scale(a: number, factor: number): number {
    const value = this.valueOf(a) * factor;
    return this.#push(value, [a], [factor], (slope) => this.scale(slope, factor));
  }
  relu(a: number): number {
    return this.valueOf(a) > 0 ? this.add(a) : this.scale(a, 0);
  }
  softplus(a: number): number {
    const x = this.valueOf(a);
    const value = Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
    return this.#push(value, [a], [1 / (1 + Math.exp(-x))], (slope) =>
      this.multiply(slope, this.sigmoid(a)),
    );
  }
  sigmoid(a: number): number {
    const value = 1 / (1 + Math.exp(-this.valueOf(a)));
    const node: number = this.#push(value, [a], [value * (1 - value)], (slope) =>
      this.multiply(slope, this.multiply(node, this.add(this.constant(1), this.scale(node, -1)))),
    );
    return node;
  }
  /** The derivative of `output` with respect to every node so far. */
  gradient(output: number): Float64Array {
    const gradient = new Float64Array(this.#values.length);
    gradient[output] = 1;
    for (let node = output; node >= 0; node -= 1) {
      const slope = gradient[node]!;
      if (slope === 0) continue;
      for (let at = this.#startOf(node); at < this.#ends[node]!; at += 1)
        gradient[this.#parents[at]!]! += slope * this.#slopes[at]!;
    }
    return gradient;
  }
  /** The derivatives of `output` with respect to `inputs`, as nodes. */
  gradientNodes(output: number, inputs: readonly number[]): number[] {
    const depends = new Uint8Array(output + 1);
    for (const input of inputs) depends[input] = 1;
    for (let node = 0; node <= output; node += 1)
      for (let at = this.#startOf(node); at < this.#ends[node]!; at += 1)
        if (depends[this.#parents[at]!] === 1) depends[node] = 1;
    const parts = new Map<number, number[]>([[output, [this.constant(1)]]]);
    const sums = new Map<number, number>();
    for (let node = output; node >= 0; node -= 1) {
      const own = parts.get(node);
      if (own === undefined) continue;
      const sum = own.length === 1 ? own[0]! : this.add(...own);
      sums.set(node, sum);
      const start = this.#startOf(node);
      for (let at = start; at < this.#ends[node]!; at += 1) {
        const parent = this.#parents[at]!;
        if (depends[parent] === 0) continue;
        const part = this.#rules[node]!(sum, at - start);
        const known = parts.get(parent);
        if (known === undefined) parts.set(parent, [part]);
        else known.push(part);
      }
    }
    return inputs.map((input) => sums.get(input) ?? this.constant(0));
  }
  #startOf(node: number): number {
    return node === 0 ? 0 : this.#ends[node - 1]!;
  }
  /** @param slopes by parent; 1 where it has none */
  #push(
    value: number,
    parents: readonly number[],
    slopes: readonly number[],
    rule: ChainRule,
  ): number {
    for (const [place, parent] of parents.entries()) {
      this.#parents.push(parent);
      this.#slopes.push(slopes[place] ?? 1);
    }
    this.#ends.push(this.#parents.length);
    this.#rules.push(rule);
    return this.#values.push(value) - 1;
  }
}
