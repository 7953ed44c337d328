/** Decides by the Host header whether a request was meant for this machine. */

import { isLoopbackHost } from '../../shared/network/loopback-host.js';

const PORT = /:\d{1,5}$/;

/**
 * @param host the header: a name or an address, with or without a port.
 * @param hostsAllowed further names, without ports.
 */
export function isOwnHost(host: string, hostsAllowed: readonly string[]): boolean {
  const name = host.replace(PORT, '').toLowerCase();
  return isLoopbackHost(name) || hostsAllowed.some((allowed) => allowed.toLowerCase() === name);
}
