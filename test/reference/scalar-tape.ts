/**
 * Reverse-mode differentiation of scalars in float64: slow, small, and without a tensor library. A
 * gradient is available as numbers, or as nodes of the tape that can be differentiated again.
 */

export class ScalarTape {
  readonly #values: number[] = [];
  readonly #parents: number[][] = [];
  readonly #slopes: number[][] = [];
  /** The derivative with respect to the parent at a position, as a node. */
  readonly #slopeNodes: ((place: number) => number)[] = [];

  constant(value: number): number {
    return this.#push(value, [], [], () => this.constant(0));
  }
  valueOf(node: number): number {
    return this.#values[node]!;
  }
  add(...nodes: number[]): number {
    const sum = nodes.reduce((total, node) => total + this.valueOf(node), 0);
    const slopes = nodes.map(() => 1);
    return this.#push(sum, nodes, slopes, () => this.constant(1));
  }
  multiply(a: number, b: number): number {
    const [x, y] = [this.valueOf(a), this.valueOf(b)];
    return this.#push(x * y, [a, b], [y, x], (place) => (place === 0 ? b : a));
  }
  scale(a: number, factor: number): number {
    return this.#push(this.valueOf(a) * factor, [a], [factor], () => this.constant(factor));
  }
  relu(a: number): number {
    const x = this.valueOf(a);
    const slope = x > 0 ? 1 : 0;
    return this.#push(Math.max(x, 0), [a], [slope], () => this.constant(slope));
  }
  softplus(a: number): number {
    const x = this.valueOf(a);
    const value = Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
    return this.#push(value, [a], [1 / (1 + Math.exp(-x))], () => this.sigmoid(a));
  }
  sigmoid(a: number): number {
    const value = 1 / (1 + Math.exp(-this.valueOf(a)));
    const node: number = this.#push(value, [a], [value * (1 - value)], () =>
      this.multiply(node, this.add(this.constant(1), this.scale(node, -1))),
    );
    return node;
  }
  exp(a: number): number {
    const value = Math.exp(this.valueOf(a));
    const node: number = this.#push(value, [a], [value], () => node);
    return node;
  }
  reciprocal(a: number): number {
    const value = 1 / this.valueOf(a);
    const node: number = this.#push(value, [a], [-value * value], () =>
      this.scale(this.multiply(node, node), -1),
    );
    return node;
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
  /** The derivatives of `output` with respect to `inputs`, as nodes. */
  gradientNodes(output: number, inputs: readonly number[]): number[] {
    const depends = new Uint8Array(output + 1);
    for (const input of inputs) depends[input] = 1;
    for (let node = 0; node <= output; node += 1)
      if (this.#parents[node]!.some((parent) => depends[parent] === 1)) depends[node] = 1;
    const parts = new Map<number, number[]>([[output, [this.constant(1)]]]);
    const sums = new Map<number, number>();
    for (let node = output; node >= 0; node -= 1) {
      const own = parts.get(node);
      if (own === undefined) continue;
      const sum = own.length === 1 ? own[0]! : this.add(...own);
      sums.set(node, sum);
      for (const [place, parent] of this.#parents[node]!.entries())
        if (depends[parent] === 1) {
          const part = this.multiply(sum, this.#slopeNodes[node]!(place));
          parts.set(parent, [...(parts.get(parent) ?? []), part]);
        }
    }
    return inputs.map((input) => sums.get(input) ?? this.constant(0));
  }
  #push(
    value: number,
    parents: number[],
    slopes: number[],
    slopeNode: (place: number) => number,
  ): number {
    this.#parents.push(parents);
    this.#slopes.push(slopes);
    this.#slopeNodes.push(slopeNode);
    return this.#values.push(value) - 1;
  }
}
