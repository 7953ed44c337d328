/**
 * The setting of the server's bench: the model of the kernel's bench (`kernel-setting.ts`) in a bundle with keys and
 * dictionaries of texts, and requests of one context and 500 candidates.
 */

import { at } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { packedDictionaryOf } from '../../../shared/features/packed-dictionary.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { BINARY_TYPE } from '../../../worker/serving/server/ranking-body.js';
import { binaryRequest } from '../../fixtures/serving/binary-request.js';
import { CANDIDATE_COUNT, CONTEXT_FEATURES, encodedFeaturesOf } from './kernel-setting.js';
import { writeSyntheticBundle } from './synthetic-bundle.js';

export const FORMS = ['binary', 'binary texts', 'objects'] as const;
export type Form = (typeof FORMS)[number];

export interface BenchRequest {
  readonly mediaType: string;
  readonly body: Buffer;
}

/** Of 13 bytes, as those of real systems. */
export function keyOf(adgroup: number): string {
  return `adgroup-${String(adgroup).padStart(7, '0')}`;
}

function valueOf(feature: string, id: number): string {
  return `${feature.slice(0, 2)}${feature.slice(-1)}-${id}`;
}

/** The id of a value. */
function idIn(text: string): number {
  return Number(text.split('-')[1]);
}

/**
 * Publishes the bundle with keys and values as texts, and returns its digest.
 *
 * @param scale a factor: bundles of different scales have different scores
 */
export function writeServedBundle(
  store: ObjectStore,
  adgroupCount: number,
  scale = 1,
): Promise<string> {
  const dictionaries = new Map(
    encodedFeaturesOf().map(({ name, rowCount }) => [
      name,
      packedDictionaryOf(
        Array.from({ length: rowCount }, (_, id) => (id === 0 ? null : valueOf(name, id))),
      ),
    ]),
  );
  const texts = { keyOf, dictionaries };
  return writeSyntheticBundle(store, { adgroupCount, scale, texts });
}

interface RequestTerms {
  readonly adgroupCount: number;
  /** The digest of the bundle whose ids the binary form has. */
  readonly digest: string;
}

/** Requests that differ in everything, in one form. */
export function requestsIn(form: Form, count: number, terms: RequestTerms): BenchRequest[] {
  const random = randomStream(17, 'requests of the server');
  return Array.from({ length: count }, () => requestIn(form, random, terms));
}

/** What a caller that shows the first few needs. */
const FIELDS = ['order', 'values'];

function requestIn(
  form: Form,
  random: RandomStream,
  { adgroupCount, digest }: RequestTerms,
): BenchRequest {
  const all = encodedFeaturesOf();
  const drawn = ({ name, rowCount }: (typeof all)[number]): string =>
    valueOf(name, 1 + random.below(rowCount - 1));
  const isOfContext = ({ name }: (typeof all)[number]) => CONTEXT_FEATURES.includes(name);
  const context = Object.fromEntries(
    all.filter(isOfContext).map((feature) => [feature.name, drawn(feature)]),
  );
  const adgroups = new Set<number>();
  while (adgroups.size < CANDIDATE_COUNT) adgroups.add(random.below(adgroupCount));
  const keys = Array.from(adgroups, keyOf);
  const bids = keys.map(() => Math.round(1 + 999 * random.uniform()) / 100);
  const columns = all
    .filter((feature) => !isOfContext(feature))
    .map((feature) => [feature.name, keys.map(() => drawn(feature))] as const);
  if (form === 'binary' || form === 'binary texts') {
    const features = columns.map(([name, values]) =>
      form === 'binary'
        ? ([name, { type: 'id', values: values.map(idIn) }] as const)
        : ([name, { type: 'text', values }] as const),
    );
    const common = { context, fields: FIELDS, bundle: digest };
    const body = binaryRequest(common, { adgroups: keys, areHashed: true, bids, features });
    return { mediaType: BINARY_TYPE, body };
  }
  const candidates = keys.map((adgroup, place) => ({
    ...{ adgroup, bid: at(bids, place) },
    features: Object.fromEntries(columns.map(([name, list]) => [name, at(list, place)])),
  }));
  const body = Buffer.from(JSON.stringify({ context, fields: FIELDS, candidates }));
  return { mediaType: 'application/json', body };
}
