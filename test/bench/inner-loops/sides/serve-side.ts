/**
 * Our side of a benchmark as a long-lived process: reads commands and writes replies as JSON lines.
 */

import { createInterface } from 'node:readline';
import { systemClock } from '../../../../shared/base/clock.js';
import { SideCommandSchema, type Checked, type SideReply } from './side-protocol.js';
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
