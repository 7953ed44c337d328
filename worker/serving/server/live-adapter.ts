/** Adapts adgroups of served bundles from labelled rows, which every bundle encodes and adapts anew. */

import { at } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { keyHashOf } from '../../../shared/bundle/key-hash.js';
import { blockOfKey, UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { restsOnSupport } from '../../../shared/methods/inner-loop/inner-loop.js';
import { predictionLoopOf } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { adaptationCoverage, adaptedValues } from '../adaptation/live-adaptation.js';
import type { LiveNotes } from '../adaptation/live-blocks.js';
import type { LiveRows, LiveRowsStore } from '../adaptation/live-rows.js';
import { supportSumsIn, type LabelledRows } from '../adaptation/support-evidence.js';
import { requestOfRows } from '../request-of-rows.js';
import { besideRequests } from './beside-requests.js';
import { KEY_SEPARATOR } from './ranking-body.js';
import { RefusedRequest, refusedValue } from './refused-request.js';
import type { ServedBundle } from './served-bundle.js';

/** The part of the thread's time that adapting to the next bundle takes: there may be tens of thousands of adgroups. */
const ADAPTING_SHARE = 1 / 8;

export class LiveAdapter {
  readonly #store: LiveRowsStore;
  /** Bundles that live rows are put into: the one in use, and one that is about to be. */
  #bundles: readonly ServedBundle[] = [];
  /** Adgroups of which rows were stored while a bundle was prepared, one set for each such bundle. */
  readonly #storedMeanwhile = new Set<Set<string>>();
  /** What rows of a request have become before they are stored. */
  readonly #ready = new WeakMap<
    LiveRows,
    { readonly bundle: ServedBundle; readonly ready: Ready }
  >();

  constructor(store: LiveRowsStore) {
    this.#store = store;
    store.follow((rows) => this.#serve(rows));
  }

  /**
   * Adapts all live rows to a bundle that is not served yet.
   *
   * @param beside as for `besideRequests`.
   */
  async prepare(bundle: ServedBundle, beside: Clock | null): Promise<void> {
    this.#bundles = [...this.#bundles.filter(({ isRetired }) => !isRetired), bundle];
    if (!isCovered(bundle)) return;
    const stored = new Set<string>();
    this.#storedMeanwhile.add(stored);
    try {
      for (const key of await this.#store.keys()) {
        const rows = await this.#store.rowsOf(key);
        // Later rows are served already.
        if (rows === null || stored.has(key)) continue;
        await besideRequests(beside, ADAPTING_SHARE, () => serveIn(bundle, rows));
      }
    } finally {
      this.#storedMeanwhile.delete(stored);
    }
  }

  /**
   * Adapts an adgroup and serves its block in every process. Without rows, the bundle's own block is served again.
   *
   * @throws RefusedRequest if the bundle cannot adapt, or not from these rows; QianmoError if they are not known to be
   *   on disk and served.
   */
  async adapt(bundle: ServedBundle, rows: LiveRows): Promise<LiveNotes | null> {
    demandCoverage(bundle);
    // Refuses what cannot be read before it is stored.
    const ready = rows.rows.length === 0 ? null : readied(bundle, rows);
    if (ready !== null) this.#ready.set(rows, { bundle, ready });
    if ((await this.#store.put(rows)) === 'full') throw full();
    return ready?.notes ?? null;
  }

  /** Serves rows that are stored, in every bundle. */
  #serve(rows: LiveRows): void {
    for (const stored of this.#storedMeanwhile) stored.add(rows.key);
    const known = this.#ready.get(rows);
    // The arrays of one that was retired meanwhile may be gone.
    this.#bundles = this.#bundles.filter(({ isRetired }) => !isRetired);
    for (const bundle of this.#bundles)
      if (rows.rows.length === 0) bundle.live.remove(hashOf(rows.key));
      else if (known?.bundle === bundle)
        bundle.live.put(hashOf(rows.key), known.ready.values, known.ready.notes);
      else if (isCovered(bundle)) serveIn(bundle, rows);
  }
}

type Ready = ReturnType<typeof readied>;

function isCovered({ loaded: { model, manifest } }: ServedBundle): boolean {
  return adaptationCoverage(model, manifest.method).isCovered;
}

function serveIn(bundle: ServedBundle, rows: LiveRows): void {
  try {
    const { values, notes } = readied(bundle, rows);
    bundle.live.put(hashOf(rows.key), values, notes);
  } catch (error) {
    // Rows that this bundle cannot read stay for others; until then its own block is served.
    if (!(error instanceof RefusedRequest)) throw error;
    bundle.live.remove(hashOf(rows.key));
  }
}

function readied({ loaded, choice }: ServedBundle, live: LiveRows) {
  const { manifest, model } = loaded;
  const labelIndex = labelIndexOf(loaded, live);
  const rowCount = live.rows.length;
  const { adaptation, served } = at(manifest.serving, labelIndex);
  const isAdapted = at(served, placeOfSize(served, rowCount)).blocks === 'adapted';
  const support = labelledRows(loaded, live, labelIndex);
  const { addProduct } = choice;
  const { method } = manifest;
  const loop = predictionLoopOf(methodPlanOf(method));
  const values = adaptedValues(
    { model, method, adaptation: isAdapted ? adaptation : null, addProduct },
    support,
  );
  demandFinite(values);
  const sums = supportSumsIn(model.spec, support);
  const ofLabel = manifest.calibrations.map((each) =>
    each.of === 'known' && each.label === labelIndex ? each : null,
  );
  const notes: LiveNotes = {
    label: labelIndex,
    calibration: placeOfSize(ofLabel, rowCount),
    supportRows: restsOnSupport(loop, isAdapted ? adaptation.innerSteps : 0) ? rowCount : 0,
    clicks: sums.clicks,
    impressions: sums.impressions,
  };
  return { values: { ...values, loss: support.loss, support: sums }, notes };
}

/** The gradient of values far outside of those that the model was trained on may grow without end. */
function demandFinite({ variables, level }: ReturnType<typeof adaptedValues>): void {
  const wrong = [...variables].find(([, { values }]) => !values.every(Number.isFinite))?.[0];
  if (wrong === undefined && Number.isFinite(level)) return;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the block that adapts to these rows is not finite, so the block before stays',
    where: 'rows',
    found: wrong === undefined ? 'a level that is not finite' : `${wrong} is not finite`,
    cure: 'look for numbers, labels or impressions far outside of those that the bundle was trained on',
  });
}

function labelIndexOf(
  { manifest, index, labels }: LoadedBundle,
  { key, segment }: LiveRows,
): number {
  if (segment !== null) {
    const found = manifest.labels.findIndex((label) => label.segment === segment);
    if (found >= 0) return found;
  } else {
    const block = blockOfKey(index, key);
    if (block !== UNKNOWN_BLOCK) return at(labels, block);
    if (manifest.labels.length === 1) return 0;
  }
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'it is not known which label the rows have',
    where: 'segment',
    expected: `one of ${manifest.labels.map((label) => label.segment).join(', ')}`,
    found: segment ?? 'no segment, and an adgroup that the bundle does not know',
  });
}

function labelledRows(
  loaded: LoadedBundle,
  { key, rows }: LiveRows,
  labelIndex: number,
): LabelledRows {
  const { manifest, encoder, model } = loaded;
  const { taskColumns } = manifest;
  const parts = taskColumns.length === 1 ? [key] : key.split(KEY_SEPARATOR);
  const ofKey = Object.fromEntries(taskColumns.map((name, place) => [name, parts[place]]));
  // An expression may read any column.
  const readsKey = encoder.features.some(
    ({ column }) => column === null || Object.hasOwn(ofKey, column),
  );
  const label = at(manifest.labels, labelIndex);
  const encoded = encoder.allocate(rows.length);
  const impressions = Float64Array.from(rows, (row) => row.impressions);
  const clicks = new Float64Array(rows.length);
  for (const [place, row] of rows.entries()) {
    const isClick = label.loss === 'binary';
    if (isClick && (row.label < 0 || row.label > 1)) throw notAClick(place, row.label);
    const value = isClick ? row.label : (row.label - label.mean) / label.deviation;
    clicks[place] = value * row.impressions;
    const raw = readsKey ? { ...ofKey, ...row.features } : row.features;
    try {
      encoder.encodeInto(encoded, place, raw, raw);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      throw refusedValue(error, `rows.${place}`);
    }
  }
  const blocks = new Int32Array(rows.length);
  return {
    rows: requestOfRows(model.spec, encoded, blocks),
    loss: label.loss,
    clicks,
    impressions,
  };
}

interface Size {
  readonly supportRowCountMin: number;
  readonly supportRowCountMax: number | null;
}

/** The place of the entry for adgroups of this size. */
function placeOfSize(sizes: readonly (Size | null)[], rowCount: number): number {
  const place = sizes.findIndex(
    (size) =>
      size !== null &&
      rowCount >= size.supportRowCountMin &&
      (size.supportRowCountMax === null || rowCount <= size.supportRowCountMax),
  );
  if (place < 0) throw new Error(`the bundle has no entry for ${rowCount} rows`);
  return place;
}

function hashOf(key: string): readonly [number, number] {
  const { low, high } = keyHashOf(Buffer.from(key), 0);
  return [low, high];
}

function demandCoverage({ loaded: { model, manifest } }: ServedBundle): void {
  const coverage = adaptationCoverage(model, manifest.method);
  if (coverage.isCovered) return;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'adgroups of this bundle do not adapt in the server',
    found: coverage.reason,
    cure: 'export the run again with the new rows',
  });
}

function full(): RefusedRequest {
  return new RefusedRequest({
    reason: 'queue-full',
    what: 'there is no room for the rows of another adgroup',
    cure: 'remove some by an empty list of rows, or export the run again with them',
  });
}

function notAClick(place: number, found: number): RefusedRequest {
  return new RefusedRequest({
    reason: 'wrong-value',
    what: 'the label of a click is not one',
    where: `rows.${place}.label`,
    expected: 'from 0 to 1: clicks over impressions',
    found: String(found),
  });
}
