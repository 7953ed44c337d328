/** Parts of an expression that begin with a keyword: CASE, CAST, EXTRACT, literals and the like. */

import { OutsideSubset, type CaseBranch, type SyntaxNode } from './syntax.js';
import type { TokenCursor } from './token-cursor.js';

/** @returns null where the word is a column or a function after all. */
type PrimaryParser = (parser: TokenCursor) => SyntaxNode | null;

/** Words that name neither a column nor a function without quotes. */
const RESERVED = [
  ...['ALL', 'AND', 'ANY', 'ARRAY', 'AS', 'BETWEEN', 'BOTH', 'COLLATE', 'CURRENT_DATE'],
  ...['CURRENT_TIME', 'CURRENT_TIMESTAMP', 'CURRENT_USER', 'DISTINCT', 'ELSE', 'END', 'EXISTS'],
  ...['FROM', 'GLOB', 'ILIKE', 'IN', 'INTERVAL', 'IS', 'ISNULL', 'LAMBDA', 'LEADING', 'LIKE'],
  ...['LOCALTIME', 'LOCALTIMESTAMP', 'NOT', 'NOTNULL', 'OR', 'SELECT', 'SESSION_USER', 'SIMILAR'],
  ...['SOME', 'THEN', 'TRAILING', 'UNIQUE', 'USER', 'USING', 'WHEN'],
];

export const PRIMARY_PARSERS: ReadonlyMap<string, PrimaryParser> = new Map<string, PrimaryParser>([
  ...RESERVED.map((word) => [word, () => outside(word)] as const),
  ['NULL', () => ({ kind: 'null' })],
  ['TRUE', () => ({ kind: 'truth', value: true })],
  ['FALSE', () => ({ kind: 'truth', value: false })],
  ['CASE', caseNode],
  ['CAST', (parser) => castNode(parser, false)],
  ['TRY_CAST', (parser) => castNode(parser, true)],
  ['EXTRACT', extractNode],
  ['DATE', (parser) => momentNode(parser, 'DATE')],
  ['TIMESTAMP', (parser) => momentNode(parser, 'TIMESTAMP')],
]);

function outside(word: string): never {
  throw new OutsideSubset(`${word} is not of the subset here`);
}

function caseNode(parser: TokenCursor): SyntaxNode {
  const operand = parser.isWord('WHEN') ? null : parser.expression();
  const branches: CaseBranch[] = [];
  while (parser.takesWord('WHEN')) {
    const value = parser.expression();
    parser.demandWord('THEN');
    const condition: SyntaxNode =
      operand === null ? value : { kind: 'binary', operator: '=', left: operand, right: value };
    branches.push({ condition, result: parser.expression() });
  }
  const otherwise: SyntaxNode = parser.takesWord('ELSE') ? parser.expression() : { kind: 'null' };
  parser.demandWord('END');
  if (branches.length === 0) throw new OutsideSubset('CASE has no WHEN');
  return { kind: 'case', branches, otherwise };
}

function castNode(parser: TokenCursor, isTry: boolean): SyntaxNode {
  parser.demandSymbol('(');
  const operand = parser.expression();
  parser.demandWord('AS');
  const typeName = parser.typeName();
  parser.demandSymbol(')');
  return { kind: 'cast', operand, typeName, isTry };
}

function extractNode(parser: TokenCursor): SyntaxNode {
  parser.demandSymbol('(');
  const part = parser.take();
  if (part.kind !== 'word' && part.kind !== 'text') throw parser.unexpected('a part of a date');
  parser.demandWord('FROM');
  const moment = parser.expression();
  parser.demandSymbol(')');
  return { kind: 'call', name: 'date_part', args: [{ kind: 'text', value: part.text }, moment] };
}

function momentNode(parser: TokenCursor, typeName: 'DATE' | 'TIMESTAMP'): SyntaxNode | null {
  const { kind, text } = parser.peek();
  if (kind !== 'text') return null;
  parser.take();
  return { kind: 'cast', operand: { kind: 'text', value: text }, typeName, isTry: false };
}
