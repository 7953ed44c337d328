/**
 * A seeded stream of impressions whose truth drifts: every slot's weights wander at a speed of its own,
 * adgroups and users arrive and fade, most features are crosses seen a few times, and hidden classes of
 * adgroups rise and fall together. The true logits are given beside the rows, so the limit is known.
 */

import { randomStream, type RandomStream } from '../../shared/random.js';
import type { StreamRows } from '../../shared/streaming/stream-rows.js';

export interface DriftingStreamSettings {
  readonly seed: number;
  readonly rowCount: number;
  readonly days: number;
  /** Multiplies every speed of drift; 0 is a world that stands still (features still come and go). */
  readonly drift: number;
  /** Deviation of the hidden classes' trends; 0 leaves nothing for the low-rank part to find. */
  readonly classDeviation: number;
}

export interface DriftingStream {
  readonly rows: StreamRows;
  /** `[rowCount]` */
  readonly trueLogits: Float64Array;
}

/** How the true weights of a slot's features are spread, and over how many days they are forgotten. */
interface SlotTruth {
  readonly name: string;
  readonly deviation: number;
  readonly timeConstantDays: number;
}

export const DRIFTING_SLOTS: readonly SlotTruth[] = [
  { name: 'constant', deviation: 0.3, timeConstantDays: 4 },
  { name: 'hour', deviation: 0.3, timeConstantDays: Infinity },
  { name: 'place', deviation: 0.5, timeConstantDays: Infinity },
  { name: 'segment', deviation: 0.3, timeConstantDays: 10 },
  { name: 'user', deviation: 0.6, timeConstantDays: Infinity },
  { name: 'adgroup', deviation: 0.6, timeConstantDays: 1.5 },
  { name: 'advertiser', deviation: 0.3, timeConstantDays: 20 },
  { name: 'category', deviation: 0.3, timeConstantDays: 5 },
  { name: 'segment x category', deviation: 0.4, timeConstantDays: 6 },
  { name: 'user x category', deviation: 0.5, timeConstantDays: Infinity },
  { name: 'adgroup x segment', deviation: 0.3, timeConstantDays: 3 },
];
const SEGMENT_CATEGORY_SLOT = 8;
const USER_CATEGORY_SLOT = 9;
const ADGROUP_SEGMENT_SLOT = 10;

const BASE_LOGIT = -2.4;
const PLACE_COUNT = 8;
const SEGMENT_COUNT = 200;
const ADVERTISER_COUNT = 1500;
const CATEGORY_COUNT = 100;
const CLASS_COUNT = 8;
const CLASS_TIME_CONSTANT_DAYS = 0.7;
/** How often a user meets an adgroup of the user's own class rather than of any class. */
const OWN_CLASS_SHARE = 0.6;
const ACTIVE_USER_COUNT = 24_000;
const ACTIVE_ADGROUP_COUNT = 3200;
const USER_LIFE_DAYS = 8;
const ADGROUP_LIFE_DAYS = 6;
/** A place in a pool is drawn as a uniform number to this power: few are drawn often. */
const POPULARITY_POWER = 2.2;

interface User {
  readonly key: number;
  readonly segment: number;
  readonly classIndex: number;
}
interface Adgroup {
  readonly key: number;
  readonly advertiser: number;
  readonly category: number;
}

export function driftingStream(settings: DriftingStreamSettings): DriftingStream {
  const { rowCount, days } = settings;
  const width = DRIFTING_SLOTS.length;
  const population = new Population(settings);
  const truth = new DriftingTruth(settings);
  const features = new Int32Array(rowCount * width);
  const clicks = new Uint8Array(rowCount);
  const times = new Float64Array(rowCount);
  const trueLogits = new Float64Array(rowCount);
  const draws = randomStream(settings.seed, 'drifting-stream', 'rows');
  for (let row = 0; row < rowCount; row += 1) {
    const time = (days * row) / rowCount;
    population.renew();
    const user = population.drawUser(draws);
    const { adgroup, classIndex } = population.drawAdgroup(user, draws);
    const keys = keysOf(user, adgroup, Math.floor(24 * (time % 1)), draws.below(PLACE_COUNT));
    let logit = BASE_LOGIT + truth.classTrend(classIndex, time);
    for (let slot = 0; slot < width; slot += 1) {
      const feature = truth.featureOf(slot, keys[slot] ?? 0);
      features[row * width + slot] = feature;
      logit += truth.weightAt(feature, slot, time);
    }
    times[row] = time;
    trueLogits[row] = logit;
    clicks[row] = draws.uniform() < 1 / (1 + Math.exp(-logit)) ? 1 : 0;
  }
  const slotOfFeature = Uint8Array.from(truth.slots);
  return {
    rows: {
      slotCount: width,
      featureCount: slotOfFeature.length,
      slotOfFeature,
      rowStarts: Int32Array.from({ length: rowCount + 1 }, (_, row) => row * width),
      features,
      clicks,
      times,
    },
    trueLogits,
  };
}

/** The value of each slot, in the order of DRIFTING_SLOTS. */
function keysOf(user: User, adgroup: Adgroup, hour: number, place: number): readonly number[] {
  const { segment } = user;
  const { advertiser, category } = adgroup;
  return [
    0,
    hour,
    place,
    segment,
    user.key,
    adgroup.key,
    advertiser,
    category,
    segment * CATEGORY_COUNT + category,
    user.key * CATEGORY_COUNT + category,
    adgroup.key * SEGMENT_COUNT + segment,
  ];
}

/** Users and adgroups that are about, each replaced by a new one at a steady pace. */
class Population {
  readonly #stream: RandomStream;
  readonly #users: User[] = [];
  readonly #adgroups: Adgroup[] = [];
  readonly #userRenewal: number;
  readonly #adgroupRenewal: number;
  #keyCount = 0;

  constructor({ seed, rowCount, days }: DriftingStreamSettings) {
    this.#stream = randomStream(seed, 'drifting-stream', 'population');
    const daysPerRow = days / rowCount;
    this.#userRenewal = (ACTIVE_USER_COUNT / USER_LIFE_DAYS) * daysPerRow;
    this.#adgroupRenewal = (ACTIVE_ADGROUP_COUNT / ADGROUP_LIFE_DAYS) * daysPerRow;
    for (let place = 0; place < ACTIVE_USER_COUNT; place += 1) this.#users.push(this.#newUser());
    for (let place = 0; place < ACTIVE_ADGROUP_COUNT; place += 1)
      this.#adgroups.push(this.#newAdgroup());
  }

  renew(): void {
    if (this.#stream.uniform() < this.#userRenewal)
      this.#users[this.#stream.below(ACTIVE_USER_COUNT)] = this.#newUser();
    if (this.#stream.uniform() < this.#adgroupRenewal)
      this.#adgroups[this.#stream.below(ACTIVE_ADGROUP_COUNT)] = this.#newAdgroup();
  }

  drawUser(draws: RandomStream): User {
    return drawn(this.#users, ACTIVE_USER_COUNT * draws.uniform() ** POPULARITY_POWER);
  }

  /** Places of the pool belong to the classes in turn, so a new adgroup inherits its place's class. */
  drawAdgroup(user: User, draws: RandomStream): { adgroup: Adgroup; classIndex: number } {
    const own = draws.uniform() < OWN_CLASS_SHARE;
    const classIndex = own ? user.classIndex : draws.below(CLASS_COUNT);
    const perClass = ACTIVE_ADGROUP_COUNT / CLASS_COUNT;
    const place = Math.floor(perClass * draws.uniform() ** POPULARITY_POWER);
    return { adgroup: drawn(this.#adgroups, place * CLASS_COUNT + classIndex), classIndex };
  }

  #newUser(): User {
    const stream = this.#stream;
    return {
      key: this.#keyCount++,
      segment: stream.below(SEGMENT_COUNT),
      classIndex: stream.below(CLASS_COUNT),
    };
  }

  #newAdgroup(): Adgroup {
    const advertiser = Math.floor(ADVERTISER_COUNT * this.#stream.uniform() ** POPULARITY_POWER);
    return { key: this.#keyCount++, advertiser, category: this.#stream.below(CATEGORY_COUNT) };
  }
}

function drawn<Item>(pool: readonly Item[], place: number): Item {
  const item = pool[Math.floor(place)];
  if (item === undefined) throw new Error(`the pool has no place ${place}`);
  return item;
}

/**
 * True weights as Ornstein-Uhlenbeck walks, each advanced only when it is looked at:
 * `w' = a w + deviation sqrt(1 - a^2) e` with `a = e^(-age / timeConstant)`, exact at any age.
 */
class DriftingTruth {
  readonly slots: number[] = [];
  readonly #weights: number[] = [];
  readonly #times: number[] = [];
  readonly #featuresBySlot = DRIFTING_SLOTS.map(() => new Map<number, number>());
  readonly #classTrends = new Float64Array(CLASS_COUNT);
  readonly #classTimes = new Float64Array(CLASS_COUNT).fill(-Infinity);
  readonly #settings: DriftingStreamSettings;
  readonly #stream: RandomStream;

  constructor(settings: DriftingStreamSettings) {
    this.#settings = settings;
    this.#stream = randomStream(settings.seed, 'drifting-stream', 'truth');
  }

  featureOf(slot: number, key: number): number {
    const known = this.#featuresBySlot[slot]?.get(key);
    if (known !== undefined) return known;
    const feature = this.slots.length;
    this.#featuresBySlot[slot]?.set(key, feature);
    this.slots.push(slot);
    this.#weights.push(0);
    this.#times.push(-Infinity);
    return feature;
  }

  weightAt(feature: number, slot: number, time: number): number {
    const { deviation, timeConstantDays } = DRIFTING_SLOTS[slot] ?? {
      deviation: 0,
      timeConstantDays: 1,
    };
    const age = time - (this.#times[feature] ?? 0);
    const weight = this.#walked(this.#weights[feature] ?? 0, age, deviation, timeConstantDays);
    this.#weights[feature] = weight;
    this.#times[feature] = time;
    return weight;
  }

  classTrend(classIndex: number, time: number): number {
    const age = time - (this.#classTimes[classIndex] ?? 0);
    const before = this.#classTrends[classIndex] ?? 0;
    const { classDeviation } = this.#settings;
    const trend = this.#walked(before, age, classDeviation, CLASS_TIME_CONSTANT_DAYS);
    this.#classTrends[classIndex] = trend;
    this.#classTimes[classIndex] = time;
    return trend;
  }

  #walked(weight: number, age: number, deviation: number, timeConstantDays: number): number {
    if (age === Infinity) return deviation * this.#stream.normal();
    const speed = this.#settings.drift / timeConstantDays;
    if (speed === 0) return weight;
    const kept = Math.exp(-age * speed);
    return kept * weight + deviation * Math.sqrt(1 - kept * kept) * this.#stream.normal();
  }
}

/** Slots that stand for one thing each: what an embedding of features is made of. */
export const DRIFTING_PLAIN_SLOTS: readonly number[] = DRIFTING_SLOTS.map((_, slot) => slot).filter(
  (slot) =>
    slot > 2 && ![SEGMENT_CATEGORY_SLOT, USER_CATEGORY_SLOT, ADGROUP_SEGMENT_SLOT].includes(slot),
);
