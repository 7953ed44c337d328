/**
 * The average of models of which encoders make some blocks, held against the formulas of `encoder.ts` in double precision.
 * Seen to fail: labels scaled as embeddings are, size and level among the encodings of rows, shifts of all members by the same
 * units, an embedding of the adgroup scaled by the share, its field among the numbers, learned rates shared with members without any.
 */

import { describe, expect, it } from 'vitest';
import { averagedForm } from '../../../coordinator/sweep/averaged-model.js';
import {
  averagedParameters,
  type AveragedMember,
} from '../../../coordinator/sweep/averaged-model.js';
import { at, float32At } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { MethodConfigSchema, type MethodConfig } from '../../../shared/methods/methods.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import {
  deepfm,
  FEATURES,
  INPUTS,
  logistic,
  memberOf,
  outputOf,
  rowOf,
  type Row,
} from '../../fixtures/evaluation/averaged-members.js';

type AveragedForm = Parameters<typeof averagedForm>[0][number];

const encoder = (fields: object = {}): MethodConfig =>
  MethodConfigSchema.parse({
    ...{ kind: 'encoder', innerSteps: 0, linearWeights: false, rowWidth: 3, taskWidth: 2 },
    ...fields,
  });
const BLOCKS = ['bias', 'adgroupEmbedding', 'output'];
const generated = (fields: object = {}, method: object = {}): AveragedForm => ({
  model: deepfm({ adgroupEmbedding: true, personal: BLOCKS, ...fields }),
  method: encoder(method),
});
const GLOBAL: MethodConfig = { kind: 'global' };

/** Some support rows as an encoder sees them: rows with their shares, labels in standard deviations, size and level. */
interface Support {
  readonly rows: readonly { readonly row: Row; readonly share: number; readonly label: number }[];
  readonly evidence: readonly number[];
}

function supportOf(random: RandomStream): Support {
  const shares = [0.5, 0.3, 0.2];
  return {
    rows: shares.map((share) => ({ row: rowOf(random), share, label: random.normal() })),
    evidence: [random.normal(), random.normal()],
  };
}

/** The member with the blocks that its encoder makes of the support rows. */
function adapted(member: AveragedMember, { rows, evidence }: Support): AveragedMember {
  const { spec, parameters } = member;
  const values = (name: string): Float32Array =>
    parameters.dense.get(name)?.values ?? new Float32Array();
  if (values('encoder.row.weight').length === 0) return member;
  const layer = (input: readonly number[], weight: Float32Array, bias: Float32Array | null) => {
    const width = weight.length / input.length;
    return Array.from({ length: width }, (_, out) =>
      Math.tanh(
        input.reduce(
          (sum, x, place) => sum + x * at(weight, place * width + out),
          bias === null ? 0 : at(bias, out),
        ),
      ),
    );
  };
  const width = spec.embeddingWidth;
  const fieldsOf = ({ ids, numbers }: Row): number[] => [
    ...spec.tables.flatMap(({ name }, field) => {
      const first = at(ids, field) * spec.tableRowWidth;
      return [...(parameters.tables.get(name)?.values.slice(first, first + width) ?? [])];
    }),
    ...spec.numberFeatures.flatMap((name, place) =>
      [...values('numbers.factors').slice(place * width, (place + 1) * width)].map(
        (factor) => (numbers.get(name) ?? NaN) * factor,
      ),
    ),
  ];
  const encoded = rows.map(({ row, label, share }) =>
    layer([...fieldsOf(row), label], values('encoder.row.weight'), values('encoder.row.bias')).map(
      (unit) => share * unit,
    ),
  );
  const pooled = at(encoded, 0).map((_, unit) =>
    encoded.reduce((sum, units) => sum + at(units, unit), 0),
  );
  const task = layer([...pooled, ...evidence], values('encoder.task.weight'), null);
  const dense = new Map(parameters.dense);
  for (const { name, shape, block } of spec.variables) {
    if (block !== 'personal') continue;
    const theta = values(name);
    const shifts = values(`encoder.shift/${name}`);
    const moved = theta.map((value, index) =>
      task.reduce(
        (sum, t, unit) => sum + t * float32At(shifts, unit * theta.length + index),
        value,
      ),
    );
    dense.set(name, { shape, values: moved });
  }
  return { spec, parameters: { ...parameters, dense } };
}

describe('the average of models with generated blocks', () => {
  it.each<[string, readonly AveragedForm[]]>([
    [
      'one generated and one global tower, with inputs of its own',
      [
        generated({ embeddingWidth: 3, hiddenWidths: [4, 2] }),
        {
          model: deepfm({ embeddingWidth: 2, hiddenWidths: [3, 5], supportInputs: INPUTS }),
          method: GLOBAL,
        },
      ],
    ],
    [
      'two encoders of other widths after a linear model',
      [
        { model: logistic({ supportInputs: INPUTS }), method: GLOBAL },
        generated({ embeddingWidth: 2, hiddenWidths: [3] }, { rowWidth: 4, taskWidth: 3 }),
        generated({ embeddingWidth: 1, hiddenWidths: [2], supportInputs: INPUTS }),
      ],
    ],
    [
      'blocks that one of them alone makes, hidden layers among them',
      [
        generated({
          embeddingWidth: 2,
          hiddenWidths: [3, 2],
          personal: ['layer1'],
          adgroupEmbedding: false,
        }),
        generated({
          embeddingWidth: 2,
          hiddenWidths: [2, 2],
          personal: ['bias', 'layer0'],
          adgroupEmbedding: false,
        }),
      ],
    ],
  ])('has the mean of the outputs of %s', (_, forms) => {
    const random = randomStream(7, 'generated averages');
    const members = forms.map(({ model, method }) => memberOf(model, random, method));
    const form = averagedForm(forms);
    if (form === null) throw new Error('these models have an average');
    expect(MethodConfigSchema.parse(form.method)).toEqual(form.method);
    const spec = modelSpecOf(form.model, FEATURES, form.method);
    const average = { spec, parameters: averagedParameters(spec, members) };
    for (const { name, shape } of spec.variables)
      expect(average.parameters.dense.get(name)?.shape).toEqual(shape);
    for (let draw = 0; draw < 10; draw += 1) {
      const support = supportOf(random);
      const row = rowOf(random);
      const outputs = members.map((member) => outputOf(adapted(member, support), row));
      const mean = outputs.reduce((sum, output) => sum + output, 0) / outputs.length;
      expect(outputOf(adapted(average, support), row)).toBeCloseTo(mean, 3);
    }
  });

  it('has the learned rates of the members that have some', () => {
    const random = randomStream(8, 'generated averages');
    const forms = [generated(), { model: deepfm(), method: GLOBAL }];
    const members = forms.map(({ model, method }) => memberOf(model, random, method));
    const form = averagedForm(forms);
    if (form === null) throw new Error('these models have an average');
    const spec = modelSpecOf(form.model, FEATURES, form.method);
    const rates = averagedParameters(spec, members).dense.get('rates/output');
    expect(rates).toEqual(members[0]?.parameters.dense.get('rates/output'));
  });

  it('does not exist where steps follow, linear weights are read, or others adapt', () => {
    const plain = { model: deepfm(), method: GLOBAL };
    expect(averagedForm([generated(), plain])).toMatchObject({
      model: { adgroupEmbedding: true, personal: BLOCKS },
      method: { kind: 'encoder', rowWidth: 3, taskWidth: 2 },
    });
    const others: readonly AveragedForm[] = [
      ...[
        { innerSteps: 1 },
        { linearWeights: true },
        { linearWeights: undefined },
        { features: ['user'] },
      ].map((method) => generated({}, method)),
      { model: deepfm(), method: MethodConfigSchema.parse({ kind: 'maml', levelShift: true }) },
    ];
    for (const other of others) expect(averagedForm([generated(), other])).toBeNull();
    expect(averagedForm([generated({}, { coldShare: 0.1 }), generated()])).toBeNull();
  });
});
