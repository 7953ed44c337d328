/** Bodies of requests that change what a ranking server knows, or are explored: adaptation, feedback, rankings. */

import { isDeepStrictEqual } from 'node:util';
import { systemClock } from '../../shared/base/clock.js';
import { buildKeyIndex } from '../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import { FeatureSchema } from '../../shared/config/data-config.js';
import { ExplorationConfigSchema } from '../../shared/config/exploration-config.js';
import { allocateEncodedRows, rowEncoderOf } from '../../shared/features/row-encoder.js';
import { initialMetaParameters } from '../../shared/models/meta-parameters.js';
import { ModelConfigSchema } from '../../shared/models/model-config.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import { adaptedLayoutOf, encodeAdaptedTasks } from '../../shared/bundle/adapted-tasks.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import {
  type AdaptEngine,
  LiveAdapter,
  type LiveRowsLog,
  LiveRowsState,
} from '../../worker/serving/server/live-adapter.js';
import { decisionIds, EventIds } from '../../worker/serving/exploration/event-ids.js';
import { FeedbackTaker } from '../../worker/serving/exploration/feedback.js';
import { EvidenceLedger } from '../../worker/serving/exploration/evidence-ledger.js';
import {
  JSON_TYPE,
  type Endpoint,
  type ReceivedRequest,
} from '../../worker/serving/server/endpoint.js';
import { adaptEndpoint } from '../../worker/serving/server/endpoints/adapt.js';
import { BINARY_TYPE } from '../../worker/serving/server/ranking-body.js';
import { rankedAnswer } from '../../worker/serving/server/answer-forms.js';
import { Explorer, feedbackEndpoint } from '../../worker/serving/server/endpoints/exploration.js';
import { RefusedRequest } from '../../worker/serving/server/refused-request.js';
import { type ScoringAddon } from '../../worker/serving/kernel-scorer.js';
import { ServedBundle } from '../../worker/serving/server/served-bundle.js';
import { plainHeadOf, type PlainHead } from '../../worker/serving/server/plain-connection.js';
import { binaryRequest } from '../fixtures/serving/binary-request.js';
import { rankingModelOf } from '../bench/serving/kernel-setting.js';
import type { FuzzTarget } from './fuzz-target.js';
import { mutatedBytes, mutatedJson, pick } from './mutations.js';
import { compiledAddon } from '../fixtures/serving/compiled-addon.js';
import { MANIFEST } from '../fixtures/bundle/published-bundles.js';

const KEYS = ['a', 'b', 'c'];

function smallBundle(addon: ScoringAddon): ServedBundle {
  const encodedFeatures = ['c0', 'c1'].map((name): EncodedFeature => ({
    ...{ name, kind: 'category', rowCount: 9, encoding: { by: 'hash', buckets: 8 } },
  }));
  const features = encodedFeatures.map(({ name }) =>
    FeatureSchema.parse({ name, kind: 'category', hashBuckets: 8 }),
  );
  const config = ModelConfigSchema.parse({
    ...{ kind: 'deepfm', embeddingWidth: 2, hiddenWidths: [3], adgroupEmbedding: true },
    personal: ['bias', 'adgroupEmbedding', 'output'],
  });
  const spec = modelSpecOf(config, encodedFeatures);
  const { tables } = initialMetaParameters(spec, 1);
  const blockCount = KEYS.length + 1;
  const manifest = { ...MANIFEST, features, encodedFeatures, model: config };
  const loaded: LoadedBundle = {
    manifest,
    model: rankingModelOf(spec, tables, { encoding: 'float32', adgroupCount: blockCount }),
    index: buildKeyIndex(KEYS),
    labels: new Int32Array(blockCount),
    offsets: new Float32Array(blockCount),
    encoder: rowEncoderOf({ features, encodedFeatures, dictionaries: new Map(), columns: {} }),
    selfCheck: {
      blocks: new Int32Array(0),
      rows: allocateEncodedRows(encodedFeatures, 0),
      logits: new Float32Array(0),
      expected: new Float32Array(0),
    },
  };
  return new ServedBundle({ digest: 'f'.repeat(64), loaded, addon });
}

const addon = await compiledAddon();
const bundle = smallBundle(addon);
/** Leaves all bodies in JSON to the parser. */
const parsing = smallBundle({ ...addon, scanBody: () => -1 });

/** Rows that are stored nowhere. */
function forgottenRows(): LiveRowsLog {
  const state = new LiveRowsState();
  return {
    state,
    append: (text) => {
      state.apply(text);
      return Promise.resolve();
    },
    nowMs: () => 0,
    close: () => Promise.resolve(),
  };
}

/** Answers with the start of all tasks: bodies are what is looked at here. */
const idleEngine: AdaptEngine = {
  start: () => Promise.resolve(),
  execute: ({ job, given }) => {
    const { spec, dense: blocks } = bundle.loaded.model;
    const support = { clicks: 0, impressions: 0, byValue: [] };
    const tasks = (given?.tasks ?? []).map(({ taskIndex }) => ({
      ...({ taskIndex, loss: 'binary', isAlone: false, blocks, support } as const),
    }));
    if (job.work.kind !== 'adapt') throw new Error(`a job to ${job.work.kind}`);
    return Promise.resolve({ output: encodeAdaptedTasks(adaptedLayoutOf(spec), tasks) });
  },
};

const settings = ExplorationConfigSchema.parse({
  ...{ mode: 'active', policy: 'ucb', slots: [1, 2], share: { kind: 'fixed', share: 0.5 } },
});
const ledger = new EvidenceLedger(settings.feedback);
const evidence = {
  state: ledger,
  nowMs: () => systemClock.epochMs(),
  append: (text: string) => Promise.resolve(ledger.apply(text, systemClock.epochMs())),
};
const ids = new EventIds('key');
const nextDecision = decisionIds('0123456789abcdef');
const log = { append: () => Promise.resolve() };
const clock = systemClock;

const DEADLINE_MS = 60_000;

function targetOf(name: string, endpoint: Endpoint, examples: readonly object[]): FuzzTarget {
  return {
    name,
    share: 0.1,
    inputOf: (stream) => Buffer.from(mutatedJson(stream, pick(stream, examples))),
    parse: async (input) => {
      // The endpoints read nothing else of their requests.
      const server = { explainedMax: 10, recorded: null };
      const deadlineAtMs = systemClock.monotonicMs() + DEADLINE_MS;
      const asked = { bundle, bundleFor: () => bundle, body: Buffer.from(input), server };
      const request = { ...asked, deadlineAtMs, mediaType: 'application/json', headers: {} };
      const { content } = await endpoint.answer(request as unknown as ReceivedRequest);
      return JSON.parse(String(content)) as unknown;
    },
    isRefusal: (error) => error instanceof RefusedRequest,
  };
}

const features = { c0: 'x', c1: 'y' };
const candidates = KEYS.map((adgroup, place) => ({ adgroup, features, bid: 1 + place }));
const event = ids.idOf({
  ...{ decision: nextDecision(systemClock.epochMs()), slot: 1, adgroup: 'a' },
  choice: {
    ...{ bundle: '0123456789ab', segment: 'ordered', probability: 0.1 },
    ...{ isExploration: true, propensity: 0.5 },
  },
});

/** Throws the refusal of a body that is no request. */
function ranked(of: ServedBundle, input: Uint8Array, mediaType: string): void {
  rankedAnswer({
    ...{ bundle: of, bundleFor: () => of, body: Buffer.from(input), mediaType },
    ...{ headers: {}, parameter: '', server: { explainedMax: 10 } },
  });
}

const binaryExamples = [true, false].map((areHashed) =>
  binaryRequest(
    { context: { c1: 'y' } },
    {
      ...{ adgroups: KEYS, areHashed, bids: [1, 2, 3] },
      features: [['c0', { type: 'text', values: ['x', 'y', ''] }]],
    },
  ),
);

const binaryRanking: FuzzTarget = {
  name: 'binary-ranking',
  share: 1,
  inputOf: (stream) => mutatedBytes(stream, pick(stream, binaryExamples)),
  parse: (input) => ranked(bundle, input, BINARY_TYPE),
  isRefusal: (error) => error instanceof RefusedRequest,
};

/** The refusal of a body; null if it is answered. */
function refusalOf(of: ServedBundle, input: Uint8Array): RefusedRequest | null {
  try {
    ranked(of, input, JSON_TYPE);
    return null;
  } catch (error) {
    if (error instanceof RefusedRequest) return error;
    throw error;
  }
}

const objectsExample = {
  context: { c1: 'y' },
  candidates: [
    { adgroup: 'a', bid: 1.5, features: { c0: 'x', tags: ['p', null] } },
    { adgroup: 'b/"', features: { c0: null, tags: [] }, pacing: 2 },
    { adgroup: 'c', bid: 1e3, features: { tags: 7, c0: 'größe' } },
  ],
};

/** Bodies in JSON, which the scanner refuses as the parser does. */
const objectsRanking: FuzzTarget = {
  name: 'objects-ranking',
  share: 1,
  inputOf: (stream) =>
    stream.below(2) === 0
      ? mutatedBytes(stream, Buffer.from(JSON.stringify(objectsExample)))
      : Buffer.from(mutatedJson(stream, objectsExample)),
  parse: (input) => {
    const refusal = refusalOf(bundle, input);
    const expected = refusalOf(parsing, input);
    if (refusal?.message !== expected?.message)
      throw new Error(`${refusal?.message} by the scanner, ${expected?.message} by the parser`);
    if (refusal !== null) throw refusal;
  },
  isRefusal: (error) => error instanceof RefusedRequest,
};

class NotPlain extends Error {}

const PLAIN_HEAD = Buffer.from(
  'POST /v1/rank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
);

const KNOWN_HEAD = plainHeadOf(PLAIN_HEAD, null) as PlainHead;

/** Heads that are read without node:http, at the start of a connection and behind another head. */
const plainHead: FuzzTarget = {
  name: 'plain-head',
  share: 1,
  inputOf: (stream) => mutatedBytes(stream, PLAIN_HEAD),
  parse: (input) => {
    const bytes = Buffer.from(input);
    const head = plainHeadOf(bytes, null);
    if (typeof head === 'string') throw new NotPlain();
    const { byteCount, bodyByteCount } = head;
    const text = bytes.toString('latin1', 0, byteCount - 4);
    const lengths = [...text.matchAll(/^content-length[ \t]*:(.*)$/gim)];
    const isSound =
      bytes.subarray(byteCount - 4, byteCount).equals(Buffer.from('\r\n\r\n')) &&
      lengths.length === 1 &&
      Number(lengths[0]?.[1]) === bodyByteCount &&
      !/^(transfer-encoding|expect|upgrade)/im.test(text) &&
      !/[^\t\r\n -~]|\r(?!\n)|[^\r]\n/.test(text);
    if (!isSound) throw new Error('the head is not plain');
    if (!isDeepStrictEqual(plainHeadOf(bytes, KNOWN_HEAD), head))
      throw new Error('the head is another one beside a known one');
  },
  isRefusal: (error) => error instanceof NotPlain,
};

export const SERVING_TARGETS: readonly FuzzTarget[] = [
  ...[binaryRanking, plainHead],
  objectsRanking,
  targetOf('adapt-body', adaptEndpoint(adapterOf()), [
    {
      adgroup: 'a',
      rows: [
        { features, label: 1 },
        { features, label: 0.5, impressions: 4 },
      ],
    },
    { adgroup: ['new'], segment: null, rows: [{ features: { ...features, c0: null }, label: 0 }] },
    { adgroup: 'b', rows: [] },
  ]),
  feedbackBody(),
  targetOf('explored-ranking', exploring().endpoint, [
    { candidates, slots: 2 },
    { context: { c1: 'y' }, candidates: [{ adgroup: 'new', features: { c0: ['x', 1] } }] },
    { candidates: candidates.slice(1), explain: true },
  ]),
];

/** Each event has a receipt, that of the adgroup `a` counts once, and that of `b`, which no server has signed, never. */
function feedbackBody(): FuzzTarget {
  const forged = `${event.split('.')[0]}.9.${Buffer.from('b').toString('base64url')}.AAAA.${'A'.repeat(22)}`;
  const own = new EvidenceLedger(settings.feedback);
  const append = (text: string) => Promise.resolve(own.apply(text, systemClock.epochMs()));
  const taker = { settings: settings.feedback, evidence: { append }, log, ids, clock };
  const target = targetOf('feedback-body', feedbackEndpoint(new FeedbackTaker(taker)), [
    {
      events: [
        { kind: 'impression', event },
        { kind: 'outcome', event, reward: 0.5 },
      ],
    },
    {
      events: [
        { kind: 'outcome', event, epochMs: 1 },
        { kind: 'impression', event: 'x.1.y.z' },
      ],
    },
    { events: [forged, event].map((each) => ({ kind: 'impression', event: each })) },
  ]);
  return {
    ...target,
    share: 0.5,
    parse: async (input) => {
      const answered = (await target.parse(input)) as { readonly receipts: unknown[] };
      const sent = JSON.parse(String(Buffer.from(input))) as { readonly events: unknown[] };
      if (answered.receipts.length !== sent.events.length) throw new Error('a receipt is missing');
      const { impressions, open } = own.evidenceOf('a');
      if (impressions + open > 1 || own.evidenceOf('b').firstMs !== null)
        throw new Error('an event counts twice, or nobody has signed it');
    },
  };
}

function adapterOf(): LiveAdapter {
  const adapter = new LiveAdapter({ log: forgottenRows(), engine: idleEngine, clock });
  void adapter.prepare(bundle, null);
  return adapter;
}

function exploring(): Explorer {
  const onEvent = (): void => undefined;
  return new Explorer({ settings, evidence, log, ids, nextDecision, clock, onEvent, seed: 1 });
}
