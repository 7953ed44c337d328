/** The section `data.targetEncodings`, and the names of the number features that it adds. */

import { z } from 'zod';
import { TARGET_ENCODING_INPUTS } from '../tasks/store-manifest.js';

const name = z.string().min(1);

export const TargetEncodingsSchema = z
  .strictObject({
    of: z
      .array(
        z.union([name, z.array(name).length(2)], {
          error: 'expected the name of a category, or a list of two of them',
        }),
      )
      .min(1)
      .max(64)
      .describe('Categories, or pairs of them: genre, [genre, hour].'),
    smoothing: z
      .number()
      .positive()
      .max(1e6)
      .default(20)
      .describe('Impressions at the overall rate that the evidence of a value is added to.'),
    folds: z
      .int()
      .min(2)
      .max(100)
      .default(5)
      .describe('Parts of the training tasks. Rows of a part read the sums over the others.'),
  })
  .superRefine(({ of }, context) => {
    const seen = new Set<string>();
    for (const [index, encoded] of of.entries()) {
      const members = membersOf(encoded);
      const key = JSON.stringify([...members].sort());
      if (seen.has(key) || new Set(members).size < members.length)
        context.addIssue({
          code: 'custom',
          path: ['of', index],
          message: 'names a category twice, or a pair that is listed already',
        });
      seen.add(key);
    }
  });

type TargetEncodings = z.infer<typeof TargetEncodingsSchema>;

/** A number feature that a target encoding adds. */
interface TargetEncodingInput {
  readonly name: string;
  readonly encodes: {
    /** One category, or two. */
    readonly of: readonly string[];
    readonly input: (typeof TARGET_ENCODING_INPUTS)[number];
  };
}

/** The number features, in order, that follow those of `data.features`. */
export function targetEncodingInputs(
  encodings: TargetEncodings | undefined,
): TargetEncodingInput[] {
  return (encodings?.of ?? []).flatMap((encoded) => {
    const of = membersOf(encoded);
    return TARGET_ENCODING_INPUTS.map((input) => ({
      name: `target.${of.join('+')}${input === 'count' ? '.count' : ''}`,
      encodes: { of, input },
    }));
  });
}

/** The categories of each encoding, one or two. */
export function encodedCategories(encodings: TargetEncodings): (readonly string[])[] {
  return encodings.of.map(membersOf);
}

function membersOf(encoded: TargetEncodings['of'][number]): readonly string[] {
  return typeof encoded === 'string' ? [encoded] : encoded;
}

interface EncodableData {
  readonly features: readonly {
    readonly name: string;
    readonly kind: string;
    readonly scale?: string;
  }[];
  readonly label?: unknown;
  readonly targetEncodings?: TargetEncodings | undefined;
}

/** The parts of the section that do not match the rest of the data. */
export function targetEncodingMisfits({
  features,
  label,
  targetEncodings,
}: EncodableData): { readonly path: (string | number)[]; readonly message: string }[] {
  if (targetEncodings === undefined) return [];
  const categories = features
    .filter(({ kind, scale }) => kind === 'category' || scale === 'log-bucket')
    .map(({ name: category }) => category);
  const unknown = targetEncodings.of.flatMap((encoded, index) =>
    membersOf(encoded)
      .filter((member) => !categories.includes(member))
      .map((member) => ({
        path: ['targetEncodings', 'of', index],
        message: `there is no category ${member}; expected one of ${categories.join(', ')}`,
      })),
  );
  const names = targetEncodingInputs(targetEncodings).map(({ name: added }) => added);
  const taken = names
    .filter(
      (added, index) =>
        names.indexOf(added) !== index || features.some((feature) => feature.name === added),
    )
    .map((added) => ({
      path: ['targetEncodings'],
      message: `gives an input the name ${added}, which another one has: rename the feature`,
    }));
  const ofSegments =
    label === undefined
      ? [
          {
            path: ['targetEncodings'],
            message: 'needs data.label: segments with labels of their own have no common rate',
          },
        ]
      : [];
  return [...unknown, ...taken, ...ofSegments];
}
