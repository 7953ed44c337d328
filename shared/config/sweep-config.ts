/**
 * SweepConfig: which runs a sweep tries, how many, and how they are narrowed down. A file of its own
 * that names a run config, so that a run config stays what one run is.
 */

import { z } from 'zod';
import { AddressSchema } from './data-config.js';
import {
  checkedConfig,
  parseYaml,
  readConfigFile,
  readTextFile,
  type FileKind,
} from './yaml-file.js';

const path = z
  .string()
  .regex(
    /^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*$/,
    'expected a field of the run config, as training.optimizer.rate',
  );

/** Every value of one path with every value of the others; a value may be a whole section. */
const GridSchema = z.record(path, z.array(z.json()).min(1));

export const SweepConfigSchema = z.strictObject({
  /** Begins the name of every trial's run. */
  sweep: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,49}$/, 'expected at most 50 lower-case letters, digits and -'),
  /** The run config that every trial departs from, seen from where the command is given. */
  base: z.string().min(1),
  /** One grid, or several whose trials are joined: each method with its own settings, say. */
  grid: z.union([GridSchema, z.array(GridSchema).min(1)], {
    error: 'expected paths of the run config with lists of values, or a list of such grids',
  }),
  /** Successive halving; without it every trial is trained to the end. */
  halving: z
    .strictObject({
      /** One trial in this many goes on from each rung to the next. */
      eta: z.int().min(2).max(16).default(3),
      /** By default as many as leave one trial on the last. */
      rungs: z.int().min(2).max(20).optional(),
    })
    .optional(),
  /** Of a store with segments, the one whose tasks score; trained are all. */
  segment: z.string().min(1).optional(),
  /** A grid of more trials is refused before anything is trained. */
  trialsMax: z.int().positive().max(1000).default(64),
  /** Trials under way at once, on one set of workers. */
  concurrentTrials: z.int().positive().max(16).default(1),
  /** The checkpoints of this many best trials are kept; those of others go as soon as they lost. */
  trialsKept: z.int().positive().max(1000).default(1),
  /** Trials, scores and the best config: a folder or `s3://bucket/prefix`. */
  output: AddressSchema,
});

export type SweepConfig = z.infer<typeof SweepConfigSchema>;

const SWEEP: FileKind = {
  name: 'sweep',
  examples: 'infra/examples/sweep.yaml is a commented one',
};

/** @throws QianmoError of kind `usage` that lists every fault with its path. */
export async function loadSweepConfig(path: string, read = readTextFile): Promise<SweepConfig> {
  return parseSweepConfig(await readConfigFile(path, SWEEP, read), path);
}

export function parseSweepConfig(yaml: string, where: string): SweepConfig {
  return checkedSweepConfig(parseYaml(yaml, where, SWEEP), where);
}

export function checkedSweepConfig(value: unknown, where: string): SweepConfig {
  return checkedConfig(SweepConfigSchema, value, where, SWEEP);
}
