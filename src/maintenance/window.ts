/**
 * Whether heavy services may begin at this moment. A window that ends before it begins goes over midnight; the end is
 * not part of it. `window` is `HH:MM-HH:MM`, `timeZone` a name that Intl knows.
 */
export function inWindow(window: string | undefined, timeZone: string, now: Date): boolean {
  if (window === undefined) return true;
  const parts = new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  const time = parts.format(now);
  const [from = '', to = ''] = window.split('-');
  return from < to ? from <= time && time < to : from <= time || time < to;
}
