/** Decides by the Host header whether a request was meant for this machine. */

const PORT = /:\d{1,5}$/;
const LOOPBACK_IPV4 = /^127(\.\d{1,3}){3}$/;

/**
 * @param host the header: a name or an address, with or without a port.
 * @param hostsAllowed further names, without ports.
 */
export function isOwnHost(host: string, hostsAllowed: readonly string[]): boolean {
  const name = host.replace(PORT, '').toLowerCase();
  return (
    name === 'localhost' ||
    name === '[::1]' ||
    LOOPBACK_IPV4.test(name) ||
    hostsAllowed.some((allowed) => allowed.toLowerCase() === name)
  );
}
