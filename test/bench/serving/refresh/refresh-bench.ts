/**
 * The cost of following new rows, for stores of several sizes: a delta of one adgroup in a hundred against a full bundle, and a refresh after
 * one new row in a hundred against preparing, training and exporting everything. Each command is a process of its own, as a user starts it, and
 * is measured by the time of the processor. Writes `infra/results/refresh.md` and `.json`.
 *
 *   npm run bench:refresh
 *   npm run bench:refresh -- --adgroups 2000,4000 --outer-steps 10 --name refresh-trial
 */

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { benchHeader, folderOfCommit } from '../../bench-header.js';
import { meteredQianmo } from '../../qianmo-command.js';
import { cutSynthesizedLog, refreshConfig } from './refresh-log.js';
import { refreshPage, type Metered, type SizeFigures } from './refresh-page.js';
import { benchOptions } from '../../options/bench-options.js';
import { listOf, text, wholeNumber } from '../../options/option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;

const header = benchHeader();
const options = benchOptions(import.meta.url, {
  adgroups: {
    value: listOf(wholeNumber()),
    default: '20000,200000',
    about: 'adgroups of the stores, in ascending order, with commas between them',
  },
  'rows-per-adgroup': { value: wholeNumber(), default: '5', about: 'rows of each adgroup' },
  'outer-steps': { value: wholeNumber(), default: '300', about: 'outer steps of each run' },
  folder: {
    value: text,
    default: folderOfCommit('refresh', header),
    about: 'folder of what the bench makes meanwhile',
  },
  name: { value: text, default: 'refresh', about: 'name of the record and its page' },
});
const { 'outer-steps': outerSteps } = options;

const ExportedSchema = z.object({ byteCount: z.number(), adgroupCount: z.number() });
const RefreshedSchema = z.object({
  ...{ changedAdgroupCount: z.number(), newAdgroupCount: z.number(), newByteCount: z.number() },
  base: z.string(),
  append: z.object({ logRowCount: z.number() }),
});

const sizes: SizeFigures[] = [];
for (const adgroups of options.adgroups) sizes.push(await measured(adgroups));
const loadAfter = Math.round((loadavg()[0] ?? 0) * 10) / 10;
const figures = { header, loadAfter, outerSteps, sizes };
writeFileSync(join(RESULTS, `${options.name}.json`), `${JSON.stringify(figures, null, 2)}\n`);
writeFileSync(join(RESULTS, `${options.name}.md`), refreshPage(figures));

async function measured(adgroupCount: number): Promise<SizeFigures> {
  const folder = join(options.folder, String(adgroupCount));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const run = (verb: string, ...words: string[]): Promise<RunCommand> =>
    metered(folder, verb, ...words);
  const rows = String(adgroupCount * options['rows-per-adgroup']);
  const size = ['--rows', rows, '--adgroups', String(adgroupCount)];
  await run('synthesize', '--out', 'log.csv', '--setting', 'moderate', ...size);
  const log = await cutSynthesizedLog(folder);
  writeFileSync(join(folder, 'run.yaml'), JSON.stringify(refreshConfig(outerSteps)));
  const computed = ['run.yaml', '--processes', '1'];
  const json = ['--format', 'json'];
  const prepared = await run('prepare', 'run.yaml');
  const trained = await run('train', ...computed);
  const evaluated = await run('evaluate', ...computed);
  const full = await run('export', ...computed, ...json);
  const exported = ExportedSchema.parse(JSON.parse(full.output));
  for (const kept of ['store', 'output']) copy(folder, kept, `first-${kept}`);

  const refreshed = async (logs: string): Promise<SizeFigures['few']> => {
    for (const kept of ['store', 'output']) copy(folder, `first-${kept}`, kept);
    const refresh = await run('refresh', ...computed, '--logs', logs, ...json);
    const { base, ...found } = RefreshedSchema.parse(JSON.parse(refresh.output));
    // The rows are in the store now: from the bundle before, the same delta is exported once more.
    await run('bundle', 'label', 'output/bundles', 'latest', base);
    const delta = await run('export', ...computed, '--only-changed', ...json);
    return { ...found, refresh: refresh.metered, delta: delta.metered };
  };
  const few = await refreshed('few.csv');
  const later = await refreshed('later.csv');
  const whole = [prepared, trained, evaluated, full].map((command) => command.metered);
  return { log, whole, exported, few, later };
}

function copy(folder: string, from: string, to: string): void {
  rmSync(join(folder, to), { recursive: true, force: true });
  cpSync(join(folder, from), join(folder, to), { recursive: true });
}

interface RunCommand {
  readonly output: string;
  readonly metered: Metered;
}

async function metered(folder: string, verb: string, ...words: string[]): Promise<RunCommand> {
  const place = { checkout: new URL('.', packageRoot).pathname, folder };
  const startedMs = systemClock.monotonicMs();
  const { output, processorSeconds } = await meteredQianmo(place, verb, ...words);
  const seconds = (systemClock.monotonicMs() - startedMs) / 1000;
  return { output, metered: { verb, seconds, processorSeconds } };
}
