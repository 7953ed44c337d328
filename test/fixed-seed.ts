/**
 * The seed of every property test: the same in each run, so that a run does not fail by chance. Another is
 * tried with the environment variable `QIANMO_TEST_SEED`.
 */

import fc from 'fast-check';

const SEED = Number(process.env['QIANMO_TEST_SEED'] ?? 1);
if (!Number.isSafeInteger(SEED))
  throw new Error('QIANMO_TEST_SEED: expected an integer, for example 42');

fc.configureGlobal({ seed: SEED });
