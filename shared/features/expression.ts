/**
 * Compiles an SQL expression into a function of raw rows, equal to what DuckDB gives for it within `TRY(...)`. The
 * subset is documented in `infra/docs/expressions.md`.
 */

import {
  bindCall,
  caseOf,
  joined,
  partOfMoment,
  castTo,
  compareValues,
  fitting,
  isNumeric,
  isWhole,
  orNull,
  outside,
  OutsideSubset,
  strict,
  unified,
  type Bound,
  type Value,
  type ValueType,
} from './expression-values.js';
import {
  columnOf,
  doubleOfSqlLiteral,
  doubleOfText,
  readerOfTyped,
  textOfJsonValue,
  typeOfColumn,
  wholeNumberOf,
  wrongValue,
  type ColumnType,
  type ColumnTypes,
  type RawRow,
  type WholeNumber,
} from './encoding-rules.js';

type CompiledExpression =
  | {
      readonly isComputed: true;
      readonly type: ValueType;
      /**
       * Null where DuckDB fails on the row.
       * @throws QianmoError of kind `data` when the row lacks a column, or holds a value that is not of its type.
       */
      readonly evaluate: (row: RawRow) => Value;
    }
  | { readonly isComputed: false; readonly reason: string };

export function compileExpression(sql: string, columns: ColumnTypes): CompiledExpression {
  try {
    const { type, evaluate } = new Parser(tokensOf(sql), columns).wholeExpression();
    if (type === 'DECIMAL') return outside('a number with a point alone: write 0.5::DOUBLE');
    if (type === 'TIMESTAMP') return outside('a date or a timestamp as the result');
    return { isComputed: true, type, evaluate: (row) => orNull(() => evaluate(row)) };
  } catch (cause) {
    if (cause instanceof OutsideSubset) return { isComputed: false, reason: cause.message };
    throw cause;
  }
}

interface Token {
  readonly kind: 'text' | 'name' | 'number' | 'word' | 'symbol' | 'end';
  /** Without quotes; a word in capitals. */
  readonly text: string;
  readonly raw: string;
}

const END: Token = { kind: 'end', text: 'the end', raw: '' };
const SPACES = /(?:\s|--[^\n]*(?:\n|$))*/y;
const TOKEN =
  /'(?<text>(?:[^']|'')*)'|"(?<name>(?:[^"]|"")+)"|(?<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])|(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)(?!')|(?<symbol><>|!=|<=|>=|==|::|\|\||\/\/|[-+*/%<>=(),])/y;

function tokensOf(sql: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; ;) {
    SPACES.lastIndex = at;
    at += SPACES.exec(sql)?.[0].length ?? 0;
    if (at >= sql.length) return tokens;
    TOKEN.lastIndex = at;
    const [raw = '', text, name, number, word, symbol] = TOKEN.exec(sql) ?? [];
    if (raw === '') return outside(`"${sql.slice(at, at + 12)}" is not of the subset`);
    at += raw.length;
    if (text !== undefined) tokens.push({ kind: 'text', text: text.replaceAll("''", "'"), raw });
    else if (name !== undefined)
      tokens.push({ kind: 'name', text: name.replaceAll('""', '"'), raw });
    else if (number !== undefined) tokens.push({ kind: 'number', text: number, raw });
    else if (word !== undefined) tokens.push({ kind: 'word', text: word.toUpperCase(), raw });
    else tokens.push({ kind: 'symbol', text: symbol ?? '', raw });
  }
}

/** Words that name neither a column nor a function without quotes. */
const RESERVED = new Set(
  (
    'ALL AND ANY ARRAY AS BETWEEN BOTH COLLATE CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DISTINCT ' +
    'ELSE END EXISTS FROM GLOB ILIKE IN INTERVAL IS ISNULL LAMBDA LEADING LIKE LOCALTIME LOCALTIMESTAMP NOT NOTNULL ' +
    'OR SELECT SESSION_USER SIMILAR SOME THEN TRAILING UNIQUE USER USING WHEN'
  ).split(' '),
);

const COMPARISONS: ReadonlyMap<string, (order: number) => boolean> = new Map([
  ['=', (order) => order === 0],
  ['==', (order) => order === 0],
  ['<>', (order) => order !== 0],
  ['!=', (order) => order !== 0],
  ['<', (order) => order < 0],
  ['<=', (order) => order <= 0],
  ['>', (order) => order > 0],
  ['>=', (order) => order >= 0],
]);

/** How strongly the operators bind, from the loosest. */
const [OR, AND, NOT, IS, COMPARISON, PREDICATE, JOIN, SUM, PRODUCT, SIGN, CAST] = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
] as const;

const STRENGTHS: ReadonlyMap<string, number> = new Map([
  ...['OR'].map((each) => [each, OR] as const),
  ...['AND'].map((each) => [each, AND] as const),
  ...['IS'].map((each) => [each, IS] as const),
  ...[...COMPARISONS.keys()].map((each) => [each, COMPARISON] as const),
  ...['NOT', 'BETWEEN', 'IN', 'LIKE'].map((each) => [each, PREDICATE] as const),
  ['||', JOIN],
  ...['+', '-'].map((each) => [each, SUM] as const),
  ...['*', '/', '//', '%'].map((each) => [each, PRODUCT] as const),
  ['::', CAST],
]);

/** Binds each part as soon as it is parsed. */
class Parser {
  private at = 0;

  constructor(
    private readonly tokens: readonly Token[],
    private readonly columns: ColumnTypes,
  ) {}

  wholeExpression(): Bound {
    const bound = this.expression();
    return this.peek().kind === 'end' ? bound : this.fail('the end of the expression');
  }

  /** Up to the first operator that binds no more strongly than `strength`. */
  private expression(strength = 0): Bound {
    let left = this.prefix();
    let last = Infinity;
    for (;;) {
      const { kind, text } = this.peek();
      const found = kind === 'word' || kind === 'symbol' ? (STRENGTHS.get(text) ?? 0) : 0;
      if (found <= strength) return left;
      if (found === COMPARISON && last === COMPARISON)
        return outside('a comparison of a comparison needs parentheses');
      last = found;
      this.at += 1;
      left = this.infix(text, found, left);
    }
  }

  private infix(operator: string, strength: number, left: Bound): Bound {
    switch (operator) {
      case 'OR':
      case 'AND':
        return conjunction(operator === 'OR', left, this.expression(strength));
      case 'IS': {
        const isNegated = this.takes('NOT');
        this.require('NULL');
        return {
          type: 'BOOLEAN',
          evaluate: (row) => (left.evaluate(row) === null) !== isNegated,
        };
      }
      case 'NOT': {
        const { text } = this.take();
        if (!['BETWEEN', 'IN', 'LIKE'].includes(text)) return this.fail('BETWEEN, IN or LIKE');
        return negation(this.infix(text, strength, left));
      }
      case 'BETWEEN': {
        const low = this.expression(strength);
        this.require('AND');
        const high = this.expression(strength);
        return conjunction(false, comparison('>=', left, low), comparison('<=', left, high));
      }
      case 'IN':
        this.require('(');
        return this.list()
          .map((item) => comparison('=', left, item))
          .reduce((one, other) => conjunction(true, one, other));
      case 'LIKE':
        return isLike(left, this.take());
      case '||':
        return joined([left, this.expression(strength)]);
      case '::':
        return castToNamed(this.take().raw, left, false);
      default:
        return strength === COMPARISON
          ? comparison(operator, left, this.expression(strength))
          : arithmetic(operator, left, this.expression(strength));
    }
  }

  private prefix(): Bound {
    const { kind, text, raw } = this.take();
    switch (kind) {
      case 'number':
        return writtenNumber(text);
      case 'text':
        return { type: 'VARCHAR', evaluate: () => text, written: text };
      case 'name':
        return this.column(text);
      case 'word':
        return this.word(text, raw);
      case 'symbol':
        if (text === '-') return negative(this.expression(SIGN));
        if (text !== '(') break;
        return this.untilClosed();
      case 'end':
    }
    return outside(`"${text}" is not expected here`);
  }

  private word(text: string, raw: string): Bound {
    switch (text) {
      case 'NULL':
        return { type: 'NULL', evaluate: () => null };
      case 'TRUE':
      case 'FALSE':
        return { type: 'BOOLEAN', evaluate: () => text === 'TRUE' };
      case 'NOT':
        return negation(this.expression(NOT));
      case 'CASE':
        return this.branches();
      case 'CAST':
      case 'TRY_CAST': {
        this.require('(');
        const operand = this.expression();
        this.require('AS');
        const bound = castToNamed(this.take().raw, operand, text === 'TRY_CAST');
        this.require(')');
        return bound;
      }
      case 'EXTRACT': {
        this.require('(');
        const part = this.take().raw;
        this.require('FROM');
        return partOfMoment(part, this.untilClosed());
      }
    }
    if (RESERVED.has(text)) return outside(`${text} is not of the subset here`);
    return this.takes('(') ? bindCall(raw.toLowerCase(), this.list()) : this.column(raw);
  }

  private column(name: string): Bound {
    return boundColumn(name, typeOfColumn(this.columns, name));
  }

  private branches(): Bound {
    const operand = this.peek().text === 'WHEN' ? null : this.expression();
    const branches: { condition: Bound; result: Bound }[] = [];
    while (this.takes('WHEN')) {
      const value = this.expression();
      this.require('THEN');
      const condition = operand === null ? value : comparison('=', operand, value);
      branches.push({ condition, result: this.expression() });
    }
    if (branches.length === 0) return this.fail('WHEN');
    const otherwise: Bound = this.takes('ELSE')
      ? this.expression()
      : { type: 'NULL', evaluate: () => null };
    this.require('END');
    return caseOf(branches, otherwise);
  }

  private untilClosed(): Bound {
    const bound = this.expression();
    this.require(')');
    return bound;
  }

  /** After the opening parenthesis. */
  private list(): Bound[] {
    if (this.takes(')')) return [];
    const items = [this.expression()];
    while (this.takes(',')) items.push(this.expression());
    this.require(')');
    return items;
  }

  private peek(): Token {
    return this.tokens[this.at] ?? END;
  }

  private take(): Token {
    const token = this.peek();
    this.at += 1;
    return token;
  }

  /** Takes a keyword or a symbol if it is next. */
  private takes(expected: string): boolean {
    const { kind, text } = this.peek();
    const isNext = (kind === 'word' || kind === 'symbol') && text === expected;
    if (isNext) this.at += 1;
    return isNext;
  }

  private require(expected: string): void {
    if (!this.takes(expected)) this.fail(expected);
  }

  private fail(expected: string): never {
    return outside(`"${this.peek().text}" is found where ${expected} is expected`);
  }
}

/** AND and OR of three-valued logic. Both operands are evaluated, as DuckDB does. */
function conjunction(decisive: boolean, left: Bound, right: Bound): Bound {
  const operands = [condition(left), condition(right)];
  return {
    type: 'BOOLEAN',
    evaluate: (row) => {
      const values = operands.map(({ evaluate }) => evaluate(row));
      if (values.includes(decisive)) return decisive;
      return values.includes(null) ? null : !decisive;
    },
  };
}

function condition(bound: Bound): Bound {
  if (bound.type === 'BOOLEAN' || bound.type === 'NULL') return bound;
  return outside(`a value of the type ${bound.type} as a condition: write a comparison`);
}

function negation(operand: Bound): Bound {
  return strict('BOOLEAN', [condition(operand)], (value: boolean) => !value);
}

function comparison(operator: string, left: Bound, right: Bound): Bound {
  const pair = [left, right].map(({ type }) => type);
  const isOfDecimal = pair.includes('DECIMAL') && [left, right].some(isWhole);
  const { operands } = unified(
    isOfDecimal ? [left, right].map((bound) => castTo('DOUBLE', bound)) : [left, right],
  );
  const isSo = COMPARISONS.get(operator) ?? outside(`the comparison ${operator}`);
  return strict('BOOLEAN', operands, (a: string, b: string) => isSo(compareValues(a, b)));
}

/** `%` stands for any text, `_` for one character; there is no escape. */
function isLike(operand: Bound, pattern: Token): Bound {
  if (pattern.kind !== 'text') return outside('LIKE with a pattern that is not written');
  if (operand.type !== 'VARCHAR') return outside('LIKE of a value that is no text');
  const source = pattern.text.replace(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`);
  const like = new RegExp(`^${source.replaceAll('%', '[^]*').replaceAll('_', '[^]')}$`, 'u');
  return strict('BOOLEAN', [operand], (text: string) => like.test(text));
}

function arithmetic(operator: string, left: Bound, right: Bound): Bound {
  const pair = operator === '/' ? [left, right].map(doubleOperand) : [left, right];
  const { type, operands } = unified(pair);
  if (!isNumeric({ ...left, type })) return outside(`${operator} of values of the type ${type}`);
  if (type === 'DOUBLE')
    return strict(
      type,
      operands,
      DOUBLE_ARITHMETIC[operator] ?? outside(`${operator} of a DOUBLE: write floor(a / b)`),
    );
  const apply = WHOLE_ARITHMETIC[operator] ?? outside(`the operator ${operator}`);
  return strict(type, operands, (a: WholeNumber, b: WholeNumber) => {
    // The remainder by -1 fails as its quotient does: the least whole number has no opposite.
    if (operator === '%' && b === -1) fitting(type, wholeNumberOf(-BigInt(a)));
    const result = apply(BigInt(a), BigInt(b));
    return result === null ? null : fitting(type, wholeNumberOf(result));
  });
}

function negative(operand: Bound): Bound {
  const { type, evaluate } = operand;
  if (type === 'DECIMAL') return { type, evaluate: (row) => -Number(evaluate(row)) };
  if (type === 'DOUBLE') return strict(type, [operand], (value: number) => -value);
  if (!isWhole(operand)) return outside(`- of a value of the type ${type}`);
  return strict(type, [operand], (value: WholeNumber) =>
    fitting(type, wholeNumberOf(-BigInt(value))),
  );
}

const WHOLE_ARITHMETIC: Readonly<Record<string, (a: bigint, b: bigint) => bigint | null>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => (b === 0n ? null : a / b),
  '%': (a, b) => (b === 0n ? null : a % b),
};

const DOUBLE_ARITHMETIC: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
};

const TYPE_BY_NAME: Readonly<Record<string, ValueType>> = {
  INTEGER: 'INTEGER',
  INT: 'INTEGER',
  BIGINT: 'BIGINT',
  DOUBLE: 'DOUBLE',
  VARCHAR: 'VARCHAR',
  TEXT: 'VARCHAR',
};

/** `CAST(bound AS name)`, or `TRY_CAST`, where a failure is null. */
function castToNamed(name: string, bound: Bound, isTry: boolean): Bound {
  const type =
    TYPE_BY_NAME[name.toUpperCase()] ?? outside(`a cast to ${name} is not of the subset`);
  const { evaluate } = castTo(type, bound);
  if (!isTry) return { type, evaluate };
  return {
    type,
    evaluate: (row) => {
      // The operand fails outside of TRY_CAST.
      const value = bound.evaluate(row);
      return orNull(() => castTo(type, { ...bound, evaluate: () => value }).evaluate(row));
    },
  };
}

/** A number as `/` takes it. */
function doubleOperand(bound: Bound): Bound {
  return isNumeric(bound) || bound.type === 'DECIMAL' ? castTo('DOUBLE', bound) : bound;
}

function writtenNumber(digits: string): Bound {
  const written = { written: digits };
  if (/e/i.test(digits)) return { type: 'DOUBLE', evaluate: () => Number(digits), ...written };
  if (digits.includes('.')) {
    const value = doubleOfSqlLiteral(digits);
    return { type: 'DECIMAL', evaluate: () => value, ...written };
  }
  const value = wholeNumberOf(BigInt(digits));
  if (value >= 2n ** 63n) return outside(`the number ${digits} is beyond BIGINT`);
  return { type: value < 2 ** 31 ? 'INTEGER' : 'BIGINT', evaluate: () => value, ...written };
}

/** A column in the type that `prepare` gives it. @throws OutsideSubset where that is not of the subset. */
function boundColumn(name: string, column: ColumnType): Bound {
  const [type, read] = readerOfColumn(name, column);
  return {
    type,
    evaluate: (row) => {
      const value = columnOf(row, name);
      return value === null ? null : read(value, name);
    },
  };
}

type ReadValue = (value: unknown, name: string) => Value;

function readerOfColumn(name: string, column: ColumnType): readonly [ValueType, ReadValue] {
  if (column.log === 'text') {
    const { inferred } = column;
    if (inferred !== undefined) return [inferred, READ_TEXT[inferred]];
    return outside(`the type that the logs give the column "${name}" is not known`);
  }
  const { type } = column;
  if (type === 'DATE' || type === 'TIMESTAMP')
    return ['TIMESTAMP', (value) => momentIn(value, name) ?? failWrongMoment(name, value)];
  const read = readerOfTyped(type);
  switch (type) {
    case 'INTEGER':
    case 'BIGINT':
    case 'BOOLEAN':
    case 'DOUBLE':
    case 'VARCHAR':
      if (read !== null) return [type, read];
  }
  return outside(`the column "${name}" has the type ${type}, which is not of the subset`);
}

const READ_TEXT = {
  BIGINT: readWhole,
  DOUBLE: (value: unknown) => doubleOfText(textOf(value)),
  BOOLEAN: (value: unknown) => {
    const text = textOf(value).toLowerCase();
    if (/^(?:true|t|yes|y|1)$/.test(text)) return true;
    return /^(?:false|f|no|n|0)$/.test(text) ? false : null;
  },
  TIMESTAMP: momentIn,
  VARCHAR: textOf,
} satisfies Record<string, ReadValue>;

/** A value that is not null, with U+FFFD for each lone surrogate, as it is written in UTF-8. */
function textOf(value: unknown): string {
  return (textOfJsonValue(value) ?? '').replace(/\p{Surrogate}/gu, '\ufffd');
}

/** Null for a text that is no finite number, as `prepare` has it among whole numbers. */
function readWhole(value: unknown, name: string): WholeNumber | null {
  // A parser of JSON has lost the last digits of a number beyond 2^53.
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value))
    throw wrongValue(name, 'a number within 2^53, or a larger one as a text', value);
  const text = textOf(value);
  const whole = /^-?(?:0|[1-9]\d{0,18})$/.test(text) ? BigInt(text) : null;
  if (whole !== null && BigInt.asIntN(64, whole) === whole) return wholeNumberOf(whole);
  const number = doubleOfText(text);
  if (number === null || !Number.isFinite(number)) return null;
  throw wrongValue(name, 'a whole number of 64 bits, as the logs do', value);
}

const MOMENT =
  /^(\d{4}-\d\d-\d\d)(?:[ T]((?:[01]\d|2[0-3]):[0-5]\d)(?::([0-5]\d(?:\.\d{1,9})?))?(Z|[+-](?:0\d|1[0-5])(?::[0-5]\d)?)?)?$/;

/**
 * A moment in UTC. Null for a text that cannot be one.
 * @throws QianmoError of kind `data` for one in a form that is not read here
 */
function momentIn(value: unknown, name: string): number | null {
  const text = value instanceof Date ? value.toISOString() : textOf(value);
  const [, day, minutes = '00:00', seconds = '00', zone = 'Z'] = MOMENT.exec(text) ?? [];
  if (day !== undefined) {
    const dayMs = Date.parse(`${day}T00:00Z`);
    if (Number.isNaN(dayMs) || new Date(dayMs).toISOString().slice(0, 10) !== day) return null;
    const offset = zone.length === 3 ? `${zone}:00` : zone;
    const ms = Date.parse(`${day}T${minutes}${offset}`);
    const micros = ms * 1000 + Math.round(Number(seconds.slice(0, 9)) * 1_000_000);
    if (Number.isSafeInteger(micros) || !seconds.includes('.')) return micros;
  } else if (!/^[\s+\-\d]|^(?:inf|epoch)/i.test(text)) return null;
  return failWrongMoment(name, value);
}

function failWrongMoment(name: string, value: unknown): never {
  throw wrongValue(
    name,
    'a timestamp such as 2026-11-01 20:15:00.5, with a fraction only from 1685 to 2254',
    value,
  );
}
