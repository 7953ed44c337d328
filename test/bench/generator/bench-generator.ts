/**
 * The generator's training step of Meta-Embedding against PyTorch in one interleaved run, on one
 * thread and on two cores, and then as a run over the queue with two workers. Writes
 * `infra/results/generator.json` and `.md`.
 *
 *   npm run bench:generator -- --rounds 5 --run-ms 1500 --cells generator.25
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { collectGarbageRarely } from '../../../shared/base/garbage-collection.js';
import { openBenchContext } from '../bench-context.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { RELATIVE_ERROR_MAX, updateError, type Accuracy } from '../inner-loops/sides/accuracy.js';
import { versionsOf, type CellResult } from '../inner-loops/cell-results.js';
import { machineDescription } from '../inner-loops/machine-description.js';
import { measureCell } from '../inner-loops/measure-cell.js';
import { withPeers } from '../inner-loops/sides/peers-environment.js';
import type { Launch } from '../inner-loops/sides/side-process.js';
import type { SideArguments } from '../inner-loops/sides/side-protocol.js';
import { peerScript, threadEnvironment, type SideName } from '../inner-loops/sides/sides.js';
import { queueRuns } from './generator-queue.js';
import { STEP_VARIANTS } from './generator-steps.js';
import { generatorMarkdown, PLAIN, type GeneratorComparison } from './generator-table.js';
import {
  baseParameters,
  generatorCell,
  GENERATOR_CELLS,
  ROWS_PER_SET,
  tasksPerStepOf,
  writeGeneratorWorkload,
} from './generator-workload.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, oneOf, text, wholeNumber } from '../options/option-values.js';

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '5',
    about: 'how often everything is measured, in turns',
  },
  'run-ms': { value: wholeNumber(), default: '1500', about: 'milliseconds of each measurement' },
  cells: {
    value: listOf(oneOf(['', ...GENERATOR_CELLS])),
    default: generatorCell(25),
    about:
      'cells to measure, with commas between them, or none; nearly all variants of generator.100 are refused, because float32 differs too much from float64 there',
  },
  'queue-steps': {
    value: wholeNumber(0),
    default: '100',
    about: 'outer steps of each run over the queue; 0 skips these runs',
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
    about: 'the folder of the workload during this bench',
  },
});

const TORCH_VARIANTS = [
  ...['plain', 'vmap-plain', 'compile-plain'],
  ...['split', 'compile-split', 'by-task', 'compile-by-task'],
];
const OUR_SIDE = fileURLToPath(new URL('generator-side.js', import.meta.url));
const REFERENCE_TIMEOUT_MS = 5 * 60_000;
/** Forward and backward on both sets, and a second backward pass for the support set. */
const TOWER_PASSES = 6;
const WIDTHS = [1024, 128, 128, 1];

function nominalGflop(tasksPerStep: number): number {
  const perRow = WIDTHS.slice(1).reduce(
    (sum, width, layer) => sum + 2 * width * (WIDTHS[layer] ?? 0),
    0,
  );
  return (tasksPerStep * ROWS_PER_SET * TOWER_PASSES * perRow) / 1e9;
}

function accuracyOf(checkFolder: string, referenceFolder: string): Accuracy {
  const bytes = (folder: string): ArrayBuffer =>
    new Uint8Array(readFileSync(join(folder, 'generator.bin'))).buffer;
  const before = baseParameters().dense.get('generator.weight')?.values ?? new Float32Array();
  const relativeError = updateError(
    before,
    new Float32Array(bytes(checkFolder)),
    new Float64Array(bytes(referenceFolder)),
  );
  return { relativeError, tensor: 'generator', isAccurate: relativeError <= RELATIVE_ERROR_MAX };
}

function launchOf(python: string, compileCache: string) {
  return (side: SideName, parameters: SideArguments, core: number | null): Launch => {
    const text = JSON.stringify(parameters);
    const environment = {
      ...process.env,
      ...threadEnvironment(parameters.threadCount),
      TORCHINDUCTOR_CACHE_DIR: compileCache,
    };
    return side === 'ours'
      ? { command: process.execPath, args: [OUR_SIDE, text], environment, core }
      : {
          command: python,
          args: ['-B', '-W', 'ignore', peerScript('generator_side.py'), text],
          ...{ environment, core },
        };
  };
}

async function compare(python: string, compileCache: string): Promise<void> {
  const cells = options.cells.filter((cell) => cell !== '');
  const folder = mkdtempSync(join(options.folder, 'qianmo-generator-'));
  const context = openBenchContext();
  try {
    await writeGeneratorWorkload(folder);
    const machine = machineDescription();
    const results: CellResult[] = [];
    for (const cell of cells) {
      console.log(cell);
      const taskCount = tasksPerStepOf(cell);
      const referenceFolder = join(folder, 'reference', cell);
      const wanted = JSON.stringify({ folder, cell, output: referenceFolder });
      execFileSync(python, ['-B', peerScript('generator_reference.py'), wanted], {
        stdio: ['ignore', 'inherit', 'inherit'],
        timeout: REFERENCE_TIMEOUT_MS,
      });
      const { commit } = machine;
      const measured = { cell, commit, taskCount, nominalGflop: nominalGflop(taskCount) };
      results.push(
        await measureCell(measured, {
          workloadFolder: folder,
          sides: ['ours', 'torch'],
          accuracyOf: (checkFolder) => accuracyOf(checkFolder, referenceFolder),
          variantsOf: (side) => (side === 'ours' ? STEP_VARIANTS : TORCH_VARIANTS),
          launchOf: launchOf(python, compileCache),
          stays: (side, variant) => side === 'ours' || variant === PLAIN,
          roundCount: options.rounds,
          runMs: options['run-ms'],
          say: (text) => console.log(text),
        }),
      );
      writeResults({ ...comparisonOf(machine, results), queue: [] });
    }
    const stepCount = options['queue-steps'];
    const queue = stepCount === 0 ? [] : await queueRuns(folder, stepCount, context);
    writeResults({ ...comparisonOf(machine, results), queue });
  } finally {
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function comparisonOf(
  machine: GeneratorComparison['machine'],
  cells: readonly CellResult[],
): Omit<GeneratorComparison, 'queue'> {
  return {
    ...{ machine, versions: versionsOf(cells), cells },
    roundCount: options.rounds,
    runMs: options['run-ms'],
  };
}

function writeResults(comparison: GeneratorComparison): void {
  mkdirSync(options.output, { recursive: true });
  const at = (name: string): string => join(options.output, name);
  writeFileSync(at('generator.json'), `${JSON.stringify(comparison, null, 1)}\n`);
  const page = generatorMarkdown(comparison);
  writeFileSync(at('generator.md'), page);
  console.log(page);
}

// The `qianmo` command does the same.
collectGarbageRarely();
await withPeers(options.python, ({ python, compileCache }) => compare(python, compileCache));
