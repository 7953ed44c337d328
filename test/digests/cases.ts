/** All cases of `npm run check -- digests`, and how each is run by the command alone. */

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { segmentLog, segmentRun } from '../fixtures/commands/segment-log.js';
import { smallLog, smallRun } from '../fixtures/commands/small-run.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { qianmoIn, type CommandPlace } from '../bench/qianmo-command.js';
import { evaluatedValues, jsonValues, sha256 } from './outcomes.js';
import type { CaseValues } from './recorded-digests.js';
import { METHOD_CASES, MODEL_CASES, OTHER_CASES, type WorldCase } from './world-cases.js';
import { WORLD_LOG, worldRun } from './world-run.js';

export interface DigestCase {
  readonly name: string;
  readonly run: (place: CommandPlace) => Promise<CaseValues>;
}

const TrainedSchema = z.looseObject({ digest: z.string() });

const IN_PROCESS = ['--processes', '1'];
/** Defines the method of the runs that take second order. */
export const MAML_PLUGIN = new URL('infra/examples/methods/maml.js', packageRoot).pathname;
/** Same values as in test/integration/same-digest. */
const SMALL_OUTER_STEPS = 30;

export const DIGEST_CASES: readonly DigestCase[] = [
  ...['world', 'small', 'segments'].map((store) => storeCase(store)),
  ...[...METHOD_CASES, ...MODEL_CASES, ...OTHER_CASES].map((each) => ({
    name: each.name,
    run: (place: CommandPlace) => runWorldCase(each, place),
  })),
  ...smallCases(),
  { name: 'segments', run: runSegments },
  { name: 'sweep', run: runSweep },
  { name: 'compare', run: runCompare },
];

/** The logs and task stores that the cases read. */
export async function prepareStores(place: CommandPlace): Promise<void> {
  const { folder } = place;
  await qianmoIn(place, 'synthesize', '--out', 'world.csv', ...WORLD_LOG);
  writeFileSync(join(folder, 'small.csv'), smallLog());
  writeFileSync(join(folder, 'segments.csv'), segmentLog());
  const runs = {
    world: worldRun('world'),
    small: smallRunOf('small'),
    segments: segmentRunOf(),
  };
  for (const [name, run] of Object.entries(runs)) {
    writeConfig(folder, `store-${name}`, run);
    await qianmoIn(place, 'prepare', configOf(`store-${name}`));
  }
}

function storeCase(store: string): DigestCase {
  return {
    name: `store-${store}`,
    run: ({ folder }) => {
      const log = readFileSync(join(folder, `${store}.csv`));
      const tables = readdirSync(join(folder, 'stores', store), { recursive: true })
        .map(String)
        .filter((name) => name.endsWith('.arrow'))
        .sort()
        .map((name) => readFileSync(join(folder, 'stores', store, name)));
      return Promise.resolve({ outcome: sha256(Buffer.concat([log, ...tables])) });
    },
  };
}

async function runWorldCase(each: WorldCase, place: CommandPlace): Promise<CaseValues> {
  const { name, base, workers, predicts = false } = each;
  const training = { ...each.training };
  if (base !== undefined) {
    await trained(place, `${name}-base`, worldRun(`${name}-base`, base), IN_PROCESS);
    Object.assign(training, { startFrom: `${name}-base` });
  }
  const how = workers === undefined ? IN_PROCESS : ['--workers', String(workers)];
  const values = await trained(place, name, worldRun(name, { ...each, training }), how);
  const predictions = `${name}.parquet`;
  const writing = predicts ? ['--predictions', predictions] : [];
  await computed(place, 'evaluate', configOf(name), ...how, ...writing);
  return {
    ...values,
    ...evaluatedValues(join(place.folder, name)),
    ...(predicts ? { outcome: sha256(readFileSync(join(place.folder, predictions))) } : {}),
  };
}

async function trained(
  place: CommandPlace,
  name: string,
  run: object,
  how: readonly string[],
): Promise<CaseValues> {
  writeConfig(place.folder, name, run);
  const printed = await computed(place, 'train', configOf(name), '--format', 'json', ...how);
  return { training: TrainedSchema.parse(JSON.parse(printed)).digest };
}

/**
 * The runs of test/integration/same-digest, whose digests do not depend on the processes that
 * compute them.
 */
function smallCases(): DigestCase[] {
  const second = { kind: 'maml', innerSteps: 2, innerRate: 0.3, coldShare: 0.2 };
  const { training } = smallRun('', SMALL_OUTER_STEPS);
  const frozen = { training: { ...training, trainable: ['output', 'bias'] } };
  const departures: Readonly<Record<string, object>> = {
    undisturbed: {},
    kept: { method: second },
    gate: { method: { kind: 'paml-gate', innerSteps: 2 } },
    frozen: { ...frozen, queue: { frozenTablesByteCountMax: 1_000_000 } },
    'frozen-packs': { ...frozen, queue: { frozenTablesByteCountMax: 0 } },
  };
  const names = Object.keys(departures).map((name) => [name, IN_PROCESS] as const);
  const onWorkers = ['undisturbed', 'frozen'].map((name) => [name, ['--workers', '2']] as const);
  return [...names, ...onWorkers].map(([departure, how]) => {
    const name = `same-digest-${departure}${how === IN_PROCESS ? '' : '-workers'}`;
    const run = { ...smallRunOf(name), ...departures[departure] };
    return { name, run: (place) => trained(place, name, run, how) };
  });
}

function smallRunOf(name: string): object {
  const { data, ...run } = smallRun(name, SMALL_OUTER_STEPS);
  return { ...run, data: { ...data, logs: 'small.csv', store: 'stores/small' } };
}

/** Labels of clicks and of values, with one evaluation each. */
async function runSegments(place: CommandPlace): Promise<CaseValues> {
  const values = await trained(place, 'segments', segmentRunOf(), IN_PROCESS);
  await computed(place, 'evaluate', configOf('segments'), ...IN_PROCESS);
  return { ...values, ...evaluatedValues(join(place.folder, 'segments')) };
}

function segmentRunOf(): object {
  const { data, training, evaluation, ...run } = segmentRun();
  return {
    ...run,
    data: { ...data, logs: 'segments.csv', store: 'stores/segments' },
    training: { ...training, outerSteps: 10 },
    evaluation: { ...evaluation, innerSteps: [1, 3], bootstrapSamples: 100 },
    output: 'segments',
  };
}

/** Scores, digests and the best trial of six, two at once. */
async function runSweep(place: CommandPlace): Promise<CaseValues> {
  writeConfig(place.folder, 'sweep-base', worldRun('sweep-base'));
  writeConfig(place.folder, 'sweep', {
    sweep: 'sweep',
    base: configOf('sweep-base'),
    grid: [
      { 'method.innerRate': [0.03, 0.1, 0.3], 'training.optimizer.rate': [0.01] },
      { method: [{ kind: 'maml' }], 'training.optimizer.rate': [0.003, 0.01, 0.03] },
    ],
    halving: { eta: 2, rungs: 2 },
    concurrentTrials: 2,
    output: 'sweep',
  });
  const printed = await computed(
    place,
    ...['sweep', configOf('sweep'), ...IN_PROCESS, '--format', 'json'],
  );
  return jsonValues(printed);
}

/** The arms of a run, on the same test rows. */
async function runCompare(place: CommandPlace): Promise<CaseValues> {
  const method = { kind: 'maml' };
  await trained(place, 'compared', worldRun('compared', { method }), IN_PROCESS);
  await computed(place, 'evaluate', configOf('compared'), ...IN_PROCESS);
  const printed = await computed(
    place,
    ...['compare', 'compared:meta-adapted', 'compared:meta-unadapted', 'compared:meta-chosen'],
    ...['--out', 'comparison', '--format', 'json'],
  );
  return jsonValues(printed);
}

/** What a verb that computes prints. */
function computed(place: CommandPlace, ...words: string[]): Promise<string> {
  return qianmoIn(place, ...words, '--plugin', MAML_PLUGIN);
}

/** JSON is valid YAML. */
function writeConfig(folder: string, name: string, config: object): void {
  writeFileSync(join(folder, configOf(name)), JSON.stringify(config));
}

function configOf(name: string): string {
  return `${name}.yaml`;
}
