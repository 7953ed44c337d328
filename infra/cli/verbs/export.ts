/** `qianmo export`: writes a trained run as a bundle that a ranking server reads. */

import { join } from 'node:path';
import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { convertBundle, exportChanged, exportRun } from '../../library/index.js';
import {
  MODEL_FORMATS,
  type ModelFormat,
} from '../../../worker/serving/interchange/model-formats.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { LATEST_LABEL } from '../../../shared/bundle/bundle-labels.js';
import { callOptionsOf, type CommandContext } from '../command/command-context.js';
import { dispatchOptions, runConfigArgument } from '../command/shared-options.js';
import {
  choiceOption,
  firstOf,
  flagOption,
  textValue,
  valueOption,
  verb,
} from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

export const exportVerb = verb({
  name: 'export',
  description: 'adapt every adgroup and write a bundle for ranking servers',
  argument: runConfigArgument,
  options: {
    ...dispatchOptions,
    out: valueOption(
      '--out <address>',
      "folder or s3:// prefix of the bundles; by default bundles in the run's output",
      textValue.optional(),
    ),
    encoding: choiceOption(
      '--encoding <encoding>',
      'how the values of personal blocks are stored',
      z.enum(BLOCK_ENCODINGS),
      'float32',
    ),
    rows: choiceOption(
      '--rows <rows>',
      'the rows that adgroups adapt on: support rows, as evaluated, or all rows of the store',
      z.enum(['support', 'all']),
      'support',
    ),
    label: valueOption('--label <name>', 'the label that is moved to the bundle', textValue, {
      defaultText: LATEST_LABEL,
    }),
    onlyChanged: flagOption(
      '--only-changed',
      "adapt only adgroups that have changed since the label's bundle, and keep its other blocks",
    ),
    format: choiceOption(
      '--format <format>',
      'how the result is printed: table or json; or another format that the bundle is also written in',
      z.enum(['table', 'json', ...MODEL_FORMATS]),
      'table',
    ),
    modelOut: valueOption(
      '--model-out <folder>',
      'folder of the model in another format; by default named by format and digest beside the bundles',
      textValue.optional(),
    ),
  },
  takesPlugins: true,
  help: `
The run must be evaluated first, because validation adgroups choose what is served. An export that was
stopped goes on where it ended when it is started again.
With --only-changed, encoding and rows are those of the bundle that is changed.
Examples:
  qianmo export run.yaml --encoding float16
  qianmo export run.yaml --only-changed
  qianmo export run.yaml --format onnx --model-out models/shop`,
  run: async (operands, { format, modelOut, onlyChanged, encoding, rows, ...place }, context) => {
    const modelFormat = MODEL_FORMATS.find((each) => each === format);
    demandFolder(modelFormat, modelOut, place.out);
    const options = callOptionsOf(context);
    const source = { config: firstOf(operands), ...place };
    if (onlyChanged) {
      const changed = await exportChanged(source, options);
      const { changesDocument } = await import('../../../coordinator/reports/bundle-documents.js');
      printDocument(changesDocument(changed), format, context);
      await convertTo(modelFormat, modelOut, changed, context);
      return;
    }
    const exported = await exportRun({ ...source, encoding, rows }, options);
    const { exportDocument } = await import('../../../coordinator/reports/bundle-documents.js');
    printDocument(exportDocument(exported), format, context);
    await convertTo(modelFormat, modelOut, exported, context);
  },
});

async function convertTo(
  format: ModelFormat | undefined,
  modelOut: string | undefined,
  { bundles, digest }: { readonly bundles: string; readonly digest: string },
  context: CommandContext,
): Promise<void> {
  if (format === undefined) return;
  if (modelOut === undefined) demandLocal(bundles);
  const out = modelOut ?? join(bundles, format, digest.slice(0, 12));
  const request = { bundles: `${bundles}@${digest}`, format, out };
  const written = await convertBundle(request, callOptionsOf(context));
  const { convertedDocument } = await import('../../../coordinator/reports/bundle-documents.js');
  printDocument(convertedDocument(written), 'table', context);
}

/** Before anything is adapted, where the words alone say it. */
function demandFolder(
  format: ModelFormat | undefined,
  modelOut: string | undefined,
  out: string | undefined,
): void {
  if (format === undefined && modelOut !== undefined)
    throw new QianmoError({
      kind: 'usage',
      what: '--model-out is given without another format',
      expected: `--format ${MODEL_FORMATS.join(' or ')}`,
      cure: 'give both, or neither',
    });
  if (format !== undefined && modelOut === undefined && out !== undefined) demandLocal(out);
}

function demandLocal(bundles: string): void {
  if (!bundles.startsWith('s3://')) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'a model in another format is written to a folder, not to S3',
    where: bundles,
    cure: 'give --model-out FOLDER; a bundle that is there is converted by qianmo bundle convert',
  });
}
