/**
 * Compares the learned update rule with the tuned baselines on one stream. The settings of the
 * baselines, the embedding and phi are chosen on the prior part. Then every rule runs over the whole
 * stream and is judged on the rows after the prior part, each of which is predicted before it is learned.
 */

import { at, float64At, uint8At } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import { type RunEvent, noticeEvent } from '../../shared/events/run-events.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { baselineLearner, type BaselineSettings } from './baseline-rules.js';
import {
  emptyRuleState,
  learnedRuleLearner,
  timeScaleDaysOf,
} from '../../shared/streaming/learned-update.js';
import { parametersLikeAdagrad } from '../../shared/streaming/learned-update-parameters.js';
import type { LearnedRuleShape, QueryMode } from '../../shared/streaming/rule-settings.js';
import { loglossOf, rowCountOf, type StreamRows } from '../../shared/streaming/stream-rows.js';
import { bootstrapIntervals } from '../scoring/bootstrap.js';
import type { Interval } from '../scoring/evaluation-report.js';
import { featureEmbedding } from './feature-embedding.js';
import { metaTrainRule, type WorkingTerms } from './meta-training.js';
import { NO_PAUSE, progressiveLogits } from './progressive-validation.js';
import { BASELINE_KINDS, tuneBaseline, type BaselineKind, type TunedRule } from './rule-tuning.js';

export interface ComparisonSettings {
  readonly seed: number;
  readonly batchRows: number;
  /** Settings are chosen on the rows before this one. The rows from it on are judged. */
  readonly priorRowCount: number;
  /** The prior rows from this one on decide what is chosen. */
  readonly chosenFromRow: number;
  readonly candidateCount: number;
  readonly rank: number;
  /** Slots whose features make the axes of the embedding. */
  readonly embeddedSlots: readonly number[];
  readonly placesOthers: boolean;
  readonly sweepCount: number;
  readonly rareRows: number;
  readonly windowRows: number;
  readonly epochCount: number;
  readonly pairsPerStep: number;
  readonly rate: number;
  readonly query: QueryMode;
  /** First rows of the judged segments, in order; the first is `priorRowCount`. */
  readonly segmentStarts: readonly number[];
}

interface ComparisonOptions extends WorkingTerms {
  /** Called with each rule once its settings are chosen. */
  readonly onTuned?: (tuned: RunEvent) => void;
}

type RuleName = BaselineKind | 'learned';

export interface RuleResult {
  readonly rule: RuleName;
  readonly chosen: BaselineSettings | null;
  /** The logloss on the rows that the settings were chosen on. */
  readonly priorLogloss: number;
  readonly logloss: number;
  readonly segmentLoglosses: readonly number[];
  /** This rule minus the learned one, per row, with a 95 % interval over segments. */
  readonly behindLearned: Interval | null;
  /** SHA-256 of the logits of the judged rows. */
  readonly digest: string;
}

export interface RuleComparison {
  readonly judgedRowCount: number;
  readonly rules: readonly RuleResult[];
  readonly epochLoglosses: readonly number[];
  readonly parameters: Float64Array;
}

interface RuleRun {
  readonly rule: RuleName;
  readonly chosen: BaselineSettings | null;
  readonly priorLogloss: number;
  readonly logits: Float64Array;
}

const BOOTSTRAP_SAMPLES = 2000;

export async function compareRules(
  rows: StreamRows,
  settings: ComparisonSettings,
  options: ComparisonOptions = {},
): Promise<RuleComparison> {
  const { pause = NO_PAUSE, onTuned = () => undefined } = options;
  const tuning = { ...settings, judgedFromRow: settings.chosenFromRow };
  const tuned = new Map<BaselineKind, TunedRule>();
  for (const kind of BASELINE_KINDS) {
    const best = await tuneBaseline(kind, rows, tuning, pause);
    onTuned(ruleTuned(kind, best.logloss));
    tuned.set(kind, best);
  }
  const learned = await learnRule(rows, settings, tuned.get('adagrad')?.settings, options);
  const priorLogloss = Math.min(...learned.epochLoglosses);
  onTuned(ruleTuned('learned', priorLogloss));

  const runs: RuleRun[] = [];
  for (const [rule, { settings: chosen, logloss }] of tuned) {
    await pause();
    const learner = baselineLearner(chosen, rows.featureCount);
    const logits = progressiveLogits(learner, rows, settings.batchRows);
    runs.push({ rule, chosen, priorLogloss: logloss, logits });
  }
  await pause();
  const state = emptyRuleState(rows.featureCount, settings.rank);
  const learner = learnedRuleLearner(learned.rule, state);
  const logits = progressiveLogits(learner, rows, settings.batchRows);
  runs.push({ rule: 'learned', chosen: null, priorLogloss, logits });
  return {
    judgedRowCount: rowCountOf(rows) - settings.priorRowCount,
    rules: judged(rows, settings, runs),
    epochLoglosses: learned.epochLoglosses,
    parameters: learned.rule.parameters,
  };
}

/** The embedding and phi, begun like the tuned AdaGrad. */
async function learnRule(
  rows: StreamRows,
  settings: ComparisonSettings,
  adagrad: BaselineSettings | undefined,
  terms: WorkingTerms,
): Promise<{
  rule: { shape: LearnedRuleShape; parameters: Float64Array; embedding: Float32Array };
  epochLoglosses: readonly number[];
}> {
  if (adagrad?.kind !== 'adagrad') throw new Error('the learned rule begins with a tuned AdaGrad');
  const timeScaleDays = timeScaleDaysOf(rows, settings.priorRowCount);
  const shape = { slotCount: rows.slotCount, rank: settings.rank, timeScaleDays };
  const embedding = featureEmbedding(rows, {
    ...settings,
    slots: settings.embeddedSlots,
  });
  const start = { shape, parameters: parametersLikeAdagrad(shape, adagrad), embedding };
  const training = { ...settings, judgedFromRow: settings.chosenFromRow };
  const { parameters, epochLoglosses } = await metaTrainRule(start, rows, training, terms);
  return { rule: { shape, parameters, embedding }, epochLoglosses };
}

function judged(
  rows: StreamRows,
  settings: ComparisonSettings,
  runs: readonly RuleRun[],
): RuleResult[] {
  const ends = [...settings.segmentStarts.slice(1), rowCountOf(rows)];
  const spans = settings.segmentStarts.map((from, segment) => ({ from, to: at(ends, segment) }));
  const rowCounts = Float64Array.from(spans, ({ from, to }) => to - from);
  const lossSums = runs.map(({ logits }) =>
    Float64Array.from(spans, ({ from, to }) => {
      let sum = 0;
      for (let row = from; row < to; row += 1)
        sum += loglossOf(float64At(logits, row), uint8At(rows.clicks, row));
      return sum;
    }),
  );
  const learned = lossSums[runs.findIndex(({ rule }) => rule === 'learned')];
  if (learned === undefined) throw new Error('the learned rule is among the runs');
  return runs.map((run, index) => {
    const sums = at(lossSums, index);
    const [interval = null] = bootstrapIntervals(
      [sums, learned, rowCounts],
      [([own = 0, other = 0, rowCount = 0]) => (own - other) / rowCount],
      {
        samples: BOOTSTRAP_SAMPLES,
        confidence: 0.95,
        stream: randomStream(settings.seed, 'rule-comparison', run.rule),
      },
    );
    return {
      rule: run.rule,
      chosen: run.chosen,
      priorLogloss: run.priorLogloss,
      logloss: sum(sums) / sum(rowCounts),
      segmentLoglosses: [...sums].map(
        (lossSum, segment) => lossSum / float64At(rowCounts, segment),
      ),
      behindLearned: run.rule === 'learned' ? null : interval,
      digest: sha256Of(run.logits.subarray(settings.priorRowCount)),
    };
  });
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}

function ruleTuned(rule: RuleName, priorLogloss: number): RunEvent {
  return noticeEvent('rule-tuned', `${rule}: prior logloss ${priorLogloss.toFixed(5)}`);
}
