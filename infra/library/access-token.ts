/** The token that a server of this machine demands: from a file, or from a variable of the environment. */

import { isLoopbackHost } from '../../shared/network/addresses.js';
import { readFile } from 'node:fs/promises';
import { errorOf } from '../../shared/base/errors.js';
import type { Environment } from '../../coordinator/runs/run-context.js';

interface TokenSource {
  /** Absent: the variable. */
  readonly file: string | undefined;
  readonly variable: string;
  readonly environment: Environment;
}

const TOKEN_LENGTH_MIN = 16;

/**
 * Null if there is none.
 *
 * @throws QianmoError `usage` if it cannot be read, or is too easy to guess.
 */
export async function accessToken({
  file,
  variable,
  environment,
}: TokenSource): Promise<string | null> {
  const token = file === undefined ? environment[variable] : await tokenIn(file);
  if (token === undefined) return null;
  if (token.length >= TOKEN_LENGTH_MIN && /^[\x21-\x7e]+$/.test(token)) return token;
  throw errorOf('usage', 'the token of the server cannot be used', {
    where: file ?? variable,
    expected: `at least ${TOKEN_LENGTH_MIN} visible ASCII characters`,
    found: `${token.length} characters`,
    cure: 'write a new one, as with `openssl rand -hex 32`',
  });
}

/** @throws QianmoError `usage` for a server without a token on an address that others reach. */
export function requireTokenBeyondLoopback(
  host: string,
  token: string | null,
  variable: string,
): void {
  if (token !== null || isLoopbackHost(host)) return;
  throw errorOf('usage', 'the server would be open to everybody who reaches this machine', {
    where: host,
    expected: 'a token, or the loopback address',
    cure: `give --token-file, or set ${variable}`,
  });
}

async function tokenIn(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw errorOf('usage', 'the file of the token cannot be read', {
      where: file,
      found: cause instanceof Error ? cause.message : String(cause),
      cure: 'name a file with the token, which this user can read',
      cause,
    });
  }
}
