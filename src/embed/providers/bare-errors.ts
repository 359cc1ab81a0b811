/**
 * A fetch whose refusals have OpenAI's form. TEI, and vLLM before 0.10, put what OpenAI has under `error` at the top, where
 * OpenAI's client overlooks it, and with it the limit that a text has passed.
 */
export async function fetchWithErrors(...request: Parameters<typeof fetch>): Promise<Response> {
  const response = await fetch(...request);
  if (response.status < 400 || !response.headers.get('content-type')?.includes('json')) return response;
  const { status, statusText, headers } = response;
  const text = await response.text();
  const body = withError(text);
  if (body === text) return new Response(text, { status, statusText, headers });
  const described = new Headers(headers);
  described.delete('content-length');
  return new Response(body, { status, statusText, headers: described });
}

function withError(text: string): string {
  try {
    const body: unknown = JSON.parse(text);
    const bare = typeof body === 'object' && body !== null && !('error' in body) && 'message' in body;
    return bare ? JSON.stringify({ error: body }) : text;
  } catch {
    return text;
  }
}
