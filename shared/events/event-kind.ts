/** The form of an entry in the table of event kinds, and the stamp that every event gets. */

import type { z } from 'zod';
import type { MetricUpdate } from '../metrics/metric-definitions.js';

/** The origin of an event: a worker, or the coordinator where no worker is named. */
export interface EventSource {
  /** Absent before a run is known, and for a worker that serves none yet. */
  readonly runId?: string | undefined;
  /** The name of the worker, as results carry it. */
  readonly worker?: string | undefined;
  /** The place of the worker among the local workers of a supervisor, from 0. */
  readonly workerIndex?: number | undefined;
  /** The time of the event in milliseconds since the Unix epoch; the present when absent. */
  readonly epochMs?: number | undefined;
}

export interface EventStamp extends EventSource {
  readonly epochMs: number;
  /** Outer steps that were complete; absent outside training. */
  readonly outerStep?: number | undefined;
}

/** Details are kept in the log and not shown on a terminal. */
export type EventLevel = 'detail' | 'notice' | 'warning';

export type FieldsOf<Shape extends z.ZodRawShape> = keyof Shape extends never
  ? // zod gives an empty shape the type of a record without keys, which would forbid `kind`.
    unknown
  : Readonly<z.output<z.ZodObject<Shape>>>;
type Stamped<Shape extends z.ZodRawShape> = FieldsOf<Shape> & EventStamp;

interface Traits<Event> {
  /** Counters and gauges that follow the event. A process applies those that it exports. */
  readonly metrics?: (event: Event) => readonly MetricUpdate[];
  /** Shows that the run moves: it neither stalls nor waits for workers. */
  readonly isProgress?: true;
}

/** The words, level and metrics of an event of one kind. */
export interface EventWords<Event> extends Traits<Event> {
  readonly level: (event: Event) => EventLevel;
  /** The event in words. */
  readonly text: (event: Event) => string;
}

type Define = <Shape extends z.ZodRawShape>(
  shape: Shape,
  text: (event: Stamped<Shape>) => string,
  traits?: Traits<Stamped<Shape>>,
) => EventWords<Stamped<Shape>> & { readonly shape: Shape };

function atLevel(level: EventLevel): Define {
  return (shape, text, traits = {}) => ({ shape, level: () => level, text, ...traits });
}

export const detail = atLevel('detail');
export const notice = atLevel('notice');
export const warning = atLevel('warning');
