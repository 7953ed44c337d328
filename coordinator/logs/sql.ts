/** Text that is safe inside DuckDB SQL. */

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Of a text that was read as `hex(...)`, and so whole: texts of the client lose a byte order mark at their start. */
export function textOfHex(cell: unknown): string {
  return Buffer.from(String(cell), 'hex').toString();
}

/**
 * The seeded hash in SQL: uniform in [0, 2^64), from the last eight bytes of MD5, read
 * little-endian. Stable over DuckDB versions, unlike its own `hash()`.
 */
export function seededHash(seed: number, purpose: string, valueSql: string): string {
  const prefix = `${seed}\u001f${purpose}\u001f`;
  return `md5_number_lower(${literal(prefix)} || ${valueSql})`;
}
