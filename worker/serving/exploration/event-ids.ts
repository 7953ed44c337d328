/**
 * Ids of what a slate shows. Each names its decision, its slot and its adgroup, and how the slot came to show it, and is
 * signed. So any server of the state joins an outcome with its prediction, and no server remembers decisions:
 *
 *   DECISION.SLOT.ADGROUP.CHOICE.SIGNATURE    DECISION being TIME-NONCE-NUMBER, with the time of the decision
 */

import { BUNDLE_DIGIT_COUNT, shortDigest } from '../../../shared/names/counted.js';
import { createHmac, timingSafeEqual } from 'node:crypto';

/** How a slot came to show what it shows, and what was predicted of it. */
export interface ShownChoice {
  /** The first digits of the digest of the bundle that predicted. */
  readonly bundle: string;
  /** The segment whose label was predicted, cut at 48 characters; null where tasks have no segments. */
  readonly segment: string | null;
  /** The calibrated probability of an outcome, in single precision like the propensity. */
  readonly probability: number;
  readonly isExploration: boolean;
  /** The probability that the slot shows what it shows, given the slots before. */
  readonly propensity: number;
}

export interface ShownSlot {
  readonly decision: string;
  /** The first is 1. */
  readonly slot: number;
  readonly adgroup: string;
  readonly decidedMs: number;
  readonly choice: ShownChoice;
}

export const EVENT_ID_LENGTH_MAX = 2_000;

const DECISION = /^([0-9a-z]{1,11})-[0-9a-f]{16}-[0-9a-z]{1,11}$/;
const SLOT = /^[1-9][0-9]{0,3}$/;
const SIGNATURE_BYTE_COUNT = 16;
const SEGMENT_LENGTH_MAX = 48;
const IS_EXPLORATION = 1;
const HAS_SEGMENT = 2;
/** Flags, the probability, the propensity, and the digest. */
const HEAD_BYTE_COUNT = 1 + 4 + 4 + BUNDLE_DIGIT_COUNT / 2;

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

  idOf({ decision, slot, adgroup, choice }: Omit<ShownSlot, 'decidedMs'>): string {
    const key = Buffer.from(adgroup).toString('base64url');
    const named = [decision, slot, key, choiceText(choice)].join('.');
    return `${named}.${this.#signatureOf(named)}`;
  }

  /** Null if no server with this key has made the id. */
  slotOf(id: string): ShownSlot | null {
    const parts = id.split('.');
    const [decision = '', slot = '', adgroup = '', choice = '', signature = ''] = parts;
    const decidedText = DECISION.exec(decision)?.[1];
    if (parts.length !== 5 || decidedText === undefined || !SLOT.test(slot)) return null;
    const expected = Buffer.from(this.#signatureOf(parts.slice(0, -1).join('.')));
    const found = Buffer.from(signature);
    if (found.length !== expected.length || !timingSafeEqual(found, expected)) return null;
    return {
      ...{ decision, slot: Number(slot), decidedMs: parseInt(decidedText, 36) },
      adgroup: Buffer.from(adgroup, 'base64url').toString(),
      choice: choiceIn(choice),
    };
  }

  #signatureOf(named: string): string {
    const digest = createHmac('sha256', this.#key).update(named).digest();
    return digest.subarray(0, SIGNATURE_BYTE_COUNT).toString('base64url');
  }
}

function choiceText(choice: ShownChoice): string {
  const { bundle, probability, isExploration, propensity } = choice;
  const segment = choice.segment?.slice(0, SEGMENT_LENGTH_MAX) ?? null;
  const head = Buffer.alloc(HEAD_BYTE_COUNT);
  head.writeUInt8((isExploration ? IS_EXPLORATION : 0) + (segment === null ? 0 : HAS_SEGMENT), 0);
  head.writeFloatLE(probability, 1);
  head.writeFloatLE(propensity, 5);
  head.write(shortDigest(bundle), 9, 'hex');
  return Buffer.concat([head, Buffer.from(segment ?? '')]).toString('base64url');
}

/** The choice of a signed text, which is one that `choiceText` wrote. */
function choiceIn(text: string): ShownChoice {
  const bytes = Buffer.from(text, 'base64url');
  const flags = bytes.readUInt8(0);
  return {
    bundle: bytes.subarray(9, HEAD_BYTE_COUNT).toString('hex'),
    segment: (flags & HAS_SEGMENT) === 0 ? null : bytes.subarray(HEAD_BYTE_COUNT).toString(),
    probability: bytes.readFloatLE(1),
    isExploration: (flags & IS_EXPLORATION) !== 0,
    propensity: bytes.readFloatLE(5),
  };
}
