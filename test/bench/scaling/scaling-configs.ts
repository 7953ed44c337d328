/** The runs whose scaling is measured: the demo's small jobs, and large ones on a synthetic log. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';

export const SCALING_CONFIGS = ['heavy', 'demo'] as const;
export type ScalingConfig = (typeof SCALING_CONFIGS)[number];

/** Of the runs whose outer steps overlap. */
export const DRAIN_EVERY_OUTER_STEPS = 50;

const QIANMO = fileURLToPath(new URL('infra/bootstrap/qianmo.mjs', packageRoot));
const EXAMPLES = fileURLToPath(new URL('infra/examples', packageRoot));
const SYNTHETIC_LOG = 'synthetic.csv';
const WORLD = ['--setting', 'strong', '--seed', '7', '--out', SYNTHETIC_LOG];

const RunSchema = z.looseObject({
  data: z.looseObject({}),
  model: z.looseObject({}),
  method: z.looseObject({}),
  training: z.looseObject({}),
});

/** The arguments of Node that run the command. */
export function qianmoArgs(...words: string[]): string[] {
  return [QIANMO, ...words];
}

/** Writes the configs that are asked for and prepares their stores, in a folder of their own. */
export function prepareConfigs(
  folder: string,
  configs: readonly ScalingConfig[],
  options: { readonly rows: string; readonly outerSteps: Readonly<Record<ScalingConfig, number>> },
): void {
  const qianmo = (...words: string[]): void => {
    execFileSync(process.execPath, qianmoArgs(...words), {
      ...{ cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] },
    });
  };
  mkdirSync(join(folder, 'infra'));
  symlinkSync(EXAMPLES, join(folder, 'infra/examples'));
  if (configs.includes('heavy')) qianmo('synthesize', '--rows', options.rows, ...WORLD);
  for (const name of configs) {
    const run = runOf(name, options.outerSteps[name]);
    const write = (variant: string, training: object): void => {
      const renamed = { ...run, run: variant, output: `runs/${variant}` };
      const whole = { ...renamed, training: { ...run.training, ...training } };
      writeFileSync(join(folder, `${variant}.yaml`), stringify(whole));
    };
    for (const variant of [name, `${name}-0`, `${name}-1`]) write(variant, {});
    const staleness = { outerSteps: 1, drainEveryOuterSteps: DRAIN_EVERY_OUTER_STEPS };
    write(`${name}-stale`, { staleness });
    qianmo('prepare', `${name}.yaml`);
  }
}

function runOf(name: ScalingConfig, outerSteps: number): z.infer<typeof RunSchema> {
  const isHeavy = name === 'heavy';
  const example = join(EXAMPLES, isHeavy ? 'synthetic.yaml' : 'movielens.yaml');
  const { data, model, method, training, ...rest } = RunSchema.parse(
    parse(readFileSync(example, 'utf8')),
  );
  const length = { outerSteps, checkpointEveryOuterSteps: outerSteps };
  const common = { ...rest, data: { ...data, store: `${name}-store` } };
  if (!isHeavy) return { ...common, model, method, training: { ...training, ...length } };
  const personal = ['bias', 'adgroupEmbedding', 'layer1', 'output'];
  return {
    ...{ ...common, data: { ...common.data, logs: SYNTHETIC_LOG } },
    model: { ...model, hiddenWidths: [256, 128], personal },
    method: { ...method, innerSteps: 5 },
    training: { ...training, ...length, tasksPerOuterStep: 256 },
  };
}
