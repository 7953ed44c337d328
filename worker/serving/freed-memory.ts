/**
 * Memory of bodies and answers, given back when nobody reads them any more. Array buffers that are left to the
 * garbage collector count as growth of the old generation, small as it is: every few hundred requests all of it was
 * marked, which stops the server for up to twenty milliseconds where its threads wait for processors.
 */

import type { MappingAddon } from './mapping-addon.js';

/**
 * Empties bytes that have an array buffer of their own; others stay as they are, and all where the addon is
 * not compiled.
 */
export function freeMemory(
  addon: Pick<MappingAddon, 'detach'> | null,
  { buffer, byteLength }: Uint8Array,
): void {
  // Small buffers share one.
  const isOwn = byteLength > 0 && buffer.byteLength === byteLength;
  if (isOwn && buffer instanceof ArrayBuffer) addon?.detach(buffer);
}
