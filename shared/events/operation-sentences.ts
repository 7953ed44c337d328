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
} satisfies Sentences<'outer-step-timed' | keyof typeof OPERATION_SHAPES>;
