/**
 * The arms of the bench on dbook. Settings are first ones, not yet chosen by validation users: the
 * networks overfit with them.
 */

import type { Arm } from './trained-arm.js';

const NETWORK = { kind: 'mlp', embeddingWidth: 32, hiddenWidths: [64, 64] };
const PERSONAL = ['bias', 'layer1', 'output'];
const STEPS = { innerSteps: 3, innerRate: 0.1 };
const TRAINING = {
  outerSteps: 300,
  weightDecay: 0.03,
  optimizer: { kind: 'adam', rate: 0.002 },
  schedule: { decay: 'linear' },
};
/** Additive effects of book, publisher, author and year, and the user's level by evidence. */
const EFFECTS = { kind: 'logistic', hiddenWidths: [], personal: ['bias'] };
const LEVEL = { innerSteps: 1, innerRate: 0.01 };

export const ARMS: readonly Arm[] = [
  {
    name: 'network, one for all',
    model: { ...NETWORK, personal: PERSONAL },
    method: { kind: 'global' },
    training: TRAINING,
    ...{ innerSteps: 0, innerRate: 1 },
  },
  {
    name: 'first-order MAML',
    model: { ...NETWORK, personal: PERSONAL },
    method: { kind: 'fomaml', ...STEPS },
    training: TRAINING,
    ...STEPS,
  },
  {
    name: 'gate',
    model: { ...NETWORK, personal: PERSONAL },
    method: { kind: 'paml-gate', ...STEPS },
    training: TRAINING,
    ...STEPS,
  },
  {
    name: 'gate and level shift',
    model: { ...NETWORK, personal: PERSONAL },
    method: { kind: 'paml-gate', ...STEPS, levelShift: true },
    training: TRAINING,
    ...STEPS,
  },
  {
    name: 'additive effects and level shift',
    model: EFFECTS,
    method: { kind: 'fomaml', ...LEVEL, levelShift: true, coldShare: 0.3 },
    training: { ...TRAINING, outerSteps: 300, optimizer: { kind: 'adam', rate: 0.01 } },
    ...LEVEL,
  },
];
