/**
 * Client of timedge, an edge server for live streams. Start at {@link dial}: a {@link Client} is one connection to one of several servers; a
 * {@link Publisher} pushes into a room, a {@link Subscription} receives from one. They survive reconnections: nothing is lost in silence.
 */
export { Client, dial } from "./client.js";
export { codes, type CodeName, type GapReason, type Policy } from "./codes.js";
export { ClientClosedError, ClosedError, CodeError, ConnectionError, RefusedError, StreamError, UnansweredError } from "./errors.js";
export { everyone, type Info, type InboxOptions, type Options, type PublishOptions, type RoomOptions, type State, type SubscribeOptions } from "./options.js";
export { Publisher, type Kind } from "./publisher.js";
export { formatRoom, parseRoom, type RoomID } from "./room.js";
export { Subscription, type Event, type Gap, type Message } from "./subscription.js";
export { subProtocol, webSocket, type Dialer, type Receiver, type Transport } from "./transport.js";
