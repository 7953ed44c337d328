/**
 * An event as one line of JSON: a record of the event log, and a message from a worker to its
 * supervisor. Strict on the way in, so that a reader can rely on every field.
 */

import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import { EVENT_KINDS } from './event-kinds.js';
import type { EventKind, RunEventOf, StampedEvent } from './run-events.js';

/** Grows when a kind or a field changes its meaning. New kinds and optional fields do not change it. */
const EVENT_SCHEMA_VERSION = 1;

/** A reason may quote pages of a library's output. */
const TEXT_LENGTH_MAX = 4_000;

const STAMP_SHAPE = {
  schemaVersion: z.literal(EVENT_SCHEMA_VERSION),
  epochMs: z.int().nonnegative(),
  runId: z.string().optional(),
  outerStep: z.int().nonnegative().optional(),
  worker: z.string().optional(),
  workerIndex: z.int().nonnegative().optional(),
};

const KindSchema = z.looseObject({ kind: z.string() });
const SCHEMA_BY_KIND = new Map<string, z.ZodObject>(
  Object.entries(EVENT_KINDS).map(([kind, { shape }]) => [
    kind,
    z.strictObject({ ...STAMP_SHAPE, kind: z.literal(kind), ...shape }),
  ]),
);

/** The schema of an event before it is stamped, for other channels than lines. */
export function eventSchemaOf<Kind extends EventKind>(kind: Kind): z.ZodType<RunEventOf<Kind>> {
  // The shape of this kind infers to its event, which an index by a type parameter does not show.
  return z.strictObject({
    kind: z.literal(kind),
    ...EVENT_KINDS[kind].shape,
  }) as unknown as z.ZodType<RunEventOf<Kind>>;
}

/** Returns one line of JSON, without a line break. */
export function encodeEvent(event: StampedEvent): string {
  return JSON.stringify({ schemaVersion: EVENT_SCHEMA_VERSION, ...event }, (_, value: unknown) => {
    if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
    return typeof value === 'string' ? value.slice(0, TEXT_LENGTH_MAX) : value;
  });
}

/** @throws QianmoError of kind `data` when the line is not an event of this vocabulary. */
export function parseEventLine(line: string, where?: string): StampedEvent {
  const noEvent = (found: string): QianmoError =>
    errorOf('data', 'the line is not an event that this version of qianmo knows', {
      ...(where === undefined ? {} : { where }),
      expected: `one JSON object of schema version ${EVENT_SCHEMA_VERSION}`,
      found,
      cure: 'read the log with the version of qianmo that wrote it',
    });
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw noEvent(line.slice(0, 80));
  }
  const kind = KindSchema.safeParse(value);
  if (!kind.success) throw noEvent('no field "kind"');
  const schema = SCHEMA_BY_KIND.get(kind.data.kind);
  if (schema === undefined) throw noEvent(`the kind "${kind.data.kind}"`);
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw noEvent(z.prettifyError(parsed.error));
  const { schemaVersion: _version, ...event } = parsed.data;
  // The schema of this kind has admitted it, which the map's type does not show.
  return event as unknown as StampedEvent;
}
