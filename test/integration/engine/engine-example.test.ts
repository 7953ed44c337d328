/**
 * The example of `qianmo/engine` runs as a separate program and gives the same result as eager
 * code.
 */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

test('the captured training step is one graph with the same loss as the eager one', async () => {
  const example = 'infra/examples/engine/training-step.mjs';
  const { stdout } = await promisify(execFile)(process.execPath, [example]);
  expect(stdout).toMatch(/^computes with tfjs-node-gpu/m);
  expect(Number(/^(\d+) nodes in one graph$/m.exec(stdout)?.[1])).toBeGreaterThan(10);
  const [eager, captured] = ['eager', 'captured'].map((how) =>
    Number(new RegExp(`^${how}: +loss ([\\d.]+), [\\d.]+ ms per step$`, 'm').exec(stdout)?.[1]),
  );
  // The loss starts at 0.69.
  expect(captured).toBeLessThan(0.2);
  expect(Math.abs(captured! - eager!)).toBeLessThan(2e-5);
});
