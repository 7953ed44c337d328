/**
 * Served scores beside evaluated ones, for every method and model and every encoding of blocks, on more than
 * 10,000 rows each. Writes `infra/results/served-equality.json` and `.md`; exits with 1 where a score differs.
 *
 *   npm run bench -- serving equality
 *   npm run bench -- serving equality --only maml,pnn    prints some cases and records nothing
 *
 * It takes about eight minutes on an idle machine; a stopped bench goes on where it ended, at the same commit. It needs the scoring kernel (`npm run setup`).
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openStoreAsPrepared } from '../../../../coordinator/runs/run-files.js';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { openBenchContext, type BenchContext } from '../../bench-context.js';
import { benchHeader, folderOfCommit } from '../../bench-header.js';
import type { WorldCase } from '../../digests/world-cases.js';
import { configOf, EQUALITY_CASES, evaluatedCase, prepareWorld } from './equality-cases.js';
import {
  CaseEqualitySchema,
  measuredCase,
  type CaseEquality,
  type HeldOutRows,
} from './equality-measures.js';
import { differencesOf, DIFFERENCE_MAX, equalityPage } from './equality-page.js';
import { RawRows } from './raw-rows.js';
import { benchOptions } from '../../options/bench-options.js';
import { listOf, oneOf } from '../../options/option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;

// As the command does: a line for each captured graph would hide the rest.
process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';

const options = benchOptions(import.meta.url, {
  only: {
    value: listOf(oneOf(EQUALITY_CASES.map(({ name }) => name))),
    about: 'measures these alone, with commas between them',
  },
});
const chosen = EQUALITY_CASES.filter(({ name }) => options.only?.includes(name) ?? true);
const header = benchHeader();
const folder = folderOfCommit('served-equality', header);
mkdirSync(folder, { recursive: true });
if (!existsSync(join(folder, 'store', 'manifest.json'))) await prepareWorld(folder);

const cases: CaseEquality[] = [];
for (const each of chosen) cases.push(keptCase(each.name) ?? (await newCase(each)));
if (options.only === undefined) {
  writeFileSync(
    `${RESULTS}served-equality.json`,
    `${JSON.stringify({ ...header, cases }, null, 1)}\n`,
  );
  writeFileSync(`${RESULTS}served-equality.md`, equalityPage({ ...header, cases }));
} else process.stdout.write(equalityPage({ ...header, cases }));
if (cases.flatMap(differencesOf).some((found) => !(found <= DIFFERENCE_MAX))) process.exitCode = 1;

function resultOf(name: string): string {
  return join(folder, `${name}.json`);
}

function keptCase(name: string): CaseEquality | null {
  const path = resultOf(name);
  if (!existsSync(path)) return null;
  return CaseEqualitySchema.parse(JSON.parse(readFileSync(path, 'utf8')));
}

async function newCase(each: WorldCase): Promise<CaseEquality> {
  const { name } = each;
  process.stderr.write(`== ${name}\n`);
  // A context of its own, so that tensors of one case are gone before the next.
  const context = openBenchContext();
  try {
    const { clock } = context;
    const startMs = clock.monotonicMs();
    const config = await evaluatedCase(each, folder);
    const compute = await context.machine.openCompute(context);
    const measured = await measuredCase(config, await heldOutRows(context), compute);
    const seconds = Math.round((clock.monotonicMs() - startMs) / 100) / 10;
    const found = { name, ...measured, seconds };
    writeFileSync(resultOf(name), JSON.stringify(found));
    for (const run of [name, `${name}-base`])
      rmSync(join(folder, run), { recursive: true, force: true });
    return found;
  } finally {
    await context.close();
  }
}

async function heldOutRows(context: BenchContext): Promise<HeldOutRows> {
  const store = await openStoreAsPrepared(configOf('world', {}, folder), context);
  const places = store.tasks.filter(({ split }) => split === 'test');
  const tasks = await store.readTasks(places.map(({ taskIndex }) => taskIndex));
  return { store, tasks, raw: new RawRows(join(folder, 'world.csv')) };
}
