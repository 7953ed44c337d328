/**
 * Our inner loops against JAX and PyTorch in one interleaved run, on one thread and on two cores.
 * Writes `infra/results/inner-loops.json` and `.md`. Cells that are not measured are kept
 * from the file if the same kind of machine measured them.
 *
 *   npm run bench -- inner-loops --rounds 5 --run-ms 1500 --cells W1.first.1,W2.second.5
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../../infra/library/package-root.js';
import { accuracyOf } from './sides/accuracy.js';
import { cellName, CELLS, CELL_NAME, cellOfName, nominalFlops, type Cell } from './sides/cells.js';
import { versionsOf, type CellResult } from './cell-results.js';
import { broughtUpToDate, earlierCells } from './kept-cells.js';
import { machineDescription } from './machine-description.js';
import { measureCell, type MeasuredCell } from './measure-cell.js';
import { withPeers } from './sides/peers-environment.js';
import { comparisonMarkdown, type PeerComparison } from './results-table.js';
import { launchOf, peerScript, SIDE_NAMES, variantsOf, type LaunchRoom } from './sides/sides.js';
import { readWorkloads, writeWorkloads, type WorkloadShape } from './sides/workload-data.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, oneOf, text, wholeNumber } from '../options/option-values.js';

/** @param commit of the tree that is measured. */
function measuredCellOf(cell: Cell, shape: WorkloadShape, commit: string): MeasuredCell {
  return {
    ...{ cell: cellName(cell), commit },
    taskCount: shape.taskCount,
    nominalGflop: nominalFlops(shape, cell) / 1e9,
  };
}

/** A cell as an option of a bench names it: `W1.first.5`. */
const cell = text
  .regex(CELL_NAME, 'expected a workload, an order and inner steps, as in W1.first.5')
  .transform(cellOfName);

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '5',
    about: 'how often everything is measured, in turns',
  },
  'run-ms': { value: wholeNumber(), default: '1500', about: 'milliseconds of each measurement' },
  cells: {
    value: listOf(cell),
    default: CELLS.map(cellName).join(','),
    about: 'cells to measure, with commas between them',
  },
  sides: {
    value: listOf(oneOf(SIDE_NAMES)),
    default: SIDE_NAMES.join(','),
    about: 'sides to measure, with commas between them',
  },
  python: {
    value: text,
    about: 'a Python with the peers installed; by default one is created in the cache',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
  folder: {
    value: text,
    default: tmpdir(),
    about: 'the folder of the workloads during this bench',
  },
});

const REFERENCE_TIMEOUT_MS = 10 * 60_000;

async function compare(room: LaunchRoom & { readonly python: string }): Promise<void> {
  const cells = options.cells;
  const sides = SIDE_NAMES.filter((side) => options.sides.includes(side));
  const folder = mkdtempSync(join(options.folder, 'qianmo-workloads-'));
  try {
    console.log('generating the workloads and their exact updates in float64');
    writeWorkloads(folder);
    const referenceFolder = join(folder, 'reference');
    const wanted = { folder, cells: cells.map(cellName), output: referenceFolder };
    execFileSync(room.python, ['-B', peerScript('reference.py'), JSON.stringify(wanted)], {
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: REFERENCE_TIMEOUT_MS,
    });
    const machine = machineDescription();
    const arrays = readWorkloads(folder);
    const { workloads } = arrays.description;
    const earlier = earlierCells(join(options.output, 'inner-loops.json'), machine);
    const results: CellResult[] = [];
    for (const cell of cells) {
      console.log(cellName(cell));
      results.push(
        await measureCell(measuredCellOf(cell, workloads[cell.workload], machine.commit), {
          workloadFolder: folder,
          sides,
          accuracyOf: (checkFolder, otherRowsChanged) =>
            accuracyOf(
              arrays,
              cell.workload,
              checkFolder,
              join(referenceFolder, cellName(cell)),
              otherRowsChanged,
            ),
          variantsOf: (side) => variantsOf(side, cell.workload),
          launchOf: (side, parameters, core) => launchOf(side, parameters, core, room),
          roundCount: options.rounds,
          runMs: options['run-ms'],
          say: (text) => console.log(text),
        }),
      );
      // Written after every cell, so that an interrupted run keeps its results.
      writeResults({
        ...{ machine, cells: broughtUpToDate(earlier, results) },
        versions: versionsOf(results),
        roundCount: options.rounds,
        runMs: options['run-ms'],
      });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function writeResults(comparison: PeerComparison): void {
  mkdirSync(options.output, { recursive: true });
  const at = (name: string): string => join(options.output, name);
  writeFileSync(at('inner-loops.json'), `${JSON.stringify(comparison, null, 1)}\n`);
  writeFileSync(at('inner-loops.md'), comparisonMarkdown(comparison));
}

await withPeers(options.python, (room) => compare({ ...room, environment: process.env }));
