/**
 * Makes text from outside harmless to a terminal. A reason of a worker, a path or a key of a store may
 * hold escape sequences, which could move the cursor, rewrite what was printed or set the title.
 */

/**
 * C0 without tab and line feed, DEL, C1, and the marks that change the direction of writing: a line with
 * one of them reads otherwise than it is.
 */
const CONTROL =
  // eslint-disable-next-line no-control-regex -- these are the characters to find
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Control characters become visible as `\u001b`, which means the same in a JSON text. */
export function printableText(text: string): string {
  return text.replace(CONTROL, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
