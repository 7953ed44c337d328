/**
 * The last trial of a search: what would be chosen, if nothing in it adapts, with a shift of each adgroup's level.
 *
 * The shift is fitted to the support rows under a normal prior, whose deviation validation chooses (empirical Bayes; Morris,
 * JASA 78, 1983), so that it costs little where inputs tell the level of an adgroup already. It gains most for adgroups whose level
 * is far from what inputs tell. They are rare, and few validation adgroups may have none. Pure.
 */

import { MethodConfigSchema } from '../../shared/methods/methods.js';
import { chooseTrial } from './choose-trial.js';
import { untrained } from './untrained.js';
import type { SweepRecord } from '../sweep/sweep-record.js';
import { asTrial, type Trial } from '../sweep/trials.js';

/** The rates of an evaluation are factors of the prior variance then: 0.03 is a deviation of 0.09 logits, 1 one of 0.5. */
const SHIFT = { kind: 'maml', innerSteps: 1, innerRate: 1, levelShift: true };

/**
 * One trial, or none if the choice adapts already, or its checkpoint is gone.
 *
 * @param trials those that have a checkpoint, averages among them.
 */
export function shiftedTrials(
  record: SweepRecord,
  trials: readonly Trial[],
  surroundings: Parameters<typeof asTrial>[1],
): Trial[] {
  const { name: shiftOf } = chooseTrial(record).trial;
  const chosen = trials.find(({ name }) => name === shiftOf);
  if (chosen === undefined || !takesShift(chosen)) return [];
  const { config, parts } = chosen;
  const shifted = {
    ...untrained(config, config.output),
    model: { ...config.model, personal: [] },
    method: MethodConfigSchema.parse(SHIFT),
  };
  return [
    {
      name: 's01',
      settings: { 'made of': `${shiftOf} and a shift` },
      config: asTrial(shifted, surroundings, 's01'),
      ...(parts === undefined ? {} : { parts: parts + 1 }),
      shiftOf,
    },
  ];
}

/** The embedding of an adgroup must be personal where a model has one. */
function takesShift({ config: { method, model } }: Trial): boolean {
  return method.kind === 'global' && !model.adgroupEmbedding;
}
