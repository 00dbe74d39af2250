/** What is used of Mediabunny, and loaded when it is needed: the rest of it is left out of what is built. */
export { EncodedPacketSink, Input, MATROSKA, MP4, MPEG_TS, OGG, QTFF, ReadableStreamSource, WEBM } from "mediabunny";
