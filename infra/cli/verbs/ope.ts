/** `qianmo ope`: estimates from logged choices what another policy would have earned, or replays decisions. */

import { ope, QianmoError, replayDecisions } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { flagOption, integerValue, textValue, valueOption, verb } from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

const SEED_MAX = 2 ** 31;
const POSITIVE = 'expected a number above 0';

export const opeVerb = verb({
  name: 'ope',
  description: 'estimate from logged choices what another policy would have earned',
  argument: {
    name: '<log...>',
    description: 'decision logs (.ndjson, .jsonl), or tables of choices (.csv, .tsv, .parquet)',
  },
  options: {
    policy: valueOption(
      '--policy <policy.yaml>',
      'a run config, or a file of serve --explore: its section exploration is the target policy of a decision log; by default the policy that logged',
      textValue.optional(),
    ),
    replay: flagOption('--replay', 'repeat the decisions from their records, bit for bit', {
      conflictsWith: 'policy',
    }),
    reward: valueOption('--reward <column>', 'column of the reward', textValue, {
      defaultText: 'reward',
    }),
    propensity: valueOption(
      '--propensity <column>',
      'column of the probability of the choice under the policy that logged',
      textValue,
      { defaultText: 'propensity' },
    ),
    target: valueOption(
      '--target <column>',
      'column of the probability of the choice under the target policy',
      textValue,
      { defaultText: 'target' },
    ),
    estimate: valueOption(
      '--estimate <column>',
      'column of the reward that a model expects of the choice, for the doubly robust estimators',
      textValue.optional(),
    ),
    targetEstimate: valueOption(
      '--target-estimate <column>',
      "column of the reward that the model expects of the target policy's choice",
      textValue.optional(),
    ),
    decision: valueOption(
      '--decision <column>',
      'column that names the decision: its rows are drawn together; by default each row is one',
      textValue.optional(),
    ),
    switchWeight: valueOption(
      '--switch-weight <weight>',
      'switch-DR trusts the model alone where the weight is larger',
      textValue.transform(Number).refine((weight) => weight > 0, POSITIVE),
      { defaultText: '10' },
    ),
    samples: valueOption('--samples <count>', 'bootstrap samples', integerValue(100, 100_000), {
      defaultText: '2000',
    }),
    seed: valueOption('--seed <seed>', 'decides the bootstrap', integerValue(0, SEED_MAX), {
      defaultText: '0',
    }),
    format,
  },
  takesPlugins: true,
  help: `
Example, a table that names the probability of each choice under both policies:
  qianmo ope choices.csv --propensity p_logged --target p_new --format json
Example, the exploration of a config on what a server has logged:
  qianmo ope runs/shop/state/decisions/*.ndjson --policy policy.yaml
  qianmo ope decisions.ndjson --replay`,
  run: async (
    logs,
    { format, policy, replay, samples, seed, switchWeight, ...columns },
    context,
  ) => {
    const call = callOptionsOf(context);
    if (replay) {
      const result = await replayDecisions({ logs: [...logs] }, call);
      const { decisionCount, differingCount, differing } = result;
      context.print(
        format === 'json'
          ? JSON.stringify(result)
          : `${decisionCount - differingCount} of ${decisionCount} decisions repeat bit for bit`,
      );
      if (differingCount > 0) throw different(differing, logs);
      return;
    }
    const request = { logs: [...logs], policy, columns, samples, seed, switchWeight };
    const result = await ope(request, call);
    const { offPolicyDocument } =
      await import('../../../coordinator/reports/off-policy-document.js');
    printDocument(offPolicyDocument(result), format, context);
  },
});

function different(differing: readonly string[], logs: readonly string[]): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'decisions of the log do not repeat',
    where: logs.join(', '),
    expected: 'the slots and propensities of the record, from its input and seed',
    found: differing.join(', '),
    cure: 'replay with the version that made them; otherwise the log was changed',
  });
}
