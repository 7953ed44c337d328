/** `qianmo pause`, `resume`, `cancel` and `extend`: give orders to a run from any machine, through its queue. */

import { cancel, extend, pause, resume, type ControlResult } from '../../library/index.js';
import { callOptionsOf, type CommandContext } from '../command/command-context.js';
import { format, prefix, redisOfQueue } from '../command/shared-options.js';
import { firstOf, textValue, valueOption, verb } from '../command/verb.js';

const argument = {
  name: '<run>',
  description: 'the name of a run that is being computed: `run` in its config',
} as const;
const options = { redis: redisOfQueue, prefix, format };

export const pauseVerb = verb({
  name: 'pause',
  description: 'let the outer step of a run end, and send no more jobs until it is resumed',
  argument,
  options,
  help: `
The coordinator stays and keeps the run. Workers serve other runs of the queue meanwhile.
Example:
  qianmo pause movielens --redis redis://10.0.0.5:6379`,
  run: async (operands, { format, ...queue }, context) => {
    printed(
      await pause({ run: firstOf(operands), ...queue }, callOptionsOf(context)),
      format,
      context,
    );
  },
});

export const resumeVerb = verb({
  name: 'resume',
  description: 'let a paused run go on',
  argument,
  options,
  help: `
A run whose coordinator has ended is continued with \`train --resume\` instead.
Example:
  qianmo resume movielens --redis redis://10.0.0.5:6379`,
  run: async (operands, { format, ...queue }, context) => {
    printed(
      await resume({ run: firstOf(operands), ...queue }, callOptionsOf(context)),
      format,
      context,
    );
  },
});

export const cancelVerb = verb({
  name: 'cancel',
  description: 'stop a run so that it can be continued later',
  argument,
  options,
  help: `
The last complete outer step is written, and the coordinator ends with exit code 5, so that no cluster starts it again.
The command waits for that, up to 16 s. It ends with exit code 1 if the run finished before the order took effect.
Examples:
  qianmo cancel movielens --redis redis://10.0.0.5:6379
  qianmo train movielens.yaml --resume`,
  run: async (operands, { format, ...queue }, context) => {
    printed(
      await cancel({ run: firstOf(operands), ...queue }, callOptionsOf(context)),
      format,
      context,
    );
  },
});

export const extendVerb = verb({
  name: 'extend',
  description: 'give a run that is being trained more outer steps',
  argument,
  options: {
    ...options,
    outerSteps: valueOption(
      '--outer-steps <number>',
      'the number of outer steps altogether, or +N for N more than the run has',
      textValue,
      { isRequired: true },
    ),
  },
  help: `
The run ends as one whose config had this number from the start. Checkpoints record it, so that \`train --resume\` with
the old config knows. A run with a curriculum or a decaying rate cannot be extended.
Examples:
  qianmo extend movielens --outer-steps +200 --redis redis://10.0.0.5:6379
  qianmo extend movielens --outer-steps 1000 --format json --redis redis://10.0.0.5:6379`,
  run: async (operands, { format, ...order }, context) => {
    printed(
      await extend({ run: firstOf(operands), ...order }, callOptionsOf(context)),
      format,
      context,
    );
  },
});

const STATES: Readonly<Record<ControlResult['state'], string>> = {
  running: 'is running',
  pausing: 'pauses when its outer step has ended',
  paused: 'is paused',
  stopping: 'is stopping',
  ended: 'has stopped',
};

function printed(result: ControlResult, format: 'table' | 'json', { print }: CommandContext): void {
  const { run, state, outerStep, outerSteps, coordinator } = result;
  const steps = outerStep === null ? '' : ` after outer step ${outerStep} of ${outerSteps ?? '?'}`;
  const where = `process ${coordinator.pid} on ${coordinator.host}`;
  print(
    format === 'json' ? JSON.stringify(result) : `run ${run} ${STATES[state]}${steps} (${where})`,
  );
}
