/**
 * The arms of the bench on dbook, with settings chosen on validation users. `npm run bench:dbook --
 * --validate` shows the validation scores of each during training.
 */

import type { Arm } from './trained-arm.js';

/**
 * The features of networks. Books themselves are left out, because few users have rated each.
 * Values with few ratings share one embedding, which is also used for new values.
 */
const NETWORK_FEATURES = { publisher: 5, author: 5, year: 5, location: 10 };
const NETWORK_MODEL = {
  ...{ kind: 'mlp', embeddingWidth: 32, hiddenWidths: [64, 64], embeddingDeviation: 0.01 },
  personal: ['bias', 'layer1', 'output'],
};
const INNER_STEPS = { innerSteps: 3, innerRate: 0.1 };
const NETWORK = {
  features: NETWORK_FEATURES,
  model: NETWORK_MODEL,
  training: { weightDecay: 1, optimizer: { kind: 'adam', rate: 0.001 } },
  outerSteps: { every: 25, most: 200 },
  adaptation: INNER_STEPS,
};

/** How the user's other ratings of an author or publisher deviate from the user's level. */
const OWN_TASTE = { targetEncodings: ['author', 'publisher'], smoothing: 3 };

/**
 * A linear weight for each value. With small steps and early stopping, few steps reach the weight
 * of a rare value, which acts like a prior.
 */
const EFFECTS_STEP = { innerSteps: 1, innerRate: 0.01 };
const EFFECTS = {
  features: { book: 1, publisher: 1, author: 1, year: 1 },
  model: { kind: 'logistic', hiddenWidths: [], personal: [] },
  training: { optimizer: { kind: 'adam', rate: 0.003 } },
  outerSteps: { every: 20, most: 400 },
  adaptation: EFFECTS_STEP,
};
/** The user's own deviations for an author and a publisher, shrunk by their evidence. */
const OWN_SHIFTS = { features: ['author', 'publisher'] };

export const GATES = ['gate', 'gate, level shift', 'gate, level shift, support inputs'] as const;
export const BEST = 'additive effects, level and value shifts';

export const ARMS: readonly Arm[] = [
  {
    ...{ ...NETWORK, name: 'one network, 10 finetuning steps' },
    method: { kind: 'global' },
    adaptation: { innerSteps: 10, innerRate: 0.1 },
  },
  { ...NETWORK, name: 'first-order MAML', method: { kind: 'fomaml', ...INNER_STEPS } },
  { ...NETWORK, name: GATES[0], method: { kind: 'paml-gate', ...INNER_STEPS } },
  {
    ...{ ...NETWORK, name: GATES[1] },
    method: { kind: 'paml-gate', ...INNER_STEPS, levelShift: true },
  },
  {
    ...{ ...NETWORK, name: GATES[2] },
    model: { ...NETWORK_MODEL, supportInputs: OWN_TASTE },
    method: { kind: 'paml-gate', ...INNER_STEPS, levelShift: true },
  },
  {
    ...{ ...EFFECTS, name: 'additive effects, level shift' },
    method: { kind: 'fomaml', ...EFFECTS_STEP, levelShift: true },
  },
  {
    ...{ ...EFFECTS, name: BEST },
    method: { kind: 'fomaml', ...EFFECTS_STEP, levelShift: OWN_SHIFTS },
  },
];

/**
 * The features by which users are alike and which the network does not read, with their minimum
 * counts in a store.
 */
const LIKENESS = { book: 1, friends: 32 };
/** Its table stays at its initial values. */
const UNREAD = { kind: 'uniform', bound: 1e-12 };
const READ = Object.keys(NETWORK_FEATURES);
const LEARNED = ['bias', 'layer0', 'layer1', 'output', 'preference', 'attention', 'gate'];

function neighboursBy(feature: keyof typeof LIKENESS): Arm {
  return {
    ...{ ...NETWORK, name: `neighbours by ${feature}` },
    features: { ...NETWORK_FEATURES, [feature]: LIKENESS[feature] },
    model: { ...NETWORK_MODEL, initialisation: { tables: { [feature]: UNREAD } } },
    training: { ...NETWORK.training, trainable: [...READ, ...LEARNED] },
    method: { kind: 'paml-gate', ...INNER_STEPS, features: READ, neighbours: { feature } },
  };
}

/** The gate with neighbours: `npm run bench:dbook -- --arms neighbours`; not recorded. */
export const NEIGHBOUR_ARMS: readonly Arm[] = [
  {
    ...{ ...NETWORK, name: 'neighbours by author' },
    method: { kind: 'paml-gate', ...INNER_STEPS, neighbours: { feature: 'author' } },
  },
  neighboursBy('book'),
  neighboursBy('friends'),
];
