/** The writer of protocol buffers in google-protobuf, which comes without types. */

import { createRequire } from 'node:module';

export interface ProtoWriter {
  writeInt64(field: number, value: number): void;
  writeFloat(field: number, value: number): void;
  writeDouble(field: number, value: number): void;
  writeString(field: number, value: string): void;
  writeBytes(field: number, value: Uint8Array): void;
  writePackedInt64(field: number, values: readonly number[]): void;
  /** @param write is handed the value and this writer, whose next fields are those of the message. */
  writeMessage<Value>(
    field: number,
    value: Value,
    write: (value: Value, writer: ProtoWriter) => void,
  ): void;
  getResultBuffer(): Uint8Array;
}

// JavaScript without types; the interface above is the part that is used.
const { BinaryWriter } = createRequire(import.meta.url)('google-protobuf') as {
  readonly BinaryWriter: new () => ProtoWriter;
};

export function messageOf(write: (writer: ProtoWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.getResultBuffer();
}
