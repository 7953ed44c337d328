/** The runs on the synthetic log: every method and model, both orders, and variants that take other code paths. */

import { type RunDepartures } from './world-run.js';

export interface WorldCase extends RunDepartures {
  readonly name: string;
  /** The run is in process if absent. */
  readonly workers?: number;
  /** A run that is trained first and that `training.startFrom` names. */
  readonly base?: RunDepartures;
  /** True if per-row predictions are recorded. */
  readonly predicts?: boolean;
}

const STEPS = { innerSteps: 2, innerRate: 0.3 };
/** The kind is a plugin's. */
const MAML = { kind: 'maml', ...STEPS };
const ATTRIBUTES = ['advertiser', 'category', 'brand'];
const GENERATED = { adgroupEmbedding: false, generated: 'adgroup', personal: [] };

export const METHOD_CASES: readonly WorldCase[] = [
  { name: 'fomaml', method: { kind: 'fomaml', ...STEPS } },
  { name: 'fomaml-cold', method: { kind: 'fomaml', ...STEPS, coldShare: 0.3 } },
  { name: 'maml', method: MAML },
  { name: 'maml-cold', method: { ...MAML, coldShare: 0.3 } },
  { name: 'paml-gate', method: { kind: 'paml-gate', ...STEPS, attributes: ['category'] } },
  {
    name: 'posterior',
    model: { interactions: 'by-field', adgroupEmbedding: false, personal: ['bias', 'output'] },
    method: { kind: 'posterior' },
    training: { rowsPerOuterStep: 400, taskWeight: 'examples' },
  },
  { name: 'global', method: { kind: 'global' } },
  {
    name: 'meta-embedding',
    model: GENERATED,
    base: { model: GENERATED, method: { kind: 'global' } },
    method: { kind: 'meta-embedding', attributes: ATTRIBUTES, innerRate: 0.1 },
  },
  {
    name: 'level-alone',
    model: { adgroupEmbedding: false, personal: ['bias'] },
    method: { kind: 'posterior', inputMeans: false },
  },
];

const NO_LAYERS = { hiddenWidths: [], adgroupEmbedding: false, personal: ['bias'] };

/** These runs use second-order MAML, which differentiates twice through a model. */
export const MODEL_CASES: readonly WorldCase[] = [
  { name: 'deepfm', model: { kind: 'deepfm', hiddenWidths: [8, 6], personal: 'all' } },
  {
    name: 'deepfm-by-field',
    model: {
      ...{ kind: 'deepfm', interactions: 'by-field', factorisedFields: ['user', 'city', 'brand'] },
      ...{ adgroupEmbedding: false, personal: 'anil', linear: false, padding: 'trained' },
    },
  },
  {
    name: 'support-inputs',
    model: {
      personal: 'boil',
      supportInputs: { clickRate: true, count: true, targetEncodings: ['user'] },
    },
  },
  {
    name: 'numbers-glorot',
    model: {
      personal: ['numbers', 'bias'],
      adgroupEmbedding: false,
      initialisation: {
        layers: 'glorot-uniform',
        tables: { city: { kind: 'uniform', bound: 0.1 }, brand: { kind: 'glorot-uniform' } },
      },
    },
  },
  { name: 'mlp', model: { kind: 'mlp', personal: 'all' } },
  { name: 'logistic', model: { kind: 'logistic', ...NO_LAYERS } },
  { name: 'fm', model: { kind: 'fm', ...NO_LAYERS } },
  {
    name: 'fwfm',
    model: { kind: 'fwfm', hiddenWidths: [], adgroupEmbedding: false, personal: 'all' },
  },
  { name: 'wide-deep', model: { kind: 'wide-deep', wideFields: ['user', 'digits'] } },
  { name: 'ipnn', model: { kind: 'ipnn', personal: 'all' } },
  { name: 'opnn', model: { kind: 'opnn', personal: 'all' } },
  { name: 'pnn', model: { kind: 'pnn', personal: 'all' } },
  { name: 'pnn-by-field', model: { kind: 'pnn', interactions: 'by-field' } },
  { name: 'dcn-v2', model: { kind: 'dcn-v2', crossLayers: 2, personal: 'all' } },
  {
    name: 'dcn-v2-stacked',
    model: { kind: 'dcn-v2', crossLayers: 2, crossRank: 2, crossTower: 'stacked', personal: 'all' },
  },
].map((each) => ({ method: MAML, ...each }));

export const OTHER_CASES: readonly WorldCase[] = [
  {
    name: 'all-arms-and-protocols',
    predicts: true,
    evaluation: {
      oracleColumn: 'p_true',
      arms: [
        ...['constant', 'global', 'global-shift', 'finetuned'],
        ...['meta-unadapted', 'meta-adapted', 'meta-chosen'],
      ],
      shots: [0, 2, 5],
    },
  },
  { name: 'workers-maml', workers: 2, method: MAML },
  {
    name: 'workers-gate',
    workers: 2,
    method: { kind: 'paml-gate', ...STEPS, attributes: ['category'] },
  },
];
