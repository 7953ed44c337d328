/**
 * `npm run check -- digests` records the digests of the demo's example, of small runs of every method and model,
 * and of the other verbs that compute. A refactoring is checked against the record. The `qianmo`
 * command does all the work, so the same script can run the command of another checkout.
 *
 *   npm run check -- digests                                     writes infra/results/digests.json and .md
 *   npm run check -- digests --compare infra/results/digests.json   exits 1 where a value differs
 *   npm run check -- digests --only maml,pnn --compare infra/results/digests.json
 *   npm run check -- digests --checkout ../older              runs the command of that checkout
 *
 * It takes 350 s of processor time, less on a quiet machine. Two cases run at once; `--at-once 1` runs
 * one at a time.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { packageRoot } from '../../infra/library/package-root.js';
import { benchHeader, writeResult } from '../bench/bench-header.js';
import { inLanes } from '../bench/in-lanes.js';
import { qianmoIn, type CommandPlace } from '../bench/qianmo-command.js';
import { DIGEST_CASES, prepareStores, type DigestCase } from './cases.js';
import { digestsPage } from './digests-page.js';
import {
  differencesFrom,
  digestTable,
  RecordedDigestsSchema,
  type CaseValues,
} from './recorded-digests.js';
import { benchOptions } from '../bench/bench-options.js';
import { listOf, oneOf, text, wholeNumber } from '../bench/option-values.js';
import { evaluatedValues, sha256 } from './outcomes.js';
import { scratchFolder } from '../bench/scratch-folder.js';

const DEMO = 'demo';

/** The example of the demo as it is written, with every arm. */
async function runExample({ checkout, folder }: CommandPlace) {
  const example = readFileSync(join(checkout, 'infra/examples/movielens.yaml'), 'utf8');
  const config = `${DEMO}.yaml`;
  writeFileSync(
    join(folder, config),
    example
      .replaceAll('runs/movielens', DEMO)
      .replace('logs: infra/', `logs: ${join(checkout, 'infra')}/`),
  );
  const done = (verb: string): Promise<string> => qianmoIn({ checkout, folder }, verb, config);
  await done('prepare');
  const [, training] = /digest ([0-9a-f]{64})/.exec(await done('train')) ?? [];
  const table = (await done('evaluate')).trimEnd().split('\n');
  if (training === undefined || table[0]?.startsWith('Evaluation of ') !== true)
    throw new Error(`the example printed no digest and table:\n${table.join('\n')}`);
  return {
    values: { training, ...evaluatedValues(join(folder, DEMO)), outcome: sha256(table.join('\n')) },
    table,
  };
}

const RESULTS = new URL('infra/results/', packageRoot).pathname;

const known = [DEMO, ...DIGEST_CASES.map(({ name }) => name)];

const options = benchOptions(import.meta.url, {
  checkout: {
    value: text,
    default: packageRoot.pathname,
    about: 'checkout whose command is run',
  },
  compare: { value: text, about: 'record to compare with; ends with 1 where a value differs' },
  only: { value: listOf(oneOf(known)), about: 'runs these cases alone, with commas between them' },
  'at-once': { value: wholeNumber(), default: '2', about: 'cases that run at once' },
});

const chosen = options.only ?? known;

/** The name of each failed case, and its error. */
const failures: string[] = [];
const folder = scratchFolder('digests');
const found = await foundIn({ checkout: resolve(options.checkout), folder });
process.stdout.write(`${digestTable(found.cases).join('\n')}\n`);
if (failures.length > 0) {
  process.stdout.write(`failed:\n${failures.join('\n')}\n`);
  process.exitCode = 1;
} else if (options.compare !== undefined) compareWith(options.compare);
else if (options.only === undefined) record();

async function foundIn(place: CommandPlace) {
  // Builds a stale checkout once, before several commands run side by side.
  await qianmoIn(place, 'version');
  await prepareStores(place);
  const values = new Map<string, CaseValues>();
  let demoTable: string[] = [];
  const all: readonly DigestCase[] = [
    {
      name: DEMO,
      run: async () => {
        const demo = await runExample(place);
        demoTable = demo.table;
        return demo.values;
      },
    },
    ...DIGEST_CASES,
  ];
  const waiting = all.filter(({ name }) => chosen.includes(name));
  await inLanes(waiting, options['at-once'], async ({ name, run }) => {
    process.stderr.write(`== ${name}\n`);
    try {
      values.set(name, await run(place));
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
  // In list order: cases may end in any order.
  const cases = known.flatMap((name) => {
    const ofCase = values.get(name);
    return ofCase === undefined ? [] : [[name, ofCase] as const];
  });
  return { cases: Object.fromEntries(cases), demoTable };
}

function compareWith(path: string): void {
  const recorded = RecordedDigestsSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  const differences = differencesFrom(recorded, found);
  const unrecorded = Object.keys(found.cases).filter((name) => !(name in recorded.cases));
  if (unrecorded.length > 0) process.stdout.write(`not recorded: ${unrecorded.join(', ')}\n`);
  const against = `${path} (commit ${recorded.commit}, ${recorded.machine})`;
  process.stdout.write(
    differences.length === 0
      ? `identical to ${against}\n`
      : `differs from ${against}:\n${differences.join('\n')}\n`,
  );
  process.exitCode = differences.length === 0 ? 0 : 1;
}

function record(): void {
  const { commit, date, machine } = benchHeader(options.checkout);
  const recorded = RecordedDigestsSchema.parse({ commit, date, machine, ...found });
  writeResult(RESULTS, 'digests', recorded, digestsPage(recorded));
}
