/**
 * End-to-end encryption: what a page pushes is sealed there and opened by those who have the key, which the link carries behind its # and no server
 * sees. Start at {@link encrypted}: it makes of a client one that seals and opens. docs/e2ee.md has the construction and its limits.
 */
export { encrypted, type EncryptedOptions } from "./encrypted.js";
export { formatLinkKey, Keys, looksSealed, newLinkKey, Opener, parseLinkKey, SealError, Sealer, type LinkKey, type SealFault } from "./keys.js";
export { formatHash, parseHash, type RoomLink } from "./link.js";
export { Member, nextKey, RekeyError } from "./member.js";
export { overhead } from "./sframe.js";
