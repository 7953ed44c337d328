/** The sinusoid tasks match the published ones and are the same on every read. */

import { expect, test } from 'vitest';
import { sinusoidStore } from '../../bench/sinusoid/sinusoid-tasks.js';

const options = {
  seed: 3,
  trainingTaskCount: 200,
  validationTaskCount: 5,
  testTaskCount: 5,
};

test('amplitudes, phases and positions cover their whole range, and nothing beyond it', async () => {
  const tasks = await sinusoidStore(options).readTasks([...Array(200).keys()]);
  const amplitudes = tasks.map(({ numbers: [x], clicks }) => {
    // y = a sin x + b cos x through any two rows; A^2 = a^2 + b^2, and b <= 0 for phases in [0, pi].
    const [x0, x1] = [x![0]!, x![1]!];
    const determinant = Math.sin(x0) * Math.cos(x1) - Math.cos(x0) * Math.sin(x1);
    const a = (clicks[0]! * Math.cos(x1) - clicks[1]! * Math.cos(x0)) / determinant;
    const b = (clicks[1]! * Math.sin(x0) - clicks[0]! * Math.sin(x1)) / determinant;
    for (const [row, y] of clicks.entries())
      expect(a * Math.sin(x![row]!) + b * Math.cos(x![row]!)).toBeCloseTo(y, 2);
    expect(b).toBeLessThan(0.01);
    return Math.hypot(a, b);
  });
  expect(Math.min(...amplitudes)).toBeGreaterThan(0.09);
  expect(Math.min(...amplitudes)).toBeLessThan(0.3);
  expect(Math.max(...amplitudes)).toBeLessThan(5.01);
  expect(Math.max(...amplitudes)).toBeGreaterThan(4.8);
  const places = tasks.flatMap(({ numbers: [x] }) => [...x!]);
  expect(Math.min(...places)).toBeCloseTo(-5, 1);
  expect(Math.max(...places)).toBeCloseTo(5, 1);
});

test('a task is the same on every read, and differs with another seed', async () => {
  const [once] = await sinusoidStore(options).readTasks([7]);
  const [, again] = await sinusoidStore(options).readTasks([2, 7]);
  const [other] = await sinusoidStore({ ...options, seed: 4 }).readTasks([7]);
  expect(again).toEqual(once);
  expect(other!.clicks).not.toEqual(once!.clicks);
});
