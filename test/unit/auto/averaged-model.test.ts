/** The average of models as one model, held against the formulas of the models in double precision. */

import { describe, expect, it } from 'vitest';
import { averagedForm, averagedParameters } from '../../../coordinator/sweep/averaged-model.js';
import { randomStream } from '../../../shared/base/random.js';
import { ModelConfigSchema, type ModelConfig } from '../../../shared/models/model-config.js';
import { type MethodConfig } from '../../../shared/methods/methods.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import {
  deepfm,
  FEATURES,
  INPUTS,
  logistic,
  memberOf,
  modelOf,
  outputOf,
  rowOf,
} from '../../fixtures/evaluation/averaged-members.js';

const GLOBAL: MethodConfig = { kind: 'global' };

function averagedModel(
  models: readonly ModelConfig[],
  method: MethodConfig = GLOBAL,
): ModelConfig | null {
  return averagedForm(models.map((model) => ({ model, method })))?.model ?? null;
}

describe('the average of models', () => {
  it.each<[string, readonly ModelConfig[]]>([
    [
      'towers of other widths',
      [
        deepfm({ embeddingWidth: 3, hiddenWidths: [4, 2] }),
        deepfm({ embeddingWidth: 2, hiddenWidths: [3, 5] }),
      ],
    ],
    [
      'other support inputs, in another order',
      [
        deepfm({
          embeddingWidth: 2,
          hiddenWidths: [3],
          supportInputs: { ...INPUTS, targetEncodings: ['user', 'site'] },
        }),
        deepfm({
          embeddingWidth: 2,
          hiddenWidths: [3],
          supportInputs: { ...INPUTS, clickRate: false, targetEncodings: ['site'] },
        }),
        deepfm({ embeddingWidth: 1, hiddenWidths: [2] }),
      ],
    ],
    [
      'a tower and linear models',
      [
        logistic({ supportInputs: INPUTS }),
        deepfm({ embeddingWidth: 3, hiddenWidths: [4, 4] }),
        logistic(),
      ],
    ],
    ['linear models alone', [logistic({ supportInputs: INPUTS }), logistic()]],
  ])('has the mean of the outputs of %s', (_, models) => {
    const random = randomStream(5, 'averages');
    const members = models.map((model) => memberOf(model, random));
    const model = averagedModel(models);
    if (model === null) throw new Error('these models have an average');
    // A config file may have it.
    expect(ModelConfigSchema.parse(model)).toEqual(model);
    const spec = modelSpecOf(model, FEATURES);
    const average = { spec, parameters: averagedParameters(spec, members) };
    for (const { name, shape } of spec.variables)
      expect(average.parameters.dense.get(name)?.shape).toEqual(shape);
    for (let draw = 0; draw < 20; draw += 1) {
      const row = rowOf(random);
      const outputs = members.map((member) => outputOf(member, row));
      const mean = outputs.reduce((sum, output) => sum + output, 0) / outputs.length;
      expect(outputOf(average, row)).toBeCloseTo(mean, 4);
    }
  });

  it('is the model with the widths of all, and the inputs of all', () => {
    const supportInputs = { ...INPUTS, targetEncodings: ['site'] };
    const models = [
      logistic({ supportInputs }),
      deepfm(),
      deepfm({ embeddingWidth: 4, hiddenWidths: [8, 4] }),
    ];
    expect(averagedModel(models)).toMatchObject({
      ...{
        kind: 'deepfm',
        embeddingWidth: 12,
        hiddenWidths: [72, 36],
        personal: [],
        supportInputs,
      },
    });
  });

  it('does not exist for models of other forms', () => {
    const others = [
      deepfm({ hiddenWidths: [4] }),
      deepfm({ interactions: 'by-field' }),
      deepfm({ adgroupEmbedding: true, personal: ['adgroupEmbedding'] }),
      modelOf({ kind: 'dcn-v2' }),
    ];
    for (const other of others) expect(averagedModel([deepfm(), other])).toBeNull();
    const [one, two] = [INPUTS, { ...INPUTS, smoothing: 5 }].map((supportInputs) =>
      logistic({ supportInputs }),
    );
    expect(averagedModel([one, two].flatMap((model) => model ?? []))).toBeNull();
  });
});
