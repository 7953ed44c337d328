/**
 * How a slot came to show what it shows, and what was predicted of it, as a text in the id of its event. With it, any
 * server of the state joins an outcome with its prediction, and no server remembers decisions.
 */

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

/** Stands before the text; no other part of an id begins with it. */
export const CHOICE_MARK = '~';

const BUNDLE_DIGIT_COUNT = 12;
const SEGMENT_LENGTH_MAX = 48;
const IS_EXPLORATION = 1;
const HAS_SEGMENT = 2;
/** Flags, the probability, the propensity, and the digest. */
const HEAD_BYTE_COUNT = 1 + 4 + 4 + BUNDLE_DIGIT_COUNT / 2;

/** @param digest that of the bundle, in hexadecimal digits */
export function shownChoiceOf(digest: string, choice: Omit<ShownChoice, 'bundle'>): ShownChoice {
  return {
    ...choice,
    bundle: shortDigest(digest),
    segment: choice.segment?.slice(0, SEGMENT_LENGTH_MAX) ?? null,
  };
}

/** The digits by which ids and metrics name a bundle. */
export function shortDigest(digest: string): string {
  return digest.slice(0, BUNDLE_DIGIT_COUNT);
}

export function choiceText(choice: ShownChoice): string {
  const { bundle, segment, probability, isExploration, propensity } = choice;
  const head = Buffer.alloc(HEAD_BYTE_COUNT);
  head.writeUInt8((isExploration ? IS_EXPLORATION : 0) + (segment === null ? 0 : HAS_SEGMENT), 0);
  head.writeFloatLE(probability, 1);
  head.writeFloatLE(propensity, 5);
  head.write(bundle, 9, 'hex');
  const bytes = Buffer.concat([head, Buffer.from(segment ?? '')]);
  return CHOICE_MARK + bytes.toString('base64url');
}

/** The choice of a signed text, which is one that `choiceText` wrote. */
export function choiceIn(text: string): ShownChoice {
  const bytes = Buffer.from(text.slice(CHOICE_MARK.length), 'base64url');
  const flags = bytes.readUInt8(0);
  return {
    bundle: bytes.subarray(9, HEAD_BYTE_COUNT).toString('hex'),
    segment: (flags & HAS_SEGMENT) === 0 ? null : bytes.subarray(HEAD_BYTE_COUNT).toString(),
    probability: bytes.readFloatLE(1),
    isExploration: (flags & IS_EXPLORATION) !== 0,
    propensity: bytes.readFloatLE(5),
  };
}
