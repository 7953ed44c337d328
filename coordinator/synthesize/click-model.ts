/**
 * The true click probability of an impression:
 * logit p = c + b_g + u' a_g / sqrt(8) + profile' M_g + hour + slot + drift.
 * The random numbers of an impression are a pure function of the keys of its adgroup and its number there.
 */

import {
  float32At,
  float64At,
  int32At,
  numberAt,
  uint32At,
  uint8At,
} from '../../shared/base/arrays.js';
import type { SyntheticWorld } from './synthetic-world.js';
import {
  hourAt,
  HOURS_PER_DAY,
  LATENT_WIDTH,
  logShareAt,
  PROFILE_FIELDS,
  PROFILE_LEVEL_COUNT,
  secondsAt,
  WORLD_PARAMETERS,
} from './world-parameters.js';

const FIELD_COUNT = PROFILE_FIELDS.length;

export const DRAWS = { arrival: 1, user: 2, slot: 3, click: 4 } as const;

const GOLDEN = 0x9e3779b1;
export const UINT32_RANGE = 4294967296;

/** The finaliser of MurmurHash3 (Appleby, public domain): a bijection of 32 bits. */
function mix(bits: number): number {
  let mixed = bits;
  mixed ^= mixed >>> 16;
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** 32 bits that name one impression of an adgroup. They differ between impressions. */
export function impressionBits(firstKey: number, impressionIndex: number): number {
  return mix((firstKey + Math.imul(impressionIndex + 1, GOLDEN)) | 0);
}

/** Uniform integer in [0, 2^32) for one purpose of one impression. */
export function impressionDraw(impression: number, secondKey: number, draw: number): number {
  return mix(((impression ^ secondKey) + Math.imul(draw, GOLDEN)) | 0) >>> 0;
}

/** Impressions per user fall with the square root of the user's rank, as the density of count * x^2. */
export function drawnUser(impression: number, secondKey: number, userCount: number): number {
  const uniform = impressionDraw(impression, secondKey, DRAWS.user) / UINT32_RANGE;
  return Math.floor(uniform * uniform * userCount);
}

const SLOT_LIMITS = cumulativeLimits(WORLD_PARAMETERS.slotWeights);

function cumulativeLimits(weights: readonly number[]): number[] {
  let sum = 0;
  return weights.map((weight, index) =>
    index === weights.length - 1 ? UINT32_RANGE : Math.round((sum += weight) * UINT32_RANGE),
  );
}

export function drawnSlot(impression: number, secondKey: number): number {
  const drawn = impressionDraw(impression, secondKey, DRAWS.slot);
  let slot = 0;
  while (drawn >= numberAt(SLOT_LIMITS, slot)) slot += 1;
  return slot;
}

/** b_g + u' a_g / sqrt(8) + profile' M_g */
export function affinityLogit(world: SyntheticWorld, adgroup: number, user: number): number {
  const { adgroups, users, profileLevels } = world;
  let logit = float32At(adgroups.baseLogits, adgroup);
  const adgroupAt = adgroup * LATENT_WIDTH;
  const userAt = user * LATENT_WIDTH;
  for (let axis = 0; axis < LATENT_WIDTH; axis += 1)
    logit +=
      float32At(adgroups.latents, adgroupAt + axis) * float32At(users.latents, userAt + axis);
  const responseAt = adgroup * PROFILE_LEVEL_COUNT;
  const profileAt = numberAt(users.profileCodes, user) * FIELD_COUNT;
  for (let field = 0; field < FIELD_COUNT; field += 1)
    logit += float32At(adgroups.responses, responseAt + uint8At(profileLevels, profileAt + field));
  return logit;
}

/** The drift of the whole log's click rate, `logShare` in [0, 1). */
function driftLogit(logShare: number): number {
  const { driftRise, driftWave } = WORLD_PARAMETERS;
  return driftRise * (logShare - 0.5) + driftWave * Math.sin(4 * Math.PI * logShare);
}

/** The parts of the logit that depend on hour and slot, the drift taken at the middle of the hour. */
export function hourSlotLogit(world: SyntheticWorld, hour: number, slot: number): number {
  return (
    float64At(world.hourLogits, hour % HOURS_PER_DAY) +
    float64At(world.slotLogits, slot) +
    driftLogit(logShareAt((hour + 0.5) * 3600))
  );
}

const INTERCEPT_SAMPLE_MAX = 1 << 18;

/**
 * The c for which the mean of p over every (rows / sample)-th impression is `meanClickRate`. The sample of a
 * small log is all of its rows.
 */
export function solveIntercept(world: SyntheticWorld, meanClickRate: number): number {
  const logits = sampledLogits(world);
  const meanAt = (intercept: number): number => {
    let sum = 0;
    for (const logit of logits) sum += 1 / (1 + Math.exp(-(logit + intercept)));
    return sum / logits.length;
  };
  let low = -60;
  let high = 60;
  for (let halving = 0; halving < 42; halving += 1) {
    const middle = (low + high) / 2;
    if (meanAt(middle) < meanClickRate) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

function sampledLogits(world: SyntheticWorld): Float64Array {
  const { adgroups, users } = world;
  const rows = adgroups.sizes.reduce((sum, size) => sum + size, 0);
  const sampleCount = Math.min(rows, INTERCEPT_SAMPLE_MAX);
  const logits = new Float64Array(sampleCount);
  let adgroup = 0;
  let adgroupStartRow = 0;
  for (let sample = 0; sample < sampleCount; sample += 1) {
    const row = Math.floor((sample * rows) / sampleCount);
    while (row >= adgroupStartRow + uint32At(adgroups.sizes, adgroup)) {
      adgroupStartRow += uint32At(adgroups.sizes, adgroup);
      adgroup += 1;
    }
    const start = float64At(adgroups.starts, adgroup);
    const index = row - adgroupStartRow;
    const impression = impressionBits(int32At(adgroups.keys, 2 * adgroup), index);
    const key = int32At(adgroups.keys, 2 * adgroup + 1);
    const within = index === 0 ? 0 : impressionDraw(impression, key, DRAWS.arrival) / UINT32_RANGE;
    const trafficTime =
      start + ((index + within) * (1 - start)) / uint32At(adgroups.sizes, adgroup);
    const hour = Math.floor(secondsAt(trafficTime, hourAt(trafficTime, 168)) / 3600);
    logits[sample] =
      affinityLogit(world, adgroup, drawnUser(impression, key, users.count)) +
      hourSlotLogit(world, hour, drawnSlot(impression, key));
  }
  return logits;
}
