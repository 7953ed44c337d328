/**
 * Our side of the inner-loop benchmark as a long-lived process, started by the runner:
 *
 *   node dist/test/bench/inner-loops/our-side.js '{"folder":...,"cell":...,"variant":...}'
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { systemClock } from '../../../../shared/base/clock.js';
import { loadEngine } from '../../../../worker/compute/engine/load-engine.js';
import { cellOfName } from './cells.js';
import { createOurMetaStep, OUR_VARIANTS, type OurMetaStep } from './our-meta-step.js';
import {
  layerNames,
  SideArgumentsSchema,
  type Checked,
  SideCommandSchema,
  type SideReply,
} from './side-protocol.js';
import { readWorkloads, type WorkloadArrays } from './workload-data.js';
import { timeRepeatedly } from './time-repeatedly.js';

interface ServedSide {
  /** Start of the process, on the monotonic clock. */
  readonly startMs: number;
  readonly engineDescription: string;
  /** Performs step `index`, counted from the start. */
  readonly step: (index: number) => void;
  /** Performs the first step and writes its results to the folder. */
  readonly check: (folder: string) => Checked;
  readonly dispose?: () => void;
}

/**
 * Serves until told to end, then ends the process, which the native library's threads would keep
 * alive.
 */
async function serveSide(side: ServedSide): Promise<never> {
  send({
    kind: 'ready',
    versions: { engine: side.engineDescription, node: process.version },
    startMs: systemClock.monotonicMs() - side.startMs,
  });
  let stepIndex = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const command = SideCommandSchema.parse(JSON.parse(line));
    if (command.kind === 'end') break;
    try {
      if (command.kind === 'check') send(side.check(command.folder));
      else
        send({
          kind: 'timed',
          ...timeRepeatedly(command.durationMs, () => {
            side.step(stepIndex);
            stepIndex += 1;
          }),
        });
    } catch (error) {
      send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    }
  }
  side.dispose?.();
  process.exit(0);
}

function send(reply: SideReply): void {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

const startMs = systemClock.monotonicMs();
const parameters = SideArgumentsSchema.parse(JSON.parse(process.argv[2] ?? ''));
const cell = cellOfName(parameters.cell);
const variant = OUR_VARIANTS.find((name) => name === parameters.variant);
if (variant === undefined) throw new Error(`there is no variant ${parameters.variant}`);
const arrays = readWorkloads(parameters.folder);
const engine = await loadEngine('tensorflow', (message) => console.error(message));
const step = createOurMetaStep(engine, arrays, cell, variant);

function check(folder: string): Checked {
  const before = step.table === null ? null : Float32Array.from(step.table());
  const beganMs = systemClock.monotonicMs();
  step.run(0);
  const firstStepMs = systemClock.monotonicMs() - beganMs;
  const names = layerNames(arrays.description.workloads[cell.workload].widths);
  for (const [index, values] of step.layers().entries())
    writeFileSync(join(folder, `${names[index] ?? ''}.bin`), values);
  const otherRowsChanged =
    before === null ? 0 : writeTouchedRows(folder, arrays, before, step, cell.workload);
  return { kind: 'checked', otherRowsChanged, firstStepMs };
}

function writeTouchedRows(
  folder: string,
  { integers, description }: WorkloadArrays,
  before: Float32Array,
  { table: currentTable }: OurMetaStep,
  workload: 'W1' | 'W2',
): number {
  const shape = description.workloads[workload].table;
  if (currentTable === null || shape === null) throw new Error(`${workload} has no table`);
  const table = currentTable();
  const { width, rowCount } = shape;
  const ids = integers(`${workload}.batch0.touchedIds`);
  const rows = new Float32Array(ids.length * width);
  const isTouched = new Uint8Array(rowCount);
  for (const [place, id] of ids.entries()) {
    rows.set(table.subarray(id * width, (id + 1) * width), place * width);
    isTouched[id] = 1;
  }
  writeFileSync(join(folder, 'touchedRows.bin'), rows);
  let changedCount = 0;
  for (let id = 0; id < rowCount; id += 1) {
    if (isTouched[id] === 1) continue;
    for (let index = id * width; index < (id + 1) * width; index += 1)
      if (table[index] !== before[index]) {
        changedCount += 1;
        break;
      }
  }
  return changedCount;
}

await serveSide({
  ...{ startMs, check, step: step.run, dispose: step.dispose },
  engineDescription: engine.description,
});
