/** The codes of errors, refusals and reasons (codec/PROTOCOL.md, "Codes"), by name. */
export const codes = {
  bad_magic: 100, version: 101, malformed: 102, frame_too_long: 103, unknown_type: 104, hello_expected: 105, unknown_critical: 106,
  bad_varint: 107, unexpected: 108, hello_timeout: 109, flow_violation: 110, silent: 111, list_too_long: 112, auth_failed: 120,
  token_expired: 121, token_revoked: 122,
  room_unknown: 200, not_owner: 201, not_granted: 202, room_malformed: 203, room_full: 204, already_subscribed: 205, not_subscribed: 206,
  bad_option: 207, sequence: 208, payload_size: 209, revoked: 210, bad_account: 211, not_publishing: 212, superseded: 213, bad_pieces: 214,
  publishers_full: 215, not_allowed: 216, bad_token: 217, session_full: 218, not_accepted: 219,
  overloaded: 300, going_away: 301, rate_limited: 302, too_many_connections: 303, too_many_rooms: 304, recipient_away: 305, internal: 306,
  too_many_publishers: 307, too_many_streams: 308, too_many_grants: 309,
  removed: 400, idle: 401, expired: 402, node_lost: 403, too_slow: 404, left: 405, gone: 406, replaced: 407, moved: 408,
} as const;

/** A code's name; one that this version does not know is "code_" and its number. */
export type CodeName = keyof typeof codes | `code_${number}`;

const names = new Map<number, CodeName>(Object.entries(codes).map(([name, code]) => [code, name as CodeName]));

/** Returns the name of a code. */
export function codeName(code: number): CodeName {
  return names.get(code) ?? `code_${code}`;
}

/** Reports whether the same may succeed when it is tried again, later or with another server. */
export function mayRetry(code: number): boolean {
  return (code >= 300 && code < 400) || code === codes.node_lost || code === codes.moved;
}

/** What becomes of a subscriber that falls behind, by number (codec/PROTOCOL.md, "Policies"). */
export const policies = ["live", "latest", "disconnect", "lossless"] as const;
export type Policy = (typeof policies)[number];

/**
 * Why frames do not come, by number (codec/PROTOCOL.md, "Gaps"); one that this version does not know is "gap_" and its number. `refused` and
 * `withheld` no server tells: they are those of a client that opens what is encrypted end to end.
 */
export type GapReason = "joined" | "slow" | "expired" | "lost" | "publisher" | "newer" | "refused" | "withheld" | `gap_${number}`;
const reasons: readonly GapReason[] = ["joined", "slow", "expired", "lost", "publisher", "newer"];

/** Returns the name of a gap's reason. */
export function gapReason(number: number): GapReason {
  return reasons[number - 1] ?? `gap_${number}`;
}

/** The peer broke the protocol: the connection cannot go on. */
export class ProtocolError extends Error {
  constructor(readonly code: number, text: string) {
    super(`${codeName(code)}: ${text}`);
    this.name = "ProtocolError";
  }
}
