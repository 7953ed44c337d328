/** The synthetic world: every user and adgroup with its true parameters. Rows follow from it by pure functions. */

import {
  float32At,
  float64At,
  uint32At,
  uint8At,
  at,
  int32At,
  numberAt,
} from '../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { errorOf } from '../../shared/base/errors.js';
import type { WorldOptions } from './synthesis-options.js';

/** Raised whenever the same options would give other bytes. */
export const WORLD_VERSION = 1;

const LATENT_WIDTH = 8;
const RESPONSE_RANK = 3;
export const HOURS_PER_DAY = 24;
const DAY_COUNT = 14;
/** The log starts at 2024-01-01T00:00:00Z, in seconds since the Unix epoch. */
export const LOG_START_SECONDS = 1_704_067_200;

/** Level weights of the user's profile fields, in the order of the log's columns. */
export const PROFILE_FIELDS = [
  { name: 'age', weights: [0.08, 0.19, 0.24, 0.2, 0.15, 0.09, 0.05] },
  { name: 'gender', weights: [0.48, 0.52] },
  { name: 'city', weights: [0.15, 0.25, 0.35, 0.25] },
  { name: 'shopping', weights: [0.3, 0.45, 0.25] },
  { name: 'occupation', weights: [0.9, 0.1] },
] as const;

const PROFILE_LEVEL_COUNT = PROFILE_FIELDS.reduce((sum, f) => sum + f.weights.length, 0);
const PROFILE_CODE_COUNT = PROFILE_FIELDS.reduce((product, f) => product * f.weights.length, 1);

/** The level of each field, by the code of the profile. */
export const PROFILES: readonly (readonly number[])[] = Array.from(
  { length: PROFILE_CODE_COUNT },
  (_, code) => {
    let rest = code;
    return PROFILE_FIELDS.map(({ weights }) => {
      const level = rest % weights.length;
      rest = Math.floor(rest / weights.length);
      return level;
    });
  },
);

export const WORLD_PARAMETERS = {
  categoryCount: 100,
  brandsPerCategory: 50,
  adgroupsPerCampaign: 4,
  campaignsPerAdvertiser: 3,
  /** Share of an advertiser's adgroups that lie in the advertiser's own category. */
  ownCategoryShare: 0.8,

  sizeExponent: 1.1,
  impressionsPerAdgroupMin: 5,
  /** No adgroup has more than this share of all rows. */
  impressionShareMax: 0.02,

  lateAdgroupShare: 0.2,
  lateDayCount: 3,
  /** Late adgroups still have at least this long to run. */
  lateRunDayMin: 0.5,

  /** Share of a user's latent variance that the profile explains. */
  profileLatentShare: 0.5,

  /** Standard deviations, in logits or of a latent's components. `own` ones are times s. */
  deviations: {
    categoryBase: 0.45,
    advertiserBase: 0.25,
    brandBase: 0.25,
    ownBase: 0.7,
    categoryLatent: 0.5,
    brandLatent: 0.3,
    ownLatent: 0.6,
    categoryResponse: 0.35,
    ownResponse: 0.4,
    hour: 0.15,
    slot: 0.25,
  },
  /** Logits per standard deviation of log price. */
  priceSlope: -0.15,
  logPriceMean: 3.5,
  logPriceDeviation: 1,

  slotWeights: [0.4, 0.3, 0.2, 0.1],
  /** The click rate's slow drift over the log: linear rise, and a weekly wave, in logits. */
  driftRise: 0.2,
  driftWave: 0.1,
} as const;

const SETTING_SCALES: Readonly<Record<WorldOptions['setting'], number>> = {
  homogeneous: 0,
  moderate: 0.5,
  strong: 1,
};

/** Traffic by hour of day, relative. */
const HOURLY_TRAFFIC = [
  0.45, 0.3, 0.2, 0.16, 0.16, 0.22, 0.4, 0.65, 0.85, 1, 1.1, 1.15, 1.25, 1.2, 1.1, 1.05, 1.05, 1.1,
  1.2, 1.4, 1.6, 1.6, 1.3, 0.8,
] as const;

/**
 * Traffic time is the position in [0, 1] by which a share of the log's traffic has passed. Arrivals
 * are even in traffic time; the clock's seconds follow from it through the hours of the day.
 */
export const HOUR_COUNT = DAY_COUNT * HOURS_PER_DAY;
const SECONDS_PER_HOUR = 3600;

/** Traffic time at the start of each hour, and 1 at the end: [HOUR_COUNT + 1]. */
const HOUR_STARTS: Float64Array = hourStarts();

function hourStarts(): Float64Array {
  const cumulative = new Float64Array(HOUR_COUNT + 1);
  for (let hour = 0; hour < HOUR_COUNT; hour += 1)
    cumulative[hour + 1] = float64At(cumulative, hour) + at(HOURLY_TRAFFIC, hour % HOURS_PER_DAY);
  const total = float64At(cumulative, HOUR_COUNT);
  return cumulative.map((sum) => sum / total);
}

export function trafficTimeOfDay(day: number): number {
  const hour = Math.min(HOUR_COUNT, Math.max(0, day * HOURS_PER_DAY));
  const whole = Math.min(HOUR_COUNT - 1, Math.floor(hour));
  const start = float64At(HOUR_STARTS, whole);
  return start + (hour - whole) * (float64At(HOUR_STARTS, whole + 1) - start);
}

/** The hour (from the log's start) that holds a traffic time, sought from `hintHour` on. */
export function hourAt(trafficTime: number, hintHour: number): number {
  let hour = hintHour;
  while (hour > 0 && float64At(HOUR_STARTS, hour) > trafficTime) hour -= 1;
  while (hour < HOUR_COUNT - 1 && float64At(HOUR_STARTS, hour + 1) <= trafficTime) hour += 1;
  return hour;
}

/** Whole seconds since the log's start at a traffic time that lies in `hour`. */
export function secondsAt(trafficTime: number, hour: number): number {
  const start = float64At(HOUR_STARTS, hour);
  const share = (trafficTime - start) / (float64At(HOUR_STARTS, hour + 1) - start);
  const second = Math.floor(share * SECONDS_PER_HOUR);
  return hour * SECONDS_PER_HOUR + Math.min(SECONDS_PER_HOUR - 1, Math.max(0, second));
}

/** Share of the log's 14 days that has passed, in [0, 1): the drift's argument. */
function logShareAt(secondsFromStart: number): number {
  return secondsFromStart / (HOUR_COUNT * SECONDS_PER_HOUR);
}

const P = WORLD_PARAMETERS;

/** Everything that decides a world beside its options. */
export function worldParameters(setting: WorldOptions['setting'], intercept: number): object {
  return {
    ownDeviationScale: SETTING_SCALES[setting],
    ...{ intercept, latentWidth: LATENT_WIDTH, responseRank: RESPONSE_RANK },
    ...{ dayCount: DAY_COUNT, logStartSeconds: LOG_START_SECONDS },
    ...{ profileFields: PROFILE_FIELDS, hourlyTraffic: HOURLY_TRAFFIC, ...WORLD_PARAMETERS },
  };
}

interface WorldUsers {
  readonly count: number;
  /** u: [count, LATENT_WIDTH] */
  readonly latents: Float32Array;
  /** The parts of u that levels of profile fields explain: [PROFILE_LEVEL_COUNT, LATENT_WIDTH] */
  readonly levelLatents: Float64Array;
  /** The combination of profile levels: [count] */
  readonly profileCodes: Uint16Array;
  /** Null in a world without crowds. */
  readonly crowds: WorldCrowds | null;
}

/** Crowds of users. Their tastes are part of the latents of their users. */
interface WorldCrowds {
  /** [users] */
  readonly crowdOfUser: Uint32Array;
  /** [crowds] */
  readonly baseLogits: Float64Array;
}

interface WorldAdgroups {
  readonly count: number;
  /** a_g / sqrt(LATENT_WIDTH): [count, LATENT_WIDTH] */
  readonly latents: Float32Array;
  /** M_g: [count, PROFILE_LEVEL_COUNT] */
  readonly responses: Float32Array;
  /** The directions that M_g lies in: [RESPONSE_RANK, PROFILE_LEVEL_COUNT] */
  readonly responseFactors: Float64Array;
  /** b_g: [count] */
  readonly baseLogits: Float32Array;
  /** Impressions: [count] */
  readonly sizes: Uint32Array;
  /** Traffic time of the first impression: [count] */
  readonly starts: Float64Array;
  /** Keys of the impression draws: [count, 2] */
  readonly keys: Int32Array;
  readonly advertisers: Uint32Array;
  readonly campaigns: Uint32Array;
  readonly categories: Uint32Array;
  readonly brands: Uint32Array;
  readonly priceCents: Uint32Array;
}

export interface SyntheticWorld {
  readonly users: WorldUsers;
  readonly adgroups: WorldAdgroups;
  /** The level of each profile field, numbered through all fields: [PROFILE_CODE_COUNT, fields] */
  readonly profileLevels: Uint8Array;
  readonly hourLogits: Float64Array;
  readonly slotLogits: Float64Array;
}

export function buildWorld(options: WorldOptions): SyntheticWorld {
  const { rows, adgroups, users } = options;
  const adgroupCount = adgroups ?? Math.min(1_000_000, Math.max(1, Math.round(rows / 95)));
  const userCount = users ?? Math.min(1_000_000, Math.max(100, Math.round(rows / 10)));
  const streamFor = (purpose: string): RandomStream =>
    randomStream(options.seed, 'synthetic-world', purpose);
  const profileLevels = enumerateProfiles();
  const plainUsers = buildUsers(userCount, profileLevels, streamFor('users'));
  return {
    users: withCrowds(plainUsers, options, streamFor('crowds')),
    adgroups: buildAdgroups(options, adgroupCount, streamFor),
    profileLevels,
    hourLogits: normals(streamFor('hours'), HOURS_PER_DAY, P.deviations.hour),
    slotLogits: normals(streamFor('slots'), P.slotWeights.length, P.deviations.slot),
  };
}

function enumerateProfiles(): Uint8Array {
  const levels = new Uint8Array(PROFILE_CODE_COUNT * PROFILE_FIELDS.length);
  for (const [code, ofCode] of PROFILES.entries()) {
    let levelStart = 0;
    for (const [field, level] of ofCode.entries()) {
      levels[code * PROFILE_FIELDS.length + field] = levelStart + level;
      levelStart += at(PROFILE_FIELDS, field).weights.length;
    }
  }
  return levels;
}

type PlainUsers = Omit<WorldUsers, 'crowds'>;

/** Crowds differ in size as categories do, and a user's crowd says nothing of the profile. */
function withCrowds(
  users: PlainUsers,
  { crowds: count = 0, crowdDeviation = 0 }: WorldOptions,
  stream: RandomStream,
): WorldUsers {
  if (count === 0) return { ...users, crowds: null };
  const crowdOfUser = Uint32Array.from({ length: users.count }, () =>
    Math.floor(stream.uniform() ** 2 * count),
  );
  const baseLogits = normals(stream, count, crowdDeviation);
  const tastes = normals(stream, count * LATENT_WIDTH, crowdDeviation);
  const latents = Float32Array.from(
    users.latents,
    (own, place) =>
      own +
      float64At(
        tastes,
        uint32At(crowdOfUser, Math.floor(place / LATENT_WIDTH)) * LATENT_WIDTH +
          (place % LATENT_WIDTH),
      ),
  );
  return { ...users, latents, crowds: { crowdOfUser, baseLogits } };
}

function buildUsers(count: number, profileLevels: Uint8Array, stream: RandomStream): PlainUsers {
  const fieldCount = PROFILE_FIELDS.length;
  const levelDeviation = Math.sqrt(P.profileLatentShare / fieldCount);
  const levelLatents = normals(stream, PROFILE_LEVEL_COUNT * LATENT_WIDTH, levelDeviation);
  const ownDeviation = Math.sqrt(1 - P.profileLatentShare);
  const latents = new Float32Array(count * LATENT_WIDTH);
  const profileCodes = new Uint16Array(count);
  for (let user = 0; user < count; user += 1) {
    const code = drawProfile(stream);
    profileCodes[user] = code;
    for (let axis = 0; axis < LATENT_WIDTH; axis += 1) {
      let latent = ownDeviation * stream.normal();
      for (let field = 0; field < fieldCount; field += 1) {
        const level = uint8At(profileLevels, code * fieldCount + field);
        latent += float64At(levelLatents, level * LATENT_WIDTH + axis);
      }
      latents[user * LATENT_WIDTH + axis] = latent;
    }
  }
  return { count, latents, levelLatents, profileCodes };
}

function drawProfile(stream: RandomStream): number {
  let code = 0;
  let stride = 1;
  for (const { weights } of PROFILE_FIELDS) {
    code += stride * drawWeighted(weights, stream);
    stride *= weights.length;
  }
  return code;
}

function drawWeighted(weights: readonly number[], stream: RandomStream): number {
  let left = stream.uniform();
  for (const [index, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return index;
  }
  return weights.length - 1;
}

function buildAdgroups(
  options: WorldOptions,
  count: number,
  streamFor: (purpose: string) => RandomStream,
): WorldAdgroups {
  const attributes = drawAttributes(count, streamFor('attributes'));
  const sizes = new Uint32Array(count);
  sizes.set(
    zipfSizes(options.rows, count, {
      exponent: P.sizeExponent,
      impressionsMin: P.impressionsPerAdgroupMin,
      shareMax: P.impressionShareMax,
    }),
  );
  streamFor('sizes').shuffle(sizes);
  const keyStream = streamFor('keys');
  const keys = new Int32Array(count * 2);
  for (let index = 0; index < keys.length; index += 1) keys[index] = keyStream.uint32() | 0;
  return {
    count,
    ...attributes,
    ...drawTruth(options, attributes, streamFor),
    sizes,
    starts: drawStarts(count, streamFor('starts')),
    keys,
  };
}

type Attributes = Pick<
  WorldAdgroups,
  'advertisers' | 'campaigns' | 'categories' | 'brands' | 'priceCents'
>;

function drawAttributes(count: number, stream: RandomStream): Attributes {
  const campaignCount = Math.ceil(count / P.adgroupsPerCampaign);
  const advertiserCount = Math.ceil(campaignCount / P.campaignsPerAdvertiser);
  // Squaring a uniform favours the low indices: categories and brands differ in popularity.
  const popular = (bound: number): number => Math.floor(stream.uniform() ** 2 * bound);
  const ownCategories = Uint32Array.from({ length: advertiserCount }, () =>
    popular(P.categoryCount),
  );
  const advertiserOfCampaign = Uint32Array.from({ length: campaignCount }, () =>
    stream.below(advertiserCount),
  );
  const attributes = {
    advertisers: new Uint32Array(count),
    campaigns: new Uint32Array(count),
    categories: new Uint32Array(count),
    brands: new Uint32Array(count),
    priceCents: new Uint32Array(count),
  };
  for (let adgroup = 0; adgroup < count; adgroup += 1) {
    const campaign = stream.below(campaignCount);
    const advertiser = uint32At(advertiserOfCampaign, campaign);
    const own = stream.uniform() < P.ownCategoryShare;
    const category = own ? uint32At(ownCategories, advertiser) : popular(P.categoryCount);
    const logPrice = P.logPriceMean + P.logPriceDeviation * stream.normal();
    attributes.campaigns[adgroup] = campaign;
    attributes.advertisers[adgroup] = advertiser;
    attributes.categories[adgroup] = category;
    attributes.brands[adgroup] = category * P.brandsPerCategory + popular(P.brandsPerCategory);
    attributes.priceCents[adgroup] = Math.max(1, Math.round(100 * Math.exp(logPrice)));
  }
  return attributes;
}

/** a_g, M_g and b_g: the part that attributes explain, plus s times the adgroup's own deviation. */
function drawTruth(
  options: WorldOptions,
  attributes: Attributes,
  streamFor: (purpose: string) => RandomStream,
): Pick<WorldAdgroups, 'latents' | 'responses' | 'responseFactors' | 'baseLogits'> {
  const count = attributes.advertisers.length;
  const scale = SETTING_SCALES[options.setting];
  const deviations = P.deviations;
  const brandCount = P.categoryCount * P.brandsPerCategory;
  const shared = streamFor('effects');
  const categoryBases = normals(shared, P.categoryCount, deviations.categoryBase);
  const brandBases = normals(shared, brandCount, deviations.brandBase);
  const categoryLatents = normals(
    shared,
    P.categoryCount * LATENT_WIDTH,
    deviations.categoryLatent,
  );
  const brandLatents = normals(shared, brandCount * LATENT_WIDTH, deviations.brandLatent);
  const factorDeviation = 1 / Math.sqrt(RESPONSE_RANK * PROFILE_FIELDS.length);
  const responseFactors = normals(shared, RESPONSE_RANK * PROFILE_LEVEL_COUNT, factorDeviation);
  const categoryLoadings = normals(
    shared,
    P.categoryCount * RESPONSE_RANK,
    deviations.categoryResponse,
  );
  const advertiserBases = normals(streamFor('advertisers'), count, deviations.advertiserBase);
  const own = streamFor('own');
  const ownDeviate = (deviation: number): number => scale * deviation * own.normal();
  const latents = new Float32Array(count * LATENT_WIDTH);
  const responses = new Float32Array(count * PROFILE_LEVEL_COUNT);
  const baseLogits = new Float32Array(count);
  const width = 1 / Math.sqrt(LATENT_WIDTH);
  for (let adgroup = 0; adgroup < count; adgroup += 1) {
    const category = uint32At(attributes.categories, adgroup);
    const brand = uint32At(attributes.brands, adgroup);
    const logPrice = Math.log(uint32At(attributes.priceCents, adgroup) / 100);
    baseLogits[adgroup] =
      float64At(categoryBases, category) +
      float64At(brandBases, brand) +
      float64At(advertiserBases, uint32At(attributes.advertisers, adgroup)) +
      (P.priceSlope * (logPrice - P.logPriceMean)) / P.logPriceDeviation +
      ownDeviate(deviations.ownBase);
    for (let axis = 0; axis < LATENT_WIDTH; axis += 1)
      latents[adgroup * LATENT_WIDTH + axis] =
        width *
        (float64At(categoryLatents, category * LATENT_WIDTH + axis) +
          float64At(brandLatents, brand * LATENT_WIDTH + axis) +
          ownDeviate(deviations.ownLatent));
    for (let factor = 0; factor < RESPONSE_RANK; factor += 1) {
      const loading =
        float64At(categoryLoadings, category * RESPONSE_RANK + factor) +
        ownDeviate(deviations.ownResponse);
      for (let level = 0; level < PROFILE_LEVEL_COUNT; level += 1) {
        const at = adgroup * PROFILE_LEVEL_COUNT + level;
        const weight = float64At(responseFactors, factor * PROFILE_LEVEL_COUNT + level);
        responses[at] = float32At(responses, at) + loading * weight;
      }
    }
  }
  return { latents, responses, responseFactors, baseLogits };
}

/** Exactly `lateAdgroupShare` of the adgroups begin in the last days, the others before, more of them early. */
function drawStarts(count: number, stream: RandomStream): Float64Array {
  const starts = new Float64Array(count);
  const lateCount = Math.round(count * P.lateAdgroupShare);
  const late = new Uint32Array(count);
  late.fill(1, 0, lateCount);
  stream.shuffle(late);
  const lateStart = trafficTimeOfDay(DAY_COUNT - P.lateDayCount);
  const lateEnd = trafficTimeOfDay(DAY_COUNT - P.lateRunDayMin);
  for (let adgroup = 0; adgroup < count; adgroup += 1) {
    const uniform = stream.uniform();
    starts[adgroup] =
      late[adgroup] === 1 ? lateStart + uniform * (lateEnd - lateStart) : uniform ** 2 * lateStart;
  }
  return starts;
}

function normals(stream: RandomStream, count: number, deviation: number): Float64Array {
  return Float64Array.from({ length: count }, () => deviation * stream.normal());
}

interface SizeLaw {
  readonly exponent: number;
  readonly impressionsMin: number;
  /** Largest share of all rows that one adgroup may have. */
  readonly shareMax: number;
}

/**
 * Sizes by rank, largest first: n_r = clamp(C / r^exponent, min, max) with C such that they sum to
 * `rows`. With few adgroups, the largest may have up to four times its fair share.
 * @returns [adgroupCount]
 * @throws QianmoError of kind `usage` if there are too few rows
 */
export function zipfSizes(rows: number, adgroupCount: number, law: SizeLaw): Uint32Array {
  if (rows < adgroupCount * law.impressionsMin)
    throw errorOf('usage', 'too few rows for so many adgroups', {
      expected: `at least ${law.impressionsMin} rows per adgroup`,
      found: `${rows} rows and ${adgroupCount} adgroups`,
      cure: `ask for at most ${Math.floor(rows / law.impressionsMin)} adgroups or for more rows`,
    });
  const impressionsMax = Math.ceil(rows * Math.max(law.shareMax, Math.min(1, 4 / adgroupCount)));
  const weights = new Float64Array(adgroupCount);
  for (let rank = 0; rank < adgroupCount; rank += 1)
    weights[rank] = Math.pow(rank + 1, -law.exponent);
  const sizeAt = (weight: number, scale: number): number =>
    Math.min(impressionsMax, Math.max(law.impressionsMin, Math.floor(weight * scale)));
  const sumAt = (scale: number): number => {
    let sum = 0;
    for (const weight of weights) sum += sizeAt(weight, scale);
    return sum;
  };
  let low = 0;
  let high = rows;
  while (sumAt(high) < rows) high *= 2;
  for (let halving = 0; halving < 80; halving += 1) {
    const middle = (low + high) / 2;
    if (sumAt(middle) <= rows) low = middle;
    else high = middle;
  }
  const sizes = Uint32Array.from(weights, (weight) => sizeAt(weight, low));
  giveRemainder(sizes, rows - sumAt(low), impressionsMax);
  return sizes;
}

/** Distributes what rounding left over, one impression each, from the largest adgroup down. */
function giveRemainder(sizes: Uint32Array, remainder: number, impressionsMax: number): void {
  let left = remainder;
  while (left > 0)
    for (let rank = 0; rank < sizes.length && left > 0; rank += 1) {
      const size = uint32At(sizes, rank);
      if (size >= impressionsMax) continue;
      sizes[rank] = size + 1;
      left -= 1;
    }
}

const FIELD_COUNT = PROFILE_FIELDS.length;

const DRAWS = { arrival: 1, user: 2, slot: 3, click: 4 } as const;

const GOLDEN = 0x9e3779b1;
const UINT32_RANGE = 4294967296;

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
function impressionBits(firstKey: number, impressionIndex: number): number {
  return mix((firstKey + Math.imul(impressionIndex + 1, GOLDEN)) | 0);
}

/** Uniform integer in [0, 2^32) for one purpose of one impression. */
function impressionDraw(impression: number, secondKey: number, draw: number): number {
  return mix(((impression ^ secondKey) + Math.imul(draw, GOLDEN)) | 0) >>> 0;
}

/** Impressions per user fall with the square root of the user's rank, as the density of count * x^2. */
function drawUser(impression: number, secondKey: number, userCount: number): number {
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

function drawSlot(impression: number, secondKey: number): number {
  const drawn = impressionDraw(impression, secondKey, DRAWS.slot);
  let slot = 0;
  while (drawn >= numberAt(SLOT_LIMITS, slot)) slot += 1;
  return slot;
}

interface Impression {
  readonly trafficTime: number;
  readonly adgroup: number;
  readonly user: number;
  readonly slot: number;
  /** It is clicked if this is below the click probability: uniform in [0, 1). */
  readonly clickDraw: number;
}

/**
 * The impressions of an hour in order of time. Impression k of an adgroup with n lies at a random place in the k-th of
 * n equal parts of the adgroup's life, the first at its very start.
 *
 * @param hour since the start of the log
 */
export function impressionsOfHour({ adgroups, users }: SyntheticWorld, hour: number): Impression[] {
  const from = float64At(HOUR_STARTS, hour);
  const until = hour === HOUR_COUNT - 1 ? Infinity : float64At(HOUR_STARTS, hour + 1);
  const found: Impression[] = [];
  for (let adgroup = 0; adgroup < adgroups.count; adgroup += 1) {
    const start = float64At(adgroups.starts, adgroup);
    if (start >= until) continue;
    const size = uint32At(adgroups.sizes, adgroup);
    const partsPerUnit = size / (1 - start);
    const [firstKey, key] = [
      int32At(adgroups.keys, 2 * adgroup),
      int32At(adgroups.keys, 2 * adgroup + 1),
    ];
    // A margin of one part in a billion against rounding; the comparison below decides.
    const first = Math.max(0, Math.floor((from - start) * partsPerUnit - 1e-9));
    const last = Math.min(size - 1, Math.floor((until - start) * partsPerUnit + 1e-9));
    for (let index = first; index <= last; index += 1) {
      const impression = impressionBits(firstKey, index);
      const within =
        index === 0 ? 0 : impressionDraw(impression, key, DRAWS.arrival) / UINT32_RANGE;
      const trafficTime = start + (index + within) / partsPerUnit;
      if (trafficTime < from || trafficTime >= until) continue;
      const user = drawUser(impression, key, users.count);
      const slot = drawSlot(impression, key);
      const clickDraw = impressionDraw(impression, key, DRAWS.click) / UINT32_RANGE;
      found.push({ trafficTime, adgroup, user, slot, clickDraw });
    }
  }
  // Equal times keep the order of the adgroups.
  return found.sort((a, b) => a.trafficTime - b.trafficTime);
}

/** b_g + b_crowd + u' a_g / sqrt(8) + profile' M_g */
export function affinityLogit(world: SyntheticWorld, adgroup: number, user: number): number {
  const { adgroups, users, profileLevels } = world;
  let logit = float32At(adgroups.baseLogits, adgroup);
  if (users.crowds !== null)
    logit += float64At(users.crowds.baseLogits, uint32At(users.crowds.crowdOfUser, user));
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

/** Finds the c for which the mean of p is `meanClickRate`, over a sample of rows, or all rows of a small log. */
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
      affinityLogit(world, adgroup, drawUser(impression, key, users.count)) +
      hourSlotLogit(world, hour, drawSlot(impression, key));
  }
  return logits;
}
