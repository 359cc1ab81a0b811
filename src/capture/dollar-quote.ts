/** A body of statements as a dollar-quoted string that no name in it can end. */
export function dollarQuote(body: string): string {
  let tag = 'freshvec';
  while (body.includes(`$${tag}$`)) tag += '_';
  return `$${tag}$\n${body}\n$${tag}$`;
}
