/**
 * Inner steps of methods: how far each parameter of a block moves along its velocity, and how hard it is pulled back to
 * where all adgroups start. The formulas are in `shared/methods` and `shared/methods/inner-loop/inner-rates.ts`.
 */

import { at, float32At, float64At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { blockOf } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { LOG_SCALE } from '../../../shared/methods/shrinkage.js';
import { denseOf } from '../scoring-plan.js';
import { addTimes, attributesOf, joined, type AdaptingAdgroup } from './adapting-adgroup.js';
import type { CoveredMethod } from './covered-methods.js';

type MethodOf<Kind extends CoveredMethod['kind']> = Extract<CoveredMethod, { kind: Kind }>;

/** A step takes `factors .* velocity + pulls .* (block - start)` off a block. */
interface StepRule {
  /** By step; those beyond the last repeat it. `[parameterCount]` each. */
  readonly factors: readonly Float64Array[];
  /** `[parameterCount]`; null: nothing is pulled. */
  readonly pulls: Float64Array | null;
}

/** The rule of a block by its name and number of parameters. */
type RuleOf = (name: string, count: number) => StepRule;

export function stepRulesOf(
  adgroup: AdaptingAdgroup,
  method: CoveredMethod,
  innerRate: number,
): RuleOf {
  switch (method.kind) {
    case 'cavia':
    case 'paml-gate':
      return byFactor(() => 1);
    case 'encoder':
      return byFactor((block) => at(denseOf(adgroup.model, `rates/${block}`), 0));
    case 'meta-sgd':
      return learned(adgroup, { ...method, stepCount: null });
    case 'maml++':
      return method.learnsRates
        ? learned(adgroup, {
            ...method,
            stepCount: method.ratesDifferByStep ? method.innerSteps : null,
          })
        : byFactor((block) => method.rateFactors[block] ?? 1);
    case 'paml-rate':
      return byTree(adgroup, method);
    case 'shrinkage':
      return shrunken(adgroup, innerRate);
    default:
      return byFactor((block) => method.rateFactors[block] ?? 1);
  }
}

/** One factor for each personal block. */
function byFactor(factorOf: (block: string) => number): RuleOf {
  return (name, count) => ({
    factors: [new Float64Array(count).fill(factorOf(blockOf(name)))],
    pulls: null,
  });
}

function learned(
  { model }: AdaptingAdgroup,
  {
    rates,
    rateFactors,
    clampsRates,
    stepCount,
  }: Pick<MethodOf<'meta-sgd'>, 'rates' | 'rateFactors' | 'clampsRates'> & {
    /** Null: all steps have the same rates. */
    readonly stepCount: number | null;
  },
): RuleOf {
  return (name, count) => {
    const block = blockOf(name);
    const of = rates === 'global' ? 'all' : rates === 'block' ? block : name;
    const values = denseOf(model, `rates/${of}`);
    const fixed = rates === 'global' ? (rateFactors[block] ?? 1) : 1;
    const size = rates === 'parameter' ? count : 1;
    const factorsAt = (step: number): Float64Array =>
      Float64Array.from({ length: count }, (_, index) => {
        const rate = float32At(values, step * size + (index % size));
        return fixed * (clampsRates ? Math.max(0, rate) : rate);
      });
    return {
      factors: Array.from({ length: stepCount ?? 1 }, (_, step) => factorsAt(step)),
      pulls: null,
    };
  };
}

/** The soft tree of `shared/methods/paml-rate.ts`. */
function byTree(
  adgroup: AdaptingAdgroup,
  { treeDepth, leafRateScale, attributes }: MethodOf<'paml-rate'>,
): RuleOf {
  const { model, evidence } = adgroup;
  const features = joined([evidence.size, evidence.level], attributesOf(adgroup, attributes));
  const logits = Float64Array.from(denseOf(model, 'tree.bias'));
  addTimes(adgroup, features, 'tree.weight', logits);
  const right = logits.map(sigmoid);
  let shares = [1];
  for (let level = 0; level < treeDepth; level += 1) {
    const first = 2 ** level - 1;
    shares = shares.flatMap((share, branch) => {
      const ofRight = share * float64At(right, first + branch);
      return [share - ofRight, ofRight];
    });
  }
  return byFactor((block) => {
    const leaves = denseOf(model, `leafRates/${block}`);
    const ofLeaves = shares.reduce((sum, share, leaf) => sum + share * at(leaves, leaf), 0);
    return at(denseOf(model, `rates/${block}`), 0) + leafRateScale * ofLeaves;
  });
}

/** The preconditioned step of `shared/methods/shrinkage.ts`. */
function shrunken({ model, evidence }: AdaptingAdgroup, innerRate: number): RuleOf {
  const { impressions, variance } = evidence;
  const exponentials = (variable: string): Float64Array =>
    Float64Array.from(denseOf(model, variable), (value) => Math.exp(LOG_SCALE * value));
  return (name) => {
    const precisions = exponentials(`shrinkage.precision/${name}`);
    const denominators = exponentials(`shrinkage.curvature/${name}`).map(
      (curvature, index) => impressions * variance * curvature + float64At(precisions, index),
    );
    return {
      factors: [denominators.map((denominator) => impressions / denominator)],
      pulls: denominators.map(
        (denominator, index) => (innerRate * float64At(precisions, index)) / denominator,
      ),
    };
  };
}
