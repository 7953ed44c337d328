/**
 * Trains a table of many rows of 9 floats: the run is killed in the middle of its second checkpoint, and a resume
 * ends it. With a smaller table, an undisturbed run gives the digest to compare with. Prints the table of
 * infra/results/large-tables.md and writes it there.
 *
 *   npm run bench -- large-tables --rows 10000000 --smaller-rows 100000
 *
 * 100 million rows need 13 GiB of memory and 20 GiB in the temporary folder.
 */

import { execFileSync } from 'node:child_process';
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import { benchHeader, circumstances, grouped, markdownTable } from '../bench-header.js';
import { watched, type WatchedCommand } from '../resident-memory.js';
import { benchOptions } from '../bench-options.js';
import { wholeNumber } from '../option-values.js';
import { scratchFolder } from '../scratch-folder.js';

const options = benchOptions(import.meta.url, {
  rows: { value: wholeNumber(), default: '100000000', about: 'rows of the table' },
  'smaller-rows': { value: wholeNumber(), default: '1000000', about: 'rows of the smaller table' },
});
const EXECUTABLE = new URL('infra/bootstrap/qianmo.mjs', packageRoot).pathname;
const RESULT = new URL('infra/results/large-tables.md', packageRoot).pathname;
const OUTER_STEPS = 9;
const CHECKPOINT_EVERY = 3;
/** Writing it is the longest part of a run. */
const KILLED_AFTER_CHECKPOINTS = 1;

interface Case {
  readonly name: string;
  readonly rowCount: number;
  readonly isKilled: boolean;
}

interface Row {
  readonly what: string;
  readonly run: WatchedCommand;
  readonly writtenByteCount: number;
  readonly digest: string;
}

async function runFile(folder: string, { name, rowCount }: Case): Promise<string> {
  const run = smallRun(name, OUTER_STEPS);
  const [site, , age] = run.data.features;
  const user = { name: 'user', kind: 'category', hashBuckets: rowCount };
  const path = join(folder, `${name}.yaml`);
  const config = {
    ...run,
    data: {
      ...run.data,
      logs: join(folder, 'log.csv'),
      store: join(folder, `${name}-store`),
      features: [site, user, age],
    },
    model: {
      ...run.model,
      embeddingWidth: 8,
      // Normal values take five times as long to draw.
      initialisation: { tables: { user: { kind: 'uniform', bound: 0.05 } } },
    },
    training: {
      ...run.training,
      checkpointEveryOuterSteps: CHECKPOINT_EVERY,
      checkpointsKept: 2,
      tableDigest: 'pieces',
    },
    output: join(folder, name),
  };
  // JSON is valid YAML.
  await writeFile(path, JSON.stringify(config));
  return path;
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

/** Kills the coordinator between the first blob and the manifest of a checkpoint. */
async function killInCheckpoint(output: string, pid: number): Promise<void> {
  const [manifests, blobs] = ['manifests', 'blobs'].map((kind) =>
    join(output, 'checkpoints', kind),
  );
  const countIn = async (folder: string | undefined): Promise<number> =>
    (await namesIn(folder ?? '')).length;
  while ((await countIn(manifests)) < KILLED_AFTER_CHECKPOINTS) await systemClock.sleep(20);
  for (;;) {
    const [manifestCount, blobCount] = [await countIn(manifests), await countIn(blobs)];
    while ((await countIn(blobs)) <= blobCount) await systemClock.sleep(2);
    process.kill(pid, 'SIGSTOP');
    if ((await countIn(manifests)) === manifestCount) break;
    process.kill(pid, 'SIGCONT');
  }
  process.kill(pid, 'SIGKILL');
}

async function byteCountOf(folder: string): Promise<number> {
  let sum = 0;
  for (const name of await namesIn(folder)) sum += (await stat(join(folder, name))).size;
  return sum;
}

async function rowsOf(folder: string, given: Case): Promise<Row[]> {
  const config = await runFile(folder, given);
  const output = join(folder, given.name);
  execFileSync(process.execPath, [EXECUTABLE, 'prepare', config], { stdio: 'inherit' });
  const train = [EXECUTABLE, 'train', config, '--processes', '1', '--format', 'json'];
  const rows: Row[] = [];
  const add = async (what: string, run: WatchedCommand): Promise<void> => {
    const { digest = '' } = JSON.parse(run.output || '{}') as { digest?: string };
    const writtenByteCount = await byteCountOf(join(output, 'checkpoints', 'blobs'));
    rows.push({ what: `${grouped(given.rowCount)} rows, ${what}`, run, writtenByteCount, digest });
    console.log(`${what}: ${run.seconds} s, ${run.processMiBMax} MiB in the largest process`);
  };
  if (!given.isKilled) {
    await add('undisturbed', await watched(train));
    return rows;
  }
  const killed = await watched(train, (pid) => killInCheckpoint(output, pid));
  await add('killed in a checkpoint', killed);
  await add('resumed to the end', await watched([...train, '--resume']));
  return rows;
}

function tableOf(rows: readonly Row[]): string[] {
  return markdownTable(
    ['run', 's', 'largest process, MiB', 'all processes, MiB', 'blobs, MiB', 'digest'],
    rows.map(({ what, run, writtenByteCount, digest }) => [
      what,
      run.seconds,
      grouped(run.processMiBMax),
      grouped(run.residentMiBMax),
      grouped(Math.round(writtenByteCount / 2 ** 20)),
      digest === '' ? '-' : digest.slice(0, 16),
    ]),
  );
}

const header = benchHeader();
const folder = scratchFolder('large-tables');
await writeFile(join(folder, 'log.csv'), smallLog());
const { 'smaller-rows': smaller } = options;
const rows: Row[] = [];
for (const given of [
  { name: 'flat', rowCount: smaller, isKilled: false },
  { name: 'smaller', rowCount: smaller, isKilled: true },
  { name: 'large', rowCount: options.rows, isKilled: true },
]) {
  rows.push(...(await rowsOf(folder, given)));
  await rm(join(folder, given.name), { recursive: true, force: true });
}
const text = [
  `# Tables of ${grouped(options.rows)} rows`,
  '',
  `${circumstances(header)} ${OUTER_STEPS} outer steps with Adam on rows of 9 floats, a checkpoint every ${CHECKPOINT_EVERY}. The coordinator is killed`,
  'in the second checkpoint. Digests are over pieces of tables.',
  '',
  ...tableOf(rows),
  '',
].join('\n');
console.log(text);
await writeFile(RESULT, text);
