// Two thousand captured calls of changing shapes leave nothing behind.

import { expect, test } from 'vitest';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { leftoversOf, soak } from '../../fixtures/compute/capture-soak.js';

test('no tensor, native handle, graph or folder is left', async () => {
  const engine = await loadEngine('tensorflow', () => undefined);
  expect(soak(engine, { callCount: 2000, callsPerShape: 250 })).toBe(2);
  expect(leftoversOf(engine)).toEqual({
    tensorCount: 0,
    dataCount: 0,
    handleCount: 0,
    graphCount: 0,
    folderCount: 0,
  });
});
