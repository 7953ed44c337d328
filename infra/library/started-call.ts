/** Starts a call of the library on this machine, in its environment. */

import { rowAddon } from '#bootstrap/tables/row-addon.mjs';
import type { RunContext } from '../../coordinator/runs/call/run-context.js';
import {
  startRun,
  type CallOptions,
  type RunHandle,
  type Surroundings,
} from '../../coordinator/runs/call/run-handle.js';
import { systemClock } from '../../shared/base/clock.js';
import type { MetricSource } from '../../shared/metrics/metric-definition.js';
import { loadNativeRows } from '../../shared/tensors/native-rows.js';
import { localMachine } from './local-machine.js';
import { packageVersion } from './package-root.js';

export function start<Result>(
  options: CallOptions,
  carryOut: (context: RunContext) => Promise<Result>,
  source: MetricSource = 'coordinator',
): RunHandle<Result> {
  return startRun({ ...surroundingsOf(options), source }, options, carryOut);
}

/** The only place of the library that reads the environment of the process, and loads what this machine has compiled. */
export function surroundingsOf({
  environment = process.env,
  ownEnvironment,
}: CallOptions): Surroundings {
  loadNativeRows(rowAddon.path());
  return {
    ...{ machine: localMachine, clock: systemClock, version: packageVersion },
    ...{ environment, ownEnvironment },
  };
}
