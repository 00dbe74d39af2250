// The admin API as the console uses it: see admin/openapi.json. Any node answers for all.

export interface Overview {
  node: string; version: string; uptime_ms: number; clock_unix_ms: number; state: string; reasons: string[];
  sessions: number; rooms: number; memory_bytes: number; memory_bound: number; queued_bytes: number;
  frames_in: number; bytes_in: number; deliveries: number; bytes_out: number; dropped_frames: number; cut_off: number; takeovers: number; panics: number;
}

export interface Room {
  id: string; owner: string; policy: string; role: string; subscribers: number; publishers: number; frames: number; bytes: number; age_ms: number; idle_ms: number;
}

export interface FlowingRoom extends Room { chain: string[] }

export interface Event {
  seq: number; ago_ms: number; text: string; warning?: boolean; node?: string; room?: string; epoch?: number; rooms?: number; members?: number;
}

export interface Figures extends Overview { relayed: number; mirrored: number; busiest: FlowingRoom[]; events: Event[] }

export interface Node {
  name: string; addr?: string; self: boolean; state: string; rooms_relayed?: number; rooms_mirrored?: number;
}

export interface ClusterNode extends Node { figures?: Figures; error?: string }

export interface Subscriber {
  session: number; account: string; addr: string; lag_bytes: number; lag_ms: number; not_taking: boolean; of_other_node: boolean;
}

export interface RoomDetail extends Room {
  relay?: string; epoch?: number; chain?: string[];
  nodes: Array<{ node: string; role: string; subscribers: number; publishers: number }>;
  streams: Array<{ publisher: number; account: string; dtype: number; next: number; log_bytes: number }>;
  subscribers_here: Subscriber[];
  publishers_by_relay: Array<{ num: number; account: string; node: string }>;
}

export interface Session {
  id: number; account: string; addr: string; transport: string; age_ms: number; subscriptions: number; publications: number; lag_bytes: number; lag_ms: number;
}

export interface SessionDetail extends Session { subscribes_to: string[] }

export interface Page<T> { total: number; page: number; items: T[] }

/** A request that was refused; `status` is HTTP's, 0 if nobody answered. */
export class Refused extends Error {
  constructor(readonly status: number, text: string) {
    super(text);
  }
}

const kept = "timedge.console.token";

/** The operators' token, for as long as the tab is open. */
export const token = {
  get: (): string => sessionStorage.getItem(kept) ?? "",
  set: (text: string): void => (text ? sessionStorage.setItem(kept, text) : sessionStorage.removeItem(kept)),
};

/** The path of a node's own API, by way of the node that the page is from. */
export const of = (node: string, path: string): string => `nodes/${encodeURIComponent(node)}/${path}`;

/** Asks for `/api/v1/path`. It throws Refused. */
export async function ask(method: string, path: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = {};
  if (token.get()) headers["Authorization"] = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const r = await fetch(`/api/v1/${path}`, { method, headers, cache: "no-store", ...(body === undefined ? {} : { body: JSON.stringify(body) }) }).catch((e: unknown) => {
    throw new Refused(0, String(e));
  });
  if (!r.ok) throw new Refused(r.status, ((await r.json().catch(() => ({}))) as { error?: string }).error ?? r.statusText);
  return r;
}

export async function get<T>(path: string): Promise<T> {
  return (await (await ask("GET", path)).json()) as T;
}
