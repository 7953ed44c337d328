/** Addresses of paths of a server that may lie behind a proxy, below a path of its own. */

/** @param path from its slash on, encoded. A query of the address is not kept. */
export function addressBelow(address: string, path: string): string {
  const below = new URL(address);
  below.pathname = below.pathname.replace(/\/+$/, '') + path;
  [below.search, below.hash] = ['', ''];
  return below.href;
}
