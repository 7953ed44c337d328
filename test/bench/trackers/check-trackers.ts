/**
 * `npm run check:trackers`: a small run is trained, killed, resumed and evaluated beside a real MLflow server, and
 * TensorBoard's own reader reads its event files. Both must have the outer steps of the event log once, with
 * their values.
 */

import { execFileSync } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import { startCommand } from '../../fixtures/commands/command.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import { benchHeader, folderOfCommit, markdownTable } from '../bench-header.js';
import { installedPython } from '../python/python-environment.js';
import { qianmoIn } from '../qianmo-command.js';
import { loggedScalars, type LoggedScalars } from './logged-scalars.js';
import { startMlflow, type RealMlflow } from './real-mlflow.js';
import { benchOptions } from '../options/bench-options.js';
import { text } from '../options/option-values.js';

const OUTER_STEPS = 300;
/** Both keep single precision at least. */
const RELATIVE_DIFFERENCE_MAX = 1e-6;
const StartedSchema = z.object({ kind: z.literal('run-started'), outerStep: z.number() });
/** Outer steps of the small run in a second. */
const LOST_STEPS_MAX = 100;
const EXPERIMENT = 'check-trackers';
const READER = new URL('test/bench/trackers/read_scalars.py', packageRoot).pathname;

const FoundSchema = z.record(
  z.string(),
  z.record(z.string(), z.array(z.tuple([z.number(), z.number()]))),
);
type Curve = readonly (readonly [number, number])[];

const options = benchOptions(import.meta.url, {
  record: { value: text, about: 'path of the page; nothing is recorded if absent' },
  python: {
    value: text,
    about: 'a Python with the peers installed; by default one is made in the cache',
  },
});
const say = (text: string): void => {
  process.stderr.write(`${text}\n`);
};
const python =
  options.python ??
  installedPython(
    {
      ...{ name: 'trackers', script: 'check:trackers', size: '900 MB' },
      requirements: new URL('test/bench/python/trackers-requirements.txt', packageRoot).pathname,
    },
    say,
  );
const header = benchHeader();
const folder = resolve(folderOfCommit('trackers', header));
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
const mlflow = await startMlflow(python, folder);
say(`MLflow is up after ${mlflow.startSeconds.toFixed(1)} s`);
let resumedAt = 0;
try {
  resumedAt = await trainedAndEvaluated(mlflow.url);
  const logged = await loggedScalars(join(folder, 'tracked'));
  const rows = [...tensorBoardRows(logged), ...(await mlflowRows(mlflow, logged))];
  const page = pageOf(rows);
  if (options.record === undefined) console.log(page);
  else await writeFile(options.record, page);
  if (rows.some(({ isRight }) => !isRight)) process.exitCode = 1;
} finally {
  await mlflow.stop();
}

/** Returns the outer step that the resumed run began from. */
async function trainedAndEvaluated(url: string): Promise<number> {
  const config = {
    ...smallRun('tracked', OUTER_STEPS),
    evaluation: { arms: ['constant', 'meta-adapted'] },
    tracking: { tensorboard: {}, mlflow: { url, experiment: EXPERIMENT } },
  };
  await writeFile(join(folder, 'log.csv'), smallLog());
  await writeFile(join(folder, 'run.yaml'), JSON.stringify(config));
  const place = { checkout: new URL('.', packageRoot).pathname, folder };
  await qianmoIn(place, 'prepare', 'run.yaml');
  const training = startCommand(['train', 'run.yaml', '--processes', '1'], folder);
  await training.saw(/checkpoint of outer step 20:/);
  // Long enough for a batch of both trackers to have gone out.
  await systemClock.sleep(1_200);
  training.signal('SIGKILL');
  await training.ended;
  await qianmoIn(place, 'train', 'run.yaml', '--processes', '1', '--resume');
  // The log of the killed process may lack its last checkpoint; the resumed one says where it began.
  const lines = await qianmoIn(place, 'logs', 'run.yaml', '--format', 'json');
  const started = lines.split('\n').filter((line) => line.includes('"kind":"run-started"'));
  const { outerStep } = StartedSchema.parse(JSON.parse(started.at(-1) ?? '{}'));
  await qianmoIn(place, 'evaluate', 'run.yaml', '--processes', '1');
  return outerStep;
}

interface CheckedRow {
  readonly reader: string;
  /** The call, and the part of a name before its first slash. */
  readonly what: string;
  readonly pointCount: number;
  /** Told by the killed process and not written: of the last outer steps before the checkpoint. */
  readonly lostCount: number;
  readonly isRight: boolean;
}

function tensorBoardRows(logged: LoggedScalars): CheckedRow[] {
  const text = execFileSync(python, [READER, join(folder, 'tracked', 'tensorboard')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const found = FoundSchema.parse(JSON.parse(text));
  return Object.entries(logged).flatMap(([call, curves]) =>
    Object.entries(curves).map(([name, curve]) =>
      rowOf('TensorBoard', `${call}: ${groupOf(name)}`, curve, found[call]?.[name] ?? []),
    ),
  );
}

async function mlflowRows(server: RealMlflow, logged: LoggedScalars): Promise<CheckedRow[]> {
  const [run, ...others] = await server.runs(EXPERIMENT);
  if (run === undefined || others.length > 0) throw new Error('MLflow has not exactly one run');
  const { info, data } = run;
  const rows: CheckedRow[] = [];
  for (const [call, curves] of Object.entries(logged))
    for (const [name, curve] of Object.entries(curves)) {
      const found = lastOfEachStep(await server.history(info.run_id, name));
      rows.push(rowOf('MLflow', `${call}: ${groupOf(name)}`, curve, found));
    }
  const tags = data.tags.map(({ key }) => key);
  const expected = ['version', 'output', 'fingerprint', 'digest', 'checkpoint', 'report'];
  const hasTags = expected.every((tag) => tags.includes(`qianmo.${tag}`));
  const isParam = data.params.some(({ key, value }) => key === 'method.kind' && value === 'fomaml');
  return [
    ...rows,
    {
      reader: 'MLflow',
      what: `status ${info.status}`,
      pointCount: 1,
      lostCount: 0,
      isRight: info.status === 'FINISHED',
    },
    {
      reader: 'MLflow',
      what: 'params',
      pointCount: data.params.length,
      lostCount: 0,
      isRight: isParam,
    },
    { reader: 'MLflow', what: 'tags', pointCount: tags.length, lostCount: 0, isRight: hasTags },
  ];
}

function groupOf(name: string): string {
  return name.replace(/\/.*/, '');
}

/** One row for all curves of a group: it is right if all of them are. */
function grouped(rows: readonly CheckedRow[]): CheckedRow[] {
  const groups = new Map<string, CheckedRow>();
  for (const row of rows) {
    const key = `${row.reader} ${row.what}`;
    const known = groups.get(key) ?? { ...row, pointCount: 0, lostCount: 0 };
    const isRight = known.isRight && row.isRight;
    groups.set(key, {
      ...known,
      pointCount: known.pointCount + row.pointCount,
      lostCount: known.lostCount + row.lostCount,
      isRight,
    });
  }
  return [...groups.values()];
}

/** A resumed run computes outer steps again: MLflow keeps both, with the same value. */
function lastOfEachStep(curve: Curve): Curve {
  return [...new Map(curve.map((point) => [point[0], point])).values()];
}

function rowOf(reader: string, what: string, expected: Curve, found: Curve): CheckedRow {
  const foundByStep = new Map(found);
  const lost = expected.filter(([step]) => !foundByStep.has(step)).map(([step]) => step);
  // The steps that the killed process had not written yet end at the checkpoint that the run was resumed from.
  const told = expected.map(([step]) => step).filter((step) => step <= resumedAt);
  const isOfTheKill = lost.every((step, index) => step === told[told.length - lost.length + index]);
  const isEqual = expected
    .filter(([step]) => foundByStep.has(step))
    .every(([step, value]) => {
      const difference = Math.abs((foundByStep.get(step) ?? Number.NaN) - value);
      return difference <= RELATIVE_DIFFERENCE_MAX * Math.max(1, Math.abs(value));
    });
  const isOnce = found.length === expected.length - lost.length;
  const isRight = isOfTheKill && isEqual && isOnce && lost.length <= LOST_STEPS_MAX;
  return { reader, what, pointCount: found.length, lostCount: lost.length, isRight };
}

function pageOf(rows: readonly CheckedRow[]): string {
  const { commit, date, machine } = header;
  return [
    '# Trackers',
    '',
    `Commit ${commit}, ${date}, ${machine}. Made by \`npm run check:trackers\`.`,
    '',
    `A run of ${OUTER_STEPS} outer steps was killed, resumed after outer step ${resumedAt} and evaluated, with tensorboard 2.21.0 and a server of`,
    'mlflow 3.17.2. A row is right if the reader has every outer step of the event log once, with its value up to 0.000001, apart',
    'from those that were lost: the killed process had told them and the tracker had not written them yet.',
    '',
    ...markdownTable(
      ['read by', 'what', 'points', 'lost', 'right'],
      grouped(rows).map(({ reader, what, pointCount, lostCount, isRight }) => [
        ...[reader, what, pointCount, lostCount, isRight ? 'yes' : 'no'],
      ]),
    ),
    '',
  ].join('\n');
}
