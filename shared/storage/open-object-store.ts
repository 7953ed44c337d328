/** The `storage` section of a config, and the store that an address in a config names. */

import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import { FileObjectStore } from './file-object-store.js';
import type { ObjectStore } from './object-store.js';
import { S3ObjectStore, type S3Options } from './s3-object-store.js';

export const StorageConfigSchema = z
  .strictObject({
    s3Endpoint: z
      .url()
      .optional()
      .describe('The address of an S3-compatible store; absent for AWS.'),
    s3Region: z.string().min(1).default('us-east-1').describe('The region of the store.'),
    s3ForcePathStyle: z
      .boolean()
      .default(true)
      .describe('Whether the bucket is part of the path and not of the host name.'),
  })
  .describe('How objects at s3:// addresses are reached. Credentials come from the environment.');

type StorageConfig = z.infer<typeof StorageConfigSchema>;

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;

/**
 * Opens a path, `file://PATH` (taken literally) or `s3://BUCKET/PREFIX`. It does not access the store yet.
 *
 * @throws QianmoError `usage` if the address is none of these.
 */
export function openObjectStore(address: string, s3: S3Options): ObjectStore {
  if (address.startsWith('s3://')) return openS3(address, s3);
  const path = objectFolderOf(address);
  if (path === '' || /^[a-z0-9+.-]+:\/\//.test(path)) throw unknownAddress(address);
  return new FileObjectStore({ folder: path });
}

/** The folder of an address that is not at `s3://`, as it is written: no character of it has the meaning that it has in a URL. */
export function objectFolderOf(address: string): string {
  return address.startsWith('file://') ? address.slice('file://'.length) : address;
}

export function s3OptionsOf(storage: StorageConfig): S3Options {
  const { s3Endpoint, s3Region, s3ForcePathStyle } = storage;
  return {
    region: s3Region,
    forcePathStyle: s3ForcePathStyle,
    ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
  };
}

function openS3(address: string, s3: S3Options): S3ObjectStore {
  const [bucket = '', ...rest] = address.slice('s3://'.length).split('/');
  if (!BUCKET.test(bucket)) throw unknownAddress(address);
  const prefix = rest.filter((part) => part !== '').join('/');
  return new S3ObjectStore({ ...s3, bucket, prefix });
}

function unknownAddress(address: string): QianmoError {
  return errorOf('usage', 'this is not the address of an object store', {
    where: address,
    expected: 'a path, file://PATH or s3://BUCKET/PREFIX',
    cure: 'correct the address; a bucket has 3 to 63 lower-case letters, digits, dots and hyphens',
  });
}
