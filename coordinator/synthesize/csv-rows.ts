/** Writes rows of the log as CSV, one chunk at a time. */

import { at, float64At, int32At, numberAt, uint32At, uint8At } from '../../shared/base/arrays.js';
import { affinityLogit, drawnSlot, drawnUser, hourSlotLogit } from './click-model.js';
import { ArrivalFinder } from './arrivals.js';
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
const PROBABILITY_DECIMALS = 8;
const PROBABILITY_UNITS = 10 ** PROBABILITY_DECIMALS;
/** Keeps p away from 0 and 1: it is within [2.3e-6, 1 - 2.3e-6]. */
const LOGIT_MAX = 13;
/** Longest row: time 10, user 7, profile 10, attributes at most 60, rest 20, separators. */
const ROW_BYTE_COUNT_MAX = 128;
const COMMA = 44;
const POINT = 46;
const ZERO = 48;
const NEWLINE = 10;
const POWERS_OF_TEN = Float64Array.from({ length: 16 }, (_, exponent) => 10 ** exponent);

export interface ChunkSums {
  readonly rowCount: number;
  readonly clickCount: number;
  readonly trueClickRateSum: number;
  readonly oracleLoglossSum: number;
  readonly oracleEntropySum: number;
}

export interface ChunkRows extends ChunkSums {
  /** Has a buffer of its own, so threads can transfer it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface RowSource {
  readonly world: SyntheticWorld;
  readonly intercept: number;
}

/** `,age,gender,city,shopping,occupation,` of each profile, by its code. */
const PROFILES = Array.from({ length: PROFILE_CODE_COUNT }, (_, code) => {
  let rest = code;
  const levels = PROFILE_FIELDS.map(({ weights }) => {
    const level = rest % weights.length;
    rest = Math.floor(rest / weights.length);
    return level;
  });
  return Buffer.from(`,${levels.join(',')},`);
});

/** Writes a whole number, with leading zeros up to the width, and returns the offset behind it. */
function writeNumber(bytes: Uint8Array, offset: number, value: number, widthMin = 1): number {
  let width = widthMin;
  while (value >= float64At(POWERS_OF_TEN, width)) width += 1;
  let rest = value;
  for (let place = offset + width - 1; place >= offset; place -= 1) {
    const tens = Math.floor(rest / 10);
    bytes[place] = ZERO + rest - 10 * tens;
    rest = tens;
  }
  return offset + width;
}

/** `adgroup,advertiser,campaign,category,brand,price,` */
function writeAttributes(
  bytes: Uint8Array,
  start: number,
  { advertisers, campaigns, categories, brands, priceCents }: WorldAdgroups,
  adgroup: number,
): number {
  let offset = writeNumber(bytes, start, adgroup);
  bytes[offset++] = COMMA;
  offset = writeNumber(bytes, offset, uint32At(advertisers, adgroup));
  bytes[offset++] = COMMA;
  offset = writeNumber(bytes, offset, uint32At(campaigns, adgroup));
  bytes[offset++] = COMMA;
  offset = writeNumber(bytes, offset, uint32At(categories, adgroup));
  bytes[offset++] = COMMA;
  offset = writeNumber(bytes, offset, uint32At(brands, adgroup));
  bytes[offset++] = COMMA;
  const cents = uint32At(priceCents, adgroup);
  offset = writeNumber(bytes, offset, Math.floor(cents / 100));
  bytes[offset++] = POINT;
  offset = writeNumber(bytes, offset, cents % 100, 2);
  bytes[offset++] = COMMA;
  return offset;
}

function writeText(bytes: Uint8Array, offset: number, text: Uint8Array): number {
  for (let place = 0; place < text.length; place += 1) bytes[offset + place] = uint8At(text, place);
  return offset + text.length;
}

/** Writes any stretch of the log. Each thread has one, since its buffers are reused. */
export class CsvRowWriter {
  private readonly finder: ArrivalFinder;
  private readonly slotCount = WORLD_PARAMETERS.slotWeights.length;
  /** The logits of the hour: [slots] */
  private readonly slotLogits = new Float64Array(this.slotCount);

  constructor(private readonly source: RowSource) {
    this.finder = new ArrivalFinder(source.world.adgroups);
  }

  /** Rows with `from <= traffic time < until`, in order of time. */
  rowsBetween(from: number, until: number): ChunkRows {
    const arrivals = this.finder.between(from, until);
    const { world, intercept } = this.source;
    const { keys } = world.adgroups;
    const { slotLogits } = this;
    const bytes = new Uint8Array(arrivals.count * ROW_BYTE_COUNT_MAX);
    let offset = 0;
    let hour = -1;
    let clickCount = 0;
    let trueClickRateSum = 0;
    let oracleLoglossSum = 0;
    let oracleEntropySum = 0;
    for (let row = 0; row < arrivals.count; row += 1) {
      const place = uint32At(arrivals.order, row);
      const trafficTime = float64At(arrivals.trafficTimes, place);
      const rowHour = hourAt(trafficTime, hour < 0 ? 0 : hour);
      if (rowHour !== hour) {
        hour = rowHour;
        for (let slot = 0; slot < this.slotCount; slot += 1)
          slotLogits[slot] = intercept + hourSlotLogit(world, hour, slot);
      }
      const adgroup = uint32At(arrivals.adgroups, place);
      const impression = int32At(arrivals.impressions, place);
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

      offset = writeNumber(bytes, offset, LOG_START_SECONDS + secondsAt(trafficTime, hour));
      bytes[offset++] = COMMA;
      offset = writeNumber(bytes, offset, user);
      offset = writeText(bytes, offset, at(PROFILES, numberAt(world.users.profileCodes, user)));
      offset = writeAttributes(bytes, offset, world.adgroups, adgroup);
      offset = writeNumber(bytes, offset, slot);
      bytes[offset++] = COMMA;
      offset = writeNumber(bytes, offset, hour % HOURS_PER_DAY);
      bytes[offset++] = COMMA;
      bytes[offset++] = ZERO + click;
      bytes[offset++] = COMMA;
      bytes[offset++] = ZERO;
      bytes[offset++] = POINT;
      offset = writeNumber(bytes, offset, units, PROBABILITY_DECIMALS);
      bytes[offset++] = NEWLINE;
    }
    const sums = { clickCount, trueClickRateSum, oracleLoglossSum, oracleEntropySum };
    return { bytes: bytes.subarray(0, offset), rowCount: arrivals.count, ...sums };
  }
}
