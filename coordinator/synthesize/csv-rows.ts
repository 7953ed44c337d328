/**
 * Writes rows of the log directly as CSV bytes, without objects or strings, in one buffer per
 * chunk.
 */

import { float64At, int32At, numberAt, uint32At, uint8At } from '../../shared/base/arrays.js';
import { affinityLogit, drawnSlot, drawnUser, hourSlotLogit } from './click-model.js';
import { ArrivalFinder, type Arrivals } from './arrivals.js';
import { writeEight, writeTwo, writeUnsigned } from './digits.js';
import { DRAWS, impressionDraw, UINT32_RANGE } from './impression-draws.js';
import type { SyntheticWorld, WorldAdgroups } from './synthetic-world.js';
import { hourAt, secondsAt } from './traffic.js';
import {
  HOURS_PER_DAY,
  LOG_START_SECONDS,
  PROFILE_CODE_COUNT,
  PROFILE_FIELDS,
  WORLD_PARAMETERS,
} from './world-parameters.js';

export const CSV_COLUMNS = [
  'time',
  'user',
  ...PROFILE_FIELDS.map((field) => field.name),
  'adgroup',
  'advertiser',
  'campaign',
  'category',
  'brand',
  'price',
  'slot',
  'hour',
  'click',
  'p_true',
] as const;

/** p_true is written with 8 decimals and clicks are drawn from what is written, so it is exact. */
const PROBABILITY_UNITS = 100_000_000;
/** Keeps p away from 0 and 1: it is within [2.3e-6, 1 - 2.3e-6]. */
const LOGIT_MAX = 13;
/** Longest row: time 10, user 7, profile 10, adgroup text at most 60, rest 20, separators. */
const ROW_BYTE_COUNT_MAX = 128;
const ADGROUP_TEXT_BYTE_COUNT_MAX = 72;

const COMMA = 44;
const POINT = 46;
const ZERO = 48;
const NEWLINE = 10;
const PROFILE_TEXT_BYTE_COUNT = 2 * PROFILE_FIELDS.length + 1;

export interface ChunkSums {
  readonly rowCount: number;
  readonly clickCount: number;
  readonly trueClickRateSum: number;
  readonly oracleLoglossSum: number;
  readonly oracleEntropySum: number;
}

export interface ChunkRows extends ChunkSums {
  /** The bytes have a buffer of their own, so that it can be transferred. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Everything the rows need besides the world: its intercept and its texts, in shared memory. */
export interface RowSource {
  readonly world: SyntheticWorld;
  readonly intercept: number;
  /** One text for each adgroup. */
  readonly texts: Texts;
}

/** Parts of rows that are written once and then copied. */
interface Texts {
  /** One text after another. */
  readonly bytes: Uint8Array;
  /** The start of each: [textCount + 1] */
  readonly starts: Uint32Array;
}

/** `adgroup,advertiser,campaign,category,brand,price,` of each adgroup. */
export function adgroupTexts(adgroups: WorldAdgroups): Texts {
  const text = new Uint8Array(adgroups.count * ADGROUP_TEXT_BYTE_COUNT_MAX);
  const starts = new Uint32Array(new SharedArrayBuffer((adgroups.count + 1) * 4));
  const columns = [
    adgroups.advertisers,
    adgroups.campaigns,
    adgroups.categories,
    adgroups.brands,
  ] as const;
  let offset = 0;
  for (let adgroup = 0; adgroup < adgroups.count; adgroup += 1) {
    starts[adgroup] = offset;
    offset = writeUnsigned(text, offset, adgroup);
    text[offset++] = COMMA;
    for (const column of columns) {
      offset = writeUnsigned(text, offset, uint32At(column, adgroup));
      text[offset++] = COMMA;
    }
    const cents = uint32At(adgroups.priceCents, adgroup);
    offset = writeUnsigned(text, offset, Math.floor(cents / 100));
    text[offset++] = POINT;
    writeTwo(text, offset, cents % 100);
    offset += 2;
    text[offset++] = COMMA;
  }
  starts[adgroups.count] = offset;
  const bytes = new Uint8Array(new SharedArrayBuffer(offset));
  bytes.set(text.subarray(0, offset));
  return { bytes, starts };
}

/** `,age,gender,city,shopping,occupation,` of each profile, by its code. */
function profileTexts(): Texts {
  const bytes = new Uint8Array(PROFILE_CODE_COUNT * PROFILE_TEXT_BYTE_COUNT).fill(COMMA);
  for (let code = 0; code < PROFILE_CODE_COUNT; code += 1) {
    let rest = code;
    for (const [field, { weights }] of PROFILE_FIELDS.entries()) {
      bytes[code * PROFILE_TEXT_BYTE_COUNT + 1 + 2 * field] = ZERO + (rest % weights.length);
      rest = Math.floor(rest / weights.length);
    }
  }
  const starts = Uint32Array.from(
    { length: PROFILE_CODE_COUNT + 1 },
    (_, code) => code * PROFILE_TEXT_BYTE_COUNT,
  );
  return { bytes, starts };
}

/** Writes any stretch of the log. Each thread has one, since its buffers are reused. */
export class CsvRowWriter {
  private readonly finder: ArrivalFinder;
  private readonly profiles = profileTexts();
  private readonly slotCount = WORLD_PARAMETERS.slotWeights.length;
  /** The end of a row before the click, `slot,hour,`, changes once an hour: [slots] logits. */
  private readonly slotLogits = new Float64Array(this.slotCount);

  constructor(private readonly source: RowSource) {
    this.finder = new ArrivalFinder(source.world.adgroups);
  }

  /** Rows with `from <= traffic time < until`, in order of time. */
  rowsBetween(from: number, until: number): ChunkRows {
    const arrivals = this.finder.between(from, until);
    const bytes = new Uint8Array(arrivals.count * ROW_BYTE_COUNT_MAX);
    return this.write(arrivals, bytes);
  }

  private write(arrivals: Arrivals, bytes: Uint8Array<ArrayBuffer>): ChunkRows {
    const { world, intercept, texts } = this.source;
    const { keys } = world.adgroups;
    const { profiles, slotLogits } = this;
    let offset = 0;
    let hour = -1;
    let clickCount = 0;
    let trueClickRateSum = 0;
    let oracleLoglossSum = 0;
    let oracleEntropySum = 0;
    for (let row = 0; row < arrivals.count; row += 1) {
      const at = uint32At(arrivals.order, row);
      const trafficTime = float64At(arrivals.trafficTimes, at);
      const rowHour = hourAt(trafficTime, hour < 0 ? 0 : hour);
      if (rowHour !== hour) {
        hour = rowHour;
        for (let slot = 0; slot < this.slotCount; slot += 1)
          slotLogits[slot] = intercept + hourSlotLogit(world, hour, slot);
      }
      const adgroup = uint32At(arrivals.adgroups, at);
      const impression = int32At(arrivals.impressions, at);
      const key = int32At(keys, 2 * adgroup + 1);
      const user = drawnUser(impression, key, world.users.count);
      const slot = drawnSlot(impression, key);
      const unbounded = affinityLogit(world, adgroup, user) + float64At(slotLogits, slot);
      const logit = unbounded < -LOGIT_MAX ? -LOGIT_MAX : Math.min(LOGIT_MAX, unbounded);
      const inverse = 1 + Math.exp(-logit);
      const units = Math.round(PROBABILITY_UNITS / inverse);
      const probability = units / PROBABILITY_UNITS;
      const drawn = impressionDraw(impression, key, DRAWS.click);
      const click = drawn < probability * UINT32_RANGE ? 1 : 0;
      // -ln p and -ln(1 - p) with one logarithm.
      const lossOfClick = Math.log(inverse);
      const lossOfNone = lossOfClick + logit;
      clickCount += click;
      trueClickRateSum += probability;
      oracleLoglossSum += click === 1 ? lossOfClick : lossOfNone;
      oracleEntropySum += probability * lossOfClick + (1 - probability) * lossOfNone;

      offset = writeTime(bytes, offset, LOG_START_SECONDS + secondsAt(trafficTime, hour));
      offset = writeUnsigned(bytes, offset, user);
      offset = copyText(profiles, numberAt(world.users.profileCodes, user), bytes, offset);
      offset = copyText(texts, adgroup, bytes, offset);
      offset = writeUnsigned(bytes, offset, slot);
      bytes[offset++] = COMMA;
      offset = writeUnsigned(bytes, offset, hour % HOURS_PER_DAY);
      offset = writeOutcome(bytes, offset, click, units);
    }
    const sums = { clickCount, trueClickRateSum, oracleLoglossSum, oracleEntropySum };
    return { bytes: bytes.subarray(0, offset), rowCount: arrivals.count, ...sums };
  }
}

/** Writes one of the texts at an offset and returns the offset after it. */
function copyText(
  { bytes, starts }: Texts,
  index: number,
  target: Uint8Array,
  offset: number,
): number {
  const start = uint32At(starts, index);
  const end = uint32At(starts, index + 1);
  for (let at = start; at < end; at += 1) target[offset + at - start] = uint8At(bytes, at);
  return offset + end - start;
}

/** Ten digits and a comma. */
function writeTime(bytes: Uint8Array, offset: number, seconds: number): number {
  const high = (seconds / 100_000_000) | 0;
  writeTwo(bytes, offset, high);
  writeEight(bytes, offset + 2, seconds - high * 100_000_000);
  bytes[offset + 10] = COMMA;
  return offset + 11;
}

/** `,click,0.pppppppp` and the end of the line. */
function writeOutcome(bytes: Uint8Array, offset: number, click: number, units: number): number {
  bytes[offset] = COMMA;
  bytes[offset + 1] = ZERO + click;
  bytes[offset + 2] = COMMA;
  bytes[offset + 3] = ZERO;
  bytes[offset + 4] = POINT;
  writeEight(bytes, offset + 5, units);
  bytes[offset + 13] = NEWLINE;
  return offset + 14;
}
