/** The config of `qianmo stream`: logs as a time-ordered stream, its slots, and how rules are chosen. */

import { StorageConfigSchema } from '../storage/open-object-store.js';
import { z } from 'zod';
import { AddressSchema, ClickLabelSchema, LogsSchema } from './data-config.js';

const name = z.string().min(1);
const positiveInt = z.int().positive();

/** One slot: the values of a column or expression (a list gives several), or a cross of earlier slots. */
const SlotSchema = z
  .strictObject({
    name,
    column: name.optional(),
    /** SQL over the log's columns; a list has each of its members: `string_split(genres, '|')`. */
    expression: z.string().min(1).optional(),
    /** Names of earlier slots: one feature for each combination of their values. */
    cross: z.array(name).min(2).max(4).optional(),
  })
  .refine(
    (slot) =>
      [slot.column, slot.expression, slot.cross].filter((way) => way !== undefined).length <= 1,
    { error: 'give one of column, expression and cross; without any, the column of its name' },
  );

const LearnedRuleSchema = z.strictObject({
  /** Width of the feature embedding; 0 leaves out the low-rank part. */
  rank: z.int().min(0).max(64).default(8),
  /**
   * Names of the slots that are embedded by which of their features meet: best two that choose each
   * other, such as user and adgroup. Without, all slots that are no crosses make the axes, and
   * features of crosses lie where their first row does.
   */
  embedded: z.array(name).min(2).optional(),
  /** Passes over the prior rows in which the axes are found. */
  sweeps: positiveInt.max(1000).default(6),
  /** Features seen in fewer prior rows than about this many hardly shape the embedding. */
  rareRows: z.number().positive().default(30),
  /** Windows that the prior rows are cut into; neighbours are a support and a query set. */
  windows: z.int().min(2).max(1000).default(20),
  epochs: positiveInt.max(1000).default(6),
  pairsPerStep: positiveInt.default(1),
  rate: z.number().positive().max(10).default(0.1),
  /** Whether the rule goes on learning in the new window, or is judged as the old one left it. */
  query: z.enum(['progressive', 'frozen']).default('progressive'),
});

export const StreamConfigSchema = z
  .strictObject({
    run: name,
    seed: z.int().nonnegative().default(1),
    data: z.strictObject({
      logs: LogsSchema,
      format: z.enum(['auto', 'csv', 'tsv', 'jsonl', 'parquet']).default('auto'),
      label: ClickLabelSchema.refine((label) => !('clicks' in label), {
        error: 'a stream has one label per row: give { column } or { expression }',
      }),
      /** Orders the rows; a number of seconds or a timestamp. */
      time: name,
      memoryMiBMax: z.int().min(128).default(2048),
    }),
    slots: z.array(SlotSchema).min(1).max(255),
    /** Rows learned at once: each batch is predicted before any of it is learned. */
    batchRows: positiveInt.default(1),
    /** Share of the stream on which settings and the learned rule are chosen; the rest is judged. */
    priorShare: z.number().min(0.05).max(0.95).default(0.3),
    /** Settings that each baseline tries there. */
    candidates: positiveInt.max(10_000).default(24),
    /** Consecutive parts of the judged rows, drawn again and again for the intervals. */
    segments: z.int().min(2).max(10_000).default(50),
    learned: LearnedRuleSchema.prefault({}),
    /** Where the report is written: a folder or `s3://bucket/prefix`. */
    output: AddressSchema,
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
