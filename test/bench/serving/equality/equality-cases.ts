/**
 * The runs whose served scores are compared: every method and model of the digests' world, with more rows
 * of held-out adgroups, and the models that those leave to the captured graph in a form that the kernel covers.
 */

import { join } from 'node:path';
import { evaluate, prepare, synthesize, train } from '../../../../infra/library/index.js';
import { RunConfigSchema, type RunConfig } from '../../../../shared/config/run-config.js';
import { METHOD_CASES, MODEL_CASES, type WorldCase } from '../../digests/world-cases.js';
import { worldRun, type RunDepartures } from '../../digests/world-run.js';

const ROW_COUNT = 60_000;

/** Held-out adgroups of all sizes with more than 10,000 query rows. */
const DATA = {
  rowSplit: {
    ...{ by: 'time', supportShare: 0.5, supportRowsMin: 2, queryRowsMin: 2, supportRowsMax: 32 },
  },
  taskSplit: { by: 'hash', validationShare: 0.1, testShare: 0.45 },
};
/** One cell, so that nothing has to be chosen but the blocks of each size. */
const EVALUATION = { innerRates: [0.3], innerSteps: [2] };

/** It pairs as many support as query rows, which concerns training alone. */
const NOT_COMPARED = ['meta-embedding-released'];

const SHARED_CROSS_LAYERS: readonly WorldCase[] = [
  { name: 'dcn-v2-shared', model: { kind: 'dcn-v2', crossLayers: 2 } },
  {
    name: 'dcn-v2-shared-stacked',
    model: { kind: 'dcn-v2', crossLayers: 2, crossRank: 2, crossTower: 'stacked' },
  },
];

export const EQUALITY_CASES: readonly WorldCase[] = [
  ...METHOD_CASES.filter(({ name }) => !NOT_COMPARED.includes(name)),
  ...MODEL_CASES,
  ...SHARED_CROSS_LAYERS,
];

/** The run of a case in a folder that holds all of them. */
export function configOf(name: string, departures: RunDepartures, folder: string): RunConfig {
  const places = { logs: join(folder, 'world.csv'), store: join(folder, 'store') };
  const run = worldRun(name, {
    ...departures,
    data: { ...departures.data, ...DATA, ...places },
    evaluation: { ...departures.evaluation, ...EVALUATION, ...armsOf(departures) },
  });
  return RunConfigSchema.parse({ ...run, output: join(folder, name) });
}

/** What does not adapt has no arms that do. */
function armsOf({ method }: RunDepartures): object {
  const isGlobal = method !== undefined && 'kind' in method && method.kind === 'global';
  return isGlobal ? { arms: ['global'] } : {};
}

/** The log and the task store that all cases read. */
export async function prepareWorld(folder: string): Promise<void> {
  await synthesize({
    ...{ out: join(folder, 'world.csv'), rows: ROW_COUNT, adgroups: 200, users: 300 },
    ...{ clickRate: 0.2, seed: 7 },
  });
  await prepare({ config: configOf('world', {}, folder) });
}

/** Trains and evaluates the run of a case, and returns its config. */
export async function evaluatedCase(each: WorldCase, folder: string): Promise<RunConfig> {
  const { name, base } = each;
  let { training = {} } = each;
  if (base !== undefined) {
    const config = configOf(`${name}-base`, base, folder);
    await train({ config, processes: 1, fresh: true });
    training = { ...training, startFrom: config.output };
  }
  const config = configOf(name, { ...each, training }, folder);
  await train({ config, processes: 1, fresh: true });
  await evaluate({ config, processes: 1 });
  return config;
}
