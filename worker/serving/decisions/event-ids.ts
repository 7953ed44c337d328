/**
 * Ids of what a slate shows: each names its decision, its slot and its adgroup, and is signed, so that feedback needs
 * no memory of decisions, on whichever server it arrives:
 *
 *   DECISION.SLOT.ADGROUP.CHOICE.SIGNATURE          DECISION being TIME-NONCE-NUMBER, with the time of the decision
 *   DECISION.SLOT.ADGROUP.CHOICE.LESSON.SIGNATURE   what a contextual policy learns from the outcome
 *
 * CHOICE is laid out in `shown-choice.ts`. The ids of earlier servers, whose events still arrive, have none.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Lesson } from '../../../shared/exploration/lesson.js';
import { CHOICE_MARK, choiceIn, choiceText, type ShownChoice } from './shown-choice.js';

export interface ShownSlot {
  readonly decision: string;
  /** The first is 1. */
  readonly slot: number;
  readonly adgroup: string;
  readonly decidedMs: number;
  /** Null in an id of an earlier version. */
  readonly choice: ShownChoice | null;
  /** Null where no policy learns. */
  readonly lesson: Lesson | null;
}

export const EVENT_ID_LENGTH_MAX = 2_000;

const DECISION = /^([0-9a-z]{1,11})-[0-9a-f]{16}-[0-9a-z]{1,11}$/;
const SLOT = /^[1-9][0-9]{0,3}$/;
const SIGNATURE_BYTE_COUNT = 16;
/** The dimension and the probability, before the places. */
const LESSON_HEAD_BYTE_COUNT = 9;

/** @param nonce 16 hexadecimal digits that no other process has. */
export function decisionIds(nonce: string): (nowMs: number) => string {
  let count = 0;
  return (nowMs) => {
    count += 1;
    return `${Math.floor(nowMs).toString(36)}-${nonce}-${count.toString(36)}`;
  };
}

export class EventIds {
  readonly #key: string;

  /** @param key that all servers of one state have in common. */
  constructor(key: string) {
    this.#key = key;
  }

  idOf({ decision, slot, adgroup, choice, lesson }: Omit<ShownSlot, 'decidedMs'>): string {
    const named = [
      ...[decision, slot, Buffer.from(adgroup).toString('base64url')],
      ...(choice === null ? [] : [choiceText(choice)]),
      ...(lesson === null ? [] : [lessonText(lesson)]),
    ].join('.');
    return `${named}.${this.#signatureOf(named)}`;
  }

  /** Null if no server with this key has made the id. */
  slotOf(id: string): ShownSlot | null {
    const parts = id.split('.');
    const signature = parts.pop() ?? '';
    const [decision = '', slot = '', adgroup = '', ...told] = parts;
    const decidedText = DECISION.exec(decision)?.[1];
    if (parts.length < 3 || parts.length > 5) return null;
    if (decidedText === undefined || !SLOT.test(slot)) return null;
    const expected = Buffer.from(this.#signatureOf(parts.join('.')));
    const found = Buffer.from(signature);
    if (found.length !== expected.length || !timingSafeEqual(found, expected)) return null;
    const decidedMs = parseInt(decidedText, 36);
    const key = Buffer.from(adgroup, 'base64url').toString();
    const choice = told.find((part) => part.startsWith(CHOICE_MARK));
    const lesson = told.find((part) => !part.startsWith(CHOICE_MARK));
    return {
      ...{ decision, slot: Number(slot), adgroup: key, decidedMs },
      choice: choice === undefined ? null : choiceIn(choice),
      lesson: lesson === undefined ? null : lessonIn(lesson),
    };
  }

  #signatureOf(named: string): string {
    const digest = createHmac('sha256', this.#key).update(named).digest();
    return digest.subarray(0, SIGNATURE_BYTE_COUNT).toString('base64url');
  }
}

function lessonText({ dimension, probability, places }: Lesson): string {
  const bytes = Buffer.alloc(LESSON_HEAD_BYTE_COUNT + places.length);
  bytes.writeUInt8(dimension, 0);
  bytes.writeDoubleLE(probability, 1);
  bytes.set(places, LESSON_HEAD_BYTE_COUNT);
  return bytes.toString('base64url');
}

/** Of a signed text, which is one that `lessonText` wrote. */
function lessonIn(text: string): Lesson {
  const bytes = Buffer.from(text, 'base64url');
  return {
    dimension: bytes.readUInt8(0),
    probability: bytes.readDoubleLE(1),
    places: [...bytes.subarray(LESSON_HEAD_BYTE_COUNT)],
  };
}
