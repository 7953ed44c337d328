/**
 * Our inner loops against JAX and PyTorch in one interleaved run, on one thread and on two cores.
 * Writes `infra/results/inner-loops.json` and `.md`.
 *
 *   npm run bench -- inner-loops --rounds 5 --run-ms 1500 --cells W1.first.1,W2.second.5
 */

import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchHeader, writeResult } from '../bench-header.js';
import { accuracyOf } from './sides/accuracy.js';
import { cellName, CELLS, cellOfName, nominalFlops } from './sides/cells.js';
import type { CellResult } from './cell-results.js';
import { measureCell } from './measure-cell.js';
import { withPeers } from './sides/peers-environment.js';
import { comparisonMarkdown, type PeerComparison } from './results-table.js';
import { launchOf, peerScript, SIDE_NAMES, variantsOf, type LaunchRoom } from './sides/sides.js';
import { readWorkloads, writeWorkloads } from './sides/workload-data.js';
import { benchOptions } from '../bench-options.js';
import {
  listOf,
  oneOf,
  outputOption,
  pythonOption,
  roundsOption,
  text,
  wholeNumber,
} from '../option-values.js';
import { scratchFolder } from '../scratch-folder.js';

const CELL_NAMES = CELLS.map(cellName);

const options = benchOptions(import.meta.url, {
  rounds: roundsOption('5'),
  'run-ms': { value: wholeNumber(), default: '1500', about: 'milliseconds of each measurement' },
  cells: {
    value: listOf(oneOf(CELL_NAMES)),
    default: CELL_NAMES.join(','),
    about: 'cells to measure, with commas between them',
  },
  sides: {
    value: listOf(oneOf(SIDE_NAMES)),
    default: SIDE_NAMES.join(','),
    about: 'sides to measure, with commas between them',
  },
  python: pythonOption,
  output: outputOption,
  folder: {
    value: text,
    default: tmpdir(),
    about: 'the folder of the workloads during this bench',
  },
});

const REFERENCE_TIMEOUT_MS = 10 * 60_000;

async function compare(room: LaunchRoom & { readonly python: string }): Promise<void> {
  const cells = options.cells.map(cellOfName);
  const folder = scratchFolder('workloads', options.folder);
  console.log('generating the workloads and their exact updates in float64');
  writeWorkloads(folder);
  const referenceFolder = join(folder, 'reference');
  const wanted = { folder, cells: cells.map(cellName), output: referenceFolder };
  execFileSync(room.python, ['-B', peerScript('reference.py'), JSON.stringify(wanted)], {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: REFERENCE_TIMEOUT_MS,
  });
  const machine = benchHeader();
  const arrays = readWorkloads(folder);
  const results: CellResult[] = [];
  for (const cell of cells) {
    const [name, shape] = [cellName(cell), arrays.description.workloads[cell.workload]];
    console.log(name);
    const measured = {
      ...{ cell: name, taskCount: shape.taskCount },
      nominalGflop: nominalFlops(shape, cell) / 1e9,
    };
    results.push(
      await measureCell(measured, {
        workloadFolder: folder,
        sides: options.sides,
        accuracyOf: (...checked) =>
          accuracyOf(arrays, cell.workload, join(referenceFolder, name), ...checked),
        variantsOf: (side) => variantsOf(side, cell.workload),
        launchOf: (side, parameters, core) => launchOf(side, parameters, core, room),
        roundCount: options.rounds,
        runMs: options['run-ms'],
        say: (text) => console.log(text),
      }),
    );
    const versions = results.flatMap(({ variants }) =>
      variants.flatMap(({ versions }) => Object.entries(versions ?? {})),
    );
    const comparison: PeerComparison = {
      ...{ machine, cells: results, versions: Object.fromEntries(versions) },
      ...{ roundCount: options.rounds, runMs: options['run-ms'] },
    };
    // Written after every cell, so that an interrupted run keeps its results.
    writeResult(options.output, 'inner-loops', comparison, comparisonMarkdown(comparison));
  }
}

await withPeers(options.python, (room) => compare({ ...room, environment: process.env }));
