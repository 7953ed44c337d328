/** An export with the graphs that another process has kept: the same bundle, and nothing is recorded again. */

import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
} from '../../fixtures/bundle/tiny-export.js';

const store = exportableStore({ taskCount: 9, categoryRowCounts: [7, 4], hasEmptySets: true });
const config = exportableConfig(store, {
  model: { kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [5] },
  method: { kind: 'maml', innerSteps: 3, innerRate: 0.2 },
});

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qianmo-kept-graphs-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The digest of the bundle that a process exports. */
async function exportedBy(environment: Readonly<Record<string, string>>): Promise<string> {
  const room = await exportRoom(() => store, environment);
  const exported = await room.exported(exportSource(config, store), new MemoryObjectStore());
  await room.close();
  return exported.digest;
}

/** The kept graphs by name, each with the number of its file: a graph that is kept anew has another. */
function keptGraphs(): ReadonlyMap<string, number> {
  const graphs = join(folder, 'qianmo/graphs');
  return new Map(readdirSync(graphs).map((name) => [name, statSync(join(graphs, name)).ino]));
}

test('graphs of adaptation, scoring and probe are kept, and give the same bundle', async () => {
  const cache = { XDG_CACHE_HOME: folder };
  const recorded = await exportedBy({});
  expect(await exportedBy(cache)).toBe(recorded);
  const kept = keptGraphs();
  // The probe; the start and the step of tasks; the trunk pass and the logits of rows.
  expect(kept.size).toBeGreaterThanOrEqual(5);
  expect(await exportedBy(cache)).toBe(recorded);
  expect(keptGraphs()).toEqual(kept);
});
