/** Rounded tensors with worked numbers. */

import { describe, expect, it } from 'vitest';
import { encodeGradient } from '../../../shared/tensors/encode-gradient.js';
import type { NamedTensors } from '../../../shared/tensors/named-tensors.js';
import { encodeRounded, floatsOf, NEAREST } from '../../../shared/tensors/rounded-tensors.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';

function tensor(...values: number[]): NamedTensors {
  return new Map([['w', { shape: [values.length], values: Float32Array.from(values) }]]);
}

function codedOf(bytes: Uint8Array): Record<string, number[]> {
  const coded = decodeTensors(bytes, 'here');
  return Object.fromEntries([...coded].map(([name, { values }]) => [name, [...values]]));
}

describe('int8', () => {
  it('has the largest magnitude of a block as 127 steps', () => {
    const bytes = encodeRounded(tensor(254, -254, 2, 0.9, 1.1, -3), 'int8', NEAREST);
    // A step is 2: 0.45 steps are nearest to 0, 0.55 to 1, and -1.5 goes up.
    expect(codedOf(bytes)).toEqual({ 'w/scale': [2], w: [127, -127, 1, 0, 1, -1] });
  });

  it('goes up where the share of the way and the draw reach 1', () => {
    const at = (draw: number): number[] | undefined =>
      codedOf(encodeRounded(tensor(254, 0.5, -0.5), 'int8', () => draw))['w'];
    expect(at(0.74)).toEqual([127, 0, 0]);
    expect(at(0.75)).toEqual([127, 1, 0]);
    expect(at(0.24)).toEqual([127, 0, -1]);
  });

  it('has a scale for each 64 values', () => {
    const values = [...new Array<number>(64).fill(127), ...new Array<number>(3).fill(1.27)];
    const coded = codedOf(encodeRounded(tensor(...values), 'int8', NEAREST));
    expect(coded['w/scale']).toEqual([1, Math.fround(1.27 / 127)]);
    expect(coded['w']).toEqual(new Array<number>(67).fill(127));
  });
});

describe('float16', () => {
  it('is scaled by a power of two, so that the largest is between 2^14 and 2^15', () => {
    const { 'w/scale': scale, w } = codedOf(encodeRounded(tensor(1, -1.5, 0), 'float16', NEAREST));
    expect(scale).toEqual([2 ** -14]);
    // Exponent 14 has the bits 29 << 10.
    expect(w).toEqual([29 << 10, 0x8000 | (29 << 10) | 0x200, 0]);
  });

  it('keeps eleven significant bits, and below them goes up or down by the draw', () => {
    const near = 1 + 2 ** -11;
    const rounded = (value: number, draw: number): number | undefined =>
      floatsOf(decodeTensors(encodeRounded(tensor(value), 'float16', () => draw), 'here'))?.get('w')
        ?.values[0];
    expect(rounded(near, 0.49)).toBe(1);
    expect(rounded(near, 0.5)).toBe(1 + 2 ** -10);
    expect(rounded(-near, 0.49)).toBe(-1 - 2 ** -10);
    expect(rounded(-near, 0.5)).toBe(-1);
    expect(rounded(1e-30, 0)).toBeCloseTo(1e-30, 32);
    expect(rounded(3e38, 0)).toBeGreaterThan(2.99e38);
  });

  it('keeps negative values at the largest draw: one with an encoding, and one that is next to nothing', () => {
    const bytes = encodeRounded(tensor(-1, -1e-30), 'float16', () => 1 - 2 ** -53);
    expect(floatsOf(decodeTensors(bytes, 'here'))?.get('w')?.values).toEqual(
      Float32Array.of(-1, -0),
    );
  });
});

describe('the output of a gradient job', () => {
  it('depends on seed, outer step and job, and not on who encodes it', () => {
    const gradient = tensor(1, ...Array.from({ length: 40 }, (_, index) => index / 1000));
    const bytesOf = (outerStep: number, jobIndex: number, seed: number): string =>
      Buffer.from(
        encodeGradient(gradient, { outerStep, jobIndex }, { encoding: { kind: 'int8', seed } }),
      ).toString('hex');
    const first = bytesOf(3, 1, 7);
    expect(bytesOf(3, 1, 7)).toBe(first);
    const others = [bytesOf(4, 1, 7), bytesOf(3, 2, 7), bytesOf(3, 1, 8)];
    expect(new Set([first, ...others]).size).toBe(4);
  });

  it('is float32 without an encoding', () => {
    expect(codedOf(encodeGradient(tensor(0.1), { outerStep: 0, jobIndex: 0 }, {}))).toEqual({
      w: [Math.fround(0.1)],
    });
  });
});
