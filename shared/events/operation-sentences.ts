/** The events that operation is watched by, in words. */

import { detail, type Sentences } from './sentence.js';
import { STEP_PHASES } from './event-kinds.js';

export const OPERATION_SENTENCES = {
  'outer-step-timed': ({ outerStep, phasesMs }) => {
    const phases = STEP_PHASES.map((phase) => `${phase} ${Math.round(phasesMs[phase])}`);
    return detail(`outer step ${outerStep} in milliseconds: ${phases.join(', ')}`);
  },
} satisfies Pick<Sentences, 'outer-step-timed'>;
