/**
 * Messages between the runner and a side's long-lived process, one JSON line each way. A side is
 * started with the folder of the workloads and the measurement to make, and first reports that it
 * is ready.
 */

import { z } from 'zod';

export const SideArgumentsSchema = z.strictObject({
  folder: z.string(),
  /** `W1.first.5` */
  cell: z.string(),
  variant: z.string(),
  threadCount: z.int().positive(),
});

export const SideCommandSchema = z.discriminatedUnion('kind', [
  /** One step from the initial values on batch 0, with its results written into `folder`. */
  z.strictObject({ kind: z.literal('check'), folder: z.string() }),
  /** Steps over all batches in turn for `durationMs`. */
  z.strictObject({ kind: z.literal('run'), durationMs: z.number().positive() }),
  z.strictObject({ kind: z.literal('end') }),
]);

export const SideReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('ready'),
    /** Names and versions of the libraries that compute. */
    versions: z.record(z.string(), z.string()),
    startMs: z.number(),
  }),
  z.strictObject({
    kind: z.literal('checked'),
    /** Table rows that changed although the batch does not touch them. */
    otherRowsChanged: z.int().nonnegative(),
    /** Duration of the first call: tracing, compiling and running. */
    firstStepMs: z.number(),
  }),
  z.strictObject({
    kind: z.literal('timed'),
    medianMs: z.number(),
    minMs: z.number(),
    stepCount: z.int().positive(),
    wallMs: z.number(),
    cpuMs: z.number(),
    residentMiB: z.number(),
  }),
  z.strictObject({ kind: z.literal('failed'), message: z.string() }),
]);

export type SideArguments = z.infer<typeof SideArgumentsSchema>;
export type SideCommand = z.infer<typeof SideCommandSchema>;
export type SideReply = z.infer<typeof SideReplySchema>;
export type Ready = Extract<SideReply, { kind: 'ready' }>;
export type Checked = Extract<SideReply, { kind: 'checked' }>;
export type Timed = Extract<SideReply, { kind: 'timed' }>;

/** Files of a check: raw float32, layers as `weight0`, `bias0`, ..., table rows as `touchedRows`. */
export function layerNames(widths: readonly number[]): string[] {
  return widths.slice(1).flatMap((_, layer) => [`weight${layer}`, `bias${layer}`]);
}
