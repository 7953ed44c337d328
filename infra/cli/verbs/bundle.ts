/** `qianmo bundle`: lists and checks bundles, and moves their labels. */

import { z } from 'zod';
import {
  MODEL_FORMATS,
  type ModelFormat,
} from '../../../worker/serving/interchange/model-formats.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  checkBundle,
  convertBundle,
  labelBundle,
  listBundles,
  pruneBundles,
  rollBackBundle,
} from '../../library/index.js';
import { callOptionsOf, type CommandContext } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { flagOption, integerValue, valueOption, verb } from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

import type { Document } from '../../../coordinator/reports/document/document.js';

interface Choice {
  readonly format: 'table' | 'json';
  readonly keep: number;
  readonly graceHours: number;
  readonly dryRun: boolean;
}

type Action = (
  operands: readonly string[],
  choice: Choice,
  context: CommandContext,
) => Promise<Document>;

const EARLIER_KEPT_MAX = 100;
const GRACE_HOURS_MAX = 8_760;

const documents = () => import('../../../coordinator/reports/bundle-documents.js');

const list: Action = async ([bundles = ''], _choice, context) => {
  const found = await listBundles({ bundles }, callOptionsOf(context));
  return (await documents()).bundleListDocument(found);
};

const show: Action = async ([bundles = ''], _choice, context) => {
  const found = await checkBundle({ bundles }, callOptionsOf(context));
  return (await documents()).bundleDocument(found);
};

const convert: Action = async ([bundles = '', wanted = '', out = ''], _choice, context) => {
  const request = { bundles, format: modelFormatOf(wanted), out };
  const written = await convertBundle(request, callOptionsOf(context));
  return (await documents()).convertedDocument(written);
};

function modelFormatOf(word: string): ModelFormat {
  const parsed = z.enum(MODEL_FORMATS).safeParse(word);
  if (parsed.success) return parsed.data;
  throw new QianmoError({
    kind: 'usage',
    what: 'bundles are not converted to this format',
    expected: MODEL_FORMATS.join(' or '),
    found: word,
    cure: 'see qianmo bundle --help',
  });
}

const label: Action = async ([bundles = '', label = '', bundle = ''], _choice, context) => {
  const moved = await labelBundle({ bundles, label, bundle }, callOptionsOf(context));
  return (await documents()).labelDocument(moved);
};

const rollback: Action = async ([bundles = '', label = ''], _choice, context) => {
  const moved = await rollBackBundle({ bundles, label }, callOptionsOf(context));
  return (await documents()).labelDocument(moved);
};

const prune: Action = async ([bundles = ''], { format: _format, ...choice }, context) => {
  const pruned = await pruneBundles({ bundles, ...choice }, callOptionsOf(context));
  return (await documents()).prunedDocument(pruned);
};

const ACTIONS = new Map<string, { readonly words: string; readonly act: Action }>([
  ['list', { words: 'ADDRESS', act: list }],
  ['show', { words: 'ADDRESS[@LABEL]', act: show }],
  ['convert', { words: 'ADDRESS[@LABEL] FORMAT FOLDER', act: convert }],
  ['label', { words: 'ADDRESS LABEL BUNDLE', act: label }],
  ['rollback', { words: 'ADDRESS LABEL', act: rollback }],
  ['prune', { words: 'ADDRESS', act: prune }],
]);

export const bundleVerb = verb({
  name: 'bundle',
  description: 'list, check and convert bundles, move their labels and remove them',
  argument: {
    name: '<action...>',
    description: [...ACTIONS].map(([name, { words }]) => `${name} ${words}`).join(', or '),
  },
  options: {
    keep: valueOption(
      '--keep <count>',
      'prune: earlier bundles of each label that are kept',
      integerValue(0, EARLIER_KEPT_MAX),
      { defaultText: '3' },
    ),
    graceHours: valueOption(
      '--grace-hours <hours>',
      'prune: what was written later is kept',
      integerValue(0, GRACE_HOURS_MAX),
      { defaultText: '24' },
    ),
    dryRun: flagOption('--dry-run', 'prune: say what would be removed, and remove nothing'),
    format,
  },
  help: `
list      every bundle under an address, with its labels
show      one bundle, after a check of all its files; latest unless a label or digest is given
convert   writes the model of a bundle as onnx or savedmodel, for other servers
label     points a label at a bundle, which is given by another label or its digest
rollback  points a label at the bundle before
prune     removes bundles that no label names or has lately named, and files that no bundle has
Examples:
  qianmo bundle list runs/shop/bundles
  qianmo bundle show runs/shop/bundles@canary
  qianmo bundle convert runs/shop/bundles@stable onnx models/shop
  qianmo bundle label runs/shop/bundles stable latest
  qianmo bundle rollback runs/shop/bundles stable
  qianmo bundle prune runs/shop/bundles --keep 5 --dry-run`,
  run: async ([name = '', ...operands], choice, context) => {
    const action = ACTIONS.get(name);
    const wordCount = action?.words.split(' ').length;
    if (action === undefined || operands.length !== wordCount)
      throw new QianmoError({
        kind: 'usage',
        what: action === undefined ? 'there is no such action' : 'the words do not fit the action',
        where: `qianmo bundle ${[name, ...operands].join(' ')}`,
        expected: [...ACTIONS].map(([each, { words }]) => `${each} ${words}`).join(', or '),
        cure: 'see qianmo bundle --help',
      });
    printDocument(await action.act(operands, choice, context), choice.format, context);
  },
});
