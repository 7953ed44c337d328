/**
 * SweepConfig: which runs a sweep tries, how many, and how they are narrowed down. A file of its own
 * that names a run config, so that a run config stays what one run is.
 */

import { z } from 'zod';
import { AddressSchema } from './data-config.js';
import { checkedConfig, type ConfigKind } from './yaml-file.js';

const path = z
  .string()
  .regex(
    /^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*$/,
    'expected a field of the run config, as training.optimizer.rate',
  );

const GridSchema = z
  .record(path, z.array(z.json()).min(1))
  .describe('Values by field of the run config; a value may be a whole section.');

const HalvingSchema = z
  .strictObject({
    eta: z
      .int()
      .min(2)
      .max(16)
      .default(3)
      .describe('One trial in this many continues from each rung to the next.'),
    rungs: z
      .int()
      .min(2)
      .max(20)
      .optional()
      .describe('The number of rungs; by default as many as leave one trial on the last.'),
  })
  .describe('Successive halving. Without it every trial is trained to the end.');

export const SweepConfigSchema = z.strictObject({
  sweep: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,49}$/, 'expected at most 50 letters, digits and -')
    .describe("The name of the sweep, with which the name of every trial's run begins."),
  base: z
    .string()
    .min(1)
    .describe('The run config that every trial starts from, relative to the current folder.'),
  grid: z
    .union([GridSchema, z.array(GridSchema).min(1)], {
      error: 'expected paths of the run config with lists of values, or a list of such grids',
    })
    .describe(
      'Every value of each field with every value of the others; or a list of grids whose trials are ' +
        'joined, for example one for each method.',
    ),
  halving: HalvingSchema.optional(),
  segment: z
    .string()
    .min(1)
    .optional()
    .describe('For a store with segments: the one whose tasks score. All are trained on.'),
  trialsMax: z
    .int()
    .positive()
    .max(1000)
    .default(64)
    .describe('A grid of more trials is refused before training starts.'),
  concurrentTrials: z
    .int()
    .positive()
    .max(16)
    .default(1)
    .describe('Trials that run at the same time, on one set of workers.'),
  trialsKept: z
    .int()
    .positive()
    .max(1000)
    .default(1)
    .describe(
      'The checkpoints of this many best trials are kept; others are removed once they lost.',
    ),
  output: AddressSchema.describe(
    'The folder or s3://bucket/prefix of trials, scores and the best config.',
  ),
});

export type SweepConfig = z.infer<typeof SweepConfigSchema>;

export const SWEEP_CONFIG: ConfigKind<SweepConfig> = {
  name: 'sweep',
  examples: 'infra/examples/sweep.yaml is a commented one',
  check: (value, where) => checkedConfig(SweepConfigSchema, value, where, SWEEP_CONFIG),
};
