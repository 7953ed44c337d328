/** The preflight: each requirement of this machine, and of a run where there is one. */

import type { z } from 'zod';
import { checkRun } from '../../coordinator/runs/check-run.js';
import { runConfigOf } from '../../coordinator/runs/config-sources.js';
import type { CheckRequestSchema } from '../../coordinator/runs/requests.js';
import type { RunContext } from '../../coordinator/runs/call/run-context.js';
import { checkMachine, type MachineCheckResult } from './check-machine.js';

export async function checkRequirements(
  request: z.output<typeof CheckRequestSchema>,
  context: RunContext,
): Promise<readonly MachineCheckResult[]> {
  const { environment } = context;
  const config =
    request.config === undefined ? null : await runConfigOf(request.config, environment);
  const compute = config?.compute ?? { device: 'auto', portable: false };
  const device = request.device === 'auto' ? compute.device : request.device;
  const results = await checkMachine({ ...compute, device }, environment);
  if (config === null) return results;
  return [...results, ...(await checkRun(config, request.redis ?? config.queue.redisUrl, context))];
}
