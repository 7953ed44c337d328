/** Starts a call of the library on this machine, in its environment. */

import type { RunContext } from '../../coordinator/runs/call/run-context.js';
import {
  startRun,
  type CallOptions,
  type RunHandle,
  type Surroundings,
} from '../../coordinator/runs/call/run-handle.js';
import { systemClock } from '../../shared/base/clock.js';
import { localMachine } from './local-machine.js';

export function start<Result>(
  options: CallOptions,
  carryOut: (context: RunContext) => Promise<Result>,
): RunHandle<Result> {
  return startRun(surroundingsOf(options), options, carryOut);
}

/** The only place of the library that reads the environment of the process. */
export function surroundingsOf({ environment = process.env }: CallOptions): Surroundings {
  return { machine: localMachine, clock: systemClock, environment };
}
