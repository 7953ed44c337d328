/** Which hosts are this machine alone. */

import { isIPv4 } from 'node:net';

/**
 * Whether the host can be this machine alone. A name that begins like an address, as `127.example.com`, is anybody's.
 *
 * @param host a name or an address without a port, in lower case; IPv6 with or without brackets.
 */
export function isLoopbackHost(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.');
  return host === 'localhost' || host === '::1' || host === '[::1]';
}
