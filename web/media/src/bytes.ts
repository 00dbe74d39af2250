/** Puts bytes one behind the other. */
export function join(...parts: ReadonlyArray<ArrayLike<number>>): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** A decoder's description as bytes; undefined: there is none. */
export function description(c: { description?: AllowSharedBufferSource }): Uint8Array | undefined {
  const d = c.description;
  if (!d) return undefined;
  return ArrayBuffer.isView(d) ? new Uint8Array(d.buffer, d.byteOffset, d.byteLength) : new Uint8Array(d);
}
