/**
 * Our side of the generator's bench as a long-lived process, started by the runner:
 *
 *   node dist/test/bench/generator/generator-side.js '{"folder":...,"cell":...,"variant":...}'
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { systemClock } from '../../../shared/clock.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import {
  SideArgumentsSchema,
  SideCommandSchema,
  type SideReply,
} from '../inner-loops/side-protocol.js';
import { timeRepeatedly } from '../inner-loops/time-repeatedly.js';
import { createGeneratorStep, STEP_VARIANTS } from './generator-steps.js';
import { storeFolder, tasksPerStepOf } from './generator-workload.js';

const startMs = systemClock.monotonicMs();
const parameters = SideArgumentsSchema.parse(JSON.parse(process.argv[2] ?? ''));
const variant = STEP_VARIANTS.find((name) => name === parameters.variant);
if (variant === undefined) throw new Error(`there is no variant ${parameters.variant}`);
const engine = await loadEngine('tensorflow', (message) => console.error(message));
const store = await openTaskStore(storeFolder(parameters.folder), {});
const step = await createGeneratorStep(engine, store, tasksPerStepOf(parameters.cell), variant);

function send(reply: SideReply): void {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

function check(folder: string): SideReply {
  const beganMs = systemClock.monotonicMs();
  step.run(0);
  const firstStepMs = systemClock.monotonicMs() - beganMs;
  writeFileSync(join(folder, 'generator.bin'), step.weight());
  return { kind: 'checked', otherRowsChanged: 0, firstStepMs };
}

send({
  kind: 'ready',
  versions: { engine: engine.description, node: process.version },
  startMs: systemClock.monotonicMs() - startMs,
});
let batchIndex = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const command = SideCommandSchema.parse(JSON.parse(line));
  if (command.kind === 'end') break;
  try {
    if (command.kind === 'check') send(check(command.folder));
    else
      send({
        kind: 'timed',
        ...timeRepeatedly(command.durationMs, () => {
          step.run(batchIndex);
          batchIndex += 1;
        }),
      });
  } catch (error) {
    send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
}
// The native library's threads would keep the process.
process.exit(0);
