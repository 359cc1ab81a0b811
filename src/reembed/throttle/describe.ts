import type { Signal } from '../../catalog/migration.js';

/** Why a backfill is not at its full speed: a sentence for each signal that is pressed or unknown. */
export function throttleReasons(signals: readonly Signal[]): string[] {
  return signals.filter(({ state }) => state !== 'fine').map(describeSignal);
}

/** `replica_lag 4.2 s (at most 1 s): replica "a"` */
export function describeSignal({ name, value, bound, unit, note }: Signal): string {
  const reading = value === null ? 'unknown' : `${amount(value, unit)} (at most ${amount(bound, unit)})`;
  return `${name} ${reading}${note === undefined ? '' : `: ${note}`}`;
}

function amount(value: number, unit: string): string {
  if (unit === 'bytes' || unit === 'bytes/s') return `${scaled(value)}${unit === 'bytes' ? '' : '/s'}`;
  if (unit === 'share') return `${Math.round(value * 1000) / 10} %`;
  return `${Math.round(value * 10) / 10} ${unit}`;
}

const PREFIXES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

function scaled(bytes: number): string {
  const power = Math.min(PREFIXES.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return `${Math.round((bytes / 1024 ** power) * 10) / 10} ${PREFIXES[power]}`;
}
