/** A span of a trace, and how the spans of one outer step find each other across processes. */

import { createHash } from 'node:crypto';
import { z } from 'zod';

/** A piece of work in a trace. It travels from a compute process to its worker. */
export const SpanSchema = z.strictObject({
  traceId: z.string().regex(/^[0-9a-f]{32}$/),
  spanId: z.string().regex(/^[0-9a-f]{16}$/),
  /** Null for the outer step, the root of its trace. */
  parentSpanId: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .nullable(),
  name: z.string().max(128),
  /** Since the Unix epoch. */
  startMs: z.number().nonnegative(),
  endMs: z.number().nonnegative(),
  attributes: z.record(z.string(), z.union([z.string(), z.number()])),
});
export type Span = z.infer<typeof SpanSchema>;

/** The place in a trace below which the work of another process lies. */
export type SpanPlace = Pick<Span, 'traceId' | 'spanId'>;

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/;

/** The header `traceparent` of W3C Trace Context, level 1, of a trace that is kept. */
export function traceparentOf({ traceId, spanId }: SpanPlace): string {
  return `00-${traceId}-${spanId}-01`;
}

/** Null for anything else, as for a trace that is not kept. */
export function placeIn(traceparent: unknown): SpanPlace | null {
  if (typeof traceparent !== 'string') return null;
  const [, traceId, spanId] = TRACEPARENT.exec(traceparent) ?? [];
  return traceId === undefined || spanId === undefined ? null : { traceId, spanId };
}

/** The id of a span that follows from its trace and its name, so that nobody has to send it. */
export function spanIdOf(traceId: string, ...names: readonly string[]): string {
  return hashOf([traceId, ...names]).slice(0, 16);
}

/** Work below a place. */
export function spanBelow(
  { traceId, spanId: parentSpanId }: SpanPlace,
  name: string,
  { startMs, endMs }: Pick<Span, 'startMs' | 'endMs'>,
  attributes: Span['attributes'] = {},
): Span {
  const spanId = spanIdOf(traceId, parentSpanId, name);
  return { traceId, spanId, parentSpanId, name, startMs, endMs, attributes };
}

/** The traces of a start of a run: one for each outer step. */
export class StepTraces {
  readonly #nonce: string;
  readonly #keptShare: number;

  /**
   * @param nonce sets the traces of this start apart from those of any other.
   * @param keptShare the share of outer steps whose traces are kept.
   */
  constructor(nonce: string, keptShare: number) {
    this.#nonce = nonce;
    this.#keptShare = keptShare;
  }

  /**
   * The place of an outer step; null if its trace is not kept.
   *
   * @param outerStep the number of outer steps that were complete when it began.
   */
  placeOf(runId: string, outerStep: number): SpanPlace | null {
    const traceId = hashOf([this.#nonce, runId, String(outerStep)]).slice(0, 32);
    const share = parseInt(traceId.slice(0, 8), 16) / 2 ** 32;
    return share < this.#keptShare ? { traceId, spanId: spanIdOf(traceId, 'outer step') } : null;
  }
}

function hashOf(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
