/**
 * Our side of the generator's bench as a long-lived process, started by the runner:
 *
 *   node dist/test/bench/generator/generator-side.js '{"folder":...,"cell":...,"variant":...}'
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../../shared/base/clock.js';
import { collectGarbageRarely } from '../../../shared/base/garbage-collection.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { serveSide } from '../inner-loops/sides/serve-side.js';
import { SideArgumentsSchema, type Checked } from '../inner-loops/sides/side-protocol.js';
import { createGeneratorStep, STEP_VARIANTS } from './generator-steps.js';
import { storeFolder, tasksPerStepOf } from './generator-workload.js';

// A compute process does the same.
collectGarbageRarely();
const startMs = systemClock.monotonicMs();
const parameters = SideArgumentsSchema.parse(JSON.parse(process.argv[2] ?? ''));
const variant = STEP_VARIANTS.find((name) => name === parameters.variant);
if (variant === undefined) throw new Error(`there is no variant ${parameters.variant}`);
const engine = await loadEngine('tensorflow', (message) => console.error(message));
const store = await openTaskStore(storeFolder(parameters.folder), {});
const step = await createGeneratorStep(engine, store, tasksPerStepOf(parameters.cell), variant);

function check(folder: string): Checked {
  const beganMs = systemClock.monotonicMs();
  step.run(0);
  const firstStepMs = systemClock.monotonicMs() - beganMs;
  writeFileSync(join(folder, 'generator.bin'), step.weight());
  return { kind: 'checked', otherRowsChanged: 0, firstStepMs };
}

await serveSide({
  ...{ startMs, check, step: step.run },
  engineDescription: engine.description,
});
