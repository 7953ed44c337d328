/** The parent of a compute process may be any program, so it reports the child's output and prints nothing. */

import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { createComputeProcess } from '../../../worker/process/compute-process.js';

const entry = fileURLToPath(
  new URL('../../../dist/test/fixtures/compute/compute-entry.js', import.meta.url),
);

test('a line on the standard error of a compute process is an event', async () => {
  const print = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  onTestFinished(() => print.mockRestore());
  const line = await new Promise<string>((resolve) => {
    const executor = createComputeProcess({
      clock: systemClock,
      entry,
      environment: { ...process.env, COMPLAINT: 'out of patience' },
      onEvent: (event) => {
        if (event.kind === 'compute-wrote' && /patience/.test(event.line)) resolve(event.line);
      },
    });
    onTestFinished(() => executor.close());
    void executor.start();
  });
  expect(line).toBe('out of patience');
  expect(print).not.toHaveBeenCalled();
});
