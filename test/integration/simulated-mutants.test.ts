/** Planted faults of the runtime: the recorded seed of each still finds it. `npm run check -- mutants` looks for new seeds. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { MUTANTS } from '../simulation/mutants.js';

const SCRIPT = 'dist/test/simulation/find-mutants.js';

it('finds every planted fault of the runtime', async () => {
  // A mutant that is not found ends the script with exit code 1.
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, '--recorded']);
  expect(stdout.trim().split('\n')).toHaveLength(MUTANTS.length);
});
