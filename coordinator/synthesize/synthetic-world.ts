/** The synthetic world: every user and adgroup with its true parameters. Rows follow from it by pure functions. */

import { float32At, float64At, uint32At, uint8At } from '../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { QianmoError } from '../../shared/base/errors.js';
import { worldSize, type WorldOptions } from './synthesis-options.js';
import {
  DAY_COUNT,
  HOURS_PER_DAY,
  LATENT_WIDTH,
  PROFILE_CODE_COUNT,
  PROFILE_FIELDS,
  PROFILE_LEVEL_COUNT,
  RESPONSE_RANK,
  SETTING_SCALES,
  trafficTimeOfDay,
  WORLD_PARAMETERS,
} from './world-parameters.js';

const P = WORLD_PARAMETERS;

interface WorldUsers {
  readonly count: number;
  /** u: [count, LATENT_WIDTH] */
  readonly latents: Float32Array;
  /** The combination of profile levels: [count] */
  readonly profileCodes: Uint16Array;
}

interface WorldAdgroups {
  readonly count: number;
  /** a_g / sqrt(LATENT_WIDTH): [count, LATENT_WIDTH] */
  readonly latents: Float32Array;
  /** M_g: [count, PROFILE_LEVEL_COUNT] */
  readonly responses: Float32Array;
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
  const { adgroupCount, userCount } = worldSize(options);
  const streamFor = (purpose: string): RandomStream =>
    randomStream(options.seed, 'synthetic-world', purpose);
  const profileLevels = enumerateProfiles();
  return {
    users: buildUsers(userCount, profileLevels, streamFor('users')),
    adgroups: buildAdgroups(options, adgroupCount, streamFor),
    profileLevels,
    hourLogits: normals(streamFor('hours'), HOURS_PER_DAY, P.deviations.hour),
    slotLogits: normals(streamFor('slots'), P.slotWeights.length, P.deviations.slot),
  };
}

function enumerateProfiles(): Uint8Array {
  const levels = new Uint8Array(PROFILE_CODE_COUNT * PROFILE_FIELDS.length);
  for (let code = 0; code < PROFILE_CODE_COUNT; code += 1) {
    let rest = code;
    let levelStart = 0;
    for (const [field, { weights }] of PROFILE_FIELDS.entries()) {
      levels[code * PROFILE_FIELDS.length + field] = levelStart + (rest % weights.length);
      rest = Math.floor(rest / weights.length);
      levelStart += weights.length;
    }
  }
  return levels;
}

function buildUsers(count: number, profileLevels: Uint8Array, stream: RandomStream): WorldUsers {
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
  return { count, latents, profileCodes };
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
  shuffle(sizes, streamFor('sizes'));
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
): Pick<WorldAdgroups, 'latents' | 'responses' | 'baseLogits'> {
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
  return { latents, responses, baseLogits };
}

/**
 * First appearances: exactly `lateAdgroupShare` of the adgroups in the last days, the others before,
 * more of them early.
 */
function drawStarts(count: number, stream: RandomStream): Float64Array {
  const starts = new Float64Array(count);
  const lateCount = Math.round(count * P.lateAdgroupShare);
  const late = new Uint32Array(count);
  late.fill(1, 0, lateCount);
  shuffle(late, stream);
  const lateStart = trafficTimeOfDay(DAY_COUNT - P.lateDayCount);
  const lateEnd = trafficTimeOfDay(DAY_COUNT - P.lateRunDayMin);
  for (let adgroup = 0; adgroup < count; adgroup += 1) {
    const uniform = stream.uniform();
    starts[adgroup] =
      late[adgroup] === 1 ? lateStart + uniform * (lateEnd - lateStart) : uniform ** 2 * lateStart;
  }
  return starts;
}

function shuffle(items: Uint32Array, stream: RandomStream): void {
  for (let last = items.length - 1; last > 0; last -= 1) {
    const chosen = stream.below(last + 1);
    const kept = uint32At(items, last);
    items[last] = uint32At(items, chosen);
    items[chosen] = kept;
  }
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
    throw new QianmoError({
      kind: 'usage',
      what: 'too few rows for so many adgroups',
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
