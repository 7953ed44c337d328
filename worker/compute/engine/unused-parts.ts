/**
 * Stand-ins for the parts of TensorFlow.js that native computing does not use: layers, readers of data, the
 * converter, the backends of browsers, and the search for the addon's file. Loading them takes a quarter of
 * the time that the library takes, in every process that computes.
 */

import { Module, createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { z } from 'zod';

/** Stand-ins with no more than the library extends and calls while it loads. */
const UNUSED: Readonly<Record<string, object>> = {
  '@tensorflow/tfjs-layers': {
    CustomCallback: Object,
    registerCallbackConstructor: () => undefined,
  },
  '@tensorflow/tfjs-converter': {},
  '@tensorflow/tfjs-data': {},
  '@tensorflow/tfjs-backend-cpu': {},
  '@tensorflow/tfjs-backend-webgl': {},
};

const ManifestSchema = z.looseObject({
  binary: z.looseObject({
    module_name: z.string(),
    module_path: z.string(),
    napi_versions: z.array(z.int()),
  }),
});

/** Calls `load` while whatever `packageName` requires of these parts is a stand-in, unless it is loaded already. */
export function withoutUnusedParts<Loaded>(
  require: NodeJS.Require,
  packageName: string,
  load: () => Loaded,
): Loaded {
  const requireOfPackage = createRequire(require.resolve(packageName));
  const requireOfLibrary = createRequire(requireOfPackage.resolve('@tensorflow/tfjs'));
  const added = [
    ...Object.entries(UNUSED).map(([name, exports]) => standIn(requireOfLibrary, name, exports)),
    standIn(requireOfPackage, '@mapbox/node-pre-gyp', {
      find: (manifest: string) => addonOf(manifest, require(manifest)),
    }),
  ];
  try {
    return load();
  } finally {
    // Whoever asks for such a part later is given the real one.
    for (const path of added) if (path !== null) Reflect.deleteProperty(require.cache, path);
  }
}

/** Returns the path of the part; null if it was loaded before. */
function standIn(require: NodeJS.Require, name: string, exports: object): string | null {
  const path = require.resolve(name);
  if (require.cache[path] !== undefined) return null;
  const module = new Module(path);
  Object.assign(module, { filename: path, loaded: true, exports });
  require.cache[path] = module;
  return path;
}

/** The file of the addon, which is built for the newest interface that the package knows. */
function addonOf(manifestPath: string, manifest: unknown): string {
  const { module_name, module_path, napi_versions } = ManifestSchema.parse(manifest).binary;
  const folder = module_path.replace('{napi_build_version}', `${Math.max(...napi_versions)}`);
  return join(dirname(manifestPath), folder, `${module_name}.node`);
}
