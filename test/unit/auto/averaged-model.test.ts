/** The average of models as one model, held against the formulas of the models in double precision. */

import { describe, expect, it } from 'vitest';
import {
  averagedForm,
  type AveragedMember,
  averagedParameters,
} from '../../../coordinator/sweep/averaged-model.js';
import { at } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import type { MethodConfig } from '../../../shared/methods/methods.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { type ModelConfig, ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import { methodOf } from '../../fixtures/compute/methods.js';

const FEATURES: readonly EncodedFeature[] = [
  ...['user', 'site'].map((name): EncodedFeature => ({
    ...{ name, kind: 'category', rowCount: 5, encoding: { by: 'dictionary' } },
  })),
  { name: 'age', kind: 'number', scale: 'none', mean: 0, deviation: 1 },
];
const INPUTS = { clickRate: true, count: true, smoothing: 20, priorRate: 0.2 };

const modelOf = (fields: object): ModelConfig =>
  ModelConfigSchema.parse({ personal: [], ...fields });
const deepfm = (fields: object = {}): ModelConfig => modelOf({ kind: 'deepfm', ...fields });
const logistic = (fields: object = {}): ModelConfig =>
  modelOf({ kind: 'logistic', hiddenWidths: [], ...fields });

function memberOf(
  model: ModelConfig,
  random: RandomStream,
  method: MethodConfig = { kind: 'global' },
): AveragedMember {
  const spec = modelSpecOf(model, FEATURES, method);
  const parameters = initialMetaParameters(spec, 1);
  for (const { values } of [...parameters.dense.values(), ...parameters.tables.values()])
    for (const place of values.keys()) values[place] = random.normal();
  return { spec, parameters };
}

interface Row {
  readonly ids: readonly number[];
  readonly numbers: ReadonlyMap<string, number>;
}

/** The fields of a row side by side, each with its linear weight. */
function fieldsOf({ spec, parameters }: AveragedMember, { ids, numbers }: Row): number[] {
  const { embeddingWidth: width, tableRowWidth } = spec;
  const valuesOf = (name: string): Float32Array =>
    parameters.dense.get(name)?.values ?? new Float32Array();
  return [
    ...spec.tables.flatMap(({ name }, field) => {
      const first = at(ids, field) * tableRowWidth;
      return [...(parameters.tables.get(name)?.values.slice(first, first + tableRowWidth) ?? [])];
    }),
    ...spec.numberFeatures.flatMap((name, place) =>
      [
        ...valuesOf('numbers.factors').slice(place * width, (place + 1) * width),
        at(valuesOf('numbers.linear'), place),
      ].map((value) => value * (numbers.get(name) ?? NaN)),
    ),
  ];
}

/** bias + linear(x) + sum over pairs of <e_f, e_g> + output(layers(e)) */
function outputOf({ spec, parameters }: AveragedMember, { ids, numbers }: Row): number {
  const dense = (name: string): Float32Array =>
    parameters.dense.get(name)?.values ?? new Float32Array();
  const { embeddingWidth: width, tableRowWidth, options } = spec;
  const rows = spec.tables.map(({ name }, field) => {
    const first = at(ids, field) * tableRowWidth;
    return [...(parameters.tables.get(name)?.values.slice(first, first + tableRowWidth) ?? [])];
  });
  const xs = spec.numberFeatures.map((name) => numbers.get(name) ?? NaN);
  let sum = at(dense('bias'), 0);
  for (const row of rows) sum += at(row, width);
  for (const [place, x] of xs.entries()) sum += x * at(dense('numbers.linear'), place);
  if (width === 0) return sum;
  const factors = dense('numbers.factors');
  const fields = [
    ...rows.map((row) => row.slice(0, width)),
    ...xs.map((x, place) =>
      [...factors.slice(place * width, (place + 1) * width)].map((v) => x * v),
    ),
    ...(spec.hasAdgroupEmbedding ? [[...dense('adgroupEmbedding')]] : []),
  ];
  for (const [f, one] of fields.entries())
    for (const other of fields.slice(f + 1))
      sum += one.reduce((product, value, k) => product + value * at(other, k), 0);
  let units = fields.flat();
  for (const [layer, out] of options.hiddenWidths.entries()) {
    const [weights, biases] = [dense(`layer${layer}.weight`), dense(`layer${layer}.bias`)];
    units = Array.from({ length: out }, (_, j) =>
      Math.max(
        0,
        units.reduce((total, unit, k) => total + unit * at(weights, k * out + j), at(biases, j)),
      ),
    );
  }
  return units.reduce((total, unit, k) => total + unit * at(dense('output.weight'), k), sum);
}

function rowOf(random: RandomStream): Row {
  const names = [
    'age',
    'support.clickRate',
    'support.count',
    'support.target.site',
    'support.target.user',
  ];
  return {
    ids: [random.below(5), random.below(5)],
    numbers: new Map(names.map((name) => [name, random.normal()])),
  };
}

const GLOBAL: MethodConfig = { kind: 'global' };

function averagedModel(models: readonly ModelConfig[]): ModelConfig | null {
  return averagedForm(models.map((model) => ({ model, method: GLOBAL })))?.model ?? null;
}

/** The model at its prior means after one support row. */
function movedBy({ spec, parameters }: AveragedMember, row: Row): AveragedMember {
  const fields = fieldsOf({ spec, parameters }, row);
  const dense = new Map(parameters.dense);
  for (const name of ['bias', 'output.weight']) {
    const { shape, values } = parameters.dense.get(name)!;
    const weights = parameters.dense.get(`posterior.mean/${name}`)!.values;
    const moved = values.map((value, place) =>
      fields.reduce((sum, field, at) => sum + field * weights[at * values.length + place]!, value),
    );
    dense.set(name, { shape, values: moved });
  }
  return { spec, parameters: { ...parameters, dense } };
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

  // Seen to fail: prior means that read the embeddings of the other member, and deviations without their share.
  it('has the posterior blocks of one member, scaled by its share', () => {
    const random = randomStream(6, 'averages');
    const posterior: MethodConfig = methodOf({ kind: 'posterior' });
    const models = [
      deepfm({ embeddingWidth: 2, hiddenWidths: [3, 5], supportInputs: INPUTS }),
      deepfm({ embeddingWidth: 3, hiddenWidths: [4, 2], personal: ['bias', 'output'] }),
    ];
    const methods = [GLOBAL, posterior];
    const members = models.map((model, place) => memberOf(model, random, at(methods, place)));
    const [other, own] = [at(members, 0), at(members, 1)];
    // So that prior means that read linear weights read the same ones.
    for (const [name, { values, width }] of other.parameters.tables)
      for (let row = 0; row < values.length / width; row += 1)
        values[(row + 1) * width - 1] = own.parameters.tables.get(name)!.values[row * 4 + 3]!;
    other.parameters.dense.get('numbers.linear')!.values[0] =
      own.parameters.dense.get('numbers.linear')!.values[0]!;
    const form = averagedForm(
      models.map((model, place) => ({ model, method: at(methods, place) })),
    );
    if (form === null) throw new Error('these models have an average');
    expect(form.method).toEqual(posterior);
    const spec = modelSpecOf(form.model, FEATURES, form.method);
    const average = { spec, parameters: averagedParameters(spec, members) };

    const valuesOf = (name: string) => [...average.parameters.dense.get(name)!.values];
    const deviations = [...own.parameters.dense.get('posterior.deviation/output.weight')!.values];
    const none = Math.log(1e-3) / 10;
    const expected = [
      ...Array<number>(5).fill(none),
      ...deviations.map((d) => d - Math.log(2) / 10),
    ];
    for (const [place, value] of valuesOf('posterior.deviation/output.weight').entries())
      expect(value).toBeCloseTo(expected[place]!, 5);

    expect(valuesOf('posterior.trunk/output.weight')).toEqual(Array<number>(7).fill(0));

    // Half of the change of the member's output is that of the average, whatever the support row.
    for (let draw = 0; draw < 5; draw += 1) {
      const [support, row] = [rowOf(random), rowOf(random)];
      const changeOf = (member: AveragedMember): number =>
        outputOf(movedBy(member, support), row) - outputOf(member, row);
      expect(changeOf(average)).toBeCloseTo(changeOf(own) / 2, 3);
    }
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
