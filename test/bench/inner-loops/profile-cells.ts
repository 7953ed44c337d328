/**
 * Prints a profile of our side. Build, then
 *
 *   TF_ENABLE_ONEDNN_OPTS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=-1 \
 *     OMP_NUM_THREADS=1 taskset -c 0 \
 *     node dist/test/bench/inner-loops/profile-cells.js W1.first.1,W2.second.5 captured,rewritten
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { cellName, cellOfName, CELLS } from './sides/cells.js';
import { createOurMetaStep, OUR_VARIANTS } from './sides/our-meta-step.js';
import { profileByOp, profileGraph, profileText } from './profile-graph.js';
import { timeRepeatedly } from './sides/time-repeatedly.js';
import { readWorkloads, writeWorkloads } from './sides/workload-data.js';

const TIME_PER_CELL_MS = 1000;
const [, , cellNames, variantNames = 'rewritten', linesMax = '25'] = process.argv;
const cells = cellNames === undefined ? CELLS : cellNames.split(',').map(cellOfName);
const variants = OUR_VARIANTS.filter((name) => variantNames.split(',').includes(name));
const folder = mkdtempSync(join(tmpdir(), 'qianmo-workloads-'));
try {
  writeWorkloads(folder);
  const arrays = readWorkloads(folder);
  const engine = await loadEngine('tensorflow', (message) => console.error(message));
  for (const cell of cells)
    for (const variant of variants) {
      const step = createOurMetaStep(engine, arrays, cell, variant);
      let batchIndex = 0;
      const { medianMs, minMs } = timeRepeatedly(TIME_PER_CELL_MS, () => {
        step.run(batchIndex);
        batchIndex += 1;
      });
      const { taskCount } = arrays.description.workloads[cell.workload];
      console.log(
        `\n${cellName(cell)} ${variant}: ${medianMs.toFixed(2)} ms per step (minimum ` +
          `${minMs.toFixed(2)}), ${Math.round((1000 * taskCount) / medianMs)} tasks/s`,
      );
      const graph = step.graphFor(0);
      if (graph !== null) {
        const profile = profileGraph(engine, graph.graph, graph.feeds);
        console.log(profileText({ ...profile, lines: profile.lines.slice(0, Number(linesMax)) }));
        const byOp = profileByOp(profile).map(
          ({ op, count, totalMs }) => `${op} ${count} x, ${totalMs.toFixed(2)} ms`,
        );
        console.log(byOp.join('; '));
      }
      step.dispose();
    }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
