/** A sentence about an event, with its level. */

import type { EventKind, StampedEventOf } from './run-events.js';

/** Details are kept in the log and not shown on a terminal. */
type EventLevel = 'detail' | 'notice' | 'warning';

export interface Sentence {
  readonly level: EventLevel;
  readonly text: string;
}

export type Sentences<Kinds extends EventKind = EventKind> = {
  readonly [Kind in Kinds]: (event: StampedEventOf<Kind>) => Sentence;
};

export const detail = (text: string): Sentence => ({ level: 'detail', text });
export const notice = (text: string): Sentence => ({ level: 'notice', text });
export const warning = (text: string): Sentence => ({ level: 'warning', text });
