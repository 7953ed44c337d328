/** Records that commands leave for later ones: evaluations, which `compare` reads, and sweeps. */

import { parseRunArgument } from '../../coordinator/scoring/compare-runs.js';
import { parseReport, reportJson } from '../../coordinator/scoring/evaluation-report.js';
import { decodeTestLogits } from '../../coordinator/scoring/test-logits.js';
import { parseSweepRecord } from '../../coordinator/sweep/sweep-record.js';
import { formulaEvaluation } from '../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import type { FuzzTarget } from './fuzz-target.js';
import { mutatedBytes, mutatedJson, mutatedText } from './mutations.js';

const textOf = (input: Uint8Array): string => Buffer.from(input).toString('utf8');

const { report, testLogits } = await formulaEvaluation({ store: tinyTaskStore({ taskCount: 30 }) });
const reportValue: unknown = JSON.parse(reportJson(report));

const cell = { kind: 'inner-steps', innerSteps: 2, innerRate: 0.1 };
const score = { rungIndex: 0, outerSteps: 10, validationLogloss: 0.5, cell, metaDigest: 'a' };
const sweepRecord: unknown = {
  ...{
    formatVersion: 1,
    kind: 'sweep',
    sweep: 's',
    base: 'b',
  },
  ...{ planHash: 'p', storeDigest: 'd', criterion: 'c', loss: 'logloss' },
  rungs: [{ outerSteps: 10, trialCount: 1 }],
  trials: [
    {
      ...{ name: 't', run: 'r', output: 'o', settings: { a: 1 }, configHash: 'h' },
      scores: [score],
    },
  ],
  best: { trial: 't', validationLogloss: 0.5, cell, config: 'run: r' },
};

export const RECORD_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'evaluation-report',
    share: 0.2,
    inputOf: (stream) => Buffer.from(mutatedJson(stream, reportValue)),
    parse: (input) => parseReport(textOf(input), 'the input'),
  },
  {
    name: 'test-logits',
    share: 1,
    inputOf: (stream) => mutatedBytes(stream, testLogits),
    parse: (input) => decodeTestLogits(input, 'the input'),
  },
  {
    name: 'sweep-record',
    share: 1,
    inputOf: (stream) => Buffer.from(mutatedJson(stream, sweepRecord)),
    parse: (input) => parseSweepRecord(textOf(input), 'the input'),
  },
  {
    name: 'compare-argument',
    share: 0.2,
    inputOf: (stream) => Buffer.from(mutatedText(stream, 's3://bucket/runs/a:global')),
    parse: (input) => parseRunArgument(textOf(input)),
  },
];
