/** Logged decisions looked at again: repeated bit for bit, or judged under other settings. */

import { at, float64At } from '../../../shared/base/arrays.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  missingContext,
  type Decision,
  type JudgedSlot,
} from '../../../shared/exploration/decision-record.js';
import { decide, openSlate } from './chooser.js';

/** Whether the record's input gives the record, to the last bit of each propensity. */
export function isRepeatable(decision: Decision): boolean {
  return canonicalJson(decide(decision.input)) === canonicalJson(decision);
}

/**
 * The slots of a decision under other settings, given the slots before as they were logged. The weights are those
 * of Reward interaction IPS (McInerney et al., KDD 2020), the expectations those of Cascade-DR (Kiyohara et al.,
 * WSDM 2022).
 *
 * @param settings of the target policy; null for those of the record
 * @throws QianmoError of kind `usage` if the record lacks the weights that the target policy decides by.
 */
export function judgedSlots(decision: Decision, settings: ExplorationConfig | null): JudgedSlot[] {
  const { input, decided } = decision;
  if (settings !== null && missingContext(input.context, settings) !== null)
    throw withoutWeights(decision, settings);
  const slate = openSlate({ ...input, settings: settings ?? input.settings });
  const places = new Map(input.candidates.map(({ adgroup }, place) => [adgroup, place]));
  let weight = 1;
  return decided.map(({ adgroup, propensity }, index) => {
    const chosen = places.get(adgroup);
    if (chosen === undefined) throw new Error(`a decision names the unknown adgroup ${adgroup}`);
    const chances = slate.distributionAt(index + 1);
    const before = weight;
    weight *= float64At(chances, chosen) / propensity;
    slate.place(chosen);
    let expectedOfTarget = 0;
    for (const [place, { probability }] of input.candidates.entries())
      expectedOfTarget += float64At(chances, place) * probability;
    return {
      weight,
      expected: at(input.candidates, chosen).probability,
      expectedOfTarget: before * expectedOfTarget,
    };
  });
}

function withoutWeights(
  { input }: Decision,
  { policy }: Pick<ExplorationConfig, 'policy'>,
): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the log does not have the learned weights by which the policy decides',
    where: `decision ${input.id}`,
    expected: `decisions of the policy ${policy}`,
    found: `one of the policy ${input.settings.policy}`,
    cure: 'judge another policy, or the log of a server that explores by this one',
  });
}
