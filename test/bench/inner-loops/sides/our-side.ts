/**
 * Our side of the inner-loop benchmark as a long-lived process, started by the runner:
 *
 *   node dist/test/bench/inner-loops/sides/our-side.js '{"folder":...,"cell":...}'
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { median } from '../../../../shared/base/arrays.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { loadEngine } from '../../../../worker/compute/engine/load-engine.js';
import { writeTouchedRows } from './accuracy.js';
import { cellOfName } from './cells.js';
import { createOurMetaStep } from './our-meta-step.js';
import {
  layerNames,
  SideArgumentsSchema,
  type Checked,
  SideCommandSchema,
  type SideReply,
  type Timed,
} from './side-protocol.js';
import { readWorkloads } from './workload-data.js';

function send(reply: SideReply): void {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

const startMs = systemClock.monotonicMs();
const parameters = SideArgumentsSchema.parse(JSON.parse(process.argv[2] ?? ''));
const cell = cellOfName(parameters.cell);
const arrays = readWorkloads(parameters.folder);
const engine = await loadEngine('tensorflow', (message) => console.error(message));
const step = createOurMetaStep(engine, arrays, cell);

function check(folder: string): Checked {
  const before = step.table === null ? null : Float32Array.from(step.table());
  const beganMs = systemClock.monotonicMs();
  step.run(0);
  const firstStepMs = systemClock.monotonicMs() - beganMs;
  const names = layerNames(arrays.description.workloads[cell.workload].widths);
  for (const [index, values] of step.layers().entries())
    writeFileSync(join(folder, `${names[index] ?? ''}.bin`), values);
  const otherRowsChanged =
    before === null || step.table === null
      ? 0
      : writeTouchedRows(folder, arrays, { before, after: step.table() }, cell.workload);
  return { kind: 'checked', otherRowsChanged, firstStepMs };
}

const REPEAT_COUNT_MIN = 3;
let stepCount = 0;

function takeStep(): void {
  step.run(stepCount);
  stepCount += 1;
}

/** The first step is not counted. It refills caches that another process may have evicted. */
function timed(durationMs: number): Timed {
  takeStep();
  const times: number[] = [];
  const cpuBefore = process.cpuUsage();
  const beganMs = systemClock.monotonicMs();
  let endMs = beganMs;
  while (times.length < REPEAT_COUNT_MIN || endMs - beganMs < durationMs) {
    takeStep();
    const nextMs = systemClock.monotonicMs();
    times.push(nextMs - endMs);
    endMs = nextMs;
  }
  const cpu = process.cpuUsage(cpuBefore);
  return {
    kind: 'timed',
    ...{ medianMs: median(times), minMs: Math.min(...times), stepCount: times.length },
    ...{ wallMs: endMs - beganMs, cpuMs: (cpu.user + cpu.system) / 1000 },
    residentMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
}

send({
  kind: 'ready',
  versions: { engine: engine.description, node: process.version },
  startMs: systemClock.monotonicMs() - startMs,
});
for await (const line of createInterface({ input: process.stdin })) {
  const command = SideCommandSchema.parse(JSON.parse(line));
  if (command.kind === 'end') break;
  try {
    send(command.kind === 'check' ? check(command.folder) : timed(command.durationMs));
  } catch (error) {
    send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
}
step.dispose();
// The threads of the native library would keep the process alive.
process.exit(0);
