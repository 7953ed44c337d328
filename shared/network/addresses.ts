/** Addresses of paths of a server that may lie behind a proxy, below a path of its own. */

import { isIPv4 } from 'node:net';

/** @param path from its slash on, encoded. A query of the address is not kept. */
export function addressBelow(address: string, path: string): string {
  const below = new URL(address);
  below.pathname = below.pathname.replace(/\/+$/, '') + path;
  [below.search, below.hash] = ['', ''];
  return below.href;
}

/**
 * Returns whether the host can be this machine alone. A name that begins like an address, as `127.example.com`, is anybody's.
 *
 * @param host a name or an address without a port, in lower case; IPv6 with or without brackets.
 */
export function isLoopbackHost(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.');
  return host === 'localhost' || host === '::1' || host === '[::1]';
}
