/** Reverse-mode differentiation of scalars in float64: slow, small, and no tensor library. */

export class ScalarTape {
  readonly #values: number[] = [];
  readonly #parents: number[][] = [];
  readonly #slopes: number[][] = [];

  constant(value: number): number {
    return this.#push(value, [], []);
  }
  valueOf(node: number): number {
    return this.#values[node]!;
  }
  add(...nodes: number[]): number {
    const sum = nodes.reduce((total, node) => total + this.valueOf(node), 0);
    return this.#push(
      sum,
      nodes,
      nodes.map(() => 1),
    );
  }
  multiply(a: number, b: number): number {
    return this.#push(
      this.valueOf(a) * this.valueOf(b),
      [a, b],
      [this.valueOf(b), this.valueOf(a)],
    );
  }
  scale(a: number, factor: number): number {
    return this.#push(this.valueOf(a) * factor, [a], [factor]);
  }
  relu(a: number): number {
    const x = this.valueOf(a);
    return this.#push(Math.max(x, 0), [a], [x > 0 ? 1 : 0]);
  }
  softplus(a: number): number {
    const x = this.valueOf(a);
    const value = Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
    return this.#push(value, [a], [1 / (1 + Math.exp(-x))]);
  }
  /** The derivative of `output` with respect to every node so far. */
  gradient(output: number): Float64Array {
    const gradient = new Float64Array(this.#values.length);
    gradient[output] = 1;
    for (let node = output; node >= 0; node -= 1)
      for (const [place, parent] of this.#parents[node]!.entries())
        gradient[parent]! += gradient[node]! * this.#slopes[node]![place]!;
    return gradient;
  }
  #push(value: number, parents: number[], slopes: number[]): number {
    this.#parents.push(parents);
    this.#slopes.push(slopes);
    return this.#values.push(value) - 1;
  }
}
