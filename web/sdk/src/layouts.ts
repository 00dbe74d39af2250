// The layouts of control frames, as codec/PROTOCOL.md has them. A test compares the two.

/** What a field is on the wire. */
export type FieldType =
  | { kind: "u8" | "u16" | "u48" | "u64" | "varint" | "varint32"; nonZero?: boolean; atLeast?: string }
  | { kind: "bits"; mask: number }
  | { kind: "string" | "bytes"; limit: number }
  | { kind: "list"; limit: number; of: readonly Field[]; nonEmpty?: boolean }
  | { kind: "strings"; limit: number; each: number };

export interface Field {
  name: string;
  type: FieldType;
}

export interface Layout {
  type: number;
  name: string;
  fields: readonly Field[];
}

const rows = `
0x01 hello account:string(128) token:bytes(4096) instance:u64 caps:varint
0x02 welcome session:u64 node:string(128) caps:varint max_payload:varint ping_millis:varint32
0x03 error code:u16 text:string(512)
0x04 go_away code:u16 within_millis:varint32 addrs:list(64 string(512))
0x05 ping echo:u64
0x06 pong echo:u64
0x10 register req:varint32 policy:u8 idle_millis:varint expire_millis:varint queue_bytes:varint queue_millis:varint max_subs:varint
0x11 registered req:varint32 room:u64!
0x12 remove req:varint32 room:u64
0x13 grant req:varint32 room:u64 account:string(128)
0x14 revoke req:varint32 room:u64 account:string(128)
0x15 publish req:varint32 room:u64 flags:bits(0x01)
0x16 published req:varint32 room:u64! pub:u16! policy:u8 window:varint32 streams:list(256 dtype:u8 next:u48!)
0x17 unpublish req:varint32 room:u64
0x18 subscribe req:varint32 room:u64 flags:bits(0x03) have:list(4096 pub:u16! dtype:u8 last:u48)
0x19 subscribed req:varint32 room:u64! policy:u8 window:varint32
0x1a unsubscribe req:varint32 room:u64
0x1b stat req:varint32 room:u64
0x1c info req:varint32 room:u64! policy:u8 owner:string(128) subscribers:varint publishers:varint frames:varint bytes:varint age_millis:varint idle_millis:varint
0x1d ok req:varint32
0x1e refused req:varint32 code:u16 text:string(512)
0x20 joined room:u64! pub:u16! account:string(128)
0x21 left room:u64! pub:u16! code:u16
0x22 gap room:u64! pub:u16! dtype:u8 from:u48! to:u48!>=from reason:u8
0x23 ack room:u64! pub:u16! dtype:u8 seq:u48
0x24 closed room:u64! code:u16
0x25 push_refused room:u64! pub:u16! code:u16 frames:varint
0x26 count room:u64! subscribers:varint publishers:varint
0x30 token req:varint32 token:bytes(4096)
0x31 expiring code:u16 within_millis:varint32
0x32 inbox req:varint32 room:u64 policy:u8 accept:list(1024 string(128)) block:list(1024 string(128))
`;

function parseFields(text: string): Field[] {
  // A name, a colon, a type that may have one level of parentheses within parentheses.
  return [...text.matchAll(/(\w+):((?:\w+)(?:\((?:[^()]|\([^()]*\))*\))?!?(?:>=\w+)?)/g)].map((m) => ({ name: m[1]!, type: parseType(m[2]!) }));
}

function parseType(text: string): FieldType {
  const m = /^(\w+)(?:\((.*)\))?(!?)(?:>=(\w+))?$/.exec(text)!;
  const [, kind, inner, nonZero, atLeast] = m;
  switch (kind) {
    case "bits":
      return { kind, mask: Number(inner) };
    case "string":
    case "bytes":
      return { kind, limit: Number(inner) };
    case "list": {
      const [, limit, entry] = /^(\d+) (.*)$/.exec(inner!)!;
      const each = /^string\((\d+)\)$/.exec(entry!);
      if (each) return { kind: "strings", limit: Number(limit), each: Number(each[1]) };
      return { kind: "list", limit: Number(limit), of: parseFields(entry!) };
    }
    default:
      return { kind: kind as "u8", ...(nonZero ? { nonZero: true } : {}), ...(atLeast ? { atLeast } : {}) };
  }
}

/** All layouts, as rows of the protocol's table, for the test. */
export const layoutRows: readonly string[] = rows.trim().split("\n");

/** All layouts, by type. */
export const layouts: ReadonlyMap<number, Layout> = new Map(
  layoutRows.map((row) => {
    const [, type, name, fields] = /^(\S+) (\S+) (.*)$/.exec(row)!;
    return [Number(type), { type: Number(type), name: name!, fields: parseFields(fields!) }];
  }),
);
