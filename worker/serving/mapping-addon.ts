/** Files mapped into memory by the addon of the kernel (`native/mapping.cc`). */

/**
 * Memory is named by its address, because an array buffer belongs to one thread: the thread that maps and
 * fills a file hands the address to the one that reads it. The caller keeps count of who reads what.
 */
export interface MappingAddon {
  /** The address of a range that cannot be read until files are mapped into it. */
  reserve(byteCount: number): number;
  /**
   * Maps files one after the other into a reserved range, read-only. Those that do not begin where a page does
   * are read into it. Errors have a `code`: `ESIZE` if a file is not as long as it should be.
   */
  map(
    address: number,
    capacity: number,
    paths: readonly string[],
    byteCounts: readonly number[],
  ): void;
  /** Brings pages into memory, so that the first request does not wait for the disk. */
  populate(address: number, byteCount: number): void;
  /** An array buffer over the bytes, which does not own them. */
  view(address: number, byteCount: number): ArrayBuffer;
  /** Empties the buffer and its views, so that whoever still has one reads nothing. */
  detach(buffer: ArrayBuffer): void;
  /** Gives whole pages back; their addresses stay reserved. */
  vacate(address: number, byteCount: number): void;
  /** Ends a reserved range. */
  unmap(address: number, byteCount: number): void;
  /** Names the calling thread for `rest`. */
  threadId(): number;
  /**
   * Whether a thread of this process runs only when no other wants to. False where the system does not
   * allow it, or would not allow to take it back.
   */
  rest(threadId: number, isResting: boolean): boolean;
}
