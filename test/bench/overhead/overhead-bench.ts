/**
 * The cost of coordinator, queue and work loops where jobs compute nothing. Writes `infra/results/overhead.json`
 * and `.md`.
 *
 *   npm run bench -- overhead --rounds 3 --cases step,waiting
 *   npm run bench -- overhead --base ../other-checkout     compiled there; both in every round
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader } from '../bench-header.js';
import { measuredLoad } from './measured-load.js';
import { CASE_NAMES, type MeasuredLoad } from './overhead-cases.js';
import { overheadPage, type OverheadRecord } from './overhead-page.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, oneOf, text, wholeNumber } from '../options/option-values.js';

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
  cases: {
    value: listOf(oneOf(CASE_NAMES)),
    default: CASE_NAMES.join(','),
    about: 'cases to measure, with commas between them',
  },
  base: {
    value: text,
    about: 'another checkout, compiled there, which is measured in every round as well',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rounds, cases: names } = options;

const header = benchHeader(packageRoot.pathname);
const checkouts = [
  ...(options.base === undefined ? [] : [resolve(options.base)]),
  packageRoot.pathname,
];
const sides = checkouts.map((checkout) => ({
  checkout,
  commit: benchHeader(checkout).commit,
  loads: Object.fromEntries(names.map((name): [string, MeasuredLoad[]] => [name, []])),
}));
for (let round = 1; round <= rounds; round += 1)
  for (const name of names)
    for (const { checkout, commit, loads } of sides) {
      loads[name]?.push(await measuredLoad(name, checkout));
      console.log(`${commit} ${name}, round ${round} of ${rounds}`);
    }

const record: OverheadRecord = {
  ...header,
  rounds,
  sides: sides.map(({ commit, loads }) => ({ commit, loads })),
};
const page = overheadPage(record);
mkdirSync(options.output, { recursive: true });
writeFileSync(join(options.output, 'overhead.json'), `${JSON.stringify(record)}\n`);
writeFileSync(join(options.output, 'overhead.md'), page);
console.log(page);
