/** Walks over the tokens of an expression. */

import type { Token } from './lexer.js';
import { OutsideSubset, type SyntaxNode } from './syntax.js';

export abstract class TokenCursor {
  private at = 0;

  constructor(private readonly tokens: readonly Token[]) {}

  abstract expression(): SyntaxNode;

  /** Expressions with commas between them, up to and with the closing symbol. */
  list(close: string): SyntaxNode[] {
    if (this.takesSymbol(close)) return [];
    const items = [this.expression()];
    while (this.takesSymbol(',')) items.push(this.expression());
    this.demandSymbol(close);
    return items;
  }

  typeName(): string {
    const first = this.take();
    if (first.kind !== 'word')
      throw new OutsideSubset(`"${first.text}" is not a type of the subset`);
    if (this.isSymbol('(')) throw new OutsideSubset('a type with a size is not of the subset');
    return first.text.toUpperCase();
  }

  take(): Token {
    const token = this.peek();
    this.at += 1;
    return token;
  }

  peek(): Token {
    return this.tokens[this.at] ?? { kind: 'end', text: 'the end' };
  }

  isWord(word: string): boolean {
    const { kind, text } = this.peek();
    return kind === 'word' && text.toUpperCase() === word;
  }

  takesWord(word: string): boolean {
    if (!this.isWord(word)) return false;
    this.at += 1;
    return true;
  }

  isSymbol(symbol: string): boolean {
    const { kind, text } = this.peek();
    return kind === 'symbol' && text === symbol;
  }

  takesSymbol(symbol: string): boolean {
    if (!this.isSymbol(symbol)) return false;
    this.at += 1;
    return true;
  }

  demandWord(word: string): void {
    if (!this.takesWord(word)) throw this.unexpected(word);
  }

  demandSymbol(symbol: string): void {
    if (!this.takesSymbol(symbol)) throw this.unexpected(`"${symbol}"`);
  }

  demandEnd(): void {
    if (this.peek().kind !== 'end') throw this.unexpected('the end of the expression');
  }

  unexpected(expected: string): OutsideSubset {
    return new OutsideSubset(`"${this.peek().text}" is found where ${expected} is expected`);
  }
}
