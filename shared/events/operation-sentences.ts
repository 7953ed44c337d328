/** The events that operation is watched by, in words. */

import { counted } from '../names/counted.js';
import { STEP_PHASES } from './event-kinds.js';
import type { OPERATION_SHAPES } from './kinds/operation-kinds.js';
import { detail, notice, warning, type Sentences } from './sentence.js';

export const OPERATION_SENTENCES = {
  'outer-step-timed': ({ outerStep, phasesMs }) => {
    const phases = STEP_PHASES.map((phase) => `${phase} ${Math.round(phasesMs[phase])}`);
    return detail(`outer step ${outerStep} in milliseconds: ${phases.join(', ')}`);
  },
  'workers-wanted': ({ device, workerCount }) =>
    detail(`${counted(workerCount, 'worker')} on ${device.toUpperCase()} could take part`),
  'metrics-served': ({ url }) => notice(`metrics: ${url}/metrics`),
  'traces-failed': ({ address, reason }) =>
    warning(`traces cannot be sent to ${address} (${reason}); the work continues without them`),
  'in-process-faster': ({ workerCount, waitedMs, computeMs }) =>
    notice(
      `outer steps waited ${seconds(waitedMs)} for ${counted(workerCount, 'worker')}, and one process would compute the same jobs in ` +
        `about ${seconds(computeMs)}: adding --in-process would be faster`,
    ),
} satisfies Sentences<'outer-step-timed' | 'in-process-faster' | keyof typeof OPERATION_SHAPES>;

const MS_PER_SECOND = 1000;

function seconds(durationMs: number): string {
  return `${(durationMs / MS_PER_SECOND).toFixed(1)} s`;
}
