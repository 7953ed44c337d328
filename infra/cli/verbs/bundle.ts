/** `qianmo bundle`: lists and checks bundles, and moves their labels. */

import { QianmoError } from '../../../shared/base/errors.js';
import { checkBundle, labelBundle, listBundles, rollBackBundle } from '../../library/index.js';
import { callOptionsOf, type CommandContext } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { verb } from '../command/verb.js';

type Format = 'table' | 'json';
type Action = (
  operands: readonly string[],
  format: Format,
  context: CommandContext,
) => Promise<string>;

const tables = () => import('../../../coordinator/reports/bundle-tables.js');
const jsonOf = (value: unknown): string => JSON.stringify(value, null, 2);

const list: Action = async ([bundles = ''], format, context) => {
  const found = await listBundles({ bundles }, callOptionsOf(context));
  const { bundleListJson, bundleListText } = await tables();
  return format === 'json' ? bundleListJson(found) : bundleListText(found, context.outputColumns);
};

const show: Action = async ([bundles = ''], format, context) => {
  const found = await checkBundle({ bundles }, callOptionsOf(context));
  const { bundleText } = await tables();
  return format === 'json' ? jsonOf(found) : bundleText(found, context.outputColumns);
};

const label: Action = async ([bundles = '', label = '', bundle = ''], format, context) => {
  const moved = await labelBundle({ bundles, label, bundle }, callOptionsOf(context));
  return format === 'json' ? jsonOf(moved) : (await tables()).labelText(moved);
};

const rollback: Action = async ([bundles = '', label = ''], format, context) => {
  const moved = await rollBackBundle({ bundles, label }, callOptionsOf(context));
  return format === 'json' ? jsonOf(moved) : (await tables()).labelText(moved);
};

const ACTIONS = new Map<string, { readonly words: string; readonly act: Action }>([
  ['list', { words: 'ADDRESS', act: list }],
  ['show', { words: 'ADDRESS[@LABEL]', act: show }],
  ['label', { words: 'ADDRESS LABEL BUNDLE', act: label }],
  ['rollback', { words: 'ADDRESS LABEL', act: rollback }],
]);

export const bundleVerb = verb({
  name: 'bundle',
  description: 'list and check bundles, and move their labels',
  argument: {
    name: '<action...>',
    description: [...ACTIONS].map(([name, { words }]) => `${name} ${words}`).join(', or '),
  },
  options: { format },
  help: `
list      every bundle under an address, with its labels
show      one bundle, after a check of all its files; latest unless a label or digest is given
label     points a label at a bundle, which is given by another label or its digest
rollback  points a label at the bundle before
Examples:
  qianmo bundle list runs/shop/bundles
  qianmo bundle show runs/shop/bundles@canary
  qianmo bundle label runs/shop/bundles stable latest
  qianmo bundle rollback runs/shop/bundles stable`,
  run: async ([name = '', ...operands], { format }, context) => {
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
    context.print(await action.act(operands, format, context));
  },
});
