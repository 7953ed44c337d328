/** Prints a document as text for a terminal, or its record as JSON. */

import { asJson, asText } from '../../../coordinator/reports/document/as-text.js';
import type { Document } from '../../../coordinator/reports/document/document.js';
import type { CommandContext } from './command-context.js';

/** @param format every format but `json` is text */
export function printDocument(
  document: Document,
  format: string,
  { print, outputColumns }: Pick<CommandContext, 'print' | 'outputColumns'>,
): void {
  print(format === 'json' ? asJson(document) : asText(document, outputColumns));
}
