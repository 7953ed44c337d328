/**
 * The setting of the server's bench: the model of the kernel's bench (`kernel-setting.ts`) as a bundle in
 * memory, with keys, dictionaries and an encoder of texts, and requests of one context and 500 candidates.
 */

import { at } from '../../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../../shared/base/random.js';
import { buildKeyIndex } from '../../../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../../../shared/bundle/read-bundle.js';
import { FeatureSchema } from '../../../../shared/config/data-config.js';
import { allocateEncodedRows } from '../../../../shared/features/encoded-rows.js';
import { packedDictionaryOf } from '../../../../shared/features/packed-dictionary.js';
import { rowEncoderOf } from '../../../../shared/features/row-encoder.js';
import { BINARY_TYPE } from '../../../../worker/serving/server/forms/binary-layout.js';
import { binaryRequest } from '../../../fixtures/serving/binary-request.js';
import {
  CANDIDATE_COUNT,
  CONTEXT_FEATURES,
  encodedFeaturesOf,
  rankingModelOf,
  specOf,
  tablesOf,
} from '../kernel-setting.js';

/** The digest of the bundle that is made up. */
export const BUNDLE = 'b'.repeat(64);
const HIDDEN_WIDTHS = [128, 64];

export const FORMS = ['binary', 'binary texts', 'columns', 'objects'] as const;
export type Form = (typeof FORMS)[number];

export interface BenchRequest {
  readonly mediaType: string;
  readonly body: Buffer;
}

/** Of 13 bytes, as those of real systems. */
function keyOf(adgroup: number): string {
  return `adgroup-${String(adgroup).padStart(7, '0')}`;
}

function valueOf(feature: string, id: number): string {
  return `${feature.slice(0, 2)}${feature.slice(-1)}-${id}`;
}

/** A bundle of `adgroupCount` adgroups, which nobody has to read. */
export function syntheticBundle(adgroupCount: number): LoadedBundle {
  const encodedFeatures = encodedFeaturesOf();
  const features = encodedFeatures.map(({ name }) =>
    FeatureSchema.parse({ name, kind: 'category' }),
  );
  const dictionaries = new Map(
    encodedFeatures.map(({ name, rowCount }) => [
      name,
      packedDictionaryOf(
        Array.from({ length: rowCount }, (_, id) => (id === 0 ? null : valueOf(name, id))),
      ),
    ]),
  );
  const blockCount = adgroupCount + 1;
  const spec = specOf('head', HIDDEN_WIDTHS);
  const model = rankingModelOf(spec, tablesOf(3), {
    encoding: 'float32',
    adgroupCount: blockCount,
  });
  const keys = Array.from({ length: adgroupCount }, (_, adgroup) => keyOf(adgroup));
  const calibration = { slope: 0.9, offset: -0.1, adgroupCount, impressions: 1 };
  // Only what a server reads of a manifest.
  const manifest = {
    taskColumns: ['adgroup'],
    labels: [{ loss: 'binary', segment: null }],
    calibrations: [calibration],
    ...{ features, encodedFeatures, columns: {} },
  } as unknown as LoadedBundle['manifest'];
  return {
    ...{ manifest, model },
    index: buildKeyIndex(keys),
    labels: new Int32Array(blockCount),
    calibrations: new Int32Array(blockCount),
    encoder: rowEncoderOf({ features, encodedFeatures, dictionaries, columns: {} }),
    selfCheck: {
      blocks: new Int32Array(0),
      rows: allocateEncodedRows(encodedFeatures, 0),
      logits: new Float32Array(0),
    },
  };
}

/** Requests that differ in everything, in one form. */
export function requestsIn(form: Form, count: number, adgroupCount: number): BenchRequest[] {
  const random = randomStream(17, 'requests of the server');
  return Array.from({ length: count }, () => requestIn(form, random, adgroupCount));
}

/** What a caller that shows the first few needs. */
const FIELDS = ['order', 'values'];

function requestIn(form: Form, random: RandomStream, adgroupCount: number): BenchRequest {
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
        ? ([
            name,
            { type: 'id', values: values.map((text) => Number(text.split('-')[1])) },
          ] as const)
        : ([name, { type: 'text', values }] as const),
    );
    const common = { context, fields: FIELDS, bundle: BUNDLE };
    const body = binaryRequest(common, { adgroups: keys, areHashed: true, bids, features });
    return { mediaType: BINARY_TYPE, body };
  }
  const content =
    form === 'columns'
      ? { columns: { adgroup: keys, bid: bids, features: Object.fromEntries(columns) } }
      : {
          candidates: keys.map((adgroup, place) => ({
            ...{ adgroup, bid: at(bids, place) },
            features: Object.fromEntries(columns.map(([name, list]) => [name, at(list, place)])),
          })),
        };
  const body = Buffer.from(JSON.stringify({ context, fields: FIELDS, ...content }));
  return { mediaType: 'application/json', body };
}
