/** What a command line names by itself, before any config says how S3 is reached: the environment does. */

import { readTextFile, type TextReader } from '../../shared/config/yaml-file.js';
import { QianmoError } from '../../shared/base/errors.js';
import { type ObjectStore, isObjectKey } from '../../shared/storage/object-store.js';
import {
  openObjectStore,
  s3OptionsOf,
  StorageConfigSchema,
} from '../../shared/storage/open-object-store.js';
import type { Environment } from './call/run-context.js';

/** In the variables of the SDK's own words. */
export function objectStoreAt(address: string, environment: Environment): ObjectStore {
  const region = environment['AWS_REGION'];
  const endpoint = environment['AWS_ENDPOINT_URL_S3'] ?? environment['AWS_ENDPOINT_URL'];
  return openObjectStore(address, {
    ...s3OptionsOf(StorageConfigSchema.parse({})),
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
  });
}

/** Of configs: paths of this machine, `file://PATH`, and `s3://BUCKET/KEY`. */
export function configReaderOf(environment: Environment): TextReader {
  return (path) =>
    path.startsWith('s3://')
      ? readObject(path, environment)
      : readTextFile(path.replace(/^file:\/\//, ''));
}

async function readObject(address: string, environment: Environment): Promise<string> {
  const nameStart = address.lastIndexOf('/') + 1;
  const key = address.slice(nameStart);
  const store = objectStoreAt(address.slice(0, nameStart), environment);
  const object = isObjectKey(key) ? await store.get(key) : null;
  if (object !== null) return Buffer.from(object.bytes).toString('utf8');
  throw new QianmoError({
    kind: 'usage',
    what: 'the config cannot be read',
    where: address,
    expected: 'a YAML file at s3://BUCKET/KEY, its name of letters, digits, dots, _, = and -',
    found: key === '' ? 'a prefix, not an object' : 'no such object',
    cure: 'mend the address; AWS_ENDPOINT_URL_S3 and AWS_REGION say which S3 is meant',
  });
}
