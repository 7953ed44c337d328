/**
 * The lease of a run: the right of one coordinator to work on it. Each time a lease is taken, it gets a
 * larger epoch. Whoever holds a smaller one is fenced off: the queue and the object store refuse it, also
 * if it was suspended meanwhile and does not know. A holder says at intervals that it lives.
 */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';
import { ProcessIdentitySchema } from './process-identity.js';

/** The command whose runs are as long as the record that they repeat. */
/** In its place once training is over, while the last checkpoint is written. */
export const FIXED_BY_END = 'the end of the training';

/** How far a run is, as its coordinator tells with each sign of life. */
const RunProgressSchema = z.strictObject({
  /** `pausing` and `stopping`: the coordinator has heard of it, and the outer step under way ends. */
  state: z.enum(['running', 'pausing', 'paused', 'stopping']),
  /** Set for work that never trains, as an evaluation. */
  hasOuterSteps: z.literal(false).optional(),
  /** Null until training begins. */
  training: z
    .strictObject({
      outerStep: z.int().nonnegative(),
      outerSteps: z.int().nonnegative(),
      /** FIXED_BY_END, or the field of the config that makes outer steps depend on their total number; null if none does. */
      lengthFixedBy: z.string().nullable(),
    })
    .nullable(),
});
export type RunProgress = z.infer<typeof RunProgressSchema>;

export const LeaseHolderSchema = z.strictObject({
  /** Sets this start of the coordinator apart from any other. */
  start: z.string().min(1),
  process: ProcessIdentitySchema,
  /** When it started, by the clock of its machine, in milliseconds since the Unix epoch. */
  sinceMs: z.number(),
  /** When it last said that it lives, by the same clock. */
  beatMs: z.number(),
  progress: RunProgressSchema.optional(),
  /** The latest orders that it has heard, signed; absent where it takes orders without a signature. */
  signedOrders: z
    .strictObject({ sequence: z.int().nonnegative(), signature: z.string() })
    .optional(),
});
export type LeaseHolder = z.infer<typeof LeaseHolderSchema>;

const HolderProcessSchema = z.object({ process: z.object({ host: z.string(), pid: z.int() }) });
/** The record beside checkpoints has its holder in a field. */
const WriterSchema = z.union([
  HolderProcessSchema,
  z.object({ holder: HolderProcessSchema }).transform(({ holder }) => holder),
]);

/** How a coordinator gave its lease back. It is kept for a while, for those who gave it orders. */
export const RunEndSchema = z.strictObject({
  start: z.string().min(1),
  /** `cancelled`: an order stopped the run. `finished`: its training was over. `ended`: it ended otherwise. */
  kind: z.enum(['cancelled', 'finished', 'ended']),
  training: RunProgressSchema.shape.training,
});
export type RunEnd = z.infer<typeof RunEndSchema>;

/** Says for an error why the record of a lease or of its orders cannot be read, and which process wrote it if that is legible. */
export function foundInRecord(text: string, cause: unknown): string {
  if (!(cause instanceof z.ZodError)) return 'text that is not JSON';
  const { process } = WriterSchema.safeParse(JSON.parse(text)).data ?? {};
  const writer = process === undefined ? '' : ` of process ${process.pid} on ${process.host}`;
  return `a record${writer}, with\n${z.prettifyError(cause)}`;
}

export type LeaseAnswer =
  | { readonly kind: 'taken'; readonly epoch: number }
  | {
      readonly kind: 'held';
      readonly holder: LeaseHolder;
      /** Changes whenever the holder says that it lives. */
      readonly mark: string;
      /** The run of the holder; the run that asks if absent. */
      readonly run?: string;
    };

/** The run is in the hands of another coordinator, which took the lease later. */
export class RunFencedError extends QianmoError {
  constructor(where: string) {
    super({
      kind: 'failed',
      what: 'another coordinator has taken over this run',
      where,
      expected: 'one coordinator at a time',
      found:
        'a lease with a later epoch: this process said nothing for too long (suspended, or cut off)',
      cure: 'leave the run to the other coordinator; this one has stopped and changed nothing of it',
    });
  }
}
