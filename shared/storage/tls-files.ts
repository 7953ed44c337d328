/**
 * Certificates of connections to Redis: that of the authority which has signed the server's, and one's own. The
 * environment names their files.
 */

import { errorOf } from '../base/errors.js';
import { textOfNamedFile } from '../base/named-file.js';

/** Texts in PEM. Absent parts are those of the system: its authorities, and no certificate of one's own. */
export interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

const CA = 'QIANMO_REDIS_CA_FILE';
const CERTIFICATE = 'QIANMO_REDIS_CERTIFICATE_FILE';
const KEY = 'QIANMO_REDIS_KEY_FILE';
/** The authorities of an operating system together have a quarter of it. */
const FILE_BYTE_COUNT_MAX = 1024 * 1024;

/**
 * Returns null if the environment names no file.
 *
 * @throws QianmoError `usage` for a certificate without its key, or the reverse, and for a file that is too large;
 *   `environment` for a file that cannot be read.
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
    throw errorOf('usage', 'a certificate for Redis and its key belong together', {
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

function textOf(file: string, variable: string): Promise<string> {
  const what = 'a file for the connection to Redis';
  return textOfNamedFile({ file, variable, what, byteCountMax: FILE_BYTE_COUNT_MAX });
}
