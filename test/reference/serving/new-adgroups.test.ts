/**
 * New adgroups are served what evaluation predicts of adgroups without support rows: for every method with a start, from the
 * attributes in the request or in the catalog, and under the label of the segment that it names.
 */

import { expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { METHODS } from '../../../shared/methods/methods.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { UNADAPTED } from '../../../coordinator/evaluation/arms.js';
import { dividedStore, predictLogits } from '../../../coordinator/evaluation/task-jobs.js';
import { Catalog } from '../../../worker/serving/server/catalog.js';
import { parseRankingBody } from '../../../worker/serving/server/ranking-body.js';
import { ServedBundle } from '../../../worker/serving/server/served-bundle.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  loadedBundle,
} from '../../fixtures/bundle/tiny-export.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';
import { openedOnce } from '../../fixtures/opened.js';

const LOSSES = ['squared', 'binary'] as const;
const drawn = exportableStore({
  ...{ seed: 11, taskCount: 12, categoryRowCounts: [9, 5], bags: [{ rowCount: 6, lengthMax: 3 }] },
  ...{ numberCount: 1, losses: [...LOSSES], counts: true },
});

/** All rows of a task have the attributes of its first row. */
function withAttributes(task: TaskRows): TaskRows {
  const repeated = <Values extends Int32Array | Float32Array>(values: Values): Values => {
    const width = values.length / task.rowCount;
    for (let place = width; place < values.length; place += 1)
      values[place] = at(values, place % width);
    return values;
  };
  return {
    ...task,
    categoryIds: task.categoryIds.map((ids, place) => (place === 1 ? repeated(ids.slice()) : ids)),
    bagIds: task.bagIds.map((ids) => repeated(ids.slice())),
    numbers: task.numbers.map((values) => repeated(values.slice())),
  };
}
const STORE = {
  ...drawn,
  readTasks: async (indices: readonly number[]) =>
    (await drawn.readTasks(indices)).map(withAttributes),
};

const tower = { kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [5, 4] };
const attributes = ['category1', 'number0', 'bag0'];
const head = { ...tower, adgroupEmbedding: true, personal: ['bias', 'adgroupEmbedding', 'output'] };
const generating = { ...tower, generated: 'category0', personal: [] };
const CASES = [
  { model: head, method: { kind: 'global' } },
  { model: head, method: { kind: 'fomaml', innerSteps: 1, innerRate: 0.2 } },
  { model: { ...tower, personal: ['bias', 'output'] }, method: { kind: 'posterior' } },
  { model: generating, method: { kind: 'meta-embedding', attributes } },
  {
    model: { ...generating, padding: 'trained' },
    method: { kind: 'meta-embedding', attributes: ['bag0'] },
  },
  { model: head, method: { kind: 'paml-gate', attributes, preferenceWidth: 3 } },
];

const room = openedOnce(() => exportRoom(() => STORE));

test('every method has a case', () => {
  expect(new Set(CASES.map(({ method }) => method.kind))).toEqual(new Set(METHODS.kinds()));
});

// Seen to fail: block 0 of unknown attributes, the first label for every segment.
test.each(CASES)('$method.kind', async ({ model, method }) => {
  const config = exportableConfig(STORE, { model, method });
  const source = exportSource(config, STORE);
  const objects = new MemoryObjectStore();
  const { digest } = await room.exported(source, objects);
  const exported = await loadedBundle(objects, digest);
  const { manifest } = exported;
  const segments = manifest.labels.map((label, place) => ({ ...label, segment: `shop ${place}` }));
  const loaded = {
    ...exported,
    manifest: { ...manifest, segmentColumn: 'shop', labels: segments },
  };
  const bundle = new ServedBundle({ digest, loaded, addon: await compiledAddon() });
  let wave = 0;
  for (const labelIndex of LOSSES.keys()) {
    const taskIndices = STORE.tasks
      .filter((task) => task.labelIndex === labelIndex)
      .map(({ taskIndex }) => taskIndex);
    const divided = dividedStore(source.run.store, taskIndices, { by: 'shots', supportRowsMax: 0 });
    const context = {
      ...{ ...source.run, ...divided, dispatcher: room.dispatcher(), runId: 'predict' },
      ...{ signal: room.caller.signal, nextWave: () => wave++ },
      ...{ onTasksDone: () => undefined, onBackend: () => undefined },
    };
    const { logits } = await predictLogits(context, {
      ...{ parameters: source.parameters, method: config.method, taskIndices },
      ...{ adaptations: [UNADAPTED], role: 'query', keep: [0] },
    });
    const rows = (await STORE.readTasks(taskIndices)).flatMap((task) =>
      Array.from({ length: task.rowCount - task.supportRowCount }, (_, row) =>
        rawRow(task, task.supportRowCount + row),
      ),
    );
    const candidates = rows.map((features, row) => ({
      adgroup: `new ${row}`,
      features: { ...features, shop: `shop ${labelIndex}` },
    }));
    const body = Buffer.from(JSON.stringify({ context: {}, candidates }));
    const { scores, labels } = bundle.estimates(parseRankingBody(body));
    const { loss, ...label } = at(manifest.labels, labelIndex);
    const [mean, deviation] = 'mean' in label ? [label.mean, label.deviation] : [0, 1];
    expect(loss).toBe(LOSSES[labelIndex]);
    expect([...labels]).toEqual(rows.map(() => labelIndex));
    for (const [row, predicted] of at(logits, 0).entries())
      expect(Math.abs(mean + deviation * at(scores, row) - predicted)).toBeLessThan(1e-5);
    // A part of the features moves scores, or the case shows nothing.
    expect(new Set(scores).size).toBeGreaterThan(1);
    const sent = [...scores];
    bundle.catalog = new Catalog();
    for (const [row, attributes] of rows.entries())
      bundle.catalog.apply({
        ...{ adgroup: `new ${row}`, state: 'active', segment: `shop ${labelIndex}`, attributes },
      });
    const named = candidates.map(({ adgroup }) => ({ adgroup }));
    const alone = Buffer.from(JSON.stringify({ context: {}, candidates: named }));
    const known = bundle.estimates(parseRankingBody(alone));
    expect([...known.scores]).toEqual(sent);
    expect([...known.labels]).toEqual(rows.map(() => labelIndex));
    bundle.catalog = null;
  }
});

function rawRow(task: TaskRows, row: number): Record<string, unknown> {
  const valueOf = (name: string, id: number): string | null => (id === 0 ? null : `${name}-${id}`);
  return {
    ...Object.fromEntries(
      task.categoryIds.map((ids, place) => [
        `category${place}`,
        valueOf(`category${place}`, at(ids, row)),
      ]),
    ),
    bag0: [...at(task.bagIds, 0).slice(3 * row, 3 * row + 3)]
      .filter((id) => id >= 0)
      .map((id) => valueOf('bag0', id) ?? 'a value that nobody knows'),
    number0: at(at(task.numbers, 0), row),
  };
}
