/**
 * Parses an SQL expression of the subset, with the precedence of DuckDB's grammar. From the loosest:
 * OR, AND, NOT, IS, comparison, BETWEEN / IN / LIKE, ||, + -, * / // %, sign, ::.
 */

import { tokensOf } from './lexer.js';
import { PRIMARY_PARSERS } from './primary-parser.js';
import {
  OutsideSubset,
  type ArithmeticOperator,
  type BinaryOperator,
  type ComparisonOperator,
  type SyntaxNode,
} from './syntax.js';
import { TokenCursor } from './token-cursor.js';

const COMPARISONS: ReadonlyMap<string, ComparisonOperator> = new Map([
  ['=', '='],
  ['==', '='],
  ['<>', '<>'],
  ['!=', '<>'],
  ['<', '<'],
  ['<=', '<='],
  ['>', '>'],
  ['>=', '>='],
]);
const SUMS: readonly ArithmeticOperator[] = ['+', '-'];
const PRODUCTS: readonly ArithmeticOperator[] = ['*', '/', '//', '%'];

/** @throws OutsideSubset with the reason. */
export function parseExpression(sql: string): SyntaxNode {
  const parser = new ExpressionParser(tokensOf(sql));
  const node = parser.expression();
  parser.demandEnd();
  return node;
}

class ExpressionParser extends TokenCursor {
  override expression(): SyntaxNode {
    let left = this.conjunction();
    while (this.takesWord('OR')) left = binary('OR', left, this.conjunction());
    return left;
  }

  private conjunction(): SyntaxNode {
    let left = this.negation();
    while (this.takesWord('AND')) left = binary('AND', left, this.negation());
    return left;
  }

  private negation(): SyntaxNode {
    return this.takesWord('NOT')
      ? { kind: 'unary', operator: 'NOT', operand: this.negation() }
      : this.test();
  }

  private test(): SyntaxNode {
    const operand = this.comparison();
    if (!this.takesWord('IS')) return operand;
    const isNegated = this.takesWord('NOT');
    if (this.takesWord('NULL')) return { kind: 'isNull', operand, isNegated };
    if (this.takesWord('DISTINCT') && this.takesWord('FROM')) {
      const operator = isNegated ? 'IS NOT DISTINCT FROM' : 'IS DISTINCT FROM';
      return binary(operator, operand, this.comparison());
    }
    throw this.unexpected('NULL or DISTINCT FROM');
  }

  private comparison(): SyntaxNode {
    const left = this.predicate();
    const operator = this.takesOperator(COMPARISONS);
    if (operator === null) return left;
    const node = binary(operator, left, this.predicate());
    if (this.takesOperator(COMPARISONS) !== null)
      throw new OutsideSubset('a comparison of a comparison needs parentheses');
    return node;
  }

  private predicate(): SyntaxNode {
    const operand = this.concatenation();
    const isNegated = this.isWord('NOT') && this.takesWord('NOT');
    if (this.takesWord('BETWEEN')) {
      const low = this.concatenation();
      this.demandWord('AND');
      return { kind: 'between', operand, items: [low, this.concatenation()], isNegated };
    }
    if (this.takesWord('IN')) {
      this.demandSymbol('(');
      return { kind: 'in', operand, items: this.list(')'), isNegated };
    }
    if (this.takesWord('LIKE'))
      return { kind: 'like', operand, items: [this.concatenation()], isNegated };
    if (isNegated) throw this.unexpected('BETWEEN, IN or LIKE');
    return operand;
  }

  private concatenation(): SyntaxNode {
    let left = this.sum();
    while (this.takesSymbol('||')) left = binary('||', left, this.sum());
    return left;
  }

  private sum(): SyntaxNode {
    let left = this.product();
    for (let operator = this.takesOneOf(SUMS); operator !== null; operator = this.takesOneOf(SUMS))
      left = binary(operator, left, this.product());
    return left;
  }

  private product(): SyntaxNode {
    let left = this.signed();
    for (
      let operator = this.takesOneOf(PRODUCTS);
      operator !== null;
      operator = this.takesOneOf(PRODUCTS)
    )
      left = binary(operator, left, this.signed());
    return left;
  }

  private signed(): SyntaxNode {
    const operator = this.takesOneOf(['-', '+'] as const);
    return operator === null
      ? this.castOperand()
      : { kind: 'unary', operator, operand: this.signed() };
  }

  private castOperand(): SyntaxNode {
    let operand = this.primary();
    while (this.takesSymbol('::'))
      operand = { kind: 'cast', operand, typeName: this.typeName(), isTry: false };
    return operand;
  }

  private primary(): SyntaxNode {
    const token = this.take();
    switch (token.kind) {
      case 'number':
        return numberNode(token.text);
      case 'text':
        return { kind: 'text', value: token.text };
      case 'name':
        return this.isSymbol('(') ? this.call(token.text) : { kind: 'column', name: token.text };
      case 'word':
        return this.word(token.text);
      case 'symbol':
        if (token.text !== '(') break;
        return this.parenthesised();
      case 'end':
        break;
    }
    throw new OutsideSubset(`"${token.text}" is not expected here`);
  }

  private parenthesised(): SyntaxNode {
    const node = this.expression();
    this.demandSymbol(')');
    return node;
  }

  private word(text: string): SyntaxNode {
    const special = PRIMARY_PARSERS.get(text.toUpperCase());
    const node = special?.(this) ?? null;
    if (node !== null) return node;
    return this.isSymbol('(') ? this.call(text) : { kind: 'column', name: text };
  }

  private call(name: string): SyntaxNode {
    this.demandSymbol('(');
    return { kind: 'call', name: name.toLowerCase(), args: this.list(')') };
  }

  private takesOperator(operators: ReadonlyMap<string, ComparisonOperator>) {
    const { kind, text } = this.peek();
    const operator = kind === 'symbol' ? operators.get(text) : undefined;
    if (operator === undefined) return null;
    this.take();
    return operator;
  }

  private takesOneOf<Operator extends string>(operators: readonly Operator[]): Operator | null {
    return operators.find((operator) => this.takesSymbol(operator)) ?? null;
  }
}

function binary(operator: BinaryOperator, left: SyntaxNode, right: SyntaxNode): SyntaxNode {
  return { kind: 'binary', operator, left, right };
}

function numberNode(text: string): SyntaxNode {
  const digits = text.replaceAll('_', '');
  if (/e/i.test(digits)) return { kind: 'double', digits };
  return { kind: digits.includes('.') ? 'decimal' : 'whole', digits };
}
