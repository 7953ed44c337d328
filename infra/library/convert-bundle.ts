/** Writes the model of a bundle for other servers, as ONNX. */

import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { parsedBundleAddress, objectStoreAt } from '../../coordinator/runs/places.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import { errorOf } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import {
  dictionariesOf,
  readPublishedBundle,
  targetEncodingsOf,
} from '../../shared/bundle/read-bundle.js';
import { BundleArrays, filesOf } from '../../shared/bundle/array-files.js';
import { bundleDigestOf } from '../../shared/bundle/bundle-store.js';
import { writeInputGuide } from '../../worker/serving/interchange/input-guide.js';
import { modelGraphOf } from '../../worker/serving/interchange/model-graph.js';
import { writeOnnxModel } from '../../worker/serving/interchange/onnx-graph.js';
import type { ConvertRequestSchema } from './requests.js';

export interface ConvertedModel {
  readonly format: 'onnx';
  readonly folder: string;
  /** The digest of the bundle. */
  readonly bundle: string;
}

/** @throws QianmoError of kind `usage` if the model cannot be converted, or the folder has files. */
export async function convertBundle(
  { bundles, format, out }: z.output<typeof ConvertRequestSchema>,
  { environment }: Pick<RunContext, 'environment'>,
): Promise<ConvertedModel> {
  const folder = resolve(out);
  await requireFree(folder);
  const { address, name } = parsedBundleAddress(bundles);
  const store = objectStoreAt(address, environment);
  const digest = await bundleDigestOf(store, name);
  const loaded = await readPublishedBundle(store, digest);
  const graph = modelGraphOf(loaded);
  const { manifest } = loaded;
  const where = `${store.address}@${digest}`;
  const arrays = new BundleArrays(manifest.arrays, filesOf(store), where);
  // It takes its name when it is whole.
  const partial = `${folder}.${freshNonce()}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    await writeOnnxModel(graph, partial, { bundle: digest });
    await writeInputGuide(partial, {
      ...{ digest, manifest, index: loaded.index },
      dictionaries: await dictionariesOf(manifest.encodedFeatures, arrays),
      targetEncodings: await targetEncodingsOf(manifest.encodedFeatures, arrays),
    });
    await mkdir(dirname(folder), { recursive: true });
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
  return { format, folder, bundle: digest };
}

async function requireFree(folder: string): Promise<void> {
  let found: readonly string[] = [];
  try {
    found = await readdir(folder);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw error;
  }
  if (found.length === 0) return;
  throw errorOf('usage', 'the folder of the model has files', {
    where: folder,
    expected: 'a folder that is empty or not there',
    found: found.slice(0, 3).join(', '),
    cure: 'name another folder, or remove this one',
  });
}
