/**
 * `npm run simulate:mutants` looks for the first seed that finds each mutant, and prints a line of JSON for each; with
 * `--recorded` it begins at the recorded seed. Exits 1 when one is not found.
 */

import { foundMutants } from './planted-mutants.js';

const seeds = process.argv.includes('--recorded') ? 'recorded' : 'all';
const found = await foundMutants(seeds, (each) => console.log(JSON.stringify(each)));
process.exitCode = found.every(({ invariant }) => invariant !== null) ? 0 : 1;
