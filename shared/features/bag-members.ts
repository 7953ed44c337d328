/** The members of a bag: from a list, from text with a separator, or from a JSON array in text. */

import { textOfColumn, textOfTyped } from './values/column-text.js';
import type { ColumnType } from './values/column-type.js';
import { JSON_LIST_START } from './encoding-rules.js';
import { membersOfJsonList } from './json-list.js';
import { textOfListMember } from './values/json-text.js';
import { wrongValue } from './values/raw-row.js';

/** Hands over the members of a bag, empty ones included, until `take` returns false. */
type EachMember = (
  value: unknown,
  columnName: string,
  take: (member: string | null) => boolean,
) => void;

const LIST_TYPE = /^(.*)\[\d*\]$/;

/** @returns null where the column's type is not one that rows can be read in. */
export function membersOfColumn(type: ColumnType, separator: string): EachMember | null {
  const element = type.log === 'typed' ? LIST_TYPE.exec(type.type)?.[1] : undefined;
  if (element !== undefined) return membersOfTypedList(element);
  const textOf = textOfColumn(type);
  if (textOf === null) return null;
  const mayHoldJson = type.log === 'text';
  return (value, name, take) => {
    if (mayHoldJson && Array.isArray(value)) {
      for (const member of value) if (!take(textOfListMember(member))) return;
      return;
    }
    const text = typeof value === 'string' ? value : textOf(value, name);
    if (text === null) return;
    const members =
      mayHoldJson && text.startsWith(JSON_LIST_START) ? membersOfJsonList(text) : null;
    if (members === null) eachPart(text, separator, take);
    else for (const member of members) if (!take(member)) return;
  };
}

function membersOfTypedList(element: string): EachMember | null {
  const textOf = textOfTyped(element);
  if (textOf === null) return null;
  return (value, name, take) => {
    if (value === null) return;
    if (!Array.isArray(value)) throw wrongValue(name, 'a list', value);
    for (const member of value as readonly unknown[]) if (!take(textOf(member, name))) return;
  };
}

function eachPart(text: string, separator: string, take: (part: string) => boolean): void {
  let start = 0;
  for (;;) {
    const end = text.indexOf(separator, start);
    if (!take(end < 0 ? text.slice(start) : text.slice(start, end)) || end < 0) return;
    start = end + separator.length;
  }
}
