/** Our side of a benchmark as a long-lived process: reads commands and writes replies as JSON lines. */

import { createInterface } from 'node:readline';
import { systemClock } from '../../../../shared/base/clock.js';
import { SideCommandSchema, type Checked, type SideReply } from './side-protocol.js';
import { timeRepeatedly } from './time-repeatedly.js';

interface ServedSide {
  /** When the process began, on the monotonic clock. */
  readonly startMs: number;
  readonly engineDescription: string;
  /** Does step `index` from the start. */
  readonly step: (index: number) => void;
  /** Does the first step and leaves in the folder what it gave. */
  readonly check: (folder: string) => Checked;
  readonly dispose?: () => void;
}

/** Serves until told to end, and ends the process: the native library's threads would keep it. */
export async function serveSide(side: ServedSide): Promise<never> {
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
