/** Verbs of bundles: written, kept, converted and served. */

import type { ExportResult, RefreshResult } from '../../coordinator/runs/export-run.js';
import { flag, FORMAT } from '../../coordinator/runs/request-fields.js';
import { FOLLOW_FIELDS, REQUESTS } from '../../coordinator/runs/requests.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import { ConvertRequestSchema, ServeRequestSchema } from './requests.js';
import { call, service } from './verb.js';

const documents = () => import('../../coordinator/reports/bundle-documents.js');
const managing = () => import('../../coordinator/runs/manage-bundles.js');

/**
 * Adapts every adgroup of an evaluated run and writes a bundle for ranking servers. What an export that
 * was stopped has adapted is kept for the next one.
 */
export const exportRun = call('exportRun', {
  request: REQUESTS.export,
  about: 'adapt every adgroup and write a bundle for ranking servers',
  command: 'export',
  operands: ['config'],
  plugins: true,
  watched: 'all',
  help: `
The run must be evaluated first, because validation adgroups choose what is served. An export that was
stopped goes on where it ended when it is started again.
Example:
  qianmo export run.yaml --encoding float16`,
  run: async () => (await import('../../coordinator/runs/export-run.js')).exportRun,
  show: async (exported: ExportResult) => (await documents()).exportDocument(exported),
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
  watched: 'all',
  help: `
The trunk stays as it was trained, and only adgroups with new rows are adapted again. With --outer-steps the
trunk is trained further, and all adgroups are adapted. Log files that were appended before are passed over. A
refresh that was stopped goes on when it is started again.
Examples:
  qianmo refresh run.yaml --logs logs/2026-12-01.csv.gz
  qianmo refresh run.yaml --logs 'logs/2026-12-*' --outer-steps 50
With --follow it goes on until it is stopped, on the row log of a server. A new bundle is labeled LABEL-next, and gets
the label once it is not worse than the labeled one on later rows; a labeled bundle that is worse loses it again.
  qianmo refresh run.yaml --logs s3://logs/shop/rows --follow --outer-steps 20`,
  run: async () => (await import('../../coordinator/runs/export-run.js')).refreshRun,
  show: async (refreshed: RefreshResult) => (await documents()).refreshDocument(refreshed),
});

/**
 * Refreshes a run from the row log of a server until it is stopped: adapts adgroups with new rows, and moves the label to a bundle
 * that has proved itself on later rows, or back.
 */
export const follow = call('follow', {
  request: REQUESTS.follow,
  about: 'refresh from a row log until stopped',
  command: 'refresh',
  operands: ['config'],
  extra: {
    follow: flag(
      'go on until stopped, and judge each bundle on later rows before it gets the label',
    ),
    ...FOLLOW_FIELDS,
    format: FORMAT,
  },
  when: 'follow',
  plugins: true,
  watched: 'all',
  run: async () => (await import('../../coordinator/runs/follow-run.js')).followRun,
  onEvent: ({ format }, { print }) =>
    Promise.resolve(format === 'json' ? (event) => print(encodeEvent(event)) : null),
});

/** The bundles under an address, the last published first. */
export const listBundles = call('listBundles', {
  request: REQUESTS.bundles,
  about: 'list every bundle under an address, with its labels',
  command: 'bundle list',
  plugins: true,
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
  plugins: true,
  operands: ['bundles'],
  help: '\nExample:\n  qianmo bundle show runs/shop/bundles@canary',
  run: async () => (await managing()).checkBundle,
  show: async (found) => (await documents()).bundleDocument(found),
});

/** Writes the model of a bundle for other servers, as ONNX. */
export const convertBundle = call('convertBundle', {
  request: ConvertRequestSchema,
  about: 'write the model of a bundle as onnx, for other servers',
  command: 'bundle convert',
  plugins: true,
  operands: ['bundles', 'format', 'out'],
  help: '\nExample:\n  qianmo bundle convert runs/shop/bundles@stable onnx models/shop',
  run: async () => (await import('./convert-bundle.js')).convertBundle,
  show: async (written) => (await documents()).convertedDocument(written),
});

/** Points a label at a bundle. */
export const labelBundle = call('labelBundle', {
  request: REQUESTS.label,
  about: 'point a label at a bundle, which is given by another label or its digest',
  command: 'bundle label',
  plugins: true,
  operands: ['bundles', 'label', 'bundle'],
  help: '\nExamples:\n  qianmo bundle label runs/shop/bundles stable latest\n  qianmo bundle label runs/shop/bundles canary canary --share 0.2',
  run: async () => (await managing()).labelBundle,
  show: async (moved) => (await documents()).labelDocument(moved),
});

/** Points a label at the bundle that it pointed at before. */
export const rollBackBundle = call('rollBackBundle', {
  request: REQUESTS.rollback,
  about: 'point a label at the bundle before',
  command: 'bundle rollback',
  plugins: true,
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
  plugins: true,
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
  plugins: true,
  help: `
A signal to stop lets it answer the requests under way.
Examples:
  qianmo serve --bundle runs/shop/bundles
  qianmo serve --bundle s3://models/shop@stable --port 9000 --token-file token.txt
  qianmo serve --bundle runs/shop/bundles@stable --canary runs/shop/bundles@canary --canary-share 0.05
  qianmo serve --bundle runs/shop/bundles --explore policy.yaml --state runs/shop/state
  qianmo serve --bundle runs/shop/bundles --rows s3://logs/shop/rows --state runs/shop/state`,
  open: async () => (await import('./serve.js')).serveFromBundle,
  show: ({ url, bundle }) => ({
    text: `rankings: ${url}/v1/rank (Ctrl-C stops it)`,
    json: { url, bundle },
  }),
});
