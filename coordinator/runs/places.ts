/** Places and configs that a call is given: the environment says how to reach S3 before a config is read. */

import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { RunConfig } from '../../shared/config/run-config.js';
import { errorOf } from '../../shared/base/errors.js';
import { type ObjectStore, isObjectKey, joinAddress } from '../../shared/storage/object-store.js';
import {
  openObjectStore,
  s3OptionsOf,
  StorageConfigSchema,
} from '../../shared/storage/open-object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import type { Environment } from './run-context.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { loadUnchecked, type ConfigKind } from '../../shared/config/yaml-file.js';
import type { RunConfigSource } from './requests.js';

export function objectStoreAt(address: string, environment: Environment): ObjectStore {
  return openObjectStore(address, s3OptionsIn(environment));
}

/** Where `qianmo auto` keeps the search of a config, below the output of the config. */
export function searchOutputOf(output: string): string {
  return joinAddress(output, 'auto');
}

/** Reads the variables that the AWS SDK reads: AWS_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL. */
export function s3OptionsIn(environment: Environment): S3Options {
  const region = environment['AWS_REGION'];
  const endpoint = environment['AWS_ENDPOINT_URL_S3'] ?? environment['AWS_ENDPOINT_URL'];
  return {
    ...s3OptionsOf(StorageConfigSchema.parse({})),
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

/** Reads configs from paths of this machine, `file://PATH` and `s3://BUCKET/KEY`. */
export function configReaderOf(environment: Environment): (path: string) => Promise<string> {
  return (path) =>
    path.startsWith('s3://')
      ? readObject(path, environment)
      : readFile(path.replace(/^file:\/\//, ''), 'utf8');
}

async function readObject(address: string, environment: Environment): Promise<string> {
  const nameStart = address.lastIndexOf('/') + 1;
  const key = address.slice(nameStart);
  const store = objectStoreAt(address.slice(0, nameStart), environment);
  const object = isObjectKey(key) ? await store.get(key) : null;
  if (object !== null) return Buffer.from(object.bytes).toString('utf8');
  throw errorOf('usage', 'the config cannot be read', {
    where: address,
    expected: 'a YAML file at s3://BUCKET/KEY, named with letters, digits, dots, _, = and -',
    found: key === '' ? 'a prefix, not an object' : 'no such object',
    cure: 'correct the address; AWS_ENDPOINT_URL_S3 and AWS_REGION select the S3 service',
  });
}

/** The address of the store for workers, which may run in another folder. */
export function storeAddressOf(config: RunConfig): string {
  const { store } = config.data;
  return store.startsWith('s3://') ? store : resolve(store.replace(/^file:\/\//, ''));
}

/** `ADDRESS@NAME`; an address may hold an `@` before its last slash. */
export function parsedBundleAddress(text: string): {
  readonly address: string;
  readonly name?: string;
} {
  const [, address, name] = /^(.+)@([^/@]+)$/.exec(text) ?? [];
  return address === undefined || name === undefined ? { address: text } : { address, name };
}

/** A config that a call was given. */
export async function configOf<Config>(
  kind: ConfigKind<Config>,
  source: string | object,
  environment: Environment,
): Promise<Config> {
  return kind.check(await uncheckedConfigOf(kind, source, environment), placeOf(source));
}

/** Its content, which a sweep changes before it is checked. */
export function uncheckedConfigOf(
  kind: ConfigKind<unknown>,
  source: string | object,
  environment: Environment,
): Promise<unknown> {
  return typeof source === 'string'
    ? loadUnchecked(kind, source, configReaderOf(environment))
    : Promise.resolve(source);
}

/** The place of a config in messages: its file, when it has one. */
export function placeOf(source: string | object): string {
  return typeof source === 'string' ? source : 'config';
}

/**
 * The config of a run that is trained, evaluated or exported.
 *
 * @throws QianmoError of kind `usage` if its model and method are still to be searched for.
 */
export async function chosenConfigOf(
  source: RunConfigSource,
  environment: Environment,
): Promise<RunConfig> {
  const config = await configOf(RUN_CONFIG, source, environment);
  if (config.auto === undefined) return config;
  const best = `${searchOutputOf(config.output)}/best.yaml`;
  throw errorOf('usage', 'this config leaves model, method and training to a search', {
    where: placeOf(source),
    expected: 'a config without the section auto, or method: auto',
    found: 'auto',
    cure: `search first, with \`qianmo auto run.yaml\`; what it chose is trained, and ${best} is its config`,
  });
}
