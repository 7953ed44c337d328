/** The config of `qianmo stream`: logs as a time-ordered stream, its slots, and how rules are chosen. */

import { StorageConfigSchema } from '../storage/open-object-store.js';
import { z } from 'zod';
import { QueryModeSchema, RULE_RANK_MAX, SLOT_COUNT_MAX } from '../streaming/rule-settings.js';
import { ComputeConfigSchema, QueueConfigSchema } from './compute-config.js';
import { RunNameSchema } from './run-name.js';
import { AddressSchema, ClickLabelSchema, LogFormatSchema, LogsSchema } from './data-config.js';

const name = z.string().min(1);
const positiveInt = z.int().positive();

const SlotSchema = z
  .strictObject({
    name: name.describe('The name of the slot, and its column unless another source is given.'),
    column: name.optional().describe('The column whose values are the features of the slot.'),
    expression: z
      .string()
      .min(1)
      .optional()
      .describe(
        "SQL over the log's columns. A list gives one feature for each member: string_split(genres, '|').",
      ),
    cross: z
      .array(name)
      .min(2)
      .max(4)
      .optional()
      .describe('Names of earlier slots: one feature for each combination of their values.'),
  })
  .refine(
    (slot) =>
      [slot.column, slot.expression, slot.cross].filter((way) => way !== undefined).length <= 1,
    { error: 'give one of column, expression and cross; without any, the column of its name' },
  );

const LearnedRuleSchema = z
  .strictObject({
    rank: z
      .int()
      .min(0)
      .max(RULE_RANK_MAX)
      .default(8)
      .describe('Width of the feature embedding; 0 leaves out the low-rank part.'),
    embedded: z
      .array(name)
      .min(2)
      .optional()
      .describe(
        'Names of the slots whose features are embedded by which of them occur together. Two that choose ' +
          'each other, such as user and adgroup, work best. By default all slots that are no crosses; ' +
          'features of crosses then lie where their first row does.',
      ),
    sweeps: positiveInt
      .max(1000)
      .default(6)
      .describe('Passes over the prior rows in which the axes of the embedding are found.'),
    rareRows: z
      .number()
      .positive()
      .default(30)
      .describe('Features in fewer prior rows than about this many hardly shape the embedding.'),
    windows: z
      .int()
      .min(2)
      .max(1000)
      .default(20)
      .describe(
        'The number of windows that the prior rows are cut into. Adjacent windows are a support and a ' +
          'query set.',
      ),
    epochs: positiveInt.max(1000).default(6).describe('Passes over the pairs of windows.'),
    pairsPerStep: positiveInt.default(1).describe('Pairs of windows in one outer step.'),
    rate: z.number().positive().max(10).default(0.1).describe('Rate of the outer steps.'),
    query: QueryModeSchema.default('progressive').describe(
      'Whether the rule continues to learn in the query window (progressive), or is judged as the ' +
        'support window left it (frozen).',
    ),
  })
  .describe('The learned update rule.');

const StreamDataSchema = z.strictObject({
  logs: LogsSchema,
  format: LogFormatSchema,
  label: ClickLabelSchema.refine((label) => !('clicks' in label), {
    error: 'a stream has one label per row: give { column } or { expression }',
  }).describe('What is predicted.'),
  time: name.describe('The column that orders the rows: a number of seconds or a timestamp.'),
  memoryMiBMax: z.int().min(128).default(2048).describe('The memory for reading the logs, in MiB.'),
});

export const StreamConfigSchema = z
  .strictObject({
    run: RunNameSchema,
    seed: z.int().nonnegative().default(1).describe('Decides initial values and all draws.'),
    data: StreamDataSchema.describe('Logs, label and time.'),
    slots: z.array(SlotSchema).min(1).max(SLOT_COUNT_MAX).describe('The inputs.'),
    batchRows: positiveInt
      .default(1)
      .describe('Rows learned at once. Each batch is predicted before any of it is learned.'),
    priorShare: z
      .number()
      .min(0.05)
      .max(0.95)
      .default(0.3)
      .describe(
        'The share of the stream on which settings and the learned rule are chosen. The rest is judged.',
      ),
    candidates: positiveInt
      .max(10_000)
      .default(24)
      .describe('The number of settings that each baseline tries on the prior rows.'),
    segments: z
      .int()
      .min(2)
      .max(10_000)
      .default(50)
      .describe(
        'Consecutive parts of the judged rows, which the bootstrap of the intervals draws.',
      ),
    learned: LearnedRuleSchema.prefault({}),
    compute: ComputeConfigSchema.prefault({}),
    queue: QueueConfigSchema.prefault({}),
    output: AddressSchema.describe('The folder or s3://bucket/prefix of the report.'),
    storage: StorageConfigSchema.prefault({}),
  })
  .superRefine(({ slots, learned }, context) => {
    const seen = new Set<string>();
    for (const [index, slot] of slots.entries()) {
      const complain = (message: string): void =>
        context.addIssue({ code: 'custom', path: ['slots', index], message });
      if (seen.has(slot.name)) complain(`"${slot.name}" names two slots`);
      for (const part of slot.cross ?? [])
        if (!seen.has(part)) complain(`crosses "${part}", which is no earlier slot`);
      seen.add(slot.name);
    }
    for (const [index, slot] of (learned.embedded ?? []).entries())
      if (!seen.has(slot))
        context.addIssue({
          code: 'custom',
          path: ['learned', 'embedded', index],
          message: `there is no slot "${slot}"`,
        });
  });

export type StreamConfig = z.infer<typeof StreamConfigSchema>;
export type SlotConfig = StreamConfig['slots'][number];
