/**
 * The learners that are compared on sinusoids. Rates refer to the squared loss, half the squared
 * error: 0.02 here is the 0.01 of papers that step along the gradient of the squared error.
 */

export interface SinusoidArm {
  readonly name: string;
  readonly model: Readonly<Record<string, unknown>>;
  readonly method: { readonly kind: string } & Readonly<Record<string, unknown>>;
  /** The factors of a task's steps at test time. */
  readonly innerRate: number;
}

/**
 * ReLU layers of 40 and 40 over x, which are multiplied by a learned vector of width 4 and length
 * near 1.
 */
const network = {
  kind: 'mlp',
  hiddenWidths: [40, 40],
  embeddingWidth: 4,
  embeddingDeviation: 0.5,
  personal: ['bias', 'layer0', 'layer1', 'output'],
};

const context = { ...network, adgroupEmbedding: true, personal: ['adgroupEmbedding'] };

const innerRate = 0.02;
const once = { innerSteps: 1, innerRate };
/**
 * A quarter of the rate of the other learners: at that rate, and at half of it, ten steps in a row
 * diverged in training.
 */
const reptileRate = 0.005;
/** The paper's rate; its context vector takes steps of 1 along the squared error. */
const contextRate = 2;

export const FINETUNED = 'pre-train + finetune';

export const SINUSOID_ARMS: readonly SinusoidArm[] = [
  { name: FINETUNED, model: network, method: { kind: 'global' }, innerRate },
  { name: 'MAML', model: network, method: { kind: 'maml', ...once }, innerRate },
  { name: 'FOMAML', model: network, method: { kind: 'fomaml', ...once }, innerRate },
  {
    name: 'Reptile',
    model: network,
    method: { kind: 'reptile', innerSteps: 5, innerRate: reptileRate, continuesOnQuery: true },
    innerRate: reptileRate,
  },
  { name: 'Meta-SGD', model: network, method: { kind: 'meta-sgd', ...once }, innerRate },
  {
    name: 'PAML-rate',
    model: network,
    // All tasks have equally many support rows, so they differ in only one of its features, the
    // mean of their labels.
    method: { kind: 'paml-rate', ...once, order: 'second' },
    innerRate,
  },
  {
    name: 'CAVIA',
    model: context,
    method: { kind: 'cavia', innerSteps: 1, innerRate: contextRate },
    innerRate: contextRate,
  },
];
