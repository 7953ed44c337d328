/** The runs whose scaling is measured: the demo's small jobs, and large ones on a synthetic log. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { w2Run, writeW2Log } from './w2-run.js';

export const SCALING_CONFIGS = ['heavy', 'demo', 'synthetic', 'w2'] as const;
export type ScalingConfig = (typeof SCALING_CONFIGS)[number];

/** Of the runs whose outer steps overlap. */
export const DRAIN_EVERY_OUTER_STEPS = 50;

/** The command of one checkout, in the folder that holds its configs and stores. */
export interface ScalingRoom {
  readonly checkout: string;
  readonly folder: string;
}

const W2_LOG = 'w2.csv';
const QIANMO = 'infra/bin/qianmo.mjs';
/** An empty room for this checkout, after one for the checkout that it is compared with, if there is one. */
export function openRooms(scratch: string, base: string | undefined): ScalingRoom[] {
  const checkouts = [...(base === undefined ? [] : [resolve(base)]), packageRoot.pathname];
  return checkouts.map((checkout, index) => {
    const room = { checkout, folder: join(scratch, String(index)) };
    mkdirSync(room.folder);
    return room;
  });
}

const RunSchema = z.looseObject({
  data: z.looseObject({}),
  model: z.looseObject({}),
  method: z.looseObject({}),
  training: z.looseObject({}),
});

export function qianmoArgs({ checkout }: Pick<ScalingRoom, 'checkout'>, words: string[]): string[] {
  return [join(checkout, QIANMO), ...words];
}

export const configFileOf = (name: string): string => `${name}.yaml`;

/** Writes the configs that are asked for and prepares their stores. */
export function prepareRoom(
  room: ScalingRoom,
  configs: readonly ScalingConfig[],
  options: { readonly rows: string; readonly outerSteps: Readonly<Record<ScalingConfig, number>> },
): void {
  const qianmo = (...words: string[]): void => {
    execFileSync(process.execPath, qianmoArgs(room, words), {
      cwd: room.folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  };
  mkdirSync(join(room.folder, 'infra'), { recursive: true });
  symlinkSync(join(room.checkout, 'infra/examples'), join(room.folder, 'infra/examples'));
  const log = 'synthetic.csv';
  if (configs.some((name) => name === 'heavy' || name === 'synthetic'))
    qianmo(
      'synthesize',
      '--rows',
      options.rows,
      '--setting',
      'strong',
      '--seed',
      '7',
      '--out',
      log,
    );
  if (configs.includes('w2')) writeW2Log(join(room.folder, W2_LOG));
  const prepared = new Set<string>();
  for (const name of configs) {
    const config = configOf(room, name, log, options.outerSteps[name]);
    writeFileSync(join(room.folder, configFileOf(name)), stringify(config.run));
    const variant = (variantName: string, training: object): void => {
      const renamed = { ...config.run, run: variantName, output: `runs/${variantName}` };
      const run = { ...renamed, training: { ...config.run.training, ...training } };
      writeFileSync(join(room.folder, configFileOf(variantName)), stringify(run));
    };
    for (const core of [0, 1]) variant(`${name}-${core}`, {});
    const staleness = { outerSteps: 1, drainEveryOuterSteps: DRAIN_EVERY_OUTER_STEPS };
    variant(`${name}-stale`, { staleness });
    if (!prepared.has(config.store)) qianmo('prepare', configFileOf(name));
    prepared.add(config.store);
  }
}

function configOf(
  { checkout }: ScalingRoom,
  name: ScalingConfig,
  log: string,
  outerSteps: number,
): { readonly run: { readonly training: object }; readonly store: string } {
  if (name === 'w2') {
    const store = 'w2-store';
    return { run: w2Run(W2_LOG, store, outerSteps), store };
  }
  const example = name === 'demo' ? 'movielens.yaml' : 'synthetic.yaml';
  const text = readFileSync(join(checkout, 'infra/examples', example), 'utf8');
  const { data, model, method, training, ...rest } = RunSchema.parse(parse(text));
  const store = `${example}-store`;
  const isHeavy = name === 'heavy';
  const run = {
    ...{ ...rest, run: name, output: `runs/${name}` },
    data: { ...data, store, ...(name === 'demo' ? {} : { logs: log }) },
    model: {
      ...model,
      ...(isHeavy
        ? { hiddenWidths: [256, 128], personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'] }
        : {}),
    },
    method: { ...method, ...(isHeavy ? { innerSteps: 5 } : {}) },
    training: {
      ...{ ...training, outerSteps, checkpointEveryOuterSteps: outerSteps },
      ...(isHeavy ? { tasksPerOuterStep: 256 } : {}),
    },
  };
  return { run, store };
}
