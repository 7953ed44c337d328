/**
 * `npm run check -- mutants` looks for the first seed that finds each mutant, and prints a line of JSON for each. Exits 1 when
 * one is not found.
 */

import { benchOptions } from '../bench/bench-options.js';
import { foundMutants } from './planted-mutants.js';

const { recorded } = benchOptions(import.meta.url, {
  recorded: { type: 'boolean', default: false, about: 'begins at the recorded seed' },
});
const found = await foundMutants(recorded ? 'recorded' : 'all', (each) =>
  console.log(JSON.stringify(each)),
);
process.exitCode = found.every(({ invariant }) => invariant !== null) ? 0 : 1;
