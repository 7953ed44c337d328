/**
 * The cost of following new rows: a delta of one adgroup in a hundred against a full bundle, and a refresh after one new
 * row in a hundred against preparing, training, evaluating and exporting everything. Each command is a process of its own, as a user starts it,
 * and the two refreshes begin with the same files. Writes `infra/results/refresh.md` and `.json`.
 *
 *   npm run bench:refresh
 *   npm run bench:refresh -- --adgroups 5000 --rows 200000 --name refresh-trial
 */

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { benchHeader, folderOfCommit } from '../../bench-header.js';
import { qianmoIn } from '../../qianmo-command.js';
import { cutSynthesizedLog, refreshConfig } from './refresh-log.js';
import { refreshPage, type RefreshFigures, type TimedCommand } from './refresh-page.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;

const header = benchHeader();
const { values: options } = parseArgs({
  options: {
    adgroups: { type: 'string', default: '12000' },
    rows: { type: 'string', default: '360000' },
    /** Of a third refresh, which trains; left out if 0. */
    'outer-steps': { type: 'string', default: '30' },
    folder: { type: 'string', default: folderOfCommit('refresh', header) },
    name: { type: 'string', default: 'refresh' },
  },
});
const place = { checkout: new URL('.', packageRoot).pathname, folder: options.folder };

const ExportedSchema = z.object({ byteCount: z.number(), adgroupCount: z.number() });
const RefreshedSchema = z.object({
  changedAdgroupCount: z.number(),
  newAdgroupCount: z.number(),
  newByteCount: z.number(),
  append: z.object({ logRowCount: z.number() }),
  appendMs: z.number(),
  exportMs: z.number(),
});
const TrainedFurtherSchema = z.object({
  ...{ appendMs: z.number(), trainMs: z.number(), exportMs: z.number(), byteCount: z.number() },
});

rmSync(options.folder, { recursive: true, force: true });
mkdirSync(options.folder, { recursive: true });
const size = ['--rows', options.rows, '--adgroups', options.adgroups];
await timed('synthesize', '--out', 'log.csv', '--setting', 'moderate', ...size);
const log = await cutSynthesizedLog(options.folder);
writeFileSync(join(options.folder, 'run.yaml'), JSON.stringify(refreshConfig()));

const computed = ['run.yaml', '--in-process'];
const whole: TimedCommand[] = [];
let exported = { byteCount: 0, adgroupCount: 0 };
for (const verb of ['prepare', 'train', 'evaluate', 'export']) {
  const words = verb === 'prepare' ? ['run.yaml'] : computed;
  const format = verb === 'export' ? ['--format', 'json'] : [];
  const { output, ms } = await timed(verb, ...words, ...format);
  whole.push({ verb, ms });
  if (verb === 'export') exported = ExportedSchema.parse(JSON.parse(output));
}
for (const kept of ['store', 'output']) copy(kept, `first-${kept}`);

const few = await refreshed('few.csv');
const later = await refreshed('later.csv');
const further = options['outer-steps'] === '0' ? null : await trainedFurther();

const figures: RefreshFigures = {
  ...{ header, loadAfter: Math.round((loadavg()[0] ?? 0) * 10) / 10 },
  ...{ log, whole, exported, few, later, further },
};
writeFileSync(join(RESULTS, `${options.name}.json`), `${JSON.stringify(figures, null, 2)}\n`);
writeFileSync(join(RESULTS, `${options.name}.md`), refreshPage(figures));

async function refreshed(logs: string): Promise<RefreshFigures['few']> {
  restore();
  const words = ['--logs', logs, '--format', 'json'];
  const { output, ms } = await timed('refresh', ...computed, ...words);
  return { ...RefreshedSchema.parse(JSON.parse(output)), ms };
}

async function trainedFurther(): Promise<RefreshFigures['further']> {
  restore();
  const outerSteps = options['outer-steps'];
  const words = ['--logs', 'later.csv', '--outer-steps', outerSteps, '--format', 'json'];
  const { output, ms } = await timed('refresh', ...computed, ...words);
  return { ...TrainedFurtherSchema.parse(JSON.parse(output)), ms, outerSteps: Number(outerSteps) };
}

function restore(): void {
  for (const kept of ['store', 'output']) copy(`first-${kept}`, kept);
}

function copy(from: string, to: string): void {
  rmSync(join(options.folder, to), { recursive: true, force: true });
  cpSync(join(options.folder, from), join(options.folder, to), { recursive: true });
}

async function timed(verb: string, ...words: string[]): Promise<{ output: string; ms: number }> {
  const startedMs = systemClock.monotonicMs();
  const output = await qianmoIn(place, verb, ...words);
  return { output, ms: systemClock.monotonicMs() - startedMs };
}
