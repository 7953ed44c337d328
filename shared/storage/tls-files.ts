/**
 * Certificates of connections to Redis: that of the authority which has signed the server's, and one's own. The
 * environment names their files.
 */

import { readFile } from 'node:fs/promises';
import { QianmoError } from '../base/errors.js';

/** Texts in PEM. Absent parts are those of the system: its authorities, and no certificate of one's own. */
export interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

const CA = 'QIANMO_REDIS_CA_FILE';
const CERTIFICATE = 'QIANMO_REDIS_CERTIFICATE_FILE';
const KEY = 'QIANMO_REDIS_KEY_FILE';

/**
 * Returns null if the environment names no file.
 *
 * @throws QianmoError `usage` for a certificate without its key, or the reverse; `environment` for a file that
 *   cannot be read.
 */
export async function tlsFilesOf(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<TlsFiles | null> {
  const {
    [CA]: caFile = '',
    [CERTIFICATE]: certificateFile = '',
    [KEY]: keyFile = '',
  } = environment;
  if ((certificateFile === '') !== (keyFile === ''))
    throw new QianmoError({
      kind: 'usage',
      what: 'a certificate for Redis and its key belong together',
      found: `only ${certificateFile === '' ? KEY : CERTIFICATE}`,
      cure: `set both ${CERTIFICATE} and ${KEY}`,
    });
  const [ca, cert, key] = await Promise.all([
    caFile === '' ? null : textOf(caFile, CA),
    certificateFile === '' ? null : textOf(certificateFile, CERTIFICATE),
    keyFile === '' ? null : textOf(keyFile, KEY),
  ]);
  if (ca === null && cert === null) return null;
  return {
    ...(ca === null ? {} : { ca }),
    ...(cert === null || key === null ? {} : { cert, key }),
  };
}

async function textOf(file: string, variable: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new QianmoError({
      kind: 'environment',
      what: 'a file for the connection to Redis cannot be read',
      where: file,
      found: cause instanceof Error ? cause.message : String(cause),
      cure: `correct ${variable}`,
      cause,
    });
  }
}
