/** Verbs of bundles: written, kept, converted and served. */

import { join } from 'node:path';
import { flag, oneOf, text } from '../../coordinator/runs/request-fields.js';
import { REQUESTS } from '../../coordinator/runs/requests.js';
import type { Document } from '../../coordinator/reports/document/document.js';
import { QianmoError } from '../../shared/base/errors.js';
import { ConvertRequestSchema, ServeRequestSchema } from './requests.js';
import { call, service, type CommandSurroundings } from './verb.js';

const documents = () => import('../../coordinator/reports/bundle-documents.js');
const managing = () => import('../../coordinator/runs/export/manage-bundles.js');

/** Options of `export`, which also writes a model for other servers. */
const exportExtra = {
  format: oneOf(
    ['table', 'json', 'onnx'],
    '<format> how the result is printed: table or json; or onnx, in which the bundle is also written',
  ).default('table'),
  modelOut: text(
    '<folder> folder of the ONNX model; by default named by format and digest beside the bundles',
  ).optional(),
};

interface ModelChoice {
  readonly format: string;
  readonly modelOut?: string | undefined;
}

interface PlacedBundle {
  readonly bundles: string;
  readonly digest: string;
}

/** Prints an export, and converts it if the format is that of a model. */
async function converted(
  document: Document,
  { bundles, digest }: PlacedBundle,
  choice: ModelChoice,
  around: CommandSurroundings,
): Promise<Document> {
  if (choice.format !== 'onnx') return document;
  around.show(document);
  if (choice.modelOut === undefined) assertLocal(bundles);
  const out = choice.modelOut ?? join(bundles, 'onnx', digest.slice(0, 12));
  const request = { bundles: `${bundles}@${digest}`, format: 'onnx', out } as const;
  const written = await convertBundle(request, around.options);
  return (await documents()).convertedDocument(written);
}

function assertModelFits(
  { out }: { readonly out?: string | undefined },
  choice: ModelChoice,
): void {
  const { format, modelOut } = choice;
  const isModel = format === 'onnx';
  if (!isModel && modelOut !== undefined)
    throw new QianmoError({
      kind: 'usage',
      what: '--model-out is given without --format onnx',
      expected: '--format onnx',
      cure: 'give both, or neither',
    });
  if (isModel && modelOut === undefined && out !== undefined) assertLocal(out);
}

function assertLocal(bundles: string): void {
  if (!bundles.startsWith('s3://')) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'an ONNX model is written to a folder, not to S3',
    where: bundles,
    cure: 'give --model-out FOLDER; a bundle that is there is converted by qianmo bundle convert',
  });
}

/**
 * Adapts every adgroup of an evaluated run and writes a bundle for ranking servers. What an export that
 * was stopped has adapted is kept for the next one.
 */
export const exportRun = call('exportRun', {
  request: REQUESTS.export,
  about: 'adapt every adgroup and write a bundle for ranking servers',
  command: 'export',
  operands: ['config'],
  extra: exportExtra,
  plugins: true,
  help: `
The run must be evaluated first, because validation adgroups choose what is served. An export that was
stopped goes on where it ended when it is started again.
With --only-changed, encoding and rows are those of the bundle that is changed.
Examples:
  qianmo export run.yaml --encoding float16
  qianmo export run.yaml --only-changed
  qianmo export run.yaml --format onnx --model-out models/shop`,
  assertFits: assertModelFits,
  run: async () => (await import('../../coordinator/runs/export/export-run.js')).exportRun,
  show: async (exported, choice, around) =>
    converted((await documents()).exportDocument(exported), exported, choice, around),
});

/**
 * Adapts the adgroups whose rows have changed since the bundle of a label, and moves the label to a bundle
 * that has the other blocks of that one.
 */
export const exportChanged = call('exportChanged', {
  request: REQUESTS.exportChanged,
  about: 'adapt the adgroups that have changed, and keep the other blocks of the bundle',
  command: 'export',
  operands: ['config'],
  extra: {
    onlyChanged: flag(
      "adapt only adgroups that have changed since the label's bundle, and keep its other blocks",
    ),
    ...exportExtra,
  },
  when: 'onlyChanged',
  plugins: true,
  assertFits: assertModelFits,
  run: async () => (await import('../../coordinator/runs/export/export-run.js')).exportChangedRun,
  show: async (changed, choice, around) =>
    converted((await documents()).changesDocument(changed), changed, choice, around),
});

/**
 * Appends new logs to the task store of a run, adapts the adgroups that have new rows, and moves the label
 * to a new bundle. Logs that are there already are passed over.
 */
export const refresh = call('refresh', {
  request: REQUESTS.refresh,
  about: 'append new logs to the task store and export what has changed',
  operands: ['config'],
  plugins: true,
  help: `
The trunk stays as it was trained, and only adgroups with new rows are adapted again. With --outer-steps the
trunk is trained further, and all adgroups are adapted. Log files that were appended before are passed over. A
refresh that was stopped goes on when it is started again.
Examples:
  qianmo refresh run.yaml --logs logs/2026-12-01.csv.gz
  qianmo refresh run.yaml --logs 'logs/2026-12-*' --outer-steps 50`,
  run: async () => (await import('../../coordinator/runs/export/refresh-run.js')).refreshRun,
  show: async (refreshed) => (await documents()).refreshDocument(refreshed),
});

/** The bundles under an address, the last published first. */
export const listBundles = call('listBundles', {
  request: REQUESTS.bundles,
  about: 'list every bundle under an address, with its labels',
  command: 'bundle list',
  operands: ['bundles'],
  help: '\nExample:\n  qianmo bundle list runs/shop/bundles',
  run: async () => (await managing()).listBundlesAt,
  show: async (found) => (await documents()).bundleListDocument(found),
});

/** Reads every file of a bundle and checks it. */
export const checkBundle = call('checkBundle', {
  request: REQUESTS.bundle,
  about: 'show one bundle, after a check of all its files',
  command: 'bundle show',
  operands: ['bundles'],
  help: '\nExample:\n  qianmo bundle show runs/shop/bundles@canary',
  run: async () => (await managing()).checkedBundle,
  show: async (found) => (await documents()).bundleDocument(found),
});

/** Writes the model of a bundle for other servers, as ONNX. */
export const convertBundle = call('convertBundle', {
  request: ConvertRequestSchema,
  about: 'write the model of a bundle as onnx, for other servers',
  command: 'bundle convert',
  operands: ['bundles', 'format', 'out'],
  help: '\nExample:\n  qianmo bundle convert runs/shop/bundles@stable onnx models/shop',
  run: async () => (await import('./convert-bundle.js')).convertedBundle,
  show: async (written) => (await documents()).convertedDocument(written),
});

/** Points a label at a bundle. */
export const labelBundle = call('labelBundle', {
  request: REQUESTS.label,
  about: 'point a label at a bundle, which is given by another label or its digest',
  command: 'bundle label',
  operands: ['bundles', 'label', 'bundle'],
  help: '\nExample:\n  qianmo bundle label runs/shop/bundles stable latest',
  run: async () => (await managing()).labelBundle,
  show: async (moved) => (await documents()).labelDocument(moved),
});

/** Points a label at the bundle that it pointed at before. */
export const rollBackBundle = call('rollBackBundle', {
  request: REQUESTS.rollback,
  about: 'point a label at the bundle before',
  command: 'bundle rollback',
  operands: ['bundles', 'label'],
  help: '\nExample:\n  qianmo bundle rollback runs/shop/bundles stable',
  run: async () => (await managing()).rollBackBundle,
  show: async (moved) => (await documents()).labelDocument(moved),
});

/** Removes bundles that no label names, and files that no bundle has. */
export const pruneBundles = call('pruneBundles', {
  request: REQUESTS.prune,
  about: 'remove bundles that no label names or has lately named, and files that no bundle has',
  command: 'bundle prune',
  operands: ['bundles'],
  help: '\nExample:\n  qianmo bundle prune runs/shop/bundles --keep 5 --dry-run',
  run: async () => (await managing()).pruneBundlesAt,
  show: async (pruned) => (await documents()).prunedDocument(pruned),
});

/** Serves rankings from a bundle, and follows its label. The caller closes it, which answers what is under way. */
export const serveRankings = service('serveRankings', {
  request: ServeRequestSchema,
  about: 'answer ranking requests from a bundle, and follow its label',
  command: 'serve',
  help: `
A signal to stop lets it answer the requests under way.
Examples:
  qianmo serve --bundle runs/shop/bundles
  qianmo serve --bundle s3://models/shop@stable --port 9000 --token-file token.txt
  qianmo serve --bundle runs/shop/bundles@stable --canary runs/shop/bundles@canary --canary-share 0.05
  qianmo serve --bundle runs/shop/bundles --explore policy.yaml --state runs/shop/state`,
  open: async () => (await import('./serve.js')).serveFromBundle,
  show: ({ url, bundle }) => ({
    text: `rankings: ${url}/v1/rank (Ctrl-C stops it)`,
    json: { url, bundle },
  }),
});
