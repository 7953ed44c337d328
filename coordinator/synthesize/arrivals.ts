/**
 * Finds the impressions within a stretch of traffic time, in order of time. Impression k of an
 * adgroup with n lies at a random place in the k-th of n equal parts of the adgroup's life (the
 * first at its very start), so any stretch is found without generating what lies before it.
 */

import { float64At, int32At, uint32At } from '../../shared/base/arrays.js';
import { DRAWS, impressionBits, impressionDraw, UINT32_RANGE } from './impression-draws.js';
import type { WorldAdgroups } from './synthetic-world.js';

/** Only the first `count` entries of each array are valid, and only until the next search. */
interface Arrivals {
  readonly count: number;
  /** The place of each arrival in the other arrays, in order of time; equal times are by adgroup. */
  readonly order: Uint32Array;
  readonly trafficTimes: Float64Array;
  readonly adgroups: Uint32Array;
  /** The bits that name each impression (impression-draws.ts). */
  readonly impressions: Int32Array;
}

const BOUNDARY_GRID = 1 << 14;

/**
 * Boundaries in traffic time of stretches with about equal numbers of rows; the first is 0 and the
 * last infinite. [chunkCount + 1]
 */
export function chunkBoundaries(adgroups: WorldAdgroups, chunkCount: number): Float64Array {
  const rowsPerCell = new Float64Array(BOUNDARY_GRID + 1);
  let densityFromCell = 0;
  const densityRise = new Float64Array(BOUNDARY_GRID + 1);
  for (let adgroup = 0; adgroup < adgroups.count; adgroup += 1) {
    const start = float64At(adgroups.starts, adgroup);
    const cell = Math.floor(start * BOUNDARY_GRID);
    const density = uint32At(adgroups.sizes, adgroup) / (1 - start) / BOUNDARY_GRID;
    rowsPerCell[cell] = float64At(rowsPerCell, cell) + density * (cell + 1 - start * BOUNDARY_GRID);
    densityRise[cell + 1] = float64At(densityRise, cell + 1) + density;
  }
  let total = 0;
  for (let cell = 0; cell < BOUNDARY_GRID; cell += 1) {
    densityFromCell += float64At(densityRise, cell);
    rowsPerCell[cell] = float64At(rowsPerCell, cell) + densityFromCell;
    total += float64At(rowsPerCell, cell);
  }
  const boundaries = new Float64Array(chunkCount + 1);
  let chunk = 1;
  let passed = 0;
  for (let cell = 0; cell < BOUNDARY_GRID && chunk < chunkCount; cell += 1) {
    const rows = float64At(rowsPerCell, cell);
    while (chunk < chunkCount && passed + rows >= (total * chunk) / chunkCount) {
      const share = rows === 0 ? 0 : ((total * chunk) / chunkCount - passed) / rows;
      boundaries[chunk] = (cell + share) / BOUNDARY_GRID;
      chunk += 1;
    }
    passed += rows;
  }
  boundaries.fill(1, chunk);
  boundaries[chunkCount] = Infinity;
  return boundaries;
}

/** Finds arrivals with reused buffers, which grow to the largest stretch requested. */
export class ArrivalFinder {
  private trafficTimes = new Float64Array(0);
  private adgroupOf = new Uint32Array(0);
  private impressions = new Int32Array(0);

  constructor(private readonly adgroups: WorldAdgroups) {}

  /** Arrivals with `from <= traffic time < until`. They are valid until the next call. */
  between(from: number, until: number): Arrivals {
    const count = this.collect(from, until);
    return {
      count,
      order: timeOrder(this.trafficTimes, count, from, Math.min(1, until)),
      trafficTimes: this.trafficTimes,
      adgroups: this.adgroupOf,
      impressions: this.impressions,
    };
  }

  private collect(from: number, until: number): number {
    const { count: adgroupCount, starts, sizes, keys } = this.adgroups;
    let count = 0;
    for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1) {
      const start = float64At(starts, adgroup);
      if (start >= until) continue;
      const size = uint32At(sizes, adgroup);
      const partsPerUnit = size / (1 - start);
      // A margin of one part in a billion against rounding; the comparison below decides.
      const first = Math.max(0, Math.floor((from - start) * partsPerUnit - 1e-9));
      const last = Math.min(size - 1, Math.floor((until - start) * partsPerUnit + 1e-9));
      const firstKey = int32At(keys, 2 * adgroup);
      const secondKey = int32At(keys, 2 * adgroup + 1);
      if (count + last - first + 1 > this.trafficTimes.length) this.grow(count + last - first + 1);
      for (let index = first; index <= last; index += 1) {
        const impression = impressionBits(firstKey, index);
        const within =
          index === 0 ? 0 : impressionDraw(impression, secondKey, DRAWS.arrival) / UINT32_RANGE;
        const trafficTime = start + (index + within) / partsPerUnit;
        if (trafficTime < from || trafficTime >= until) continue;
        this.trafficTimes[count] = trafficTime;
        this.adgroupOf[count] = adgroup;
        this.impressions[count] = impression;
        count += 1;
      }
    }
    return count;
  }

  private grow(countMin: number): void {
    const capacity = Math.max(1024, Math.ceil(countMin * 1.5));
    const grown = <Items extends Float64Array | Uint32Array | Int32Array>(
      bigger: Items,
      old: Items,
    ): Items => {
      bigger.set(old);
      return bigger;
    };
    this.trafficTimes = grown(new Float64Array(capacity), this.trafficTimes);
    this.adgroupOf = grown(new Uint32Array(capacity), this.adgroupOf);
    this.impressions = grown(new Int32Array(capacity), this.impressions);
  }
}

const PLACE_RANGE = 2 ** 26;
const KEY_MAX = 2 ** 26 - 1;

/** The places of times in ascending order. Equal times keep their order. */
function timeOrder(times: Float64Array, count: number, from: number, until: number): Uint32Array {
  const scale = until > from ? KEY_MAX / (until - from) : 0;
  // A rounded time and its place in one number: the native sort needs no comparison function.
  const packed = new Float64Array(count);
  for (let place = 0; place < count; place += 1) {
    const key = Math.floor((float64At(times, place) - from) * scale);
    packed[place] = Math.max(0, Math.min(KEY_MAX, key)) * PLACE_RANGE + place;
  }
  const order = Uint32Array.from(packed.sort(), (each) => each % PLACE_RANGE);
  // Sorts by exact times those with equal rounded ones.
  for (let at = 1; at < count; at += 1) {
    const moved = uint32At(order, at);
    const time = float64At(times, moved);
    let to = at;
    while (to > 0 && float64At(times, uint32At(order, to - 1)) > time) {
      order[to] = uint32At(order, to - 1);
      to -= 1;
    }
    order[to] = moved;
  }
  return order;
}
